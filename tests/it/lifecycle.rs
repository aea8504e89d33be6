//! The gateway over time: reload, new certificates, drain, and the ends of sessions that last.

use crate::backend::{Backend, Post};
use crate::gateway::{Gateway, Setup};
use crate::mail::{PROTOCOLS, greeting, hear_login, log_in, service, welcome};
use crate::talk::{Cut, Talk, trusting};
use crate::transcript::HOSTNAME;
use gatepost::proto::{Protocol, Service, TlsRule};
use gatepost::tls::PrivateCa;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

async fn gateway(protocol: Protocol, section: &'static str, keys: &str) -> (Gateway, Post) {
    let post = Post::serve(protocol).await;
    let setup = Setup::one(service(protocol), TlsRule::Off, post.address).with(section, keys);
    let gateway = setup.start().await;
    gateway.has_learned().await;
    (gateway, post)
}

/// A client that has logged in.
async fn inside(gateway: &Gateway, protocol: Protocol) -> Talk {
    let mut client = gateway.plain().await;
    client.hear(greeting(protocol)).await;
    log_in(&mut client, protocol, "secret").await;
    client.hear(welcome(protocol)).await;
    client
}

#[tokio::test]
async fn a_reload_keeps_live_sessions_and_is_in_force_for_new_ones() {
    let (mut gateway, post) = gateway(Protocol::Imap, "auth", "mechanisms: all").await;
    let mut reading = inside(&gateway, Protocol::Imap).await;
    let mut waiting = gateway.plain().await;
    waiting.hear("* OK <*>").await;

    gateway.setup.set("auth", "mechanisms: [CRAM-MD5]");
    gateway.reload().await.expect("a sound configuration");
    gateway.event("config.reloaded", "").await;
    reading.line("b NOOP").await;
    reading.hear("b OK done").await;
    // Who has been greeted under the old rules logs in under them.
    log_in(&mut waiting, Protocol::Imap, "secret").await;
    waiting.hear("a OK <*>").await;
    let mut new = gateway.plain().await;
    new.hear("* OK <*>").await;
    log_in(&mut new, Protocol::Imap, "secret").await;
    new.hear("a NO <*>").await;
    gateway.event("auth.refused", "reason=mechanism_disabled").await;
    drop((reading, waiting, new));
    gateway.is_empty().await;
    post.is_left().await;
}

#[tokio::test]
async fn a_refused_configuration_leaves_the_old_one_running() {
    let (mut gateway, _post) = gateway(Protocol::Imap, "auth", "mechanisms: [PLAIN, LOGIN]").await;
    let mut reading = inside(&gateway, Protocol::Imap).await;
    gateway.setup.set("auth", "mechanisms: [CRAM-MD5], mechanism: PLAIN");
    let why = gateway.reload().await.expect_err("an unknown key");
    assert!(why.contains("`mechanism` is not a key here"), "{why}");
    let event = gateway.event("config.refused", "").await;
    assert!(event["detail"].as_str().is_some_and(|detail| detail.contains("`mechanism` is not a key here")), "{event}");
    assert_eq!(gateway.metric("gatepost_config_last_reload_successful"), 0.0);
    reading.line("b NOOP").await;
    reading.hear("b OK done").await;
    drop(inside(&gateway, Protocol::Imap).await);
    assert!(gateway.left("config.reloaded").await.is_empty());
}

#[tokio::test]
async fn listeners_come_and_go_with_a_reload_and_their_sessions_stay() {
    let (mut gateway, post) = gateway(Protocol::Imap, "auth", "mechanisms: all").await;
    let mut reading = inside(&gateway, Protocol::Imap).await;
    let pop3 = Post::serve(Protocol::Pop3).await;
    let moved = Setup::new()
        .listener(Service::Pop3, TlsRule::Off, "")
        .backend(Protocol::Pop3, pop3.address)
        .backend(Protocol::Imap, post.address);
    let old = gateway.address();
    gateway.replace(moved);
    gateway.reload().await.expect("a sound configuration");
    let status = gateway.server.status().await;
    assert_eq!(status.listeners.iter().map(|listener| &*listener.name).collect::<Vec<_>>(), ["pop3-off"]);
    assert!(Talk::connect(old, None, Cut::Whole).await.is_err(), "nobody listens there any more");
    let mut client = Talk::connect(status.listeners[0].addresses[0], None, Cut::Whole).await.expect("the new one");
    client.hear("+OK <*>").await;
    reading.line("b NOOP").await;
    reading.hear("b OK done").await;
}

/// Writes a certificate of a CA of its own for the host name, and says where the CA is.
fn certificate(folder: &Path, number: u32) -> PathBuf {
    certificate_for(HOSTNAME, folder, number)
}

fn certificate_for(name: &str, folder: &Path, number: u32) -> PathBuf {
    let state = folder.join(format!("ca{number}"));
    let ca = PrivateCa::open_or_create(&state, HOSTNAME, SystemTime::now()).expect("a CA");
    let issued = ca.issue(&[name.parse().expect("a name")], SystemTime::now()).expect("a certificate");
    std::fs::write(folder.join("chain.pem"), &issued.certificate_pem).expect("a file of ours");
    std::fs::write(folder.join("key.pem"), &*issued.key_pem).expect("a file of ours");
    state
}

#[tokio::test]
async fn a_new_certificate_is_served_to_new_handshakes_and_an_unfit_one_never() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = certificate(folder.path(), 1);
    let post = Post::serve(Protocol::Imap).await;
    let pair = format!("chain: {0}/chain.pem, key: {0}/key.pem", folder.path().display());
    let setup = Setup::one(Service::Imap, TlsRule::Implicit, post.address)
        .with("tls", &format!("certificates: [{{ {pair} }}]"));
    let gateway = setup.start().await;
    gateway.has_learned().await;
    gateway.event("certificate.loaded", "").await;
    // Each time a client that has been nowhere before: a session that is resumed shows no certificate.
    let connect = |ca: &Path| {
        let trust = trusting(ca);
        let plain = gateway.plain();
        async move { plain.await.start_tls(trust).await }
    };
    let mut reading = connect(&first).await.expect("the first");
    reading.hear("* OK <*>").await;

    let second = certificate(folder.path(), 2);
    gateway.reload().await.expect("a sound pair");
    gateway.event("certificate.loaded", "").await;
    assert!(connect(&first).await.is_err(), "the first is no longer shown");
    drop(connect(&second).await.expect("the second"));
    reading.line("a NOOP").await;
    reading.hear("a OK <*>").await;

    std::fs::write(folder.path().join("key.pem"), "no key at all").expect("a file of ours");
    let _ = gateway.reload().await;
    drop(connect(&second).await.expect("still the second"));
}

#[tokio::test]
async fn metrics_show_no_server_that_is_no_longer_configured() {
    let (mut gateway, old) = gateway(Protocol::Imap, "auth", "mechanisms: all").await;
    let series = |address| format!("gatepost_backend_up{{backend=\"main\",protocol=\"imap\",server=\"{address}\"}} 1");
    assert!(gateway.rendered().contains(&series(old.address)));
    let new = Post::serve(Protocol::Imap).await;
    gateway.replace(Setup::one(Service::Imap, TlsRule::Off, new.address));
    gateway.reload().await.expect("a sound configuration");
    gateway.has_learned().await;
    assert!(gateway.rendered().contains(&series(new.address)), "{}", gateway.rendered());
    assert_eq!(gateway.rendered().matches("gatepost_backend_up{").count(), 1, "{}", gateway.rendered());
}

#[tokio::test]
async fn metrics_show_no_certificate_that_is_no_longer_served() {
    let folder = tempfile::tempdir().expect("a folder");
    certificate_for("old.example.net", folder.path(), 1);
    let post = Post::serve(Protocol::Imap).await;
    let pair = format!("chain: {0}/chain.pem, key: {0}/key.pem", folder.path().display());
    let mut gateway = Setup::one(Service::Imap, TlsRule::Implicit, post.address)
        .with("tls", &format!("certificates: [{{ {pair} }}]"))
        .start()
        .await;
    let names = |gateway: &Gateway| -> Vec<String> {
        let text = gateway.rendered();
        let series = text.lines().filter_map(|line| {
            line.strip_prefix("gatepost_certificate_expiry_timestamp_seconds{name=\"")?.split('"').next()
        });
        series.map(str::to_owned).collect()
    };
    assert_eq!(names(&gateway), ["old.example.net"]);

    certificate_for("new.example.net", folder.path(), 2);
    gateway.reload().await.expect("a sound pair");
    assert_eq!(names(&gateway), ["new.example.net"], "the same files, another name");

    gateway.setup.set("tls", "certificates: []");
    gateway.reload().await.expect("a sound configuration");
    assert_eq!(names(&gateway), [HOSTNAME], "the private CA's");
}

#[tokio::test]
async fn a_drain_says_goodbye_in_words_and_ends() {
    for (protocol, waiting, inside_words) in [
        (Protocol::Imap, "* BYE <*>", Some("* BYE <*>")),
        (Protocol::Pop3, "-ERR [SYS/TEMP] <*>", None),
        (Protocol::Smtp, "421 4.3.2 <*>", Some("421 4.3.2 <*>")),
    ] {
        let (gateway, post) = gateway(protocol, "runtime", "drain_timeout: 1s").await;
        let mut reading = inside(&gateway, protocol).await;
        let mut greeted = gateway.plain().await;
        greeted.hear(greeting(protocol)).await;
        let clients = async {
            greeted.hear(waiting).await;
            greeted.closed().await;
            greeted.end().await;
            if let Some(words) = inside_words {
                reading.hear(words).await;
            }
            reading.closed().await;
            reading.end().await;
        };
        tokio::join!(gateway.drain(), clients);
        gateway.event("session.closed", "reason=shutting_down user=joe").await;
        gateway.event("session.closed", "reason=shutting_down").await;
        assert!(Talk::connect(gateway.address(), None, Cut::Whole).await.is_err(), "nobody listens any more");
        assert!(!gateway.server.is_ready());
        gateway.is_empty().await;
        post.is_left().await;
    }
}

/// Connects without giving the gateway, which shares the thread, a moment to notice.
fn knock(gateway: &Gateway, times: usize) -> Vec<std::net::TcpStream> {
    let clients = (0..times).map(|_| std::net::TcpStream::connect(gateway.address()).expect("it listens"));
    clients.collect()
}

async fn heard(client: std::net::TcpStream) -> String {
    let heard = tokio::task::spawn_blocking(move || std::io::read_to_string(client)).await.expect("no panic");
    heard.expect("an end without a reset")
}

#[tokio::test]
async fn who_is_connected_when_the_drain_begins_hears_words_though_nobody_has_accepted_yet() {
    let (gateway, _post) = gateway(Protocol::Imap, "runtime", "drain_timeout: 1s").await;
    let clients = knock(&gateway, 40);
    gateway.drain().await;
    for client in clients {
        let heard = heard(client).await;
        assert!(heard.starts_with("* OK ") && heard.contains("* BYE "), "{heard:?}");
    }
    gateway.is_empty().await;
}

#[tokio::test]
async fn who_is_connected_when_a_reload_drops_the_listener_is_served() {
    let (mut gateway, post) = gateway(Protocol::Imap, "runtime", "drain_timeout: 1s").await;
    let clients = knock(&gateway, 40);
    let moved = Setup::new()
        .listener(Service::Pop3, TlsRule::Off, "")
        .backend(Protocol::Pop3, post.address)
        .backend(Protocol::Imap, post.address);
    gateway.replace(moved);
    gateway.reload().await.expect("a sound configuration");
    assert!(Talk::connect(gateway.address(), None, Cut::Whole).await.is_err(), "nobody listens there any more");
    for client in clients {
        std::io::Write::write_all(&mut &client, b"a LOGOUT\r\n").expect("connected");
        let heard = heard(client).await;
        assert!(heard.starts_with("* OK ") && heard.contains("a OK "), "{heard:?}");
    }
}

#[tokio::test]
async fn a_drain_says_nothing_into_the_middle_of_a_line() {
    let backend = Backend::listen(Cut::Whole).await;
    let setup = Setup::one(Service::Imap, TlsRule::Off, backend.address).with("runtime", "drain_timeout: 500ms");
    let (gateway, ()) = tokio::join!(setup.start(), backend.teach(Protocol::Imap));
    gateway.has_learned().await;
    let mut client = gateway.plain().await;
    client.hear("* OK <*>").await;
    log_in(&mut client, Protocol::Imap, "secret").await;
    let mut dialogue = backend.dialled().await;
    hear_login(&mut dialogue, Protocol::Imap).await;
    dialogue.say("g1 OK in\r\n* 1 FETCH (BODY[] {1000}\r\nhalf").await;
    client.hear("a OK <*>\n* 1 FETCH (BODY[] {1000}").await;
    let ((), rest) = tokio::join!(gateway.drain(), async {
        let rest = client.rest().await;
        client.end().await;
        rest
    });
    assert_eq!(rest.as_deref(), Ok(&b"half"[..]));
}

#[tokio::test]
async fn a_full_gateway_refuses_in_words() {
    for (protocol, words) in [
        (Protocol::Imap, "* BYE [UNAVAILABLE] <*>"),
        (Protocol::Pop3, "-ERR [SYS/TEMP] <*>"),
        (Protocol::Smtp, "421 4.7.0 <*>"),
    ] {
        for by_descriptors in [false, true] {
            let post = Post::serve(protocol).await;
            let setup = Setup::one(service(protocol), TlsRule::Off, post.address);
            // Two descriptors a session, and 256 for the process itself.
            let setup = if by_descriptors { setup.descriptors(258) } else { setup.with("limits", "sessions: 1") };
            let gateway = setup.start().await;
            gateway.has_learned().await;
            let mut first = inside(&gateway, protocol).await;
            let mut second = gateway.plain().await;
            second.hear(words).await;
            second.closed().await;
            gateway.event("connection.refused", "reason=too_many_sessions").await;
            first.end().await;
            let _ = first.rest().await;
            gateway.event("session.closed", "user=joe").await;
            gateway.is_empty().await;
            drop(inside(&gateway, protocol).await);
        }
    }
}

#[tokio::test]
async fn silence_ends_in_words_where_the_protocol_has_them() {
    for (protocol, idle, waiting, words) in [
        (Protocol::Imap, "idle_imap", "* BYE <*>", Some("* BYE <*>")),
        (Protocol::Pop3, "idle_pop3", "-ERR <*>", None),
        (Protocol::Smtp, "idle_submission", "421 4.4.2 <*>", Some("421 4.4.2 <*>")),
    ] {
        let (gateway, post) = gateway(protocol, "timeouts", &format!("{idle}: 300ms, login: 300ms")).await;
        let mut reading = inside(&gateway, protocol).await;
        if let Some(words) = words {
            reading.hear(words).await;
        }
        reading.closed().await;
        reading.end().await;
        gateway.event("session.closed", "reason=timeout user=joe").await;
        let mut greeted = gateway.plain().await;
        greeted.hear(greeting(protocol)).await;
        if protocol != Protocol::Pop3 {
            greeted.hear(waiting).await;
            greeted.closed().await;
        }
        let _ = greeted.rest().await;
        greeted.end().await;
        gateway.event("session.closed", "reason=timeout").await;
        gateway.is_empty().await;
        post.is_left().await;
    }
}

#[tokio::test]
async fn who_has_said_all_still_gets_the_answers() {
    for (protocol, last, answer) in [
        (Protocol::Imap, "b LOGOUT", "* BYE\nb OK bye"),
        (Protocol::Pop3, "QUIT", "+OK bye"),
        (Protocol::Smtp, "MAIL FROM:<joe@example.net>", "250 Ok"),
    ] {
        let (gateway, post) = gateway(protocol, "auth", "mechanisms: all").await;
        let mut client = gateway.plain().await;
        client.hear(greeting(protocol)).await;
        // The whole session in one go, and the end.
        let say = match protocol {
            Protocol::Imap => "a LOGIN joe secret\r\n",
            Protocol::Pop3 => "USER joe\r\nPASS secret\r\n",
            Protocol::Smtp => "AUTH PLAIN AGpvZQBzZWNyZXQ=\r\n",
        };
        client.say(format!("{say}{last}\r\n")).await;
        client.end().await;
        if protocol == Protocol::Pop3 {
            client.hear("+OK Send your password.").await;
        }
        client.hear(welcome(protocol)).await;
        client.hear(answer).await;
        client.closed().await;
        gateway.event("session.closed", "user=joe").await;
        gateway.is_empty().await;
        post.is_left().await;
    }
}

#[tokio::test]
async fn every_session_ends_with_close_notify() {
    for protocol in PROTOCOLS {
        let post = Post::serve(protocol).await;
        let gateway = Setup::one(service(protocol), TlsRule::Implicit, post.address).start().await;
        gateway.has_learned().await;
        let mut client = gateway.tls().await;
        client.hear(greeting(protocol)).await;
        log_in(&mut client, protocol, "secret").await;
        client.hear(welcome(protocol)).await;
        client.line(if protocol == Protocol::Imap { "b LOGOUT" } else { "QUIT" }).await;
        // An end without close_notify would be an error here.
        client.rest().await.expect("a proper end");
        client.end().await;
        gateway.event("session.closed", "reason=logout user=joe").await;
        gateway.is_empty().await;
        post.is_left().await;
    }
}

/// What was run only to start is counted as the process's for as long as it lasts, unless it is let go of.
#[test]
fn code_that_has_run_is_let_go_of_and_runs_again() {
    let before = code_in_memory();
    gatepost_trim::let_go_of_code();
    let after = code_in_memory();
    assert!(after < before, "{before} KiB before, {after} KiB after");
}

/// How much of this program's code is mapped, in KiB: `Rss` of what is executable and comes from its file (proc(5)).
fn code_in_memory() -> u64 {
    let program = std::env::current_exe().expect("a program has a name");
    let program = program.to_str().expect("a path in UTF-8");
    let mappings = std::fs::read_to_string("/proc/self/smaps").expect("procfs");
    let mut is_code = false;
    let mut sum = 0;
    for line in mappings.lines() {
        if line.contains(" r-xp ") {
            is_code = line.ends_with(program);
        } else if !line.split(' ').next().is_some_and(|word| word.ends_with(':')) {
            is_code = false;
        } else if let Some(rss) = line.strip_prefix("Rss:").filter(|_| is_code) {
            sum += rss.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of KiB");
        }
    }
    sum
}
