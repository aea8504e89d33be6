//! Whatever an old file says: nothing panics, and what comes out is a configuration.

use super::notes::Notes;
use super::reading::Reading;
use super::{Kind, read, yaml};
use crate::config::{self, Environment};
use proptest::prelude::*;
use std::path::Path;

/// What may be said about a configuration that was made of an old file: the feature is another version's, a file is not here, or
/// the old one was as wrong: it led to itself, dialled IPv6 from an IPv4 address, or asked for certificates of nobody's.
const FORGIVEN: [&str; 6] = [
    "not in this version",
    "cannot be read",
    "No such file",
    "would connect to itself",
    "none is IPv",
    "nobody is named who signs them",
];

/// Imports a file of this text, and gives what `check` would refuse.
fn refused(kind: Kind, text: &str) -> Option<String> {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("old.conf");
    std::fs::write(&file, text).expect("written");
    let mut notes = Notes::default();
    let Ok(mut imported) = read(kind, &file, &mut Reading::default(), &mut notes) else { return None };
    imported.settle(&mut notes);
    let yaml = yaml::write(&imported, "old.conf", &notes.lines());
    let ours = dir.path().join("gatepost.yaml");
    std::fs::write(&ours, &yaml).expect("written");
    let findings = config::load(&ours, &Environment::default()).err()?;
    let bad = |finding: &&config::Finding| {
        finding.is_error() && !FORGIVEN.iter().any(|words| finding.message.contains(words))
    };
    findings.iter().find(bad).map(|finding| format!("{finding}\n{text}\n{yaml}"))
}

/// Lines made of these words, so that many of them mean something.
fn lines(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    let word = prop_oneof![9 => proptest::sample::select(words).prop_map(str::to_owned), 1 => "[ -~]{0,6}"];
    proptest::collection::vec(word, 0..40).prop_map(|words| words.join(" ").replace(" \\n ", "\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn nginx(servers in proptest::collection::vec(lines(&[
        "listen 993 ssl;", "listen 143;", "listen [::]:143;", "listen 127.0.0.1:110;", "listen 25;", "listen 587 proxy_protocol;", "listen 192.0.2.1:993 ssl;",
        "starttls on;", "starttls only;", "ssl on;", "protocol imap;", "protocol smtp;", "smtp_auth none;", "imap_auth plain external;", "auth_http 127.0.0.1/a;",
        "timeout 0;", "timeout 5m;", "proxy_timeout 1d;", "ssl_certificate a;", "ssl_certificate_key b;", "ssl_verify_client on;", "server_name $x;", "server_name a.example;",
        "allow 10.0.0.0/8;", "deny 10.1.0.0/16;", "deny all;", "allow all;", "proxy_pass u;", "proxy_pass 10.0.0.5:143;", "proxy_pass [2001:db8::5]:993;", "proxy_bind 10.0.0.1;",
        "set_real_ip_from 10.0.0.9;", "limit_conn z 0;", "xclient off;", "proxy_ssl on;",
    ]), 1..4), in_stream: bool) {
        let servers: String = servers.iter().map(|server| format!("server {{ {server} }}\n")).collect();
        let name = if in_stream { "stream" } else { "mail" };
        let text = format!("{name} {{\n upstream u {{ server 10.0.0.5:110; server a.example:110 backup; }}\n limit_conn_zone $remote_addr zone=z:1m;\n{servers}}}\n");
        prop_assert_eq!(refused(Kind::Nginx, &text), None);
    }

    #[test]
    fn perdition(text in lines(&[
        "\\n", "\\n", "\\n", "protocol IMAP4", "protocol POP3S", "bind_address 0.0.0.0", "bind_address ::1,192.0.2.1", "listen_port pop3s", "listen_port 0", "outgoing_server a,b:1", "outgoing_server 10.0.0.5",
        "outgoing_server $x", "ssl_mode ssl_all", "ssl_mode tls_listen_force", "ssl_mode none", "connection_limit 0", "connection_limit 9", "timeout 0", "timeout 60", "strip_domain all", "s", "U", "outgoing_port 1",
    ])) {
        prop_assert_eq!(refused(Kind::Perdition, &text), None);
    }

    #[test]
    fn stunnel(text in lines(&[
        "\\n", "\\n", "\\n", "[a]", "[b]", "accept = 993", "accept = :::995", "accept = 127.0.0.1:143", "accept = 443", "connect = 80", "connect = 143", "connect = 10.0.0.5:110", "connect = [2001:db8::5]:25", "protocol = imap", "protocol = proxy",
        "client = yes", "verify = 2", "verify = 1", "CAfile = /x", "cert = /y", "key = /z", "sni = a:*.example.net", "TIMEOUTidle = 0", "TIMEOUTidle = 100", "sslVersionMin = TLSv1.3", "local = 10.0.0.1",
    ])) {
        prop_assert_eq!(refused(Kind::Stunnel, &text), None);
    }

    #[test]
    fn dovecot(text in lines(&[
        "\\n", "\\n", "\\n", "protocols = imap pop3", "listen = 192.0.2.1 ::1", "listen = *", "ssl = no", "ssl = required", "service imap-login {", "inet_listener imaps {", "inet_listener x {", "port = 993", "port = 0",
        "port = 99999", "ssl = yes", "haproxy = yes", "}", "}", "passdb {", "driver = static", "args = proxy=y host=10.0.0.5 port=143", "args = proxy host=%1u.x destuser=%n", "hostname = x", "auth_mechanisms = plain x-y external",
        "auth_failure_delay = 2 mins", "auth_failure_delay = 3", "login_trusted_networks = 10.0.0.0/8 x", "disable_plaintext_auth = no",
    ])) {
        prop_assert_eq!(refused(Kind::Dovecot, &text), None);
    }

    #[test]
    fn hosts_allow(text in lines(&[
        "\\n", "\\n", "\\n", "imapd:", "ipop3d, smtpd:", "ALL:", "sshd:", "ALL EXCEPT imapd:", "10.", "10.1.0.0/255.255.0.0", "[2001:db8::]/32", "ALL", "EXCEPT", "EXCEPT 10.1.2.3", ".example.net", "@group", ": deny", ": allow",
        ": spawn x", "# y",
    ])) {
        prop_assert_eq!(refused(Kind::HostsAllow, &text), None);
    }
}

#[test]
fn a_file_that_is_not_there_is_an_error_for_every_kind() {
    for kind in [Kind::Nginx, Kind::Perdition, Kind::Stunnel, Kind::Dovecot, Kind::HostsAllow] {
        assert!(read(kind, Path::new("/absent"), &mut Reading::default(), &mut Notes::default()).is_err());
    }
}
