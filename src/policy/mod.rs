//! What the configuration means, as values that cannot be wrong.
//!
//! `config` makes a [`Policy`] out of a file; everything above reads it and asks nothing more. A
//! connection keeps the policy it began with; a reload makes a new one for the connections after it.

pub mod access;
mod acme;
pub mod passwords;
pub mod portal;
pub mod rate;
mod reach;
mod reread;
pub mod route;
mod tunnel;
pub mod webmail;

pub use crate::proto::smtp::BareNewline;
use crate::proto::{FrontSettings, Mechanisms, Protocol, Service, TlsRule};
use access::{Access, AddressSet};
pub use acme::{Acme, AcmeChallenge, AcmeKey, DnsHook};
use passwords::PasswordFile;
use portal::{PageKind, PageListener, Portal};
use rate::Rate;
pub use reach::{LogPlace, LoneFile, Reach};
use route::{Handshake, Routes};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
pub use tunnel::{Spoken, TunnelListener};

/// The whole of a running configuration.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Our name in greetings and on the default certificate.
    pub hostname: String,
    /// Private CA and its certificates live there.
    pub state_dir: PathBuf,
    /// Where mail programs come in; no two share an address and port. There is at least one here or among the tunnels.
    pub listeners: Vec<Arc<Listener>>,
    /// Where what is no mail comes in; none shares an address and port with another or with a listener.
    pub tunnels: Vec<Arc<TunnelListener>>,
    /// Where the help page is served; none shares an address and port with another or with a listener.
    pub pages: Vec<Arc<PageListener>>,
    /// What it says.
    pub portal: Portal,
    /// By name.
    pub backends: BTreeMap<String, Arc<Backend>>,
    /// Which session goes to which of them.
    pub routes: Arc<Routes>,
    /// Who may log in how.
    pub auth: Auth,
    /// Rules for mail.
    pub submission: Submission,
    /// Bounds on rates and numbers.
    pub limits: Limits,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// Certificates and versions.
    pub tls: Tls,
    /// Where events and messages go.
    pub log: Log,
    /// Where metrics and health are served.
    pub admin: Admin,
    /// The process.
    pub runtime: Runtime,
    /// Files that values were read from: the configuration's own, and each `${file:PATH}` in it.
    pub sources: Vec<PathBuf>,
}

/// One listener of the configuration, perhaps on several addresses.
#[derive(Debug)]
pub struct Listener {
    /// Its key in the configuration: the metric label.
    pub name: String,
    /// Where it listens. `[::]` takes IPv4 too.
    pub addresses: Vec<SocketAddr>,
    /// What it offers.
    pub service: Service,
    /// Its rule about TLS.
    pub tls: TlsRule,
    /// Whom it stands in front of.
    pub backend: Arc<Backend>,
    /// Who may come in.
    pub access: Access,
    /// Load balancers: what comes from them must begin with a PROXY header, and it is believed.
    pub proxy_protocol: AddressSet,
    /// Programs that log in for others (webmail): what they say of the addresses of those is believed.
    pub trusted_clients: AddressSet,
    /// Whether clients are asked for certificates.
    pub client_certificate: ClientCertificate,
}

/// Whether a listener asks its clients for certificates (`client_certificate`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// It does not.
    #[default]
    Off,
    /// It does, and who has none is served all the same; who shows a bad one is not.
    Request,
    /// Who shows none, or a bad one, does not get past the handshake.
    Require,
}

/// The servers behind.
#[derive(Debug, Clone)]
pub struct Backend {
    /// Its key in the configuration: a metric label.
    pub name: String,
    /// By protocol: in the order they are tried. A protocol that is missing is not offered.
    pub servers: BTreeMap<Spoken<Protocol>, Vec<ServerName>>,
    /// How long between two health checks while it is up; five seconds while it is down.
    pub health_interval: Duration,
    /// Words, lower-cased, in a code-less refusal that mean "not now".
    pub temporary_replies: Arc<[String]>,
    /// Which of several servers a session goes to.
    pub balance: Balance,
    /// The most sessions of ours on each server of each protocol at a time; at least 1.
    pub max_sessions: Option<usize>,
    /// Our addresses to dial from, in turn; empty: the system chooses.
    pub source: Vec<IpAddr>,
    /// TLS towards its servers; none: in the clear.
    pub tls: Option<BackendTls>,
    /// How its servers learn the client's address.
    pub client_address: ClientAddress,
}

impl Backend {
    /// A backend of these servers with the configuration's defaults for all the rest.
    pub fn new(name: &str, servers: BTreeMap<Spoken<Protocol>, Vec<ServerName>>) -> Self {
        Self {
            name: name.to_owned(),
            servers,
            health_interval: Duration::from_secs(60),
            temporary_replies: Arc::new([]),
            balance: Balance::First,
            max_sessions: None,
            source: Vec::new(),
            tls: None,
            client_address: ClientAddress::Off,
        }
    }
}

/// TLS towards a backend's servers. Whom we trust was read with the configuration, and is read again with it.
#[derive(Clone)]
pub struct BackendTls {
    /// It begins with STARTTLS or STLS, not with the first byte.
    pub starttls: bool,
    /// The name by which the servers are verified; none: the host's, or its address.
    pub name: Option<String>,
    /// Whom we trust, and what we prove ourselves with.
    pub config: Arc<rustls::ClientConfig>,
    /// The files that it was read from.
    pub files: Vec<PathBuf>,
}

impl fmt::Debug for BackendTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { starttls, name, files, .. } = self;
        f.debug_struct("BackendTls").field("starttls", starttls).field("name", name).field("files", files).finish()
    }
}

/// How a backend's servers learn the client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAddress {
    /// They do not.
    Off,
    /// By a PROXY header of version 1 before the first byte.
    ProxyV1,
    /// By one of version 2.
    ProxyV2,
    /// By XCLIENT ahead of the login, on SMTP and POP3.
    Xclient,
    /// By ID ahead of the login, on IMAP.
    ImapId,
    /// By a Received line at the head of each message, on SMTP.
    Received,
    /// From the connection itself: we dial from the client's address.
    Transparent,
}

impl ClientAddress {
    /// Whether servers of this protocol can learn it that way.
    pub fn reaches(self, protocol: impl Into<Spoken<Protocol>>) -> bool {
        let protocol = protocol.into().mail();
        match self {
            Self::Off => false,
            Self::ProxyV1 | Self::ProxyV2 | Self::Transparent => true,
            Self::Xclient => matches!(protocol, Some(Protocol::Smtp | Protocol::Pop3)),
            Self::ImapId => protocol == Some(Protocol::Imap),
            Self::Received => protocol == Some(Protocol::Smtp),
        }
    }
}

/// Which of several servers a session goes to. One that is down is passed over under each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// The first in the configuration's order.
    First,
    /// Each in its turn.
    RoundRobin,
    /// The one with the fewest sessions of ours.
    LeastSessions,
    /// The same user always goes to the same one.
    User,
}

/// A backend's host and port, resolved anew at each dial.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerName {
    /// A name or an address literal (IPv6 without brackets).
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// `auth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// What may be used at all.
    pub mechanisms: Mechanisms,
    /// What may be used in the clear on `tls: optional` listeners; `All` where the list is empty.
    pub without_tls: Mechanisms,
    /// Who checks the passwords of who sends mail.
    pub submission: Checker,
    /// For how long an address that has just logged in over POP3 or IMAP may send without a login.
    pub pop_before_smtp: Option<Duration>,
    /// How long a password that worked is remembered, as a keyed hash; zero: not at all.
    pub remember_good: Duration,
    /// Whether many known-good passwords failing at once are taken for an ill backend.
    pub outage_guard: bool,
}

/// `auth.submission`: who checks the passwords of who sends mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checker {
    /// The SMTP server itself, by AUTH.
    Backend,
    /// The backend's server of this protocol: a login there, and out again. The SMTP server hears no AUTH.
    Server(Protocol),
    /// The `auth_http` service of the user's route: its OK is the verdict. The SMTP server hears no AUTH.
    AuthHttp,
    /// A file of hashes. The SMTP server hears no AUTH.
    File(Arc<PasswordFile>),
}

/// `submission`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Domains, lower-cased, a stranger may write to on `smtp` listeners.
    pub accept_domains: Arc<[String]>,
    /// Whether nobody sends through a `submission` listener without a login. If not, the servers behind are asked
    /// (`relay_probe`), and it is so all the same towards those that relay for our address.
    pub require_auth: bool,
    /// Whether SMTP servers are asked if they relay for our bare address.
    pub relay_probe: bool,
    /// Whether the sender of a message must be the user who logged in.
    pub sender_must_match: bool,
    /// What is done with a bare CR or LF in a message.
    pub bare_newline: BareNewline,
    /// The largest message, in octets.
    pub max_size: u64,
    /// Whether each message gets a Received line at its head that tells of the client.
    pub add_received: bool,
}

/// `limits`. A number of zero means no limit where the field is an `Option`: `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sessions in all; the effective bound also depends on the descriptors there are.
    pub sessions: usize,
    /// Sessions of one address (prefix).
    pub sessions_per_ip: Option<usize>,
    /// Sessions of one user.
    pub sessions_per_user: Option<usize>,
    /// New connections of one address.
    pub connections_per_ip: Option<Rate>,
    /// Logins of one address that did not succeed.
    pub auth_per_ip: Option<Rate>,
    /// Failed attempts in one session before the goodbye; at least 1.
    pub auth_attempts_per_session: u32,
    /// Distinct wrong passwords of one address in a sliding window, before a ban.
    pub auth_failures_per_ip: Option<Rate>,
    /// Wrong passwords for one user in a sliding window, before strangers to that user hear "temporary".
    pub auth_failures_per_user: Option<Rate>,
    /// Messages that one user begins.
    pub messages_per_user: Option<Rate>,
    /// Recipients that one user writes to.
    pub recipients_per_user: Option<Rate>,
    /// How long a ban lasts.
    pub ban: Duration,
    /// The answer to a failed login leaves no sooner than this after its last byte came.
    pub failure_delay: Duration,
    /// An IPv6 client is its network of this length: 1 to 128.
    pub ipv6_prefix: u8,
    /// Addresses without per-address limits and bans.
    pub exempt: Vec<ipnet::IpNet>,
}

/// `timeouts`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named as in the configuration, which documents them")]
pub struct Timeouts {
    pub tls_handshake: Duration,
    pub login: Duration,
    pub idle_imap: Duration,
    pub idle_pop3: Duration,
    pub idle_submission: Duration,
    pub idle_tcp: Duration,
    pub connect: Duration,
    pub backend_greeting: Duration,
    pub backend_login: Duration,
    pub backend_data_end: Duration,
}

/// `tls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The first one serves clients without SNI. Empty: the private CA issues one.
    pub certificates: Vec<CertificateFiles>,
    /// The certificate that a public CA issues, beside those.
    pub acme: Option<Acme>,
    /// Whether TLS 1.2 is refused.
    pub only_1_3: bool,
    /// PEM: who signs clients' certificates. There where a listener asks for them.
    pub client_ca: Option<PathBuf>,
    /// Whether sessions may be resumed.
    pub session_tickets: bool,
}

/// A certificate chain and its key, as files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// PEM: the leaf first.
    pub chain: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// `log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The least level shown.
    pub level: tracing::Level,
    /// How lines look.
    pub format: LogFormat,
    /// A file of AUTH events alone.
    pub auth_log: Option<PathBuf>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// `admin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// `/metrics`, `/healthz`, `/readyz`.
    pub address: Option<SocketAddr>,
    /// The same and the control API.
    pub socket: Option<PathBuf>,
}

/// `runtime`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Whom to become after binding.
    pub user: Option<String>,
    /// Which group to become; the user's own by default.
    pub group: Option<String>,
    /// Worker threads; zero: one a core.
    pub workers: usize,
    /// How long a drain waits for sessions to end.
    pub drain_timeout: Duration,
    /// Whether the process gives up, at start, what it will not need.
    pub sandbox: bool,
}

/// Something that listens.
#[derive(Debug, Clone)]
pub enum Door {
    /// For mail programs.
    Mail(Arc<Listener>),
    /// For browsers.
    Page(Arc<PageListener>),
    /// For what is no mail.
    Tunnel(Arc<TunnelListener>),
}

impl Door {
    /// Its key in the configuration: the metric label.
    pub fn name(&self) -> &str {
        match self {
            Door::Mail(listener) => &listener.name,
            Door::Page(page) => &page.name,
            Door::Tunnel(tunnel) => &tunnel.name,
        }
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        match self {
            Door::Mail(listener) => &listener.addresses,
            Door::Page(page) => &page.addresses,
            Door::Tunnel(tunnel) => &tunnel.addresses,
        }
    }

    /// The configuration's word for its protocol.
    pub fn protocol(&self) -> &'static str {
        match self {
            Door::Mail(listener) => listener.service.as_str(),
            Door::Page(_) => "https",
            Door::Tunnel(_) => "tcp",
        }
    }

    /// The configuration's word for its rule about TLS.
    pub fn tls(&self) -> &'static str {
        match self {
            Door::Mail(listener) => listener.tls.as_str(),
            Door::Page(page) => page.kind.tls(),
            Door::Tunnel(tunnel) => tunnel.tls(),
        }
    }
}

impl Policy {
    /// Everything that listens for clients.
    pub fn doors(&self) -> impl Iterator<Item = Door> {
        let mail = self.listeners.iter().cloned().map(Door::Mail);
        let pages = self.pages.iter().cloned().map(Door::Page);
        mail.chain(pages).chain(self.tunnels.iter().cloned().map(Door::Tunnel))
    }

    /// What is spoken to the server that checks a password given to this service.
    pub fn login_protocol(&self, service: Service) -> Protocol {
        match (service, &self.auth.submission) {
            (Service::Submission, Checker::Server(protocol)) => *protocol,
            _ => service.protocol(),
        }
    }

    /// Rereads the lists and maps that have changed: for each, whose it is, where it is, and whether it says something else now
    /// or what is wrong with it; then what it said last stays.
    pub fn reread(&self) -> Vec<(String, PathBuf, Result<bool, String>)> {
        let mut all = Vec::new();
        let mut lists = |owner: &str, outcomes: Vec<(PathBuf, Result<bool, access::ListError>)>| {
            for (path, outcome) in outcomes {
                all.push((owner.to_owned(), path, outcome.map_err(|error| error.to_string())));
            }
        };
        for listener in &self.listeners {
            lists(&listener.name, listener.access.reread());
        }
        for page in &self.pages {
            lists(&page.name, page.access.reread());
        }
        for tunnel in &self.tunnels {
            lists(&tunnel.name, tunnel.access.reread());
        }
        for list in self.routes.lists() {
            lists("routes", list.reread());
        }
        if let Checker::File(file) = &self.auth.submission {
            let outcome = file.reread().map_err(|error| error.to_string());
            all.push(("auth.submission".to_owned(), file.path().to_owned(), outcome));
        }
        for map in self.routes.maps() {
            let outcome = map.reread().map_err(|error| error.to_string());
            all.push(("routes".to_owned(), map.path().to_owned(), outcome));
        }
        all
    }

    /// The port of the help page as the world sees it, if it is served.
    pub fn page_port(&self) -> Option<u16> {
        let page = self.pages.iter().find(|page| page.kind == PageKind::Serve)?;
        self.portal.ports.get(&page.name).copied().or_else(|| page.addresses.first().map(SocketAddr::port))
    }

    /// Whether the help page is served at all.
    pub fn has_page(&self) -> bool {
        !self.pages.is_empty() || self.portal.on_mail_ports
    }

    /// What the front half on this listener must know. `client`: who has connected.
    pub fn front_settings(&self, listener: &Listener, client: IpAddr, handshake: Handshake<'_>) -> FrontSettings {
        FrontSettings {
            hostname: self.hostname.clone(),
            service: listener.service,
            tls: listener.tls,
            mechanisms: self.auth.mechanisms.clone(),
            without_tls: self.auth.without_tls.clone(),
            user_first: self.routes.need_the_user(listener.service.protocol(), handshake)
                || listener.service == Service::Submission
                    && matches!(self.auth.submission, Checker::AuthHttp | Checker::File(_)),
            believes_origin: listener.trusted_clients.contains(client),
            may_be_granted: self.auth.pop_before_smtp.is_some() || !self.submission.require_auth,
            max_message: self.submission.max_size,
        }
    }
}

impl Timeouts {
    /// How long a logged-in session may be silent.
    pub fn idle(&self, service: Service) -> Duration {
        match service {
            Service::Imap => self.idle_imap,
            Service::Pop3 => self.idle_pop3,
            Service::Submission | Service::Smtp => self.idle_submission,
        }
    }
}
