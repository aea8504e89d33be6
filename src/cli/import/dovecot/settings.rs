//! Dovecot's other settings: TLS, mechanisms, limits. What is about mail folders, delivery or the process is none of ours.

use super::super::model::{Imported, TlsRule};
use super::super::notes::{Notes, Place};
use super::super::ports;
use super::super::reading;
use super::syntax::{Node, blocks, list, setting};
use crate::proto::Mechanism;

/// Read elsewhere, or here.
const CARRIED: &[&str] = &[
    "protocols",
    "listen",
    "ssl",
    "ssl_cert",
    "ssl_key",
    "ssl_alt_cert",
    "ssl_alt_key",
    "ssl_server_cert_file",
    "ssl_server_key_file",
    "ssl_ca",
    "ssl_server_ca_file",
    "ssl_verify_client_cert",
    "ssl_server_request_client_cert",
    "auth_ssl_require_client_cert",
    "ssl_min_protocol",
    "disable_plaintext_auth",
    "auth_allow_cleartext",
    "auth_mechanisms",
    "login_trusted_networks",
    "haproxy_trusted_networks",
    "hostname",
    "ssl_client_ca_file",
    "login_source_ips",
    "auth_failure_delay",
    "ssl_protocols",
];

/// Without a counterpart: what to do.
const LEFT: &[(&str, &str)] = &[
    (
        "mail_max_userip_connections",
        "counted a user's connections from one address: limits.sessions_per_user counts them from everywhere, sessions_per_ip an address's; the server behind sees gatepost's address alone, so raise it there",
    ),
    ("login_greeting", "the greeting is made of hostname"),
    (
        "auth_username_format",
        "a name goes to the server behind as it was typed: write a route with login: where it has to be changed",
    ),
    (
        "auth_default_realm",
        "no domain is added to names: have the server behind take them without, or write routes with login:",
    ),
    ("auth_realms", "no domain is added to names"),
    ("auth_master_user_separator", "nobody logs in for others: the name goes to the server behind as it was typed"),
    ("auth_policy_server_url", "no policy server is asked: limits and bans are the gateway's own"),
    ("login_access_sockets", "gatepost import hosts.allow /etc/hosts.allow carries the TCP wrappers' rules over"),
    ("ssl_key_password", "a key with a passphrase cannot be read: store it without (`openssl pkey`), mode 0600"),
    (
        "ssl_client_ca_dir",
        "a folder is not looked at: name under tls_ca a file with who signs the servers' certificates",
    ),
    ("ssl_client_cert", "no client certificate is shown to the servers behind"),
    ("ssl_client_key", "no client certificate is shown to the servers behind"),
    ("ssl_require_crl", "lists of revoked client certificates are not looked at"),
    ("auth_ssl_username_from_cert", "a certificate does not name the user: the login does"),
    ("submission_relay_host", "write it under backends, smtp: HOST:PORT"),
    ("submission_relay_port", "write it under backends, smtp: HOST:PORT"),
    ("submission_relay_ssl", "write it under backends: tls: starttls or implicit"),
    ("submission_relay_user", "the user's own name goes to the server behind"),
    ("submission_relay_password", "the user's own password goes to the server behind"),
    ("submission_max_mail_size", "write it as submission.max_size"),
    ("imap_capability", "capabilities are the server's own"),
    ("imap_id_send", "ID is answered in our own words"),
    ("auth_socket_path", "nobody is checked here: the server behind checks the password"),
    ("director_servers", "write all servers under one backend, with balance: user"),
    ("director_mail_servers", "write all servers under one backend, with balance: user"),
];

/// Reads them, and makes notes of what is left.
pub(super) fn read(nodes: &[Node], imported: &mut Imported, notes: &mut Notes) {
    imported.hostname = setting(nodes, "hostname").and_then(|(name, _)| ports::host_name(name));
    certificates(nodes, imported, notes);
    for name in ["local_name", "local"] {
        for (argument, inside, place) in blocks(nodes, name) {
            certificates(inside, imported, notes);
            look_at(inside, &format!("{name} {argument}"), place, notes);
        }
    }
    for (argument, _, place) in blocks(nodes, "remote") {
        notes.left(
            place,
            &format!("remote {argument}"),
            "rules for some clients are a listener of their own, with allow and its own tls",
        );
    }
    client_certificates(nodes, imported, notes);
    versions(nodes, imported, notes);
    mechanisms(nodes, imported, notes);
    if let Some((delay, place)) = setting(nodes, "auth_failure_delay") {
        match seconds(delay) {
            Some(seconds) if seconds < 60 => {
                imported.limits.insert("failure_delay", format!("{seconds}s"));
            }
            _ => notes.left(
                place,
                &format!("auth_failure_delay = {delay}"),
                "write limits.failure_delay, less than a minute",
            ),
        }
    }
    for node in nodes {
        match node {
            Node::Setting { key, value, place } => account(key, value, place, notes),
            Node::Block { name, argument, nodes, place } => match name.as_str() {
                "passdb" | "local_name" | "local" | "remote" | "protocols" => {}
                "service" if argument.ends_with("-login") => look_at_service(argument, nodes, place, notes),
                "protocol" => {
                    for node in nodes {
                        if let Node::Setting { key, value, place } = node {
                            account(key, value, place, notes);
                        }
                    }
                }
                _ => notes.idle(place, format!("{name} {argument}").trim()),
            },
        }
    }
}

fn look_at(inside: &[Node], what: &str, place: &Place, notes: &mut Notes) {
    let others = inside.iter().any(|node| match node {
        Node::Setting { key, .. } => !matches!(
            key.as_str(),
            "ssl_cert" | "ssl_key" | "ssl_alt_cert" | "ssl_alt_key" | "ssl_server_cert_file" | "ssl_server_key_file"
        ),
        Node::Block { .. } => true,
    });
    if others {
        notes.left(place, what, "only its certificate is taken: what else differs there is a listener of its own");
    }
}

fn look_at_service(name: &str, nodes: &[Node], place: &Place, notes: &mut Notes) {
    if name == "managesieve-login" {
        notes.left(place, "service managesieve-login", "ManageSieve is not spoken here: it stays with Dovecot");
    }
    for node in nodes {
        match node {
            Node::Setting { key, value, place } if key == "client_limit" || key == "process_limit" => {
                notes.left(
                    place,
                    &format!("{key} = {value}"),
                    "limits.sessions bounds sessions in all, sessions_per_ip those of an address",
                );
            }
            Node::Setting { key, place, .. } => notes.idle(place, key),
            Node::Block { name, argument, place, .. } if name == "unix_listener" => {
                notes.idle(place, &format!("{name} {argument}"));
            }
            Node::Block { .. } => {}
        }
    }
}

fn account(key: &str, value: &str, place: &Place, notes: &mut Notes) {
    if CARRIED.contains(&key) {
        return;
    }
    match LEFT.iter().find(|(name, _)| *name == key) {
        Some((_, advice)) if key.contains("password") => notes.left(place, key, advice),
        Some((_, advice)) => notes.left(place, &format!("{key} = {value}"), advice),
        None => notes.idle(place, key),
    }
}

fn certificates(nodes: &[Node], imported: &mut Imported, notes: &mut Notes) {
    for (chain, key) in
        [("ssl_cert", "ssl_key"), ("ssl_alt_cert", "ssl_alt_key"), ("ssl_server_cert_file", "ssl_server_key_file")]
    {
        let Some((written, place)) = setting(nodes, chain).filter(|(value, _)| !value.is_empty()) else { continue };
        let Some((key_written, key_place)) = setting(nodes, key).filter(|(value, _)| !value.is_empty()) else {
            notes.left(place, chain, format_args!("has no {key} beside it: write both under tls.certificates"));
            continue;
        };
        // A relative path begins at the folder of the very file it stands in.
        let path = |written: &str, place: &Place| match written.strip_prefix('<') {
            Some(path) => Some(reading::absolute(&place.folder(), path.trim())),
            // 2.4 names files; before, what had no `<` was the certificate itself.
            None => chain.ends_with("_file").then(|| reading::absolute(&place.folder(), written)),
        };
        match (path(written, place), path(key_written, key_place)) {
            (Some(chain), Some(key)) => imported.certificate(chain, key),
            _ => notes.left(place, chain, "is written out in the configuration: put it and its key into files, and name those under tls.certificates"),
        }
    }
}

fn client_certificates(nodes: &[Node], imported: &mut Imported, notes: &mut Notes) {
    let asked = ["ssl_verify_client_cert", "ssl_server_request_client_cert"]
        .into_iter()
        .find_map(|name| setting(nodes, name).filter(|(value, _)| *value == "yes"));
    let required = setting(nodes, "auth_ssl_require_client_cert").is_some_and(|(value, _)| value == "yes");
    let Some((_, place)) = asked else { return };
    match ["ssl_ca", "ssl_server_ca_file"]
        .into_iter()
        .find_map(|name| setting(nodes, name))
        .filter(|(value, _)| !value.is_empty())
    {
        Some((ca, place)) => {
            let path = reading::absolute(&place.folder(), ca.trim_start_matches('<').trim());
            imported.client_ca(path, place, notes);
        }
        None => {
            notes.left(place, "ssl_verify_client_cert = yes", "name under tls.client_ca who signs client certificates");
        }
    }
    for listener in imported.listeners.iter_mut().filter(|listener| listener.tls != TlsRule::Off) {
        listener.client_certificate = Some(if required { "require" } else { "request" });
    }
}

fn versions(nodes: &[Node], imported: &mut Imported, notes: &mut Notes) {
    const OLD: &str =
        "TLS 1.2 and 1.3 are all that is spoken: gatepost_tls_too_old_total counts the clients that know neither";
    if let Some((least, place)) = setting(nodes, "ssl_min_protocol") {
        match least {
            "TLSv1.3" => imported.only_1_3 = true,
            "TLSv1.2" | "LATEST" => {}
            _ => notes.left(place, &format!("ssl_min_protocol = {least}"), OLD),
        }
    }
    // Before 2.3: a list, in which ! takes away.
    if let Some((list, place)) = setting(nodes, "ssl_protocols") {
        let takes_all_old = ["!TLSv1", "!TLSv1.1"].iter().all(|word| list.split_whitespace().any(|said| said == *word));
        if !takes_all_old {
            notes.left(place, &format!("ssl_protocols = {list}"), OLD);
        }
    }
}

fn mechanisms(nodes: &[Node], imported: &mut Imported, notes: &mut Notes) {
    let (Some(words), Some((_, place))) = (list(nodes, "auth_mechanisms"), setting(nodes, "auth_mechanisms")) else {
        return;
    };
    for word in words {
        let ours: &[&str] = match word.to_ascii_lowercase().as_str() {
            // With `plain` Dovecot takes IMAP's LOGIN and POP3's USER and PASS, too.
            "plain" => &["PLAIN", "LOGIN", "USER"],
            "login" => &["LOGIN"],
            // Its own list, of which nothing was said before.
            word if word.starts_with('$') => &[],
            word => {
                match Mechanism::parse(word.as_bytes()) {
                    Some(mechanism) if !mechanism.is_forbidden() => {
                        imported.mechanisms.insert(mechanism.to_string());
                    }
                    Some(_) => notes.left(place, &format!("auth_mechanisms: {word}"), "cannot cross a gateway"),
                    None => notes.left(place, &format!("auth_mechanisms: {word}"), "is not a mechanism's name"),
                }
                &[]
            }
        };
        imported.mechanisms.extend(ours.iter().map(|name| (*name).to_owned()));
    }
}

/// A time of Dovecot's in seconds: `2`, `2s`, `2 secs`, `1 min`.
fn seconds(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" => 60,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(factor)
}
