//! The time an answer takes says nothing about why it is a no. The clock stands still but for what is waited for.

use crate::gateway::{Gateway, Setup, own_addresses};
use crate::talk::{Cut, Talk};
use gatepost::proto::{Protocol, Service, TlsRule};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;

const DELAY: Duration = Duration::from_millis(300);

/// An old server that thinks so long about every password.
async fn thinker(time: Duration) -> SocketAddr {
    let listener = TcpListener::bind((own_addresses(), 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // It ends when the gateway leaves.
            tokio::spawn(async move { think(Talk::over(stream, Cut::Whole), time).await });
        }
    });
    address
}

async fn think(mut talk: Talk, time: Duration) -> Result<(), String> {
    talk.line("* OK [CAPABILITY IMAP4rev1] ready").await;
    loop {
        let line = talk.next_line().await?;
        let (tag, command) = line.split_once(' ').ok_or(line.clone())?;
        if command.starts_with("LOGIN") {
            tokio::time::sleep(time).await;
            talk.line(&format!("{tag} NO [AUTHENTICATIONFAILED] no")).await;
        } else {
            talk.line(&format!("* BYE\r\n{tag} OK done")).await;
        }
    }
}

async fn gateway(thinks: Duration) -> Gateway {
    let limits = "exempt: [], failure_delay: 300ms, auth_failures_per_ip: 3/h, auth_failures_per_user: 2/h";
    let setup = Setup::new()
        .listener(Service::Imap, TlsRule::Off, "")
        .backend(Protocol::Imap, thinker(thinks).await)
        .with("limits", limits);
    let gateway = setup.start().await;
    gateway.has_learned().await;
    gateway
}

/// How long the answer to a login takes, and which it is.
async fn waited(client: &mut Talk, user: &str, password: &str) -> (u128, String) {
    let began = Instant::now();
    client.line(&format!("a LOGIN {user} {password}")).await;
    let answer = client.next_line().await.expect("an answer");
    (began.elapsed().as_millis(), answer)
}

async fn greeted(gateway: &Gateway, source: &str) -> Talk {
    let mut client = gateway.plain_from(source).await;
    client.hear("* OK <*>").await;
    client
}

/// Each kind of no, and the milliseconds it took: wrong password, unknown user, a user whom everybody guesses at, an
/// address banned while its session was under way.
async fn each_no(gateway: &Gateway) -> Vec<(&'static str, u128)> {
    let mut seen = Vec::new();
    let mut hear = |kind, (time, answer): (u128, String), words| {
        assert!(answer.starts_with(words), "{kind}: {answer}");
        seen.push((kind, time));
    };
    let wrong = "a NO [AUTHENTICATIONFAILED]";
    let mut client = greeted(gateway, "127.9.9.1").await;
    hear("wrong password", waited(&mut client, "joe", "one").await, wrong);
    hear("wrong password again", waited(&mut client, "joe", "two").await, wrong);
    hear("unknown user", waited(&mut greeted(gateway, "127.9.9.2").await, "nobody", "one").await, wrong);
    let refused = "a NO [UNAVAILABLE]";
    hear("user under attack", waited(&mut greeted(gateway, "127.9.9.3").await, "joe", "three").await, refused);

    let mut bystander = greeted(gateway, "127.9.9.4").await;
    for pair in [["u1", "u2"], ["u3", "u4"]] {
        let mut attacker = greeted(gateway, "127.9.9.4").await;
        for user in pair {
            waited(&mut attacker, user, "guess").await;
        }
    }
    gateway.event("ban.added", "client_ip=127.9.9.4").await;
    hear("banned in mid-session", waited(&mut bystander, "ann", "secret").await, refused);
    seen
}

#[tokio::test]
async fn every_no_leaves_at_the_same_instant_whoever_said_it_and_whatever_was_found_out() {
    for thinks in [0, 50, 290].map(Duration::from_millis) {
        let gateway = gateway(thinks).await;
        tokio::time::pause();
        let seen = each_no(&gateway).await;
        tokio::time::resume();
        // The timer counts in whole milliseconds and begins in the middle of one.
        let expected = DELAY.as_millis()..=DELAY.as_millis() + 1;
        assert!(seen.iter().all(|(_, time)| expected.contains(time)), "the server thinks {thinks:?}: {seen:?}");
    }
}

#[tokio::test]
async fn a_server_slower_than_the_delay_shows_that_it_was_asked_and_not_what_it_found() {
    let thinks = Duration::from_millis(700);
    let gateway = gateway(thinks).await;
    tokio::time::pause();
    let seen = each_no(&gateway).await;
    tokio::time::resume();
    for (kind, time) in seen {
        // What we refuse never reaches the server, and nobody can say beforehand how long that would have taken. The
        // words tell the two apart anyway: [UNAVAILABLE] is no verdict on a password.
        let expected = if kind.contains("password") || kind == "unknown user" { thinks } else { DELAY }.as_millis();
        assert!((expected..=expected + 1).contains(&time), "{kind}: {time} ms");
    }
}
