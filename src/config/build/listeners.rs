//! Where clients come in.

use super::super::report::{Report, Spot};
use super::super::sections::{self, File};
use super::super::value::{ListEntry, Named};
use super::backends::{Backends, is_label, known_backend};
use super::client_certificates;
use super::files::Reader;
use crate::policy::access::{Access, AddressSet, Purpose};
use crate::policy::portal::{PageKind, PageListener};
use crate::policy::{Backend, ClientCertificate, Listener, Spoken, TunnelListener};
use crate::proto::{Protocol, Service, TlsRule};
use std::net::SocketAddr;
use std::sync::Arc;

/// A listener as far as it could be made.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) spot: Spot,
    pub(super) addresses: Vec<SocketAddr>,
    /// `None`: something is wrong with it, and told; or it is not for mail.
    pub(super) listener: Option<Arc<Listener>>,
    /// The same for the page.
    pub(super) page: Option<Arc<PageListener>>,
    /// The same for what is no mail.
    pub(super) tunnel: Option<Arc<TunnelListener>>,
    pub(super) asked: ClientCertificate,
}

impl Built {
    /// What its clients speak; none for the page, and where something is wrong with it.
    pub(super) fn spoken(&self) -> Option<Spoken<Protocol>> {
        match (&self.listener, &self.tunnel) {
            (Some(listener), _) => Some(listener.service.protocol().into()),
            (None, Some(_)) => Some(Spoken::Tcp),
            (None, None) => None,
        }
    }

    /// Whether its clients are asked for certificates.
    pub(super) fn asks_for_certificates(&self) -> bool {
        self.asked != ClientCertificate::Off
    }
}

pub(super) fn build(file: &File, backends: &Backends, reader: &Reader<'_>, report: &mut Report) -> Vec<Built> {
    let spot = Spot::top("listeners");
    let maker = Maker { file, backends, reader };
    let make = |written: &Named<sections::Listener>, report: &mut Report| -> Vec<Built> {
        written.0.iter().map(|(name, section)| maker.listener(name, section, &spot.key(name), report)).collect()
    };
    match &file.listeners {
        Some(written) if !written.0.is_empty() => {
            let is = |protocol| written.0.iter().any(|(_, section)| section.protocol == Some(protocol));
            let is_mail = |section: &sections::Listener| {
                !matches!(section.protocol, Some(sections::Protocol::Https | sections::Protocol::Tcp))
            };
            // A gateway may be there for what is no mail; a help page tells how to get at mail.
            if is(sections::Protocol::Https) && !written.0.iter().any(|(_, section)| is_mail(section)) {
                report.error(&spot, "names none for mail: add those that mail programs come in at, such as imaps");
            }
            make(written, report)
        }
        Some(_) => {
            let message = "names no listener: leave the key out for the default ones on 993, 995, 465 and 587";
            report.missing(&spot, message);
            Vec::new()
        }
        None if report.was_written(&spot) => Vec::new(),
        None => {
            let mut all = backends.values();
            let (Some(backend), None) = (all.next(), all.next()) else {
                if !backends.is_empty() {
                    let message = "is missing: with more than one backend, say which listener stands in front of which";
                    report.missing(&spot, message);
                }
                return Vec::new();
            };
            let mut written = sections::default_listeners(file.port_offset).unwrap_or_default();
            written.0.retain(|(_, section)| {
                let service = section.protocol.and_then(service);
                backend.as_ref().zip(service).is_some_and(|(b, s)| b.servers.contains_key(&s.protocol().into()))
            });
            if written.0.is_empty() && backend.is_some() {
                let message = "is missing: tcp servers have no default one, write such as `ldaps: { address: \"[::]:636\", protocol: tcp }`";
                report.missing(&spot, message);
            }
            make(&written, report)
        }
    }
}

pub(super) struct Maker<'a> {
    file: &'a File,
    backends: &'a Backends,
    pub(super) reader: &'a Reader<'a>,
}

impl Maker<'_> {
    fn listener(&self, name: &str, section: &sections::Listener, spot: &Spot, report: &mut Report) -> Built {
        if !is_label(name) {
            report.error(spot, "a name is made of letters, digits, `-`, `_` and `.`, at most 63");
        }
        let addresses: Vec<SocketAddr> = section.address.0.iter().map(|address| address.0).collect();
        if addresses.is_empty() {
            report.missing(&spot.key("address"), "is missing: write where to listen, such as \"[::]:993\"");
        }
        let tls = match section.tls {
            sections::TlsRule::Implicit => TlsRule::Implicit,
            sections::TlsRule::Starttls => TlsRule::StartTls,
            sections::TlsRule::Optional => TlsRule::Optional,
            sections::TlsRule::Off => TlsRule::Off,
        };
        let client_certificate = client_certificates::asked(section, spot, report);
        if section.protocol == Some(sections::Protocol::Https) {
            return self.page(name, section, addresses, client_certificate, spot, report);
        }
        if section.protocol == Some(sections::Protocol::Tcp) {
            return self.tunnel(name, section, addresses, client_certificate, spot, report);
        }
        let service = self.service(section, spot, report);
        if tls == TlsRule::Off && is_for_everyone(section, &addresses) {
            let message = "`off` lets passwords cross the network in the clear: write optional or starttls, listen on 127.0.0.1 alone, or name under allow who may come in";
            report.error(&spot.key("tls"), message);
        }
        if let Some(service) = service {
            report_unusual_port(&addresses, service, tls, spot, report);
        }
        let backend = self.backend(section, service.map(|service| service.protocol().into()), spot, report);
        let (access, proxy_protocol) = self.door((name, service), section, spot, report);
        let trusted_clients = believed(&section.trusted_clients, "the webmail's", &spot.key("trusted_clients"), report);
        let listener = service.zip(backend).map(|(service, backend)| {
            let (name, addresses) = (name.to_owned(), addresses.clone());
            Arc::new(Listener {
                name,
                addresses,
                service,
                tls,
                backend,
                access,
                proxy_protocol,
                trusted_clients,
                client_certificate,
            })
        });
        Built { spot: spot.clone(), addresses, listener, page: None, tunnel: None, asked: client_certificate }
    }

    /// A listener of the help page.
    fn page(
        &self,
        name: &str,
        section: &sections::Listener,
        addresses: Vec<SocketAddr>,
        client_certificate: ClientCertificate,
        spot: &Spot,
        report: &mut Report,
    ) -> Built {
        let kind = match section.tls {
            sections::TlsRule::Implicit => PageKind::Serve,
            sections::TlsRule::Off => PageKind::Lead,
            sections::TlsRule::Starttls | sections::TlsRule::Optional => {
                let message = "browsers know no STARTTLS: write implicit for the page, or off for what leads to it";
                report.error(&spot.key("tls"), message);
                PageKind::Serve
            }
        };
        if section.backend.is_some() {
            report.error(&spot.key("backend"), "the page has no server behind it: leave it out");
        }
        for (index, address) in addresses.iter().enumerate() {
            let message = match (address.port(), kind) {
                (80, PageKind::Serve) => "on port 80 browsers begin in the clear: `tls: off` is meant?",
                (443, PageKind::Lead) => "on port 443 browsers begin with TLS: `tls: implicit` is meant?",
                _ => continue,
            };
            report.warning(&spot.key("address").item(index), message);
        }
        let (access, proxy_protocol) = self.door((name, None), section, spot, report);
        let (name, own) = (name.to_owned(), addresses.clone());
        let page = Arc::new(PageListener { name, addresses: own, kind, access, proxy_protocol, client_certificate });
        let (spot, asked) = (spot.clone(), client_certificate);
        Built { spot, addresses, listener: None, page: Some(page), tunnel: None, asked }
    }

    fn service(&self, section: &sections::Listener, spot: &Spot, report: &mut Report) -> Option<Service> {
        let Some(written) = section.protocol else {
            report.missing(&spot.key("protocol"), "is missing: write imap, pop3, submission, smtp, https or tcp");
            return None;
        };
        let service = service(written)?;
        let domains = Spot::top("submission").key("accept_domains");
        if service == Service::Smtp && self.file.submission.accept_domains.is_none() && !report.is_damaged(&domains) {
            let message = "an smtp listener takes mail from strangers: say under submission.accept_domains for which domains ([] for none)";
            report.error(&spot.key("protocol"), message);
        }
        Some(service)
    }

    /// Who may come in, and whose PROXY header is believed.
    pub(super) fn door(
        &self,
        (name, service): (&str, Option<Service>),
        section: &sections::Listener,
        spot: &Spot,
        report: &mut Report,
    ) -> (Access, AddressSet) {
        let daemons = daemons(name, service);
        let access = Access {
            allow: self.reader.list(&spot.key("allow"), &section.allow, &daemons, Purpose::Allow, report),
            deny: self.reader.list(&spot.key("deny"), &section.deny, &daemons, Purpose::Deny, report),
        };
        let balancers = spot.key("proxy_protocol");
        (access, believed(&section.proxy_protocol, "the load balancers'", &balancers, report))
    }

    /// Whom it stands in front of, if that has a server for what is spoken.
    pub(super) fn backend(
        &self,
        section: &sections::Listener,
        spoken: Option<Spoken<Protocol>>,
        spot: &Spot,
        report: &mut Report,
    ) -> Option<Arc<Backend>> {
        let spot = &spot.key("backend");
        let (name, backend) = match &section.backend {
            Some(name) => (name, known_backend(self.backends, name, spot, report)?),
            None => {
                let mut all = self.backends.iter();
                match (all.next(), all.next()) {
                    (Some((name, backend)), None) => (name, Arc::clone(backend.as_ref()?)),
                    // That there is no backend is told once, where they are written.
                    (None, _) => return None,
                    (Some(_), Some(_)) => {
                        let names = self.backends.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                        report.missing(spot, format_args!("is missing: there is more than one, write one of {names}"));
                        return None;
                    }
                }
            }
        };
        let protocol = spoken?;
        if !backend.servers.contains_key(&protocol) {
            if !report.is_damaged(&Spot::top("backends").key(name)) {
                let protocol = protocol.as_str();
                let message = format!(
                    "the backend `{name}` has no {protocol} server: write backends.{name}.{protocol}, or another backend"
                );
                report.error(spot, message);
            }
            return None;
        }
        Some(backend)
    }
}

/// Whether anybody may come in from outside.
pub(super) fn is_for_everyone(section: &sections::Listener, addresses: &[SocketAddr]) -> bool {
    let allowed = section.allow.iter().filter_map(|entry| match entry {
        ListEntry::Network(network) => Some(*network),
        ListEntry::File(_) => None,
    });
    (section.allow.is_empty() || allowed.collect::<AddressSet>().holds_an_internet())
        && !addresses.iter().all(|address| address.ip().is_loopback())
}

/// Whose word on a client's address is believed.
fn believed(entries: &[ListEntry], whose: &str, spot: &Spot, report: &mut Report) -> AddressSet {
    let networks = entries.iter().enumerate().filter_map(|(index, entry)| match entry {
        ListEntry::Network(network) => {
            if network.prefix_len() == 0 {
                let message = format!(
                    "whoever connects may call any address theirs, and have another banned: write {whose} addresses"
                );
                report.warning(&spot.item(index), message);
            }
            Some(*network)
        }
        ListEntry::File(_) => {
            report.error(&spot.item(index), "a file cannot stand here: write the networks");
            None
        }
    });
    networks.collect()
}

/// The service by its word; `None` for what is no mail.
fn service(protocol: sections::Protocol) -> Option<Service> {
    match protocol {
        sections::Protocol::Imap => Some(Service::Imap),
        sections::Protocol::Pop3 => Some(Service::Pop3),
        sections::Protocol::Submission => Some(Service::Submission),
        sections::Protocol::Smtp => Some(Service::Smtp),
        sections::Protocol::Https | sections::Protocol::Tcp => None,
    }
}

/// What clients expect on the ports that have had a meaning for decades.
fn report_unusual_port(addresses: &[SocketAddr], service: Service, tls: TlsRule, spot: &Spot, report: &mut Report) {
    for (index, address) in addresses.iter().enumerate() {
        let port = address.port();
        let message = match (port, tls) {
            (25 | 110 | 143 | 587, TlsRule::Implicit) => {
                format!("on port {port} clients begin in the clear and `implicit` waits for TLS: starttls is meant?")
            }
            (465 | 993 | 995, TlsRule::StartTls | TlsRule::Optional | TlsRule::Off) => {
                format!(
                    "on port {port} clients begin with TLS and `{}` begins in the clear: implicit is meant?",
                    tls.as_str()
                )
            }
            _ => match (port, service) {
                (143 | 993, Service::Imap) | (110 | 995, Service::Pop3) | (465 | 587, Service::Submission) => continue,
                // Some networks send their customers' mail over 25, too.
                (25, Service::Smtp | Service::Submission) => continue,
                (25 | 110 | 143 | 465 | 587 | 993 | 995, _) => {
                    format!("port {port} is not where clients look for {}", service.as_str())
                }
                _ => continue,
            },
        };
        report.warning(&spot.key("address").item(index), message);
    }
}

/// The names that mean us in lists in hosts.allow form, as the programs were called that stood here before.
pub(super) fn daemons(name: &str, service: Option<Service>) -> Arc<[String]> {
    let trade: &[&str] = match service {
        Some(Service::Imap) => &["imap", "imapd", "imap4d", "imaps", "in.imapd", "imap-login"],
        Some(Service::Pop3) => {
            &["pop3", "pop3d", "pop3s", "ipop3d", "in.pop3d", "popa3d", "popper", "in.popper", "qpopper", "pop3-login"]
        }
        Some(Service::Submission | Service::Smtp) => &["smtp", "smtpd", "smtps", "in.smtpd", "submission", "sendmail"],
        None => &[],
    };
    ["gatepost", name].iter().chain(trade).map(|name| (*name).to_owned()).collect()
}
