//! Who may send, as whom, how much, and who needs no login for it.

use crate::backend::Post;
use crate::gateway::{Gateway, Setup};
use crate::mail::{greeting, log_in};
use crate::talk::{Cut, Talk};
use gatepost::proto::{Protocol, Service, TlsRule};

/// A gateway for senders, with routes and keys of `submission` or `limits`.
async fn gateway(section: &'static str, keys: &str, routes: &[&str]) -> (Gateway, Post) {
    let post = Post::serve(Protocol::Smtp).await;
    let mut setup = Setup::one(Service::Submission, TlsRule::Implicit, post.address).with(section, keys);
    for route in routes {
        setup = setup.route(route);
    }
    let gateway = setup.start().await;
    gateway.has_learned().await;
    (gateway, post)
}

async fn hello(mut client: Talk) -> Talk {
    client.hear(greeting(Protocol::Smtp)).await;
    client.line("EHLO client").await;
    while client.next_line().await.expect("a line").starts_with("250-") {}
    client
}

/// Joe, logged in.
async fn joe(gateway: &Gateway) -> Talk {
    let mut client = hello(gateway.tls().await).await;
    log_in(&mut client, Protocol::Smtp, "secret").await;
    client.hear("235 2.7.0 <*>").await;
    client
}

/// Sends one message, after which the next can begin.
async fn send(client: &mut Talk, from: &str, to: &str) {
    client.line(&format!("MAIL FROM:<{from}>")).await;
    client.hear("250 <*>").await;
    client.line(&format!("RCPT TO:<{to}>")).await;
    client.hear("250 <*>").await;
    client.line("DATA").await;
    client.hear("354 <*>").await;
    client.line("Subject: x\r\n\r\nx\r\n.").await;
    client.hear("250 <*>").await;
}

#[tokio::test]
async fn a_user_sends_so_many_messages_and_no_more() {
    let (gateway, post) = gateway("limits", "messages_per_user: 2/h", &[]).await;
    let mut client = joe(&gateway).await;
    send(&mut client, "joe@example.net", "ann@example.org").await;
    // Another session is no way around it.
    let mut other = joe(&gateway).await;
    send(&mut other, "joe@example.net", "ann@example.org").await;
    for client in [&mut client, &mut other] {
        client.line("MAIL FROM:<joe@example.net>").await;
        client.hear("450 4.7.1 <*>").await;
        gateway.event("message.refused", "user=joe reason=rate_limited from=joe@example.net").await;
        client.line("NOOP").await;
        client.hear("250 <*>").await;
    }
    assert_eq!(post.messages().len(), 2);
}

#[tokio::test]
async fn a_user_writes_to_so_many_recipients_and_those_before_get_the_message() {
    let (gateway, post) = gateway("limits", "recipients_per_user: 2/day", &[]).await;
    let mut client = joe(&gateway).await;
    // At once, as programs with PIPELINING do: the answers keep their order.
    client.line("MAIL FROM:<joe@example.net>\r\nRCPT TO:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nRCPT TO:<c@x.example>\r\nDATA").await;
    client.hear("250 <*>\n250 <*>\n250 <*>\n452 4.5.3 <*>\n354 <*>").await;
    client.line("Subject: x\r\n\r\nx\r\n.").await;
    client.hear("250 <*>").await;
    gateway.event("message.refused", "user=joe reason=rate_limited from=joe@example.net").await;
    gateway.event("message.accepted", "user=joe recipients=2").await;
    assert_eq!(post.messages().len(), 1);
}

#[tokio::test]
async fn a_sender_is_the_user_or_an_address_that_leads_to_the_same_mailbox() {
    let routes = [
        "user: \"boss@elsewhere.example\", login: joe",
        "user: \"*@joes.example\", login: \"joe\"",
        "user: \"ann@*\", login: ann",
        "user: \"*@*\", login: \"{local}\"",
    ];
    let (gateway, _post) =
        gateway("submission", "sender_must_match: true, accept_domains: [example.org]", &routes).await;
    let mut client = joe(&gateway).await;
    for (from, answer) in [
        ("joe@mail.example.net", "250"),
        ("JOE@Example.NET", "250"),
        ("joe@example.org", "250"),
        ("boss@elsewhere.example", "250"),
        ("anything@joes.example", "250"),
        ("", "250"),
        ("joe@elsewhere.example", "553 5.7.1"),
        ("ann@example.net", "553 5.7.1"),
        ("joe2@example.net", "553 5.7.1"),
        ("\"joe\"@example.net", "250"),
    ] {
        client.line(&format!("MAIL FROM:<{from}>")).await;
        client.hear(&format!("{answer} <*>")).await;
        client.line("RSET").await;
        client.hear("250 <*>").await;
    }
    gateway.event("message.refused", "reason=sender_mismatch from=ann@example.net").await;
}

/// A gateway for reading and sending from addresses that are limited like anybody's.
async fn pop_before_smtp(window: &str) -> (Gateway, Post, Post) {
    let (pop3, smtp) = (Post::serve(Protocol::Pop3).await, Post::serve(Protocol::Smtp).await);
    let gateway = Setup::new()
        .listener(Service::Submission, TlsRule::Optional, "")
        .listener(Service::Pop3, TlsRule::Optional, "")
        .backend(Protocol::Pop3, pop3.address)
        .backend(Protocol::Smtp, smtp.address)
        .with("auth", &format!("pop_before_smtp: {{ window: {window} }}"))
        .with("limits", "exempt: [127.99.0.0/16], auth_failures_per_ip: 3/10min")
        .start()
        .await;
    gateway.event("backend.up", "protocol=pop3").await;
    gateway.event("backend.up", "protocol=smtp").await;
    (gateway, pop3, smtp)
}

async fn from(gateway: &Gateway, index: usize, source: &str) -> Talk {
    let to = gateway.server.status().await.listeners[index].addresses[0];
    let source = source.parse().expect("an address");
    Talk::connect(to, Some(source), Cut::Whole).await.expect("it listens")
}

#[tokio::test]
async fn who_has_just_fetched_mail_may_send_and_nobody_else() {
    let (gateway, _pop3, smtp) = pop_before_smtp("30m").await;
    let names: Vec<_> = gateway.server.status().await.listeners.iter().map(|listener| listener.name.clone()).collect();
    let at = |name: &str| names.iter().position(|known| known.starts_with(name)).expect("a listener");
    let (pop3, submission) = (at("pop3"), at("submission"));
    let mut client = hello(from(&gateway, submission, "127.8.0.1").await).await;
    client.line("MAIL FROM:<joe@example.net>").await;
    client.hear("530 5.7.0 Authentication required").await;

    let mut reader = from(&gateway, pop3, "127.8.0.1").await;
    reader.hear("+OK <*>").await;
    log_in(&mut reader, Protocol::Pop3, "wrong").await;
    reader.hear("-ERR [AUTH] <*>").await;
    client.line("MAIL FROM:<joe@example.net>").await;
    client.hear("530 5.7.0 Authentication required").await;
    log_in(&mut reader, Protocol::Pop3, "secret").await;
    reader.hear("+OK <*>").await;
    // The session that was told no, too.
    send(&mut client, "joe@example.net", "ann@elsewhere.example").await;
    let event = gateway.event("message.accepted", "client_ip=127.8.0.1").await;
    assert!(event["user"].is_null(), "{event}");

    let mut neighbour = hello(from(&gateway, submission, "127.8.0.2").await).await;
    neighbour.line("MAIL FROM:<joe@example.net>").await;
    neighbour.hear("530 5.7.0 Authentication required").await;

    // Who guesses passwords from there may send no more.
    for password in ["guess1", "guess2", "guess3"] {
        let mut reader = from(&gateway, pop3, "127.8.0.1").await;
        reader.hear("+OK <*>").await;
        log_in(&mut reader, Protocol::Pop3, password).await;
        reader.hear("-ERR <*>").await;
    }
    gateway.event("ban.added", "client_ip=127.8.0.1").await;
    client.line("MAIL FROM:<joe@example.net>").await;
    client.hear("530 5.7.0 Authentication required").await;

    // Behind an exempt address there may be anybody.
    let mut reader = from(&gateway, pop3, "127.99.0.1").await;
    reader.hear("+OK <*>").await;
    log_in(&mut reader, Protocol::Pop3, "secret").await;
    reader.hear("+OK <*>").await;
    let mut client = hello(from(&gateway, submission, "127.99.0.1").await).await;
    client.line("MAIL FROM:<joe@example.net>").await;
    client.hear("530 5.7.0 Authentication required").await;
    assert_eq!(smtp.messages().len(), 1);
}

#[tokio::test]
async fn an_operator_grants_an_address_what_a_login_would() {
    let (gateway, ..) = pop_before_smtp("30m").await;
    let names: Vec<_> = gateway.server.status().await.listeners.iter().map(|listener| listener.name.clone()).collect();
    let submission = names.iter().position(|name| name.starts_with("submission")).expect("a listener");
    let window = gateway.server.grant("127.8.0.9".parse().expect("an address")).await.expect("granted");
    assert_eq!(window.as_secs(), 1800);
    assert!(gateway.server.grant("127.99.0.9".parse().expect("an address")).await.is_err(), "exempt");
    let mut client = hello(from(&gateway, submission, "127.8.0.9").await).await;
    send(&mut client, "joe@example.net", "ann@elsewhere.example").await;
}

#[tokio::test]
async fn where_it_is_off_a_login_opens_nothing() {
    let (gateway, _post) = gateway("limits", "exempt: []", &[]).await;
    let error = gateway.server.grant("127.8.0.9".parse().expect("an address")).await.expect_err("off");
    assert!(error.to_string().contains("auth.pop_before_smtp: { window: 30m }"), "{error}");
}
