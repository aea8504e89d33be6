//! The follower between a client and a backend, in two ways.
//!
//! *Scripted*: both sides say anything, in any order; segments are the client's and the backend's in turn. *Obedient*: the
//! backend answers what it hears, with yes or no, and the client's bytes are cut anywhere.
//!
//! Holds for every input: no panic; outside a message the backend hears nothing but whole lines of known commands, to
//! recipients that are allowed; a message is ended where the client ended it and nowhere else, without a bare CR or LF
//! and without NUL in it; behind one that was given up comes nothing; the client hears whole lines, and a yes to a message
//! only if the backend said it. With an obedient backend any cut gives the same session.

use super::wire::assert_words;
use super::{Cuts, Dice, Input};
use bytes::BytesMut;
use gatepost::proto::smtp::{
    BareNewline, Progress, Recipients, Stage, Transaction, TransactionSettings, Turn, shown_extensions,
};
use gatepost::proto::{Capabilities, Goodbye, Refusal};

/// What the follower may add to either side in one go, whatever comes: 32 KiB of answers or commands waiting, an
/// answer or command more, and what was read.
const ONE_GO: usize = 40 * 1024;

/// The door.
pub fn door(data: &[u8]) {
    let Some(input) = Input::read(data) else { return };
    if input.settings[0] & 1 == 1 {
        scripted(&input);
    } else {
        let whole = obedient(&input, Cuts::Whole);
        for cuts in input.cuts() {
            assert_eq!(obedient(&input, cuts), whole, "cut like {cuts:?}");
        }
    }
}

fn settings([_, rules, max, _]: [u8; 4]) -> TransactionSettings {
    let words: &[&str] = match rules & 3 {
        0 => &[],
        1 => &["PIPELINING", "8BITMIME", "SIZE 2000"],
        _ => &["PIPELINING", "8BITMIME", "SIZE 2000", "SMTPUTF8", "DSN", "DELIVERBY", "MT-PRIORITY"],
    };
    let lines: Vec<String> = words.iter().map(ToString::to_string).collect();
    let backend = Capabilities { lines, ..Capabilities::default() };
    let recipients = match rules & 20 {
        4 => Recipients::Only(["example.net".to_owned()].into()),
        20 => Recipients::Plain,
        _ => Recipients::All,
    };
    TransactionSettings {
        hostname: "mail.example.net".to_owned(),
        max_message: u64::from(max) * 16,
        bare_newline: if rules & 8 == 8 { BareNewline::Normalize } else { BareNewline::Reject },
        recipients,
        extensions: shown_extensions(&backend, u64::from(max) * 16),
        backend,
        helo: Some("client.example.org".to_owned()),
    }
}

/// The follower with its four buffers, and plain ears at both ends.
struct Session {
    follower: Transaction,
    from_client: BytesMut,
    from_backend: BytesMut,
    to_client: BytesMut,
    to_backend: BytesMut,
    /// For the gate's decisions, and the backend's.
    gate: Dice,
    backend: Ears,
    /// Messages that were reported as accepted.
    accepted: usize,
    over: bool,
    told: Told,
}

/// What came of a session. Each list is in order; how they mesh depends on how fast the backend answers.
#[derive(Default, PartialEq, Eq)]
struct Told {
    client: Vec<u8>,
    commands: Vec<String>,
    questions: Vec<String>,
    /// Refused by the follower itself.
    refusals: Vec<String>,
    outcomes: Vec<String>,
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let client = self.client.escape_ascii();
        let Self { commands, questions, refusals, outcomes, .. } = self;
        write!(f, "\n  {client}\n  {commands:?}\n  {questions:?}\n  {refusals:?}\n  {outcomes:?}\n")
    }
}

/// What a backend hears, read plainly.
struct Ears {
    recipients: Recipients,
    /// What does not make a line yet.
    line: Vec<u8>,
    state: Hearing,
    /// Lines of commands heard.
    commands: Vec<Vec<u8>>,
    /// Messages heard to their end.
    messages: usize,
}

#[derive(PartialEq, Eq)]
enum Hearing {
    Commands,
    Message,
    /// The connection was given up.
    Nothing,
}

impl Session {
    fn new(input: &Input<'_>) -> Self {
        let settings = settings(input.settings);
        let recipients = settings.recipients.clone();
        Self {
            follower: Transaction::new(settings),
            from_client: BytesMut::new(),
            from_backend: BytesMut::new(),
            to_client: BytesMut::new(),
            to_backend: BytesMut::new(),
            gate: Dice::new(u32::from(input.settings[3])),
            backend: Ears { recipients, line: Vec::new(), state: Hearing::Commands, commands: Vec::new(), messages: 0 },
            accepted: 0,
            over: false,
            told: Told::default(),
        }
    }

    /// As the caller drives it, until there is nothing more to do.
    fn pump(&mut self) {
        while !self.over {
            let read = self.from_client.len() + self.from_backend.len();
            let mut progress = self.follower.backend(&mut self.from_backend, &mut self.to_backend, &mut self.to_client);
            if matches!(progress, Progress::More) {
                progress = self.follower.client(&mut self.from_client, &mut self.to_backend, &mut self.to_client);
            }
            let most = ONE_GO + 2 * read;
            assert!(self.to_client.len() <= most, "{} octets for the client", self.to_client.len());
            assert!(self.to_backend.len() <= most, "{} octets for the backend", self.to_backend.len());
            // Before its last words, and whatever is appended after a step, the backend hears what came before.
            match progress {
                Progress::More => {
                    let waits = !self.from_client.is_empty() && self.to_client.len() > 16 * 1024;
                    self.flush();
                    if !waits {
                        return;
                    }
                }
                Progress::Sender(from) => {
                    assert_eq!(self.follower.turn(), Turn::Caller);
                    self.flush();
                    self.told.questions.push(format!("sender {from:?}"));
                    self.decide(Refusal::SenderMismatch);
                }
                Progress::Recipient(to) => {
                    self.flush();
                    self.told.questions.push(format!("recipient {to}"));
                    self.decide(Refusal::RateLimited);
                }
                Progress::Redial => {
                    assert!(self.backend.state == Hearing::Nothing, "a backend that is there is dialled anew");
                    self.flush();
                    if self.gate.below(4) == 0 {
                        self.told.outcomes.push("no backend".to_owned());
                        self.follower.unavailable(&mut self.to_client);
                    } else {
                        self.told.outcomes.push("redialled".to_owned());
                        self.backend.state = Hearing::Commands;
                        self.backend.line.clear();
                        self.from_backend.clear();
                        let lines = vec!["PIPELINING".to_owned()];
                        self.follower.redialed(Capabilities { lines, ..Capabilities::default() }, &mut self.to_backend);
                    }
                }
                Progress::Data => {
                    self.flush();
                    assert_eq!(self.follower.turn(), Turn::ClientData);
                    self.backend.state = Hearing::Message;
                }
                Progress::Abandon(refused) => {
                    // What is still in the buffer was never written: the connection is closed under it.
                    assert!(self.to_backend.is_empty(), "said to a backend that was given up");
                    self.flush();
                    self.told.outcomes.push(format!("abandoned {} {:?}", stage(&refused.stage), refused.reason));
                    self.backend.state = Hearing::Nothing;
                    self.from_backend.clear();
                }
                Progress::Accepted(message) => {
                    self.accepted += 1;
                    assert!(self.accepted <= self.backend.messages, "accepted before it was whole");
                    self.flush();
                    self.told.outcomes.push(format!("accepted {} {:?}", message.size, message.envelope));
                }
                Progress::Refused(refused) => {
                    self.flush();
                    let list = if refused.reason.is_some() { &mut self.told.refusals } else { &mut self.told.outcomes };
                    list.push(format!("refused {} {:?}", stage(&refused.stage), refused.reason));
                }
                Progress::Over(over) => {
                    self.flush();
                    self.told.outcomes.push(format!("over {over:?}"));
                    self.over = true;
                }
            }
        }
    }

    fn decide(&mut self, refusal: Refusal) {
        let refusal = (self.gate.below(5) == 0).then_some(refusal);
        self.follower.decide(refusal, &mut self.to_backend, &mut self.to_client);
    }

    fn flush(&mut self) {
        assert_words(&self.to_client, "what the client hears");
        self.told.client.extend_from_slice(&self.to_client);
        self.to_client.clear();
        self.backend.hear(&self.to_backend.split());
    }
}

/// A stage without how much of a message had come, which is chance.
fn stage(stage: &Stage) -> String {
    match stage {
        Stage::Sender => "sender".to_owned(),
        Stage::Recipient(to) => format!("recipient {to}"),
        Stage::Message { recipients, .. } => format!("message {recipients:?}"),
    }
}

impl Ears {
    fn hear(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            assert!(self.state != Hearing::Nothing, "said to a backend that was given up: {}", bytes.escape_ascii());
            assert!(byte != 0, "NUL");
            assert!(byte == b'\n' || self.line.last() != Some(&b'\r'), "a bare CR");
            self.line.push(byte);
            if byte != b'\n' {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r\n").expect("a bare LF");
            match self.state {
                Hearing::Message if line == b"." => {
                    self.state = Hearing::Commands;
                    self.messages += 1;
                }
                Hearing::Message => {}
                _ => {
                    self.command(line);
                    self.commands.push(line.to_vec());
                }
            }
        }
        let between = self.state == Hearing::Commands;
        assert!(!between || self.line.is_empty(), "half a command: {}", self.line.escape_ascii());
    }

    fn command(&self, line: &[u8]) {
        let text = std::str::from_utf8(line).expect("UTF-8");
        assert!(!text.contains(|c: char| c.is_control() && c != '\t'), "a control character in {text:?}");
        assert!(line.len() <= 2048, "{} octets of a command", line.len());
        let recipient = text.strip_prefix("RCPT TO:<");
        let known = matches!(text, "DATA" | "RSET" | "NOOP" | "QUIT")
            || text.strip_prefix("MAIL FROM:<").or(recipient).is_some_and(|rest| rest.contains('>'));
        assert!(known, "the backend hears {text:?}");
        if let (Recipients::Plain | Recipients::Only(_), Some(recipient)) = (&self.recipients, recipient) {
            let address = recipient.split('>').next().expect("a part").to_ascii_lowercase();
            let (local, domain) = address.split_once('@').unwrap_or((&address, ""));
            let is_free = self.recipients == Recipients::Plain || domain == "example.net" || address == "postmaster";
            assert!(is_free && !local.contains(['%', '!', '@', ':']), "a stranger writes to {address:?}");
        }
    }
}

fn scripted(input: &Input<'_>) {
    let mut session = Session::new(input);
    for (index, segment) in input.segments().enumerate() {
        let from_client = index % 2 == 0;
        for piece in Cuts::Seeded(input.seed).pieces(segment) {
            if from_client {
                session.from_client.extend_from_slice(piece);
            } else if session.backend.state != Hearing::Nothing {
                session.from_backend.extend_from_slice(piece);
            }
            session.pump();
            if session.over {
                return;
            }
        }
    }
    if input.settings[2] & 1 == 1 {
        session.follower.backend_lost(&mut session.to_client);
    }
    session.follower.goodbye(Goodbye::ShuttingDown, &mut session.to_client);
    assert_eq!(session.follower.turn(), Turn::Nobody);
    session.flush();
}

/// A backend that answers every command and message.
fn obedient(input: &Input<'_>, cuts: Cuts) -> Told {
    let mut session = Session::new(input);
    let mut mind = Dice::new(u32::from(input.settings[3]) << 8);
    let (mut answered, mut messages, mut yes) = (0, 0, 0);
    for segment in input.segments() {
        for piece in cuts.pieces(segment) {
            session.from_client.extend_from_slice(piece);
            loop {
                session.pump();
                let ended = session.backend.messages > messages;
                messages = session.backend.messages;
                let mut replies = Vec::new();
                for command in &session.backend.commands[answered..] {
                    let code = match (command.as_slice(), mind.below(6)) {
                        (b"DATA", 0) => "554 5.5.1 no",
                        (b"DATA", _) => "354 go",
                        (b"QUIT", _) => continue,
                        (b"RSET" | b"NOOP", _) => "250 ok",
                        (_, 0) => "550-5.1.1 no\r\n550 5.1.1 never",
                        _ => "250 2.1.0 ok",
                    };
                    replies.push(code);
                }
                answered = session.backend.commands.len();
                if ended {
                    let code = if mind.below(3) == 0 { "451 4.3.0 full" } else { "250 2.0.0 queued" };
                    yes += usize::from(code.starts_with('2'));
                    replies.push(code);
                }
                if replies.is_empty() || session.over {
                    break;
                }
                for reply in replies {
                    session.from_backend.extend_from_slice(reply.as_bytes());
                    session.from_backend.extend_from_slice(b"\r\n");
                }
            }
        }
    }
    assert_eq!(session.accepted, yes, "a message is accepted if the backend said so, and only then");
    session.told.commands = session.backend.commands.iter().map(|line| line.escape_ascii().to_string()).collect();
    session.told
}
