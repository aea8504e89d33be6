//! The help page: where it is served and what it says.

use super::ClientCertificate;
use super::access::{Access, AddressSet};
use super::webmail::Webmail;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// The paths of the page and of all that belongs to it, lower-cased; they are found in either case. No webmail takes their place
/// on the page's own names.
pub const DOCUMENTS: [&str; 9] = [
    "/",
    "/ca.pem",
    "/ca.der",
    "/ca.crt",
    "/mail.mobileconfig",
    "/.well-known/autoconfig/mail/config-v1.1.xml",
    "/mail/config-v1.1.xml",
    "/autodiscover/autodiscover.xml",
    "/dns.txt",
];

/// A listener with `protocol: https`, perhaps on several addresses. No mail passes through it and no server stands behind.
#[derive(Debug)]
pub struct PageListener {
    /// Its key in the configuration: the metric label.
    pub name: String,
    /// Where it listens. `[::]` takes IPv4 too.
    pub addresses: Vec<SocketAddr>,
    /// What it does.
    pub kind: PageKind,
    /// Who may come in.
    pub access: Access,
    /// Load balancers: what comes from them must begin with a PROXY header, and it is believed.
    pub proxy_protocol: AddressSet,
    /// Whether browsers are asked for certificates.
    pub client_certificate: ClientCertificate,
}

/// What an `https` listener does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageKind {
    /// Serves the page over TLS from the first byte (`tls: implicit`).
    Serve,
    /// Speaks HTTP in the clear and leads to the page (`tls: off`).
    Lead,
}

impl PageKind {
    /// The configuration's word for its rule about TLS.
    pub fn tls(self) -> &'static str {
        match self {
            PageKind::Serve => "implicit",
            PageKind::Lead => "off",
        }
    }
}

/// `portal`: what the page says that the listeners do not tell.
#[derive(Debug, Clone)]
pub struct Portal {
    /// Who runs the mail service: the page's heading.
    pub company: String,
    /// Whom to ask: a `https:` or `mailto:` URL, a `tel:` one, or plain words.
    pub help_contact: Option<String>,
    /// What customers type as their user name.
    pub user_name: UserForm,
    /// The domains of the customers' addresses, lower-cased; at least one. The first stands in the examples.
    pub domains: Vec<String>,
    /// Ports as the world sees them, by listener, where something between changes them.
    pub ports: BTreeMap<String, u16>,
    /// Whether a browser on an IMAP or POP3 port that begins with TLS gets the page.
    pub on_mail_ports: bool,
    /// How long browsers are told to come by TLS alone (RFC 6797); zero: they are told nothing.
    pub hsts: Duration,
    /// What is passed on to other web servers, in the order of the configuration.
    pub webmails: Vec<Webmail>,
    /// How long a webmail may take to begin its answer, and to go on with it.
    pub webmail_timeout: Duration,
}

/// What customers type as their user name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserForm {
    /// The whole address.
    Address,
    /// What stands before the `@`.
    Local,
}
