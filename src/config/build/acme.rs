//! `tls.acme`: what is wanted of a public CA.

use super::super::finding::quoted;
use super::super::report::{Report, Spot};
use super::super::sections::{self, AcmeChallenge, AcmeKey};
use super::super::value::is_host_name;
use super::certificates::Examined;
use super::files::Reader;
use crate::policy;
use crate::tls::Trust;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// As many as Let's Encrypt puts on one certificate.
const MOST_NAMES: usize = 100;

pub(super) fn build(
    section: &sections::Acme,
    hostname: Option<&str>,
    certificates: &Examined,
    reader: &Reader<'_>,
    report: &mut Report,
) -> Option<policy::Acme> {
    let spot = spot();
    let names = names(section, certificates, report);
    if let Some(hostname) = hostname
        && !names.is_empty()
        && !names.iter().any(|name| name == hostname)
        && !certificates.identities.iter().any(|(_, identity)| identity.covers(hostname))
    {
        let message = format!("`{hostname}`, our hostname, is not among them: clients that connect to it complain");
        report.warning(&spot.key("names"), message);
    }
    if let Some(contact) = section.contact.as_deref().filter(|contact| !is_contact(contact)) {
        let message = format!("{} is nobody to write to: write mailto:postmaster@example.net", quoted(contact));
        report.error(&spot.key("contact"), message);
    }
    if !is_directory(&section.directory) {
        let message = format!(
            "{} is not a CA's directory: write its URL, such as https://acme-v02.api.letsencrypt.org/directory",
            quoted(&section.directory)
        );
        report.error(&spot.key("directory"), message);
    }
    let ca = section.ca.as_ref().and_then(|written| {
        let path = reader.readable(&spot.key("ca"), written, report)?;
        if let Err(error) = Trust::File(path.clone()).roots() {
            report.error(&spot.key("ca"), format_args!("`{}` {error}", written.display()));
        }
        Some(path)
    });
    let (challenge, address) = match section.challenge {
        AcmeChallenge::Http01 => (policy::AcmeChallenge::Http01, section.http_address.0),
        AcmeChallenge::TlsAlpn01 => (policy::AcmeChallenge::TlsAlpn01, section.tls_address.0),
        // Refused with the other features that are not built.
        AcmeChallenge::Dns01 => return None,
    };
    Some(policy::Acme {
        contact: section.contact.clone(),
        names,
        directory: section.directory.clone(),
        ca,
        challenge,
        address,
        key: match section.key {
            AcmeKey::Ecdsa => policy::AcmeKey::Ecdsa,
            AcmeKey::Rsa => policy::AcmeKey::Rsa,
            AcmeKey::Both => policy::AcmeKey::Both,
        },
    })
}

/// Where it listens, with the place of the key that says so.
pub(super) fn listens(acme: &policy::Acme) -> (Spot, SocketAddr) {
    let key = match acme.challenge {
        policy::AcmeChallenge::Http01 => "http_address",
        policy::AcmeChallenge::TlsAlpn01 => "tls_address",
    };
    (spot().key(key), acme.address)
}

fn spot() -> Spot {
    Spot::top("tls").key("acme")
}

fn names(section: &sections::Acme, certificates: &Examined, report: &mut Report) -> Vec<String> {
    let spot = spot().key("names");
    if section.names.is_empty() {
        report.missing(&spot, "is missing: write the names that clients connect to, such as [mail.example.net]");
    }
    if section.names.len() > MOST_NAMES {
        let message = format!("{} names are too many: write at most {MOST_NAMES}", section.names.len());
        report.error(&spot, message);
    }
    let mut names = BTreeSet::new();
    for (index, written) in section.names.iter().enumerate() {
        let spot = spot.item(index);
        let name = written.strip_suffix('.').unwrap_or(written).to_ascii_lowercase();
        // Underscores are for hosts files; no CA signs them.
        if !is_host_name(&name) || name.contains('_') || !name.contains('.') {
            let cure = if name.starts_with("*.") {
                "a wildcard takes dns-01, which is not in this version: write each name"
            } else if name.is_ascii() {
                "write one such as mail.example.net"
            } else {
                "write its ASCII form, which begins with xn--"
            };
            report.error(&spot, format_args!("{} is not a host name that a public CA signs: {cure}", quoted(written)));
            continue;
        }
        if let Some((other, _)) = certificates.identities.iter().find(|(_, identity)| identity.covers(&name)) {
            let message = format!("`{name}` is in the certificate of {other} already: leave one of the two out");
            report.error(&spot, message);
        }
        if !names.insert(name) {
            report.error(&spot, format_args!("{} is there twice: leave it out", quoted(written)));
        }
    }
    names.into_iter().collect()
}

/// An address, roughly: the CA looks closely. Header fields, comments and lists of them are none (RFC 8555, section 7.3).
fn is_contact(contact: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | ',' | '<' | '>');
    contact.strip_prefix("mailto:").and_then(|address| address.split_once('@')).is_some_and(|(local, domain)| {
        !local.is_empty() && local.chars().all(is_plain) && is_host_name(domain) && contact.len() <= 320
    })
}

/// `https://` and a host: the account's key speaks there, and what is signed is fetched from there.
fn is_directory(url: &str) -> bool {
    let is_plain = url.chars().all(|c| c.is_ascii_graphic()) && url.len() <= 2048;
    is_plain && url.parse::<hyper::Uri>().is_ok_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_is_one_plain_address() {
        for (contact, expected) in [
            ("mailto:postmaster@example.net", true),
            ("mailto:a+b@example.net", true),
            ("postmaster@example.net", false),
            ("mailto:example.net", false),
            ("mailto:@example.net", false),
            ("mailto:a@example.net?subject=x", false),
            ("mailto:a@example.net,b@example.net", false),
            ("tel:+4912345", false),
        ] {
            assert_eq!(is_contact(contact), expected, "{contact}");
        }
    }

    #[test]
    fn a_directory_is_spoken_to_over_tls_alone() {
        for (url, expected) in [
            ("https://acme.example.net/directory", true),
            ("https://[2001:db8::1]:14000/dir", true),
            ("http://acme.example.net/directory", false),
            ("acme.example.net", false),
            ("https:///directory", false),
            ("", false),
        ] {
            assert_eq!(is_directory(url), expected, "{url}");
        }
    }
}
