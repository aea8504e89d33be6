//! Senders whose passwords another server than the SMTP server checks: `auth.submission`.

use crate::backend::{Backend, Post};
use crate::gateway::{Gateway, Setup};
use crate::mail::{greeting, log_in_as, plain};
use crate::talk::{Cut, Talk};
use gatepost::proto::{Protocol, Service, TlsRule};

/// An SMTP server that knows no AUTH, up to where a message can come.
async fn old_server(backend: &Backend) -> Talk {
    let mut talk = backend.dialled().await;
    talk.line("220 old.example.net ESMTP").await;
    talk.hear("EHLO mail.example.net").await;
    talk.line("250-old.example.net\r\n250 8BITMIME").await;
    talk
}

/// A gateway before such a server and one that reads mail; the first is asked once at the start.
async fn gateway(protocol: Protocol, more: &str) -> (Gateway, Backend, Post) {
    let (smtp, post) = (Backend::listen(Cut::Whole).await, Post::serve(protocol).await);
    let setup = Setup::one(Service::Submission, TlsRule::Implicit, smtp.address)
        .backend(protocol, post.address)
        .with("auth", &format!("submission: {}{more}", protocol.as_str()));
    let gateway = setup.start().await;
    old_server(&smtp).await.rest().await.expect("a proper end");
    gateway.event("backend.up", "protocol=smtp").await;
    gateway.event("backend.up", &format!("protocol={}", protocol.as_str())).await;
    (gateway, smtp, post)
}

/// The same with a POP3 server whose every word the test says.
async fn gateway_of_words() -> (Gateway, Backend, Backend) {
    let (smtp, pop3) = (Backend::listen(Cut::Whole).await, Backend::listen(Cut::Whole).await);
    let gateway = Setup::one(Service::Submission, TlsRule::Implicit, smtp.address)
        .backend(Protocol::Pop3, pop3.address)
        .with("auth", "submission: pop3")
        .start()
        .await;
    pop3.teach(Protocol::Pop3).await;
    old_server(&smtp).await.rest().await.expect("a proper end");
    gateway.event("backend.up", "protocol=smtp").await;
    (gateway, smtp, pop3)
}

async fn hello(gateway: &Gateway) -> (Talk, Vec<String>) {
    let mut client = gateway.tls().await;
    client.hear(greeting(Protocol::Smtp)).await;
    client.line("EHLO client").await;
    let mut lines = Vec::new();
    loop {
        lines.push(client.next_line().await.expect("a line"));
        if lines.last().is_some_and(|line| line.starts_with("250 ")) {
            return (client, lines);
        }
    }
}

#[tokio::test]
async fn a_server_without_auth_gets_mail_from_whom_its_neighbour_knows() {
    for protocol in [Protocol::Imap, Protocol::Pop3] {
        let (gateway, smtp, post) = gateway(protocol, "").await;
        let (mut client, shown) = hello(&gateway).await;
        let passwords = shown.iter().any(|line| line[4..].starts_with("AUTH PLAIN LOGIN"));
        assert!(passwords, "{protocol:?} {shown:?}");
        log_in_as(&mut client, Protocol::Smtp, "joe", "wrong").await;
        client.hear("535 5.7.8 <*>").await;
        gateway.event("auth.failed", "user=joe").await;
        log_in_as(&mut client, Protocol::Smtp, "joe", "secret").await;
        let mut old = old_server(&smtp).await;
        client.hear("235 2.7.0 <*>").await;
        gateway.event("auth.ok", "user=joe protocol=submission").await;
        client.line("MAIL FROM:<joe@example.net>").await;
        old.hear("MAIL FROM:<joe@example.net>").await;
        old.line("250 ok").await;
        client.hear("250 <*>").await;
        assert_eq!(post.logins(), 2);
        post.is_left().await;
    }
}

#[tokio::test]
async fn what_was_right_a_moment_ago_is_not_asked_about_again_and_what_was_wrong_is() {
    let (gateway, smtp, post) = gateway(Protocol::Imap, "").await;
    for _ in 0..3 {
        let (mut client, _) = hello(&gateway).await;
        log_in_as(&mut client, Protocol::Smtp, "joe", "secret").await;
        let _old = old_server(&smtp).await;
        client.hear("235 2.7.0 <*>").await;
    }
    assert_eq!(post.logins(), 1, "for each of the others somebody logged in a moment ago");
    for count in 2..4 {
        let (mut client, _) = hello(&gateway).await;
        log_in_as(&mut client, Protocol::Smtp, "joe", "wrong").await;
        client.hear("535 5.7.8 <*>").await;
        assert_eq!(post.logins(), count);
    }
}

#[tokio::test]
async fn where_nothing_is_remembered_each_login_is_checked() {
    let (gateway, smtp, post) = gateway(Protocol::Imap, ", remember_good: 0").await;
    for count in 1..3 {
        let (mut client, _) = hello(&gateway).await;
        log_in_as(&mut client, Protocol::Smtp, "joe", "secret").await;
        let _old = old_server(&smtp).await;
        client.hear("235 2.7.0 <*>").await;
        assert_eq!(post.logins(), count);
    }
}

#[tokio::test]
async fn a_challenge_crosses_from_the_server_that_checks() {
    let (gateway, _smtp, _post) = gateway(Protocol::Imap, "").await;
    let (mut client, shown) = hello(&gateway).await;
    assert!(shown.iter().any(|line| line.contains("AUTH") && line.contains("CRAM-MD5")), "{shown:?}");
    client.line("AUTH CRAM-MD5").await;
    client.hear("334 PDEuMkBvbGQ+").await;
    client.line("am9lIGFiY2RlZg==").await;
    client.hear("535 5.7.8 <*>").await;
    gateway.event("auth.failed", "user=joe mechanism=CRAM-MD5").await;
}

#[tokio::test]
async fn a_mailbox_in_use_is_a_right_password_and_not_now_is_none() {
    let (gateway, smtp, pop3) = gateway_of_words().await;
    for (answer, heard) in
        [("-ERR [IN-USE] fetching at the moment", "235 2.7.0 <*>"), ("-ERR [SYS/TEMP] later", "454 4.7.0 <*>")]
    {
        let (mut client, _) = hello(&gateway).await;
        // Another password each time: none is remembered.
        client.line(&format!("AUTH PLAIN {}", plain("joe", answer))).await;
        let mut old = pop3.dialled().await;
        old.line("+OK ready").await;
        old.hear("CAPA").await;
        old.line("-ERR what").await;
        old.hear("USER joe").await;
        old.line("+OK").await;
        old.hear("PASS <*>").await;
        old.line(answer).await;
        let _old = if heard.starts_with("235") { Some(old_server(&smtp).await) } else { None };
        client.hear(heard).await;
    }
}

#[tokio::test]
async fn a_right_password_before_a_server_that_is_down_is_not_now() {
    let (gateway, mut smtp, post) = gateway(Protocol::Imap, "").await;
    smtp.down();
    let (mut client, _) = hello(&gateway).await;
    log_in_as(&mut client, Protocol::Smtp, "joe", "secret").await;
    client.hear("454 4.7.0 <*>").await;
    gateway.event("auth.error", "user=joe reason=backend_down").await;
    assert_eq!(post.logins(), 1);
}

#[tokio::test]
async fn without_auth_there_the_log_says_what_to_write() {
    let smtp = Backend::listen(Cut::Whole).await;
    let gateway = Setup::one(Service::Submission, TlsRule::Implicit, smtp.address).start().await;
    // Before anything is learnt, passwords are taken.
    let (mut client, _) = hello(&gateway).await;
    let _asked = smtp.dialled().await;
    log_in_as(&mut client, Protocol::Smtp, "joe", "secret").await;
    let _old = old_server(&smtp).await;
    client.hear("454 4.7.0 <*>").await;
    let event = gateway.event("auth.error", "user=joe").await;
    assert!(event["detail"].as_str().unwrap_or_default().contains("auth.submission: imap"), "{event}");
}

/// `secret`, by `openssl passwd -6`.
const JOE: &str =
    "joe:$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.\n";

#[tokio::test]
async fn a_file_of_hashes_is_a_checker_that_needs_no_server() {
    let smtp = Backend::listen(Cut::Whole).await;
    let setup = Setup::one(Service::Submission, TlsRule::Implicit, smtp.address).file("users", JOE);
    let gateway = setup.with("auth", "submission: \"file:users\"").start().await;
    old_server(&smtp).await.rest().await.expect("a proper end");
    gateway.has_learned().await;
    let (mut client, shown) = hello(&gateway).await;
    assert!(shown.iter().any(|line| line[4..] == *"AUTH PLAIN LOGIN"), "{shown:?}");
    for (user, password) in [("joe", "wrong"), ("ann", "secret")] {
        log_in_as(&mut client, Protocol::Smtp, user, password).await;
        client.hear("535 5.7.8 <*>").await;
        gateway.event("auth.failed", &format!("user={user} reason=bad_credentials")).await;
    }
    log_in_as(&mut client, Protocol::Smtp, "Joe", "secret").await;
    let mut old = old_server(&smtp).await;
    client.hear("235 2.7.0 <*>").await;
    client.line("MAIL FROM:<joe@example.net>").await;
    old.hear("MAIL FROM:<joe@example.net>").await;
    assert!(!gateway.logged().contains("abcdefgh"));
}

/// `[IN-USE]` before a password was said proved any password.
#[tokio::test]
async fn a_mailbox_in_use_before_the_password_is_said_proves_nothing() {
    let (gateway, _smtp, pop3) = gateway_of_words().await;
    let (mut client, _) = hello(&gateway).await;
    log_in_as(&mut client, Protocol::Smtp, "joe", "no-idea").await;
    let mut old = pop3.dialled().await;
    old.line("+OK ready").await;
    old.hear("CAPA").await;
    old.line("-ERR what").await;
    old.hear("USER joe").await;
    old.line("-ERR [IN-USE] joe's maildrop is in use").await;
    client.hear("454 4.7.0 <*>").await;
}

/// "joe 1" was another user to the limits, and joe to the server.
#[tokio::test]
async fn a_sender_has_one_limit_of_failures_whatever_stands_behind_his_name() {
    let (gateway, _smtp, post) = gateway(Protocol::Pop3, "").await;
    drop(gateway);
    let smtp = Backend::listen(Cut::Whole).await;
    let gateway = Setup::one(Service::Submission, TlsRule::Implicit, smtp.address)
        .backend(Protocol::Pop3, post.address)
        .with("auth", "submission: pop3")
        .with("limits", "auth_failures_per_user: 2/h, exempt: []")
        .start()
        .await;
    old_server(&smtp).await.rest().await.expect("a proper end");
    gateway.event("backend.up", "protocol=smtp").await;
    gateway.event("backend.up", "protocol=pop3").await;
    for (number, name) in ["joe", "joe 1", "joe 2", "joe 3"].iter().enumerate() {
        let (mut client, _) = hello(&gateway).await;
        log_in_as(&mut client, Protocol::Smtp, name, &format!("guess{number}")).await;
        client.hear(if number < 2 { "535 5.7.8 <*>" } else { "421 4.7.0 <*>" }).await;
    }
    assert_eq!(post.logins(), 2);
}

/// An SMTP server that is told by XCLIENT, up to where it is: what it was told but for the address.
async fn told(smtp: &Backend, attributes: &str) -> (Talk, String) {
    let mut old = smtp.dialled().await;
    old.line("220 old.example.net ESMTP").await;
    old.hear("EHLO mail.example.net").await;
    old.line(&format!("250-old.example.net\r\n250 XCLIENT {attributes}")).await;
    let line = old.next_line().await.expect("XCLIENT");
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words[..2], ["XCLIENT", "ADDR=127.0.0.1"], "{line}");
    old.line("220 old.example.net ESMTP").await;
    old.hear("EHLO mail.example.net").await;
    old.line("250-old.example.net\r\n250 8BITMIME").await;
    (old, words[2..].join(" "))
}

#[tokio::test]
async fn a_server_that_hears_no_auth_is_told_who_has_logged_in_before_each_of_his_sessions() {
    let (smtp, post) = (Backend::listen(Cut::Whole).await, Post::serve(Protocol::Imap).await);
    let gateway = Setup::one(Service::Submission, TlsRule::Implicit, smtp.address)
        .backend(Protocol::Imap, post.address)
        .with("backend", "client_address: xclient")
        .with("auth", "submission: imap")
        .route("user: \"*@shell.example.net\", login: \"s+{local}\"")
        .start()
        .await;
    let mut asked = smtp.dialled().await;
    asked.line("220 old.example.net ESMTP").await;
    asked.hear("EHLO mail.example.net").await;
    asked.line("250-old.example.net\r\n250 XCLIENT ADDR LOGIN").await;
    assert_eq!(asked.rest().await.expect("a proper end"), b"QUIT\r\n", "a health check is nobody");
    gateway.event("backend.up", "protocol=smtp").await;
    gateway.event("backend.up", "protocol=imap").await;
    // The second time the password is not asked about; and where LOGIN is not listed it is not said.
    for (user, listed, said) in [
        ("joe@shell.example.net", "ADDR LOGIN", "LOGIN=s+2Bjoe"),
        ("joe@shell.example.net", "ADDR LOGIN", "LOGIN=s+2Bjoe"),
        ("joe", "LOGIN ADDR", "LOGIN=joe"),
        ("joe", "ADDR", ""),
    ] {
        let (mut client, _) = hello(&gateway).await;
        log_in_as(&mut client, Protocol::Smtp, user, "secret").await;
        let (mut old, heard) = told(&smtp, listed).await;
        assert_eq!(heard, said, "{user}");
        client.hear("235 2.7.0 <*>").await;
        // A message that is given up takes the connection with it; the next one is his as well.
        client.line("MAIL FROM:<joe@example.net>").await;
        old.hear("MAIL FROM:<joe@example.net>").await;
        old.line("250 ok").await;
        client.hear("250 <*>").await;
        client.line("RCPT TO:<ann@example.org>\r\nDATA").await;
        old.hear("RCPT TO:<ann@example.org>").await;
        old.line("250 ok").await;
        old.hear("DATA").await;
        old.line("354 go").await;
        client.hear("250 <*>\n354 <*>").await;
        client.say("two\nmessages?\r\n.\r\n").await;
        client.hear("550 5.5.2 <*>").await;
        drop(old);
        client.line("MAIL FROM:<joe@example.net>").await;
        let (mut old, heard) = told(&smtp, listed).await;
        assert_eq!(heard, said, "{user} anew");
        old.hear("MAIL FROM:<joe@example.net>").await;
        old.line("250 ok").await;
        client.hear("250 <*>").await;
    }
    assert_eq!(post.logins(), 2);
}

#[tokio::test]
async fn a_user_of_a_file_is_told_by_the_name_that_stands_there_however_he_types_it() {
    let smtp = Backend::listen(Cut::Whole).await;
    let gateway = Setup::one(Service::Submission, TlsRule::Implicit, smtp.address)
        .file("users", &JOE.replace("joe:", "Joe:"))
        .with("backend", "client_address: xclient")
        .with("auth", "submission: \"file:users\"")
        .start()
        .await;
    let mut asked = smtp.dialled().await;
    asked.line("220 old.example.net ESMTP").await;
    asked.hear("EHLO mail.example.net").await;
    asked.line("250-old.example.net\r\n250 XCLIENT ADDR LOGIN").await;
    asked.rest().await.expect("a proper end");
    gateway.event("backend.up", "protocol=smtp").await;
    // The second time the file is not asked about the password.
    for typed in ["JOE", "JOE", "Joe", "joe"] {
        let (mut client, _) = hello(&gateway).await;
        log_in_as(&mut client, Protocol::Smtp, typed, "secret").await;
        let (_old, heard) = told(&smtp, "ADDR LOGIN").await;
        assert_eq!(heard, "LOGIN=Joe", "{typed}");
        client.hear("235 2.7.0 <*>").await;
    }
}

#[tokio::test]
async fn nobody_is_named_whom_the_password_did_not_prove() {
    let (smtp, pop3) = (Backend::listen(Cut::Whole).await, Backend::listen(Cut::Whole).await);
    let gateway = Setup::one(Service::Submission, TlsRule::Implicit, smtp.address)
        .backend(Protocol::Pop3, pop3.address)
        .with("backend", "client_address: xclient")
        .with("auth", "submission: pop3")
        .start()
        .await;
    // Before anything is learnt, passwords are taken.
    let _asked = (smtp.dialled().await, pop3.dialled().await);
    // boss, joe, secret: the password is remembered, and whom joe may be is not.
    let for_boss = "Ym9zcwBqb2UAc2VjcmV0".to_owned();
    for (number, response, said) in
        [(0, plain(" joe", "secret"), "LOGIN=joe"), (1, plain("joe x", "secret"), ""), (2, for_boss, "LOGIN=joe")]
    {
        let (mut client, _) = hello(&gateway).await;
        client.line(&format!("AUTH PLAIN {response}")).await;
        if number == 0 {
            let mut old = pop3.dialled().await;
            old.line("+OK [XCLIENT] ready").await;
            old.hear("CAPA").await;
            old.line("-ERR what").await;
            old.hear("XCLIENT ADDR=127.0.0.1 PORT=<*>").await;
            old.line("+OK").await;
            old.hear("USER  joe").await;
            old.line("+OK").await;
            old.hear("PASS secret").await;
            old.line("+OK in").await;
        }
        let (_old, heard) = told(&smtp, "ADDR LOGIN").await;
        assert_eq!(heard, said);
        client.hear("235 2.7.0 <*>").await;
    }
}
