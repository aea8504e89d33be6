//! `submission.require_auth: false`: who has no login sends to whom the server takes mail for, as long as it is known to relay for
//! nobody.

use crate::backend::Backend;
use crate::gateway::{Gateway, Setup};
use crate::mail::{hear_login, log_in};
use crate::relay_probe::{FOREIGN, Said, answer_again, answer_the_probe, is_known_to_be};
use crate::talk::{Cut, Talk};
use gatepost::proto::{Protocol, Service, TlsRule};

/// A gateway, and a server that has answered the probe.
async fn probed(said: Said, expected: &str, more: &str) -> (Gateway, Backend) {
    let smtp = Backend::listen(Cut::Whole).await;
    let gateway = Setup::one(Service::Submission, TlsRule::Implicit, smtp.address)
        .with("submission", &format!("require_auth: false, relay_probe: true{more}"))
        .with("limits", "messages_per_user: 3/h, auth_failures_per_ip: 2/h, exempt: []")
        .start()
        .await;
    answer_the_probe(&smtp, said, 1).await;
    is_known_to_be(&gateway, expected).await;
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
/// A server that relays nothing.
const CLOSED: Said = |_, recipient| if recipient.is_empty() { "250 ok" } else { NO };

#[tokio::test]
async fn the_server_decides_about_the_recipients_of_who_has_no_login() {
    let (gateway, smtp) = probed(CLOSED, "closed", "").await;
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
async fn no_address_that_leads_on_reaches_the_server_from_who_has_no_login() {
    let (gateway, smtp) = probed(CLOSED, "closed", "").await;
    let mut client = client(&gateway).await;
    client.line("MAIL FROM:<scanner@example.net>").await;
    let mut server = greeted(&smtp).await;
    server.hear("MAIL FROM:<scanner@example.net>").await;
    server.line("250 ok").await;
    client.hear("250 ok").await;
    for recipient in [
        "victim%elsewhere.example@example.net",
        "elsewhere.example!victim@example.net",
        "\"victim@elsewhere.example\"@example.net",
        "@example.net:victim@elsewhere.example",
        "\"|cmd\"@example.net",
        "/file@example.net",
    ] {
        client.line(&format!("RCPT TO:<{recipient}>")).await;
        client.hear(NO).await;
    }
    // Nor does he learn who has a mailbox.
    for _ in 0..21 {
        client.line("RCPT TO:<nobody@example.net>").await;
        server.hear("RCPT TO:<nobody@example.net>").await;
        server.line("550 5.1.1 unknown").await;
        client.hear("550 5.1.1 unknown").await;
    }
    client.line("RCPT TO:<nobody@example.net>").await;
    client.hear("421 4.7.0 <*>").await;
}

#[tokio::test]
async fn who_is_banned_while_the_server_is_dialled_anew_sends_nothing_more() {
    let (gateway, smtp) = probed(CLOSED, "closed", "").await;
    let mut client = client(&gateway).await;
    client.line("MAIL FROM:<scanner@example.net>").await;
    let mut server = greeted(&smtp).await;
    for (command, answer) in
        [("MAIL FROM:<scanner@example.net>", "250 ok"), ("RCPT TO:<joe@example.net>", "250 ok"), ("DATA", "354 go")]
    {
        if !command.starts_with("MAIL") {
            client.line(command).await;
        }
        server.hear(command).await;
        server.line(answer).await;
        client.hear(answer).await;
    }
    client.say("a bare\nnewline\r\n.\r\n").await;
    client.hear("550 5.5.2 <*>").await;
    let _ = server.rest().await;
    client.line("MAIL FROM:<scanner@example.net>").await;
    let mut server = smtp.dialled().await;
    for password in ["guess1", "guess2", "guess3"] {
        let mut guesser = gateway.tls().await;
        guesser.hear("220 <*>").await;
        log_in(&mut guesser, Protocol::Smtp, password).await;
        let mut asked = greeted(&smtp).await;
        assert!(asked.next_line().await.expect("a login").starts_with("AUTH PLAIN "));
        asked.line("535 no").await;
        guesser.hear("535 <*>").await;
    }
    gateway.event("ban.added", "").await;
    server.line("220 old.example.net ESMTP").await;
    server.hear("EHLO <*>").await;
    server.line("250-old.example.net\r\n250 AUTH PLAIN").await;
    client.hear("451 4.3.0 <*>").await;
}

#[tokio::test]
async fn a_server_that_relays_gets_nothing_of_strangers() {
    let looks_domains_up: Said = |_, recipient| if recipient.contains("org") { "556 5.1.10 nullMX" } else { "250 ok" };
    let trusts_its_users: Said = |sender, recipient| match recipient {
        _ if recipient.is_empty() || sender == "postmaster@example.net" => "250 ok",
        _ => NO,
    };
    // These trust our address; but who calls himself one of theirs must log in, and some take no reports for elsewhere.
    let knows_its_users: Said = |sender, recipient| match recipient {
        _ if recipient.is_empty() || !sender.contains("example.net") => "250 ok",
        _ => "553 5.7.1 not logged in",
    };
    let knows_them_and_no_reports: Said = |sender, recipient| match sender {
        "" if recipient.is_empty() => "550 no reports",
        _ if recipient.is_empty() || !sender.contains("example.net") && !sender.is_empty() => "250 ok",
        _ => "553 5.7.1 not logged in",
    };
    let is_greylisting_reports: Said = |sender, _| if sender.is_empty() { "450 later" } else { "250 ok" };
    let trusts_us: Said = |_, _| "250 ok";
    for said in [
        trusts_us,
        looks_domains_up,
        trusts_its_users,
        knows_its_users,
        knows_them_and_no_reports,
        is_greylisting_reports,
    ] {
        let (gateway, smtp) = probed(said, "open", "").await;
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
    let refuses_for_now: Said = |_, recipient| if recipient.is_empty() { "250 ok" } else { "451 4.7.1 later" };
    let wants_to_look_again: Said = |_, recipient| match recipient {
        "" => "250 ok",
        FOREIGN => NO,
        _ => "450 4.7.1 later",
    };
    let has_no_time_for_one: Said = |sender, recipient| match recipient {
        "" if sender == "postmaster@example.net" => "451 4.7.1 later",
        "" => "250 ok",
        _ => NO,
    };
    for said in [refuses_for_now, wants_to_look_again, has_no_time_for_one, |_, _| "530 5.7.0 log in"] {
        let (gateway, smtp) = probed(said, "unknown", "").await;
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
    let (gateway, smtp) = probed(CLOSED, "closed", ", accept_domains: [example.net]").await;
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
    let (gateway, smtp) = probed(CLOSED, "closed", "").await;
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

#[tokio::test]
async fn what_was_found_by_other_questions_or_from_another_address_is_forgotten_at_a_reload() {
    let (submission, source) = ("submission", "backend");
    for (before, change, connections) in [
        // A warning is asked for with less.
        ("require_auth: true", (submission, "require_auth: false"), 1),
        ("require_auth: false", (submission, "accept_domains: [example.net, new.example]"), 2),
        ("require_auth: false", (source, "source: [127.0.0.1]"), 1),
        ("require_auth: false", (source, "client_address: received"), 1),
    ] {
        let smtp = Backend::listen(Cut::Whole).await;
        let setup = Setup::one(Service::Submission, TlsRule::Implicit, smtp.address);
        let mut gateway = setup.with("submission", &format!("{before}, relay_probe: true")).start().await;
        answer_the_probe(&smtp, CLOSED, 1).await;
        is_known_to_be(&gateway, "closed").await;
        gateway.has_learned().await;
        gateway.setup.set(change.0, change.1);
        gateway.reload().await.expect("a good configuration");
        is_known_to_be(&gateway, "unknown").await;
        let mut one = client(&gateway).await;
        one.line("MAIL FROM:<scanner@example.net>").await;
        one.hear("451 4.3.0 <*>").await;
        // What changes nothing about it leaves it as it is.
        answer_again(&smtp, CLOSED, connections).await;
        is_known_to_be(&gateway, "closed").await;
        gateway.setup.set("limits", "messages_per_user: 5/h");
        gateway.reload().await.expect("a good configuration");
        is_known_to_be(&gateway, "closed").await;
    }
}

#[tokio::test]
async fn a_session_without_a_login_ends_with_the_policy_that_allows_it() {
    let (mut gateway, smtp) = probed(CLOSED, "closed", "").await;
    let mut client = client(&gateway).await;
    client.line("MAIL FROM:<scanner@example.net>").await;
    let mut server = greeted(&smtp).await;
    server.hear("MAIL FROM:<scanner@example.net>").await;
    server.line("250 ok").await;
    client.hear("250 ok").await;
    client.line("RSET").await;
    server.hear("RSET").await;
    server.line("250 ok").await;
    client.hear("250 ok").await;
    gateway.setup.set("submission", "require_auth: true");
    gateway.reload().await.expect("a good configuration");
    answer_again(&smtp, CLOSED, 1).await;
    is_known_to_be(&gateway, "closed").await;
    client.line("MAIL FROM:<scanner@example.net>").await;
    client.hear("530 5.7.0 <*>").await;
}
