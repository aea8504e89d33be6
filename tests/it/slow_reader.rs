//! A client that asks for much and reads none of it.

use crate::backend::Backend;
use crate::gateway::Setup;
use crate::mail::{greeting, hear_login, log_in, welcome, yes};
use crate::talk::{Cut, Talk, soon};
use gatepost::proto::{Protocol, Service, TlsRule};

/// More than all buffers on the way hold.
const MAIL: usize = 64 << 20;

#[tokio::test]
async fn a_client_that_does_not_read_stops_its_own_session_and_no_other() {
    let backend = Backend::listen(Cut::Whole).await;
    let setup = Setup::one(Service::Imap, TlsRule::Implicit, backend.address);
    let (gateway, ()) = tokio::join!(setup.start(), backend.teach(Protocol::Imap));
    gateway.has_learned().await;

    let (mut slow, mut pouring) = (gateway.tls().await, Vec::new());
    let mut dialogue = welcomed(&mut slow, &backend).await;
    slow.line("b FETCH 1 BODY[]").await;
    dialogue.hear("b FETCH <*>").await;
    pouring.extend((0..MAIL).map(|at| b"0123456789abcde\n"[at % 16]));
    let poured = pouring.clone();
    let pour = tokio::spawn(async move {
        dialogue.say(poured).await;
        dialogue
    });

    let mut quick = gateway.tls().await;
    let mut beside = welcomed(&mut quick, &backend).await;
    for round in 0..100 {
        quick.line(&format!("c{round} NOOP")).await;
        beside.hear(&format!("c{round} NOOP")).await;
        beside.line(&format!("c{round} OK")).await;
        quick.hear(&format!("c{round} OK")).await;
    }
    assert!(!pour.is_finished(), "64 MiB went somewhere, and nobody has read them");

    let dialogue = async {
        let dialogue = pour.await.expect("no panic");
        drop(dialogue);
    };
    let (rest, ()) = soon("all of it", async { tokio::join!(slow.rest(), dialogue) }).await;
    let rest = rest.expect("a proper end");
    assert!(rest.starts_with(&pouring), "{} octets", rest.len());
}

async fn welcomed(client: &mut Talk, backend: &Backend) -> Talk {
    client.hear(greeting(Protocol::Imap)).await;
    log_in(client, Protocol::Imap, "secret").await;
    let mut dialogue = backend.dialled().await;
    hear_login(&mut dialogue, Protocol::Imap).await;
    dialogue.say(yes(Protocol::Imap)).await;
    client.hear(welcome(Protocol::Imap)).await;
    dialogue
}
