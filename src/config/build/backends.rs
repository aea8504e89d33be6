//! The servers behind.

use super::super::finding::quoted;
use super::super::nearest::nearest;
use super::super::report::{Report, Spot};
use super::super::sections::{self, BackendTls, Balance, ClientAddress, Servers};
use super::super::value::{Named, OurAddress};
use super::certificates;
use super::files::Reader;
use crate::policy::{self, Backend, ServerName, Spoken};
use crate::proto::Protocol;
use crate::tls::{self, Trust};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Every backend that is written, by name; `None` for one that is of no use, which is told then.
pub(super) type Backends = BTreeMap<String, Option<Arc<Backend>>>;

pub(super) fn build(sections: &Named<sections::Backend>, reader: &Reader<'_>, report: &mut Report) -> Backends {
    let spot = Spot::top("backends");
    if sections.0.is_empty() {
        report.missing(&spot, "is missing: name the server behind, such as `main: { host: 10.0.0.5 }`");
    }
    let one = |(name, section): &(String, _)| (name.clone(), backend(name, section, &spot.key(name), reader, report));
    sections.0.iter().map(one).collect()
}

fn backend(
    name: &str,
    section: &sections::Backend,
    spot: &Spot,
    reader: &Reader<'_>,
    report: &mut Report,
) -> Option<Arc<Backend>> {
    if !is_label(name) {
        report.error(spot, "a name is made of letters, digits, `-`, `_` and `.`, at most 63");
    }
    let mut servers = BTreeMap::new();
    for (protocol, written, port) in [
        (Protocol::Imap.into(), &section.imap, Some(143)),
        (Protocol::Pop3.into(), &section.pop3, Some(110)),
        (Protocol::Smtp.into(), &section.smtp, Some(25)),
        (Spoken::Tcp, &section.tcp, None),
    ] {
        let list = match (written, &section.host, port) {
            (Servers::Given(list), ..) => list.iter().map(|server| server.0.clone()).collect(),
            (Servers::ByHost, Some(host), Some(port)) => vec![ServerName { host: host.0.clone(), port }],
            (Servers::ByHost, ..) | (Servers::Off, ..) => continue,
        };
        if list.is_empty() {
            report.missing(&spot.key(protocol.as_str()), "names no server: write HOST:PORT, or null for none");
            continue;
        }
        servers.insert(protocol, list);
    }
    if servers.is_empty() {
        report.missing(spot, "has no server: write host: 10.0.0.5, or imap, pop3, smtp or tcp with HOST:PORT");
        return None;
    }
    if section.health_interval.0 < Duration::from_secs(1) {
        report.error(&spot.key("health_interval"), "is too short: write 1s or more");
    }
    let words = section.temporary_replies.iter().map(|word| word.trim().to_lowercase());
    let temporary_replies: Arc<[String]> = words.collect();
    if let Some(index) = temporary_replies.iter().position(String::is_empty) {
        let message = "an empty word would make every refusal mean \"not now\": leave it out";
        report.error(&spot.key("temporary_replies").item(index), message);
    }
    let client_address = client_address(section, &servers, spot, report);
    let tls = tls(section, &servers, spot, reader, report);
    let source = source(&section.source.0, &servers, &spot.key("source"), report);
    Some(Arc::new(Backend {
        name: name.to_owned(),
        servers,
        health_interval: section.health_interval.0,
        temporary_replies,
        balance: match section.balance {
            Balance::First => policy::Balance::First,
            Balance::RoundRobin => policy::Balance::RoundRobin,
            Balance::LeastSessions => policy::Balance::LeastSessions,
            Balance::User => policy::Balance::User,
        },
        max_sessions: (section.max_sessions > 0).then_some(section.max_sessions),
        source,
        tls,
        client_address,
    }))
}

/// A backend by the name that stands at `spot`; `None` where there is none of that name, or it is of no use, which is told.
pub(super) fn known_backend(backends: &Backends, name: &str, spot: &Spot, report: &mut Report) -> Option<Arc<Backend>> {
    if let Some(backend) = backends.get(name) {
        return backend.clone();
    }
    if report.was_written(&Spot::top("backends").key(name)) || backends.is_empty() {
        return None;
    }
    let known = || backends.keys().map(String::as_str);
    let cure = match nearest(name, known()) {
        Some(near) => format!("`{near}` is meant?"),
        None => format!("there are {}", known().collect::<Vec<_>>().join(", ")),
    };
    report.error(spot, format_args!("there is no backend {}: {cure}", quoted(name)));
    None
}

/// TLS towards the servers: whom we trust is read here, for the running process may no longer read it.
fn tls(
    section: &sections::Backend,
    servers: &BTreeMap<Spoken<Protocol>, Vec<ServerName>>,
    spot: &Spot,
    reader: &Reader<'_>,
    report: &mut Report,
) -> Option<policy::BackendTls> {
    if section.tls == BackendTls::Off {
        for (key, is_written) in [
            ("tls_ca", section.tls_ca.is_some()),
            ("tls_certificate", section.tls_certificate.is_some()),
            ("tls_name", section.tls_name.is_some()),
        ] {
            if is_written {
                report.error(
                    &spot.key(key),
                    "says something about TLS, and there is none: write tls: starttls or implicit",
                );
            }
        }
        return None;
    }
    if section.tls == BackendTls::Starttls && servers.contains_key(&Spoken::Tcp) {
        let cure = if servers.len() == 1 { "" } else { ", or give them a backend of their own" };
        let message = format!("`starttls` is nothing that tcp servers know: write implicit or off{cure}");
        report.error(&spot.key("tls"), message);
    }
    report_unusual_port(section.tls, servers, spot, report);
    let name = section.tls_name.as_ref().map(|name| name.0.clone());
    for host in name.iter().chain(servers.values().flatten().map(|server| &server.host).filter(|_| name.is_none())) {
        if tls::server_name(host).is_err() {
            report.error(spot, format_args!("no certificate is for {}: write tls_name", quoted(host)));
        }
    }
    let mut files = Vec::new();
    let trust = match &section.tls_ca {
        None => Trust::System,
        Some(written) => {
            let path = reader.readable(&spot.key("tls_ca"), written, report)?;
            files.push(path.clone());
            Trust::File(path)
        }
    };
    let identity = match &section.tls_certificate {
        None => None,
        Some(written) => {
            let (pair, identity) = certificates::pair(written, &spot.key("tls_certificate"), reader, report)?;
            files.extend([pair.chain, pair.key]);
            Some(identity?)
        }
    };
    let roots = trust.roots().map_err(|error| report.error(&spot.key("tls_ca"), error)).ok()?;
    match tls::client_config(roots, identity.as_deref()) {
        Ok(config) => Some(policy::BackendTls { starttls: section.tls == BackendTls::Starttls, name, config, files }),
        Err(error) => {
            report.error(&spot.key("tls"), error);
            None
        }
    }
}

/// On the ports that have had a meaning for decades servers begin as they always have.
fn report_unusual_port(
    tls: BackendTls,
    servers: &BTreeMap<Spoken<Protocol>, Vec<ServerName>>,
    spot: &Spot,
    report: &mut Report,
) {
    for (protocol, names) in servers.iter().filter(|(protocol, _)| **protocol != Spoken::Tcp) {
        for ServerName { host, port } in names {
            let message = match (tls, port) {
                (BackendTls::Implicit, 25 | 110 | 143 | 587) => "servers begin in the clear there: starttls is meant?",
                (BackendTls::Starttls, 465 | 993 | 995) => "servers begin with TLS there: implicit is meant?",
                _ => continue,
            };
            let protocol = protocol.as_str();
            report.warning(&spot.key("tls"), format_args!("{protocol} goes to port {port} of {host}: {message}"));
        }
    }
}

/// How the servers learn the client's address: some of them must be able to.
fn client_address(
    section: &sections::Backend,
    servers: &BTreeMap<Spoken<Protocol>, Vec<ServerName>>,
    spot: &Spot,
    report: &mut Report,
) -> policy::ClientAddress {
    let (how, word, cure) = match section.client_address {
        ClientAddress::Off => return policy::ClientAddress::Off,
        ClientAddress::ProxyV1 => (policy::ClientAddress::ProxyV1, "proxy-v1", ""),
        ClientAddress::ProxyV2 => (policy::ClientAddress::ProxyV2, "proxy-v2", ""),
        ClientAddress::Xclient => (policy::ClientAddress::Xclient, "xclient", "imap-id tells an IMAP server"),
        ClientAddress::ImapId => (policy::ClientAddress::ImapId, "imap-id", "xclient tells POP3 and SMTP servers"),
        ClientAddress::Received => (policy::ClientAddress::Received, "received", "proxy-v2 tells every kind of server"),
        ClientAddress::Transparent => (policy::ClientAddress::Transparent, "transparent", ""),
    };
    let (of_backend, spot) = (spot, spot.key("client_address"));
    let deaf: Vec<&str> =
        servers.keys().filter(|protocol| !how.reaches(**protocol)).map(|protocol| protocol.as_str()).collect();
    let cure = if deaf == ["tcp"] { "proxy-v2 tells whatever server reads it" } else { cure };
    if deaf.len() == servers.len() {
        report.error(&spot, format_args!("`{word}` is nothing that {} servers know: {cure}", deaf.join(" and ")));
    } else if !deaf.is_empty() {
        let a_backend = if deaf.len() == 1 { "it a backend of its own" } else { "them a backend of their own" };
        let deaf = deaf.join(" and ");
        let message = format!(
            "`{word}` tells {deaf} nothing, where every client still has our address: {cure}; give {a_backend}"
        );
        report.warning(&spot, message);
    }
    if how == policy::ClientAddress::Transparent {
        if !section.source.0.is_empty() {
            let message =
                "is dialled from by health checks alone: `client_address: transparent` dials from the client's";
            report.warning(&of_backend.key("source"), message);
        }
        report_transparent(&spot, report);
    }
    how
}

/// Says whether this process could dial from a client's address. The one that will may be another user's.
fn report_transparent(spot: &Spot, report: &mut Report) {
    let may = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
        .and_then(|socket| socket.set_ip_transparent_v4(true));
    if let Err(error) = may {
        let message = format!(
            "takes the capability CAP_NET_ADMIN or CAP_NET_RAW, which this process lacks ({error}): AmbientCapabilities= of systemd gives it, and cap_add of Docker"
        );
        report.warning(spot, message);
    }
}

/// The addresses we dial from, each of which must be this host's, and one of them of the family of every server that is
/// written as an address.
fn source(
    written: &[OurAddress],
    servers: &BTreeMap<Spoken<Protocol>, Vec<ServerName>>,
    spot: &Spot,
    report: &mut Report,
) -> Vec<IpAddr> {
    let source: Vec<IpAddr> = written.iter().map(|address| address.0).collect();
    for (index, &address) in source.iter().enumerate() {
        if let Err(error) = std::net::TcpListener::bind((address, 0)) {
            report.warning(&spot.item(index), format_args!("cannot be dialled from on this host: {error}"));
        }
    }
    let literal = servers.values().flatten().filter_map(|server| server.host.parse::<IpAddr>().ok());
    let alone = |server: &IpAddr| !source.iter().any(|ours| ours.is_ipv4() == server.is_ipv4());
    if !source.is_empty()
        && let Some(server) = literal.into_iter().find(alone)
    {
        let family = if server.is_ipv4() { "IPv4" } else { "IPv6" };
        report.error(spot, format_args!("none is {family}, as the server {server} is: add one that is"));
    }
    source
}

/// Whether a name can stand in a metric's label and in a message as it is.
pub(super) fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
