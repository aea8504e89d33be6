//! No password, challenge, response or token in anything the gateway says of itself, at any level, whoever repeats it.

use crate::gateway::{Gateway, Log, Setup, own_addresses};
use crate::mail::PROTOCOLS;
use crate::talk::{Cut, Talk};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gatepost::observe::{Observe, Style};
use gatepost::proto::{Protocol, Service, TlsRule};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;

const PASSWORD: &str = "Tr0ub4dor\"3";
const CHALLENGE: &str = "<challenge.of.the.backend>";
const DIGEST: &str = "b913a602c7eda7a495b4e6e7334d3890";
const TOKEN: &str = "ya29.token-of-joe";

fn b64(text: &str) -> String {
    STANDARD.encode(text)
}

/// Everything that must not be found anywhere.
fn secrets() -> Vec<String> {
    let response = format!("joe {DIGEST}");
    let oauth = format!("user=joe\x01auth=Bearer {TOKEN}\x01\x01");
    let plain = format!("\0joe\0{PASSWORD}");
    let mut all: Vec<String> = [PASSWORD, CHALLENGE, DIGEST, TOKEN].map(str::to_owned).into();
    all.extend([PASSWORD, CHALLENGE, &response, &oauth, &plain].map(b64));
    // As it stands in a quoted string of IMAP, in JSON, and in both.
    all.extend(["Tr0ub4dor\\\"3", "Tr0ub4dor"].map(str::to_owned));
    all
}

/// What clients say to log in, a line for each answer.
fn attempts(protocol: Protocol) -> Vec<Vec<String>> {
    let plain = b64(&format!("\0joe\0{PASSWORD}"));
    let oauth = b64(&format!("user=joe\x01auth=Bearer {TOKEN}\x01\x01"));
    let digest = b64(&format!("joe {DIGEST}"));
    let (user, password) = (b64("joe"), b64(PASSWORD));
    let auth = if protocol == Protocol::Imap { "a AUTHENTICATE" } else { "AUTH" };
    let line = |text: String| vec![text];
    let mut all = vec![
        line(format!("{auth} PLAIN {plain}")),
        vec![format!("{auth} PLAIN"), plain.clone()],
        vec![format!("{auth} LOGIN"), user.clone(), password.clone()],
        vec![format!("{auth} CRAM-MD5"), digest.clone()],
        line(format!("{auth} XOAUTH2 {oauth}")),
        vec![format!("{auth} XOAUTH2"), oauth.clone()],
        // Malformed, taken back, not offered, not a command.
        line(format!("{auth} PLAIN !{plain}")),
        line(format!("{auth} PLAIN {plain} {plain}")),
        vec![format!("{auth} PLAIN"), format!("!{plain}")],
        vec![format!("{auth} LOGIN"), user, format!("{password}\0")],
        vec![format!("{auth} CRAM-MD5"), "*".to_owned()],
        vec![format!("{auth} CRAM-MD5"), format!("!{digest}")],
        line(format!("{auth} GSSAPI {plain}")),
        line(format!("PASSWORD {PASSWORD} {plain}")),
    ];
    match protocol {
        Protocol::Imap => all.extend([
            line("a LOGIN joe \"Tr0ub4dor\\\"3\"".to_owned()),
            vec![format!("a LOGIN joe {{{}}}", PASSWORD.len()), PASSWORD.to_owned()],
            line(format!("a LOGIN joe \"Tr0ub4dor\\\"3\" {PASSWORD}")),
            line("a LOGIN joe \"Tr0ub4dor\\\"3\0\"".to_owned()),
        ]),
        Protocol::Pop3 => all.extend([
            vec!["USER joe".to_owned(), format!("PASS {PASSWORD}")],
            vec!["USER joe".to_owned(), format!("PASS {PASSWORD}\0")],
            line(format!("PASS {PASSWORD}")),
        ]),
        Protocol::Smtp => all.push(vec![format!("{auth} LOGIN {}", b64("joe")), password]),
    }
    all
}

/// The verdicts of the backend: it repeats in each what it was sent, as some old ones do.
const VERDICTS: usize = 6;

fn verdict(protocol: Protocol, number: usize, tag: &str, heard: &str, challenged: bool) -> Option<String> {
    let mut text = format!("I heard {heard}");
    if challenged {
        text += &format!(" after {CHALLENGE} which is {}", b64(CHALLENGE));
    }
    let [ok, no, temporary, garbage] = match protocol {
        Protocol::Imap => ["OK", "NO", "NO [UNAVAILABLE]", "BAD"],
        Protocol::Pop3 => ["+OK", "-ERR", "-ERR [SYS/TEMP]", "?"],
        Protocol::Smtp => ["235", "535", "454 4.7.0", "999"],
    };
    match number % VERDICTS {
        0 => Some(format!("{tag}{ok} {text}")),
        1 => Some(format!("{tag}{no} {text}")),
        2 => Some(format!("{tag}{temporary} {text}")),
        3 => Some(format!("{tag}{garbage} {text}")),
        4 => Some(format!("{text} {heard}")),
        _ => None,
    }
}

/// A backend that takes every way in and repeats what it hears.
async fn parrot(protocol: Protocol, verdicts: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind((own_addresses(), 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let verdicts = Arc::clone(&verdicts);
            tokio::spawn(async move { repeat(Talk::over(stream, Cut::Whole), protocol, &verdicts).await });
        }
    });
    address
}

async fn repeat(mut talk: Talk, protocol: Protocol, verdicts: &AtomicUsize) -> Result<(), String> {
    talk.line(match protocol {
        Protocol::Imap => "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=CRAM-MD5 AUTH=XOAUTH2] ready",
        Protocol::Pop3 => "+OK ready",
        Protocol::Smtp => "220 ready ESMTP",
    })
    .await;
    let challenge = if protocol == Protocol::Smtp { "334" } else { "+" };
    loop {
        let line = talk.next_line().await?;
        let (tag, command) = match protocol {
            Protocol::Imap => {
                line.split_once(' ').map_or((String::new(), &*line), |(tag, rest)| (format!("{tag} "), rest))
            }
            _ => (String::new(), &*line),
        };
        let words: Vec<&str> = command.split(' ').collect();
        let (mut heard, mut challenged) = (command.to_owned(), false);
        match words[0] {
            "CAPA" => {
                talk.line("+OK\r\nUSER\r\nSASL PLAIN CRAM-MD5 XOAUTH2\r\n.").await;
                continue;
            }
            "EHLO" => {
                talk.line("250-old\r\n250 AUTH PLAIN CRAM-MD5 XOAUTH2").await;
                continue;
            }
            "USER" => {
                talk.line("+OK").await;
                continue;
            }
            "QUIT" | "LOGOUT" => return Ok(()),
            "AUTH" | "AUTHENTICATE" if words.len() == 2 => {
                challenged = words[1] == "CRAM-MD5";
                let asks = if challenged { b64(CHALLENGE) } else { String::new() };
                talk.line(&format!("{challenge} {asks}")).await;
                heard = talk.next_line().await?;
            }
            _ => {}
        }
        match verdict(protocol, verdicts.fetch_add(1, Ordering::Relaxed), &tag, &heard, challenged) {
            Some(said) => talk.line(&said).await,
            None => return Ok(()),
        }
    }
}

/// Says an attempt's lines, each after the answer to the one before.
async fn attempt(gateway: &Gateway, lines: &[String]) {
    let mut client = gateway.plain().await;
    client.next_line().await.expect("a greeting");
    for line in lines {
        client.line(line).await;
        if client.next_line().await.is_err() {
            break;
        }
    }
    client.end().await;
    let _ = client.rest().await;
    gateway.event("session.closed", "").await;
}

#[tokio::test]
async fn nothing_that_logs_somebody_in_is_said_by_anything() {
    for protocol in PROTOCOLS {
        let service = match protocol {
            Protocol::Imap => Service::Imap,
            Protocol::Pop3 => Service::Pop3,
            Protocol::Smtp => Service::Submission,
        };
        for tls in [TlsRule::Off, TlsRule::StartTls] {
            let log = Log::default();
            let observe = Observe::with_style(Box::new(log.clone()), Style::Json, Level::TRACE);
            // The program's own messages, which it writes through the same.
            let messages = tracing_subscriber::registry().with(observe.diagnostics());
            let _messages = tracing::subscriber::set_default(messages);
            let verdicts = Arc::new(AtomicUsize::new(0));
            let backend = parrot(protocol, Arc::clone(&verdicts)).await;
            let gateway = Setup::one(service, tls, backend).start_observed(Arc::clone(&observe), log).await;
            gateway.has_learned().await;
            for lines in attempts(protocol) {
                for number in 0..VERDICTS {
                    verdicts.store(number, Ordering::Relaxed);
                    attempt(&gateway, &lines).await;
                }
            }
            gateway.is_empty().await;
            let said = gateway.logged() + &observe.metrics().render();
            for expected in if tls == TlsRule::Off {
                &["auth.ok", "auth.failed", "auth.refused", "auth.error"][..]
            } else {
                &["auth.refused"]
            } {
                assert!(said.contains(expected), "{protocol:?} {tls:?}: no {expected}");
            }
            for secret in secrets() {
                let quoted = serde_json::to_string(&secret).expect("a text");
                for form in [&*secret, quoted.trim_matches('"')] {
                    let line = said.lines().find(|line| line.contains(form));
                    assert_eq!(line, None, "{protocol:?} {tls:?}: {form}");
                }
            }
        }
    }
}
