//! `submission.require_auth: false`: who has no login sends to whom the server takes mail for, as long as it is known to relay for
//! nobody.

use crate::backend::Backend;
use crate::gateway::{Gateway, Setup};
use crate::mail::{hear_login, log_in};
use crate::talk::{Cut, Talk, soon};
use gatepost::proto::{Protocol, Service, TlsRule};

/// A gateway, and a server that has answered the probe: for each of the two senders, so to the foreign domain, and so to the address
/// that no look into the DNS can refuse.
async fn probed(answers: &[&str], expected: &str, more: &str) -> (Gateway, Backend) {
    let smtp = Backend::listen(Cut::Whole).await;
    let gateway = Setup::one(Service::Submission, TlsRule::Implicit, smtp.address)
        .with("submission", &format!("require_auth: false, relay_probe: true{more}"))
        .with("limits", "messages_per_user: 3/h, exempt: []")
        .start()
        .await;
    // The health check and the probe, whichever comes first.
    let mut probe = None;
    for _ in 0..2 {
        let mut talk = greeted(&smtp).await;
        match talk.next_line().await.expect("a command").as_str() {
            "QUIT" => talk.line("221 bye").await,
            "MAIL FROM:<postmaster@mail.example.net>" => probe = Some(talk),
            other => panic!("{other}"),
        }
    }
    let mut probe = probe.expect("the probe");
    for (number, answers) in answers.chunks(2).enumerate() {
        if number > 0 {
            probe.hear("MAIL FROM:<postmaster@example.net>").await;
        }
        probe.line("250 ok").await;
        for (recipient, answer) in ["relay-probe@example.org", "relay-probe@[192.0.2.1]"].iter().zip(answers) {
            probe.hear(&format!("RCPT TO:<{recipient}>")).await;
            probe.line(answer).await;
        }
        probe.hear("RSET").await;
        probe.line("250 ok").await;
    }
    probe.hear("QUIT").await;
    probe.line("221 bye").await;
    probe.end().await;
    let known = async {
        while gateway.server.status().await.backends[0].relays != Some(expected) {
            tokio::task::yield_now().await;
        }
    };
    soon(expected, known).await;
    gateway.has_learned().await;
    (gateway, smtp)
}

/// A server that was dialled and has said what it can do.
async fn greeted(smtp: &Backend) -> Talk {
    let mut talk = smtp.dialled().await;
    talk.line("220 old.example.net ESMTP").await;
    talk.hear("EHLO mail.example.net").await;
    talk.line("250-old.example.net\r\n250 AUTH PLAIN").await;
    talk
}

async fn client(gateway: &Gateway) -> Talk {
    let mut client = gateway.tls().await;
    client.hear("220 <*>").await;
    client.line("EHLO scanner").await;
    while client.next_line().await.expect("an extension").starts_with("250-") {}
    client
}

const NO: &str = "554 5.7.1 Relay access denied";
/// Of a server that relays nothing.
const CLOSED: [&str; 4] = [NO; 4];

#[tokio::test]
async fn the_server_decides_about_the_recipients_of_who_has_no_login() {
    let (gateway, smtp) = probed(&CLOSED, "closed", "").await;
    let mut client = client(&gateway).await;
    client.line("MAIL FROM:<scanner@example.net>").await;
    let mut server = greeted(&smtp).await;
    for (command, answer) in [
        ("MAIL FROM:<scanner@example.net>", "250 ok"),
        ("RCPT TO:<far@example.org>", NO),
        ("RCPT TO:<joe@example.net>", "250 ok"),
        ("DATA", "354 go"),
    ] {
        if !command.starts_with("MAIL") {
            client.line(command).await;
        }
        server.hear(command).await;
        server.line(answer).await;
        client.hear(answer).await;
    }
    client.say("Subject: scan\r\n\r\nhere\r\n.\r\n").await;
    server.hear("Subject: scan\n\nhere\n.").await;
    server.line("250 queued").await;
    client.hear("250 queued").await;
    let event = gateway.event("message.accepted", "from=scanner@example.net recipients=1").await;
    assert!(event["user"].is_null(), "{event}");
    assert!(gateway.left("auth.ok").await.is_empty());

    // A login is possible all the same, and known to the server.
    let mut joe = gateway.tls().await;
    joe.hear("220 <*>").await;
    log_in(&mut joe, Protocol::Smtp, "secret").await;
    let mut server = smtp.dialled().await;
    hear_login(&mut server, Protocol::Smtp).await;
    server.line("235 ok").await;
    joe.hear("235 <*>").await;
    gateway.event("auth.ok", "user=joe").await;
}

#[tokio::test]
async fn a_server_that_relays_gets_nothing_of_strangers() {
    // The second one looks foreign domains up before it trusts us, the third one trusts whoever calls himself a user.
    for answers in [&["250 ok"][..], &["556 5.1.10 nullMX", "250 ok"], &[NO, NO, "250 ok"]] {
        let (gateway, smtp) = probed(answers, "open", "").await;
        let mut client = client(&gateway).await;
        client.line("MAIL FROM:<scanner@example.net>").await;
        client.hear("530 5.7.0 <*>").await;
        assert!(!smtp.is_dialled().await, "no stranger costs it a connection");
        let event = gateway.event("message.refused", "reason=login_required backend=main").await;
        let detail = event["detail"].as_str().unwrap_or_default();
        assert!(
            detail.contains("submission.require_auth: false") && detail.contains("relays for this host"),
            "{event}"
        );
        // Nor does asking again and again.
        for _ in 0..19 {
            client.line("MAIL FROM:<scanner@example.net>").await;
        }
        let rest = client.rest().await.expect("a proper end");
        assert!(String::from_utf8_lossy(&rest).lines().last().is_some_and(|line| line.starts_with("421")), "{rest:?}");
    }
}

#[tokio::test]
async fn what_is_not_known_to_be_closed_is_not_open_to_strangers() {
    for answers in [&["451 4.7.1 later"][..], &[NO, "450 4.7.1 later"]] {
        let (gateway, smtp) = probed(answers, "unknown", "").await;
        let mut client = client(&gateway).await;
        client.line("MAIL FROM:<scanner@example.net>").await;
        client.hear("451 4.3.0 <*>").await;
        assert!(!smtp.is_dialled().await);
        let event = gateway.event("message.refused", "reason=login_required").await;
        assert!(event["detail"].as_str().is_some_and(|detail| detail.contains("has not yet said")), "{event}");
    }
}

#[tokio::test]
async fn domains_for_strangers_hold_here_too() {
    let (gateway, smtp) = probed(&CLOSED, "closed", ", accept_domains: [example.net]").await;
    let mut client = client(&gateway).await;
    client.line("MAIL FROM:<scanner@example.net>").await;
    let mut server = greeted(&smtp).await;
    server.hear("MAIL FROM:<scanner@example.net>").await;
    server.line("250 ok").await;
    client.hear("250 ok").await;
    client.line("RCPT TO:<far@example.org>").await;
    client.hear(NO).await;
    client.line("RCPT TO:<joe@example.net>").await;
    server.hear("RCPT TO:<joe@example.net>").await;
    server.line("250 ok").await;
    client.hear("250 ok").await;
}

#[tokio::test]
async fn messages_of_who_has_no_name_are_counted_for_the_address() {
    let (gateway, smtp) = probed(&CLOSED, "closed", "").await;
    let mut client = client(&gateway).await;
    client.line("MAIL FROM:<scanner@example.net>").await;
    let mut server = greeted(&smtp).await;
    for number in 0..3 {
        if number > 0 {
            client.line("MAIL FROM:<scanner@example.net>").await;
        }
        server.hear("MAIL FROM:<scanner@example.net>").await;
        server.line("250 ok").await;
        client.hear("250 ok").await;
        client.line("RSET").await;
        server.hear("RSET").await;
        server.line("250 ok").await;
        client.hear("250 ok").await;
    }
    client.line("MAIL FROM:<scanner@example.net>").await;
    client.hear("450 4.7.1 <*>").await;
}
