//! The servers behind.

use super::super::finding::quoted;
use super::super::nearest::nearest;
use super::super::report::{Report, Spot};
use super::super::sections::{self, Servers};
use super::super::value::Named;
use crate::policy::{Backend, ServerName};
use crate::proto::Protocol;
use std::collections::BTreeMap;
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
    Some(Arc::new(Backend {
        name: name.to_owned(),
        servers,
        health_interval: section.health_interval.0,
        temporary_replies,
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

/// Whether a name can stand in a metric's label and in a message as it is.
pub(super) fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
