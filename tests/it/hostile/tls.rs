//! Handshakes nobody's library would begin: too old, too weak, cut up, huge, and with names that are none.

use super::hello::{Hello, Said, ServerHello, groups, read, record, server_name, sized};
use super::{gateway, service};
use crate::gateway::Gateway;
use crate::mail::{PROTOCOLS, greeting, log_in, welcome};
use crate::talk::soon;
use gatepost::proto::{Protocol, Service, TlsRule};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HANDSHAKE_FAILURE: u8 = 40;
const PROTOCOL_VERSION: u8 = 70;
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// What the gateway says first to these bytes, each piece a segment of its own.
async fn answer(gateway: &Gateway, pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Said {
    let mut stream = TcpStream::connect(gateway.address()).await.expect("it listens");
    stream.set_nodelay(true).expect("an option");
    let mut heard = Vec::new();
    soon("the answer to a hello", async {
        for piece in pieces {
            // It may have had enough already.
            if stream.write_all(piece.as_ref()).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        loop {
            if let Some(said) = read(&heard) {
                return said;
            }
            match stream.read_buf(&mut heard).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Said::Nothing,
            }
        }
    })
    .await
}

async fn said_to(gateway: &Gateway, hello: &Hello) -> Said {
    answer(gateway, [hello.wire(16_000)]).await
}

async fn hello_to(gateway: &Gateway, hello: &Hello) -> ServerHello {
    match said_to(gateway, hello).await {
        Said::Hello(said) => said,
        said => panic!("{said:?} to {hello:?}"),
    }
}

/// Whatever was said to it, it serves the next client.
async fn still_serves(gateway: &Gateway, protocol: Protocol) {
    let mut client = gateway.tls().await;
    client.hear(greeting(protocol)).await;
    log_in(&mut client, protocol, "secret").await;
    client.hear(welcome(protocol)).await;
}

#[tokio::test]
async fn versions_before_1_2_are_told_so_by_an_alert() {
    for protocol in PROTOCOLS {
        let (gateway, _old) = gateway(service(protocol), TlsRule::Implicit).await;
        for version in [0x0300, 0x0301, 0x0302] {
            for suites in [&super::hello::AEAD[..], &[0x002f, 0x0035, 0x000a, 0xc013, 0xc014]] {
                let hello = Hello::old(version).suites(suites);
                assert_eq!(said_to(&gateway, &hello).await, Said::Alert(2, PROTOCOL_VERSION), "{version:x}");
                gateway.event("tls.failed", "reason=too_old").await;
                // As clients of the time wrote it: without the signatures that 1.2 brought, or any extension.
                let bare = Hello { extensions: Vec::new(), ..hello };
                assert_eq!(said_to(&gateway, &bare).await, Said::Alert(2, PROTOCOL_VERSION), "{version:x}");
                gateway.event("tls.failed", "reason=too_old").await;
            }
        }
        // 1.1 and 1.0 by the list of versions, under a number that says 1.2.
        let listed = Hello::modern();
        let extensions = listed.extensions.iter().filter(|(number, _)| *number != 43).cloned().collect();
        let listed = Hello { extensions, ..listed }.with(43, [4, 3, 2, 3, 1]);
        assert_eq!(said_to(&gateway, &listed).await, Said::Alert(2, PROTOCOL_VERSION));
        still_serves(&gateway, protocol).await;
    }
}

#[tokio::test]
async fn suites_without_aead_or_ephemeral_keys_are_refused() {
    let (gateway, _old) = gateway(Service::Imap, TlsRule::Implicit).await;
    for suites in [
        // CBC with ephemeral keys.
        &[0xc009, 0xc00a, 0xc013, 0xc014, 0xc023, 0xc024, 0xc027, 0xc028][..],
        // AEAD without: RSA key exchange, static ECDH.
        &[0x009c, 0x009d, 0xc02d, 0xc02e, 0xc031, 0xc032],
        // Finite fields: DHE.
        &[0x009e, 0x009f, 0xccaa, 0x0033, 0x0039],
        // RC4, 3DES, export, anonymous, NULL.
        &[0x0004, 0x0005, 0x000a, 0x0003, 0x0008, 0x0018, 0x0034, 0xc018, 0x0000, 0x0001, 0x0002, 0xc006],
        // Nothing but signals.
        &[0x00ff, 0x5600, 0x0a0a],
    ] {
        let said = said_to(&gateway, &Hello::old(0x0303).suites(suites)).await;
        assert_eq!(said, Said::Alert(2, HANDSHAKE_FAILURE), "{suites:x?}");
        gateway.event("tls.failed", "reason=no_common_cipher").await;
        // One that is good among them is chosen.
        for good in super::hello::AEAD.into_iter().filter(|suite| [0xc02b, 0xc02c, 0xcca9].contains(suite)) {
            let mixed: Vec<u16> = suites.iter().copied().chain([good]).collect();
            assert_eq!(hello_to(&gateway, &Hello::old(0x0303).suites(&mixed)).await.suite, good);
        }
    }
    still_serves(&gateway, Protocol::Imap).await;
}

#[tokio::test]
async fn a_hello_of_1_2_is_answered_with_all_that_guards_it() {
    let (gateway, _old) = gateway(Service::Imap, TlsRule::Implicit).await;
    // Extended master secret, renegotiation info, heartbeat, a ticket, deflate.
    let hello = Hello::old(0x0303).with(23, []).with(0xff01, [0]).with(15, [1]).with(35, []);
    let said = hello_to(&gateway, &Hello { compressions: vec![1, 0], ..hello }).await;
    assert_eq!((said.version, said.compression), (0x0303, 0));
    // RFC 8446 section 4.1.3: whoever talked the two down to 1.2 is found out.
    assert_eq!(&said.random[24..], b"DOWNGRD\x01");
    assert!(said.has(23), "extended master secret");
    assert!(said.has(0xff01), "secure renegotiation");
    assert!(!said.has(15), "no heartbeat");
    // No compression but deflate is nothing to agree on.
    let deflate = Hello { compressions: vec![1], ..Hello::old(0x0303) };
    assert!(matches!(said_to(&gateway, &deflate).await, Said::Alert(2, _)));
    still_serves(&gateway, Protocol::Imap).await;
}

#[tokio::test]
async fn a_hello_of_1_3_is_answered_with_no_early_data_and_no_compression() {
    let (gateway, _old) = gateway(Service::Imap, TlsRule::Implicit).await;
    let said = hello_to(&gateway, &Hello::modern().with(42, [])).await;
    assert_eq!((said.version, said.suite >> 8, said.compression), (0x0303, 0x13, 0));
    assert!(said.has(43) && said.has(51) && !said.has(42));
    assert_ne!(&said.random[24..31], b"DOWNGRD");
    // A client that has X25519MLKEM768 and sent no share of anything is asked for that.
    let mut hello = Hello::modern();
    hello.extensions.retain(|(number, _)| *number != 51 && *number != 10);
    hello.extensions.push(groups(&[0x11ec, 0x001d]));
    let said = hello_to(&gateway, &hello.with(51, [0, 0])).await;
    let retry: [u8; 4] = [0xcf, 0x21, 0xad, 0x74];
    assert!(said.random.starts_with(&retry), "a HelloRetryRequest");
    assert!(said.extensions.contains(&(51, vec![0x11, 0xec])), "{said:?}");
}

#[tokio::test]
async fn the_alpn_of_another_protocol_is_alert_120_and_none_is_well() {
    for protocol in PROTOCOLS {
        let (gateway, _old) = gateway(service(protocol), TlsRule::Implicit).await;
        let own: &[u8] = match protocol {
            Protocol::Imap => b"imap",
            Protocol::Pop3 => b"pop3",
            Protocol::Smtp => b"smtp",
        };
        let list = |names: &[&[u8]]| {
            let each = names.iter().flat_map(|name| [&[u8::try_from(name.len()).expect("short")][..], name].concat());
            sized(&each.collect::<Vec<u8>>())
        };
        for foreign in [&[&b"h2"[..], b"http/1.1"][..], &[b"imaps"], &[b"IMAP"], &[b"\0"], &[&[b'x'; 255]]] {
            let said = said_to(&gateway, &Hello::old(0x0303).with(16, list(foreign))).await;
            assert_eq!(said, Said::Alert(2, NO_APPLICATION_PROTOCOL), "{foreign:?}");
            gateway.event("tls.failed", "reason=no_alpn").await;
        }
        let many: Vec<&[u8]> = std::iter::repeat_n(&b"h2"[..], 3000).chain([own]).collect();
        for names in [vec![own], vec![b"h2", own], many] {
            let said = hello_to(&gateway, &Hello::old(0x0303).with(16, list(&names))).await;
            assert!(said.extensions.contains(&(16, list(&[own]))), "{said:?}");
        }
        assert!(!hello_to(&gateway, &Hello::old(0x0303)).await.has(16));
        let malformed = [vec![], vec![0, 0], vec![0, 1, 0], vec![0, 9, 1], vec![0xff, 0xff, 1, b'x']];
        for body in malformed {
            assert!(matches!(said_to(&gateway, &Hello::old(0x0303).with(16, body)).await, Said::Alert(2, _)));
        }
    }
}

#[tokio::test]
async fn a_name_that_is_none_costs_neither_memory_nor_a_crash() {
    let (gateway, _old) = gateway(Service::Imap, TlsRule::Implicit).await;
    let label = [b'x'; 63];
    let longest = [&label[..], &label, &label, &label[..61]].join(&b'.');
    for name in [&b""[..], b"unknown.example", b"192.0.2.1", b"MAIL.example.net", b"xn--exmple-cua.net", &longest] {
        let said = said_to(&gateway, &Hello::old(0x0303).with(0, server_name(name))).await;
        // An empty name is none that RFC 6066 knows.
        assert!(matches!(said, Said::Hello(_)) != name.is_empty(), "{}: {said:?}", name.escape_ascii());
    }
    let bodies = [
        server_name(b"mail\0example.net"),
        server_name(b"m\xc3\xa4il.example.net"),
        server_name(b"mail.example.net\r\nevil"),
        server_name(b"\x1b[2J"),
        server_name(b"\"},{\"event\":\"auth.ok\""),
        server_name(&[b'x'; 255]),
        server_name(&[b'.'; 60_000]),
        // Two names, a name of another type, lengths that lie.
        sized(&[&[0][..], &sized(b"a.example"), &[0], &sized(b"b.example")].concat()),
        sized(&[&[7][..], &sized(b"a.example")].concat()),
        vec![0, 5, 0, 0xff, 0xff],
        vec![0xff, 0xff],
        vec![0, 0],
        Vec::new(),
    ];
    for body in bodies {
        let shown = body[..body.len().min(60)].escape_ascii().to_string();
        // What is past 40 KiB is not read, and not waited for.
        let is_endless = body.len() > 40 * 1024;
        let said = said_to(&gateway, &Hello::old(0x0303).with(0, body)).await;
        let is_well = matches!(said, Said::Alert(2, _) | Said::Hello(_)) || is_endless && matches!(said, Said::Nothing);
        assert!(is_well, "{shown}: {said:?}");
    }
    still_serves(&gateway, Protocol::Imap).await;
    for line in gateway.logged().split_terminator('\n') {
        serde_json::from_str::<serde_json::Value>(line).expect(line);
        assert!(!line.chars().any(char::is_control) && line.len() < 2000, "{line}");
    }
}

#[tokio::test]
async fn a_hello_is_taken_in_any_cut_and_up_to_any_size_that_clients_send() {
    let (gateway, _old) = gateway(Service::Imap, TlsRule::Implicit).await;
    // GREASE (RFC 8701) wherever it may stand, a large key share, padding (RFC 7685).
    let mut grease = Hello::modern().with(0x0a0a, []).with(0x1a1a, [0]).with(0, server_name(b"mail.example.net"));
    grease.suites.insert(0, 0x2a2a);
    grease.extensions.retain(|(number, _)| ![10, 43, 51].contains(number));
    grease.extensions.push(groups(&[0x3a3a, 0x001d]));
    grease.extensions.push((43, vec![6, 0x4a, 0x4a, 3, 4, 3, 3]));
    let share = [&[0x3a, 0x3a, 0, 1, 0, 0, 0x1d, 0, 32][..], &[9; 32]].concat();
    grease.extensions.push((51, sized(&share)));
    let grease = grease.with(21, vec![0; 6000]);
    assert!(grease.message().len() > 6 * 1024);
    for hello in [Hello::old(0x0303), Hello::modern(), grease] {
        let whole = hello.wire(16_000);
        assert!(matches!(answer(&gateway, [&whole]).await, Said::Hello(_)));
        // Byte by byte on the wire.
        assert!(matches!(answer(&gateway, whole.chunks(1)).await, Said::Hello(_)));
        // In records of any size, in segments that cut them elsewhere.
        for (fragment, segment) in [(1, usize::MAX), (1, 7), (2, 3), (50, 1), (100, 64), (1000, 999)] {
            if hello.message().len() / fragment > 2000 {
                continue;
            }
            let wire = hello.wire(fragment);
            let said = answer(&gateway, wire.chunks(segment)).await;
            assert!(matches!(said, Said::Hello(_)), "{fragment} {segment}: {said:?}");
        }
    }
    still_serves(&gateway, Protocol::Imap).await;
}

#[tokio::test]
async fn what_only_looks_like_a_hello_ends_the_connection_and_is_called_what_it_is() {
    let (gateway, _old) = gateway(Service::Imap, TlsRule::Implicit).await;
    let hello = Hello::modern();
    let message = hello.message();
    let mut sixteen_megabytes = message.clone();
    sixteen_megabytes[1..4].copy_from_slice(&[0xff, 0xff, 0xff]);
    let mut short = message.clone();
    short[3] -= 1;
    let twice = Hello::modern().with(13, sized(&[4, 3]));
    for (what, wire) in [
        ("a message of sixteen megabytes", [record(&sixteen_megabytes), record(&[0; 16_000]).repeat(2)].concat()),
        ("a length too short", record(&short)),
        ("an extension twice", twice.wire(16_000)),
        ("records without end that hold nothing", record(&[]).repeat(5_000)),
        ("a record past its bound", [&[22, 3, 1, 0xff, 0xff][..], &[1; 1_000]].concat()),
        ("alerts without end", [21, 3, 1, 0, 2, 1, 90].repeat(5_000)),
        ("a change of cipher", vec![20, 3, 1, 0, 1, 1]),
        ("a heartbeat (CVE-2014-0160)", vec![24, 3, 2, 0, 3, 1, 0x40, 0]),
        ("bytes of an application", vec![23, 3, 3, 0, 5, b'h', b'e', b'l', b'l', b'o']),
        ("a hello of a server", { record(&[&[2][..], &message[1..]].concat()) }),
        ("no suites", Hello::old(0x0303).suites(&[]).wire(16_000)),
        ("no compressions", Hello { compressions: Vec::new(), ..Hello::old(0x0303) }.wire(16_000)),
        ("a share of the wrong size", {
            let mut hello = Hello::modern();
            hello.extensions.retain(|(number, _)| *number != 51);
            hello.with(51, [0, 5, 0, 0x1d, 0, 1, 9]).wire(16_000)
        }),
    ] {
        let said = answer(&gateway, [wire]).await;
        // To a message past all bounds, and to alerts, rustls has no answer but the end.
        let may_be_silent = what.contains("sixteen") || what.contains("alerts");
        assert!(matches!(said, Said::Alert(2, _)) || may_be_silent && said == Said::Nothing, "{what}: {said:?}");
        let event = gateway.event("tls.failed", "").await;
        // It is TLS, if a poor one: an operator is not sent to look for a client without.
        assert_ne!(event["reason"], "plaintext_on_tls_port", "{what}");
    }
    gateway.is_empty().await;
    still_serves(&gateway, Protocol::Imap).await;
}

#[tokio::test]
async fn who_begins_handshakes_and_goes_on_with_none_holds_up_nobody() {
    for tls in [TlsRule::Implicit, TlsRule::StartTls] {
        let (gateway, _old) = gateway(Service::Submission, tls).await;
        let wire = Hello::modern().wire(16_000);
        let mut held = Vec::new();
        for number in 0..200 {
            let mut stream = TcpStream::connect(gateway.address()).await.expect("it listens");
            if tls == TlsRule::StartTls {
                stream.write_all(b"STARTTLS\r\n").await.expect("taken");
            }
            stream.write_all(&wire[..(number % wire.len()).min(60)]).await.expect("taken");
            held.push(stream);
        }
        let mut client = gateway.plain().await;
        if tls == TlsRule::StartTls {
            client.hear("220 <*>").await;
            client.line("STARTTLS").await;
            client.hear("220 <*>").await;
        }
        let mut client = client.start_tls(gateway.trust()).await.expect("a handshake");
        if tls == TlsRule::Implicit {
            client.hear(greeting(Protocol::Smtp)).await;
        }
        log_in(&mut client, Protocol::Smtp, "secret").await;
        client.hear(welcome(Protocol::Smtp)).await;
        assert_eq!(gateway.server.status().await.sessions, 201, "they are all still there");
        drop(held);
        client.line("QUIT").await;
        client.hear("221 <*>").await;
        gateway.is_empty().await;
    }
}

#[tokio::test]
async fn a_session_that_its_backend_ends_ends_with_close_notify() {
    for protocol in PROTOCOLS {
        let (gateway, _old) = gateway(service(protocol), TlsRule::Implicit).await;
        let mut client = gateway.tls().await;
        client.hear(greeting(protocol)).await;
        log_in(&mut client, protocol, "secret").await;
        client.hear(welcome(protocol)).await;
        // At this word the old server closes.
        client.line(if protocol == Protocol::Imap { "b LOGOUT" } else { "QUIT" }).await;
        client.rest().await.expect("close_notify, and not the mere end of the connection");
    }
}
