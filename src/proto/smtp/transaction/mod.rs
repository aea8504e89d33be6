//! The follower: an SMTP session between a client and a backend, command by command and message by message.
//!
//! It stands between the two after a login, and from a stranger's first MAIL on; the relay that moves bytes blindly is
//! not for SMTP. It lets known commands through, written anew from what was understood; asks before a sender and a
//! recipient pass; keeps replies in order; sees that a message is one message to both sides. It does no I/O and knows no
//! clock: the caller owns both connections and the four buffers between them.
//!
//! ```text
//!             ┌────────────────────────── a reply ─────────────────────────────┐
//!             ↓                                                                │
//!   ┌──── Commands ── MAIL, RCPT ──→ Asking ── decide(None) ──→ forwarded ─────┤
//!   │         │  ↖                     └ decide(Some(refusal)): answered by us │
//!   │         │    └─ unavailable() ─ Redialling ←─ MAIL behind an abandoned message, allowed
//!   │         │                          └ redialed() ──→ forwarded ───────────┤
//!   │         └ DATA ──→ DataAsked ── 354 ──→ Data ── CRLF.CRLF ──→ DataEnd ───┤
//!   │                        └ 4yz, 5yz ───────│───────────────────────────────┤
//!   │                                          └ bare newline, NUL, too large, │
//!   │                                            a reply before the end:       │
//!   │                                            Abandon → Dropping ── CRLF.CRLF, answered once
//!   └ QUIT, a fault, too many errors, backend_lost(), goodbye() ──→ Over
//! ```
//!
//! How a caller drives it:
//!
//! ```no_run
//! # use bytes::BytesMut;
//! # use gatepost::proto::smtp::{Progress, Transaction};
//! # fn turn(follower: &mut Transaction, from_client: &mut BytesMut, from_backend: &mut BytesMut) {
//! # let (mut to_backend, mut to_client) = (BytesMut::new(), BytesMut::new());
//! loop {
//!     // A reply may free the way for commands that wait in `from_client`, so the backend's side comes first.
//!     let mut progress = follower.backend(from_backend, &mut to_backend, &mut to_client);
//!     if matches!(progress, Progress::More) {
//!         progress = follower.client(from_client, &mut to_backend, &mut to_client);
//!     }
//!     match progress {
//!         Progress::More => break, // write both `to_…`, wait for either side or for the deadline of `turn()`
//!         Progress::Sender(_) | Progress::Recipient(_) => follower.decide(None, &mut to_backend, &mut to_client),
//!         Progress::Redial => follower.unavailable(&mut to_client), // or dial, log in, and `redialed(..)`
//!         Progress::Data => {}       // a header of ours may be appended to `to_backend` now
//!         Progress::Abandon(_) => {} // close the backend's connection, without another byte
//!         Progress::Accepted(_) | Progress::Refused(_) => {} // record it
//!         Progress::Over(_) => return, // write both `to_…`, close both
//!     }
//! }
//! # }
//! ```
//!
//! What the caller must see to:
//! - a client that vanishes inside a message: close the backend's connection at once. Nothing that ends the message has
//!   been written, since the final dot goes out only when the client's has come;
//! - bounds: `to_backend` grows by no more than what was in the client's buffer (twice that under
//!   [`BareNewline::Normalize`]), so nothing is to be read from the client before most of it is written; the same for
//!   `to_client` and the backend. The follower itself keeps at most [`MAX_OUTSTANDING`] commands and
//!   [`MAX_RECIPIENTS`] addresses, and two bytes of a message;
//! - both buffers may be left with bytes in them at [`Progress::More`]: they wait for their turn.

mod backend;
mod client;
mod progress;
#[cfg(test)]
mod tests;

pub use progress::{Envelope, Message, Over, Progress, Refused, Stage, Turn};

use super::command::{Mail, Rcpt};
use super::data::{BareNewline, DataScanner};
use super::path::Address;
use super::reply::ReplyReader;
use super::words;
use crate::proto::line::LineReader;
use crate::proto::{Capabilities, Goodbye, Refusal, Reply};
use bytes::BytesMut;
use std::collections::VecDeque;
use std::sync::Arc;

/// The most commands that wait for the backend's replies, answers of ours between them counted.
pub const MAX_OUTSTANDING: usize = 100;
/// The most octets of commands that wait for the backend's replies, give or take one command.
const MAX_UNANSWERED: usize = 4 * 1024;
/// The most recipients of a message; RFC 5321 section 4.5.3.1.8 asks for 100, Postfix takes as many as this.
pub const MAX_RECIPIENTS: usize = 1000;

/// What a follower must know of its session.
#[derive(Debug, Clone)]
pub struct TransactionSettings {
    /// Our name in answers to EHLO.
    pub hostname: String,
    /// The largest message in octets, 0 for no bound of ours.
    pub max_message: u64,
    /// What is done with a bare CR or LF in a message.
    pub bare_newline: BareNewline,
    /// To whom may be written.
    pub recipients: Recipients,
    /// What the client was shown ([`super::shown_extensions`]): parameters of other extensions are refused.
    pub extensions: Vec<String>,
    /// What the backend at the other end said it can do.
    pub backend: Capabilities,
    /// The name in the client's EHLO.
    pub helo: Option<String>,
}

/// To whom a client may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// A client that has logged in, or may send by other right.
    All,
    /// A stranger, where the backend decides about domains: whatever is a plain address
    /// ([`Address::is_plain`](super::Address::is_plain)).
    Plain,
    /// A stranger: these domains, lower-cased, and the bare postmaster (RFC 5321 section 4.5.1).
    Only(Arc<[String]>),
}

/// Follows one session. See the module.
#[derive(Debug)]
pub struct Transaction {
    settings: TransactionSettings,
    phase: Phase,
    /// The connection to the backend was given up.
    abandoned: bool,
    lines: LineReader,
    replies: ReplyReader,
    /// What the client waits for, in order. The first, if there is one, is the backend's to answer.
    due: VecDeque<Due>,
    /// Octets of commands sent since `due` was last empty.
    unanswered: usize,
    /// No further command before `due` is empty: the last one ends a group (RFC 2920 section 3.1), or the backend has
    /// no PIPELINING.
    hold: bool,
    /// The message under way, as the backend confirmed it.
    envelope: Option<Envelope>,
    /// The sender of the last MAIL sent, whether it is answered or not.
    sender: Option<Address>,
    /// That MAIL had SMTPUTF8.
    utf8: bool,
    /// Flaws in commands, and what made us dial the backend again: both have an end.
    errors: u32,
    /// Recipients of a stranger's that the backend refused: whoever has many of them asks who has a mailbox.
    refused_recipients: u32,
    /// What a stranger said since the last message was taken that brought none forward.
    fruitless: u32,
    long_lines: u32,
    /// The session ends when `due` is empty.
    ending: Option<Over>,
}

#[derive(Debug)]
enum Phase {
    Commands,
    Asking(Question),
    /// A MAIL waits for a backend; `true` once the caller knows.
    Redialling(Mail, bool),
    DataAsked,
    Data(DataScanner),
    DataEnd,
    /// A refused message is read to its end; then the answer in wire form, and the end of the session if one is there.
    Dropping(DataScanner, BytesMut, Option<Over>),
    Over,
}

#[derive(Debug)]
enum Question {
    Sender(Mail),
    Recipient(Rcpt),
}

#[derive(Debug)]
enum Due {
    Mail(Option<Address>),
    Rcpt(Address),
    Rset,
    Noop,
    /// A RSET of ours; its reply is replaced by the answer to the client's EHLO, in wire form.
    Hello(BytesMut),
    Data,
    /// The reply to a message of so many octets.
    Message(u64),
    /// An answer of ours behind replies of the backend, in wire form.
    Ours(BytesMut),
}

impl Transaction {
    /// A follower for a session whose backend has been greeted, and logged in to where there was a login.
    pub fn new(settings: TransactionSettings) -> Self {
        Self {
            settings,
            phase: Phase::Commands,
            abandoned: false,
            lines: LineReader::default(),
            replies: ReplyReader::default(),
            due: VecDeque::new(),
            unanswered: 0,
            hold: false,
            envelope: None,
            sender: None,
            utf8: false,
            errors: 0,
            refused_recipients: 0,
            fruitless: 0,
            long_lines: 0,
            ending: None,
        }
    }

    /// Answers [`Progress::Sender`] and [`Progress::Recipient`]: `None` lets it pass.
    pub fn decide(&mut self, refusal: Option<Refusal>, to_backend: &mut BytesMut, to_client: &mut BytesMut) {
        let question = match std::mem::replace(&mut self.phase, Phase::Commands) {
            Phase::Asking(question) => question,
            phase => return self.phase = phase,
        };
        match (question, refusal) {
            (Question::Sender(mail), None) if self.abandoned => self.phase = Phase::Redialling(mail, false),
            (Question::Sender(mail), None) => self.send_mail(mail, to_backend),
            (Question::Recipient(rcpt), None) => {
                let line = rcpt.to_line();
                self.send(Due::Rcpt(rcpt.to), &line, to_backend);
            }
            (Question::Sender(_), Some(refusal)) => self.say(words::sender_refusal(refusal), to_client),
            (Question::Recipient(_), Some(refusal)) => self.say(words::recipient_refusal(refusal), to_client),
        }
    }

    /// The sender of the last MAIL that was sent; none for `<>`, or before the first.
    pub fn sender(&self) -> Option<&Address> {
        self.sender.as_ref()
    }

    /// Answers [`Progress::Redial`]: there is a new connection, greeted and logged in. The message begins on it.
    pub fn redialed(&mut self, backend: Capabilities, to_backend: &mut BytesMut) {
        if let Phase::Redialling(mail, _) = std::mem::replace(&mut self.phase, Phase::Commands) {
            self.settings.backend = backend;
            self.replies = ReplyReader::default();
            self.abandoned = false;
            self.send_mail(mail, to_backend);
        }
    }

    /// Answers [`Progress::Redial`]: no backend. The client may try another message.
    pub fn unavailable(&mut self, to_client: &mut BytesMut) {
        if matches!(self.phase, Phase::Redialling(..)) {
            self.phase = Phase::Commands;
            self.complain(words::MAIL_UNAVAILABLE, to_client);
        }
    }

    /// The backend's connection ended by itself: the last words, and the end. Nothing where the connection had been
    /// given up already.
    pub fn backend_lost(&mut self, to_client: &mut BytesMut) {
        if !self.abandoned {
            self.goodbye(Goodbye::BackendLost, to_client);
        }
    }

    /// Ends the session with a goodbye. It may stand at any point: what we write ends with a line.
    pub fn goodbye(&mut self, goodbye: Goodbye, to_client: &mut BytesMut) {
        if !matches!(self.phase, Phase::Over) {
            self.phase = Phase::Over;
            words::line(words::goodbye(goodbye), to_client);
        }
    }

    /// Whose turn it is.
    pub fn turn(&self) -> Turn {
        match (&self.phase, self.due.front()) {
            (Phase::Over, _) => Turn::Nobody,
            (Phase::Asking(_) | Phase::Redialling(..), _) => Turn::Caller,
            (Phase::Data(_) | Phase::Dropping(..), _) => Turn::ClientData,
            (Phase::DataEnd, _) => Turn::BackendDataEnd,
            (Phase::Commands | Phase::DataAsked, Some(_)) => Turn::Backend,
            (Phase::Commands | Phase::DataAsked, None) => Turn::Client,
        }
    }

    /// Whether a goodbye now would cost the client nothing: no message has begun and nothing is to be answered.
    pub fn is_idle(&self) -> bool {
        self.turn() == Turn::Client && self.envelope.is_none()
    }

    /// The name in the client's last EHLO or HELO.
    pub fn helo(&self) -> Option<&str> {
        self.settings.helo.as_deref()
    }

    fn is_stranger(&self) -> bool {
        match self.settings.recipients {
            Recipients::All => false,
            Recipients::Plain | Recipients::Only(_) => true,
        }
    }

    fn send_mail(&mut self, mut mail: Mail, to_backend: &mut BytesMut) {
        // What we show may be what we remembered of the backend, or our own SIZE: a bound and a hint it can do without.
        for (keyword, extension) in [("SIZE", "SIZE"), ("BODY", "8BITMIME")] {
            if !self.settings.backend.has(extension) {
                mail.parameters.remove(keyword);
            }
        }
        // Nobody vouches to us for the word of a client about who logged in elsewhere (RFC 4954 section 5).
        mail.parameters.remove("AUTH");
        self.utf8 = mail.parameters.has("SMTPUTF8");
        let line = mail.to_line();
        self.sender = mail.from.clone();
        self.send(Due::Mail(mail.from), &line, to_backend);
    }

    fn send(&mut self, due: Due, line: &str, to_backend: &mut BytesMut) {
        let in_group = matches!(due, Due::Mail(_) | Due::Rcpt(_) | Due::Rset);
        if matches!(due, Due::Rset | Due::Hello(_)) {
            (self.sender, self.utf8) = (None, false);
        }
        self.hold = !in_group || !self.settings.backend.has("PIPELINING");
        self.unanswered += line.len();
        self.due.push_back(due);
        words::line(line, to_backend);
    }

    /// Says a line to the client, behind what it waits for.
    fn say(&mut self, text: &str, to_client: &mut BytesMut) {
        if self.due.is_empty() {
            words::line(text, to_client);
        } else {
            let mut wire = BytesMut::new();
            words::line(text, &mut wire);
            self.due.push_back(Due::Ours(wire));
        }
    }

    /// The end, once everything before it is answered.
    fn over(&mut self) -> Option<Progress> {
        if !self.due.is_empty() {
            return None;
        }
        let over = self.ending.take()?;
        self.phase = Phase::Over;
        Some(Progress::Over(over))
    }

    /// Gives up the backend's connection and the message on it; `answer` is for the client at the message's end.
    fn abandon(
        &mut self,
        mut scanner: DataScanner,
        refused: (Option<Refusal>, Reply),
        answer: BytesMut,
        ending: Option<Over>,
        to_backend: &mut BytesMut,
    ) -> Progress {
        let (reason, reply) = refused;
        to_backend.clear();
        scanner.drop_rest();
        self.abandoned = true;
        self.errors += 1;
        let refused = self.refused_message(scanner.size(), reason, reply);
        self.phase = Phase::Dropping(scanner, answer, ending);
        Progress::Abandon(refused)
    }

    fn refused(&self, stage: Stage, reason: Option<Refusal>, reply: Reply) -> Refused {
        let from = self.envelope.as_ref().and_then(|envelope| envelope.from.clone());
        Refused { stage, from, reason, reply }
    }

    /// The message under way is no more.
    fn refused_message(&mut self, size: u64, reason: Option<Refusal>, reply: Reply) -> Refused {
        let Envelope { from, recipients } = self.envelope.take().unwrap_or_default();
        Refused { stage: Stage::Message { recipients, size }, from, reason, reply }
    }
}
