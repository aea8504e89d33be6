//! What is no mail: TLS ends here, and the bytes go on as they are.

use super::access::{Access, AddressSet};
use super::{Backend, ClientCertificate};
use crate::proto::{Protocol, Service};
use std::net::SocketAddr;
use std::sync::Arc;

/// What is spoken at a listener (`Spoken<Service>`) or with a server (`Spoken<Protocol>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Spoken<P> {
    /// A mail protocol, which has a dialogue in [`crate::proto`].
    Mail(P),
    /// Whatever client and server agree on: bytes over TCP.
    Tcp,
}

impl<P> From<P> for Spoken<P> {
    fn from(mail: P) -> Self {
        Spoken::Mail(mail)
    }
}

impl<P> Spoken<P> {
    /// The mail protocol, if it is one.
    pub fn mail(self) -> Option<P> {
        match self {
            Spoken::Mail(mail) => Some(mail),
            Spoken::Tcp => None,
        }
    }
}

impl Spoken<Protocol> {
    /// The lower-case name: a metric label and a configuration key.
    pub fn as_str(self) -> &'static str {
        self.mail().map_or("tcp", Protocol::as_str)
    }
}

impl Spoken<Service> {
    /// The name in configuration and events.
    pub fn as_str(self) -> &'static str {
        self.mail().map_or("tcp", Service::as_str)
    }

    /// What is spoken with the server behind.
    pub fn protocol(self) -> Spoken<Protocol> {
        self.mail().map_or(Spoken::Tcp, |service| service.protocol().into())
    }
}

/// A listener with `protocol: tcp`, perhaps on several addresses: as stunnel, for what is no mail.
#[derive(Debug)]
pub struct TunnelListener {
    /// Its key in the configuration: the metric label.
    pub name: String,
    /// Where it listens. `[::]` takes IPv4 too.
    pub addresses: Vec<SocketAddr>,
    /// Whether TLS begins with the first byte; else there is none, and it is for loopback or for who is named in `access`.
    pub implicit_tls: bool,
    /// Whom it stands in front of.
    pub backend: Arc<Backend>,
    /// Who may come in.
    pub access: Access,
    /// Load balancers: what comes from them must begin with a PROXY header, and it is believed.
    pub proxy_protocol: AddressSet,
    /// Whether clients are asked for certificates.
    pub client_certificate: ClientCertificate,
}

impl TunnelListener {
    /// The configuration's word for its rule about TLS.
    pub fn tls(&self) -> &'static str {
        if self.implicit_tls { "implicit" } else { "off" }
    }
}
