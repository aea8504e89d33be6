//! Who may come in, how often, and what whoever may not is told.

use crate::backend::Post;
use crate::gateway::{Gateway, Setup};
use crate::mail::{PROTOCOLS, greeting, log_in, log_in_as, not_now, service, welcome, wrong};
use crate::talk::Talk;
use gatepost::proto::{Protocol, Service, TlsRule};
use std::time::{Duration, Instant};

/// A gateway in the clear whose limits hold for loopback addresses too.
async fn gateway(protocol: Protocol, listener: &str, limits: &str) -> (Gateway, Post) {
    let post = Post::serve(protocol).await;
    let setup = Setup::new()
        .listener(service(protocol), TlsRule::Off, listener)
        .backend(protocol, post.address)
        .with("limits", &format!("exempt: [], {limits}"));
    let gateway = setup.start().await;
    gateway.has_learned().await;
    (gateway, post)
}

/// The end of a session that was told why.
async fn over(gateway: &Gateway, mut client: Talk, reason: &str) {
    client.closed().await;
    client.end().await;
    gateway.event("session.closed", &format!("reason={reason}")).await;
}

#[tokio::test]
async fn an_address_that_is_not_allowed_hears_so_in_the_clear_and_nothing_on_a_tls_port() {
    for (access, reason) in [
        ("allow: [127.0.0.0/30]", "not_allowed"),
        ("deny: [\"127.9.9.9\"]", "denied"),
        ("allow: [127.0.0.0/8], deny: [127.9.0.0/16]", "denied"),
    ] {
        for (protocol, words) in
            [(Protocol::Imap, "* BYE <*>"), (Protocol::Pop3, "-ERR [SYS/PERM] <*>"), (Protocol::Smtp, "554 5.7.1 <*>")]
        {
            let (gateway, post) = gateway(protocol, access, "").await;
            let mut stranger = gateway.plain_from("127.9.9.9").await;
            stranger.hear(words).await;
            stranger.closed().await;
            gateway.event("connection.refused", &format!("reason={reason} client_ip=127.9.9.9")).await;
            let mut customer = gateway.plain().await;
            customer.hear(greeting(protocol)).await;
            drop(customer);
            gateway.event("session.closed", "").await;
            gateway.is_empty().await;
            assert_eq!(post.dialled(), 1, "the health check alone");
        }
        let post = Post::serve(Protocol::Imap).await;
        let setup =
            Setup::new().listener(Service::Imap, TlsRule::Implicit, access).backend(Protocol::Imap, post.address);
        let gateway = setup.start().await;
        let mut stranger = gateway.plain_from("127.9.9.9").await;
        stranger.closed().await;
        gateway.event("connection.refused", &format!("reason={reason}")).await;
        assert_eq!(gateway.metric("gatepost_tls_handshakes_total"), 0.0, "no handshake was begun");
        gateway.is_empty().await;
    }
}

#[tokio::test]
async fn a_list_file_is_read_again_when_it_changes_and_a_broken_one_leaves_the_last() {
    let post = Post::serve(Protocol::Imap).await;
    let setup = Setup::new()
        .file("allow.txt", "127.0.0.0/8\n")
        .listener(Service::Imap, TlsRule::Off, "allow: [\"file:allow.txt\"]")
        .backend(Protocol::Imap, post.address);
    let gateway = setup.start().await;
    let mut client = gateway.plain_from("127.9.9.9").await;
    client.hear("* OK <*>").await;
    for (text, comes_in) in [("127.0.0.1\n", false), ("not an address\n", false), ("127.9.9.9\n", true), ("", false)] {
        std::fs::write(gateway.file("allow.txt"), text).expect("a file of ours");
        // A file that cannot be read is no reason to close the door, nor to open it.
        let _ = gateway.reload().await;
        let mut client = gateway.plain_from("127.9.9.9").await;
        let heard = client.next_line().await.expect("words either way");
        assert_eq!(heard.starts_with("* OK"), comes_in, "{text:?}: {heard}");
    }
    client.line("a NOOP").await;
    client.hear("a OK <*>").await;
}

#[tokio::test]
async fn one_address_has_so_many_sessions() {
    for (protocol, words) in [
        (Protocol::Imap, "* BYE [UNAVAILABLE] <*>"),
        (Protocol::Pop3, "-ERR [SYS/TEMP] <*>"),
        (Protocol::Smtp, "421 4.7.0 <*>"),
    ] {
        let (gateway, _post) = gateway(protocol, "", "sessions_per_ip: 2").await;
        let (mut one, mut two) = (gateway.plain().await, gateway.plain().await);
        one.hear(greeting(protocol)).await;
        two.hear(greeting(protocol)).await;
        let mut three = gateway.plain().await;
        three.hear(words).await;
        three.closed().await;
        gateway.event("connection.refused", "reason=too_many_sessions").await;
        let mut neighbour = gateway.plain_from("127.0.0.9").await;
        neighbour.hear(greeting(protocol)).await;
        one.end().await;
        one.closed().await;
        gateway.event("session.closed", "").await;
        let mut three = gateway.plain().await;
        three.hear(greeting(protocol)).await;
    }
}

#[tokio::test]
async fn one_address_connects_so_often() {
    for (protocol, words) in [
        (Protocol::Imap, "* BYE [UNAVAILABLE] <*>"),
        (Protocol::Pop3, "-ERR [SYS/TEMP] <*>"),
        (Protocol::Smtp, "421 4.7.0 <*>"),
    ] {
        let (gateway, _post) = gateway(protocol, "", "connections_per_ip: 3/h").await;
        for _ in 0..3 {
            gateway.plain().await.hear(greeting(protocol)).await;
        }
        let mut fourth = gateway.plain().await;
        fourth.hear(words).await;
        fourth.closed().await;
        gateway.event("connection.refused", "reason=rate_limited").await;
        gateway.plain_from("127.0.0.9").await.hear(greeting(protocol)).await;
    }
}

#[tokio::test]
async fn a_user_has_so_many_sessions() {
    for (protocol, words) in [
        (Protocol::Imap, "a NO [LIMIT] <*>\n* BYE <*>"),
        (Protocol::Pop3, "-ERR [SYS/TEMP] <*>"),
        (Protocol::Smtp, "421 4.7.0 <*>"),
    ] {
        let (gateway, post) = gateway(protocol, "", "sessions_per_user: 1").await;
        let mut first = gateway.plain().await;
        first.hear(greeting(protocol)).await;
        log_in(&mut first, protocol, "secret").await;
        first.hear(welcome(protocol)).await;
        let mut second = gateway.plain().await;
        second.hear(greeting(protocol)).await;
        log_in(&mut second, protocol, "secret").await;
        second.hear(words).await;
        gateway.event("auth.refused", "reason=too_many_sessions user=joe").await;
        over(&gateway, second, "too_many_sessions").await;
        drop(first);
        gateway.event("session.closed", "user=joe").await;
        gateway.is_empty().await;
        post.is_left().await;
    }
}

#[tokio::test]
async fn wrong_passwords_end_the_session_and_then_ban_the_address() {
    for (protocol, closed) in [
        (Protocol::Imap, "* BYE [UNAVAILABLE] <*>"),
        (Protocol::Pop3, "-ERR [SYS/TEMP] <*>"),
        (Protocol::Smtp, "421 4.7.0 <*>"),
    ] {
        let (gateway, post) = gateway(protocol, "", "auth_failures_per_ip: 3/h, auth_attempts_per_session: 2").await;
        for session in 0..2 {
            let mut client = gateway.plain_from("127.9.9.9").await;
            client.hear(greeting(protocol)).await;
            for guess in 0..2 {
                log_in(&mut client, protocol, &format!("guess{session}{guess}")).await;
                client.hear(wrong(protocol)).await;
                gateway.event("auth.failed", "user=joe reason=bad_credentials").await;
            }
            match protocol {
                Protocol::Imap => client.hear("* BYE <*>").await,
                Protocol::Pop3 => {}
                Protocol::Smtp => client.hear("421 4.7.0 <*>").await,
            }
            over(&gateway, client, "too_many_attempts").await;
        }
        gateway.event("ban.added", "client_ip=127.9.9.9").await;
        let logins = post.logins();
        assert_eq!(logins, 4);
        let mut banned = gateway.plain_from("127.9.9.9").await;
        banned.hear(closed).await;
        banned.closed().await;
        gateway.event("connection.refused", "reason=banned client_ip=127.9.9.9").await;
        // The same user from elsewhere is not touched by it.
        let mut customer = gateway.plain_from("127.0.0.9").await;
        customer.hear(greeting(protocol)).await;
        log_in(&mut customer, protocol, "secret").await;
        customer.hear(welcome(protocol)).await;
        customer.end().await;
        gateway.event("session.closed", "user=joe").await;
        gateway.is_empty().await;
        post.is_left().await;
    }
}

#[tokio::test]
async fn a_ban_spares_who_logged_in_from_there() {
    let (gateway, post) = gateway(Protocol::Imap, "", "auth_failures_per_ip: 1/h").await;
    let mut customer = gateway.plain().await;
    customer.hear("* OK <*>").await;
    log_in_as(&mut customer, Protocol::Imap, "ann", "secret").await;
    customer.hear("a OK <*>").await;
    drop(customer);
    let mut attacker = gateway.plain().await;
    attacker.hear("* OK <*>").await;
    for guess in ["one", "two"] {
        log_in(&mut attacker, Protocol::Imap, guess).await;
        attacker.hear("a NO [AUTHENTICATIONFAILED] <*>").await;
    }
    gateway.event("ban.added", "").await;
    let logins = post.logins();
    log_in(&mut attacker, Protocol::Imap, "secret").await;
    attacker.hear("a NO [UNAVAILABLE] <*>\n* BYE <*>").await;
    gateway.event("auth.refused", "reason=banned user=joe").await;
    assert_eq!(post.logins(), logins, "it never reached the backend");
    let mut customer = gateway.plain().await;
    customer.hear("* OK <*>").await;
    log_in_as(&mut customer, Protocol::Imap, "ann", "secret").await;
    customer.hear("a OK <*>").await;
}

#[tokio::test]
async fn attempts_that_do_not_succeed_are_bounded_by_address() {
    let (gateway, post) = gateway(Protocol::Imap, "", "auth_per_ip: 2/h").await;
    for (tag, heard) in [("a", "a NO [CANNOT] <*>"), ("b", "b NO [CANNOT] <*>")] {
        let mut client = gateway.plain().await;
        client.hear("* OK <*>").await;
        client.line(&format!("{tag} AUTHENTICATE NOTHING")).await;
        client.hear(heard).await;
    }
    let mut client = gateway.plain().await;
    client.hear("* OK <*>").await;
    log_in(&mut client, Protocol::Imap, "secret").await;
    client.hear("a NO [UNAVAILABLE] <*>\n* BYE <*>").await;
    gateway.event("auth.refused", "reason=rate_limited user=joe").await;
    over(&gateway, client, "rate_limited").await;
    assert_eq!(post.logins(), 0);
}

#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_hear_the_same_and_no_sooner() {
    const DELAY: Duration = Duration::from_millis(300);
    for protocol in PROTOCOLS {
        let (gateway, _post) = gateway(protocol, "", "failure_delay: 300ms, auth_failures_per_user: 3/h").await;
        let mut heard = Vec::new();
        for (user, password) in [("joe", "wrong"), ("nobody", "wrong"), ("joe", ""), ("nobody", "")] {
            if password.is_empty() {
                continue;
            }
            let mut client = gateway.plain().await;
            client.hear(greeting(protocol)).await;
            let began = Instant::now();
            log_in_as(&mut client, protocol, user, password).await;
            heard.push(client.next_line().await.expect("an answer"));
            assert!(began.elapsed() >= DELAY, "{user}: {:?}", began.elapsed());
            let event = gateway.event("auth.failed", &format!("user={user}")).await;
            assert!(event["duration_ms"].as_u64() < Some(300), "without the delay: {event}");
        }
        assert_eq!(heard[0], heard[1]);
    }
}

#[tokio::test]
async fn past_a_users_failures_a_strangers_guess_hears_temporary_after_the_same_time() {
    let (gateway, post) = gateway(Protocol::Imap, "", "auth_failures_per_user: 2/h, failure_delay: 200ms").await;
    for guess in ["one", "two"] {
        let mut client = gateway.plain_from("127.9.9.9").await;
        client.hear("* OK <*>").await;
        log_in(&mut client, Protocol::Imap, guess).await;
        client.hear("a NO [AUTHENTICATIONFAILED] <*>").await;
    }
    let logins = post.logins();
    let mut client = gateway.plain_from("127.9.9.10").await;
    client.hear("* OK <*>").await;
    let began = Instant::now();
    log_in(&mut client, Protocol::Imap, "three").await;
    client.hear("a NO [UNAVAILABLE] <*>\n* BYE <*>").await;
    assert!(began.elapsed() >= Duration::from_millis(200));
    gateway.event("auth.refused", "reason=rate_limited user=joe").await;
    assert_eq!(post.logins(), logins);
}

#[tokio::test]
async fn pipelined_guesses_end_where_the_session_does() {
    let (gateway, post) = gateway(Protocol::Imap, "", "").await;
    let mut client = gateway.plain().await;
    client.hear("* OK <*>").await;
    let guesses: String = (0..100).map(|n| format!("a LOGIN joe guess{n}\r\n")).collect();
    client.say(guesses).await;
    for _ in 0..3 {
        client.hear("a NO [AUTHENTICATIONFAILED] <*>").await;
    }
    client.hear("* BYE <*>").await;
    over(&gateway, client, "too_many_attempts").await;
    assert_eq!(post.logins(), 3);
    gateway.is_empty().await;
    post.is_left().await;
}

#[tokio::test]
async fn busy_is_no_guess() {
    for protocol in PROTOCOLS {
        let (gateway, post) = gateway(protocol, "", "auth_failures_per_ip: 1/h").await;
        let mut client = gateway.plain().await;
        client.hear(greeting(protocol)).await;
        for _ in 0..5 {
            log_in(&mut client, protocol, "busy").await;
            client.hear(not_now(protocol)).await;
        }
        log_in(&mut client, protocol, "secret").await;
        client.hear(welcome(protocol)).await;
        assert_eq!(post.logins(), 6);
        assert!(gateway.left("ban.added").await.is_empty());
    }
}
