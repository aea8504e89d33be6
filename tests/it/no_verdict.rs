//! Attempts that come to no verdict: nobody's failure, and no way to guess on or to flood anybody.

use crate::backend::{Backend, Post};
use crate::gateway::Setup;
use crate::mail::{PROTOCOLS, greeting, not_now, plain, service};
use crate::talk::Cut;
use gatepost::proto::{Protocol, Service, TlsRule};
use std::time::{Duration, Instant};

/// What a session may try, whatever comes of it.
const ATTEMPTS: u32 = 20;

#[tokio::test]
async fn a_backend_that_is_down_is_asked_for_twenty_times_a_session_and_not_in_a_hurry() {
    const DELAY: Duration = Duration::from_millis(20);
    for protocol in PROTOCOLS {
        let mut backend = Backend::listen(Cut::Whole).await;
        let setup = Setup::new()
            .listener(service(protocol), TlsRule::Off, "")
            .backend(protocol, backend.address)
            .with("limits", "exempt: [], failure_delay: 20ms");
        let (gateway, ()) = tokio::join!(setup.start(), backend.teach(protocol));
        gateway.has_learned().await;
        backend.down();
        let mut client = gateway.plain().await;
        client.hear(greeting(protocol)).await;
        let began = Instant::now();
        let guesses: String = (0..100)
            .map(|n| match protocol {
                Protocol::Imap => format!("a LOGIN joe guess{n}\r\n"),
                Protocol::Pop3 => format!("USER joe\r\nPASS guess{n}\r\n"),
                Protocol::Smtp => format!("AUTH PLAIN {}\r\n", plain("joe", &format!("guess{n}"))),
            })
            .collect();
        client.say(guesses).await;
        for _ in 0..ATTEMPTS {
            if protocol == Protocol::Pop3 {
                client.hear("+OK <*>").await;
            }
            client.hear(not_now(protocol)).await;
        }
        match protocol {
            Protocol::Imap => client.hear("* BYE <*>").await,
            Protocol::Pop3 => {}
            Protocol::Smtp => client.hear("421 4.7.0 <*>").await,
        }
        assert!(began.elapsed() >= DELAY * ATTEMPTS, "{:?}", began.elapsed());
        client.closed().await;
        client.end().await;
        gateway.event("session.closed", "reason=too_many_attempts").await;
    }
}

#[tokio::test]
async fn a_backend_that_hangs_up_over_a_wrong_password_hears_twenty_of_a_session() {
    let post = ends_after_twenty("a LOGIN joe bye\r\n", "a NO [UNAVAILABLE] <*>").await;
    assert_eq!(post.logins(), ATTEMPTS as usize);
}

#[tokio::test]
async fn refused_attempts_end_the_session_too() {
    ends_after_twenty("a AUTHENTICATE NOTHING\r\n", "a NO [CANNOT] <*>").await;
}

/// Says the same a hundred times, and hears its answer twenty times and then goodbye.
async fn ends_after_twenty(attempt: &str, answer: &str) -> Post {
    let post = Post::serve(Protocol::Imap).await;
    let setup = Setup::new()
        .listener(Service::Imap, TlsRule::Off, "")
        .backend(Protocol::Imap, post.address)
        .with("limits", "exempt: []");
    let gateway = setup.start().await;
    gateway.has_learned().await;
    let mut client = gateway.plain().await;
    client.hear("* OK <*>").await;
    client.say(attempt.repeat(100)).await;
    for _ in 0..ATTEMPTS {
        client.hear(answer).await;
    }
    client.hear("* BYE <*>").await;
    client.closed().await;
    client.end().await;
    gateway.event("session.closed", "reason=too_many_attempts").await;
    post
}
