//! A webmail that logs in for everybody from one address: whom it speaks for is who is limited and on record.

use crate::backend::Post;
use crate::gateway::{Gateway, Setup};
use crate::mail::{greeting, log_in, service};
use crate::talk::{Cut, Talk};
use gatepost::proto::{Protocol, TlsRule};
use std::sync::Arc;

const WEBMAIL: &str = "127.7.0.1";

async fn gateway(protocol: Protocol, limits: &str) -> (Gateway, Post) {
    let post = Post::serve(protocol).await;
    let gateway = Setup::new()
        .listener(service(protocol), TlsRule::Implicit, "trusted_clients: [127.7.0.0/16]")
        .backend(protocol, post.address)
        .with("limits", limits)
        .start()
        .await;
    gateway.has_learned().await;
    (gateway, post)
}

async fn from(gateway: &Gateway, source: &str, protocol: Protocol) -> Talk {
    let source = source.parse().expect("an address");
    let client = Talk::connect(gateway.address(), Some(source), Cut::Whole).await.expect("it listens");
    let mut client = client.start_tls(Arc::clone(&gateway.trust())).await.expect("a handshake");
    client.hear(greeting(protocol)).await;
    client
}

#[tokio::test]
async fn an_id_of_a_webmail_is_believed_and_its_user_is_who_is_banned() {
    let (gateway, _post) = gateway(Protocol::Imap, "exempt: [], auth_failures_per_ip: 2/10min").await;
    for (number, user) in ["192.0.2.7", "192.0.2.7", "192.0.2.7", "192.0.2.8"].iter().enumerate() {
        let mut client = from(&gateway, WEBMAIL, Protocol::Imap).await;
        client.line(&format!("i ID (\"name\" \"web\" \"x-originating-ip\" \"{user}\")")).await;
        client.hear("* ID NIL\ni OK <*>").await;
        client.line(&format!("a LOGIN joe wrong{number}")).await;
        client.hear("a NO [AUTHENTICATIONFAILED] <*>").await;
        let event = gateway.event("auth.failed", &format!("client_ip={user} proxy_ip={WEBMAIL}")).await;
        assert_eq!(event["client_port"], 0, "nobody said whose port it is: {event}");
    }
    gateway.event("ban.added", "client_ip=192.0.2.7").await;
    // The next of that user's is refused, the webmail's others are not.
    let mut client = from(&gateway, WEBMAIL, Protocol::Imap).await;
    client.line("i ID (\"x-originating-ip\" \"192.0.2.7\")").await;
    client.hear("* ID NIL\ni OK <*>").await;
    client.line("a LOGIN joe secret").await;
    client.hear("a NO [UNAVAILABLE] <*>").await;
    let mut client = from(&gateway, WEBMAIL, Protocol::Imap).await;
    client.line("i ID (\"x-originating-ip\" \"192.0.2.9\")").await;
    client.hear("* ID NIL\ni OK <*>").await;
    client.line("a LOGIN joe secret").await;
    client.hear("a OK <*>").await;
    gateway.event("auth.ok", "client_ip=192.0.2.9").await;
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let (gateway, _post) = gateway(Protocol::Imap, "exempt: []").await;
    let mut client = from(&gateway, "127.8.0.1", Protocol::Imap).await;
    client.line("i ID (\"x-originating-ip\" \"192.0.2.7\")").await;
    client.hear("* ID NIL\ni OK <*>").await;
    log_in(&mut client, Protocol::Imap, "wrong").await;
    client.hear("a NO [AUTHENTICATIONFAILED] <*>").await;
    let event = gateway.event("auth.failed", "client_ip=127.8.0.1").await;
    assert!(event["proxy_ip"].is_null(), "{event}");
    let (gateway, _post) = self::gateway(Protocol::Smtp, "exempt: []").await;
    let mut client = from(&gateway, "127.8.0.1", Protocol::Smtp).await;
    client.line("EHLO x").await;
    while {
        let line = client.next_line().await.expect("a line");
        assert!(!line.contains("XCLIENT"), "{line}");
        line.starts_with("250-")
    } {}
    client.line("XCLIENT ADDR=192.0.2.7").await;
    client.hear("550 5.7.0 <*>").await;
}

#[tokio::test]
async fn an_xclient_of_a_webmail_begins_the_session_anew_for_its_user() {
    let (gateway, post) = gateway(Protocol::Smtp, "exempt: []").await;
    let mut client = from(&gateway, WEBMAIL, Protocol::Smtp).await;
    client.line("EHLO web").await;
    let mut shown = Vec::new();
    while {
        shown.push(client.next_line().await.expect("a line"));
        shown.last().is_some_and(|line| line.starts_with("250-"))
    } {}
    assert!(shown.iter().any(|line| line.ends_with("XCLIENT ADDR")), "{shown:?}");
    client.line("XCLIENT ADDR=2001:db8::7").await;
    client.hear("501 5.5.4 <*>").await;
    client.line("XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::7").await;
    client.hear("220 mail.example.net ESMTP").await;
    client.line("EHLO pc").await;
    while client.next_line().await.expect("a line").starts_with("250-") {}
    log_in(&mut client, Protocol::Smtp, "secret").await;
    client.hear("235 2.7.0 <*>").await;
    gateway.event("auth.ok", &format!("client_ip=2001:db8::7 proxy_ip={WEBMAIL}")).await;
    // Behind the login it is a command like any other that is not for a client.
    client.line("XCLIENT ADDR=192.0.2.9").await;
    client.hear("550 5.7.0 <*>").await;
    client.line("MAIL FROM:<joe@example.net>\r\nRCPT TO:<ann@example.org>\r\nDATA").await;
    client.hear("250 <*>\n250 <*>\n354 <*>").await;
    client.line("Subject: x\r\n\r\nx\r\n.").await;
    client.hear("250 <*>").await;
    gateway.event("message.accepted", "client_ip=2001:db8::7").await;
    assert!(post.messages().iter().all(|message| !message.contains("2001:db8")), "nothing is passed on");
}
