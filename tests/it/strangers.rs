//! What somebody without a login can do to a backend, and to what others are told of it.

use crate::backend::Backend;
use crate::gateway::{Gateway, Setup};
use crate::mail;
use crate::talk::{Cut, Talk};
use gatepost::proto::{Protocol, Service, TlsRule};

async fn port_25() -> (Gateway, Backend) {
    let backend = Backend::listen(Cut::Whole).await;
    let gateway = Setup::one(Service::Smtp, TlsRule::Off, backend.address).start().await;
    backend.teach(Protocol::Smtp).await;
    gateway.has_learned().await;
    (gateway, backend)
}

/// A stranger of this name who brings mail, and the backend's end, greeted.
async fn mail_from(gateway: &Gateway, backend: &Backend, name: &str) -> (Talk, Talk) {
    let mut client = gateway.plain().await;
    client.hear("220 <*>").await;
    client.line(&format!("HELO {name}")).await;
    client.hear("250 <*>").await;
    client.line("MAIL FROM:<a@example.org>").await;
    let mut dialled = backend.dialled().await;
    dialled.line("220 old.example.net ESMTP").await;
    (client, dialled)
}

#[tokio::test]
async fn a_name_the_backend_refuses_switches_it_off_for_nobody() {
    let (gateway, backend) = port_25().await;
    let (mut client, mut dialled) = mail_from(&gateway, &backend, "-evil-").await;
    dialled.hear("EHLO -evil-").await;
    dialled.line("501 Invalid domain name").await;
    dialled.hear("HELO -evil-").await;
    dialled.line("501 Invalid domain name").await;
    client.hear("451 4.3.0 <*>").await;
    assert!(gateway.server.is_ready());
    assert!(gateway.left("backend.down").await.is_empty());
}

#[tokio::test]
async fn what_the_backend_offers_to_one_stranger_is_not_what_others_are_told() {
    let (gateway, backend) = port_25().await;
    let (mut client, mut dialled) = mail_from(&gateway, &backend, "-evil-").await;
    dialled.hear("EHLO -evil-").await;
    dialled.line("502 not for you").await;
    dialled.hear("HELO -evil-").await;
    dialled.line("250 old.example.net").await;
    dialled.hear("MAIL FROM:<a@example.org>").await;
    dialled.line("250 Ok").await;
    client.hear("250 Ok").await;
    let mut other = gateway.plain().await;
    other.hear("220 <*>").await;
    other.line("EHLO pc").await;
    other.hear("250-mail.example.net\n250-8BITMIME").await;
}

#[tokio::test]
async fn a_name_that_is_none_is_kept_from_the_backend() {
    let (gateway, backend) = port_25().await;
    for (name, said) in [
        ("pc.example.org", "pc.example.org"),
        ("my_pc", "my_pc"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
        ("a;b", "mail.example.net"),
        ("[<x>]", "mail.example.net"),
    ] {
        let (_client, mut dialled) = mail_from(&gateway, &backend, name).await;
        dialled.hear(&format!("EHLO {said}")).await;
    }
}

#[tokio::test]
async fn an_exchange_without_end_is_given_up() {
    let backend = Backend::listen(Cut::Whole).await;
    let gateway = Setup::one(Service::Imap, TlsRule::Off, backend.address).start().await;
    let greeting = "* OK [CAPABILITY IMAP4rev1 AUTH=CRAM-MD5] ready";
    let mut asked = backend.dialled().await;
    asked.line(greeting).await;
    asked.rest().await.expect("a proper end");
    gateway.has_learned().await;
    let mut client = gateway.plain().await;
    client.hear("* OK <*>").await;
    client.line("a AUTHENTICATE CRAM-MD5").await;
    let mut endless = backend.dialled().await;
    endless.line(greeting).await;
    endless.hear("<*> AUTHENTICATE CRAM-MD5").await;
    for _ in 0..16 {
        endless.line("+ PDEuMkBvbGQ+").await;
        client.hear("+ PDEuMkBvbGQ+").await;
        client.line("am9lIDAxMjM=").await;
        endless.hear("am9lIDAxMjM=").await;
    }
    endless.line("+ PDEuMkBvbGQ+").await;
    client.hear("a NO [UNAVAILABLE] <*>").await;
    gateway.event("auth.error", "reason=backend_protocol").await;
    endless.closed().await;
}

#[tokio::test]
async fn what_stands_behind_the_login_of_a_redial_is_no_reply_to_the_next_message() {
    let backend = Backend::listen(Cut::Whole).await;
    let setup = Setup::one(Service::Submission, TlsRule::Off, backend.address).with("auth", "without_tls: [PLAIN]");
    let gateway = setup.start().await;
    backend.teach(Protocol::Smtp).await;
    gateway.has_learned().await;
    let mut client = gateway.plain().await;
    client.hear("220 <*>").await;
    mail::log_in(&mut client, Protocol::Smtp, "secret").await;
    let mut dialled = backend.dialled().await;
    mail::hear_login(&mut dialled, Protocol::Smtp).await;
    dialled.line("235 ok").await;
    client.hear("235 <*>").await;
    for (command, answer) in
        [("MAIL FROM:<a@example.org>", "250 a"), ("RCPT TO:<b@example.org>", "250 b"), ("DATA", "354 Go")]
    {
        client.line(command).await;
        dialled.hear(command).await;
        dialled.line(answer).await;
        client.hear(answer).await;
    }
    client.say("a\nb\r\n.\r\n").await;
    client.hear("550 5.5.2 <*>").await;
    client.line("MAIL FROM:<a@example.org>").await;
    let mut again = backend.dialled().await;
    mail::hear_login(&mut again, Protocol::Smtp).await;
    again.say("235 ok\r\n250 and I take your mail\r\n").await;
    client.hear("451 4.3.0 <*>").await;
}
