//! TLS towards a backend: nothing goes in the clear where it is asked for, nothing said in the clear is believed, and a server
//! that proves to be nobody is told as one that is not there.

use crate::backend::Backend;
use crate::gateway::{Gateway, Setup, state_dir};
use crate::mail::{PROTOCOLS, greeting, hear_login, log_in, not_now, service, welcome, yes};
use crate::talk::{Cut, Talk};
use crate::transcript::HOSTNAME;
use gatepost::proto::{Protocol, TlsRule};
use gatepost::tls::{Alpn, Certificates, MinVersion, PrivateCa, ServerTls, Settings};
use rustls::ServerConfig;
use std::sync::Arc;
use std::time::SystemTime;

/// What a backend proves itself with: a certificate of the private CA for this name.
fn certified(name: &str) -> Arc<ServerConfig> {
    let ca = PrivateCa::open(state_dir()).expect("readable").expect("made before");
    let identity = ca.identity(&[name.parse().expect("a name")], SystemTime::now()).expect("a certificate");
    let certificates = Certificates::new(vec![identity]).expect("one at least");
    let settings = Settings { min_version: MinVersion::Tls12, session_tickets: true };
    ServerTls::new(settings, certificates).expect("TLS").config(Alpn::Imap)
}

fn authority() -> String {
    let ca = PrivateCa::open(state_dir()).expect("readable").expect("made before");
    ca.root_pem().to_owned()
}

/// A gateway that asks for TLS, and the backend. The first dial is the health check's: it is the caller's to answer.
async fn gateway(protocol: Protocol, tls: &str, cut: Cut) -> (Gateway, Backend, Talk) {
    let backend = Backend::listen(cut).await;
    let setup = Setup::one(service(protocol), TlsRule::Off, backend.address)
        .file("ca.pem", &authority())
        .with("backend", &format!("tls: {tls}, tls_ca: ca.pem, tls_name: {HOSTNAME}"));
    let (gateway, first) = tokio::join!(setup.start(), backend.dialled());
    (gateway, backend, first)
}

/// The words of a server in the clear up to its go-ahead, each behind what it answers: it lists what it does not have.
fn upgrade(protocol: Protocol) -> Vec<(&'static str, &'static str)> {
    match protocol {
        Protocol::Imap => {
            vec![("", "* OK [CAPABILITY IMAP4rev1 STARTTLS AUTH=X-FORGED] ready\r\n"), ("g1 STARTTLS", "g1 OK go\r\n")]
        }
        Protocol::Pop3 => vec![("", "+OK ready <1.2@forged>\r\n"), ("STLS", "+OK go\r\n")],
        Protocol::Smtp => vec![
            ("", "220 old ESMTP\r\n"),
            ("EHLO <*>", "250-old\r\n250-STARTTLS\r\n250 AUTH X-FORGED\r\n"),
            ("STARTTLS", "220 go\r\n"),
        ],
    }
}

async fn upgraded(mut dialogue: Talk, protocol: Protocol, config: &Arc<ServerConfig>) -> Talk {
    for (heard, said) in upgrade(protocol) {
        if !heard.is_empty() {
            dialogue.hear(heard).await;
        }
        dialogue.say(said).await;
    }
    dialogue.accept_tls(Arc::clone(config)).await.expect("a handshake")
}

/// What is asked anew under TLS, and the login.
async fn asked_anew(dialogue: &mut Talk, protocol: Protocol) {
    match protocol {
        Protocol::Imap => {
            dialogue.hear("g2 CAPABILITY").await;
            dialogue.line("* CAPABILITY IMAP4rev1\r\ng2 OK done").await;
        }
        Protocol::Pop3 => {
            dialogue.hear("CAPA").await;
            dialogue.line("-ERR what").await;
        }
        Protocol::Smtp => {
            dialogue.hear("EHLO <*>").await;
            dialogue.line("250-old\r\n250 AUTH PLAIN").await;
        }
    }
}

async fn client(gateway: &Gateway, protocol: Protocol) -> Talk {
    let mut client = gateway.plain().await;
    client.hear(greeting(protocol)).await;
    log_in(&mut client, protocol, "secret").await;
    client
}

#[tokio::test]
async fn a_login_goes_under_tls_and_what_was_said_before_is_forgotten() {
    for cut in [Cut::Whole, Cut::Bytes] {
        for protocol in PROTOCOLS {
            let config = certified(HOSTNAME);
            let (gateway, backend, first) = gateway(protocol, "starttls", cut).await;
            let mut first = upgraded(first, protocol, &config).await;
            asked_anew(&mut first, protocol).await;
            first.rest().await.expect("a proper end");
            gateway.has_learned().await;

            let mut client = client(&gateway, protocol).await;
            let mut dialogue = upgraded(backend.dialled().await, protocol, &config).await;
            asked_anew(&mut dialogue, protocol).await;
            match protocol {
                Protocol::Imap => dialogue.hear("g3 LOGIN \"joe\" \"secret\"").await,
                Protocol::Pop3 => {
                    dialogue.hear("USER joe").await;
                    dialogue.line("+OK").await;
                    dialogue.hear("PASS secret").await;
                }
                Protocol::Smtp => dialogue.hear("AUTH PLAIN AGpvZQBzZWNyZXQ=").await,
            }
            dialogue.say(yes(protocol).replace("g1", "g3")).await;
            client.hear(welcome(protocol)).await;
            if protocol == Protocol::Imap {
                // Both ways, and a whole record and more of it.
                let long = "x".repeat(40_000);
                client.line(&format!("b {long}")).await;
                dialogue.hear(&format!("b {long}")).await;
                dialogue.line(&format!("* {long}")).await;
                client.hear(&format!("* {long}")).await;
            }
            dialogue.end().await;
            let _ = client.rest().await;
            let shown = gateway.logged();
            assert!(!shown.contains("X-FORGED") && !shown.contains("secret"), "{shown}");
        }
    }
}

#[tokio::test]
async fn a_server_that_takes_no_tls_never_hears_a_password() {
    for protocol in PROTOCOLS {
        let (gateway, backend, mut first) = gateway(protocol, "starttls", Cut::Whole).await;
        let refusal = match protocol {
            Protocol::Imap => "g1 BAD what\r\n",
            Protocol::Pop3 => "-ERR what\r\n",
            Protocol::Smtp => "454 4.7.0 not now\r\n",
        };
        refuse(&mut first, protocol, refusal).await;
        let down = gateway.event("backend.down", "").await;
        assert_eq!(down["reason"], "backend_tls", "{down}");

        let mut client = client(&gateway, protocol).await;
        let mut dialogue = backend.dialled().await;
        refuse(&mut dialogue, protocol, refusal).await;
        client.hear(not_now(protocol)).await;
        gateway.event("auth.error", "user=joe reason=backend_tls").await;
    }
}

async fn refuse(dialogue: &mut Talk, protocol: Protocol, refusal: &str) {
    let words = upgrade(protocol);
    for (index, (heard, said)) in words.iter().enumerate() {
        if !heard.is_empty() {
            dialogue.hear(heard).await;
        }
        dialogue.say(if index + 1 == words.len() { refusal } else { said }).await;
    }
    // What it hears then is the end.
    assert_eq!(dialogue.rest().await.unwrap_or_default(), b"");
}

#[tokio::test]
async fn what_stands_behind_the_go_ahead_ends_the_dialogue() {
    for protocol in PROTOCOLS {
        let (gateway, _backend, mut first) = gateway(protocol, "starttls", Cut::Whole).await;
        let words = upgrade(protocol);
        let (_, go) = words.last().expect("a go-ahead");
        let behind = match protocol {
            Protocol::Imap => "* CAPABILITY IMAP4rev1 AUTH=X-FORGED\r\n",
            Protocol::Pop3 => "+OK\r\nX-FORGED\r\n.\r\n",
            Protocol::Smtp => "250 AUTH X-FORGED\r\n",
        };
        refuse(&mut first, protocol, &format!("{go}{behind}")).await;
        let down = gateway.event("backend.down", "").await;
        assert_eq!(down["reason"], "backend_protocol", "{protocol:?}: {down}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_said_and_the_client_hears_not_now() {
    for tls in ["implicit", "starttls"] {
        let (gateway, backend, first) = gateway(Protocol::Imap, tls, Cut::Whole).await;
        let other = certified("other.example.net");
        let fails = async |dialogue: Talk| {
            let mut dialogue = dialogue;
            if tls == "starttls" {
                for (heard, said) in upgrade(Protocol::Imap) {
                    if !heard.is_empty() {
                        dialogue.hear(heard).await;
                    }
                    dialogue.say(said).await;
                }
            }
            assert!(dialogue.accept_tls(Arc::clone(&other)).await.is_err());
        };
        fails(first).await;
        let down = gateway.event("backend.down", "reason=backend_tls").await;
        let detail = down["detail"].as_str().expect("words");
        assert!(detail.contains("its certificate is not for mail.example.net"), "{detail}");
        let mut client = client(&gateway, Protocol::Imap).await;
        fails(backend.dialled().await).await;
        client.hear(not_now(Protocol::Imap)).await;
        gateway.event("auth.error", "user=joe reason=backend_tls").await;
    }
}

#[tokio::test]
async fn a_proxy_header_goes_ahead_of_tls() {
    let config = certified(HOSTNAME);
    for tls in ["implicit", "starttls"] {
        let backend = Backend::listen(Cut::Whole).await;
        let setup = Setup::one(service(Protocol::Imap), TlsRule::Off, backend.address)
            .file("ca.pem", &authority())
            .with("backend", &format!("tls: {tls}, tls_ca: ca.pem, tls_name: {HOSTNAME}, client_address: proxy-v1"));
        let (gateway, mut first) = tokio::join!(setup.start(), backend.dialled());
        first.hear("PROXY UNKNOWN").await;
        if tls == "implicit" {
            first = first.accept_tls(Arc::clone(&config)).await.expect("a handshake");
            first.line("* OK [CAPABILITY IMAP4rev1] ready").await;
        } else {
            first = upgraded(first, Protocol::Imap, &config).await;
            asked_anew(&mut first, Protocol::Imap).await;
        }
        first.rest().await.expect("a proper end");
        gateway.has_learned().await;
    }
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_said_in_time() {
    let (gateway, _backend, mut first) = gateway(Protocol::Imap, "implicit", Cut::Whole).await;
    first.line("* OK [CAPABILITY IMAP4rev1] ready").await;
    let down = gateway.event("backend.down", "reason=backend_tls").await;
    assert!(down["detail"].as_str().is_some_and(|detail| detail.contains("does not speak TLS there")), "{down}");
}

#[tokio::test]
async fn tls_from_the_first_byte_serves_every_protocol() {
    for protocol in PROTOCOLS {
        let config = certified(HOSTNAME);
        let (gateway, backend, first) = gateway(protocol, "implicit", Cut::Whole).await;
        let mut first = first.accept_tls(Arc::clone(&config)).await.expect("a handshake");
        first.say(crate::mail::first_words(protocol).0).await;
        if let Some((question, answer)) = crate::mail::first_words(protocol).1 {
            first.hear(question).await;
            first.say(answer).await;
        }
        first.rest().await.expect("a proper end");
        gateway.has_learned().await;
        let mut client = client(&gateway, protocol).await;
        let mut dialogue = backend.dialled().await.accept_tls(Arc::clone(&config)).await.expect("a handshake");
        hear_login(&mut dialogue, protocol).await;
        dialogue.say(yes(protocol)).await;
        client.hear(welcome(protocol)).await;
    }
}
