//! The server half: everything a client may say before it is logged in, or before a stranger's first MAIL.

mod auth;

use auth::challenge_line;

use super::capability::shown_extensions;
use super::command::{Flaw, Mail, Verb, client_name};
use super::words;
use crate::proto::line::{Line, LineReader, MAX_COMMAND, MAX_SASL, check};
use crate::proto::origin;
use crate::proto::sasl::Exchange;
use crate::proto::{
    Answer, Capabilities, Front, FrontSettings, MAX_ANSWERS, MAX_ERRORS, Mechanism, Refusal, Service, Step, TlsRule,
    Violation,
};
use bytes::BytesMut;
use core::net::IpAddr;
use std::sync::Arc;
use zeroize::Zeroize as _;

/// Lines past the bound that are answered; the next one ends the connection.
const MAX_LONG_LINES: u32 = 2;
/// EHLOs before a login: each is answered with a list, so that they are bounded on their own.
const MAX_HELLOS: u32 = 20;

/// Speaks SMTP and submission to a client until the engine takes over. See the module for its states.
#[derive(Debug)]
pub struct SmtpFront {
    settings: FrontSettings,
    capabilities: Arc<Capabilities>,
    lines: LineReader,
    tls_active: bool,
    state: State,
    /// The name in the last EHLO or HELO.
    helo: Option<String>,
    /// Something was heard on this connection: what comes next is no first byte.
    heard: bool,
    errors: u32,
    long_lines: u32,
    hellos: u32,
    origin: Option<IpAddr>,
}

#[derive(Debug)]
enum State {
    Command,
    /// The next line is a response of an authentication exchange.
    Response(Exchange),
    /// The engine decides about a login; a challenge may follow.
    Deciding(Exchange),
    /// The engine decides about a stranger's MAIL, which still stands in the input.
    DecidingMail,
    /// That MAIL was answered: the line is to be dropped.
    MailAnswered,
    /// The go-ahead for TLS was given, or nothing more is to be said.
    Silent,
}

impl SmtpFront {
    /// A front for one connection.
    pub fn new(settings: FrontSettings) -> Self {
        Self {
            tls_active: settings.tls == TlsRule::Implicit,
            settings,
            capabilities: Arc::default(),
            lines: LineReader::default(),
            state: State::Command,
            helo: None,
            heard: false,
            errors: 0,
            long_lines: 0,
            hellos: 0,
            origin: None,
        }
    }
}

impl Front for SmtpFront {
    fn origin(&self) -> Option<IpAddr> {
        self.origin
    }

    fn greet(&mut self, capabilities: &Arc<Capabilities>, out: &mut BytesMut) {
        self.capabilities = Arc::clone(capabilities);
        words::line(&format!("220 {} ESMTP", self.settings.hostname), out);
    }

    fn turn_away(&mut self, refusal: Refusal, out: &mut BytesMut) {
        self.state = State::Silent;
        words::line(words::refusal(refusal), out);
    }

    fn next(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step, Violation> {
        loop {
            let bound = match &self.state {
                State::Deciding(_) | State::DecidingMail | State::Silent => return Ok(Step::More),
                _ if out.len() > MAX_ANSWERS => return Ok(Step::More),
                State::Response(_) => MAX_SASL,
                // RFC 4954 section 4: the bound of a response counts for the initial one in the command too.
                _ if input.len() >= 4 && input[..4].eq_ignore_ascii_case(b"AUTH") => MAX_SASL,
                State::Command | State::MailAnswered => MAX_COMMAND,
            };
            if !self.heard && !self.tls_active && begins_like_tls(input)? {
                return Ok(Step::More);
            }
            let held = input.len();
            let line = self.lines.next(input, bound);
            // Also where a line past its bound was thrown away before its end: the next bytes are not the first.
            self.heard |= input.len() != held;
            let Some(line) = line else { return Ok(Step::More) };
            let step = match (line, std::mem::replace(&mut self.state, State::Command)) {
                (_, State::MailAnswered) => None,
                (Line::TooLong, state) => Some(self.too_long(state, out)?),
                (Line::Whole { mut bytes, bare_lf }, State::Response(exchange)) => {
                    let step = self.response(exchange, &bytes, bare_lf, out)?;
                    bytes.zeroize();
                    Some(step)
                }
                (Line::Whole { bytes, bare_lf }, _) => self.command(bytes, bare_lf, input, out)?,
            };
            match step {
                None | Some(Step::More) => {}
                Some(step) => return Ok(step),
            }
        }
    }

    fn answer(&mut self, answer: Answer<'_>, out: &mut BytesMut) {
        let (state, exchange) = match std::mem::replace(&mut self.state, State::Silent) {
            State::Deciding(exchange) => (State::Command, Some(exchange)),
            State::DecidingMail | State::MailAnswered => (State::MailAnswered, None),
            state => (state, None),
        };
        let about_mail = matches!(state, State::MailAnswered);
        let worded;
        let (text, state) = match (answer, exchange) {
            (Answer::Challenge(challenge), Some(exchange)) => {
                self.state = State::Response(exchange);
                return challenge_line(challenge, out);
            }
            // A stranger's MAIL that may go on, too: it is the follower's to answer.
            (Answer::Accepted(_), None) => return,
            (Answer::Accepted(_), Some(_)) => (words::LOGGED_IN, State::Silent),
            (Answer::Rejected(_), _) => (words::WRONG_PASSWORD, state),
            (Answer::Worded { reply, is_temporary }, _) => {
                worded = words::worded(reply, is_temporary);
                (worded.as_str(), state)
            }
            (Answer::Unavailable(_) | Answer::Challenge(_), _) if about_mail => (words::MAIL_UNAVAILABLE, state),
            (Answer::Unavailable(_) | Answer::Challenge(_), _) => (words::LOGIN_UNAVAILABLE, state),
            (Answer::Refused(refusal), _) => (words::refusal(refusal), state),
            (Answer::Goodbye(goodbye), _) => (words::goodbye(goodbye), State::Silent),
        };
        // After a goodbye (RFC 5321 section 3.8) nothing pipelined may still be answered.
        self.state = if text.starts_with("421") { State::Silent } else { state };
        words::line(text, out);
    }

    fn secured(&mut self, capabilities: &Arc<Capabilities>) {
        self.capabilities = Arc::clone(capabilities);
        self.lines.reset();
        self.tls_active = true;
        self.state = State::Command;
        self.helo = None;
        self.origin = None;
    }

    fn helo(&self) -> Option<&str> {
        self.helo.as_deref()
    }
}

impl SmtpFront {
    /// `None`: answered, or nothing to answer.
    fn command(
        &mut self,
        mut line: BytesMut,
        bare_lf: bool,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<Step>, Violation> {
        let (verb, argument) = Verb::split(&line);
        if verb == Verb::Http {
            return Err(Violation::Http);
        }
        if check(&line, bare_lf).is_err() {
            return self.complain(words::BAD_LINE_END, out).map(Some);
        }
        let starttls_first = !self.tls_active
            && self.settings.service == Service::Submission
            && self.settings.tls == TlsRule::StartTls
            && !matches!(
                verb,
                Verb::Noop | Verb::Ehlo | Verb::Helo | Verb::Rset | Verb::StartTls | Verb::Quit | Verb::Auth
            );
        if starttls_first {
            return self.complain(words::STARTTLS_FIRST, out).map(Some);
        }
        let text = match verb {
            Verb::Ehlo | Verb::Helo => return self.hello(verb, argument, out).map(Some),
            Verb::Noop | Verb::Rset => words::OK,
            Verb::Help => words::HELP,
            Verb::Vrfy => words::CANNOT_VERIFY,
            Verb::Quit => {
                words::line(words::BYE, out);
                self.state = State::Silent;
                return Ok(Some(Step::Leave));
            }
            Verb::StartTls => return self.starttls(argument, input, out).map(Some),
            Verb::Auth => {
                let step = self.auth(argument, out);
                line.zeroize();
                return step.map(Some);
            }
            Verb::Mail if self.settings.service == Service::Smtp || self.settings.may_be_granted => {
                return self.mail(line, input, out).map(Some);
            }
            Verb::NotForYou if self.settings.believes_origin && is_xclient(&line) => {
                return self.xclient(argument, out).map(Some);
            }
            verb => return self.complain(self.refusal_of(verb), out).map(Some),
        };
        words::line(text, out);
        Ok(None)
    }

    /// What is said to a command that is not for anybody, or not before a login.
    fn refusal_of(&self, verb: Verb) -> &'static str {
        match (verb, self.settings.service) {
            (Verb::Mail | Verb::Rcpt | Verb::Data, Service::Submission) => words::LOGIN_FIRST,
            (Verb::Mail | Verb::Rcpt | Verb::Data, _) => words::MAIL_FIRST,
            (Verb::NotHere, _) => words::NO_SUCH_COMMAND,
            (Verb::NotForYou, _) => words::NOT_FOR_YOU,
            _ => words::NO_COMMAND,
        }
    }

    fn hello(&mut self, verb: Verb, argument: &[u8], out: &mut BytesMut) -> Result<Step, Violation> {
        let Some(name) = client_name(argument) else { return self.complain(words::BAD_NAME, out) };
        self.hellos += 1;
        if self.hellos > MAX_HELLOS {
            return self.complain(words::TOO_MANY_HELLOS, out);
        }
        self.helo = Some(name);
        let mut extensions = Vec::new();
        if verb == Verb::Ehlo {
            extensions = shown_extensions(&self.capabilities, self.settings.max_message);
            if self.settings.tls.offers_upgrade() && !self.tls_active {
                extensions.push("STARTTLS".to_owned());
            }
            if self.settings.believes_origin {
                extensions.push("XCLIENT ADDR".to_owned());
            }
            let mechanisms = self.capabilities.shown(&self.settings, self.tls_active);
            if !mechanisms.is_empty() {
                let names: Vec<&str> = mechanisms.iter().map(Mechanism::as_str).collect();
                extensions.push(format!("AUTH {}", names.join(" ")));
            }
        }
        words::extensions(&self.settings.hostname, &extensions, out);
        Ok(Step::More)
    }

    /// A webmail says whom it speaks for. As Postfix has it, the session begins anew with a greeting.
    fn xclient(&mut self, attributes: &[u8], out: &mut BytesMut) -> Result<Step, Violation> {
        match origin::of_xclient(attributes) {
            Ok(origin) => {
                self.origin = origin;
                self.helo = None;
                words::line(&format!("220 {} ESMTP", self.settings.hostname), out);
                Ok(Step::More)
            }
            Err(()) => self.complain(words::BAD_ARGUMENT, out),
        }
    }

    fn starttls(&mut self, argument: &[u8], input: &BytesMut, out: &mut BytesMut) -> Result<Step, Violation> {
        if self.tls_active {
            return self.complain(words::TLS_ALREADY, out);
        }
        if !self.settings.tls.offers_upgrade() {
            return self.complain(words::NO_SUCH_COMMAND, out);
        }
        if !argument.is_empty() {
            return self.complain(words::NO_ARGUMENT_HERE, out);
        }
        self.state = State::Silent;
        if !input.is_empty() {
            return Err(Violation::PipelinedStartTls);
        }
        words::line(words::GO_AHEAD_FOR_TLS, out);
        Ok(Step::StartTls)
    }

    /// A stranger's MAIL: reported with its line put back, so that the follower reads the session from there. One that
    /// cannot be read is answered here, without a backend being dialled for it. Each counts as an error, since it comes
    /// again only if it was refused: a client that never takes no for an answer would have us dial without end.
    fn mail(&mut self, line: BytesMut, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step, Violation> {
        if self.helo.is_none() {
            return self.complain(words::HELLO_FIRST, out);
        }
        let (_, argument) = Verb::split(&line);
        match Mail::parse(argument) {
            Err(Flaw::Path) => self.complain(words::BAD_SENDER, out),
            Err(Flaw::Parameter) => self.complain(words::BAD_ARGUMENT, out),
            Ok(Mail { from: Some(from), .. }) if from.is_no_mailbox() => self.complain(words::BAD_SENDER, out),
            Ok(_) if self.errors >= MAX_ERRORS => self.complain(words::MAIL_UNAVAILABLE, out),
            Ok(_) => {
                self.errors += 1;
                let behind = std::mem::replace(input, line);
                input.extend_from_slice(b"\r\n");
                input.extend_from_slice(&behind);
                self.state = State::DecidingMail;
                Ok(Step::Mail)
            }
        }
    }

    /// A response past the bound ends its exchange as well.
    fn too_long(&mut self, state: State, out: &mut BytesMut) -> Result<Step, Violation> {
        self.long_lines += 1;
        if self.long_lines > MAX_LONG_LINES {
            self.state = State::Silent;
            words::line(words::TOO_MANY_LONG_LINES, out);
            return Err(Violation::TooLarge);
        }
        match state {
            State::Response(exchange) => {
                let step = Step::Denied { refusal: Refusal::TooLarge, mechanism: exchange.mechanism().clone() };
                self.deny(words::TOO_LONG, step, out)
            }
            _ => self.complain(words::TOO_LONG, out),
        }
    }

    fn complain(&mut self, text: &str, out: &mut BytesMut) -> Result<Step, Violation> {
        self.deny(text, Step::More, out)
    }

    /// Answers what is no command, malformed or out of place, and counts it.
    fn deny(&mut self, text: &str, step: Step, out: &mut BytesMut) -> Result<Step, Violation> {
        self.errors += 1;
        if self.errors > MAX_ERRORS {
            self.state = State::Silent;
            words::line(words::TOO_MANY_ERRORS, out);
            return Err(Violation::TooManyErrors);
        }
        words::line(text, out);
        Ok(step)
    }
}

fn is_xclient(line: &[u8]) -> bool {
    line.get(..7).is_some_and(|verb| verb.eq_ignore_ascii_case(b"XCLIENT"))
}

/// Whether the first bytes could be a TLS record: one that is, is an error, and a single byte cannot tell yet.
fn begins_like_tls(input: &[u8]) -> Result<bool, Violation> {
    match input {
        [0x16] => Ok(true),
        [0x16, 3, ..] => Err(Violation::TlsOnPlaintextPort),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests;
