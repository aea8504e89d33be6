//! Why we say no.

use std::fmt;

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
    /// A stranger may not send at all.
    LoginRequired,
    /// A stranger may not send there.
    RelayDenied,
    /// Not a command, not base64, a forbidden byte, also in a message.
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
            Refusal::LoginRequired => "login_required",
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
