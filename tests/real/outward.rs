//! Towards Dovecot and Postfix: TLS that they prove themselves by, and the client's address as each of them takes it.

use crate::clients::{client, curl, output_of, run};
use crate::gatepost::{Backend, Gatepost};
use crate::kept::{own_address, until, write};
use crate::servers::dovecot::{self, Dovecot};
use crate::servers::postfix;
use std::net::Ipv4Addr;
use std::path::Path;
use tempfile::TempDir;

/// What the network of the tests may say to a server about its clients.
const TRUSTED: &str = "login_trusted_networks = 127.0.0.0/8\nhaproxy_trusted_networks = 127.0.0.0/8\n";

fn openssl(directory: &Path, arguments: &str) {
    let mut openssl = client("openssl");
    openssl.current_dir(directory).args(arguments.split_whitespace());
    output_of(openssl, b"");
}

/// A folder with an authority (`ca.pem`) and a certificate it signed for this name, good for so many days.
fn certified(name: &str, days: u32) -> TempDir {
    certified_by("Old", name, days)
}

fn certified_by(authority: &str, name: &str, days: u32) -> TempDir {
    let made = tempfile::tempdir().expect("a directory");
    let folder = made.path();
    openssl(
        folder,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN={authority} -keyout ca.key -out ca.pem \
         -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign"
        ),
    );
    write(
        &folder.join("extensions"),
        format!("subjectAltName={name}\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"),
    );
    openssl(
        folder,
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=old -keyout key.pem -out request.pem",
    );
    openssl(
        folder,
        &format!("x509 -req -in request.pem -CA ca.pem -CAkey ca.key -days {days} -extfile extensions -out chain.pem"),
    );
    made
}

fn dovecot_with(folder: &TempDir) -> Dovecot {
    let at = folder.path().display();
    // Nothing but TLS for logins, so that a login in the clear would fail.
    Dovecot::start(&format!(
        "ssl = yes\nssl_cert = <{at}/chain.pem\nssl_key = <{at}/key.pem\ndisable_plaintext_auth = yes\n"
    ))
}

/// Logs in through the gateway.
fn reads_mail(gateway: &Gatepost, user: &str, from: Ipv4Addr, schemes: &[&str]) {
    for scheme in schemes {
        let mut curl = curl(gateway);
        curl.args(["--interface", &from.to_string(), "--user", &format!("{user}:secret")]);
        curl.arg(format!("{scheme}://mail.example.net/"));
        let ended = run(curl, b"");
        assert!(ended.ok, "{scheme}: {}\n{}", ended.said, gateway.log());
    }
}

#[test]
fn dovecot_is_spoken_to_under_tls_that_it_proves_itself_by() {
    let folder = certified("DNS:old.example.net", 30);
    let dovecot = dovecot_with(&folder);
    let user = dovecot.user("under-tls");
    let keys = format!("tls_ca: {}/ca.pem; tls_name: old.example.net", folder.path().display());
    let (imap, pop3) = (dovecot.imap(), dovecot.pop3());
    let starttls = Backend { imap: Some(imap), pop3: Some(pop3), smtp: None };
    let implicit =
        Backend { imap: Some((dovecot.address, 993).into()), pop3: Some((dovecot.address, 995).into()), smtp: None };
    for (backend, how) in [(starttls, "starttls"), (implicit, "implicit")] {
        let gateway = Gatepost::start_towards(backend, &format!("tls: {how}; {keys}"));
        reads_mail(&gateway, user, own_address(), &["imaps", "pop3s"]);
        let said = dovecot.kept.said();
        let logins: Vec<&str> = said.lines().filter(|line| line.contains("Login: user=<under-tls>")).collect();
        assert!(logins.len() >= 2 && logins.iter().all(|line| line.contains(", TLS")), "{how}: {said}");
    }
}

#[test]
fn a_new_authority_is_believed_after_a_reload() {
    let (folder, other) = (certified("DNS:old.example.net", 30), certified_by("Other", "DNS:old.example.net", 30));
    let dovecot = dovecot_with(&folder);
    let ca = other.path().join("ca.pem");
    let backend = Backend { imap: Some((dovecot.address, 993).into()), ..Backend::default() };
    let keys = format!("tls: implicit; tls_ca: {}; tls_name: old.example.net", ca.display());
    let gateway = Gatepost::start_towards(backend, &keys);
    let of_kind = |kind: &'static str| move |event: &serde_json::Value| event["event"] == kind;
    gateway.event_where("the server to be refused", of_kind("backend.down"));
    std::fs::copy(folder.path().join("ca.pem"), &ca).expect("ours");
    gateway.signal(nix::sys::signal::Signal::SIGHUP);
    gateway.event_where("the new authority to be believed", of_kind("backend.up"));
    reads_mail(&gateway, dovecot.user("after-reload"), own_address(), &["imaps"]);
}

#[test]
fn a_server_that_wants_our_certificate_gets_it() {
    let (theirs, ours) = (certified("DNS:old.example.net", 30), certified_by("Ours", "DNS:gate.example.net", 30));
    let (at, of_ours) = (theirs.path().display(), ours.path().display());
    let dovecot = Dovecot::start(&format!(
        "ssl = yes\nssl_cert = <{at}/chain.pem\nssl_key = <{at}/key.pem\ndisable_plaintext_auth = yes\n\
         ssl_ca = <{of_ours}/ca.pem\nssl_verify_client_cert = yes\nauth_ssl_require_client_cert = yes\nssl_require_crl = no\n"
    ));
    let user = dovecot.user("by-certificate");
    let backend = Backend { imap: Some(dovecot.imap()), ..Backend::default() };
    let keys = format!("tls: starttls; tls_ca: {at}/ca.pem; tls_name: old.example.net");
    for (keys, gets_in) in [
        (keys.clone(), false),
        (format!("{keys}; tls_certificate: {{ chain: {of_ours}/chain.pem, key: {of_ours}/key.pem }}"), true),
    ] {
        let gateway = Gatepost::start_towards(backend, &keys);
        let mut curl = curl(&gateway);
        curl.args(["--user", &format!("{user}:secret"), "imaps://mail.example.net/"]);
        let ended = run(curl, b"");
        assert_eq!(ended.ok, gets_in, "{}\n{}", ended.said, gateway.log());
    }
}

#[test]
fn a_large_mailbox_comes_whole_under_tls() {
    let folder = certified("DNS:old.example.net", 30);
    let dovecot = dovecot_with(&folder);
    let user = dovecot.user("large-tls");
    let message = format!("Subject: large\r\n\r\n{}", "0123456789abcdef\r\n".repeat(200_000));
    dovecot.deliver(user, message.replace("\r\n", "\n"));
    let keys = format!("tls: starttls; tls_ca: {}/ca.pem; tls_name: old.example.net", folder.path().display());
    let gateway = Gatepost::start_towards(Backend { imap: Some(dovecot.imap()), ..Backend::default() }, &keys);
    let mut curl = curl(&gateway);
    curl.args(["--user", "large-tls:secret", "imaps://mail.example.net/INBOX;MAILINDEX=1"]);
    assert!(output_of(curl, b"") == message, "the message is another");
}

#[test]
fn a_server_that_proves_to_be_another_is_as_good_as_down() {
    let (good, renewed) = (certified("DNS:old.example.net", 30), certified("DNS:old.example.net", 30));
    let (unknown, before) = (certified_by("Other", "DNS:old.example.net", 30), certified("DNS:old.example.net", 30));
    let rows = [
        (certified("DNS:old.example.net", 0), None, "has expired"),
        (certified("DNS:other.example.net", 30), None, "is not for old.example.net"),
        (good, Some(unknown.path().join("ca.pem")), "signed by nobody who is trusted"),
        (renewed, Some(before.path().join("ca.pem")), "is tls_ca an old one?"),
    ];
    for (folder, ca, words) in rows {
        let dovecot = dovecot_with(&folder);
        let ca = ca.unwrap_or_else(|| folder.path().join("ca.pem"));
        let keys = format!("tls: starttls; tls_ca: {}; tls_name: old.example.net", ca.display());
        let gateway = Gatepost::start_towards(Backend { imap: Some(dovecot.imap()), ..Backend::default() }, &keys);
        let down = gateway.event_where("the server to be down", |event| {
            event["event"] == "backend.down" && event["reason"] == "backend_tls"
        });
        assert!(down["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{words}: {down}");
        let mut curl = curl(&gateway);
        curl.args(["--verbose", "--user", "joe:secret", "imaps://mail.example.net/"]);
        let ended = run(curl, b"");
        assert!(!ended.ok && ended.said.contains("NO [UNAVAILABLE]"), "{}", ended.said);
        gateway.event_where("the client to hear it", |event| {
            event["event"] == "auth.error" && event["reason"] == "backend_tls"
        });
        assert!(!dovecot.kept.said().contains("user=<joe>"), "a name went to it:\n{}", dovecot.kept.said());
    }
}

#[test]
fn dovecot_takes_the_clients_address_as_it_is_configured() {
    let proxies: String = [("imap", 1143), ("pop3", 1110)]
        .iter()
        .map(|(name, port)| {
            format!(
                "service {name}-login {{\n inet_listener {name}_proxy {{\n  port = {port}\n  haproxy = yes\n }}\n}}\n"
            )
        })
        .collect();
    let dovecot = Dovecot::start(&format!("{TRUSTED}{proxies}"));
    let plain = Backend { imap: Some(dovecot.imap()), pop3: Some(dovecot.pop3()), smtp: None };
    let proxied =
        Backend { imap: Some((dovecot.address, 1143).into()), pop3: Some((dovecot.address, 1110).into()), smtp: None };
    let only_imap = Backend { pop3: None, ..plain };
    let only_pop3 = Backend { imap: None, ..plain };
    for (how, backend, schemes) in [
        ("proxy-v1", proxied, &["imaps", "pop3s"][..]),
        ("proxy-v2", proxied, &["imaps", "pop3s"]),
        ("imap-id", only_imap, &["imaps"]),
        ("xclient", only_pop3, &["pop3s"]),
    ] {
        let (from, user) = (own_address(), format!("seen-by-{how}"));
        dovecot.user(&user);
        let gateway = Gatepost::start_towards(backend, &format!("client_address: {how}"));
        for scheme in schemes {
            let mut curl = curl(&gateway);
            curl.args(["--interface", &from.to_string(), "--user", &format!("{user}:secret")]);
            curl.arg(format!("{scheme}://mail.example.net/"));
            let ended = run(curl, b"");
            assert!(ended.ok, "{how} {scheme}: {}\n{}\n{}", ended.said, gateway.log(), dovecot.kept.said());
            let service = if *scheme == "imaps" { "imap-login" } else { "pop3-login" };
            let login = until(&format!("{how}: Dovecot's word on the login"), || {
                let said = dovecot.kept.said();
                let is_it = |line: &&str| line.contains(service) && line.contains(&format!("Login: user=<{user}>"));
                said.lines().find(is_it).map(str::to_owned)
            });
            assert!(login.contains(&format!("rip={from},")), "{how}: {login}");
        }
    }
}

#[test]
fn postfix_takes_the_clients_address_as_it_is_configured() {
    let postfix = postfix::with_auth_by(dovecot::shared(), "smtpd_authorized_xclient_hosts = 127.0.0.0/8\n");
    for (how, server) in [
        ("proxy-v1", postfix.smtp_behind_a_proxy()),
        ("proxy-v2", postfix.smtp_behind_a_proxy()),
        ("xclient", postfix.smtp()),
        ("received", postfix.smtp()),
    ] {
        let (from, user) = (own_address(), format!("sent-by-{how}"));
        let user = dovecot::shared().user(&user);
        let backend = Backend { smtp: Some(server), ..Backend::default() };
        let gateway = Gatepost::start_towards(backend, &format!("client_address: {how}"));
        sends_mail(&gateway, user, from);
        let message = String::from_utf8(dovecot::shared().arrived(user)).expect("ASCII");
        let received: Vec<String> = message
            .replace("\r\n\t", " ")
            .replace("\r\n ", " ")
            .lines()
            .filter(|line| line.starts_with("Received: from") && !line.contains(" with LMTP "))
            .map(str::to_owned)
            .collect();
        let told = received.iter().any(|line| line.contains(&format!("[{from}]")));
        assert!(told, "{how}: {received:#?}\n{}", postfix.log());
        assert_eq!(received.len(), if how == "received" { 2 } else { 1 }, "{how}: {received:#?}");
    }
}

#[test]
fn postfix_is_spoken_to_under_tls_and_told_of_the_client_there() {
    let folder = certified("DNS:old.example.net", 30);
    let at = folder.path().display();
    let postfix = postfix::with_auth_by(
        dovecot::shared(),
        &format!(
            "smtpd_authorized_xclient_hosts = 127.0.0.0/8\nsmtpd_tls_security_level = encrypt\nsmtpd_tls_auth_only = yes\n\
             smtpd_tls_cert_file = {at}/chain.pem\nsmtpd_tls_key_file = {at}/key.pem\nsmtpd_tls_received_header = yes\n"
        ),
    );
    let (from, user) = (own_address(), dovecot::shared().user("sent-under-tls"));
    let keys = format!("client_address: xclient; tls: starttls; tls_ca: {at}/ca.pem; tls_name: old.example.net");
    let gateway = Gatepost::start_towards(Backend { smtp: Some(postfix.smtp()), ..Backend::default() }, &keys);
    sends_mail(&gateway, user, from);
    let message = String::from_utf8(dovecot::shared().arrived(user)).expect("ASCII").replace("\r\n\t", " ");
    assert!(message.contains(&format!("[{from}]")) && message.contains("using TLSv1.3"), "{message}");
}

/// Sends a message from `user` to itself, from this address.
fn sends_mail(gateway: &Gatepost, user: &str, from: Ipv4Addr) {
    let address = format!("{user}@example.net");
    let mut curl = curl(gateway);
    curl.args(["--interface", &from.to_string(), "--user", &format!("{user}:secret"), "smtps://mail.example.net/"]);
    curl.args(["--mail-from", &address, "--mail-rcpt", &address, "--upload-file", "-"]);
    let ended = run(curl, b"Subject: hello\r\n\r\nthere\r\n");
    assert!(ended.ok, "{}\n{}", ended.said, gateway.log());
}
