//! `tls.acme`: what is wanted of a public CA.

use super::super::finding::quoted;
use super::super::report::{Report, Spot};
use super::super::sections::{self, AcmeChallenge, AcmeKey};
use super::super::value::is_host_name;
use super::certificates::Examined;
use super::files::Reader;
use crate::policy::{self, LogPlace};
use crate::tls::{Name, Trust};
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// As many as Let's Encrypt puts on one certificate.
const MOST_NAMES: usize = 100;

/// The longest that a call of the hook, or the wait behind it, may be set to.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Where the configuration has the gateway write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'a> {
    pub(super) state_dir: &'a Path,
    pub(super) auth_log: Option<&'a Path>,
}

impl Written<'_> {
    /// In what of it a file lies.
    fn place_of(self, file: &Path, reader: &Reader<'_>) -> Option<&'static str> {
        if is_within(file, &reader.path(self.state_dir)) {
            return Some("in state_dir");
        }
        match LogPlace::of(&reader.path(self.auth_log?)) {
            LogPlace::Folder(folder) => is_within(file, &folder).then_some("in the folder of log.auth_log"),
            LogPlace::File(log) => is_within(file, &log).then_some("log.auth_log's file"),
        }
    }
}

pub(super) fn build(
    section: &sections::Acme,
    written: Written<'_>,
    (hostname, certificates): (Option<&str>, &Examined),
    reader: &Reader<'_>,
    report: &mut Report,
) -> Option<policy::Acme> {
    let spot = spot();
    let names = names(section, certificates, report);
    if let Some(hostname) = hostname
        && !names.is_empty()
        && !names.iter().any(|name| covers(name, hostname))
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
    if section.hook.is_some() && section.challenge != AcmeChallenge::Dns01 {
        report.error(&spot.key("hook"), "is for dns-01 alone: write `challenge: dns-01`, or leave it out");
    }
    let challenge = match section.challenge {
        AcmeChallenge::Http01 => policy::AcmeChallenge::Http01(section.http_address.0),
        AcmeChallenge::TlsAlpn01 => policy::AcmeChallenge::TlsAlpn01(section.tls_address.0),
        AcmeChallenge::Dns01 => policy::AcmeChallenge::Dns01(hook(section, written, reader, report)?),
    };
    Some(policy::Acme {
        contact: section.contact.clone(),
        names,
        directory: section.directory.clone(),
        ca,
        challenge,
        key: match section.key {
            AcmeKey::Ecdsa => policy::AcmeKey::Ecdsa,
            AcmeKey::Rsa => policy::AcmeKey::Rsa,
            AcmeKey::Both => policy::AcmeKey::Both,
        },
    })
}

/// Where it listens, if it does, with the place of the key that says so.
pub(super) fn listens(acme: &policy::Acme) -> Option<(Spot, SocketAddr)> {
    match &acme.challenge {
        policy::AcmeChallenge::Http01(address) => Some((spot().key("http_address"), *address)),
        policy::AcmeChallenge::TlsAlpn01(address) => Some((spot().key("tls_address"), *address)),
        policy::AcmeChallenge::Dns01(_) => None,
    }
}

/// Whether a name as it is written here, perhaps a wildcard, stands for a host.
pub(super) fn covers(name: &str, host: &str) -> bool {
    name.parse::<Name>().is_ok_and(|name| name.covers(host))
}

/// The program for dns-01.
fn hook(
    section: &sections::Acme,
    written: Written<'_>,
    reader: &Reader<'_>,
    report: &mut Report,
) -> Option<policy::DnsHook> {
    let spot = spot();
    for (key, span, cure) in [
        ("hook_timeout", section.hook_timeout.0, "write a time within an hour, such as 2min"),
        ("dns_wait", section.dns_wait.0, "write a time within an hour, such as 10s, or 0"),
    ] {
        if span > LONGEST_WAIT {
            report.error(&spot.key(key), format_args!("is longer than an hour: {cure}"));
        }
    }
    if section.hook_timeout.0 < Duration::from_secs(1) {
        report.error(&spot.key("hook_timeout"), "leaves the hook no time: write a second or more, such as 2min");
    }
    let spot = spot.key("hook");
    let words = section.hook.as_ref().map(|program| program.0.as_slice()).unwrap_or_default();
    let Some((program, arguments)) = words.split_first() else {
        report.missing(&spot, "is missing: write the program that sets TXT records, such as /etc/gatepost-dns/hook");
        return None;
    };
    let program = PathBuf::from(program);
    if words.iter().any(|word| word.contains('\0')) {
        report.error(&spot, "holds a zero byte, which no program and no argument can: leave it out");
    } else if !program.is_absolute() {
        let message = format!(
            "{} is not an absolute path: write the program's, such as /etc/gatepost-dns/hook; its arguments follow in a list",
            quoted(&program.display().to_string())
        );
        report.error(&spot, message);
    } else {
        reader.runnable(&spot, &program, report);
    }
    // An interpreter's script is an argument.
    let is_file = |word: &str| Path::new(word).is_absolute() && Path::new(word).is_file();
    for (index, word) in words.iter().enumerate().filter(|(_, word)| is_file(word)) {
        let Some(place) = written.place_of(word.as_ref(), reader) else { continue };
        let message = format!(
            "{} is {place}, where a gateway that was broken into could change what runs outside of its sandbox: put it elsewhere",
            quoted(word)
        );
        report.error(&spot.item(index), message);
    }
    Some(policy::DnsHook {
        program,
        arguments: arguments.to_vec(),
        timeout: section.hook_timeout.0,
        wait: section.dns_wait.0,
    })
}

/// Whether a file lies in a folder, by whatever links.
fn is_within(file: &Path, folder: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    file.starts_with(folder) || real(file).starts_with(real(folder))
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
        let wildcard = name.strip_prefix("*.");
        let host = wildcard.filter(|_| section.challenge == AcmeChallenge::Dns01).unwrap_or(&name);
        // Underscores are for hosts files; no CA signs them.
        if !is_host_name(host) || host.contains('_') || !host.contains('.') {
            let cure = if wildcard.is_some_and(is_host_name) && section.challenge != AcmeChallenge::Dns01 {
                "a wildcard takes `challenge: dns-01`: write that, or each name"
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
    for (index, written) in section.names.iter().enumerate() {
        let name = written.strip_suffix('.').unwrap_or(written).to_ascii_lowercase();
        let wildcards = names.iter().filter(|other| other.starts_with("*."));
        if let Some(other) = wildcards.into_iter().find(|other| **other != name && covers(other, &name)) {
            // RFC 8555 leaves it to the CA, and the large ones refuse the order.
            report.error(&spot.item(index), format_args!("{} is in `{other}` already: leave it out", quoted(written)));
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
