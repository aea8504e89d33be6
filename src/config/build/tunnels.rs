//! Listeners for what is no mail.

use super::super::report::{Report, Spot};
use super::super::sections;
use super::backends::Backends;
use super::listeners::{Built, Maker, is_for_everyone};
use crate::policy::access::AccessList;
use crate::policy::{ClientCertificate, ServerName, Spoken, TunnelListener};
use crate::proto::Protocol;
use std::net::SocketAddr;
use std::sync::Arc;

impl Maker<'_> {
    /// A listener with `protocol: tcp`.
    pub(super) fn tunnel(
        &self,
        name: &str,
        section: &sections::Listener,
        addresses: Vec<SocketAddr>,
        asked: ClientCertificate,
        spot: &Spot,
        report: &mut Report,
    ) -> Built {
        match section.tls {
            sections::TlsRule::Implicit => {}
            sections::TlsRule::Off if is_for_everyone(section, &addresses) => {
                let message = "`off` lets what passes here, passwords too, cross the network in the clear: write implicit, listen on 127.0.0.1 alone, or name under allow who may come in";
                report.error(&spot.key("tls"), message);
            }
            sections::TlsRule::Off => {}
            sections::TlsRule::Starttls | sections::TlsRule::Optional => {
                let message = "STARTTLS is a word of mail protocols, and nothing that passes here is read: write implicit, or off on 127.0.0.1 or with an allow list";
                report.error(&spot.key("tls"), message);
            }
        }
        if !section.trusted_clients.is_empty() {
            let message = "nothing that passes here is read, and so nobody can say for whom it comes: leave it out";
            report.error(&spot.key("trusted_clients"), message);
        }
        for (index, address) in addresses.iter().enumerate() {
            if let Some(protocol) = of_mail(address.port()) {
                let message = format!(
                    "mail programs come to port {}, and here no login is seen and no guessing counted: `protocol: {protocol}` is meant?",
                    address.port()
                );
                report.warning(&spot.key("address").item(index), message);
            }
        }
        let backend = self.backend(section, Some(Spoken::Tcp), spot, report);
        let (access, proxy_protocol) = self.door((name, None), section, spot, report);
        let tunnel = backend.map(|backend| {
            let (name, addresses) = (name.to_owned(), addresses.clone());
            let implicit_tls = section.tls == sections::TlsRule::Implicit;
            Arc::new(TunnelListener {
                name,
                addresses,
                implicit_tls,
                backend,
                access,
                proxy_protocol,
                client_certificate: asked,
            })
        });
        Built { spot: spot.clone(), addresses, listener: None, page: None, tunnel, asked }
    }
}

/// Whether somebody from outside could come to a mail server past every rule about mail. To an SMTP server he would look like this
/// host, for which it may relay; at another nobody counts how often he guesses.
pub(super) fn look_at(listeners: &[Built], backends: &Backends, report: &mut Report) {
    let is_open = |tunnel: &Arc<TunnelListener>| {
        let allow = tunnel.access.allow.as_ref();
        allow.is_none_or(AccessList::is_for_everyone)
            && !tunnel.addresses.iter().all(|address| address.ip().is_loopback())
    };
    if !listeners.iter().filter_map(|built| built.tunnel.as_ref()).any(is_open) {
        return;
    }
    let known = |protocol: Protocol| -> Vec<&ServerName> {
        let protocol = Spoken::Mail(protocol);
        backends.values().flatten().filter_map(|backend| backend.servers.get(&protocol)).flatten().collect()
    };
    let (smtp, imap, pop3) = (known(Protocol::Smtp), known(Protocol::Imap), known(Protocol::Pop3));
    for backend in backends.values().flatten() {
        for (index, server) in backend.servers.get(&Spoken::Tcp).into_iter().flatten().enumerate() {
            let spot = Spot::top("backends").key(&backend.name).key("tcp").item(index);
            if matches!(server.port, 25 | 465 | 587) || smtp.contains(&server) {
                let message = format!(
                    "`{server}` takes mail, and whoever comes by a tcp listener looks to it like this host, for which it may relay: write protocol: submission for that listener, or name under its allow who may come in"
                );
                report.error(&spot, message);
                continue;
            }
            let protocol = match of_mail(server.port) {
                Some(protocol) => protocol,
                None if imap.contains(&server) => "imap",
                None if pop3.contains(&server) => "pop3",
                None => continue,
            };
            let message = format!(
                "`{server}` has mailboxes, and who comes by a tcp listener guesses at their passwords without being counted: write protocol: {protocol} for that listener, or name under its allow who may come in"
            );
            report.warning(&spot, message);
        }
    }
}

/// The protocol that mail programs expect on a port.
fn of_mail(port: u16) -> Option<&'static str> {
    match port {
        143 | 993 => Some("imap"),
        110 | 995 => Some("pop3"),
        25 => Some("smtp"),
        465 | 587 => Some("submission"),
        _ => None,
    }
}
