//! The help page: its listeners, and what it says.

use super::super::finding::quoted;
use super::super::report::{Report, Spot};
use super::super::sections::{self, File};
use super::super::value::is_host_name;
use super::listeners::Built;
use super::webmail::Placed;
use crate::policy;
use crate::policy::portal::{PageKind, UserForm};
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest text that may stand on the page: it is a heading or a line.
const LONGEST_TEXT: usize = 200;

/// Makes what the page says. Nothing is looked at twice: a listener's own mistakes are told where it is made.
pub(super) fn build(
    file: &File,
    hostname: Option<&str>,
    listeners: &[Built],
    webmails: Vec<Placed>,
    report: &mut Report,
) -> policy::portal::Portal {
    let (section, spot) = (&file.portal, Spot::top("portal"));
    let has_page = listeners.iter().any(|built| built.page.as_ref().is_some_and(|page| page.kind == PageKind::Serve));
    if !has_page && let Some(lead) = listeners.iter().find(|built| built.page.is_some()) {
        let message = "leads to a page that is nowhere: add a listener with protocol: https and tls: implicit";
        report.error(&lead.spot.key("tls"), message);
    }
    let hostname = hostname.unwrap_or_default();
    let mut domains = Vec::new();
    for (index, domain) in section.domains.iter().enumerate() {
        if is_host_name(domain) {
            domains.push(domain.to_ascii_lowercase());
        } else {
            let message = format!("{} is not a domain: write it like example.net", quoted(domain));
            report.error(&spot.key("domains").item(index), message);
        }
    }
    if domains.is_empty() {
        domains.push(domain_of(hostname).to_owned());
    }
    let ports: BTreeMap<_, _> = section.ports.0.iter().cloned().collect();
    for (name, port) in &ports {
        let spot = spot.key("ports").key(name);
        if !listeners.iter().any(|built| built.spot == Spot::top("listeners").key(name)) {
            report.error(&spot, "there is no such listener: write the name of one");
        } else if *port == 0 {
            report.error(&spot, "`0` is no port to connect to: write 1 to 65535");
        }
    }
    let private = file.tls.certificates.is_empty() && file.tls.acme.is_none();
    if private && !section.hsts.0.is_zero() {
        let message = "browsers that were told so can no longer get to the page to fetch the private CA: leave it out, or give certificates of a public CA";
        report.error(&spot.key("hsts"), message);
    }
    policy::portal::Portal {
        company: text(section.company.as_deref(), &spot.key("company"), report).unwrap_or_else(|| hostname.to_owned()),
        help_contact: contact(section, &spot, report),
        user_name: match section.user_name {
            sections::UserForm::Address => UserForm::Address,
            sections::UserForm::Local => UserForm::Local,
        },
        domains,
        ports,
        on_mail_ports: section.on_mail_ports.unwrap_or(has_page),
        hsts: if private { Duration::ZERO } else { section.hsts.0 },
        webmails: webmails.into_iter().map(|placed| placed.webmail).collect(),
        webmail_timeout: section.webmail_timeout.0,
    }
}

fn contact(section: &sections::Portal, spot: &Spot, report: &mut Report) -> Option<String> {
    let spot = spot.key("help_contact");
    let contact = text(section.help_contact.as_deref(), &spot, report)?;
    if contact.starts_with("http://") {
        report.warning(&spot, "customers are sent to a page without TLS: write https:// if it has any");
    }
    Some(contact)
}

/// A line of text; nothing where it is none.
fn text(written: Option<&str>, spot: &Spot, report: &mut Report) -> Option<String> {
    let text = written?.trim();
    if text.is_empty() {
        return None;
    }
    if text.len() > LONGEST_TEXT || text.chars().any(char::is_control) {
        report.error(spot, format_args!("write one line of at most {LONGEST_TEXT} octets"));
        return None;
    }
    Some(text.to_owned())
}

/// The domain that addresses probably have: the host name's without its first label, where more than one is left.
fn domain_of(hostname: &str) -> &str {
    match hostname.split_once('.') {
        Some((_, parent)) if parent.contains('.') => parent,
        _ => hostname,
    }
}

#[cfg(test)]
mod tests {
    use super::domain_of;

    #[test]
    fn the_domain_is_the_host_names_without_its_first_label() {
        for (host, domain) in [
            ("mail.example.net", "example.net"),
            ("mail.shell.example.net", "shell.example.net"),
            ("example.net", "example.net"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(domain_of(host), domain);
        }
    }
}
