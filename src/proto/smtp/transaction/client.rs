//! The client's side: commands, and the message.

use super::super::capability::offers;
use super::super::command::{Flaw, Mail, Parameters, Rcpt, Verb, client_name};
use super::super::data::{DataScanner, Scan};
use super::super::path::Address;
use super::super::words;
use super::{
    Due, MAX_OUTSTANDING, MAX_RECIPIENTS, MAX_UNANSWERED, Over, Phase, Progress, Question, Recipients, Refused, Stage,
    Transaction,
};
use crate::proto::line::{Line, MAX_COMMAND, check};
use crate::proto::{MAX_ERRORS, Refusal, Violation};
use bytes::BytesMut;

/// The longest MAIL or RCPT for a backend, without its line end: what RFC 5321 and all the extensions shown may need.
/// An old server with a shorter buffer than the line it is sent could take the rest of it for another command.
const MAX_ENVELOPE_LINE: usize = 2048;
/// Lines past the bound that are answered; the next one ends the session.
const MAX_LONG_LINES: u32 = 2;

impl Transaction {
    /// Takes what the client sent, as far as its turn goes.
    pub fn client(&mut self, input: &mut BytesMut, to_backend: &mut BytesMut, to_client: &mut BytesMut) -> Progress {
        loop {
            if let Some(over) = self.over() {
                return over;
            }
            // Answers of ours to small commands are written before there are more of them.
            if to_client.len() > MAX_UNANSWERED {
                return Progress::More;
            }
            let progress = match std::mem::replace(&mut self.phase, Phase::Commands) {
                Phase::Commands if self.takes_commands() => match self.lines.next(input, MAX_COMMAND) {
                    Some(line) => self.line(line, to_backend, to_client),
                    None => Some(Progress::More),
                },
                Phase::Data(scanner) => self.data(scanner, input, to_backend),
                Phase::Dropping(scanner, answer, ending) => self.dropping(scanner, answer, ending, input, to_client),
                Phase::Redialling(mail, false) => {
                    self.phase = Phase::Redialling(mail, true);
                    Some(Progress::Redial)
                }
                phase => {
                    self.phase = phase;
                    Some(Progress::More)
                }
            };
            if let Some(progress) = progress {
                return progress;
            }
        }
    }

    fn takes_commands(&self) -> bool {
        self.ending.is_none()
            && (self.due.is_empty()
                || !self.hold && self.due.len() < MAX_OUTSTANDING && self.unanswered < MAX_UNANSWERED)
    }

    /// `None`: answered or forwarded.
    fn line(&mut self, line: Line, to_backend: &mut BytesMut, to_client: &mut BytesMut) -> Option<Progress> {
        let (bytes, bare_lf) = match line {
            Line::Whole { bytes, bare_lf } => (bytes, bare_lf),
            Line::TooLong => {
                self.too_long(to_client);
                return None;
            }
        };
        if check(&bytes, bare_lf).is_err() {
            self.complain(words::BAD_LINE_END, to_client);
            return None;
        }
        let (verb, argument) = Verb::split(&bytes);
        if self.is_worn_out() && verb != Verb::Quit {
            self.end_of_patience(to_client);
            return None;
        }
        if matches!(verb, Verb::Noop | Verb::Rset | Verb::Vrfy | Verb::Help | Verb::Ehlo | Verb::Helo) {
            self.fruitless += 1;
        }
        match verb {
            Verb::Mail => return self.mail(argument, to_client),
            Verb::Rcpt => return self.rcpt(argument, to_client),
            Verb::Ehlo | Verb::Helo => self.hello(verb, argument, to_backend, to_client),
            Verb::Data if !argument.is_empty() => self.complain(words::NO_ARGUMENT_HERE, to_client),
            Verb::Data if self.abandoned => self.complain(words::MAIL_FIRST, to_client),
            Verb::Data => {
                self.send(Due::Data, "DATA", to_backend);
                self.phase = Phase::DataAsked;
            }
            Verb::Noop | Verb::Rset if self.abandoned => self.say(words::OK, to_client),
            Verb::Noop => self.send(Due::Noop, "NOOP", to_backend),
            Verb::Rset => self.send(Due::Rset, "RSET", to_backend),
            Verb::Help => self.say(words::HELP, to_client),
            Verb::Vrfy => self.say(words::CANNOT_VERIFY, to_client),
            Verb::Quit => {
                if !self.abandoned {
                    words::line("QUIT", to_backend);
                }
                self.say(words::BYE, to_client);
                self.ending = Some(Over::Left);
            }
            Verb::StartTls => self.complain(words::NO_TLS_NOW, to_client),
            Verb::Auth => self.complain(words::NO_LOGIN_NOW, to_client),
            Verb::NotHere => self.complain(words::NO_SUCH_COMMAND, to_client),
            Verb::NotForYou => self.complain(words::NOT_FOR_YOU, to_client),
            Verb::Http | Verb::Unknown => self.complain(words::NO_COMMAND, to_client),
        }
        None
    }

    /// An EHLO resets (RFC 5321 section 4.1.4): the backend hears RSET, since it was greeted by us under our own terms.
    fn hello(&mut self, verb: Verb, argument: &[u8], to_backend: &mut BytesMut, to_client: &mut BytesMut) {
        let Some(name) = client_name(argument) else { return self.complain(words::BAD_NAME, to_client) };
        self.settings.helo = Some(name);
        let extensions = if verb == Verb::Ehlo { self.settings.extensions.as_slice() } else { &[] };
        let mut answer = BytesMut::new();
        words::extensions(&self.settings.hostname, extensions, &mut answer);
        if !self.abandoned {
            self.send(Due::Hello(answer), "RSET", to_backend);
        } else {
            // Without a backend nothing waits for a reply.
            to_client.extend_from_slice(&answer);
        }
    }

    fn mail(&mut self, argument: &[u8], to_client: &mut BytesMut) -> Option<Progress> {
        let flaw = match Mail::parse(argument) {
            Ok(mail) => match self.check_mail(&mail) {
                Ok(()) => {
                    let from = mail.from.clone();
                    self.phase = Phase::Asking(Question::Sender(mail));
                    return Some(Progress::Sender(from));
                }
                Err(words::TOO_LARGE) => {
                    self.fruitless += 1;
                    self.say(words::TOO_LARGE, to_client);
                    let (reason, reply) = (Some(Refusal::TooLarge), words::reply(words::TOO_LARGE));
                    return Some(Progress::Refused(Refused { stage: Stage::Sender, from: mail.from, reason, reply }));
                }
                Err(text) => text,
            },
            Err(Flaw::Path) => words::BAD_SENDER,
            Err(Flaw::Parameter) => words::BAD_ARGUMENT,
        };
        self.complain(flaw, to_client);
        None
    }

    fn rcpt(&mut self, argument: &[u8], to_client: &mut BytesMut) -> Option<Progress> {
        let flaw = match Rcpt::parse(argument) {
            _ if self.abandoned => words::MAIL_FIRST,
            Err(Flaw::Path) => words::BAD_RECIPIENT,
            Err(Flaw::Parameter) => words::BAD_ARGUMENT,
            Ok(rcpt) if !self.utf8 && !rcpt.to.is_ascii() => words::NEEDS_SMTPUTF8,
            Ok(rcpt) if self.is_relay(&rcpt) => {
                self.complain(words::RELAY_DENIED, to_client);
                return Some(Progress::Refused(Refused {
                    stage: Stage::Recipient(rcpt.to),
                    from: self.sender.clone(),
                    reason: Some(Refusal::RelayDenied),
                    reply: words::reply(words::RELAY_DENIED),
                }));
            }
            Ok(rcpt) if rcpt.to_line().len() > MAX_ENVELOPE_LINE => words::TOO_LONG,
            Ok(_) if self.is_full() => {
                self.fruitless += 1;
                self.say(words::TOO_MANY_RECIPIENTS, to_client);
                return None;
            }
            Ok(rcpt) => match self.check_parameters(&rcpt.parameters, extension_of_rcpt) {
                Ok(()) => {
                    let to = rcpt.to.clone();
                    self.phase = Phase::Asking(Question::Recipient(rcpt));
                    return Some(Progress::Recipient(to));
                }
                Err(text) => text,
            },
        };
        self.complain(flaw, to_client);
        None
    }

    fn is_relay(&self, rcpt: &Rcpt) -> bool {
        match &self.settings.recipients {
            Recipients::All => false,
            Recipients::Plain => !rcpt.to.is_plain(),
            Recipients::Only(domains) => !rcpt.to.is_for(domains),
        }
    }

    fn is_full(&self) -> bool {
        let taken = self.envelope.as_ref().map_or(0, |envelope| envelope.recipients);
        taken + self.due.iter().filter(|due| matches!(due, Due::Rcpt(_))).count() >= MAX_RECIPIENTS
    }

    fn check_mail(&self, mail: &Mail) -> Result<(), &'static str> {
        self.check_parameters(&mail.parameters, extension_of_mail)?;
        if self.is_stranger() && mail.from.as_ref().is_some_and(Address::is_no_mailbox) {
            return Err(words::BAD_SENDER);
        }
        if mail.to_line().len() > MAX_ENVELOPE_LINE {
            return Err(words::TOO_LONG);
        }
        for (keyword, value) in mail.parameters.iter() {
            match (keyword, value) {
                ("SIZE", Some(digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                    let max = self.settings.max_message;
                    // More digits than fit are more octets than fit.
                    if max > 0 && digits.parse::<u64>().map_or(true, |size| size > max) {
                        return Err(words::TOO_LARGE);
                    }
                }
                ("BODY", Some(body)) if body.eq_ignore_ascii_case("7BIT") || body.eq_ignore_ascii_case("8BITMIME") => {}
                // BINARYMIME belongs to BDAT (RFC 3030), which nobody was shown.
                ("BODY", Some(body)) if body.eq_ignore_ascii_case("BINARYMIME") => {
                    return Err(words::UNKNOWN_PARAMETER);
                }
                ("SIZE" | "BODY", _) | ("SMTPUTF8", Some(_)) => return Err(words::BAD_ARGUMENT),
                _ => {}
            }
        }
        let ascii = mail.from.as_ref().is_none_or(Address::is_ascii);
        if ascii || mail.parameters.has("SMTPUTF8") { Ok(()) } else { Err(words::NEEDS_SMTPUTF8) }
    }

    /// RFC 5321 section 4.1.1.11: a parameter of an extension that was not shown is 555.
    fn check_parameters(
        &self,
        parameters: &Parameters,
        extension: impl Fn(&str) -> Option<&'static str>,
    ) -> Result<(), &'static str> {
        let shown = |keyword| match extension(keyword) {
            Some("AUTH") => true,
            Some(extension) => offers(&self.settings.extensions, extension),
            None => false,
        };
        if parameters.iter().all(|(keyword, _)| shown(keyword)) { Ok(()) } else { Err(words::UNKNOWN_PARAMETER) }
    }

    fn data(&mut self, mut scanner: DataScanner, input: &mut BytesMut, to_backend: &mut BytesMut) -> Option<Progress> {
        let (refusal, text) = match scanner.scan(input, to_backend) {
            Scan::More => {
                self.phase = Phase::Data(scanner);
                return Some(Progress::More);
            }
            Scan::End => {
                self.due.push_back(Due::Message(scanner.size()));
                self.hold = true;
                self.phase = Phase::DataEnd;
                return Some(Progress::More);
            }
            Scan::Bare => (Refusal::BareNewline, words::BARE_NEWLINE),
            Scan::Nul => (Refusal::BadSyntax, words::HOLDS_NUL),
            Scan::TooLarge => (Refusal::TooLarge, words::TOO_LARGE),
        };
        let mut answer = BytesMut::new();
        words::line(text, &mut answer);
        Some(self.abandon(scanner, (Some(refusal), words::reply(text)), answer, None, to_backend))
    }

    fn dropping(
        &mut self,
        mut scanner: DataScanner,
        answer: BytesMut,
        ending: Option<Over>,
        input: &mut BytesMut,
        to_client: &mut BytesMut,
    ) -> Option<Progress> {
        // Nothing of a dropped message goes out.
        if scanner.scan(input, &mut BytesMut::new()) != Scan::End {
            self.phase = Phase::Dropping(scanner, answer, ending);
            return Some(Progress::More);
        }
        to_client.extend_from_slice(&answer);
        self.ending = ending;
        None
    }

    fn too_long(&mut self, to_client: &mut BytesMut) {
        self.long_lines += 1;
        if self.long_lines > MAX_LONG_LINES {
            self.say(words::TOO_MANY_LONG_LINES, to_client);
            self.ending = Some(Over::Violation(Violation::TooLarge));
        } else {
            self.complain(words::TOO_LONG, to_client);
        }
    }

    /// Answers what is no command, malformed or out of place, and counts it.
    pub(super) fn complain(&mut self, text: &str, to_client: &mut BytesMut) {
        self.errors += 1;
        if self.is_worn_out() { self.end_of_patience(to_client) } else { self.say(text, to_client) }
    }

    /// A stranger may not keep a connection to the backend for nothing, nor ask it for names: no bound of a customer's.
    fn is_worn_out(&self) -> bool {
        let of_stranger = if self.is_stranger() { self.refused_recipients.max(self.fruitless) } else { 0 };
        self.errors.max(of_stranger) > MAX_ERRORS
    }

    fn end_of_patience(&mut self, to_client: &mut BytesMut) {
        self.say(words::TOO_MANY_ERRORS, to_client);
        self.ending = Some(Over::Violation(Violation::TooManyErrors));
    }
}

/// The extension a parameter of MAIL belongs to; `AUTH`, which is dropped, goes without.
fn extension_of_mail(keyword: &str) -> Option<&'static str> {
    Some(match keyword {
        "AUTH" => "AUTH",
        "SIZE" => "SIZE",
        "BODY" => "8BITMIME",
        "SMTPUTF8" => "SMTPUTF8",
        "RET" | "ENVID" => "DSN",
        "BY" => "DELIVERBY",
        "MT-PRIORITY" => "MT-PRIORITY",
        "HOLDFOR" | "HOLDUNTIL" => "FUTURERELEASE",
        "SOLICIT" => "NO-SOLICITING",
        _ => return None,
    })
}

/// The extension a parameter of RCPT belongs to.
fn extension_of_rcpt(keyword: &str) -> Option<&'static str> {
    matches!(keyword, "NOTIFY" | "ORCPT").then_some("DSN")
}
