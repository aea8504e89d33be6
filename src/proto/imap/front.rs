//! The server half: what a client hears until it is logged in.

use super::capability;
use super::command::{Announced, Command, Head, Scan, Scanner, Tag, Verb, authenticate};
use super::words::{
    accepted, before_greeting, farewell, goodbye_after, refused, rejected, say_bad, tagged, unavailable, untagged,
    worded,
};
use crate::proto::line::{Line, LineReader, MAX_SASL, check};
use crate::proto::origin;
use crate::proto::sasl::{Exchange, Outcome, encode};
use crate::proto::stranger::{First, first_bytes};
use crate::proto::{
    Answer, Capabilities, Front, FrontSettings, Login, MAX_ANSWERS, MAX_ERRORS, Mechanism, Refusal, Step, TlsRule,
    Violation,
};
use bytes::{BufMut, BytesMut};
use core::net::IpAddr;
use std::sync::Arc;
use zeroize::Zeroize;

/// Lines past their bound before the connection is closed.
const MAX_TOO_LONG: u32 = 3;

const NO_COMMAND: &str = "This is not an IMAP command.";
const FLAWED: &str = "A command ends in CRLF and holds no NUL or other line end.";
const NEEDS_LOGIN: &str = "Log in first.";

/// IMAP towards the client, from the greeting to the login.
#[derive(Debug)]
pub struct ImapFront {
    settings: FrontSettings,
    capabilities: Arc<Capabilities>,
    tls_active: bool,
    /// The first bytes were a command's, not a stranger's.
    known: bool,
    scanner: Scanner,
    state: State,
    errors: u32,
    too_long: u32,
    origin: Option<IpAddr>,
}

#[derive(Debug)]
enum State {
    /// A command is due.
    Command,
    /// An attempt to log in, or a response in it, was reported.
    Reported { tag: Tag, exchange: Option<Exchange> },
    /// The client's response to a challenge is due.
    Responding { tag: Tag, exchange: Exchange, lines: LineReader },
    /// Logged in, or sent away.
    Over,
}

impl ImapFront {
    /// A front for a connection that has just been accepted; under [`TlsRule::Implicit`], after its handshake.
    pub fn new(settings: FrontSettings) -> Self {
        Self {
            tls_active: settings.tls == TlsRule::Implicit,
            settings,
            capabilities: Arc::default(),
            known: false,
            scanner: Scanner::default(),
            state: State::Command,
            errors: 0,
            too_long: 0,
            origin: None,
        }
    }
}

impl Front for ImapFront {
    fn origin(&self) -> Option<IpAddr> {
        self.origin
    }

    fn greet(&mut self, capabilities: &Arc<Capabilities>, out: &mut BytesMut) {
        self.capabilities = Arc::clone(capabilities);
        out.put_slice(b"* OK [");
        capability::before_login(&self.capabilities, &self.settings, self.tls_active, out);
        out.put_slice(format!("] {} ready\r\n", self.settings.hostname).as_bytes());
    }

    fn turn_away(&mut self, refusal: Refusal, out: &mut BytesMut) {
        self.state = State::Over;
        untagged(out, before_greeting(refusal));
    }

    fn next(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step, Violation> {
        if !self.known {
            match first_bytes(input, self.tls_active) {
                First::Unclear => return Ok(Step::More),
                First::Command => self.known = true,
                First::Stranger(violation) => return Err(violation),
            }
        }
        loop {
            if self.errors >= MAX_ERRORS {
                untagged(out, "BYE Too many errors.");
                return Err(Violation::TooManyErrors);
            }
            if out.len() > MAX_ANSWERS {
                return Ok(Step::More);
            }
            let step = match self.state {
                State::Command => match self.scanner.next(input) {
                    Scan::More => return Ok(Step::More),
                    Scan::Command(command) => self.command(&command, input, out)?,
                    Scan::Announced(announced) => self.announced(&announced, input, out)?,
                    Scan::TooLong(head) => self.line_too_long(head.tag.as_ref(), out).map(|()| None)?,
                    Scan::Endless => return Err(self.too_large(None, out)),
                },
                State::Responding { .. } => match self.response(input) {
                    None => return Ok(Step::More),
                    Some((tag, exchange, line)) => self.respond(tag, exchange, line, out)?,
                },
                State::Reported { .. } | State::Over => return Ok(Step::More),
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    fn answer(&mut self, answer: Answer<'_>, out: &mut BytesMut) {
        let (tag, exchange) = match std::mem::replace(&mut self.state, State::Command) {
            State::Reported { tag, exchange } => (Some(tag), exchange),
            State::Responding { tag, .. } => (Some(tag), None),
            State::Command | State::Over => (None, None),
        };
        match (answer, tag, exchange) {
            (Answer::Challenge(challenge), Some(tag), Some(exchange)) => {
                self.challenge(tag, exchange, challenge, out);
            }
            // Nobody can respond to a challenge without an exchange: a back half has none for LOGIN.
            (Answer::Challenge(_), ..) => {}
            (Answer::Accepted(reply), Some(tag), _) => {
                self.state = State::Over;
                accepted(&tag, reply, out);
            }
            (Answer::Rejected(reply), Some(tag), _) => tagged(out, &tag, rejected(reply)),
            (Answer::Worded { reply, is_temporary }, Some(tag), _) => worded(&tag, reply, is_temporary, out),
            (Answer::Unavailable(reply), Some(tag), _) => tagged(out, &tag, unavailable(reply)),
            (Answer::Refused(refusal), tag, _) => {
                if let Some(tag) = tag {
                    tagged(out, &tag, refused(refusal));
                }
                if let Some(goodbye) = goodbye_after(refusal) {
                    self.state = State::Over;
                    untagged(out, goodbye);
                }
            }
            (Answer::Goodbye(goodbye), ..) => {
                self.state = State::Over;
                untagged(out, farewell(goodbye));
            }
            (Answer::Accepted(_) | Answer::Rejected(_) | Answer::Worded { .. } | Answer::Unavailable(_), None, _) => {}
        }
    }

    fn secured(&mut self, capabilities: &Arc<Capabilities>) {
        self.capabilities = Arc::clone(capabilities);
        self.tls_active = true;
        self.known = false;
        self.origin = None;
        self.scanner = Scanner::default();
        self.state = State::Command;
    }
}

impl ImapFront {
    fn command(&mut self, command: &Command, input: &BytesMut, out: &mut BytesMut) -> Result<Option<Step>, Violation> {
        let Some(tag) = &command.head.tag else { return Ok(self.bad(None, NO_COMMAND, out)) };
        if command.flaw.is_some() {
            return Ok(self.bad(Some(tag), FLAWED, out));
        }
        match command.head.verb {
            Verb::Capability if command.is_bare() => {
                out.put_slice(b"* ");
                capability::before_login(&self.capabilities, &self.settings, self.tls_active, out);
                out.put_slice(b"\r\n");
                tagged(out, tag, "OK Done.");
            }
            Verb::Noop if command.is_bare() => tagged(out, tag, "OK Done."),
            Verb::Id => {
                // Whatever it says of itself changes nothing (RFC 2971 section 1) and goes nowhere: a backend may
                // take x-originating-ip from us alone. A webmail that is believed says whom it speaks for.
                if self.settings.believes_origin {
                    self.origin = origin::of_imap_id(command.behind_verb());
                }
                untagged(out, "ID NIL");
                tagged(out, tag, "OK Done.");
            }
            Verb::Logout if command.is_bare() => {
                self.state = State::Over;
                untagged(out, "BYE Goodbye.");
                tagged(out, tag, "OK Done.");
                return Ok(Some(Step::Leave));
            }
            Verb::StartTls if command.is_bare() => return self.start_tls(tag, input, out),
            Verb::Login => return Ok(self.login(tag, command, out)),
            Verb::Authenticate => return Ok(self.authenticate(tag, command, out)),
            Verb::NeedsLogin => return Ok(self.bad(Some(tag), NEEDS_LOGIN, out)),
            Verb::Unknown => return Ok(self.bad(Some(tag), "Unknown command.", out)),
            Verb::Capability | Verb::Noop | Verb::Logout | Verb::StartTls => {
                return Ok(self.bad(Some(tag), "This command takes no argument.", out));
            }
        }
        Ok(None)
    }

    /// Decides about a literal before an octet of it is read.
    fn announced(
        &mut self,
        announced: &Announced,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Step>, Violation> {
        let Head { tag, verb, .. } = &announced.head;
        if announced.too_large && !announced.synchronising {
            return Err(self.too_large(tag.as_ref(), out));
        }
        let objection = (*verb == Verb::Login).then(|| self.objection(&Mechanism::LOGIN)).flatten();
        let step = match (tag, verb, objection) {
            (None, ..) => self.bad(None, NO_COMMAND, out),
            (Some(tag), ..) if announced.flaw.is_some() => self.bad(Some(tag), FLAWED, out),
            (Some(tag), Verb::Login, Some(refusal)) => self.deny(tag, refusal, Mechanism::LOGIN, out),
            (Some(tag), Verb::Login | Verb::Id, _) if announced.too_large => {
                self.errors += 1;
                tagged(out, tag, "NO [TOOBIG] A literal before login holds at most 4096 octets.");
                None
            }
            (Some(_), Verb::Login | Verb::Id, _) => {
                self.scanner.accept();
                if announced.synchronising {
                    out.put_slice(b"+ Go ahead.\r\n");
                }
                return Ok(None);
            }
            (Some(tag), Verb::NeedsLogin, _) => self.bad(Some(tag), NEEDS_LOGIN, out),
            (Some(tag), ..) => self.bad(Some(tag), "This command takes no literal.", out),
        };
        self.scanner.refuse(input);
        Ok(step)
    }

    fn start_tls(&mut self, tag: &Tag, input: &BytesMut, out: &mut BytesMut) -> Result<Option<Step>, Violation> {
        if self.tls_active {
            return Ok(self.bad(Some(tag), "TLS is active already.", out));
        }
        if !self.settings.tls.offers_upgrade() {
            return Ok(self.bad(Some(tag), "STARTTLS is not available here.", out));
        }
        if !input.is_empty() {
            return Err(Violation::PipelinedStartTls);
        }
        tagged(out, tag, "OK Begin TLS now.");
        Ok(Some(Step::StartTls))
    }

    fn login(&mut self, tag: &Tag, command: &Command, out: &mut BytesMut) -> Option<Step> {
        if let Some(refusal) = self.objection(&Mechanism::LOGIN) {
            return self.deny(tag, refusal, Mechanism::LOGIN, out);
        }
        let arguments = command.arguments();
        let Some([user, password]) = arguments.as_deref() else {
            return self.bad(Some(tag), "LOGIN takes a user and a password.", out);
        };
        match Login::password(Mechanism::LOGIN, user.declassify(), password.declassify()) {
            Ok(login) => {
                self.state = State::Reported { tag: tag.clone(), exchange: None };
                Some(Step::Login(login))
            }
            Err(_) => self.deny(tag, Refusal::BadSyntax, Mechanism::LOGIN, out),
        }
    }

    fn authenticate(&mut self, tag: &Tag, command: &Command, out: &mut BytesMut) -> Option<Step> {
        let arguments = command.arguments();
        let Some((mechanism, initial)) = arguments.as_deref().and_then(authenticate) else {
            return self.bad(Some(tag), "AUTHENTICATE takes a mechanism and at most one response.", out);
        };
        if let Some(refusal) = self.objection(&mechanism) {
            return self.deny(tag, refusal, mechanism, out);
        }
        let (exchange, outcome) = Exchange::begin(mechanism, initial);
        self.outcome(tag.clone(), exchange, outcome, out)
    }

    /// Takes the client's next line in an exchange; `None` until it has come.
    fn response(&mut self, input: &mut BytesMut) -> Option<(Tag, Exchange, Line)> {
        let State::Responding { lines, .. } = &mut self.state else { return None };
        let line = lines.next(input, MAX_SASL)?;
        match std::mem::replace(&mut self.state, State::Command) {
            State::Responding { tag, exchange, .. } => Some((tag, exchange, line)),
            _ => None,
        }
    }

    fn respond(
        &mut self,
        tag: Tag,
        mut exchange: Exchange,
        line: Line,
        out: &mut BytesMut,
    ) -> Result<Option<Step>, Violation> {
        match line {
            Line::TooLong => {
                self.line_too_long(Some(&tag), out)?;
                let mechanism = exchange.mechanism().clone();
                Ok(Some(Step::Denied { refusal: Refusal::TooLarge, mechanism }))
            }
            Line::Whole { mut bytes, bare_lf } => {
                let outcome = check(&bytes, bare_lf).map_or(Outcome::Bad, |()| exchange.line(&bytes));
                bytes.as_mut().zeroize();
                Ok(self.outcome(tag, exchange, outcome, out))
            }
        }
    }

    fn outcome(&mut self, tag: Tag, exchange: Exchange, outcome: Outcome, out: &mut BytesMut) -> Option<Step> {
        match outcome {
            Outcome::Ask(challenge) => {
                self.challenge(tag, exchange, challenge, out);
                None
            }
            Outcome::Login(login) => {
                self.state = State::Reported { tag, exchange: Some(exchange) };
                Some(Step::Login(login))
            }
            Outcome::Respond(response) => {
                self.state = State::Reported { tag, exchange: Some(exchange) };
                Some(Step::Respond(response))
            }
            Outcome::Cancelled => {
                self.bad(Some(&tag), "Authentication cancelled.", out);
                Some(Step::Cancelled)
            }
            Outcome::Bad => self.deny(&tag, Refusal::BadSyntax, exchange.mechanism().clone(), out),
        }
    }

    fn challenge(&mut self, tag: Tag, exchange: Exchange, challenge: &[u8], out: &mut BytesMut) {
        out.put_slice(b"+ ");
        encode(challenge, out);
        out.put_slice(b"\r\n");
        self.state = State::Responding { tag, exchange, lines: LineReader::default() };
    }

    /// Why a login by this mechanism is not taken now.
    fn objection(&self, mechanism: &Mechanism) -> Option<Refusal> {
        let is_possible = mechanism.is_sasl() && self.capabilities.can_take(mechanism);
        let possible = |tls_active| is_possible && self.settings.allows(mechanism, tls_active);
        let upgrade_due = !self.tls_active && self.settings.tls.offers_upgrade();
        if possible(self.tls_active) {
            None
        } else if upgrade_due && (self.settings.tls == TlsRule::StartTls || possible(true)) {
            Some(Refusal::TlsRequired)
        } else {
            Some(Refusal::MechanismDisabled)
        }
    }

    fn deny(&mut self, tag: &Tag, refusal: Refusal, mechanism: Mechanism, out: &mut BytesMut) -> Option<Step> {
        self.errors += 1;
        tagged(out, tag, refused(refusal));
        Some(Step::Denied { refusal, mechanism })
    }

    fn bad(&mut self, tag: Option<&Tag>, text: &str, out: &mut BytesMut) -> Option<Step> {
        self.errors += 1;
        say_bad(out, tag, text);
        None
    }

    fn line_too_long(&mut self, tag: Option<&Tag>, out: &mut BytesMut) -> Result<(), Violation> {
        self.too_long += 1;
        if self.too_long == MAX_TOO_LONG {
            return Err(self.too_large(tag, out));
        }
        self.bad(tag, "The line is too long.", out);
        Ok(())
    }

    fn too_large(&mut self, tag: Option<&Tag>, out: &mut BytesMut) -> Violation {
        self.state = State::Over;
        say_bad(out, tag, "This is too long.");
        untagged(out, "BYE Too much at once.");
        Violation::TooLarge
    }
}
