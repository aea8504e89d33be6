//! The servers behind.

use super::super::report::{Report, Spot};
use super::super::sections::{self, Balance, Servers};
use super::super::value::{Named, OurAddress};
use crate::policy::{self, Backend, ServerName};
use crate::proto::Protocol;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Every backend that is written, by name; `None` for one that is of no use, which is told then.
pub(super) type Backends = BTreeMap<String, Option<Arc<Backend>>>;

pub(super) fn build(sections: &Named<sections::Backend>, report: &mut Report) -> Backends {
    let spot = Spot::top("backends");
    if sections.0.is_empty() {
        report.missing(&spot, "is missing: name the server behind, such as `main: { host: 10.0.0.5 }`");
    }
    sections.0.iter().map(|(name, section)| (name.clone(), backend(name, section, &spot.key(name), report))).collect()
}

fn backend(name: &str, section: &sections::Backend, spot: &Spot, report: &mut Report) -> Option<Arc<Backend>> {
    if !is_label(name) {
        report.error(spot, "a name is made of letters, digits, `-`, `_` and `.`, at most 63");
    }
    let mut servers = BTreeMap::new();
    for (protocol, written, port) in [
        (Protocol::Imap, &section.imap, 143),
        (Protocol::Pop3, &section.pop3, 110),
        (Protocol::Smtp, &section.smtp, 25),
    ] {
        let list = match (written, &section.host) {
            (Servers::Given(list), _) => list.iter().map(|server| server.0.clone()).collect(),
            (Servers::ByHost, Some(host)) => vec![ServerName { host: host.0.clone(), port }],
            (Servers::ByHost, None) | (Servers::Off, _) => continue,
        };
        if list.is_empty() {
            report.missing(&spot.key(protocol.as_str()), "names no server: write HOST:PORT, or null for none");
            continue;
        }
        servers.insert(protocol, list);
    }
    if servers.is_empty() {
        report.missing(spot, "has no server: write host: 10.0.0.5, or imap, pop3 or smtp with HOST:PORT");
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
    }))
}

/// The addresses we dial from, each of which must be this host's, and one of them of the family of every server that is
/// written as an address.
fn source(
    written: &[OurAddress],
    servers: &BTreeMap<Protocol, Vec<ServerName>>,
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
