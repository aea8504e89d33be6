//! Dovecot as a proxy: its login services become listeners, and where its passdb says `proxy`, backends.

mod passdb;
mod settings;
mod syntax;

use super::ImportError;
use super::model::{BackendId, Imported, Listener, Service, TlsRule};
use super::notes::{Notes, Place};
use super::ports;
use super::reading::{self, Reading};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use syntax::{Node, blocks, setting};

/// A login service of Dovecot's.
struct LoginService {
    /// What its block is called.
    name: &'static str,
    /// What turns it on, under `protocols`.
    protocol: &'static str,
    service: Service,
    /// Its listeners, where nothing else is said: a name, a port, and whether TLS begins there with the first byte.
    standard: [(&'static str, u16, bool); 2],
}

const SERVICES: [LoginService; 3] = [
    LoginService {
        name: "imap-login",
        protocol: "imap",
        service: Service::Imap,
        standard: [("imap", 143, false), ("imaps", 993, true)],
    },
    LoginService {
        name: "pop3-login",
        protocol: "pop3",
        service: Service::Pop3,
        standard: [("pop3", 110, false), ("pop3s", 995, true)],
    },
    LoginService {
        name: "submission-login",
        protocol: "submission",
        service: Service::Submission,
        standard: [("submission", 587, false), ("submissions", 465, true)],
    },
];

/// Reads a dovecot.conf with what it includes.
pub(super) fn read(file: &Path, reading: &mut Reading, notes: &mut Notes) -> Result<Imported, ImportError> {
    let nodes = syntax::load(file, reading, notes)?;
    let mut imported = Imported::default();
    let protocols = protocols(&nodes);
    let is_on = |login: &&LoginService| protocols.iter().any(|protocol| protocol == login.protocol);
    let services: Vec<Service> = SERVICES.iter().filter(is_on).map(|login| login.service).collect();
    let base = reading::folder(file);
    let backends = passdb::read(&nodes, &services, &base, reading, &mut imported, notes);
    for login in SERVICES.iter().filter(is_on) {
        if let Some(backend) = backends.get(&login.service) {
            listeners(&nodes, login, *backend, &mut imported, notes);
        }
    }
    if protocols.iter().any(|protocol| protocol == "sieve" || protocol == "managesieve") {
        notes.missing("protocols: ManageSieve is not spoken here: it stays with Dovecot");
    }
    settings::read(&nodes, &mut imported, notes);
    if imported.listeners.is_empty() {
        return Err(ImportError::Nothing(format!(
            "{}: no IMAP, POP3 or submission login is turned on in it",
            file.display()
        )));
    }
    Ok(imported)
}

/// What is turned on: `protocols = imap pop3`, or as Dovecot 2.4 also has it, `protocols { imap = yes }`.
fn protocols(nodes: &[Node]) -> Vec<String> {
    let mut found = syntax::list(nodes, "protocols");
    for (_, inside, _) in blocks(nodes, "protocols") {
        for node in inside {
            if let Node::Setting { key, value, .. } = node
                && value == "yes"
            {
                found.get_or_insert_default().push(key.clone());
            }
        }
    }
    found.unwrap_or_else(|| vec!["imap".to_owned(), "pop3".to_owned()])
}

/// One `inet_listener`, as far as it was said.
#[derive(Default)]
struct Inet {
    port: Option<u16>,
    addresses: Option<Vec<String>>,
    ssl: Option<bool>,
    haproxy: bool,
    place: Option<Place>,
}

fn listeners(nodes: &[Node], login: &LoginService, backend: BackendId, imported: &mut Imported, notes: &mut Notes) {
    let mut inets: BTreeMap<String, Inet> = BTreeMap::new();
    for (name, port, implicit) in login.standard {
        inets.insert(name.to_owned(), Inet { port: Some(port), ssl: Some(implicit), ..Inet::default() });
    }
    for (_, inside, _) in blocks(nodes, "service").filter(|(argument, ..)| *argument == login.name) {
        for (name, inner, place) in blocks(inside, "inet_listener") {
            let inet = inets.entry(name.to_owned()).or_default();
            inet.place = Some(place.clone());
            if let Some((port, _)) = setting(inner, "port") {
                inet.port = port.parse().ok();
            }
            for key in ["address", "listen"] {
                if let Some((addresses, _)) = setting(inner, key).filter(|(value, _)| !value.is_empty()) {
                    inet.addresses = Some(words(addresses));
                }
            }
            if let Some((ssl, _)) = setting(inner, "ssl") {
                inet.ssl = Some(ssl == "yes");
            }
            inet.haproxy |= setting(inner, "haproxy").is_some_and(|(value, _)| value == "yes");
        }
    }
    let everywhere =
        setting(nodes, "listen").map_or_else(|| vec!["*".to_owned(), "::".to_owned()], |(value, _)| words(value));
    let mode = setting(nodes, "ssl").map_or("yes", |(value, _)| value);
    let place = setting(nodes, "ssl").or_else(|| setting(nodes, "protocols")).map(|(_, place)| place.clone());
    for (name, inet) in &inets {
        let implicit = inet.ssl == Some(true);
        let Some(port) = inet.port.filter(|port| *port > 0) else { continue };
        if implicit && mode == "no" {
            continue;
        }
        let Some(place) = inet.place.clone().or_else(|| place.clone()).or_else(|| first_place(nodes)) else { continue };
        let tls = if implicit { TlsRule::Implicit } else { rule(nodes, mode) };
        for address in inet.addresses.as_ref().unwrap_or(&everywhere) {
            let ip = match address.as_str() {
                "*" => Ipv4Addr::UNSPECIFIED.into(),
                "::" | "[::]" => Ipv6Addr::UNSPECIFIED.into(),
                text => match ports::address(text) {
                    Some(ip) => ip,
                    None => {
                        notes.left(
                            &place,
                            &format!("inet_listener {name}: {text}"),
                            "is a name: write its address under address",
                        );
                        continue;
                    }
                },
            };
            let mut listener = Listener::new(&place, SocketAddr::new(ip, port), login.service, tls, backend);
            if tls == TlsRule::Optional {
                listener.looks.push("logins without TLS still work here".to_owned());
            }
            if inet.haproxy {
                load_balancers(nodes, &mut listener, &place, notes);
            }
            listener.trusted_clients = networks(nodes, "login_trusted_networks", notes);
            imported.listeners.push(listener);
        }
    }
    if mode == "no" {
        let place = setting(nodes, "ssl").map(|(_, place)| place.clone());
        if let Some(place) = place {
            notes.left(&place, "ssl = no", "there was no TLS: STARTTLS is offered now, and logins without it still work; write tls: starttls once they need not, and listeners on 993 and 995 with tls: implicit");
        }
    }
}

/// Whether a login may come without TLS, on a port that begins without.
fn rule(nodes: &[Node], mode: &str) -> TlsRule {
    let refuses_by_2_3 = setting(nodes, "disable_plaintext_auth").is_none_or(|(value, _)| value != "no");
    let refuses_by_2_4 = setting(nodes, "auth_allow_cleartext").is_none_or(|(value, _)| value != "yes");
    match mode {
        "no" => TlsRule::Optional,
        "required" => TlsRule::StartTls,
        _ if refuses_by_2_3 && refuses_by_2_4 => TlsRule::StartTls,
        _ => TlsRule::Optional,
    }
}

fn load_balancers(nodes: &[Node], listener: &mut Listener, place: &Place, notes: &mut Notes) {
    listener.proxy_protocol = networks(nodes, "haproxy_trusted_networks", notes);
    if listener.proxy_protocol.is_empty() {
        notes.left(
            place,
            "haproxy = yes",
            "haproxy_trusted_networks names nobody: write the load balancers' addresses under proxy_protocol",
        );
        listener.looks.push("proxy_protocol: the load balancers' addresses".to_owned());
    }
}

fn networks(nodes: &[Node], name: &str, notes: &mut Notes) -> Vec<String> {
    let Some((value, place)) = setting(nodes, name) else { return Vec::new() };
    let mut networks = words(value);
    networks.retain(|network| {
        let good = crate::policy::access::parse_network(network).is_some();
        if !good {
            notes.left(place, &format!("{name}: {network}"), "is no network: write the addresses");
        }
        good
    });
    networks
}

fn words(value: &str) -> Vec<String> {
    value.split([' ', ',', '\t']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn first_place(nodes: &[Node]) -> Option<Place> {
    nodes.first().map(|node| match node {
        Node::Setting { place, .. } | Node::Block { place, .. } => place.clone(),
    })
}
