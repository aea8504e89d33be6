//! Backends that are ill in ways of their own; `matrix` has what can happen to each protocol at every point. The client
//! hears its protocol's "not now", soon and in our words; nothing of the backend's illness reaches it, nothing counts
//! against it, and the next attempt may find the backend well.

use crate::backend::Backend;
use crate::gateway::{Gateway, Setup};
use crate::mail::{
    PROTOCOLS, first_words, greeting, hear_login, hear_password, log_in, not_now, service, welcome, yes,
};
use crate::talk::{Cut, Talk};
use gatepost::proto::{Protocol, TlsRule};

/// A gateway in the clear, and the backend it has learned from.
async fn gateway(protocol: Protocol) -> (Gateway, Backend) {
    let backend = Backend::listen(Cut::Whole).await;
    let setup = Setup::one(service(protocol), TlsRule::Off, backend.address);
    let (gateway, ()) = tokio::join!(setup.start(), backend.teach(protocol));
    gateway.has_learned().await;
    (gateway, backend)
}

/// A client that has been greeted and has asked to log in.
async fn client(gateway: &Gateway, protocol: Protocol) -> Talk {
    let mut client = gateway.plain().await;
    client.hear(greeting(protocol)).await;
    log_in(&mut client, protocol, "secret").await;
    client
}

/// The backend is well again: the session that met its illness gets in after all, and ends without a trace.
async fn recovers(gateway: &Gateway, backend: &Backend, mut client: Talk, protocol: Protocol) {
    log_in(&mut client, protocol, "secret").await;
    let mut dialogue = backend.dialled().await;
    hear_login(&mut dialogue, protocol).await;
    dialogue.say(yes(protocol)).await;
    client.hear(welcome(protocol)).await;
    gateway.event("auth.ok", "user=joe").await;
    client.end().await;
    let _ = dialogue.rest().await;
    drop(dialogue);
    gateway.event("session.closed", "user=joe").await;
    nothing_counted(gateway).await;
}

async fn nothing_counted(gateway: &Gateway) {
    gateway.is_empty().await;
    assert_eq!(gateway.left("auth.failed").await, [] as [serde_json::Value; 0]);
    assert_eq!(gateway.left("auth.refused").await, [] as [serde_json::Value; 0]);
}

/// What a backend says where its greeting is due, and the reason in the event.
fn greetings(protocol: Protocol) -> Vec<(Vec<u8>, &'static str)> {
    let own: &[(&str, &str)] = match protocol {
        Protocol::Imap => &[
            ("* PREAUTH [CAPABILITY IMAP4rev1] you are joe\r\n", "backend_protocol"),
            ("* OK [CAPABILITY IMAP4rev1] ready\r\ng1 OK you are in\r\n", "backend_protocol"),
        ],
        Protocol::Pop3 => &[],
        Protocol::Smtp => &[("554 no mail for you\r\n", "backend_temporary")],
    };
    let own = own.iter().map(|(said, reason)| (said.as_bytes().to_vec(), *reason));
    own.chain([(b"\r\n\r\n".to_vec(), "backend_protocol")]).collect()
}

#[tokio::test]
async fn a_backend_that_greets_with_something_else_is_not_now() {
    for protocol in PROTOCOLS {
        let (gateway, backend) = gateway(protocol).await;
        for (said, reason) in greetings(protocol) {
            let mut client = client(&gateway, protocol).await;
            let mut dialogue = backend.dialled().await;
            dialogue.say(&said).await;
            client.hear(not_now(protocol)).await;
            let event = gateway.event("auth.error", "user=joe").await;
            assert_eq!(event["reason"], reason, "{protocol:?} {}", said[..said.len().min(60)].escape_ascii());
            // Whatever it said last is not waited for: its connection is given up, perhaps by a reset.
            let _ = dialogue.rest().await;
            recovers(&gateway, &backend, client, protocol).await;
        }
    }
}

#[tokio::test]
async fn a_backend_that_talks_without_end_is_given_up() {
    for protocol in PROTOCOLS {
        let (gateway, backend) = gateway(protocol).await;
        let (said, asked) = first_words(protocol);
        let (list, more): (&str, &str) = match protocol {
            Protocol::Imap => ("", "* OK still waiting for the authentication process\r\n"),
            Protocol::Pop3 => ("+OK\r\n", "X-CAPABILITY of some kind\r\n"),
            Protocol::Smtp => ("", "250-X-EXTENSION of some kind\r\n"),
        };
        let mut client = client(&gateway, protocol).await;
        let mut dialogue = backend.dialled().await;
        dialogue.say(said).await;
        match asked {
            Some((question, _)) => dialogue.hear(question).await,
            None => dialogue.hear("<*> LOGIN <*>").await,
        }
        dialogue.say(list).await;
        // Written until nobody takes it any more, or all of a megabyte was.
        dialogue.say(more.repeat(20_000)).await;
        client.hear(not_now(protocol)).await;
        gateway.event("auth.error", "user=joe reason=backend_protocol").await;
        let _ = dialogue.rest().await;
        recovers(&gateway, &backend, client, protocol).await;
    }
}

#[tokio::test]
async fn not_now_from_the_backend_counts_against_nobody() {
    let rows: [(Protocol, &[(&str, &str)]); 3] = [
        (
            Protocol::Imap,
            &[
                ("NO [UNAVAILABLE] auth process is away", "a NO [UNAVAILABLE] <*>"),
                ("NO [INUSE] being compacted", "a NO [INUSE] <*>"),
                ("NO [LIMIT] too many", "a NO [LIMIT] <*>"),
                ("NO [SERVERBUG] internal error", "a NO [UNAVAILABLE] <*>"),
                ("NO [CONTACTADMIN] being moved", "a NO [CONTACTADMIN] <*>"),
                ("NO mailbox is Locked", "a NO [UNAVAILABLE] <*>"),
                ("NO temporary failure", "a NO [UNAVAILABLE] <*>"),
                ("BAD what", "a NO [UNAVAILABLE] <*>"),
            ],
        ),
        (
            Protocol::Pop3,
            &[
                ("-ERR [IN-USE] another session", "-ERR [IN-USE] <*>"),
                ("-ERR [LOGIN-DELAY] wait", "-ERR [LOGIN-DELAY] <*>"),
                ("-ERR [SYS/TEMP] away", "-ERR [SYS/TEMP] <*>"),
                ("-ERR [SYS/PERM] broken", "-ERR [SYS/PERM] <*>"),
                ("-ERR maildrop is busy", "-ERR [SYS/TEMP] <*>"),
            ],
        ),
        (
            Protocol::Smtp,
            &[
                ("454 4.7.0 away", "454 4.7.0 <*>"),
                ("450 4.3.0 busy", "454 4.7.0 <*>"),
                ("432 4.7.12 change it", "454 4.7.0 <*>"),
            ],
        ),
    ];
    for (protocol, answers) in rows {
        let (gateway, backend) = gateway(protocol).await;
        let mut client = gateway.plain().await;
        client.hear(greeting(protocol)).await;
        let mut dialogue = None;
        // Far more of them than auth_attempts_per_session allows wrong passwords.
        for (number, (said, heard)) in answers.iter().enumerate() {
            log_in(&mut client, protocol, "secret").await;
            match &mut dialogue {
                None => hear_login(dialogue.insert(backend.dialled().await), protocol).await,
                Some(dialogue) => hear_password(dialogue, protocol).await,
            }
            let tag = if protocol == Protocol::Imap { format!("g{} ", number + 1) } else { String::new() };
            dialogue.as_mut().expect("dialled").line(&format!("{tag}{said}")).await;
            client.hear(heard).await;
            let event = gateway.event("auth.error", "user=joe").await;
            let reason = if said.starts_with("BAD") { "backend_protocol" } else { "backend_temporary" };
            assert_eq!(event["reason"], reason, "{said}");
        }
        client.end().await;
        client.closed().await;
        gateway.event("session.closed", "").await;
        nothing_counted(&gateway).await;
        assert_eq!(gateway.metric("gatepost_bans"), 0.0);
    }
}

/// Dovecot runs LOGOUT at its CR and closes; an LF that comes later meets a closed socket, and resets the connection.
#[tokio::test]
async fn a_reset_behind_the_farewell_is_no_lost_backend() {
    let farewells = [
        (Protocol::Imap, "b LOGOUT", "* BYE Logging out\nb OK Logout completed."),
        (Protocol::Pop3, "QUIT", "+OK Logging out."),
    ];
    for (protocol, last, farewell) in farewells {
        let (gateway, backend) = gateway(protocol).await;
        let mut client = client(&gateway, protocol).await;
        let mut dialogue = backend.dialled().await;
        hear_login(&mut dialogue, protocol).await;
        dialogue.say(yes(protocol)).await;
        client.hear(welcome(protocol)).await;
        client.line(last).await;
        dialogue.hear(last).await;
        dialogue.line(&farewell.replace('\n', "\r\n")).await;
        client.hear(farewell).await;
        dialogue.reset();
        client.closed().await;
        gateway.event("session.closed", "user=joe reason=logout").await;
    }
}
