//! Clients that speak something else, or too much of it.

use crate::backend::Post;
use crate::gateway::{Gateway, Setup};
use crate::mail::{PROTOCOLS, greeting, log_in, welcome};
use crate::talk::{Cut, Talk};
use gatepost::proto::{Protocol, Service, TlsRule};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

async fn gateway(protocol: Protocol, tls: TlsRule, timeouts: &str) -> (Gateway, Post) {
    let service = match protocol {
        Protocol::Imap => Service::Imap,
        Protocol::Pop3 => Service::Pop3,
        Protocol::Smtp => Service::Submission,
    };
    let post = Post::serve(protocol).await;
    let mut setup = Setup::one(service, tls, post.address);
    if !timeouts.is_empty() {
        setup = setup.with("timeouts", timeouts);
    }
    let gateway = setup.start().await;
    gateway.has_learned().await;
    (gateway, post)
}

/// The lines of the log about sessions and handshakes, the health check's and the certificate's aside.
fn lines_about_clients(gateway: &Gateway) -> Vec<String> {
    gateway.logged().lines().filter(|line| line.contains("\"client_ip\"")).map(str::to_owned).collect()
}

#[tokio::test]
async fn whoever_speaks_in_the_clear_on_a_tls_port_is_one_line_that_names_the_mistake() {
    for protocol in PROTOCOLS {
        for said in ["EHLO pc\r\n", "a CAPABILITY\r\n", "CAPA\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n"] {
            let (gateway, post) = gateway(protocol, TlsRule::Implicit, "").await;
            let mut client = gateway.plain().await;
            client.say(said).await;
            // A TLS alert, perhaps, and never a word in the clear.
            let heard = client.rest().await.unwrap_or_default();
            assert!(heard.is_empty() || heard.starts_with(b"\x15\x03"), "{}", heard.escape_ascii());
            client.end().await;
            let event = gateway.event("tls.failed", "reason=plaintext_on_tls_port").await;
            assert!(event["detail"].as_str().is_some_and(|detail| detail.contains("in the clear")), "{event}");
            gateway.is_empty().await;
            let lines = lines_about_clients(&gateway);
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert_eq!(post.dialled(), 1);
        }
    }
}

#[tokio::test]
async fn a_tls_handshake_on_a_port_in_the_clear_is_one_line_that_names_the_mistake() {
    for protocol in PROTOCOLS {
        for (tls, cut) in
            [TlsRule::StartTls, TlsRule::Optional, TlsRule::Off].into_iter().zip([Cut::Whole, Cut::Bytes, Cut::Whole])
        {
            let (gateway, post) = gateway(protocol, tls, "").await;
            let client = Talk::connect(gateway.address(), None, cut).await.expect("it listens");
            assert!(client.start_tls(gateway.trust()).await.is_err(), "a handshake in the middle of words");
            let event = gateway.event("session.closed", "reason=tls_on_plaintext_port").await;
            assert!(event["detail"].as_str().is_some_and(|detail| detail.contains("implicit TLS")), "{event}");
            gateway.is_empty().await;
            let lines = lines_about_clients(&gateway);
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert_eq!(post.dialled(), 1);
        }
    }
}

#[tokio::test]
async fn behind_the_go_ahead_for_tls_nothing_is_read_in_the_clear() {
    for (protocol, ask, go_ahead) in [
        (Protocol::Imap, "a STARTTLS", "a OK <*>"),
        (Protocol::Pop3, "STLS", "+OK <*>"),
        (Protocol::Smtp, "STARTTLS", "220 <*>"),
    ] {
        for said in ["a LOGIN joe secret\r\n", "QUIT\r\n", "AUTH PLAIN AGpvZQBzZWNyZXQ=\r\n", "\n", "x"] {
            let (gateway, post) = gateway(protocol, TlsRule::StartTls, "").await;
            let mut client = gateway.plain().await;
            client.hear(greeting(protocol)).await;
            client.line(ask).await;
            client.hear(go_ahead).await;
            client.say(said).await;
            client.end().await;
            let heard = client.rest().await.unwrap_or_default();
            assert!(heard.is_empty() || heard.starts_with(b"\x15\x03"), "{}", heard.escape_ascii());
            gateway.event("tls.failed", "").await;
            gateway.event("session.closed", "reason=tls_failed").await;
            gateway.is_empty().await;
            assert_eq!(post.dialled(), 1);
        }
    }
}

/// OpenSSL's hello of TLS 1.0.
const TLS_1_0: &str = "16030100630100005f0301f0e2041baf44fa3be05a6beef2534f5d3e6afa088e0eb1ea6948ee4f022dccda000012c00ac0140039c009\
    c01300330035002f00ff01000024000b000403000102000a000c000a001d0017001e0019001800230000001600000017\
    0000";

#[tokio::test]
async fn a_client_too_old_for_our_tls_is_counted_however_its_hello_is_cut() {
    let hello: Vec<u8> = (0..TLS_1_0.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&TLS_1_0[at..at + 2], 16).expect("hexadecimal digits"))
        .collect();
    for cut in [Cut::Whole, Cut::Bytes] {
        let (gateway, _post) = gateway(Protocol::Imap, TlsRule::Implicit, "").await;
        for tries in 1..=2 {
            let mut client = Talk::connect(gateway.address(), None, cut).await.expect("it listens");
            client.say(&hello).await;
            let alert = client.rest().await.expect("a proper end");
            assert!(alert.starts_with(b"\x15\x03"), "{}", alert.escape_ascii());
            let event = gateway.event("tls.failed", "reason=too_old").await;
            assert!(event["detail"].as_str().is_some_and(|detail| detail.contains("1.0")), "{event}");
            let counted = gateway.metric("gatepost_tls_too_old_total{listener=\"imap-implicit\",version=\"1.0\"}");
            assert_eq!(counted, f64::from(tries), "{cut:?}");
        }
    }
}

#[tokio::test]
async fn a_handshake_has_one_deadline_however_it_drips() {
    for protocol in PROTOCOLS {
        for said in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
            let (gateway, _post) = gateway(protocol, TlsRule::Implicit, "tls_handshake: 200ms").await;
            let mut client = gateway.plain().await;
            client.say(said).await;
            let _ = client.rest().await;
            gateway.event("tls.failed", "reason=timeout").await;
            gateway.is_empty().await;
        }
    }
}

#[tokio::test]
async fn lines_without_end_are_cut_and_end_the_session() {
    for (protocol, words) in
        [(Protocol::Imap, Some("* BYE <*>")), (Protocol::Pop3, None), (Protocol::Smtp, Some("421 <*>"))]
    {
        let (gateway, post) = gateway(protocol, TlsRule::Off, "").await;
        let mut client = gateway.plain().await;
        client.hear(greeting(protocol)).await;
        for round in 0..3 {
            client.say([&[b'x'; 300_000][..], b" y\r\n"].concat()).await;
            let heard = client.next_line().await.expect("an answer");
            assert!(["* BAD", "xxxx", "-ERR", "500", "421"].iter().any(|start| heard.starts_with(start)), "{heard}");
            assert!(heard.len() < 1000, "nothing is reflected");
            if let (2, Some(words)) = (round, words)
                && !heard.starts_with("421")
            {
                client.hear(words).await;
            }
        }
        client.closed().await;
        client.end().await;
        gateway.event("session.closed", "reason=too_large").await;
        gateway.is_empty().await;
        assert_eq!(post.dialled(), 1);
    }
}

#[tokio::test]
async fn noise_reaches_nobody_and_leaves_nothing() {
    let mut noise = StdRng::seed_from_u64(587);
    for protocol in PROTOCOLS {
        let (gateway, post) = gateway(protocol, TlsRule::Off, "").await;
        for _ in 0..40 {
            let length = noise.random_range(1..5000);
            let mut bytes = vec![0; length];
            noise.fill(&mut bytes[..]);
            // Line ends in it, so that it comes to commands.
            for at in (0..length).step_by(40) {
                bytes[at] = b'\n';
            }
            let mut client = gateway.plain().await;
            client.say(&bytes).await;
            client.end().await;
            client.rest().await.expect("a proper end, and no reset that overtakes the answers");
            gateway.event("session.closed", "").await;
        }
        gateway.is_empty().await;
        assert_eq!(post.dialled(), 1);
        let mut client = gateway.plain().await;
        client.hear(greeting(protocol)).await;
        log_in(&mut client, protocol, "secret").await;
        client.hear(welcome(protocol)).await;
    }
}
