//! Our server half: greeting, CAPA, STLS and the ways to log in.

use super::command::{Command, Verb};
use super::{capability, words};
use crate::proto::line::{Line, LineReader, MAX_COMMAND, MAX_SASL, check};
use crate::proto::sasl::{Exchange, Outcome, encode};
use crate::proto::stranger::{First, first_bytes};
use crate::proto::{
    Answer, Capabilities, Credentials, Front, FrontSettings, Login, MAX_ANSWERS, MAX_ERRORS, Mechanism, Refusal,
    Secret, Step, TlsRule, UserName, Violation,
};
use bytes::{BufMut, BytesMut};
use std::sync::Arc;
use zeroize::Zeroize;

/// The most lists (CAPA, AUTH) a session asks for before asking counts as an error: six octets in are many out.
const MAX_LISTS: u32 = 10;
/// The line past the bound that ends the connection.
const MAX_OVERLONG: u32 = 3;

/// The server half of a POP3 session before its login (RFC 1939 section 4, RFC 2449, 2595, 5034).
#[derive(Debug)]
pub struct Pop3Front {
    settings: FrontSettings,
    /// The backend's. `apop` is the timestamp in our greeting, and `None` where we gave none.
    capabilities: Arc<Capabilities>,
    tls_active: bool,
    reader: LineReader,
    state: State,
    /// Nothing was taken of the stream since it began: what comes may not be POP3 at all.
    untouched: bool,
    errors: u32,
    overlong: u32,
    lists: u32,
}

#[derive(Debug)]
enum State {
    /// A command is due. The name is the last USER's; it waits for its PASS over other commands too.
    Command { user: Option<UserName> },
    /// A line of an exchange is due.
    Exchange(Exchange),
    /// The engine decides, and until then nothing is read.
    Verdict(Option<Exchange>),
}

impl Pop3Front {
    /// Makes the half for a connection. Under [`TlsRule::Implicit`] TLS is up already.
    pub fn new(settings: FrontSettings) -> Self {
        Self {
            tls_active: settings.tls == TlsRule::Implicit,
            settings,
            capabilities: Arc::default(),
            reader: LineReader::default(),
            state: State::Command { user: None },
            untouched: true,
            errors: 0,
            overlong: 0,
            lists: 0,
        }
    }
}

impl Front for Pop3Front {
    fn greet(&mut self, capabilities: &Arc<Capabilities>, out: &mut BytesMut) {
        self.capabilities = Arc::clone(capabilities);
        if !self.settings.allows(&Mechanism::APOP, self.tls_active) {
            self.show_no_timestamp();
        }
        let greeting = format!("{} ready {}", self.settings.hostname, self.capabilities.apop.as_deref().unwrap_or(""));
        words::ok(&greeting, out);
    }

    fn turn_away(&mut self, refusal: Refusal, out: &mut BytesMut) {
        words::err(words::refusal(refusal), out);
    }

    fn next(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step, Violation> {
        loop {
            if matches!(self.state, State::Verdict(_)) || out.len() > MAX_ANSWERS {
                return Ok(Step::More);
            }
            if self.untouched {
                match first_bytes(input, self.tls_active) {
                    First::Unclear => return Ok(Step::More),
                    First::Command => self.untouched = false,
                    First::Stranger(violation) => return Err(violation),
                }
            }
            let (held, bound) = (input.len(), self.bound(input));
            let line = self.reader.next(input, bound);
            // Also where a line past its bound was thrown away before its end: the next bytes are not the first.
            self.untouched &= input.len() == held;
            let Some(line) = line else { return Ok(Step::More) };
            let step = match line {
                Line::TooLong => self.too_long(out)?,
                Line::Whole { mut bytes, bare_lf } => {
                    let step = self.line(&bytes, bare_lf, !input.is_empty(), out);
                    // It may have held a password, and its memory goes on serving as the input's.
                    bytes[..].zeroize();
                    step?
                }
            };
            if !matches!(step, Step::More) {
                return Ok(step);
            }
        }
    }

    fn answer(&mut self, answer: Answer<'_>, out: &mut BytesMut) {
        let exchange = match std::mem::replace(&mut self.state, State::Command { user: None }) {
            State::Verdict(exchange) => exchange,
            other => {
                self.state = other;
                None
            }
        };
        match answer {
            Answer::Challenge(challenge) => {
                put_challenge(challenge, out);
                if let Some(exchange) = exchange {
                    self.state = State::Exchange(exchange);
                }
            }
            Answer::Accepted(reply) => words::accepted(reply, out),
            Answer::Rejected(reply) => words::rejected(reply, out),
            Answer::Worded { reply, is_temporary } => words::worded(reply, is_temporary, out),
            Answer::Refused(refusal) => words::err(words::refusal(refusal), out),
            Answer::Unavailable(reply) => words::unavailable(reply, out),
            Answer::Goodbye(goodbye) => {
                if let Some(text) = words::goodbye(goodbye) {
                    words::err(text, out);
                }
            }
        }
    }

    fn secured(&mut self, capabilities: &Arc<Capabilities>) {
        // A timestamp belongs to a greeting, and there is none after STLS (RFC 2595 section 4).
        self.capabilities = Arc::clone(capabilities);
        self.show_no_timestamp();
        self.tls_active = true;
        self.reader.reset();
        self.state = State::Command { user: None };
        self.untouched = true;
    }
}

impl Pop3Front {
    fn show_no_timestamp(&mut self) {
        if self.capabilities.apop.is_some() {
            Arc::make_mut(&mut self.capabilities).apop = None;
        }
    }

    /// How long the line may be that `input` begins with. An AUTH may bring its response along (RFC 5034 section 4).
    fn bound(&self, input: &[u8]) -> usize {
        let is_auth = || input.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"AUTH "));
        if matches!(self.state, State::Exchange(_)) || is_auth() { MAX_SASL } else { MAX_COMMAND }
    }

    fn line(&mut self, line: &[u8], bare_lf: bool, more: bool, out: &mut BytesMut) -> Result<Step, Violation> {
        let flawed = check(line, bare_lf).is_err();
        match std::mem::replace(&mut self.state, State::Command { user: None }) {
            State::Exchange(exchange) if flawed => self.deny(Refusal::BadSyntax, exchange.mechanism().clone(), out),
            State::Exchange(exchange) => self.exchange(exchange, |exchange| exchange.line(line), out),
            other => {
                self.state = other;
                self.command(&Command::parse(line), flawed, more, out)
            }
        }
    }

    fn command(
        &mut self,
        command: &Command<'_>,
        flawed: bool,
        more: bool,
        out: &mut BytesMut,
    ) -> Result<Step, Violation> {
        match command.verb {
            Verb::User | Verb::Pass | Verb::Apop | Verb::Auth => self.log_in(command, flawed, out),
            _ if flawed => self.object(words::refusal(Refusal::BadSyntax), out),
            Verb::Capa | Verb::Quit | Verb::Stls if !command.is_bare() => {
                self.object("This command takes no argument.", out)
            }
            Verb::Capa => self.list(out, |front, out| {
                capability::show(&front.capabilities, &front.settings, front.tls_active, out);
            }),
            Verb::Quit => {
                words::ok("Goodbye.", out);
                Ok(Step::Leave)
            }
            Verb::Stls if self.tls_active => self.object("TLS is active already.", out),
            Verb::Stls if !self.settings.tls.offers_upgrade() => self.object("TLS is not available here.", out),
            // What stands behind STLS was not said inside TLS, whoever said it (CVE-2011-0411): not a word more.
            Verb::Stls if more => Err(Violation::PipelinedStartTls),
            Verb::Stls => {
                words::ok("Begin TLS now.", out);
                Ok(Step::StartTls)
            }
            Verb::Mailbox => self.object("Log in first.", out),
            Verb::Language => self.object("Not available before login.", out),
            Verb::Unknown => self.object("Unknown command.", out),
        }
    }

    /// USER, PASS, APOP and AUTH. What must not be is refused before anything is read of it or asked for.
    fn log_in(&mut self, command: &Command<'_>, flawed: bool, out: &mut BytesMut) -> Result<Step, Violation> {
        let Some(mechanism) = command.mechanism() else { return self.auth_without_mechanism(command, flawed, out) };
        let is_login_command = mechanism == Mechanism::USER || mechanism == Mechanism::APOP;
        // Whatever comes of it, the name is used up: a PASS must never meet an older name than its client thinks.
        let user = match &mut self.state {
            State::Command { user } => user.take(),
            State::Exchange(_) | State::Verdict(_) => None,
        };
        if let Some(refusal) = self.bar(&mechanism) {
            return self.deny(refusal, mechanism, out);
        }
        if flawed {
            return self.deny(Refusal::BadSyntax, mechanism, out);
        }
        match command.verb {
            Verb::User => match command.argument.map(UserName::new) {
                Some(Ok(user)) => {
                    self.state = State::Command { user: Some(user) };
                    // Whoever it is: an -ERR would tell who has a mailbox (RFC 1939 section 13).
                    words::ok("Send your password.", out);
                    Ok(Step::More)
                }
                _ => self.object("USER takes a name.", out),
            },
            Verb::Pass => match (user, command.argument) {
                (None, _) => self.object("Say USER first.", out),
                (_, None) => self.object("PASS takes a password.", out),
                (Some(user), Some(password)) => match Login::password(mechanism, user.as_bytes(), password) {
                    Ok(login) => Ok(self.report(login, None)),
                    Err(_) => self.deny(Refusal::BadSyntax, Mechanism::USER, out),
                },
            },
            Verb::Apop => {
                let credentials = command.name_and_digest().and_then(|(name, digest)| {
                    Some(Credentials::Apop { user: UserName::new(name).ok()?, digest: Secret::from(digest) })
                });
                match credentials {
                    Some(credentials) => Ok(self.report(Login { mechanism, credentials }, None)),
                    None => self.deny(Refusal::BadSyntax, mechanism, out),
                }
            }
            // They are names of ours for logins that are no SASL.
            _ if is_login_command => self.deny(Refusal::MechanismDisabled, mechanism, out),
            _ => {
                let (exchange, outcome) = Exchange::begin(mechanism, command.initial_response());
                self.exchange(exchange, |_| outcome, out)
            }
        }
    }

    /// AUTH alone asks for the mechanisms, as clients did before CAPA.
    fn auth_without_mechanism(
        &mut self,
        command: &Command<'_>,
        flawed: bool,
        out: &mut BytesMut,
    ) -> Result<Step, Violation> {
        if self.settings.tls == TlsRule::StartTls && !self.tls_active {
            self.object(words::refusal(Refusal::TlsRequired), out)
        } else if flawed || !command.is_bare() {
            self.object(words::refusal(Refusal::BadSyntax), out)
        } else {
            self.list(out, |front, out| match front.capabilities.shown(&front.settings, front.tls_active).as_slice() {
                [] => words::err("No mechanism is offered here.", out),
                mechanisms => capability::show_mechanisms(mechanisms, out),
            })
        }
    }

    /// Why a mechanism may not be used now.
    fn bar(&self, mechanism: &Mechanism) -> Option<Refusal> {
        let allowed = |tls_active| self.settings.allows(mechanism, tls_active);
        if !self.tls_active && self.settings.tls == TlsRule::StartTls {
            Some(Refusal::TlsRequired)
        } else if !self.capabilities.can_take(mechanism) {
            Some(Refusal::MechanismDisabled)
        } else if allowed(self.tls_active) {
            None
        } else if self.settings.tls.offers_upgrade() && allowed(true) {
            Some(Refusal::TlsRequired)
        } else {
            Some(Refusal::MechanismDisabled)
        }
    }

    /// Goes on with an exchange by what its last turn came to.
    fn exchange(
        &mut self,
        mut exchange: Exchange,
        turn: impl FnOnce(&mut Exchange) -> Outcome,
        out: &mut BytesMut,
    ) -> Result<Step, Violation> {
        match turn(&mut exchange) {
            Outcome::Ask(challenge) => {
                put_challenge(challenge, out);
                self.state = State::Exchange(exchange);
                Ok(Step::More)
            }
            Outcome::Login(login) => Ok(self.report(login, Some(exchange))),
            Outcome::Respond(response) => {
                self.state = State::Verdict(Some(exchange));
                Ok(Step::Respond(response))
            }
            Outcome::Cancelled => {
                self.err(words::refusal(Refusal::Cancelled), out)?;
                Ok(Step::Cancelled)
            }
            Outcome::Bad => self.deny(Refusal::BadSyntax, exchange.mechanism().clone(), out),
        }
    }

    fn report(&mut self, login: Login, exchange: Option<Exchange>) -> Step {
        self.state = State::Verdict(exchange);
        Step::Login(login)
    }

    fn list(&mut self, out: &mut BytesMut, show: impl FnOnce(&Self, &mut BytesMut)) -> Result<Step, Violation> {
        self.lists += 1;
        if self.lists > MAX_LISTS {
            return self.object("Asked too often.", out);
        }
        show(self, out);
        Ok(Step::More)
    }

    fn too_long(&mut self, out: &mut BytesMut) -> Result<Step, Violation> {
        words::err(words::refusal(Refusal::TooLarge), out);
        self.overlong += 1;
        if self.overlong == MAX_OVERLONG {
            return Err(Violation::TooLarge);
        }
        match std::mem::replace(&mut self.state, State::Command { user: None }) {
            State::Exchange(exchange) => {
                Ok(Step::Denied { refusal: Refusal::TooLarge, mechanism: exchange.mechanism().clone() })
            }
            _ => Ok(Step::More),
        }
    }

    /// Refuses an attempt to log in, for the record.
    fn deny(&mut self, refusal: Refusal, mechanism: Mechanism, out: &mut BytesMut) -> Result<Step, Violation> {
        self.err(words::refusal(refusal), out)?;
        Ok(Step::Denied { refusal, mechanism })
    }

    /// Refuses a command that is none, malformed or out of place.
    fn object(&mut self, text: &str, out: &mut BytesMut) -> Result<Step, Violation> {
        self.err(text, out)?;
        Ok(Step::More)
    }

    /// Says `-ERR` and counts, so that no session goes on saying nothing.
    fn err(&mut self, text: &str, out: &mut BytesMut) -> Result<(), Violation> {
        self.errors += 1;
        if self.errors >= MAX_ERRORS {
            words::err(words::refusal(Refusal::TooManyErrors), out);
            return Err(Violation::TooManyErrors);
        }
        words::err(text, out);
        Ok(())
    }
}

/// RFC 5034 section 4: `+`, a space, and the challenge in base64, which may be empty.
fn put_challenge(challenge: &[u8], out: &mut BytesMut) {
    out.put_slice(b"+ ");
    encode(challenge, out);
    out.put_slice(b"\r\n");
}
