//! Several servers behind one listener: whose turn it is, who stays where, and what becomes of a session that finds one down or
//! full.

use crate::backend::Post;
use crate::gateway::{Gateway, Setup};
use crate::mail::{greeting, log_in_as, not_now, service, welcome};
use crate::talk::Talk;
use gatepost::proto::{Protocol, TlsRule};

/// Two servers that serve by themselves, in an order that the configuration has, and the gateway when it has heard of both.
async fn two(protocol: Protocol, more: &str) -> (Gateway, [Post; 2]) {
    let posts = [Post::serve(protocol).await, Post::serve(protocol).await];
    let servers = format!("{}: [\"{}\", \"{}\"], {more}", protocol.as_str(), posts[0].address, posts[1].address);
    let setup = Setup::new().listener(service(protocol), TlsRule::Off, "").with("backend", &servers);
    let gateway = setup.start().await;
    gateway.has_learned().await;
    gateway.has_learned().await;
    (gateway, posts)
}

/// A session of this user's, and the server it went to.
async fn session(gateway: &Gateway, protocol: Protocol, user: &str) -> (Talk, String) {
    let mut client = gateway.plain().await;
    client.hear(greeting(protocol)).await;
    log_in_as(&mut client, protocol, user, "secret").await;
    client.hear(welcome(protocol)).await;
    let event = gateway.event("auth.ok", &format!("user={user}")).await;
    (client, event["server"].as_str().expect("a name").to_owned())
}

#[tokio::test]
async fn sessions_go_to_each_server_in_its_turn() {
    let (gateway, posts) = two(Protocol::Imap, "balance: round-robin").await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(session(&gateway, Protocol::Imap, "joe").await.1);
    }
    let [one, two] = posts.map(|post| post.address.to_string());
    assert_eq!(seen, [one.clone(), two.clone(), one, two]);
}

#[tokio::test]
async fn a_session_goes_where_there_are_fewest() {
    let (gateway, _posts) = two(Protocol::Pop3, "balance: least-sessions").await;
    let (mut first, at_first) = session(&gateway, Protocol::Pop3, "joe").await;
    let (_second, at_second) = session(&gateway, Protocol::Pop3, "ann").await;
    assert_ne!(at_first, at_second);
    first.line("QUIT").await;
    first.hear("+OK bye").await;
    first.end().await;
    gateway.event("session.closed", "user=joe").await;
    for user in ["eve", "max"] {
        let (mut there, server) = session(&gateway, Protocol::Pop3, user).await;
        assert_eq!(server, at_first, "the other one has a session");
        there.line("QUIT").await;
        there.hear("+OK bye").await;
        there.end().await;
        gateway.event("session.closed", &format!("user={user}")).await;
    }
}

#[tokio::test]
async fn a_user_stays_with_a_server_whatever_the_spelling() {
    let (gateway, posts) = two(Protocol::Imap, "balance: user").await;
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..16 {
        let user = format!("user{number}");
        let (_first, home) = session(&gateway, Protocol::Imap, &user).await;
        let (_again, again) = session(&gateway, Protocol::Imap, &user.to_uppercase()).await;
        assert_eq!(home, again, "{user}");
        seen.insert(home);
    }
    assert_eq!(seen.len(), posts.len(), "both have users");

    // A wrong password leaves a connection waiting; another user's next attempt is for that user's own server all the same.
    let mut client = gateway.plain().await;
    client.hear("* OK <*>").await;
    for number in 0..16 {
        let user = format!("user{number}");
        client.line(&format!("a LOGIN {user} wrong")).await;
        client.hear("a NO <*>").await;
        let failed = gateway.event("auth.failed", &format!("user={user}")).await;
        let (_there, home) = session(&gateway, Protocol::Imap, &user).await;
        assert_eq!(failed["server"], home, "{user}");
        if number % 2 == 1 {
            client.end().await;
            client = gateway.plain().await;
            client.hear("* OK <*>").await;
        }
    }
}

#[tokio::test]
async fn a_full_server_passes_sessions_on_and_full_servers_say_not_now() {
    let (gateway, posts) = two(Protocol::Imap, "max_sessions: 1").await;
    let (mut first, at_first) = session(&gateway, Protocol::Imap, "joe").await;
    let (_second, at_second) = session(&gateway, Protocol::Imap, "joe").await;
    assert_eq!([at_first, at_second], posts.each_ref().map(|post| post.address.to_string()));

    let mut third = gateway.plain().await;
    third.hear("* OK <*>").await;
    third.line("a LOGIN joe secret").await;
    third.hear(not_now(Protocol::Imap)).await;
    let event = gateway.event("auth.error", "user=joe reason=backend_down").await;
    let detail = event["detail"].as_str().expect("words");
    assert!(detail.contains("max_sessions"), "{detail}");
    assert_eq!(gateway.left("backend.down").await, [] as [serde_json::Value; 0], "a full server is well");

    first.line("b LOGOUT").await;
    first.hear("* BYE\nb OK bye").await;
    first.end().await;
    gateway.event("session.closed", "user=joe").await;
    third.line("a LOGIN joe secret").await;
    third.hear(welcome(Protocol::Imap)).await;
}

#[tokio::test]
async fn a_server_that_is_dialled_from_given_addresses_sees_them_in_turn() {
    let backend = crate::backend::Backend::listen(crate::talk::Cut::Whole).await;
    let setup = Setup::one(service(Protocol::Imap), TlsRule::Off, backend.address);
    let setup = setup.with("backend", "source: [127.0.0.31, 127.0.0.32]");
    let (gateway, first) = tokio::join!(setup.start(), async {
        let mut dialogue = backend.dialled().await;
        dialogue.line("* OK [CAPABILITY IMAP4rev1] ready").await;
        let from = dialogue.peer();
        dialogue.rest().await.expect("a proper end");
        from
    });
    gateway.has_learned().await;
    let mut client = gateway.plain().await;
    client.hear("* OK <*>").await;
    client.line("a LOGIN joe secret").await;
    let dialogue = backend.dialled().await;
    let mut seen = [first.ip().to_string(), dialogue.peer().ip().to_string()];
    seen.sort();
    assert_eq!(seen, ["127.0.0.31", "127.0.0.32"]);
}
