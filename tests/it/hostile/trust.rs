//! What a server behind does because it trusts the gateway's address is done for nobody who has not logged in, and for
//! nobody in a proxy's name.

use super::old::{Old, Reads};
use super::{base64, gateway, service};
use crate::gateway::Setup;
use crate::mail::{PROTOCOLS, greeting, log_in, welcome};
use crate::talk::{Cut, Talk};
use bytes::BytesMut;
use gatepost::proto::smtp::{BareNewline, Progress, Recipients, Transaction, TransactionSettings};
use gatepost::proto::{Capabilities, Protocol, Service, TlsRule};

/// What moves mail, tells who has a mailbox, or speaks for another client.
const FORBIDDEN: [&str; 14] = [
    "MAIL FROM:<joe@example.net>",
    "RCPT TO:<ann@example.org>",
    "DATA",
    "BDAT 4 LAST",
    "SEND FROM:<joe@example.net>",
    "SOML FROM:<joe@example.net>",
    "EXPN staff",
    "ETRN example.org",
    "TURN",
    "ATRN example.org",
    "XCLIENT ADDR=127.0.0.1 LOGIN=joe",
    "XFORWARD ADDR=127.0.0.1 NAME=localhost",
    "PROXY TCP4 127.0.0.1 127.0.0.1 1 25",
    "VRFY root",
];

/// Ways to write a command that one reader takes for it and another does not.
fn disguises(command: &str) -> Vec<Vec<u8>> {
    let (verb, rest) = command.split_at(command.find(' ').unwrap_or(command.len()));
    let with = |verb: &[u8]| [verb, rest.as_bytes()].concat();
    let eighth_bit: Vec<u8> = verb.bytes().map(|byte| byte | 0x80).collect();
    let wide: String = verb.bytes().filter_map(|byte| char::from_u32(0xff21 + u32::from(byte - b'A'))).collect();
    vec![
        command.into(),
        command.to_lowercase().into(),
        with(verb.to_lowercase().replace('a', "A").as_bytes()),
        [b" ", command.as_bytes()].concat(),
        [b"\t", command.as_bytes()].concat(),
        command.replacen(' ', "\t", 1).into(),
        command.replacen(' ', "   ", 1).into(),
        with(&eighth_bit),
        with(wide.as_bytes()),
        with(&[&verb.as_bytes()[..2], b"\0", &verb.as_bytes()[2..]].concat()),
        [b"\0", command.as_bytes()].concat(),
        [b"NOOP\r", command.as_bytes()].concat(),
        [command.as_bytes(), b"\r"].concat(),
        [command.as_bytes(), b"\0"].concat(),
        [b"\x7f", command.as_bytes()].concat(),
        [b"\xef\xbb\xbf", command.as_bytes()].concat(),
    ]
}

#[tokio::test]
async fn no_mail_moves_without_a_login_however_it_is_asked_for() {
    let failed = base64("\0joe\0wrong");
    let before = [
        String::new(),
        "EHLO pc\r\n".to_owned(),
        "EHLO pc\r\nRSET\r\n".to_owned(),
        "HELO pc\r\nEHLO pc\r\nRSET\r\nNOOP\r\n".to_owned(),
        "AUTH PLAIN !\r\n".to_owned(),
        "AUTH PLAIN\r\n*\r\n".to_owned(),
        format!("EHLO pc\r\nAUTH PLAIN {failed}\r\n"),
        format!("AUTH PLAIN {failed}\r\nRSET\r\nEHLO pc\r\n"),
    ];
    for tls in [TlsRule::Off, TlsRule::StartTls, TlsRule::Optional] {
        let (gateway, old) = gateway(Service::Submission, tls).await;
        for before in &before {
            for disguise in 0..disguises("XX").len() {
                // Also byte by byte, where that is another way through the machine.
                let cut = if disguise % 5 == 0 { Cut::Bytes } else { Cut::Whole };
                let mut client = Talk::connect(gateway.address(), None, cut).await.expect("it listens");
                client.hear(greeting(Protocol::Smtp)).await;
                if tls == TlsRule::StartTls {
                    client.line("STARTTLS").await;
                    client.hear("220 <*>").await;
                    client = client.start_tls(gateway.trust()).await.expect("a handshake");
                }
                let mut wire = before.clone().into_bytes();
                for command in FORBIDDEN {
                    wire.extend([&disguises(command)[disguise], &b"\r\n"[..]].concat());
                }
                client.say(&wire).await;
                client.end().await;
                let heard = String::from_utf8_lossy(&client.rest().await.expect("a proper end")).into_owned();
                assert!(heard.lines().count() >= FORBIDDEN.len(), "each is answered: {heard}");
                assert!(!heard.contains("354 "), "{heard}");
            }
        }
        gateway.is_empty().await;
        let heard = old.commands();
        assert!(heard.len() > 16, "the failing logins at least");
        for line in heard {
            assert_eq!(line, format!("AUTH PLAIN {failed}"));
        }
        assert_eq!(old.messages(), [] as [Vec<u8>; 0]);
    }
}

#[tokio::test]
async fn nobody_speaks_for_another_client_and_nobody_asks_who_has_a_mailbox_after_a_login_either() {
    let (gateway, old) = gateway(Service::Submission, TlsRule::Off).await;
    for disguise in 0..disguises("XX").len() {
        let mut client = gateway.plain().await;
        client.hear(greeting(Protocol::Smtp)).await;
        log_in(&mut client, Protocol::Smtp, "secret").await;
        client.hear(welcome(Protocol::Smtp)).await;
        for command in &FORBIDDEN[3..] {
            client.say([&disguises(command)[disguise], &b"\r\n"[..]].concat()).await;
        }
        client.end().await;
        let heard = String::from_utf8_lossy(&client.rest().await.expect("a proper end")).into_owned();
        assert!(heard.lines().all(|line| line.starts_with('5') || line.starts_with("252 ")), "{heard}");
    }
    gateway.is_empty().await;
    let heard = old.commands();
    assert!(heard.iter().all(|line| line.starts_with("AUTH PLAIN ")), "{heard:?}");
}

/// What proxies say to servers that trust them, in each protocol and in none.
#[tokio::test]
async fn a_proxys_word_from_a_client_reaches_nobody_and_changes_no_address() {
    for protocol in PROTOCOLS {
        let (gateway, old) = gateway(service(protocol), TlsRule::Off).await;
        for said in [
            &b"PROXY TCP4 192.0.2.1 127.0.0.1 40000 25\r\n"[..],
            b"PROXY UNKNOWN\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x7f\0\0\x01\x9c\x40\0\x19\r\n",
            b"XCLIENT ADDR=192.0.2.1 PORT=40000 LOGIN=joe\r\n",
            b"x XCLIENT ADDR=192.0.2.1\r\n",
            b"x ID (\"x-originating-ip\" \"192.0.2.1\" \"x-forward-user\" \"joe\")\r\n",
            b"x ID (\"x-originating-ip\" {9+}\r\n192.0.2.1)\r\n",
            b"x ID NIL\r\n",
            b"XFORWARD ADDR=192.0.2.1\r\n",
        ] {
            let mut client = gateway.plain().await;
            client.hear(greeting(protocol)).await;
            client.say(said).await;
            match protocol {
                Protocol::Pop3 => client.say("USER joe\r\nPASS secret\r\n").await,
                _ => log_in(&mut client, protocol, "secret").await,
            }
            // What was said of it before stands between: every one is answered with no, or with nothing at all in ID.
            let answer = loop {
                let line = client.next_line().await.expect("an answer");
                if line.starts_with("a OK") || line == "+OK Logged in." || line.starts_with("235") {
                    break line;
                }
                let no =
                    ["* BAD", "QUIT BAD", "x ", "* ID NIL", "-ERR", "+OK Send", "5", "PROXY", "XCLIENT", "XFORWARD"];
                assert!(no.iter().any(|start| line.starts_with(start)), "{line}");
            };
            assert!(!answer.is_empty());
            gateway.event("auth.ok", "client_ip=127.0.0.1 user=joe").await;
            client.end().await;
            let _ = client.rest().await;
        }
        gateway.is_empty().await;
        for line in old.commands() {
            let login = ["USER joe", "PASS secret", "AUTH PLAIN AGpvZQBzZWNyZXQ="].contains(&line.as_str())
                || line.ends_with(r#" LOGIN \"joe\" \"secret\""#);
            assert!(login, "{line}");
        }
    }
}

/// Addresses of all kinds of words and marks. What passes must be read as a mailbox of ours by whatever server, also one
/// that looks for routes, comments, lists, files and programs in it.
#[test]
fn no_address_of_a_stranger_leads_an_old_server_elsewhere() {
    const WORDS: [&str; 19] = [
        "joe",
        "evil.example",
        "example.net",
        "EXAMPLE.NET",
        "@",
        "%",
        "!",
        ":",
        "\"",
        "\\",
        ",",
        ".",
        " ",
        "<",
        ">",
        "|",
        "/",
        "-",
        "[127.0.0.1]",
    ];
    let (mut tried, mut passed) = (0, 0);
    let mut attempt = |path: &str| {
        tried += 1;
        let Some(line) = forwarded(&format!("RCPT TO:{path}")) else { return };
        passed += 1;
        let address = line.strip_prefix("RCPT TO:<").and_then(|rest| rest.strip_suffix('>')).expect(&line);
        let (local, domain) = address.rsplit_once('@').expect("a domain");
        assert!(domain.eq_ignore_ascii_case("example.net"), "{path}: {line}");
        let plain = local.trim_matches('"').replace('\\', "");
        assert!(plain.bytes().all(|b| b.is_ascii_alphanumeric() || b" ./-".contains(&b)), "{path}: {line}");
        assert!(!plain.starts_with(['-', '/']), "no option and no file: {path}: {line}");
    };
    for (a, b) in WORDS.iter().flat_map(|a| WORDS.iter().map(move |b| (a, b))) {
        for (c, d) in WORDS.iter().flat_map(|c| WORDS.iter().map(move |d| (c, d))) {
            attempt(&format!("<{a}{b}{c}{d}@example.net>"));
            if ["@", "\"", "<"].contains(a) {
                attempt(&format!("{a}{b}{c}{d}"));
                attempt(&format!("<{a}{b}{c}{d}>"));
            }
        }
    }
    for path in [
        "<@a,@b:joe@evil.example>",
        "<@example.net:joe@evil.example>",
        "<joe@evil.example@example.net>",
        "<joe@evil.example%example.net@example.net>",
        "<evil.example!joe%x@example.net>",
        "<\"joe@evil.example\"@example.net>",
        "<joe@example.net.>",
        "<joe@[127.0.0.1]>",
        "<joe@xn--exmple-cua.net>",
        "<joe@ex\u{e4}mple.net>",
        "<joe@\u{ff45}xample.net>",
        "<joe@example\u{3002}net>",
        "<joe@example.net\u{0}.evil.example>",
        "<joe@example.net>,<joe@evil.example>",
        "<joe@example.net> <joe@evil.example>",
        "<joe@example.net>(<joe@evil.example>)",
        "<joe@evil.example>\tX=<joe@example.net>",
        "<:include:/etc/passwd@example.net>",
        "<\":include:/etc/passwd\"@example.net>",
        "<\"|/bin/sh\"@example.net>",
        "<evil::joe@example.net>",
    ] {
        assert_eq!(forwarded(&format!("RCPT TO:{path}")), None, "{path}");
    }
    assert!(tried > 130_000 && passed > 100, "{tried} tried, {passed} passed");
}

/// Bounces go to the sender: to a program or a file, at servers that take one there.
#[test]
fn no_sender_of_a_strangers_is_a_program_a_file_or_an_option() {
    for path in [
        "<|/bin/sh>",
        "<|/bin/sh@example.net>",
        "<\"|/bin/sh\">",
        "<\"|sed 1,/x/d|sh\"@example.com>",
        "</etc/passwd>",
        "<\"/tmp/x\"@example.com>",
        "<-oQ/tmp>",
        "<-f@example.com>",
        "<\":include:/etc/passwd\">",
        "|/bin/sh",
    ] {
        assert_eq!(forwarded(&format!("MAIL FROM:{path}")), None, "{path}");
    }
    for path in ["<>", "<joe@example.com>", "<joe-x/y=z|w@example.com>", "<\"joe smith\"@example.com>"] {
        assert_eq!(forwarded(&format!("MAIL FROM:{path}")).as_deref(), Some(&*format!("MAIL FROM:{path}")));
    }
}

/// The line a stranger's command becomes at the backend, if it passes.
fn forwarded(command: &str) -> Option<String> {
    let mut follower = Transaction::new(TransactionSettings {
        hostname: "mail.example.net".to_owned(),
        max_message: 0,
        bare_newline: BareNewline::Reject,
        recipients: Recipients::Only(["example.net".to_owned()].into()),
        extensions: Vec::new(),
        backend: Capabilities::default(),
        helo: None,
    });
    let (mut to_backend, mut to_client) = (BytesMut::new(), BytesMut::new());
    let mut input = BytesMut::from(format!("{command}\r\n").as_bytes());
    loop {
        match follower.client(&mut input, &mut to_backend, &mut to_client) {
            Progress::More => break,
            Progress::Sender(_) | Progress::Recipient(_) => {
                follower.decide(None, &mut to_backend, &mut to_client);
            }
            _ => {}
        }
    }
    assert!(to_client.is_empty() || to_client.starts_with(b"5"), "{to_client:?}");
    let line = String::from_utf8(to_backend.to_vec()).expect("what was understood");
    assert_eq!(line.matches(['\r', '\n']).count(), if line.is_empty() { 0 } else { 2 }, "one line: {line:?}");
    line.strip_suffix("\r\n").map(str::to_owned)
}

#[tokio::test]
async fn a_strangers_sender_that_is_a_program_costs_no_backend() {
    let old = Old::serve(Protocol::Smtp, Reads::Sloppy).await;
    let gateway = Setup::one(Service::Smtp, TlsRule::Off, old.address).start().await;
    gateway.has_learned().await;
    let mut client = gateway.plain().await;
    client.hear("220 <*>").await;
    client.say("HELO mx.example.com\r\nMAIL FROM:<\"|/bin/sh\">\r\nRCPT TO:<joe@example.net>\r\nDATA\r\n").await;
    client.hear("250 <*>\n501 5.1.7 <*>\n503 <*>\n503 <*>").await;
    assert_eq!((old.commands(), old.dialled()), (Vec::new(), 1));
}
