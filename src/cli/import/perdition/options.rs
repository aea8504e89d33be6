//! Perdition's options: their names, their syntax, and those that have no counterpart.

use super::super::notes::{self, Notes, Place};
use std::path::Path;

/// One option, by its long name.
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) place: Place,
}

/// An option, or a name that is none, with its place.
pub(super) type Read = Result<Setting, (String, Place)>;

/// Options that have a short name, too.
const NAMES: &[(char, &str)] = &[
    ('A', "add_domain"),
    ('a', "authenticate_in"),
    ('B', "no_bind_banner"),
    ('b', "bind_address"),
    ('C', "connection_logging"),
    ('c', "client_server_specification"),
    ('D', "domain_delimiter"),
    ('d', "debug"),
    ('e', "explicit_domain"),
    ('F', "log_facility"),
    ('f', "config_file"),
    ('g', "group"),
    ('h', "help"),
    ('I', "imap_capability"),
    ('i', "inetd_mode"),
    ('L', "connection_limit"),
    ('l', "listen_port"),
    ('M', "map_library"),
    ('m', "map_library_opt"),
    ('n', "no_lookup"),
    ('O', "ok_line"),
    ('o', "server_resp_line"),
    ('P', "protocol"),
    ('p', "outgoing_port"),
    ('q', "quiet"),
    ('S', "strip_domain"),
    ('s', "outgoing_server"),
    ('t', "timeout"),
    ('u', "username"),
    ('U', "username_from_database"),
];

/// Long names alone.
const LONG: &[&str] = &[
    "authenticate_timeout",
    "connect_relog",
    "pop_capability",
    "managesieve_capability",
    "capability",
    "log_passwd",
    "login_disabled",
    "lookup_domain",
    "lower_case",
    "no_daemon",
    "nodename",
    "pid_file",
    "query_key",
    "server_ok_line",
    "tcp_keepalive",
    "ssl_mode",
    "ssl_ca_file",
    "ssl_ca_path",
    "ssl_ca_chain_file",
    "ssl_ca_accept_self_signed",
    "ssl_cert_file",
    "ssl_cert_accept_expired",
    "ssl_cert_accept_not_yet_valid",
    "ssl_cert_accept_self_signed",
    "ssl_cert_verify_depth",
    "ssl_key_file",
    "ssl_dh_params_file",
    "ssl_listen_ciphers",
    "ssl_outgoing_ciphers",
    "ssl_listen_min_proto_version",
    "ssl_listen_max_proto_version",
    "ssl_outgoing_min_proto_version",
    "ssl_outgoing_max_proto_version",
    "ssl_listen_compression",
    "ssl_outgoing_compression",
    "ssl_no_cert_verify",
    "ssl_no_client_cert_verify",
    "ssl_no_cn_verify",
    "ssl_passphrase_fd",
    "ssl_passphrase_file",
    "ssl_no_cipher_server_preference",
];

/// Makes a note of every option that is not read.
pub(super) fn look_at(options: &[Read], notes: &mut Notes) {
    const CARRIED: &[&str] = &[
        "protocol",
        "bind_address",
        "listen_port",
        "outgoing_server",
        "outgoing_port",
        "ssl_mode",
        "ssl_cert_file",
        "ssl_key_file",
        "ssl_ca_file",
        "ssl_ca_chain_file",
        "ssl_listen_min_proto_version",
        "map_library",
        "map_library_opt",
        "domain_delimiter",
        "strip_domain",
        "lower_case",
        "add_domain",
        "explicit_domain",
        "connection_limit",
        "timeout",
        "authenticate_timeout",
        "username_from_database",
    ];
    const LEFT: &[(&str, &str)] = &[
        ("authenticate_in", "nobody is checked by PAM here: the server behind checks the password"),
        ("client_server_specification", "users cannot choose their server: write routes"),
        ("inetd_mode", "it listens by itself, on the addresses of its listeners"),
        ("login_disabled", "an IMAP listener without logins is none: tls: starttls says LOGINDISABLED until TLS"),
        ("lookup_domain", "write a route user: \"*@domain\" for each such domain"),
        ("query_key", "a map file is looked up by the whole name, and patterns by user:"),
        ("log_passwd", "no password is ever logged"),
        ("username", "write `runtime: { user: gatepost }`, a user who may read the certificate and its key"),
        ("group", "write it under runtime.group, or leave it out for the user's own"),
        ("ssl_ca_path", "a folder is not looked at: name under tls_ca a file with who signs the servers' certificates"),
        (
            "ssl_ca_accept_self_signed",
            "a server's certificate must be signed by who is in tls_ca: name the self-signed one itself there",
        ),
        ("ssl_cert_accept_expired", "an expired certificate of a server behind is refused: renew it"),
        ("ssl_cert_accept_not_yet_valid", "a certificate that is not valid yet is refused"),
        (
            "ssl_cert_accept_self_signed",
            "a server's certificate must be signed by who is in tls_ca: name the self-signed one itself there",
        ),
        ("ssl_no_cert_verify", "the servers' certificates are always looked at: name under tls_ca who signs them"),
        ("ssl_no_cn_verify", "the server's name must be in its certificate: write that name under backends"),
        ("ssl_passphrase_file", "a key with a passphrase cannot be read: store it without (`openssl pkey`), mode 0600"),
        ("ssl_passphrase_fd", "a key with a passphrase cannot be read: store it without (`openssl pkey`), mode 0600"),
    ];
    for option in options {
        match option {
            Err((name, place)) => notes.unknown(place, name),
            Ok(setting) if CARRIED.contains(&setting.name) => {}
            Ok(setting) => match LEFT.iter().find(|(name, _)| *name == setting.name) {
                Some((_, advice)) => {
                    notes.left(&setting.place, format!("{} {}", setting.name, setting.value).trim(), advice);
                }
                None => notes.idle(&setting.place, setting.name),
            },
        }
    }
}

/// Reads the text of a perdition.conf.
pub(super) fn parse(text: &str, file: &Path) -> Vec<Read> {
    let shown = notes::shown(file);
    let mut options = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let mut line = line.to_owned();
        while line.ends_with('\\') {
            line.pop();
            let Some((_, next)) = lines.next() else { break };
            line.push_str(next);
        }
        let line = unquoted(&line);
        let (key, value) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
        if key.is_empty() {
            continue;
        }
        let (key, place) = (key.trim_start_matches('-'), Place::new(&shown, index + 1));
        let mut letters = key.chars();
        let short = letters.next().filter(|_| letters.next().is_none());
        let name = match short {
            Some(letter) => NAMES.iter().find(|(short, _)| *short == letter).map(|(_, name)| *name),
            None => NAMES.iter().map(|(_, name)| *name).chain(LONG.iter().copied()).find(|name| *name == key),
        };
        options.push(match name {
            Some(name) => Ok(Setting { name, value: value.trim().to_owned(), place }),
            None => Err((key.to_owned(), place)),
        });
    }
    options
}

/// A line without its comment and its quotes.
fn unquoted(line: &str) -> String {
    let (mut plain, mut quote) = (String::new(), None);
    let mut rest = line.trim().chars();
    while let Some(c) = rest.next() {
        match (c, quote) {
            ('\\', None) => plain.extend(rest.next()),
            ('#', None) => break,
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, _) => plain.push(c),
        }
    }
    plain.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_comments_and_short_names() {
        let options =
            parse("# x\nP IMAP4 # y\nD \\#\n\ndebug\noutgoing_server 'a b',\\\nc\nssl-what x\n", Path::new("f"));
        let shown: Vec<String> = options
            .iter()
            .map(|option| match option {
                Ok(setting) => format!("{} {}={}", setting.place, setting.name, setting.value),
                Err((name, place)) => format!("{place} {name}?"),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "f:2 protocol=IMAP4",
                "f:3 domain_delimiter=#",
                "f:5 debug=",
                "f:6 outgoing_server=a b,c",
                "f:8 ssl-what?"
            ]
        );
    }
}
