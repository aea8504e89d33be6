//! The client half: greeting, capabilities, and a login brought to what the backend offers.

use super::reply::{is_temporary, parse, word};
use super::{Literal, capability};
use crate::proto::line::{Line, LineReader, MAX_COMMAND, printable};
use crate::proto::sasl::{Script, Way, decode};
use crate::proto::{
    Back, BackFault, BackSettings, BackStep, Capabilities, Credentials, Introduction, Login, Mechanism, Protocol,
    Reply, Secret, UserName,
};
use bytes::{Buf, BufMut, BytesMut};
use std::collections::VecDeque;

/// The most octets a backend may say before an answer is complete.
const MAX_ANSWER: usize = 64 * 1024;
/// The most lines that may say the greeting is still to come.
const MAX_WAITING: u32 = 8;
/// The longest string that is sent quoted: a server of any age takes a line of this length.
const MAX_QUOTED: usize = 256;

/// IMAP towards a backend, from its greeting to its verdict.
#[derive(Debug)]
pub struct ImapBack {
    settings: BackSettings,
    state: State,
    capabilities: Capabilities,
    /// What it said of its capabilities since the last command.
    heard: Option<Vec<String>>,
    lines: LineReader,
    /// Whom the last login was for: its name in a refusal says nothing.
    user: Option<UserName>,
    /// The rest of an untagged response that holds a literal.
    literal: Option<Rest>,
    /// Octets since the last command of ours.
    octets: usize,
    tag: u32,
}

#[derive(Debug)]
enum State {
    Greeting {
        waited: u32,
    },
    /// STARTTLS was asked.
    Upgrading,
    /// The go-ahead for TLS came.
    Handshake,
    /// CAPABILITY was asked.
    Asking,
    /// ID was sent: who the client is.
    Introducing,
    /// A login may be sent.
    Idle,
    Login(Attempt),
    /// Logged in: the rest belongs to the session.
    Session,
    /// LOGOUT was sent.
    Leaving,
}

/// What is still to be said for a login.
#[derive(Debug)]
enum Attempt {
    /// LOGIN: what stands behind each literal's announcement.
    Command { parts: VecDeque<Secret<Vec<u8>>> },
    /// AUTHENTICATE, and how many responses the credentials make that have not been sent.
    Sasl(Script),
    /// `*` was sent.
    Broken,
}

/// Octets of a literal to pass over, and then the rest of its line.
#[derive(Debug)]
struct Rest {
    octets: usize,
}

impl ImapBack {
    /// A back half for a connection that has just been made.
    pub fn new(settings: BackSettings) -> Self {
        Self {
            settings,
            state: State::Greeting { waited: 0 },
            capabilities: Capabilities::default(),
            heard: None,
            lines: LineReader::default(),
            user: None,
            literal: None,
            octets: 0,
            tag: 0,
        }
    }
}

impl Back for ImapBack {
    fn next(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<BackStep, BackFault> {
        loop {
            match self.state {
                State::Session => return Ok(BackStep::More),
                State::Leaving => {
                    input.clear();
                    return Ok(BackStep::More);
                }
                State::Handshake if input.is_empty() => return Ok(BackStep::More),
                State::Handshake => return Err(BackFault::Unsolicited),
                // Not a line of IMAP begins otherwise; what speaks first and never ends a line is not waited for.
                State::Greeting { .. } if input.first().is_some_and(|&first| first != b'*') => {
                    return Err(garbage(input));
                }
                _ => {}
            }
            let Some(line) = self.line(input)? else { return Ok(BackStep::More) };
            let step = match self.state {
                State::Greeting { waited } => self.greeting(waited, &line, input, out)?,
                State::Idle => return Err(turned_away(&line).unwrap_or(BackFault::Unsolicited)),
                _ => self.response(&line, input, out)?,
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    fn secured(&mut self, out: &mut BytesMut) {
        self.lines = LineReader::default();
        self.literal = None;
        self.ask(out);
    }

    fn login(&mut self, login: &Login, out: &mut BytesMut) -> Result<(), BackFault> {
        let no_way = || BackFault::NoWayIn(login.mechanism.to_string());
        let way = Way::choose(login, &self.capabilities).ok_or_else(no_way)?;
        let attempt = match (&way, &login.credentials) {
            (Way::Command, Credentials::Password { user, password, .. }) => {
                self.login_command(user, password.declassify(), out)
            }
            (Way::Sasl(mechanism), credentials) => self.authenticate(mechanism, credentials, out),
            (Way::Command | Way::Apop, _) => return Err(no_way()),
        };
        self.user = login.user();
        self.state = State::Login(attempt);
        Ok(())
    }

    fn respond(&mut self, response: &[u8], out: &mut BytesMut) {
        self.octets = 0;
        if let State::Login(Attempt::Sasl(script)) = &mut self.state {
            script.forward(response, out);
        }
    }

    fn quit(&mut self, out: &mut BytesMut) {
        self.command("LOGOUT", out);
        out.put_slice(b"\r\n");
        self.state = State::Leaving;
    }
}

impl ImapBack {
    /// Takes the next line that is to be understood: none of what belongs to a literal of an untagged response.
    fn line(&mut self, input: &mut BytesMut) -> Result<Option<Line>, BackFault> {
        loop {
            if let Some(rest) = &mut self.literal {
                let now = rest.octets.min(input.len());
                input.advance(now);
                rest.octets -= now;
                if rest.octets > 0 {
                    return Ok(None);
                }
            }
            let before = input.len();
            let line = self.lines.next(input, MAX_COMMAND);
            match &line {
                // A reader that has dropped the octets of an unfinished line has found it past the bound.
                None if input.len() < before => return Err(BackFault::TooLarge),
                None => return Ok(None),
                Some(Line::TooLong) => return Err(BackFault::TooLarge),
                Some(Line::Whole { bytes, .. }) => {
                    self.octets = self.octets.saturating_add(bytes.len() + 2);
                    let literal = Literal::at_end_of(bytes).map(|literal| literal.size);
                    let literal =
                        literal.filter(|_| self.literal.is_some() || self.answers() && may_hold_literal(bytes));
                    let within = self.literal.is_some();
                    self.octets = self.octets.saturating_add(literal.unwrap_or(0));
                    if self.octets > MAX_ANSWER {
                        return Err(BackFault::TooLarge);
                    }
                    self.literal = literal.map(|octets| Rest { octets });
                    if !within && self.literal.is_none() {
                        return Ok(line);
                    }
                }
            }
        }
    }

    fn greeting(
        &mut self,
        waited: u32,
        line: &Line,
        input: &BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<BackStep>, BackFault> {
        let text = bytes_of(line);
        let (star, rest) = word(text);
        let (status, rest) = word(rest);
        let is = |name: &[u8]| star == b"*" && status.eq_ignore_ascii_case(name);
        if is(b"PREAUTH") {
            return Err(BackFault::Preauth);
        }
        if is(b"BYE") || is(b"NO") || is(b"BAD") {
            return Err(BackFault::TurnedAway(parse(rest).to_line()));
        }
        if !is(b"OK") {
            return Err(garbage(text));
        }
        let reply = parse(rest);
        // Dovecot: "Waiting for authentication process to respond..", and the greeting itself when it has.
        if waited < MAX_WAITING && reply.text.starts_with("Waiting for authentication") {
            self.state = State::Greeting { waited: waited + 1 };
            return Ok(None);
        }
        if !input.is_empty() {
            return Err(BackFault::Unsolicited);
        }
        match reply.capabilities {
            // Whatever it lists in the clear is not believed.
            _ if self.settings.starttls => {
                self.command("STARTTLS", out);
                out.put_slice(b"\r\n");
                self.state = State::Upgrading;
            }
            Some(atoms) => return self.introduce(capability::understand(atoms), out),
            None => self.ask(out),
        }
        Ok(None)
    }

    fn ask(&mut self, out: &mut BytesMut) {
        self.command("CAPABILITY", out);
        out.put_slice(b"\r\n");
        self.state = State::Asking;
    }

    /// A line in answer to a command of ours.
    fn response(&mut self, line: &Line, input: &BytesMut, out: &mut BytesMut) -> Result<Option<BackStep>, BackFault> {
        let text = bytes_of(line);
        let (first, rest) = word(text);
        if first == b"*" {
            let (name, atoms) = word(rest);
            if name.eq_ignore_ascii_case(b"CAPABILITY") {
                self.heard = Some(capability::parse(atoms));
            }
            return turned_away(line).map_or(Ok(None), Err);
        }
        if first == b"+" {
            // It waits for us now: what stands behind it, a yes to the login above all, is no answer to what we say next.
            if !input.is_empty() {
                return Err(BackFault::Unsolicited);
            }
            return self.continuation(rest, text, out);
        }
        if first != format!("g{}", self.tag).as_bytes() {
            return Err(self.no_answer(text));
        }
        let (status, rest) = word(rest);
        let mut reply = parse(rest);
        reply.capabilities = reply.capabilities.or_else(|| self.heard.take());
        let is_ok = status.eq_ignore_ascii_case(b"OK");
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Login(attempt) => self.verdict(&attempt, status, reply).map(Some),
            _ if !input.is_empty() => Err(BackFault::Unsolicited),
            State::Upgrading if is_ok => {
                self.state = State::Handshake;
                Ok(Some(BackStep::StartTls))
            }
            State::Upgrading => {
                Err(BackFault::NoStartTls(format!("STARTTLS is answered with {}", said(status, &reply))))
            }
            State::Introducing if is_ok => Ok(Some(self.ready(self.capabilities.clone()))),
            State::Introducing => Err(BackFault::NoIntroduction(format!("ID, but says {}", said(status, &reply)))),
            // A server too old for CAPABILITY still knows LOGIN.
            _ => {
                let known = reply.capabilities.filter(|_| is_ok).map(capability::understand);
                self.introduce(known.unwrap_or_else(|| Capabilities::minimum(Protocol::Imap)), out)
            }
        }
    }

    /// Says who the client is, where the server is to hear it: Dovecot believes the ID (RFC 2971) of those in its
    /// `login_trusted_networks` about these two fields.
    fn introduce(&mut self, known: Capabilities, out: &mut BytesMut) -> Result<Option<BackStep>, BackFault> {
        let address = match &self.settings.introduction {
            Introduction::None => return Ok(Some(self.ready(known))),
            _ if !known.has("ID") => return Err(BackFault::NoIntroduction("ID, which it does not list".to_owned())),
            Introduction::Possible => return Ok(Some(self.ready(known))),
            Introduction::Client { address, .. } => *address,
        };
        self.capabilities = known;
        self.command("ID", out);
        let (ip, port) = (address.ip(), address.port());
        let fields = format!(" (\"x-originating-ip\" \"{ip}\" \"x-originating-port\" \"{port}\")\r\n");
        out.put_slice(fields.as_bytes());
        self.state = State::Introducing;
        Ok(None)
    }

    fn ready(&mut self, capabilities: Capabilities) -> BackStep {
        self.state = State::Idle;
        self.capabilities = capabilities.clone();
        BackStep::Ready(capabilities)
    }

    fn verdict(&mut self, attempt: &Attempt, status: &[u8], reply: Reply) -> Result<BackStep, BackFault> {
        if matches!(attempt, Attempt::Broken) {
            return Ok(BackStep::Unavailable(reply));
        }
        if status.eq_ignore_ascii_case(b"OK") {
            // Nobody gets a session for credentials that were not said.
            return if attempt.is_said() {
                self.state = State::Session;
                Ok(BackStep::Accepted(reply))
            } else {
                Err(no_answer_to_a_login())
            };
        }
        if !status.eq_ignore_ascii_case(b"NO") {
            return Err(no_answer_to_a_login());
        }
        if is_temporary(&reply, self.user.as_ref(), &self.settings) {
            Ok(BackStep::Unavailable(reply))
        } else {
            Ok(BackStep::Rejected(reply))
        }
    }

    fn continuation(
        &mut self,
        challenge: &[u8],
        line: &[u8],
        out: &mut BytesMut,
    ) -> Result<Option<BackStep>, BackFault> {
        let State::Login(attempt) = &mut self.state else { return Err(garbage(line)) };
        match attempt {
            Attempt::Command { parts } => {
                let part = parts.pop_front().ok_or_else(no_answer_to_a_login)?;
                out.put_slice(part.declassify());
            }
            Attempt::Sasl(script) => {
                if script.answer(out) {
                    return Ok(None);
                }
                if script.passes_through() {
                    let challenge = decode(challenge).map_err(|_| no_answer_to_a_login())?;
                    return Ok(Some(BackStep::Challenge(challenge.declassify().clone())));
                }
                // It asks for more than the mechanism has.
                out.put_slice(b"*\r\n");
                *attempt = Attempt::Broken;
            }
            Attempt::Broken => return Err(no_answer_to_a_login()),
        }
        Ok(None)
    }

    fn login_command(&mut self, user: &UserName, password: &[u8], out: &mut BytesMut) -> Attempt {
        self.command("LOGIN", out);
        let mut parts = VecDeque::new();
        // The octets before the first literal go out at once, each later part when its `+` has come.
        let mut part = Vec::with_capacity(user.as_bytes().len() + password.len() + 32);
        for (string, end) in [(user.as_bytes(), &b""[..]), (password, b"\r\n")] {
            if is_quotable(string) {
                part.extend_from_slice(b" \"");
                part.extend_from_slice(string);
                part.extend_from_slice(b"\"");
            } else {
                part.extend_from_slice(format!(" {{{}}}\r\n", string.len()).as_bytes());
                parts.push_back(Secret::new(part));
                part = Vec::with_capacity(string.len() + password.len() + 32);
                part.extend_from_slice(string);
            }
            part.extend_from_slice(end);
        }
        parts.push_back(Secret::new(part));
        if let Some(first) = parts.pop_front() {
            out.put_slice(first.declassify());
        }
        Attempt::Command { parts }
    }

    fn authenticate(&mut self, mechanism: &Mechanism, credentials: &Credentials, out: &mut BytesMut) -> Attempt {
        self.command("AUTHENTICATE", out);
        out.put_slice(format!(" {mechanism}").as_bytes());
        let mut script = Script::new(mechanism, credentials);
        if self.capabilities.has("SASL-IR") {
            script.initial(mechanism, out);
        }
        out.put_slice(b"\r\n");
        Attempt::Sasl(script)
    }

    /// Whether what it says now is in answer to a command of ours.
    fn answers(&self) -> bool {
        matches!(self.state, State::Upgrading | State::Asking | State::Introducing | State::Login(_))
    }

    /// A line that is no answer. One that was said to a login is not quoted: old servers repeat a command they do not
    /// understand, and this one holds a password.
    fn no_answer(&self, line: &[u8]) -> BackFault {
        match self.state {
            State::Login(_) => no_answer_to_a_login(),
            _ => garbage(line),
        }
    }

    /// Begins a command, without its line end.
    fn command(&mut self, name: &str, out: &mut BytesMut) {
        self.tag = self.tag.wrapping_add(1);
        self.octets = 0;
        self.heard = None;
        out.put_slice(format!("g{} {name}", self.tag).as_bytes());
    }
}

impl Attempt {
    /// Whether all that makes the credentials has been sent.
    fn is_said(&self) -> bool {
        match self {
            Attempt::Command { parts } => parts.is_empty(),
            Attempt::Sasl(script) => script.is_said(),
            Attempt::Broken => false,
        }
    }
}

/// Whether a string may stand between quotes in front of any server. Servers disagree about escapes, so what would
/// need one goes as a literal.
fn is_quotable(string: &[u8]) -> bool {
    string.len() <= MAX_QUOTED && string.iter().all(|&b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\')
}

/// Whether an announcement at the line's end is one: the text of a status response may end in braces too.
fn may_hold_literal(line: &[u8]) -> bool {
    let (star, rest) = word(line);
    let (name, _) = word(rest);
    star == b"*" && ![&b"OK"[..], b"NO", b"BAD", b"BYE", b"PREAUTH"].iter().any(|s| name.eq_ignore_ascii_case(s))
}

fn turned_away(line: &Line) -> Option<BackFault> {
    let (star, rest) = word(bytes_of(line));
    let (status, rest) = word(rest);
    (star == b"*" && status.eq_ignore_ascii_case(b"BYE")).then(|| BackFault::TurnedAway(parse(rest).to_line()))
}

fn garbage(line: &[u8]) -> BackFault {
    BackFault::Garbage("IMAP", printable(&line[..line.len().min(64)], 64))
}

/// An answer in a fault's words.
fn said(status: &[u8], reply: &Reply) -> String {
    format!("{} {}", printable(status, 16), reply.to_line()).trim_end().to_owned()
}

fn no_answer_to_a_login() -> BackFault {
    BackFault::Garbage("IMAP", "what it says to a login is neither OK, NO nor a challenge".to_owned())
}

fn bytes_of(line: &Line) -> &[u8] {
    match line {
        Line::Whole { bytes, .. } => bytes,
        Line::TooLong => &[],
    }
}
