//! The events of the contract's section 3, field by field.

mod fields;

use crate::policy::Spoken;
use crate::proto::{Mechanism, Service};
pub(super) use fields::safe;
use serde::ser::{Serialize, Serializer};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::Level;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The backend said yes.
    AuthOk,
    /// The backend said no: a verdict on credentials.
    AuthFailed,
    /// We said no.
    AuthRefused,
    /// The backend is not there, or says "not now".
    AuthError,
    /// A connection that came past its TLS handshake has ended; exactly one for each. (A handshake that failed on an
    /// implicit port is one `tls.failed` and nothing more; a load balancer's check that says nothing there is not even that.)
    SessionClosed,
    /// A connection was not let in.
    ConnectionRefused,
    /// A handshake failed.
    TlsFailed,
    /// The backend took a message.
    MessageAccepted,
    /// A message was refused, by us or by the backend.
    MessageRefused,
    /// An address is banned from now on.
    BanAdded,
    /// A ban is over.
    BanExpired,
    /// A backend server answers.
    BackendUp,
    /// A backend server does not answer.
    BackendDown,
    /// A certificate is served from now on.
    CertificateLoaded,
    /// A changed certificate is not fit to be served; the old one goes on.
    CertificateRefused,
    /// A certificate nears its end.
    CertificateExpiring,
    /// A new configuration runs.
    ConfigReloaded,
    /// A new configuration was refused; the old one goes on.
    ConfigRefused,
    /// Many users come from this host's own default gateway: limits by address cannot tell them apart.
    ClientsHiddenByNat,
}

impl Kind {
    /// The contract's `event`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::AuthOk => "auth.ok",
            Kind::AuthFailed => "auth.failed",
            Kind::AuthRefused => "auth.refused",
            Kind::AuthError => "auth.error",
            Kind::SessionClosed => "session.closed",
            Kind::ConnectionRefused => "connection.refused",
            Kind::TlsFailed => "tls.failed",
            Kind::MessageAccepted => "message.accepted",
            Kind::MessageRefused => "message.refused",
            Kind::BanAdded => "ban.added",
            Kind::BanExpired => "ban.expired",
            Kind::BackendUp => "backend.up",
            Kind::BackendDown => "backend.down",
            Kind::CertificateLoaded => "certificate.loaded",
            Kind::CertificateRefused => "certificate.refused",
            Kind::CertificateExpiring => "certificate.expiring",
            Kind::ConfigReloaded => "config.reloaded",
            Kind::ConfigRefused => "config.refused",
            Kind::ClientsHiddenByNat => "clients_hidden_by_nat",
        }
    }

    /// How loud it is: errors want a person, warnings a look, the rest is the record.
    pub fn level(self) -> Level {
        match self {
            Kind::BackendDown | Kind::CertificateRefused | Kind::ConfigRefused => Level::ERROR,
            Kind::AuthFailed
            | Kind::AuthRefused
            | Kind::AuthError
            | Kind::ConnectionRefused
            | Kind::TlsFailed
            | Kind::MessageRefused
            | Kind::BanAdded
            | Kind::CertificateExpiring
            | Kind::ClientsHiddenByNat => Level::WARN,
            Kind::AuthOk
            | Kind::SessionClosed
            | Kind::MessageAccepted
            | Kind::BanExpired
            | Kind::BackendUp
            | Kind::CertificateLoaded
            | Kind::ConfigReloaded => Level::INFO,
        }
    }

    /// Whether the auth log has it.
    pub fn is_auth(self) -> bool {
        matches!(self, Kind::AuthOk | Kind::AuthFailed | Kind::AuthRefused | Kind::AuthError)
    }
}

/// One event. Fields that do not apply are `None` and not written, but for `tls`, which says null on a session's events in the clear.
///
/// Names from the network must be escaped before they come in here ([`crate::proto::UserName::display`],
/// [`crate::proto::line::printable`]). No field can hold a password, a challenge or a response.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are the contract's section 3 and documented there")]
pub struct Event {
    pub event: Kind,
    pub session: Option<SessionId>,
    pub listener: Option<String>,
    pub protocol: Option<Spoken<Service>>,
    pub client_ip: Option<IpAddr>,
    pub client_port: Option<u16>,
    /// The load balancer's, where its PROXY header said who the client is.
    pub proxy_ip: Option<IpAddr>,
    pub tls: Option<Arc<TlsFacts>>,
    pub user: Option<String>,
    pub login: Option<String>,
    pub mechanism: Option<Mechanism>,
    pub backend: Option<String>,
    pub server: Option<String>,
    pub reason: Option<String>,
    pub reply: Option<String>,
    /// Free text of ours: what exactly is wrong and what to do. Never a client's words.
    pub detail: Option<String>,
    /// On `auth.*` without `failure_delay`; on `session.closed` since the connection was taken.
    pub duration: Option<Duration>,
    pub bytes_in: Option<u64>,
    pub bytes_out: Option<u64>,
    pub messages: Option<u64>,
    pub recipients: Option<u64>,
    pub from: Option<String>,
    pub size: Option<u64>,
    /// How many alike this one line stands for, where a flood was summed.
    pub count: Option<u64>,
}

/// A session's name in events: unique over restarts, sortable by time, 16 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What was negotiated.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are the contract's section 3 and documented there")]
pub struct TlsFacts {
    pub version: &'static str,
    pub cipher: &'static str,
    pub group: Option<&'static str>,
    pub sni: Option<String>,
    pub alpn: Option<String>,
    pub resumed: bool,
    /// Where the client has shown a certificate, and it was found good.
    pub client: Option<Box<Client>>,
}

/// Whom a client has proved to be by its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The name in it; none where there is none, or none that could be one.
    pub name: Option<String>,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

impl Event {
    /// An event with nothing but its kind.
    pub fn new(event: Kind) -> Self {
        Self {
            event,
            session: None,
            listener: None,
            protocol: None,
            client_ip: None,
            client_port: None,
            proxy_ip: None,
            tls: None,
            user: None,
            login: None,
            mechanism: None,
            backend: None,
            server: None,
            reason: None,
            reply: None,
            detail: None,
            duration: None,
            bytes_in: None,
            bytes_out: None,
            messages: None,
            recipients: None,
            from: None,
            size: None,
            count: None,
        }
    }
}

#[cfg(test)]
mod tests;
