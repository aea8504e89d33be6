//! Exchanges that a client leaves lying: they cost others nothing, and are on record.

use crate::backend::{Backend, Post};
use crate::gateway::{Gateway, Setup};
use crate::talk::{Cut, Talk};
use gatepost::proto::{Protocol, Service, TlsRule};

async fn gateway(limits: &str) -> (Gateway, Post) {
    let post = Post::serve(Protocol::Imap).await;
    let setup = Setup::new()
        .listener(Service::Imap, TlsRule::Off, "")
        .backend(Protocol::Imap, post.address)
        .with("limits", &format!("exempt: [], {limits}"));
    let gateway = setup.start().await;
    gateway.has_learned().await;
    (gateway, post)
}

/// A client that has got a challenge.
async fn challenged(gateway: &Gateway) -> Talk {
    let mut client = gateway.plain().await;
    client.hear("* OK <*>").await;
    client.line("a AUTHENTICATE CRAM-MD5").await;
    client.hear("+ <*>").await;
    client
}

#[tokio::test]
async fn whoever_lets_a_challenge_lie_holds_up_nobody_at_the_address() {
    let (gateway, _post) = gateway("auth_failures_per_ip: 2/10min").await;
    let idle = [challenged(&gateway).await, challenged(&gateway).await, challenged(&gateway).await];
    let mut customer = gateway.plain().await;
    customer.hear("* OK <*>").await;
    customer.line("a LOGIN joe secret").await;
    customer.hear("a OK <*>").await;
    drop(idle);
}

#[tokio::test]
async fn whoever_hangs_up_on_a_challenge_is_on_record_and_counted() {
    let (gateway, post) = gateway("auth_per_ip: 2/h").await;
    for _ in 0..2 {
        drop(challenged(&gateway).await);
        gateway.event("auth.refused", "reason=cancelled mechanism=CRAM-MD5").await;
    }
    let before = post.dialled();
    let mut again = gateway.plain().await;
    again.hear("* OK <*>").await;
    again.line("a AUTHENTICATE CRAM-MD5").await;
    again.hear("a NO [UNAVAILABLE] <*>\n* BYE <*>").await;
    gateway.event("auth.refused", "reason=rate_limited").await;
    assert_eq!(post.dialled(), before, "the backend was spared");
}

#[tokio::test]
async fn a_server_that_has_gone_silent_holds_up_no_greeting() {
    let backend = Backend::listen(Cut::Whole).await;
    let setup = Setup::new().listener(Service::Pop3, TlsRule::Off, "").backend(Protocol::Pop3, backend.address);
    let gateway = setup.start().await;
    let mut asked = backend.dialled().await;
    asked.line("+OK ready <1.2@old>").await;
    asked.hear("CAPA").await;
    asked.line("-ERR what").await;
    asked.rest().await.expect("a proper end");
    gateway.has_learned().await;
    let mut client = gateway.plain().await;
    let silent = backend.dialled().await;
    client.hear("+OK mail.example.net ready").await;
    drop(silent);
}

#[tokio::test]
async fn an_address_holds_four_connections_of_a_backend_by_challenges_and_no_more() {
    let (gateway, post) = gateway("auth_per_ip: 0").await;
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.push(challenged(&gateway).await);
    }
    let mut fifth = gateway.plain().await;
    fifth.hear("* OK <*>").await;
    fifth.line("a AUTHENTICATE CRAM-MD5").await;
    fifth.hear("a NO [UNAVAILABLE] <*>\n* BYE <*>").await;
    gateway.event("auth.refused", "reason=rate_limited mechanism=CRAM-MD5").await;
    // What asks for no challenge goes on.
    let mut customer = gateway.plain().await;
    customer.hear("* OK <*>").await;
    customer.line("a LOGIN joe secret").await;
    customer.hear("a OK <*>").await;
    drop((idle, customer));
    post.is_left().await;
}

#[tokio::test]
async fn a_challenge_is_answered_soon_or_its_connection_ends() {
    let post = Post::serve(Protocol::Imap).await;
    let setup = Setup::one(Service::Imap, TlsRule::Off, post.address).with("timeouts", "login: 16s");
    let gateway = setup.start().await;
    gateway.has_learned().await;
    let mut silent = gateway.plain().await;
    silent.hear("* OK <*>").await;
    let mut lying = challenged(&gateway).await;
    lying.hear("* BYE <*>").await;
    gateway.event("auth.refused", "reason=timeout mechanism=CRAM-MD5").await;
    post.is_left().await;
    // Its time for the login would have ended before.
    silent.line("a NOOP").await;
    silent.hear("a OK <*>").await;
}

#[tokio::test]
async fn silent_strangers_hold_four_connections_of_a_backend_and_no_more() {
    let backend = Backend::listen(Cut::Whole).await;
    let setup = Setup::one(Service::Pop3, TlsRule::Off, backend.address).with("limits", "exempt: []");
    let gateway = setup.start().await;
    let mut asked = greet_with_stamp(&backend).await;
    asked.rest().await.expect("a proper end");
    gateway.has_learned().await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        let mut client = gateway.plain().await;
        let dialled = greet_with_stamp(&backend).await;
        client.hear("+OK mail.example.net ready <1.2@old>").await;
        silent.push((client, dialled));
    }
    let mut fifth = gateway.plain().await;
    fifth.hear("+OK mail.example.net ready").await;
    assert!(!backend.is_dialled().await);
    drop(silent);
    fifth.line("QUIT").await;
    fifth.hear("+OK <*>").await;
    gateway.is_empty().await;
    let mut next = gateway.plain().await;
    let _dialled = greet_with_stamp(&backend).await;
    next.hear("+OK mail.example.net ready <1.2@old>").await;
}

/// A POP3 server with a timestamp, as far as it is asked before a login.
async fn greet_with_stamp(backend: &Backend) -> Talk {
    let mut dialled = backend.dialled().await;
    dialled.line("+OK ready <1.2@old>").await;
    dialled.hear("CAPA").await;
    dialled.line("-ERR what").await;
    dialled
}
