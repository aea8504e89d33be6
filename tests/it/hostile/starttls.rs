//! STARTTLS and STLS: what somebody on the way puts before or behind it, and what is forgotten.

use super::old::{Old, Reads};
use super::{base64, gateway, service};
use crate::backend::Backend;
use crate::gateway::Setup;
use crate::mail::{PROTOCOLS, greeting};
use crate::talk::{Cut, Talk, soon};
use gatepost::proto::{Protocol, Service, TlsRule};
use std::net::SocketAddr;
use tokio::net::TcpSocket;

fn upgrade(protocol: Protocol) -> (&'static str, &'static str) {
    match protocol {
        Protocol::Imap => ("t STARTTLS", "t OK Begin TLS now."),
        Protocol::Pop3 => ("STLS", "+OK Begin TLS now."),
        Protocol::Smtp => ("STARTTLS", "220 2.0.0 Ready to start TLS"),
    }
}

/// What somebody on the way may put behind it: whole commands that log in, halves of them, lines without end.
fn injections(protocol: Protocol) -> Vec<Vec<u8>> {
    let plain = base64("\0joe\0secret");
    let own: &[String] = &match protocol {
        Protocol::Imap => [
            "x LOGIN joe secret\r\n".to_owned(),
            format!("x AUTHENTICATE PLAIN\r\n{plain}\r\n"),
            "x LOGIN {3+}\r\njoe {6+}\r\nsecret\r\n".to_owned(),
            "x LOGIN {3+}\r\njo".to_owned(),
            "x NOOP\n".to_owned(),
            "x NO".to_owned(),
        ],
        Protocol::Pop3 => [
            "USER joe\r\nPASS secret\r\n".to_owned(),
            format!("AUTH PLAIN {plain}\r\n"),
            "USER joe\r\n".to_owned(),
            "CAPA\n".to_owned(),
            "CA".to_owned(),
            "AUTH PLAIN\r\n".to_owned(),
        ],
        Protocol::Smtp => [
            format!("EHLO evil\r\nAUTH PLAIN {plain}\r\nMAIL FROM:<>\r\n"),
            "EHLO evil\r\n".to_owned(),
            "MAIL FROM:<evil@example.com>\r\nRCPT TO:<ann@example.net>\r\nDATA\r\n".to_owned(),
            "NOOP\n".to_owned(),
            "NO".to_owned(),
            "AUTH LOGIN\r\nam9l\r\n".to_owned(),
        ],
    };
    let noop = if protocol == Protocol::Imap { "x NOOP\r\n" } else { "NOOP\r\n" };
    let more = [b"\n".to_vec(), b"\r".to_vec(), b"\0".to_vec(), noop.repeat(4000).into_bytes()];
    own.iter().map(|text| text.clone().into_bytes()).chain(more).collect()
}

#[tokio::test]
async fn what_stands_behind_starttls_in_its_segment_ends_the_connection_unanswered() {
    for protocol in PROTOCOLS {
        // Where logins need no TLS, a command that came in the clear could do something.
        for tls in [TlsRule::StartTls, TlsRule::Optional] {
            let (gateway, old) = gateway(service(protocol), tls).await;
            for injected in injections(protocol) {
                let mut client = gateway.plain().await;
                client.hear(greeting(protocol)).await;
                client.say([upgrade(protocol).0.as_bytes(), b"\r\n", &injected].concat()).await;
                // The end may be a reset where four thousand lines lie unread; an answer it is not.
                let heard = client.rest().await.unwrap_or_else(String::into_bytes);
                let answered = ["OK", "220", "BAD", "ERR", "BYE", "\\x15\\x03"];
                let heard = heard.escape_ascii().to_string();
                assert!(!answered.iter().any(|word| heard.contains(word)), "{heard}");
                client.end().await;
                gateway.event("session.closed", "reason=pipelined_starttls").await;
            }
            gateway.is_empty().await;
            assert_eq!((old.commands(), old.dialled()), (Vec::new(), 1), "{protocol:?} {tls:?}");
        }
    }
}

#[tokio::test]
async fn what_comes_in_the_clear_behind_the_go_ahead_is_answered_with_an_alert_and_the_end() {
    for protocol in PROTOCOLS {
        for tls in [TlsRule::StartTls, TlsRule::Optional] {
            let (gateway, old) = gateway(service(protocol), tls).await;
            for injected in injections(protocol) {
                let mut client = gateway.plain().await;
                client.hear(greeting(protocol)).await;
                let (ask, go_ahead) = upgrade(protocol);
                client.line(ask).await;
                client.hear(go_ahead).await;
                client.say(&injected).await;
                // Fewer bytes than a record's head say nothing yet: then the client's own hello follows.
                let taken = client.start_tls(gateway.trust()).await;
                assert!(
                    taken.is_err(),
                    "{protocol:?} took {} along",
                    injected[..injected.len().min(80)].escape_ascii()
                );
                gateway.event("tls.failed", "reason=not_tls").await;
                gateway.event("session.closed", "reason=tls_failed").await;
            }
            gateway.is_empty().await;
            assert_eq!((old.commands(), old.dialled()), (Vec::new(), 1), "{protocol:?} {tls:?}");
        }
    }
}

#[tokio::test]
async fn the_alert_arrives_however_much_lies_unread_behind_it() {
    for protocol in PROTOCOLS {
        let (gateway, _old) = gateway(service(protocol), TlsRule::StartTls).await;
        let mut client = gateway.plain().await;
        client.hear(greeting(protocol)).await;
        let (ask, go_ahead) = upgrade(protocol);
        client.line(ask).await;
        client.hear(go_ahead).await;
        client.say("NOOP\r\n".repeat(4000)).await;
        client.end().await;
        let heard = client.rest().await.expect("a proper end, and no reset that overtakes the alert");
        // Record of type alert; fatal.
        assert_eq!((heard.first(), heard.get(5)), (Some(&0x15), Some(&2)), "{}", heard.escape_ascii());
    }
}

/// A client that does not read can keep the go-ahead from being written at once. What comes behind STARTTLS meanwhile was
/// said in the clear all the same.
#[tokio::test]
async fn a_go_ahead_that_cannot_be_written_at_once_lets_nothing_slip_in_behind_it() {
    for protocol in PROTOCOLS {
        let old = Old::serve(protocol, Reads::Sloppy).await;
        let setup = Setup::one(service(protocol), TlsRule::Optional, old.address).send_buffer(2048);
        let gateway = setup.with("timeouts", "login: 30min").start().await;
        gateway.has_learned().await;
        let mut slow = Slow::connect(gateway.address()).await;
        slow.client.hear(greeting(protocol)).await;
        let (command, answer) = match protocol {
            Protocol::Imap => ("a NOOP\r\n", "a OK Done.\r\n"),
            Protocol::Pop3 => ("USER joe\r\n", "+OK Send your password.\r\n"),
            Protocol::Smtp => ("NOOP\r\n", "250 2.0.0 OK\r\n"),
        };
        // Until some answers no longer fit into the buffers between us, and fewer than the gateway waits to write.
        let mut answers = 0;
        while slow.withheld(answers * answer.len()).await < 1000 {
            slow.client.say(command.repeat(500 / answer.len())).await;
            answers += 500 / answer.len();
        }
        let (ask, go_ahead) = upgrade(protocol);
        slow.client.line(ask).await;
        let withheld = slow.withheld(answers * answer.len() + go_ahead.len() + 2).await;
        assert!(withheld >= go_ahead.len() + 2, "the go-ahead is not written yet");
        let injected = injections(protocol).remove(0);
        slow.client.say(&injected).await;
        soon("the injected bytes", async {
            while slow.queues().unread_by_gateway < injected.len() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        for _ in 0..answers {
            slow.client.hear(answer.trim_end()).await;
        }
        slow.client.hear(go_ahead).await;
        assert!(slow.client.start_tls(gateway.trust()).await.is_err(), "{protocol:?}: dropped, and TLS went on");
        gateway.event("tls.failed", "reason=not_tls").await;
        gateway.is_empty().await;
        assert_eq!((old.commands(), old.dialled()), (Vec::new(), 1), "{protocol:?}");
    }
}

/// A client with a small receive buffer, and the kernel's account of its connection.
struct Slow {
    client: Talk,
    ours: SocketAddr,
    gateway: SocketAddr,
}

struct Queues {
    /// The gateway wrote it and the client's side has not acknowledged it.
    sent_by_gateway: usize,
    unread_by_gateway: usize,
    unread_by_client: usize,
}

impl Slow {
    async fn connect(gateway: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(2048).expect("an option");
        let stream = socket.connect(gateway).await.expect("it listens");
        let ours = stream.local_addr().expect("bound");
        Self { client: Talk::over(stream, Cut::Whole), ours, gateway }
    }

    /// How much of what the gateway has answered it could not hand to the kernel, once all it was sent is read.
    async fn withheld(&self, answered: usize) -> usize {
        let mut last = (usize::MAX, 0);
        soon("the gateway's answers", async {
            loop {
                let queues = self.queues();
                let withheld = answered.saturating_sub(queues.sent_by_gateway + queues.unread_by_client);
                let quiet = queues.unread_by_gateway == 0 && withheld == last.0;
                last = (withheld, if quiet { last.1 + 1 } else { 0 });
                if last.1 == 5 {
                    return withheld;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    fn queues(&self) -> Queues {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
        let queued = |local, remote| {
            let ends = format!("{} {} ", hex(local), hex(remote));
            let line = table.lines().find(|line| line.contains(&ends)).expect("the connection");
            let (sent, unread) = line.split_whitespace().nth(4).and_then(|both| both.split_once(':')).expect("queues");
            [sent, unread].map(|number| usize::from_str_radix(number, 16).expect("a number"))
        };
        let ([sent_by_gateway, unread_by_gateway], [_, unread_by_client]) =
            (queued(self.gateway, self.ours), queued(self.ours, self.gateway));
        Queues { sent_by_gateway, unread_by_gateway, unread_by_client }
    }
}

/// An address as that table has it.
fn hex(address: SocketAddr) -> String {
    let SocketAddr::V4(v4) = address else { panic!("{address}") };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port())
}

#[tokio::test]
async fn half_a_login_in_the_clear_is_no_half_of_one_under_tls() {
    for protocol in PROTOCOLS {
        let (gateway, old) = gateway(service(protocol), TlsRule::Optional).await;
        let (user, password) = (base64("joe"), base64("secret"));
        // What begins a login, its answers, and what would complete it.
        let halves = match protocol {
            Protocol::Imap => vec![
                (format!("a AUTHENTICATE LOGIN\r\n{user}"), "+ VXNlcm5hbWU6\n+ UGFzc3dvcmQ6", &*password),
                ("a AUTHENTICATE PLAIN".to_owned(), "+ ", "AGpvZQBzZWNyZXQ="),
                ("a LOGIN {3}\r\njoe {6}".to_owned(), "+ Go ahead.\n+ Go ahead.", "secret"),
            ],
            // In AUTH LOGIN the word would be taken for base64, and so for a password.
            Protocol::Pop3 => vec![
                ("AUTH PLAIN".to_owned(), "+ ", "AGpvZQBzZWNyZXQ="),
                ("USER joe".to_owned(), "+OK Send your password.", "PASS secret"),
            ],
            Protocol::Smtp => vec![("AUTH PLAIN".to_owned(), "334 ", "AGpvZQBzZWNyZXQ=")],
        };
        for (half, answers, rest) in halves {
            let mut client = gateway.plain().await;
            client.hear(greeting(protocol)).await;
            for (line, answer) in half.split("\r\n").zip(answers.lines()) {
                client.line(line).await;
                client.hear(answer).await;
            }
            // Where a line is due, the word is that line; the next is heard.
            let (ask, go_ahead) = upgrade(protocol);
            client.line(ask).await;
            let heard = client.next_line().await.expect("an answer");
            if heard != go_ahead {
                assert!(["a BAD", "-ERR", "501"].iter().any(|no| heard.starts_with(no)), "{heard}");
                client.line(ask).await;
                client.hear(go_ahead).await;
            }
            let mut client = client.start_tls(gateway.trust()).await.expect("a handshake");
            client.line(rest).await;
            let heard = client.next_line().await.expect("an answer");
            assert!([" BAD ", "-ERR ", "500 "].iter().any(|no| heard.contains(no)), "{half:?}: {heard}");
            client.end().await;
            client.rest().await.expect("a proper end");
            gateway.event("session.closed", "").await;
        }
        assert_eq!(gateway.left("auth.ok").await, [] as [serde_json::Value; 0]);
        assert_eq!((old.commands(), old.dialled()), (Vec::new(), 1), "{protocol:?}");
    }
}

#[tokio::test]
async fn the_name_of_an_ehlo_in_the_clear_reaches_no_backend() {
    let (gateway, old) = gateway(Service::Smtp, TlsRule::StartTls).await;
    let mut client = gateway.plain().await;
    client.hear("220 <*>").await;
    client.line("HELO trusted.example.net").await;
    client.hear("250 <*>").await;
    client.line("STARTTLS").await;
    client.hear("220 <*>").await;
    let mut client = client.start_tls(gateway.trust()).await.expect("a handshake");
    client.line("MAIL FROM:<ann@example.org>").await;
    client.hear("503 5.5.1 Send EHLO or HELO first").await;
    client.line("HELO mx.example.org").await;
    client.hear("250 <*>").await;
    client.line("MAIL FROM:<ann@example.org>").await;
    client.hear("250 ok").await;
    assert_eq!(old.commands(), ["EHLO mx.example.org", "MAIL FROM:<ann@example.org>"]);
}

/// Only APOP has us talk to a backend before a login: its stamp stands in our greeting. What more it says there, said in
/// the clear, must be as little heard under TLS as the client's own words.
#[tokio::test]
async fn no_byte_of_a_backend_from_before_tls_is_shown_after_it() {
    let backend = Backend::listen(Cut::Whole).await;
    let learn = async {
        let mut asked = backend.dialled().await;
        asked.line("+OK ready <1@old>").await;
        asked.hear("CAPA").await;
        asked.line("+OK\r\nUSER\r\n.").await;
        asked.rest().await.expect("a proper end");
    };
    let (gateway, ()) = tokio::join!(Setup::one(Service::Pop3, TlsRule::Optional, backend.address).start(), learn);
    gateway.has_learned().await;
    let mut client = gateway.plain().await;
    let mut early = backend.dialled().await;
    early.line("+OK ready <2@old>").await;
    early.hear("CAPA").await;
    early.line("+OK\r\nUSER\r\n.").await;
    client.hear("+OK <*> <2@old>").await;
    early.line("+OK you are in\r\n-ERR injected").await;
    client.line("STLS").await;
    client.hear("+OK Begin TLS now.").await;
    let mut client = client.start_tls(gateway.trust()).await.expect("a handshake");
    let _ = early.rest().await;
    client.line("USER joe").await;
    client.hear("+OK Send your password.").await;
    client.line("PASS secret").await;
    let mut fresh = backend.dialled().await;
    fresh.line("+OK ready <3@old>").await;
    fresh.hear("CAPA").await;
    fresh.line("+OK\r\nUSER\r\n.").await;
    fresh.hear("USER joe").await;
    fresh.line("+OK").await;
    fresh.hear("PASS secret").await;
    fresh.line("-ERR no").await;
    client.hear("-ERR [AUTH] <*>").await;
    client.line("QUIT").await;
    client.hear("+OK Goodbye.").await;
    client.closed().await;
}

/// Somebody on the way may also take STARTTLS out of the list, or answer it with no: that is the client's to notice. Here
/// it is seen that nobody is let in without it.
#[tokio::test]
async fn a_login_without_starttls_is_refused_and_reaches_nobody() {
    for protocol in PROTOCOLS {
        let old = Old::serve(protocol, Reads::Sloppy).await;
        let gateway = Setup::one(service(protocol), TlsRule::StartTls, old.address).start().await;
        gateway.has_learned().await;
        for line in match protocol {
            Protocol::Imap => ["a LOGIN joe secret", "a LOGIN {3}", "a AUTHENTICATE PLAIN", "a LOGIN \"joe\" {6+}"],
            Protocol::Pop3 => ["USER joe", "PASS secret", "AUTH PLAIN", "APOP joe c4c9334bac560ecc979e58001b3e22fb"],
            Protocol::Smtp => ["AUTH LOGIN", "AUTH PLAIN AGpvZQBzZWNyZXQ=", "AUTH CRAM-MD5", "auth plain ="],
        } {
            let mut client = gateway.plain().await;
            client.hear(greeting(protocol)).await;
            client.line(line).await;
            client
                .hear(match protocol {
                    Protocol::Imap => "a NO [PRIVACYREQUIRED] <*>",
                    Protocol::Pop3 => "-ERR <*>STLS<*>",
                    Protocol::Smtp => "530 5.7.0 <*>",
                })
                .await;
            client.end().await;
            client.rest().await.expect("a proper end");
        }
        gateway.is_empty().await;
        assert_eq!((old.commands(), old.dialled()), (Vec::new(), 1));
    }
}
