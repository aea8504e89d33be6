//! A session whose records have gone from rustls to the gateway's own hands: behind a silence, or behind much that was said.

use crate::backend::Backend;
use crate::gateway::Setup;
use crate::greeting::trusting;
use crate::mail::{greeting, hear_login, log_in, welcome, yes};
use crate::talk::{Cut, Talk, soon};
use gatepost::proto::{Protocol, Service, TlsRule};
use rustls::version::{TLS12, TLS13};
use std::net::SocketAddr;
use std::time::Duration;

/// Longer than a session may be silent before it settles.
const SILENCE: Duration = Duration::from_millis(600);

#[tokio::test]
async fn a_session_goes_on_behind_a_silence_as_behind_much_that_was_said() {
    let backend = Backend::listen(Cut::Whole).await;
    let setup = Setup::one(Service::Imap, TlsRule::Implicit, backend.address);
    let (gateway, ()) = tokio::join!(setup.start(), backend.teach(Protocol::Imap));
    gateway.has_learned().await;
    for (version, is_silent) in [(&TLS13, true), (&TLS13, false), (&TLS12, true), (&TLS12, false)] {
        let is_tls13 = version.version == rustls::ProtocolVersion::TLSv1_3;
        let config = trusting(&gateway, version);
        let mut client = gateway.plain().await.start_tls(config).await.expect("a handshake");
        client.hear(greeting(Protocol::Imap)).await;
        log_in(&mut client, Protocol::Imap, "secret").await;
        let mut server = backend.dialled().await;
        hear_login(&mut server, Protocol::Imap).await;
        server.say(yes(Protocol::Imap)).await;
        client.hear(welcome(Protocol::Imap)).await;

        let mail: Vec<u8> = (0..200_000).map(|at| b"0123456789abcde\n"[at % 16]).collect();
        if is_silent {
            // That nothing is said is what the gateway waits for, too.
            assert!(!is_watched(backend.address), "a session that comes and goes does without");
            tokio::time::sleep(SILENCE).await;
            assert!(is_watched(backend.address), "a server that vanishes in a silence is not noticed");
        } else {
            pass(&mut server, &mut client, &mail).await;
        }
        for round in 0..3 {
            if is_tls13 && round > 0 {
                client.refresh_keys();
            }
            client.line("c NOOP").await;
            server.hear("c NOOP").await;
            server.line("c OK done").await;
            client.hear("c OK done").await;
            pass(&mut client, &mut server, &mail).await;
            pass(&mut server, &mut client, &mail).await;
            tokio::time::sleep(SILENCE).await;
        }
        client.line("d LOGOUT").await;
        server.hear("d LOGOUT").await;
        server.say("* BYE\r\nd OK\r\n").await;
        drop(server);
        client.hear("* BYE\nd OK").await;
        client.closed().await;
        gateway.event("session.closed", "").await;
    }
}

/// Says much on one side, and hears it on the other.
async fn pass(from: &mut Talk, to: &mut Talk, mail: &[u8]) {
    soon("much to arrive", async { tokio::join!(from.say(mail), to.hear_bytes(mail)) }).await;
}

/// Whether the system asks on a connection to this address, from time to time, if the other side is still there: whether its
/// timer is the one for that (`proc_net_tcp` in the kernel's documentation).
fn is_watched(to: SocketAddr) -> bool {
    let port = format!(":{:04X}", to.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|fields| {
        matches!(fields[..], [_, _, remote, "01", _, timer, ..] if remote.ends_with(&port) && timer.starts_with("02:"))
    })
}
