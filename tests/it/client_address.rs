//! How a backend learns the client's address, and that it hears it from nobody but us.

use crate::backend::{Backend, Post};
use crate::gateway::{Gateway, Setup};
use crate::mail::{PROTOCOLS, first_words, greeting, hear_login, log_in, not_now, service, welcome, yes};
use crate::talk::{Cut, Talk};
use gatepost::proto::{Protocol, Service, TlsRule};
use std::net::{IpAddr, SocketAddr};

/// A gateway whose backend is to learn it `how`, the backend, and the health check's dial, which is the caller's to answer.
async fn gateway(protocol: Protocol, how: &str) -> (Gateway, Backend, Talk) {
    let backend = Backend::listen(Cut::Whole).await;
    let setup =
        Setup::one(service(protocol), TlsRule::Off, backend.address).with("backend", &format!("client_address: {how}"));
    let (gateway, first) = tokio::join!(setup.start(), backend.dialled());
    (gateway, backend, first)
}

/// Greets the health check and lets it go.
async fn greeted(mut dialogue: Talk, protocol: Protocol) {
    let (greeting, asked) = first_words(protocol);
    dialogue.say(greeting).await;
    if let Some((question, answer)) = asked {
        dialogue.hear(question).await;
        dialogue.say(answer).await;
    }
    dialogue.rest().await.expect("a proper end");
}

/// A client of this address that has asked to log in, and its port.
async fn client(gateway: &Gateway, protocol: Protocol, from: &str) -> (Talk, SocketAddr) {
    let mut client = gateway.plain_from(from).await;
    client.hear(greeting(protocol)).await;
    let address = client.local();
    log_in(&mut client, protocol, "secret").await;
    (client, address)
}

#[tokio::test]
async fn a_proxy_header_stands_before_the_first_byte() {
    for protocol in PROTOCOLS {
        let (gateway, backend, mut first) = gateway(protocol, "proxy-v1").await;
        first.hear("PROXY UNKNOWN").await;
        greeted(first, protocol).await;
        gateway.has_learned().await;
        let (mut client, from) = client(&gateway, protocol, "127.0.0.41").await;
        let mut dialogue = backend.dialled().await;
        let to = gateway.address();
        dialogue.hear(&format!("PROXY TCP4 127.0.0.41 {} {} {}", to.ip(), from.port(), to.port())).await;
        hear_login(&mut dialogue, protocol).await;
        dialogue.say(yes(protocol)).await;
        client.hear(welcome(protocol)).await;
    }
}

#[tokio::test]
async fn a_binary_proxy_header_too() {
    let (gateway, backend, mut first) = gateway(Protocol::Imap, "proxy-v2").await;
    first.hear_bytes(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").await;
    greeted(first, Protocol::Imap).await;
    gateway.has_learned().await;
    let (_client, from) = client(&gateway, Protocol::Imap, "127.0.0.42").await;
    let (mut header, to) = (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec(), gateway.address());
    for address in [from, to] {
        let IpAddr::V4(address) = address.ip() else { panic!("{address} is not of IPv4") };
        header.extend_from_slice(&address.octets());
    }
    header.extend_from_slice(&[from.port().to_be_bytes(), to.port().to_be_bytes()].concat());
    backend.dialled().await.hear_bytes(&header).await;
}

#[tokio::test]
async fn smtp_and_pop3_servers_are_told_by_xclient() {
    let (gateway, backend, mut first) = gateway(Protocol::Smtp, "xclient").await;
    let ehlo = "250-old\r\n250-XCLIENT NAME ADDR PORT LOGIN\r\n250 AUTH PLAIN";
    first.line("220 old ESMTP").await;
    first.hear("EHLO mail.example.net").await;
    first.line(ehlo).await;
    first.hear("QUIT").await;
    gateway.has_learned().await;
    let (mut client, from) = client(&gateway, Protocol::Smtp, "127.0.0.43").await;
    let mut dialogue = backend.dialled().await;
    dialogue.line("220 old ESMTP").await;
    dialogue.hear("EHLO mail.example.net").await;
    dialogue.line(ehlo).await;
    dialogue.hear(&format!("XCLIENT NAME=[UNAVAILABLE] ADDR=127.0.0.43 PORT={}", from.port())).await;
    dialogue.line("220 old ESMTP").await;
    dialogue.hear("EHLO mail.example.net").await;
    dialogue.line("250-old\r\n250 AUTH PLAIN").await;
    dialogue.hear("AUTH PLAIN AGpvZQBzZWNyZXQ=").await;
    dialogue.line("235 ok").await;
    client.hear("235 2.7.0 <*>").await;
    // The trust is ours, not the client's.
    client.line("XCLIENT ADDR=127.0.0.1 LOGIN=boss").await;
    client.hear("5<*>").await;
    client.line("NOOP").await;
    dialogue.hear("NOOP").await;

    let (gateway, backend, mut first) = self::gateway(Protocol::Pop3, "xclient").await;
    first.line("+OK [XCLIENT] ready").await;
    first.hear("CAPA").await;
    first.line("+OK\r\nUSER\r\n.").await;
    first.hear("QUIT").await;
    gateway.has_learned().await;
    let (mut client, from) = self::client(&gateway, Protocol::Pop3, "127.0.0.44").await;
    let mut dialogue = backend.dialled().await;
    dialogue.line("+OK [XCLIENT] ready").await;
    dialogue.hear("CAPA").await;
    dialogue.line("+OK\r\nUSER\r\n.").await;
    dialogue.hear(&format!("XCLIENT ADDR=127.0.0.44 PORT={}", from.port())).await;
    dialogue.line("+OK Updated").await;
    dialogue.hear("USER joe").await;
    dialogue.line("+OK").await;
    dialogue.hear("PASS secret").await;
    dialogue.line("+OK in").await;
    client.hear(welcome(Protocol::Pop3)).await;
}

#[tokio::test]
async fn an_imap_server_is_told_by_id() {
    let (gateway, backend, mut first) = gateway(Protocol::Imap, "imap-id").await;
    first.line("* OK [CAPABILITY IMAP4rev1 ID] ready").await;
    first.hear("g1 LOGOUT").await;
    gateway.has_learned().await;
    let mut client = gateway.plain_from("127.0.0.45").await;
    client.hear(greeting(Protocol::Imap)).await;
    // What a client says of itself ends here.
    client.line("i ID (\"x-originating-ip\" \"192.0.2.99\")").await;
    client.hear("* ID <*>\ni OK <*>").await;
    let from = client.local();
    client.line("a LOGIN joe secret").await;
    let mut dialogue = backend.dialled().await;
    dialogue.line("* OK [CAPABILITY IMAP4rev1 ID] ready").await;
    let fields = format!("(\"x-originating-ip\" \"127.0.0.45\" \"x-originating-port\" \"{}\")", from.port());
    dialogue.hear(&format!("g1 ID {fields}")).await;
    dialogue.line("* ID (\"name\" \"Old\")\r\ng1 OK done").await;
    dialogue.hear("g2 LOGIN \"joe\" \"secret\"").await;
    dialogue.line("g2 OK in").await;
    client.hear(welcome(Protocol::Imap)).await;
}

#[tokio::test]
async fn a_server_that_would_take_every_client_for_us_is_not_logged_in_to() {
    for (protocol, how, said) in [(Protocol::Imap, "imap-id", "ID"), (Protocol::Smtp, "xclient", "XCLIENT")] {
        let (gateway, backend, first) = gateway(protocol, how).await;
        let refused = async |mut dialogue: Talk| {
            let (greeting, asked) = first_words(protocol);
            dialogue.say(greeting).await;
            if let Some((question, answer)) = asked {
                dialogue.hear(question).await;
                dialogue.say(answer).await;
            }
            assert_eq!(dialogue.rest().await.unwrap_or_default(), b"");
        };
        refused(first).await;
        let down = gateway.event("backend.down", "reason=backend_protocol").await;
        assert!(down["detail"].as_str().is_some_and(|detail| detail.contains(said)), "{down}");
        let (mut client, _) = client(&gateway, protocol, "127.0.0.46").await;
        refused(backend.dialled().await).await;
        client.hear(not_now(protocol)).await;
    }
}

#[tokio::test]
async fn a_server_that_lists_the_command_and_refuses_it_is_not_logged_in_to() {
    for protocol in PROTOCOLS {
        let (how, words): (_, &[(&str, &str)]) = match protocol {
            Protocol::Imap => {
                ("imap-id", &[("", "* OK [CAPABILITY IMAP4rev1 ID] ready"), ("g1 ID (<*>)", "g1 NO not from you")])
            }
            Protocol::Pop3 => (
                "xclient",
                &[("", "+OK ready"), ("CAPA", "+OK\r\nXCLIENT\r\n."), ("XCLIENT ADDR=<*>", "-ERR not from you")],
            ),
            Protocol::Smtp => (
                "xclient",
                &[
                    ("", "220 old"),
                    ("EHLO <*>", "250-old\r\n250-XCLIENT ADDR\r\n250 AUTH PLAIN"),
                    ("XCLIENT ADDR=127.0.0.47", "550 not from you"),
                ],
            ),
        };
        let (gateway, backend, mut first) = gateway(protocol, how).await;
        for (heard, said) in &words[..words.len() - 1] {
            if !heard.is_empty() {
                first.hear(heard).await;
            }
            first.line(said).await;
        }
        first.rest().await.expect("a proper end");
        gateway.has_learned().await;
        let (mut client, _) = client(&gateway, protocol, "127.0.0.47").await;
        let mut dialogue = backend.dialled().await;
        for (heard, said) in words {
            if !heard.is_empty() {
                dialogue.hear(heard).await;
            }
            dialogue.line(said).await;
        }
        client.hear(not_now(protocol)).await;
        let event = gateway.event("auth.error", "user=joe reason=backend_protocol").await;
        assert!(event["detail"].as_str().is_some_and(|detail| detail.contains("not from you")), "{event}");
        assert_eq!(dialogue.rest().await.unwrap_or_default(), b"");
    }
}

#[tokio::test]
async fn a_client_that_a_server_turns_away_says_nothing_about_the_server() {
    for how in ["proxy-v1", "proxy-v2"] {
        let (gateway, backend, mut first) = gateway(Protocol::Smtp, how).await;
        let header = async |dialogue: &mut Talk| {
            if how == "proxy-v1" {
                dialogue.hear("PROXY <*>").await;
            } else {
                dialogue.hear_bytes(b"\r\n\r\n\0\r\nQUIT\n").await;
            }
        };
        header(&mut first).await;
        if how == "proxy-v2" {
            first.hear_bytes(b"\x20\0\0\0").await;
        }
        greeted(first, Protocol::Smtp).await;
        gateway.has_learned().await;
        let (mut client, _) = client(&gateway, Protocol::Smtp, "127.0.0.48").await;
        for turned_away in [true, false] {
            if !turned_away {
                log_in(&mut client, Protocol::Smtp, "secret").await;
            }
            let mut dialogue = backend.dialled().await;
            header(&mut dialogue).await;
            if turned_away {
                dialogue.line("554 5.7.1 not you").await;
                client.hear(not_now(Protocol::Smtp)).await;
            }
        }
        assert_eq!(gateway.left("backend.down").await, [] as [serde_json::Value; 0]);
    }
}

#[tokio::test]
async fn each_message_begins_with_a_line_on_whom_it_came_from() {
    for key in ["backend", "submission"] {
        let post = Post::serve(Protocol::Smtp).await;
        let keys = if key == "backend" { "client_address: received" } else { "add_received: true" };
        let gateway = Setup::one(Service::Submission, TlsRule::Implicit, post.address).with(key, keys).start().await;
        gateway.has_learned().await;
        let mut client = gateway.tls().await;
        client.hear("220 <*>").await;
        client.line("EHLO joes-pc.lan").await;
        while !client.next_line().await.expect("a list").starts_with("250 ") {}
        log_in(&mut client, Protocol::Smtp, "secret").await;
        client.hear("235 <*>").await;
        for number in 1..=2 {
            client.line("MAIL FROM:<joe@example.net>\r\nRCPT TO:<ann@example.org>\r\nDATA").await;
            client.hear("250 Ok\n250 Ok\n354 <*>").await;
            client.line(&format!("Subject: {number}\r\n\r\n..\r\n.")).await;
            client.hear("250 queued").await;
        }
        assert_eq!(post.messages().len(), 2);
        for (message, number) in post.messages().iter().zip(1..) {
            let (head, rest) = message.split_at(message.find("Subject").expect("the message"));
            assert_eq!(rest, format!("Subject: {number}\n\n..\n"));
            let (said, date) = head
                .replace("\n\t", " ")
                .trim_end()
                .rsplit_once("; ")
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .expect("a date");
            let (who, id) = said.rsplit_once(' ').expect("an id");
            assert_eq!(who, "Received: from joes-pc.lan ([127.0.0.1]) by mail.example.net with ESMTPSA id");
            let accepted = gateway.event("message.accepted", "user=joe").await;
            assert_eq!(id, accepted["session"].as_str().expect("an id"));
            assert!(date.ends_with(" +0000"), "{date}");
        }
    }
}
