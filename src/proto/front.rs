//! The server half of a dialogue, towards the client: what it is told, what it reports, how it is answered.

use super::{Capabilities, Login, Mechanism, Mechanisms, Protocol, Refusal, Reply, Secret, Service, TlsRule};
use bytes::BytesMut;
use core::net::IpAddr;
use std::sync::Arc;

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
    /// SMTP: an address may have the right to send without a login, so MAIL without one is reported ([`Step::Mail`]) where
    /// it would be refused.
    pub may_be_granted: bool,
    /// The client logs in for others, and what it says of their addresses is believed ([`Front::origin`]).
    pub believes_origin: bool,
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
    /// A service that was asked says no, in words of its own that the client is to hear; its code goes before them on SMTP.
    Worded {
        /// Its words.
        reply: &'a Reply,
        /// It is "not now", and no verdict on the credentials.
        is_temporary: bool,
    },
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

/// Answers past this many octets are written before the next command is looked at, so that small commands with large
/// answers (CAPABILITY, EHLO) cannot pile them up.
pub const MAX_ANSWERS: usize = 2 * 1024;

/// Our server half: it owns the dialogue with the client until a login succeeds.
///
/// The engine owns both buffers. It calls [`next`](Front::next) until it says [`Step::More`], writing
/// `out` while it waits for input. A front that returned [`Step::Login`], [`Step::Mail`] or
/// [`Step::Respond`] is not asked again before [`answer`](Front::answer); what the client pipelined
/// stays in `input`.
pub trait Front: Send + Sync {
    /// The address of whom the client says it speaks for, last said, where that is believed.
    fn origin(&self) -> Option<IpAddr> {
        None
    }

    /// Writes the greeting. `capabilities` are the backend's, live or remembered.
    fn greet(&mut self, capabilities: &Arc<Capabilities>, out: &mut BytesMut);
    /// Writes what a client hears instead of a greeting.
    fn turn_away(&mut self, refusal: Refusal, out: &mut BytesMut);
    /// Takes commands out of `input`, up to one that wants a decision. Consumes nothing of a command that has not come
    /// whole, and holds no more than the bound of one line and its literals. It may say [`Step::More`] with commands
    /// left in `input` once [`MAX_ANSWERS`] are to be written.
    ///
    /// # Errors
    /// A [`Violation`] ends the connection; `out` holds the last words.
    fn next(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Step, Violation>;
    /// Writes the answer to what was reported last.
    fn answer(&mut self, answer: Answer<'_>, out: &mut BytesMut);
    /// TLS is up after [`Step::StartTls`]: everything heard in the clear is forgotten (RFC 3207 section 4.2,
    /// RFC 2595 sections 3.1 and 4), STARTTLS is not offered again. Nothing is written: there is no second greeting.
    fn secured(&mut self, capabilities: &Arc<Capabilities>);
    /// SMTP: the name in the client's HELO or EHLO, if there was one since the last reset.
    fn helo(&self) -> Option<&str> {
        None
    }
}
