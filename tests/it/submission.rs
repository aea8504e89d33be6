//! Mail on its way in: many messages, a backend or a client that is lost in the middle of one, and strangers.

use crate::backend::{Backend, Post};
use crate::gateway::{Gateway, Setup};
use crate::mail::{hear_login, log_in};
use crate::talk::{Cut, Talk};
use gatepost::proto::{Protocol, Service, TlsRule};

/// A gateway with TLS before a backend that the test plays, and a client behind its login.
async fn scripted() -> (Gateway, Backend, Talk, Talk) {
    let backend = Backend::listen(Cut::Whole).await;
    let setup = Setup::one(Service::Submission, TlsRule::Implicit, backend.address);
    let (gateway, ()) = tokio::join!(setup.start(), backend.teach(Protocol::Smtp));
    gateway.has_learned().await;
    let mut client = gateway.tls().await;
    client.hear("220 <*>").await;
    log_in(&mut client, Protocol::Smtp, "secret").await;
    let mut dialogue = backend.dialled().await;
    hear_login(&mut dialogue, Protocol::Smtp).await;
    dialogue.line("235 ok").await;
    client.hear("235 <*>").await;
    (gateway, backend, client, dialogue)
}

/// Brings a message to where its text is due.
async fn begin(client: &mut Talk, dialogue: &mut Talk) {
    for command in ["MAIL FROM:<joe@example.net>", "RCPT TO:<ann@example.org>"] {
        client.line(command).await;
        dialogue.hear(command).await;
        dialogue.line("250 Ok").await;
        client.hear("250 Ok").await;
    }
    client.line("DATA").await;
    dialogue.hear("DATA").await;
    dialogue.line("354 Go").await;
    client.hear("354 Go").await;
}

#[tokio::test]
async fn a_session_carries_many_messages() {
    let post = Post::serve(Protocol::Smtp).await;
    let gateway = Setup::one(Service::Submission, TlsRule::Implicit, post.address).start().await;
    gateway.has_learned().await;
    let mut client = gateway.tls().await;
    client.hear("220 <*>").await;
    log_in(&mut client, Protocol::Smtp, "secret").await;
    client.hear("235 <*>").await;
    for number in 0..40 {
        client
            .say("MAIL FROM:<joe@example.net>\r\nRCPT TO:<ann@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n")
            .await;
        client.hear("250 Ok\n250 Ok\n250 Ok\n354 Go").await;
        client.say(format!("Subject: {number}\r\n\r\n..\r\n.\r\n")).await;
        client.hear("250 queued").await;
        let event = gateway.event("message.accepted", "user=joe from=joe@example.net recipients=2").await;
        assert!(event["size"].as_u64() > Some(10), "{event}");
    }
    client.line("QUIT").await;
    client.hear("221 <*>").await;
    client.closed().await;
    client.end().await;
    gateway.event("session.closed", "reason=logout messages=40 recipients=80").await;
    let messages = post.messages();
    assert_eq!(messages.len(), 40);
    assert_eq!(messages[39], "Subject: 39\n\n..\n");
    assert_eq!(post.logins(), 1);
    gateway.is_empty().await;
    post.is_left().await;
}

#[tokio::test]
async fn a_backend_lost_in_a_message_never_yields_a_yes() {
    // Before its text, inside it, and behind its end, before the answer.
    for (text, end) in [("", ""), ("half a li", ""), ("a line\r\n", ""), ("a line\r\n", ".\r\n")] {
        let (gateway, _backend, mut client, mut dialogue) = scripted().await;
        begin(&mut client, &mut dialogue).await;
        client.say(format!("{text}{end}")).await;
        if text.ends_with('\n') {
            dialogue.hear("a line").await;
        }
        if !end.is_empty() {
            dialogue.hear(".").await;
        }
        drop(dialogue);
        client.say(if end.is_empty() { "\r\nmore\r\n.\r\n" } else { "" }).await;
        let rest = client.rest().await.expect("a proper end");
        client.end().await;
        let rest = String::from_utf8(rest).expect("words");
        assert!(rest.starts_with("421 4.3.0 ") && rest.lines().count() == 1, "{text:?} {end:?}: {rest:?}");
        gateway.event("session.closed", "user=joe messages=0").await;
        assert!(gateway.left("message.accepted").await.is_empty());
        gateway.is_empty().await;
    }
}

#[tokio::test]
async fn a_client_that_vanishes_in_a_message_ends_it_without_a_dot() {
    for properly in [true, false] {
        for text in ["", "a line\r\n", "a line\r\n.", "a line\r\n.\r"] {
            let (gateway, _backend, mut client, mut dialogue) = scripted().await;
            begin(&mut client, &mut dialogue).await;
            client.say(text).await;
            if properly {
                client.end().await;
            }
            // Otherwise without close_notify, as when the line is cut.
            drop(client);
            let heard = dialogue.rest().await.unwrap_or_default();
            let heard = String::from_utf8(heard).expect("text");
            assert!(!heard.contains("\r\n.\r\n") && !heard.starts_with(".\r\n"), "{text:?}: {heard:?}");
            assert!(!heard.contains("QUIT"), "in the middle of a message that would be text: {heard:?}");
            drop(dialogue);
            gateway.event("session.closed", "user=joe messages=0").await;
            assert!(gateway.left("message.accepted").await.is_empty());
            gateway.is_empty().await;
        }
    }
}

#[tokio::test]
async fn a_message_refused_for_what_it_holds_does_not_spoil_the_next() {
    let post = Post::serve(Protocol::Smtp).await;
    let gateway = Setup::one(Service::Submission, TlsRule::Implicit, post.address).start().await;
    gateway.has_learned().await;
    let mut client = gateway.tls().await;
    client.hear("220 <*>").await;
    log_in(&mut client, Protocol::Smtp, "secret").await;
    client.hear("235 <*>").await;
    for (text, answer) in [
        ("one\n.\n", "550 5.5.2 <*>"),
        ("two\r\n", "250 queued"),
        ("three\r.\r\n", "550 5.5.2 <*>"),
        ("four\r\n", "250 queued"),
        ("five\r\n.\0\r\nMAIL FROM:<boss@example.net>", "550 5.5.2 Message holds NUL<*>"),
        ("six\r\n", "250 queued"),
    ] {
        client.line("MAIL FROM:<joe@example.net>").await;
        client.hear("250 Ok").await;
        client.line("RCPT TO:<ann@example.org>").await;
        client.hear("250 Ok").await;
        client.line("DATA").await;
        client.hear("354 Go").await;
        client.say(format!("{text}\r\n.\r\n")).await;
        client.hear(answer).await;
        match answer {
            "250 queued" => gateway.event("message.accepted", "user=joe").await,
            _ if text.contains('\0') => gateway.event("message.refused", "reason=bad_syntax user=joe").await,
            _ => gateway.event("message.refused", "reason=bare_newline user=joe").await,
        };
    }
    client.line("QUIT").await;
    client.hear("221 <*>").await;
    client.closed().await;
    client.end().await;
    gateway.event("session.closed", "messages=3").await;
    assert_eq!(post.messages(), ["two\n\n", "four\n\n", "six\n\n"]);
    assert_eq!(
        (post.logins(), post.dialled()),
        (4, 5),
        "a new connection with a login each time, and the health check"
    );
    gateway.is_empty().await;
    post.is_left().await;
}

#[tokio::test]
async fn where_the_new_connection_is_not_to_be_had_the_message_is_not_now() {
    let (gateway, mut backend, mut client, mut dialogue) = scripted().await;
    begin(&mut client, &mut dialogue).await;
    client.say("a bare\nnewline\r\n.\r\n").await;
    client.hear("550 5.5.2 <*>").await;
    let _ = dialogue.rest().await;
    backend.down();
    client.line("MAIL FROM:<joe@example.net>").await;
    let answer = client.next_line().await.expect("an answer");
    assert!(answer.starts_with('4'), "{answer}");
    client.end().await;
    let _ = client.rest().await;
    gateway.event("session.closed", "user=joe").await;
    gateway.is_empty().await;
}

#[tokio::test]
async fn a_message_that_went_on_at_another_server_is_told_of_that_one() {
    let (mut first, second) = (Backend::listen(Cut::Whole).await, Backend::listen(Cut::Whole).await);
    let setup = Setup::new()
        .listener(Service::Submission, TlsRule::Implicit, "")
        .with("backend", &format!("smtp: [\"{}\", \"{}\"]", first.address, second.address));
    let (gateway, (), ()) = tokio::join!(setup.start(), first.teach(Protocol::Smtp), second.teach(Protocol::Smtp));
    gateway.has_learned().await;
    gateway.has_learned().await;
    let mut client = gateway.tls().await;
    client.hear("220 <*>").await;
    log_in(&mut client, Protocol::Smtp, "secret").await;
    let mut dialogue = first.dialled().await;
    hear_login(&mut dialogue, Protocol::Smtp).await;
    dialogue.line("235 ok").await;
    client.hear("235 <*>").await;
    begin(&mut client, &mut dialogue).await;
    client.say("a bare\nnewline\r\n.\r\n").await;
    client.hear("550 5.5.2 <*>").await;
    let _ = dialogue.rest().await;
    gateway.event("message.refused", &format!("server={}", first.address)).await;
    first.down();
    client.line("MAIL FROM:<joe@example.net>").await;
    let mut dialogue = second.dialled().await;
    hear_login(&mut dialogue, Protocol::Smtp).await;
    dialogue.line("235 ok").await;
    dialogue.hear("MAIL FROM:<joe@example.net>").await;
    dialogue.line("550 not you").await;
    client.hear("550 not you").await;
    gateway.event("message.refused", &format!("server={}", second.address)).await;
}

#[tokio::test]
async fn strangers_write_to_our_domains_and_to_nobody_else() {
    let post = Post::serve(Protocol::Smtp).await;
    let setup = Setup::one(Service::Smtp, TlsRule::Off, post.address)
        .with("submission", "accept_domains: [example.net, mail.example.org]");
    let gateway = setup.start().await;
    gateway.has_learned().await;
    let mut stranger = gateway.plain().await;
    stranger.hear("220 <*>").await;
    stranger.line("EHLO mx.example.com").await;
    while stranger.next_line().await.expect("a list").starts_with("250-") {}
    stranger.line("MAIL FROM:<eve@example.com>").await;
    stranger.hear("250 Ok").await;
    for (recipient, taken) in [
        ("<joe@example.net>", true),
        ("<Joe@EXAMPLE.NET>", true),
        ("<ann@mail.example.org>", true),
        ("<postmaster>", true),
        ("<Postmaster>", true),
        ("<joe@example.com>", false),
        ("<joe@sub.example.net>", false),
        ("<joe@example.org>", false),
        ("<joe@example.net.>", false),
        ("<joe%example.com@example.net>", false),
        ("<example.com!joe@example.net>", false),
        ("<@example.net:joe@example.com>", false),
        ("<@relay.example.com:joe@example.net>", false),
        ("<\"joe@example.com\"@example.net>", false),
        ("<joe@[127.0.0.1]>", false),
        ("<root>", false),
        ("<joe@example.com@example.net>", false),
        ("<>", false),
    ] {
        stranger.line(&format!("RCPT TO:{recipient}")).await;
        let answer = stranger.next_line().await.expect("an answer");
        assert_eq!(answer == "250 Ok", taken, "{recipient}: {answer}");
        if !taken {
            assert!(answer.starts_with('5'), "{recipient}: {answer}");
        }
    }
    gateway.event("message.refused", "reason=relay_denied").await;
    stranger.say("DATA\r\n").await;
    stranger.hear("354 Go").await;
    stranger.say("hello\r\n.\r\n").await;
    stranger.hear("250 queued").await;
    gateway.event("message.accepted", "recipients=5").await;
    stranger.line("QUIT").await;
    stranger.hear("221 <*>").await;
    stranger.closed().await;
    stranger.end().await;
    gateway.event("session.closed", "messages=1 recipients=5").await;
    gateway.is_empty().await;
    post.is_left().await;
}

#[tokio::test]
async fn with_no_domains_of_ours_strangers_reach_the_postmaster_alone() {
    let post = Post::serve(Protocol::Smtp).await;
    let setup = Setup::one(Service::Smtp, TlsRule::Off, post.address).with("submission", "accept_domains: []");
    let gateway = setup.start().await;
    gateway.has_learned().await;
    let mut stranger = gateway.plain().await;
    stranger.hear("220 <*>").await;
    stranger.line("HELO mx.example.com").await;
    stranger.hear("250 <*>").await;
    stranger.line("MAIL FROM:<>").await;
    stranger.hear("250 Ok").await;
    stranger.line("RCPT TO:<joe@example.net>").await;
    stranger.hear("554 5.7.1 Relay access denied").await;
    gateway.event("message.refused", "reason=relay_denied from=<>").await;
    stranger.line("RCPT TO:<postmaster>").await;
    stranger.hear("250 Ok").await;
}
