//! `gatepost probe` against Dovecot and Postfix, set up badly on purpose, and well.

use crate::authority::{Authority, Order, of_dovecot, of_postfix};
use crate::clients::{client, run};
use crate::servers::{dovecot::Dovecot, postfix};
use serde_json::Value;
use std::net::Ipv4Addr;

/// What is found when `url` is asked at `address`, and the exit code.
fn probe(authority: &Authority, url: &str, address: Ipv4Addr) -> (Value, Option<i32>) {
    let mut probe = client(env!("CARGO_BIN_EXE_gatepost"));
    probe.args(["probe", "--json", "--connect", &address.to_string(), url, "--ca"]).arg(authority.root());
    let ended = run(probe, b"");
    let found = serde_json::from_str(&ended.said).unwrap_or_else(|error| panic!("{error}: {}", ended.said));
    (found, ended.code)
}

/// What was looked at, and how it is, in one word each.
fn grades(found: &Value) -> Vec<String> {
    let findings = found["findings"].as_array().expect("a list");
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    findings.iter().map(|finding| format!("{} {}", word(&finding["grade"]), word(&finding["code"]))).collect()
}

#[track_caller]
fn has(found: &Value, wanted: &[&str]) {
    let grades = grades(found);
    for finding in wanted {
        assert!(grades.iter().any(|grade| grade == finding), "lacks {finding:?}: {found:#}");
    }
}

/// The versions of TLS in which openssl, told to be content with anything, comes to a session.
fn versions_by_openssl(address: Ipv4Addr) -> Vec<&'static str> {
    let versions = [("1.0", "-tls1"), ("1.1", "-tls1_1"), ("1.2", "-tls1_2"), ("1.3", "-tls1_3")];
    let taken = versions.into_iter().filter(|(_, option)| {
        let mut openssl = client("openssl");
        openssl.args([
            "s_client",
            "-connect",
            &format!("{address}:993"),
            option,
            "-cipher",
            "ALL:@SECLEVEL=0",
            "-ign_eof",
        ]);
        let said = run(openssl, b"a LOGOUT\r\n").said;
        assert!(said.contains("Cipher is"), "{said}");
        !said.contains("Cipher is (NONE)")
    });
    taken.map(|(version, _)| version).collect()
}

/// Everything about the certificate that can be wrong at once, and old TLS.
fn worst() -> Order<'static> {
    Order {
        names: "DNS:other.example.net",
        key: "rsa:1024",
        digest: "sha1",
        dates: ("190101000000Z", "200101000000Z"),
        ..Order::GOOD
    }
}

#[test]
fn dovecot_set_up_badly_is_told_everything_at_once() {
    let authority = Authority::new();
    let pair = authority.sign("worst", &worst());
    let dovecot = Dovecot::start(&format!(
        "ssl = yes\nssl_min_protocol = TLSv1\nssl_cipher_list = ALL:@SECLEVEL=0\n{}",
        of_dovecot(&pair)
    ));
    assert_eq!(versions_by_openssl(dovecot.address), ["1.0", "1.1", "1.2", "1.3"]);
    let certificate = ["bad expired", "bad wrong_name", "bad weak_key", "bad weak_signature", "bad old_tls"];
    for url in ["imaps", "pop3s", "imap", "pop3"].map(|scheme| format!("{scheme}://mail.example.net")) {
        let (found, code) = probe(&authority, &url, dovecot.address);
        assert_eq!(code, Some(1));
        has(&found, &certificate);
        assert_eq!(found["tls"]["accepted"], serde_json::json!(["1.0", "1.1", "1.2", "1.3"]), "{found:#}");
        assert_eq!(found["tls"]["refused"], serde_json::json!(["ssl3"]), "{found:#}");
        assert_eq!(found["certificate"]["chain"][0]["key"], "RSA, 1024 bits");
        if !url.contains("s:") {
            has(&found, &["bad plaintext_login", "ok starttls", "ok starttls_injection"]);
        }
    }
}

#[test]
fn dovecot_set_up_well_has_nothing_bad() {
    let authority = Authority::new();
    let pair = authority.sign("good", &Order::GOOD);
    // `ssl = required` alone shows POP3 clients USER before TLS, and refuses the password only when it was said.
    let settings = "ssl = required\ndisable_plaintext_auth = yes\nssl_min_protocol = TLSv1.2\n";
    let dovecot = Dovecot::start(&format!("{settings}{}", of_dovecot(&pair)));
    assert_eq!(versions_by_openssl(dovecot.address), ["1.2", "1.3"]);
    for url in ["imaps", "pop3s", "imap", "pop3"].map(|scheme| format!("{scheme}://mail.example.net")) {
        let (found, code) = probe(&authority, &url, dovecot.address);
        has(&found, &["ok certificate", "ok old_tls", "ok tls13"]);
        assert_eq!((code, &found["grade"]), (Some(0), &"ok".into()), "{found:#}");
        assert_eq!(found["tls"]["accepted"], serde_json::json!(["1.2", "1.3"]), "{found:#}");
        if !url.contains("s:") {
            has(&found, &["ok starttls", "ok plaintext_login", "ok starttls_injection"]);
        }
    }
}

#[test]
fn postfix_set_up_badly_relays_and_shows_it() {
    let authority = Authority::new();
    let pair = authority.sign("worst", &worst());
    let postfix = postfix::with_auth_by(
        crate::servers::dovecot::shared(),
        &format!(
            "mynetworks = 127.0.0.0/8\n\
             smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n\
             smtpd_tls_security_level = may\n\
             smtpd_tls_protocols = >=TLSv1\n\
             tls_medium_cipherlist = ALL:@SECLEVEL=0\n\
             {}",
            of_postfix(&pair)
        ),
    );
    for url in ["smtp://mail.example.net", "submission://mail.example.net:25"] {
        let (found, code) = probe(&authority, url, postfix.address);
        assert_eq!(code, Some(1));
        has(&found, &["bad expired", "bad wrong_name", "bad weak_key", "bad weak_signature", "bad old_tls"]);
        has(&found, &["bad open_relay", "bad plaintext_login", "ok starttls", "ok starttls_injection"]);
        assert_eq!(found["tls"]["accepted"], serde_json::json!(["1.0", "1.1", "1.2", "1.3"]), "{found:#}");
    }
    assert!(!postfix.log().contains("status=sent"), "no mail was sent: {}", postfix.log());
}

#[test]
fn postfix_set_up_well_has_nothing_bad() {
    let authority = Authority::new();
    let pair = authority.sign("good", &Order::GOOD);
    let postfix = postfix::with_auth_by(
        crate::servers::dovecot::shared(),
        &format!(
            "smtpd_tls_security_level = may\nsmtpd_tls_auth_only = yes\nsmtpd_tls_protocols = >=TLSv1.2\n{}",
            of_postfix(&pair)
        ),
    );
    for url in ["smtp://mail.example.net", "submission://mail.example.net:25"] {
        let (found, code) = probe(&authority, url, postfix.address);
        has(&found, &["ok certificate", "ok old_tls", "ok tls13", "ok starttls", "ok plaintext_login"]);
        has(&found, &["ok starttls_injection", "ok open_relay"]);
        assert_eq!((code, &found["grade"]), (Some(0), &"ok".into()), "{found:#}");
    }
}

#[test]
fn a_certificate_near_its_end_or_signed_by_itself_is_told_apart() {
    let authority = Authority::new();
    let soon = time::OffsetDateTime::now_utc() + time::Duration::days(5);
    let format = time::macros::format_description!("[year repr:last_two][month][day][hour][minute][second]Z");
    let soon = soon.format(format).expect("a date");
    let near = Order { dates: ("200101000000Z", &soon), ..Order::GOOD };
    let dovecot = Dovecot::start(&format!("ssl = required\n{}", of_dovecot(&authority.sign("near", &near))));
    let (found, code) = probe(&authority, "imaps://mail.example.net", dovecot.address);
    has(&found, &["warn expires_soon"]);
    assert_eq!((code, &found["grade"]), (Some(0), &"warn".into()), "{found:#}");

    let other = Authority::new();
    let (found, code) = probe(&other, "imaps://mail.example.net", dovecot.address);
    has(&found, &["bad incomplete_chain", "warn expires_soon"]);
    assert_eq!(code, Some(1));

    let dovecot = Dovecot::start(&format!("ssl = required\n{}", of_dovecot(&authority.own())));
    let (found, code) = probe(&other, "imaps://mail.example.net", dovecot.address);
    has(&found, &["bad self_signed", "bad no_names"]);
    assert_eq!((code, &found["certificate"]["trusted"]), (Some(1), &false.into()));
    let (found, _) = probe(&authority, "imaps://mail.example.net", dovecot.address);
    assert_eq!(found["certificate"]["trusted"], true, "who was given that very certificate takes it: {found:#}");
}
