//! The events of the contract's section 3, field by field.

use crate::proto::{Mechanism, Service};
use serde::Serialize;
use std::net::IpAddr;
use std::time::Duration;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Kind {
    /// The backend said yes.
    #[serde(rename = "auth.ok")]
    AuthOk,
    /// The backend said no: a verdict on credentials.
    #[serde(rename = "auth.failed")]
    AuthFailed,
    /// We said no.
    #[serde(rename = "auth.refused")]
    AuthRefused,
    /// The backend is not there, or says "not now".
    #[serde(rename = "auth.error")]
    AuthError,
    /// A connection that was let in has ended; exactly one for each.
    #[serde(rename = "session.closed")]
    SessionClosed,
    /// A connection was not let in.
    #[serde(rename = "connection.refused")]
    ConnectionRefused,
    /// A handshake failed.
    #[serde(rename = "tls.failed")]
    TlsFailed,
    /// The backend took a message.
    #[serde(rename = "message.accepted")]
    MessageAccepted,
    /// A message was refused, by us or by the backend.
    #[serde(rename = "message.refused")]
    MessageRefused,
    /// An address is banned from now on.
    #[serde(rename = "ban.added")]
    BanAdded,
    /// A ban is over.
    #[serde(rename = "ban.expired")]
    BanExpired,
    /// A backend server answers.
    #[serde(rename = "backend.up")]
    BackendUp,
    /// A backend server does not answer.
    #[serde(rename = "backend.down")]
    BackendDown,
    /// A certificate is served from now on.
    #[serde(rename = "certificate.loaded")]
    CertificateLoaded,
    /// A changed certificate is not fit to be served; the old one goes on.
    #[serde(rename = "certificate.refused")]
    CertificateRefused,
    /// A certificate nears its end.
    #[serde(rename = "certificate.expiring")]
    CertificateExpiring,
    /// A new configuration runs.
    #[serde(rename = "config.reloaded")]
    ConfigReloaded,
    /// A new configuration was refused; the old one goes on.
    #[serde(rename = "config.refused")]
    ConfigRefused,
}

/// One event. Fields that do not apply are `None` and not written, but for `tls`, which says null on a session's events in the clear.
///
/// Names from the network must be escaped before they come in here ([`crate::proto::UserName::display`],
/// [`crate::proto::line::printable`]). No field can hold a password, a challenge or a response.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the fields are the contract's section 3 and documented there")]
pub struct Event {
    pub event: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "service_name")]
    pub protocol: Option<Service>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_port: Option<u16>,
    pub tls: Option<TlsFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "mechanism_name")]
    pub mechanism: Option<Mechanism>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// Free text of ours: what exactly is wrong and what to do. Never a client's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(rename = "duration_ms", skip_serializing_if = "Option::is_none", serialize_with = "milliseconds")]
    pub duration: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipients: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
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
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What was negotiated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are the contract's section 3 and documented there")]
pub struct TlsFacts {
    pub version: &'static str,
    pub cipher: String,
    pub group: Option<String>,
    pub sni: Option<String>,
    pub alpn: Option<String>,
    pub resumed: bool,
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
        }
    }
}

#[expect(clippy::ref_option, reason = "serde hands the field over like this")]
fn service_name<S: serde::Serializer>(service: &Option<Service>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(service.map_or("", Service::as_str))
}

#[expect(clippy::ref_option, reason = "serde hands the field over like this")]
fn mechanism_name<S: serde::Serializer>(mechanism: &Option<Mechanism>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(mechanism.as_ref().map_or("", Mechanism::as_str))
}

#[expect(clippy::ref_option, reason = "serde hands the field over like this")]
fn milliseconds<S: serde::Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
}
