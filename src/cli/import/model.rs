//! What comes out, whatever it was made from.
//!
//! An importer adds listeners, backends and the rest as it meets them; [`Imported::settle`] then makes one configuration
//! of it: names, addresses that cannot stand twice, and what ours wants and the old one had not.

use super::access::Lists;
use super::notes::{Notes, Place};
use super::ports;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A name that leads nowhere (RFC 2606), where the old configuration names no server.
pub(super) const NO_SERVER: &str = "backend.example.net";
const NO_HOSTNAME: &str = "mail.example.net";

/// A configuration in the making.
#[derive(Debug, Default)]
pub(super) struct Imported {
    pub(super) hostname: Option<String>,
    pub(super) listeners: Vec<Listener>,
    pub(super) backends: Vec<Backend>,
    pub(super) routes: Vec<Route>,
    pub(super) certificates: Vec<Certificate>,
    pub(super) client_ca: Option<String>,
    pub(super) only_1_3: bool,
    pub(super) no_session_tickets: bool,
    pub(super) mechanisms: BTreeSet<String>,
    pub(super) limits: BTreeMap<&'static str, String>,
    pub(super) timeouts: BTreeMap<&'static str, Duration>,
    /// What an operator has to look at, at the top of a section.
    pub(super) looks: BTreeMap<&'static str, Vec<String>>,
}

/// What a listener offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Service {
    Imap,
    Pop3,
    Submission,
    Smtp,
    /// No mail: TLS ends, and the bytes go on.
    Tcp,
}

/// What a backend speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Imap,
    Pop3,
    Smtp,
    Tcp,
}

/// A listener's rule about TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsRule {
    Implicit,
    StartTls,
    Optional,
    Off,
}

/// TLS towards a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum BackendTls {
    #[default]
    Off,
    StartTls,
    Implicit,
}

/// Where clients come in.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) service: Service,
    pub(super) tls: TlsRule,
    pub(super) backend: BackendId,
    pub(super) lists: Lists,
    pub(super) proxy_protocol: Vec<String>,
    pub(super) trusted_clients: Vec<String>,
    /// `request` or `require`; `None` is off.
    pub(super) client_certificate: Option<&'static str>,
    pub(super) looks: Vec<String>,
}

/// A backend by its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BackendId(pub(super) usize);

/// The servers behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Backend {
    /// What the old configuration calls it; may be empty.
    pub(super) name: String,
    pub(super) servers: BTreeMap<Protocol, Vec<Server>>,
    pub(super) options: BackendOptions,
    pub(super) looks: Vec<String>,
}

/// What holds for all servers of a backend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BackendOptions {
    /// `None`: the first that is up.
    pub(super) balance: Option<&'static str>,
    pub(super) tls: BackendTls,
    pub(super) tls_ca: Option<String>,
    pub(super) client_address: Option<&'static str>,
    pub(super) source: Vec<String>,
    pub(super) max_sessions: usize,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Server {
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

/// A rule that chooses a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) on: On,
    pub(super) backend: Option<BackendId>,
    /// The login name there, where it differs.
    pub(super) login: Option<String>,
}

/// What a route looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum On {
    Sni(String),
    User(String),
    File(String),
    AuthHttp(String),
}

/// A chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) chain: String,
    pub(super) key: String,
}

impl Service {
    /// What the server behind speaks.
    pub(super) fn protocol(self) -> Protocol {
        match self {
            Self::Imap => Protocol::Imap,
            Self::Pop3 => Protocol::Pop3,
            Self::Submission | Self::Smtp => Protocol::Smtp,
            Self::Tcp => Protocol::Tcp,
        }
    }

    /// As the configuration writes it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
            Self::Submission => "submission",
            Self::Smtp => "smtp",
            Self::Tcp => "tcp",
        }
    }

    /// The key of the time that a session may be silent.
    pub(super) fn idle_key(self) -> &'static str {
        match self {
            Self::Imap => "idle_imap",
            Self::Pop3 => "idle_pop3",
            Self::Submission | Self::Smtp => "idle_submission",
            Self::Tcp => "idle_tcp",
        }
    }
}

impl Protocol {
    /// As the configuration writes it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Imap => "imap",
            Self::Pop3 => "pop3",
            Self::Smtp => "smtp",
            Self::Tcp => "tcp",
        }
    }
}

impl TlsRule {
    /// As the configuration writes it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Implicit => "implicit",
            Self::StartTls => "starttls",
            Self::Optional => "optional",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, self.port).fmt(f),
            Err(_) => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Backend {
    /// A backend for one service.
    pub(super) fn of(service: Service, servers: Vec<Server>, options: BackendOptions) -> Self {
        let name = servers.first().map(|server| server.host.clone()).unwrap_or_default();
        Self { name, servers: [(service.protocol(), servers)].into(), options, looks: Vec::new() }
    }

    /// The backend that stands where the old configuration names none.
    pub(super) fn nowhere(service: Service) -> Self {
        let server = Server { host: NO_SERVER.to_owned(), port: ports::standard(service.protocol(), false) };
        let mut backend = Self::of(service, vec![server], BackendOptions::default());
        backend.looks.push("write the old server's address".to_owned());
        backend
    }

    /// Whether what goes there is no mail.
    pub(super) fn is_for_tcp(&self) -> bool {
        self.servers.contains_key(&Protocol::Tcp)
    }

    /// Whether both may be one: the same hosts, treated alike.
    fn fits(&self, other: &Self) -> bool {
        let hosts = |backend: &Self| -> BTreeSet<String> {
            backend.servers.values().flatten().map(|server| server.host.clone()).collect()
        };
        let agree =
            |(protocol, servers): (&Protocol, &Vec<Server>)| other.servers.get(protocol).is_none_or(|o| o == servers);
        self.is_for_tcp() == other.is_for_tcp()
            && self.options == other.options
            && self.servers.iter().all(agree)
            && hosts(self) == hosts(other)
    }
}

impl Listener {
    /// A listener with nothing special about it.
    pub(super) fn new(place: &Place, address: SocketAddr, service: Service, tls: TlsRule, backend: BackendId) -> Self {
        Self {
            name: String::new(),
            place: place.clone(),
            addresses: vec![address],
            service,
            tls,
            backend,
            lists: Lists::default(),
            proxy_protocol: Vec::new(),
            trusted_clients: Vec::new(),
            client_certificate: None,
            looks: Vec::new(),
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        self.service == other.service
            && self.tls == other.tls
            && self.backend == other.backend
            && self.lists == other.lists
            && self.proxy_protocol == other.proxy_protocol
            && self.trusted_clients == other.trusted_clients
            && self.client_certificate == other.client_certificate
    }

    fn usual_name(&self) -> &'static str {
        match (self.service, self.tls) {
            (Service::Imap, TlsRule::Implicit) => "imaps",
            (Service::Imap, _) => "imap",
            (Service::Pop3, TlsRule::Implicit) => "pop3s",
            (Service::Pop3, _) => "pop3",
            (Service::Submission, TlsRule::Implicit) => "submissions",
            (Service::Submission, _) => "submission",
            (Service::Smtp, _) => "smtp",
            (Service::Tcp, _) => "tcp",
        }
    }
}

impl Imported {
    /// Takes up a backend, and gives the one that it became: servers that are treated alike are one.
    pub(super) fn backend(&mut self, backend: Backend) -> BackendId {
        match self.backends.iter_mut().enumerate().find(|(_, known)| known.fits(&backend)) {
            Some((index, known)) => {
                known.servers.extend(backend.servers);
                for look in backend.looks {
                    if !known.looks.contains(&look) {
                        known.looks.push(look);
                    }
                }
                BackendId(index)
            }
            None => {
                self.backends.push(backend);
                BackendId(self.backends.len() - 1)
            }
        }
    }

    /// Takes up a certificate, once.
    pub(super) fn certificate(&mut self, chain: String, key: String) {
        let certificate = Certificate { chain, key };
        if !self.certificates.contains(&certificate) {
            self.certificates.push(certificate);
        }
    }

    /// Takes up who signs client certificates. There is one file for all listeners.
    pub(super) fn client_ca(&mut self, path: String, place: &Place, notes: &mut Notes) {
        match &self.client_ca {
            Some(known) if *known != path => notes.left(
                place,
                &path,
                format_args!("tls.client_ca is one for all listeners, and is {known}: put both into one file"),
            ),
            _ => self.client_ca = Some(path),
        }
    }

    /// Takes up a route, once.
    pub(super) fn route(&mut self, route: Route) {
        if !self.routes.contains(&route) {
            self.routes.push(route);
        }
    }

    /// Takes up a route by server name. It holds on every listener, whatever its protocol.
    pub(super) fn route_by_name(&mut self, name: &str, backend: BackendId, place: &Place, notes: &mut Notes) {
        let route = Route { on: On::Sni(name.to_owned()), backend: Some(backend), login: None };
        if self.routes.iter().any(|known| known.on == route.on && *known != route) {
            let advice = "has a route already, to other servers, and a route holds on all listeners: write the servers of all protocols under one backend";
            notes.left(place, name, advice);
            return;
        }
        self.route(route);
    }

    /// Takes up a deadline; of two the longer one, for ours holds everywhere.
    pub(super) fn timeout(&mut self, key: &'static str, span: Duration, place: &Place, notes: &mut Notes) {
        if span.is_zero() {
            notes.left(place, key, "0 is no deadline, and there is no waiting for ever here: the default holds");
            return;
        }
        let kept = self.timeouts.entry(key).or_insert(span);
        if *kept != span {
            let longer = (*kept).max(span);
            notes.left(
                place,
                &ports::span(span),
                format_args!("timeouts.{key} is one for all listeners: the longer, {}, is taken", ports::span(longer)),
            );
            *kept = longer;
        }
    }

    /// Has an operator look at a section.
    pub(super) fn look(&mut self, section: &'static str, what: impl Into<String>) {
        let (looks, what) = (self.looks.entry(section).or_default(), what.into());
        if !looks.contains(&what) {
            looks.push(what);
        }
    }

    /// Makes one configuration of what was gathered.
    pub(super) fn settle(&mut self, notes: &mut Notes) {
        if self.hostname.is_none() {
            self.hostname = Some(NO_HOSTNAME.to_owned());
            self.look("hostname", "write the name that clients connect to");
            notes.missing("no name of the gateway is in the old configuration: write it under hostname");
        }
        self.settle_certificates(notes);
        self.merge_listeners();
        self.part_addresses(notes);
        self.name_listeners();
        self.name_backends();
        if self.listeners.iter().any(|listener| listener.service == Service::Smtp) {
            self.look("submission", "the domains whose mail the old server takes from strangers");
            notes.missing("submission.accept_domains is empty, so that no stranger's mail gets in: write the domains that the old server takes mail for");
        }
    }

    /// A certificate is asked for where there is a handshake, and required where nobody comes in beside it.
    fn settle_certificates(&mut self, notes: &mut Notes) {
        for listener in &mut self.listeners {
            let required = listener.client_certificate == Some("require");
            let advice = match (listener.tls, listener.service) {
                (TlsRule::Off, _) => {
                    listener.client_certificate = None;
                    continue;
                }
                (TlsRule::Optional, _) => {
                    "who left out STARTTLS came in without one, and so it is requested here: write tls: starttls and client_certificate: require if that was not meant"
                }
                (_, Service::Smtp) => "servers that bring mail have none (RFC 3207), and so it is requested here",
                _ => continue,
            };
            if required {
                listener.client_certificate = Some("request");
                notes.left(&listener.place, "a client's certificate is required", advice);
            }
        }
    }

    fn merge_listeners(&mut self) {
        let mut merged: Vec<Listener> = Vec::new();
        for listener in std::mem::take(&mut self.listeners) {
            match merged.iter_mut().find(|known| known.is_like(&listener)) {
                Some(known) => {
                    known.addresses.extend(listener.addresses);
                    for look in listener.looks {
                        if !known.looks.contains(&look) {
                            known.looks.push(look);
                        }
                    }
                }
                None => merged.push(listener),
            }
        }
        for listener in &mut merged {
            listener.addresses = widest(&listener.addresses);
        }
        self.listeners = merged;
    }

    /// Two listeners cannot have one address. `[::]` takes IPv4 too, and no address beside it is left to others.
    fn part_addresses(&mut self, notes: &mut Notes) {
        let mut taken: Vec<SocketAddr> = Vec::new();
        for listener in &mut self.listeners {
            listener.addresses.retain(|address| {
                let other = taken.iter().find(|other| overlap(*address, **other));
                if let Some(other) = other {
                    notes.left(
                        &listener.place,
                        &address.to_string(),
                        format_args!("is left out, for {other} is another listener's and holds it too: give each listener addresses of its own"),
                    );
                }
                other.is_none()
            });
            taken.extend(&listener.addresses);
        }
        self.listeners.retain(|listener| !listener.addresses.is_empty());
    }

    fn name_listeners(&mut self) {
        let mut taken = BTreeSet::new();
        for listener in &mut self.listeners {
            // What is no mail has no usual name, but perhaps had one.
            let own = label(&listener.name);
            let is_named = listener.service == Service::Tcp && !listener.name.is_empty();
            listener.name = unique(if is_named { &own } else { listener.usual_name() }, &mut taken);
        }
    }

    fn name_backends(&mut self) {
        // A map file names the backends by their servers.
        let in_file = self.routes.iter().any(|route| matches!(route.on, On::File(_)));
        let (mut taken, alone) = (BTreeSet::new(), self.backends.len() == 1 && !in_file);
        for backend in &mut self.backends {
            let name = if alone { "main".to_owned() } else { label(&backend.name) };
            backend.name = unique(&name, &mut taken);
        }
    }
}

/// Addresses of one listener, each said once: `[::]` stands for `0.0.0.0` too, and both for all single ones.
fn widest(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut kept: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if kept.iter().any(|other| covers(*other, *address)) {
            continue;
        }
        kept.retain(|other| !covers(*address, *other));
        kept.push(*address);
    }
    kept
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    covers(a, b) || covers(b, a)
}

fn covers(wide: SocketAddr, narrow: SocketAddr) -> bool {
    wide.port() == narrow.port()
        && match wide.ip() {
            IpAddr::V6(any) if any.is_unspecified() => true,
            IpAddr::V4(any) if any.is_unspecified() => narrow.is_ipv4(),
            one => one == narrow.ip(),
        }
}

/// A name as our configuration takes it: letters, digits, `-`, `_` and `.`, at most 63.
fn label(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = name.chars().map(fits).take(56).collect();
    if name.is_empty() { "main".to_owned() } else { name }
}

fn unique(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut free = name.to_owned();
    let mut number = 2;
    while !taken.insert(free.clone()) {
        free = format!("{name}-{number}");
        number += 1;
    }
    free
}
