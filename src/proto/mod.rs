//! The mail protocols, sans-IO: bytes in, steps out. No socket, no clock, no file, no task.
//!
//! Towards the client we are a server: a [`Front`] greets, answers everything that may be said
//! before a login, and reports what wants a decision as a [`Step`]. Towards the backend we are a
//! client: a [`Back`] takes the greeting, learns the capabilities and logs in. One engine
//! (`session::login`) drives any pair of them and never spells a protocol word; every word of the
//! contract's section 5 is spelled here.
//!
//! What is the same in all three dialogues lives beside them: [`mod@line`] cuts lines within a bound,
//! [`sasl`] holds both sides of an authentication exchange, [`Secret`] keeps passwords from printing.

pub mod imap;
pub mod line;
pub mod pop3;
pub mod sasl;
mod secret;
pub mod smtp;

use bytes::BytesMut;
use std::fmt;

pub use sasl::{Credentials, Login, Mechanism, Mechanisms, UserName};
pub use secret::Secret;

/// A protocol as a backend speaks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// RFC 3501, RFC 9051.
    Imap,
    /// RFC 1939.
    Pop3,
    /// RFC 5321, and as submission RFC 6409.
    Smtp,
}

impl Protocol {
    /// The lower-case name: a metric label, a configuration key, the ALPN name (RFC 7301).
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Imap => "imap",
            Protocol::Pop3 => "pop3",
            Protocol::Smtp => "smtp",
        }
    }
}

/// What a listener offers. Submission and relay are the same protocol under different rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// Mailbox access, ports 143 and 993.
    Imap,
    /// Mailbox access, ports 110 and 995.
    Pop3,
    /// Mail from customers, ports 587 and 465: nothing before a login.
    Submission,
    /// Mail from strangers to us, port 25.
    Smtp,
}

impl Service {
    /// What its backend speaks.
    pub fn protocol(self) -> Protocol {
        match self {
            Service::Imap => Protocol::Imap,
            Service::Pop3 => Protocol::Pop3,
            Service::Submission | Service::Smtp => Protocol::Smtp,
        }
    }

    /// The name in configuration and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Service::Imap => "imap",
            Service::Pop3 => "pop3",
            Service::Submission => "submission",
            Service::Smtp => "smtp",
        }
    }
}

/// A listener's rule about TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsRule {
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// An upgrade is offered and no login is taken before it; on [`Service::Smtp`] it bars AUTH, never mail (RFC 3207 section 4).
    StartTls,
    /// An upgrade is offered; a login without it is taken too, within `auth.without_tls`.
    Optional,
    /// No TLS at all.
    Off,
}

impl TlsRule {
    /// The configuration's word.
    pub fn as_str(self) -> &'static str {
        match self {
            TlsRule::Implicit => "implicit",
            TlsRule::StartTls => "starttls",
            TlsRule::Optional => "optional",
            TlsRule::Off => "off",
        }
    }

    /// Whether the listener offers STARTTLS or STLS on a connection still in the clear.
    pub fn offers_upgrade(self) -> bool {
        matches!(self, TlsRule::StartTls | TlsRule::Optional)
    }
}

/// What a front half must know of the listener it stands on.
#[derive(Debug, Clone)]
pub struct FrontSettings {
    /// Our name in greetings.
    pub hostname: String,
    /// What the listener offers.
    pub service: Service,
    /// Its rule about TLS. Under `Implicit` TLS is up before the front is made.
    pub tls: TlsRule,
    /// `auth.mechanisms`.
    pub mechanisms: Mechanisms,
    /// `auth.without_tls`: the bound on mechanisms while an `Optional` listener's connection is in the clear.
    pub without_tls: Mechanisms,
    /// A route needs the user before the backend is chosen, so only PLAIN, LOGIN and USER are shown and taken.
    pub user_first: bool,
    /// `submission.max_size` in octets, shown as SIZE (RFC 1870) unless the backend's bound is lower.
    pub max_message: u64,
}

impl FrontSettings {
    /// Whether `mechanism` may be used now, whatever the backend offers.
    pub fn allows(&self, mechanism: &Mechanism, tls_active: bool) -> bool {
        let in_the_clear = !tls_active;
        !mechanism.is_forbidden()
            && (self.service.protocol() != Protocol::Smtp || mechanism.is_safe_on_smtp())
            && self.mechanisms.contains(mechanism)
            && !(in_the_clear && self.tls == TlsRule::StartTls)
            && !(in_the_clear && self.tls == TlsRule::Optional && !self.without_tls.contains(mechanism))
            && (!self.user_first || mechanism.names_the_user_first())
    }
}

/// What a backend says it can do, in its own words and order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// IMAP: atoms of CAPABILITY. POP3: lines of CAPA. SMTP: lines of the EHLO reply behind the first, without their code.
    /// Bounded by the `Back` that collected them: at most 128 lines of 512 octets.
    pub lines: Vec<String>,
    /// The SASL mechanisms it lists.
    pub mechanisms: Vec<Mechanism>,
    /// IMAP LOGIN (no LOGINDISABLED) or POP3 USER is open. Always false on SMTP.
    pub login_command: bool,
    /// POP3: the timestamp in the greeting, with its angle brackets (RFC 1939 section 7). It belongs to
    /// one connection; remembered capabilities keep it only as the sign that the backend has APOP.
    pub apop: Option<String>,
}

impl Capabilities {
    /// What may be claimed while nothing has been learnt of the backend: the protocol's minimum, and a login with a password.
    pub fn minimum(protocol: Protocol) -> Self {
        let (lines, mechanisms, login_command): (&[&str], _, _) = match protocol {
            Protocol::Imap => (&["IMAP4rev1"], vec![], true),
            Protocol::Pop3 => (&["USER", "UIDL", "TOP"], vec![], true),
            Protocol::Smtp => (&["8BITMIME"], vec![Mechanism::PLAIN, Mechanism::LOGIN], false),
        };
        Self { lines: lines.iter().map(ToString::to_string).collect(), mechanisms, login_command, apop: None }
    }

    /// Whether a line begins with this word (ASCII case ignored): `has("SIZE")` for `SIZE 1000`.
    pub fn has(&self, word: &str) -> bool {
        self.argument(word).is_some()
    }

    /// What follows the word on its line, if there is such a line: `""` where nothing does.
    pub fn argument(&self, word: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| {
            let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
            first.eq_ignore_ascii_case(word).then_some(rest)
        })
    }

    /// Whether some way is open to hand over a plain password: the login command, PLAIN or LOGIN.
    pub fn takes_passwords(&self) -> bool {
        self.login_command || self.offers(&Mechanism::PLAIN) || self.offers(&Mechanism::LOGIN)
    }

    /// Whether the backend lists the SASL mechanism.
    pub fn offers(&self, mechanism: &Mechanism) -> bool {
        self.mechanisms.contains(mechanism)
    }

    /// Whether a login by `mechanism` can be brought to this backend, translated where need be.
    pub fn can_take(&self, mechanism: &Mechanism) -> bool {
        if mechanism.names_the_user_first() {
            self.takes_passwords()
        } else if *mechanism == Mechanism::APOP {
            self.apop.is_some()
        } else {
            self.offers(mechanism)
        }
    }

    /// The SASL mechanisms to show a client, ours for passwords first and then the backend's in its order.
    pub fn shown(&self, settings: &FrontSettings, tls_active: bool) -> Vec<Mechanism> {
        let passwords = [Mechanism::PLAIN, Mechanism::LOGIN].into_iter().filter(|_| self.takes_passwords());
        let others = self.mechanisms.iter().filter(|m| !m.names_the_user_first()).cloned();
        passwords.chain(others).filter(|m| settings.allows(m, tls_active)).collect()
    }
}

/// A backend's answer, already made harmless: printable, one line, bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// IMAP and POP3: the response code without brackets (`UNAVAILABLE`, `IN-USE`), upper-cased.
    /// SMTP: code and enhanced code (`535 5.7.8`).
    pub code: Option<String>,
    /// The text behind the code: control bytes escaped, at most 512 octets. For the event; only where
    /// the contract passes a code on does it reach the client.
    pub text: String,
    /// IMAP: the capabilities in an `OK [CAPABILITY …]`, or untagged just before it.
    pub capabilities: Option<Vec<String>>,
}

impl Reply {
    /// Code and text as one line, for the event's `reply`.
    pub fn to_line(&self) -> String {
        match &self.code {
            Some(code) => format!("{code} {}", self.text).trim_end().to_owned(),
            None => self.text.clone(),
        }
    }
}

/// Why we said no. The log field, the metric label and the words the client hears are the same decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The address is not on the allow list.
    NotAllowed,
    /// The address is on the deny list.
    Denied,
    /// The address is banned.
    Banned,
    /// Too many connections or failed logins in a time.
    RateLimited,
    /// A bound on sessions is reached.
    TooManySessions,
    /// A login in the clear where TLS is required.
    TlsRequired,
    /// The mechanism is disabled, unknown, or the backend has nothing like it.
    MechanismDisabled,
    /// The sender is not the logged-in user's.
    SenderMismatch,
    /// A stranger may not send there.
    RelayDenied,
    /// Not a command, not base64, a forbidden byte.
    BadSyntax,
    /// Bytes stood behind STARTTLS.
    PipelinedStartTls,
    /// A bare CR or LF in message data.
    BareNewline,
    /// A line, a literal or a message past its bound.
    TooLarge,
    /// A deadline passed.
    Timeout,
    /// The client took the login back (`*`, RFC 4954 section 4).
    Cancelled,
    /// Too many unknown commands.
    TooManyErrors,
    /// A TLS handshake came on a plaintext port.
    TlsOnPlaintextPort,
}

impl Refusal {
    /// The contract's `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::NotAllowed => "not_allowed",
            Refusal::Denied => "denied",
            Refusal::Banned => "banned",
            Refusal::RateLimited => "rate_limited",
            Refusal::TooManySessions => "too_many_sessions",
            Refusal::TlsRequired => "tls_required",
            Refusal::MechanismDisabled => "mechanism_disabled",
            Refusal::SenderMismatch => "sender_mismatch",
            Refusal::RelayDenied => "relay_denied",
            Refusal::BadSyntax => "bad_syntax",
            Refusal::PipelinedStartTls => "pipelined_starttls",
            Refusal::BareNewline => "bare_newline",
            Refusal::TooLarge => "too_large",
            Refusal::Timeout => "timeout",
            Refusal::Cancelled => "cancelled",
            Refusal::TooManyErrors => "too_many_errors",
            Refusal::TlsOnPlaintextPort => "tls_on_plaintext_port",
        }
    }

    /// Whether the answer to a login carries the goodbye with it: who is barred would only hear the same again.
    pub fn ends_the_session(self) -> bool {
        matches!(
            self,
            Refusal::NotAllowed | Refusal::Denied | Refusal::Banned | Refusal::RateLimited | Refusal::TooManySessions
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why we end a connection that has done nothing wrong, or enough wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goodbye {
    /// `limits.auth_attempts_per_session` is reached. Follows the answer to the last attempt.
    TooManyAttempts,
    /// The login or idle time is over.
    Timeout,
    /// We are going down.
    ShuttingDown,
    /// The backend ended the session, or died.
    BackendLost,
}

/// Our answer to what a front half reported.
#[derive(Debug)]
pub enum Answer<'a> {
    /// The backend's challenge, decoded. The front encodes it for the wire.
    Challenge(&'a [u8]),
    /// The backend said yes.
    Accepted(&'a Reply),
    /// The backend said no to the credentials.
    Rejected(&'a Reply),
    /// We say no. With [`Refusal::Banned`] and the like a goodbye stands in the same write; the engine closes then.
    Refused(Refusal),
    /// No backend, or the backend says "not now": its code is passed on where the contract has it so.
    Unavailable(Option<&'a Reply>),
    /// The session ends after these words.
    Goodbye(Goodbye),
}

/// What a front half reports.
#[derive(Debug)]
pub enum Step {
    /// Nothing for the engine: write what is in `out`, wait for more.
    More,
    /// The go-ahead for TLS is in `out`, and nothing stands behind the command: flush, then speak TLS.
    StartTls,
    /// A login attempt. The front waits for [`Front::answer`].
    Login(Login),
    /// A response to a [`Answer::Challenge`].
    Respond(Secret<Vec<u8>>),
    /// The client took back the exchange with `*`; the front has answered it, nothing more is to be said.
    Cancelled,
    /// The front itself refused an attempt to log in, in words; for the record.
    Denied {
        /// Why.
        refusal: Refusal,
        /// How the client wanted to log in.
        mechanism: Mechanism,
    },
    /// [`Service::Smtp`]: a stranger begins a transaction. The MAIL line still stands in the input.
    Mail,
    /// The client said goodbye and `out` holds the answer: flush and close.
    Leave,
}

/// What a client did that ends its connection. `out` holds the goodbye, if the protocol has words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Bytes behind STARTTLS or STLS, in the same buffer (CVE-2011-0411).
    #[error("bytes behind STARTTLS")]
    PipelinedStartTls,
    /// A third line past the bound, or a non-synchronising literal past it.
    #[error("a command past its bound")]
    TooLarge,
    /// Too many commands that are none.
    #[error("too many commands that are none")]
    TooManyErrors,
    /// The first bytes are a TLS record on a port that begins in the clear.
    #[error(
        "a TLS handshake on a port that begins in the clear: the client wants implicit TLS, this port has STARTTLS"
    )]
    TlsOnPlaintextPort,
    /// The first bytes are an HTTP request.
    #[error("an HTTP request")]
    Http,
}

impl Violation {
    /// The reason for the event.
    pub fn refusal(self) -> Refusal {
        match self {
            Violation::PipelinedStartTls => Refusal::PipelinedStartTls,
            Violation::TooLarge => Refusal::TooLarge,
            Violation::TooManyErrors => Refusal::TooManyErrors,
            Violation::TlsOnPlaintextPort => Refusal::TlsOnPlaintextPort,
            Violation::Http => Refusal::BadSyntax,
        }
    }
}

/// The most commands before login that are none, malformed or out of place, before the connection is closed.
pub const MAX_ERRORS: u32 = 20;

/// Our server half: it owns the dialogue with the client until a login succeeds.
///
/// The engine owns both buffers. It calls [`next`](Front::next) until it says [`Step::More`], writing
/// `out` while it waits for input. A front that returned [`Step::Login`], [`Step::Mail`] or
/// [`Step::Respond`] is not asked again before [`answer`](Front::answer); what the client pipelined
/// stays in `input`.
pub trait Front: Send + Sync {
    /// Writes the greeting. `capabilities` are the backend's, live or remembered.
    fn greet(&mut self, capabilities: &Capabilities, out: &mut BytesMut);
    /// Writes what a client hears instead of a greeting.
    fn turn_away(&mut self, refusal: Refusal, out: &mut BytesMut);
    /// Takes the next command out of `input`. Consumes nothing of a command that has not come whole,
    /// and holds no more than the bound of one line and its literals.
    ///
    /// # Errors
    /// A [`Violation`] ends the connection; `out` holds the last words.
    fn next(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step, Violation>;
    /// Writes the answer to what was reported last.
    fn answer(&mut self, answer: Answer<'_>, out: &mut BytesMut);
    /// TLS is up after [`Step::StartTls`]: everything heard in the clear is forgotten (RFC 3207 section 4.2,
    /// RFC 2595 sections 3.1 and 4), STARTTLS is not offered again. Nothing is written: there is no second greeting.
    fn secured(&mut self, capabilities: &Capabilities);
    /// SMTP: the name in the client's HELO or EHLO, if there was one since the last reset.
    fn helo(&self) -> Option<&str> {
        None
    }
}

/// What a back half reports.
#[derive(Debug)]
pub enum BackStep {
    /// Write what is in `out`, wait for more.
    More,
    /// Greeting and capabilities are in: a login may be sent. Said once.
    Ready(Capabilities),
    /// A challenge for the client, decoded.
    Challenge(Vec<u8>),
    /// Logged in. Bytes left in `input` belong to the session.
    Accepted(Reply),
    /// A verdict on the credentials.
    Rejected(Reply),
    /// "Not now": no verdict, never counted.
    Unavailable(Reply),
}

/// What a backend did that ends its connection without a verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackFault {
    /// BYE, -ERR or 421/554 where a greeting is due, or BYE/421 later.
    #[error("the backend turned us away: {0}")]
    TurnedAway(String),
    /// An IMAP PREAUTH greeting: nobody gets a session without login.
    #[error("the backend greeted with PREAUTH")]
    Preauth,
    /// Not the protocol: HTTP, SSH, garbage.
    #[error("the backend does not speak {0}: {1}")]
    Garbage(&'static str, String),
    /// A line past 8 KiB, or more than 64 KiB before an answer was complete.
    #[error("the backend's answer is past its bound")]
    TooLarge,
    /// Bytes behind the greeting or behind an answer, where nothing was asked.
    #[error("the backend spoke without being asked")]
    Unsolicited,
    /// It lists no way to log in that this login could be brought to.
    #[error("the backend offers no way to take a login by {0}")]
    NoWayIn(String),
}

/// Our client half: it owns the dialogue with the backend until the verdict.
///
/// It never pipelines ahead of an answer: Courier and solid-pop3d lose what stands behind PASS.
pub trait Back: Send + Sync {
    /// Takes what the backend said. Until [`BackStep::Ready`] it reads the greeting and asks for the capabilities by itself.
    ///
    /// # Errors
    /// A [`BackFault`]: the connection is of no more use.
    fn next(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<BackStep, BackFault>;
    /// Sends a login, translated to what the backend offers. Only after `Ready` or after a verdict.
    ///
    /// # Errors
    /// [`BackFault::NoWayIn`]; nothing was written and the connection is as it was.
    fn login(&mut self, login: &Login, out: &mut BytesMut) -> Result<(), BackFault>;
    /// Sends the client's response to a challenge.
    fn respond(&mut self, response: &[u8], out: &mut BytesMut);
    /// Says goodbye (LOGOUT, QUIT), for a health check that wants to leave no trace.
    fn quit(&mut self, out: &mut BytesMut);
}

/// What a back half must know.
#[derive(Debug, Clone)]
pub struct BackSettings {
    /// SMTP: the name in our EHLO.
    pub ehlo: String,
    /// `backends.NAME.temporary_replies`, lower-cased: words in a code-less refusal that mean "not now".
    pub temporary_replies: std::sync::Arc<[String]>,
}

impl BackSettings {
    /// Whether a code-less refusal means "not now" by one of the configured words.
    pub fn is_temporary(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.temporary_replies.iter().any(|word| text.contains(word.as_str()))
    }
}

/// Makes the server half for a listener.
pub fn front(settings: FrontSettings) -> Box<dyn Front> {
    match settings.service {
        Service::Imap => Box::new(imap::ImapFront::new(settings)),
        Service::Pop3 => Box::new(pop3::Pop3Front::new(settings)),
        Service::Submission | Service::Smtp => Box::new(smtp::SmtpFront::new(settings)),
    }
}

/// Makes the client half for a backend.
pub fn back(protocol: Protocol, settings: BackSettings) -> Box<dyn Back> {
    match protocol {
        Protocol::Imap => Box::new(imap::ImapBack::new(settings)),
        Protocol::Pop3 => Box::new(pop3::Pop3Back::new(settings)),
        Protocol::Smtp => Box::new(smtp::SmtpBack::new(settings)),
    }
}

/// Writes the last words to a client that is logged in. POP3 has none there: an idle server closes without
/// a response (RFC 1939 section 3).
pub fn goodbye_after_login(protocol: Protocol, goodbye: Goodbye, out: &mut BytesMut) {
    match protocol {
        Protocol::Imap => imap::goodbye(goodbye, out),
        Protocol::Pop3 => {}
        Protocol::Smtp => smtp::goodbye(goodbye, out),
    }
}

/// The beginnings of the lines, the client's and the backend's, by which a session behind its login shows that it is
/// meant to end. On POP3 the backend's last answer looks like any other.
pub fn farewells(protocol: Protocol) -> (Option<&'static [u8]>, Option<&'static [u8]>) {
    match protocol {
        Protocol::Imap => (None, Some(b"* BYE")),
        Protocol::Pop3 => (Some(b"QUIT"), None),
        Protocol::Smtp => (None, Some(b"221")),
    }
}
