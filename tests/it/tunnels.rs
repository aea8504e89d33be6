//! `protocol: tcp`: TLS in, bytes out, and everything that holds for a connection whatever is spoken on it.

use crate::backend::{Backend, Post};
use crate::gateway::{Gateway, Log, Setup, own_addresses, state_dir};
use crate::talk::{Cut, Talk, soon};
use crate::transcript::HOSTNAME;
use gatepost::observe::{Observe, Style};
use gatepost::proto::{Protocol, Service, TlsRule};
use gatepost::tls::{Alpn, Certificates, MinVersion, PrivateCa, ServerTls, Settings};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use socket2::{Domain, Socket, Type};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tracing::Level;

/// A gateway with one tunnel, and the server behind, which has been asked whether it is well.
async fn gateway(tls: &'static str, listener: &str, section: &'static str, keys: &str) -> (Gateway, Backend) {
    let backend = Backend::listen(Cut::Whole).await;
    let mut setup = Setup::new().tunnel(tls, listener).server("tcp", backend.address);
    if !keys.is_empty() {
        setup = setup.with(section, keys);
    }
    let (gateway, mut asked) = tokio::join!(setup.start(), backend.dialled());
    asked.closed().await;
    gateway.has_learned().await;
    (gateway, backend)
}

/// A server that gives back whatever it gets, and ends when its client has.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind((own_addresses(), 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    address
}

#[tokio::test]
async fn bytes_pass_both_ways_and_who_speaks_first_is_the_servers_affair() {
    let (gateway, backend) = gateway("implicit", "", "limits", "").await;
    let mut client = gateway.tls().await;
    // The client has said nothing, and the server is there.
    let mut server = backend.dialled().await;
    server.say(b"\"IMPLEMENTATION\" \"old sieve\"\r\n\0\xff").await;
    client.hear_bytes(b"\"IMPLEMENTATION\" \"old sieve\"\r\n\0\xff").await;
    client.say([0, 255, 13, 10, 10]).await;
    server.hear_bytes(&[0, 255, 13, 10, 10]).await;
    server.end().await;
    // A close_notify and no word of ours.
    client.closed().await;
    let event = gateway.event("session.closed", "protocol=tcp reason=backend_closed backend=main bytes_in=5").await;
    assert_eq!(event["server"], backend.address.to_string(), "{event}");
    assert!(event["tls"]["version"].is_string() && event["user"].is_null(), "{event}");
    gateway.is_empty().await;
    for name in ["auth.ok", "auth.failed", "auth.error", "auth.refused"] {
        assert!(gateway.left(name).await.is_empty(), "{name}");
    }
    assert_eq!(gateway.metric("gatepost_bytes_total{direction=\"in\",listener=\"tcp-implicit\"}"), 5.0);
    let up = format!("gatepost_backend_up{{backend=\"main\",protocol=\"tcp\",server=\"{}\"}}", backend.address);
    assert_eq!(gateway.metric(&up), 1.0);
}

#[tokio::test]
async fn twenty_mebibytes_come_back_as_they_went() {
    let setup = Setup::new().tunnel("implicit", "").server("tcp", echo().await);
    let gateway = setup.start().await;
    gateway.has_learned().await;
    let stream = TcpStream::connect(gateway.address()).await.expect("it listens");
    let name = ServerName::try_from(HOSTNAME).expect("a name");
    let stream = TlsConnector::from(gateway.trust()).connect(name, stream).await.expect("a handshake");
    let sent: Vec<u8> = (0..20 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let expected = sent.clone();
    let (mut from, mut to) = tokio::io::split(stream);
    let sending = async {
        to.write_all(&sent).await.expect("taken");
        // The half close travels through, and back comes the end.
        to.shutdown().await.expect("ended");
    };
    let mut got = Vec::new();
    let reading = from.read_to_end(&mut got);
    let ((), read) = soon("all of it", async { tokio::join!(sending, reading) }).await;
    read.expect("a proper end");
    assert!(got == expected, "{} of {} octets came back", got.len(), expected.len());
    let event = gateway.event("session.closed", "reason=client_closed").await;
    assert_eq!((&event["bytes_in"], &event["bytes_out"]), (&(20 << 20).into(), &(20 << 20).into()), "{event}");
}

#[tokio::test]
async fn a_client_that_has_said_all_still_hears_the_answer() {
    for tls in ["implicit", "off"] {
        let (gateway, backend) = gateway(tls, "", "limits", "").await;
        let mut client = if tls == "off" { gateway.plain().await } else { gateway.tls().await };
        let mut server = backend.dialled().await;
        client.say("what time is it?").await;
        client.end().await;
        assert_eq!(server.rest().await.as_deref(), Ok(&b"what time is it?"[..]), "{tls}: the end comes through");
        server.say("late").await;
        server.end().await;
        assert_eq!(client.rest().await.as_deref(), Ok(&b"late"[..]), "{tls}");
        gateway.event("session.closed", "reason=client_closed").await;
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_ends_the_connection_and_says_why() {
    let (gateway, mut backend) = gateway("implicit", "", "limits", "").await;
    backend.down();
    let mut client = gateway.tls().await;
    client.closed().await;
    let event = gateway.event("session.closed", "protocol=tcp reason=backend_down backend=main").await;
    assert!(event["detail"].as_str().is_some_and(|detail| detail.contains("cannot connect")), "{event}");
    gateway.event("backend.down", "protocol=tcp reason=backend_down").await;
    // One for the event of the server, one for the client that did not get there.
    assert_eq!(gateway.metric("gatepost_backend_errors_total{backend=\"main\",kind=\"down\",protocol=\"tcp\"}"), 2.0);
    gateway.is_empty().await;
}

#[tokio::test]
async fn who_may_not_come_in_costs_no_handshake_and_no_dial() {
    let (gateway, backend) = gateway("implicit", "deny: [127.0.0.66]", "limits", "").await;
    let mut stranger = gateway.plain_from("127.0.0.66").await;
    stranger.closed().await;
    gateway.event("connection.refused", "protocol=tcp reason=denied client_ip=127.0.0.66").await;
    assert!(!backend.is_dialled().await);
    let mut client = gateway.plain_from("127.0.0.67").await.start_tls(gateway.trust()).await.expect("a handshake");
    backend.dialled().await.end().await;
    client.closed().await;
}

#[tokio::test]
async fn sessions_and_connections_of_an_address_are_bounded() {
    let (gateway, backend) = gateway("off", "", "limits", "exempt: [], sessions_per_ip: 1").await;
    let _there = gateway.plain_from("127.0.0.21").await;
    let _dialled = backend.dialled().await;
    gateway.plain_from("127.0.0.21").await.closed().await;
    gateway.event("connection.refused", "protocol=tcp reason=too_many_sessions").await;
    let (gateway, backend) = self::gateway("off", "", "limits", "exempt: [], connections_per_ip: 1/h").await;
    let _there = gateway.plain_from("127.0.0.22").await;
    let _dialled = backend.dialled().await;
    gateway.plain_from("127.0.0.22").await.closed().await;
    gateway.event("connection.refused", "protocol=tcp reason=rate_limited").await;
    let (gateway, backend) = self::gateway("off", "", "limits", "sessions: 1").await;
    let _there = gateway.plain().await;
    let _dialled = backend.dialled().await;
    gateway.plain().await.closed().await;
    gateway.event("connection.refused", "protocol=tcp reason=too_many_sessions").await;
}

#[tokio::test]
async fn tunnels_take_half_of_the_sessions_and_mail_has_the_rest() {
    let (imap, behind) = (Backend::listen(Cut::Whole).await, Backend::listen(Cut::Whole).await);
    let mut setup = Setup::one(Service::Imap, TlsRule::StartTls, imap.address).tunnel("off", "");
    setup = setup.server("tcp", behind.address).with("limits", "sessions: 4");
    let gateway = setup.start().await;
    let listeners = gateway.server.status().await.listeners;
    let tunnel = listeners.iter().find(|listener| listener.name == "tcp-off").expect("a tunnel").addresses[0];
    let knock = async || Talk::connect(tunnel, None, Cut::Whole).await.expect("it listens");
    let first = knock().await;
    let _second = knock().await;
    knock().await.closed().await;
    gateway.event("connection.refused", "protocol=tcp reason=too_many_sessions").await;
    let mut mail = (gateway.plain().await, gateway.plain().await);
    for client in [&mut mail.0, &mut mail.1] {
        client.hear("* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] mail.example.net ready").await;
    }
    drop((first, mail));
    soon("their places to be free", async {
        while gateway.server.status().await.sessions > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let _third = knock().await;
    knock().await.closed().await;
    let refused = gateway.left("connection.refused").await;
    assert!(!refused.is_empty() && refused.iter().all(|event| event["protocol"] == "tcp"), "{refused:?}");
}

#[tokio::test]
async fn who_has_guessed_at_passwords_elsewhere_does_not_get_in() {
    let post = Post::serve(Protocol::Imap).await;
    let gateway = Setup::new()
        .listener(Service::Imap, TlsRule::Off, "")
        .tunnel("implicit", "")
        .backend(Protocol::Imap, post.address)
        .server("tcp", echo().await)
        .with("limits", "auth_failures_per_ip: 2/10min, exempt: []")
        .start()
        .await;
    let mut guesser = gateway.plain_from("127.0.0.23").await;
    guesser.hear("* OK <*>").await;
    for password in ["one", "two", "three"] {
        guesser.line(&format!("a LOGIN joe {password}")).await;
        guesser.hear("a NO <*>").await;
    }
    gateway.event("ban.added", "client_ip=127.0.0.23").await;
    let tunnel = gateway.server.status().await.listeners[1].addresses[0];
    for (source, gets_in) in [("127.0.0.23", false), ("127.0.0.24", true)] {
        let source = Some(source.parse().expect("an address"));
        let client = Talk::connect(tunnel, source, Cut::Whole).await.expect("it listens");
        assert_eq!(client.start_tls(gateway.trust()).await.is_ok(), gets_in, "{source:?}");
    }
    gateway.event("connection.refused", "protocol=tcp reason=banned client_ip=127.0.0.23").await;
}

#[tokio::test]
async fn a_load_balancers_word_reaches_the_server_behind() {
    let backend = Backend::listen(Cut::Whole).await;
    let setup = Setup::new()
        .tunnel("implicit", "proxy_protocol: [127.9.0.0/16]")
        .server("tcp", backend.address)
        .with("backend", "client_address: proxy-v1");
    let (gateway, mut asked) = tokio::join!(setup.start(), backend.dialled());
    asked.rest().await.expect("a health check is closed in peace");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.9.9.9:0".parse().expect("an address")).expect("loopback is ours");
    let mut stream = socket.connect(gateway.address()).await.expect("it listens");
    stream.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 40001 636\r\n").await.expect("taken");
    let mut client = Talk::over(stream, Cut::Whole).start_tls(gateway.trust()).await.expect("a handshake");
    let mut server = backend.dialled().await;
    let to = gateway.address();
    server.hear(&format!("PROXY TCP4 192.0.2.7 {} 40001 {}", to.ip(), to.port())).await;
    client.say("hello").await;
    server.hear_bytes(b"hello").await;
    server.end().await;
    client.closed().await;
    gateway.event("session.closed", "client_ip=192.0.2.7 client_port=40001 proxy_ip=127.9.9.9").await;

    // Without the header nobody from there gets any further.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.9.9.8:0".parse().expect("an address")).expect("loopback is ours");
    let stream = socket.connect(gateway.address()).await.expect("it listens");
    assert!(Talk::over(stream, Cut::Whole).start_tls(gateway.trust()).await.is_err());
    gateway.event("connection.refused", "protocol=tcp reason=proxy_header client_ip=127.9.9.8").await;
}

#[tokio::test]
async fn the_name_a_client_asks_for_decides_and_routes_of_users_do_not() {
    let (main, shell) = (saying("main").await, saying("shell").await);
    let setup = |routes: &[&str]| {
        let setup = Setup::new().tunnel("implicit", "").server("tcp", main).other_server("shell", "tcp", shell);
        routes.iter().fold(setup, |setup, route| setup.route(route))
    };
    let routes =
        ["user: joe, backend: main", "protocol: imap, login: \"{local}\"", "sni: mail.example.net, backend: shell"];
    let gateway = setup(&routes).start().await;
    let mut nameless = ClientConfig::clone(&gateway.trust());
    nameless.enable_sni = false;
    for (config, word) in [(gateway.trust(), "shell"), (Arc::new(nameless), "main")] {
        let mut client = gateway.plain().await.start_tls(config).await.expect("a handshake");
        assert_eq!(client.rest().await.as_deref(), Ok(word.as_bytes()));
        gateway.event("session.closed", &format!("backend={word} reason=backend_closed")).await;
    }
    let gateway = setup(&["protocol: tcp, sni: \"mail.*\", backend: shell, allow: [192.0.2.0/24]"]).start().await;
    gateway.tls().await.closed().await;
    let event = gateway.event("session.closed", "reason=not_allowed").await;
    assert!(event["server"].is_null(), "{event}");
}

#[tokio::test]
async fn the_next_server_is_taken_where_one_is_down_or_full() {
    let (mut first, second) = (Backend::listen(Cut::Whole).await, Backend::listen(Cut::Whole).await);
    let servers = format!("tcp: [\"{}\", \"{}\"], max_sessions: 1", first.address, second.address);
    let setup = Setup::new().tunnel("off", "").with("backend", &servers);
    let (gateway, mut one, mut two) = tokio::join!(setup.start(), first.dialled(), second.dialled());
    tokio::join!(one.closed(), two.closed());
    gateway.has_learned().await;
    gateway.has_learned().await;
    let mut client = gateway.plain().await;
    let mut at_first = first.dialled().await;
    let mut other = gateway.plain().await;
    let mut at_second = second.dialled().await;
    // Both have the one session that they may have.
    gateway.plain().await.closed().await;
    let event = gateway.event("session.closed", "reason=backend_down").await;
    assert!(event["detail"].as_str().is_some_and(|detail| detail.contains("max_sessions")), "{event}");
    at_first.end().await;
    client.closed().await;
    at_second.end().await;
    other.closed().await;
    gateway.event("session.closed", "reason=backend_closed").await;
    gateway.event("session.closed", "reason=backend_closed").await;
    first.down();
    let mut client = gateway.plain().await;
    let mut at_second = second.dialled().await;
    at_second.say("here").await;
    client.hear_bytes(b"here").await;
}

#[tokio::test]
async fn tls_towards_the_server_is_verified() {
    for (certified_for, reached) in [(HOSTNAME, true), ("other.example.net", false)] {
        let backend = Backend::listen(Cut::Whole).await;
        let ca = PrivateCa::open(state_dir()).expect("readable").expect("made before").root_pem().to_owned();
        let setup = Setup::new()
            .tunnel("implicit", "")
            .server("tcp", backend.address)
            .file("ca.pem", &ca)
            .with("backend", &format!("tls: implicit, tls_ca: ca.pem, tls_name: {HOSTNAME}"));
        let config = certified(certified_for);
        let (gateway, asked) = tokio::join!(setup.start(), backend.dialled());
        let asked = asked.accept_tls(Arc::clone(&config)).await;
        assert_eq!(asked.is_ok(), reached, "the health check looks, too");
        if let Ok(mut asked) = asked {
            asked.closed().await;
        }
        gateway.event(if reached { "backend.up" } else { "backend.down" }, "protocol=tcp").await;
        let mut client = gateway.tls().await;
        let dialled = backend.dialled().await.accept_tls(config).await;
        if reached {
            let mut server = dialled.expect("a handshake");
            server.say("here").await;
            client.hear_bytes(b"here").await;
            server.end().await;
            client.closed().await;
        } else {
            client.closed().await;
            gateway.event("session.closed", "reason=backend_tls").await;
        }
    }
}

#[tokio::test]
async fn silence_ends_at_its_own_time_and_a_drain_ends_what_is_there() {
    let (gateway, backend) = gateway("implicit", "", "timeouts", "idle_tcp: 300ms, idle_imap: 1h").await;
    let mut client = gateway.tls().await;
    let mut server = backend.dialled().await;
    client.closed().await;
    server.rest().await.expect("the server's side ends, too");
    gateway.event("session.closed", "reason=timeout").await;

    let (gateway, backend) = self::gateway("implicit", "", "runtime", "drain_timeout: 200ms").await;
    let mut client = gateway.tls().await;
    let mut server = backend.dialled().await;
    let began = Instant::now();
    let (drained, ..) = tokio::join!(gateway.drain(), client.closed(), server.rest());
    assert_eq!(drained, ());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    gateway.event("session.closed", "reason=shutting_down").await;
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_server_that_does_not_answer() {
    // Nobody takes its connections out of a queue of one.
    let (full, _kept) = full_queue();
    let setup = Setup::new()
        .tunnel("off", "")
        .server("tcp", full)
        .with("timeouts", "connect: 1h")
        .with("runtime", "drain_timeout: 100ms");
    let gateway = setup.start().await;
    let mut client = gateway.plain().await;
    let hurry = CancellationToken::new();
    let (_, ()) = tokio::join!(soon("the drain", gateway.server.drain(&hurry)), client.closed());
    gateway.event("session.closed", "reason=shutting_down").await;
}

#[tokio::test]
async fn what_is_no_tls_is_told_and_a_word_of_alpn_is_not_asked_for() {
    let (gateway, backend) = gateway("implicit", "", "limits", "").await;
    let mut plain = gateway.plain().await;
    plain.say("GET / HTTP/1.0\r\n\r\n").await;
    plain.rest().await.expect("a proper end behind the alert");
    gateway.event("tls.failed", "protocol=tcp reason=plaintext_on_tls_port").await;
    assert!(!backend.is_dialled().await);
    let mut config = ClientConfig::clone(&gateway.trust());
    config.alpn_protocols = vec![b"h2".to_vec(), b"managesieve".to_vec()];
    let mut client = gateway.plain().await.start_tls(Arc::new(config)).await.expect("a handshake");
    backend.dialled().await.end().await;
    client.closed().await;
}

#[tokio::test]
async fn a_reload_holds_for_who_comes_after_it() {
    let (mut gateway, backend) = gateway("off", "", "limits", "").await;
    let mut client = gateway.plain().await;
    let mut server = backend.dialled().await;
    gateway.setup.set_listener("deny: [127.0.0.0/8]");
    gateway.reload().await.expect("a good configuration");
    gateway.plain().await.closed().await;
    gateway.event("connection.refused", "reason=denied").await;
    client.say("still").await;
    server.hear_bytes(b"still").await;
}

#[tokio::test]
async fn what_passes_is_in_no_log() {
    let (log, setup) = (Log::default(), Setup::new().tunnel("off", "").server("tcp", echo().await));
    let observe = Observe::with_style(Box::new(log.clone()), Style::Json, Level::TRACE);
    let gateway = setup.start_observed(observe, log).await;
    let mut client = gateway.plain().await;
    client.line("user joe pass hunter2").await;
    client.hear("user joe pass hunter2").await;
    client.end().await;
    client.closed().await;
    gateway.event("session.closed", "reason=client_closed").await;
    let logged = gateway.logged();
    assert!(logged.contains("session.closed") && !logged.contains("hunter2"), "{logged}");
}

/// A server that says a word and ends.
pub(crate) async fn saying(word: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((own_addresses(), 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(word.as_bytes()).await;
        }
    });
    address
}

/// What a server proves itself with: a certificate of the private CA for this name.
fn certified(name: &str) -> Arc<ServerConfig> {
    let ca = PrivateCa::open(state_dir()).expect("readable").expect("made before");
    let identity = ca.identity(&[name.parse().expect("a name")], SystemTime::now()).expect("a certificate");
    let certificates = Certificates::new(vec![identity]).expect("one at least");
    let settings = Settings { min_version: MinVersion::Tls12, session_tickets: true };
    ServerTls::new(settings, certificates).expect("TLS").config(Alpn::Unnamed)
}

/// A server whose queue is full: a connection to it is never made. It lasts as long as what is kept.
fn full_queue() -> (SocketAddr, (Socket, Vec<std::net::TcpStream>)) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((own_addresses(), 0)).into()).expect("a free port");
    socket.listen(0).expect("it listens");
    let address = socket.local_addr().expect("bound").as_socket().expect("an address");
    let connect = |_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200));
    let waiting: Vec<_> = (0..8).map_while(|number| connect(number).ok()).collect();
    assert!(waiting.len() < 8, "the queue takes everybody");
    (address, (socket, waiting))
}
