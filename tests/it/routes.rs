//! Which backend a session goes to, and by which name its user logs in there.

use crate::backend::{Backend, Post};
use crate::gateway::{Gateway, Setup};
use crate::mail::{PROTOCOLS, greeting, log_in_as, not_now, plain, service, welcome, wrong};
use crate::talk::{Cut, Talk};
use gatepost::proto::{Protocol, Service, TlsRule};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A gateway in front of `main` and `shell`, and both of them.
async fn two(protocol: Protocol, tls: TlsRule, routes: &[&str]) -> (Gateway, Post, Post) {
    let (main, shell) = (Post::serve(protocol).await, Post::serve(protocol).await);
    let mut setup = Setup::one(service(protocol), tls, main.address).other_backend("shell", protocol, shell.address);
    for route in routes {
        setup = setup.route(route);
    }
    let gateway = setup.start().await;
    gateway.event("backend.up", "backend=main").await;
    gateway.event("backend.up", "backend=shell").await;
    (gateway, main, shell)
}

/// A client that has been greeted, under TLS.
async fn greeted(gateway: &Gateway, protocol: Protocol) -> Talk {
    let mut client = gateway.tls().await;
    client.hear(greeting(protocol)).await;
    if protocol == Protocol::Smtp {
        client.line("EHLO client").await;
        while client.next_line().await.expect("a line").starts_with("250-") {}
    }
    client
}

#[tokio::test]
async fn a_user_is_taken_to_his_backend_and_has_the_name_he_has_there() {
    for protocol in PROTOCOLS {
        let routes = ["user: \"*@shell.example.net\", backend: shell, login: \"{local}\""];
        let (gateway, main, shell) = two(protocol, TlsRule::Implicit, &routes).await;
        let mut client = greeted(&gateway, protocol).await;
        log_in_as(&mut client, protocol, "joe@Shell.example.net", "secret").await;
        client.hear(welcome(protocol)).await;
        gateway.event("auth.ok", "user=joe@Shell.example.net login=joe backend=shell").await;
        assert_eq!((main.logins(), shell.logins()), (0, 1), "{protocol:?}");

        let mut client = greeted(&gateway, protocol).await;
        log_in_as(&mut client, protocol, "joe", "secret").await;
        client.hear(welcome(protocol)).await;
        let event = gateway.event("auth.ok", "user=joe backend=main").await;
        assert!(event["login"].is_null(), "{event}");
        assert_eq!((main.logins(), shell.logins()), (1, 1), "{protocol:?}");
    }
}

#[tokio::test]
async fn the_backend_hears_the_name_of_the_map_and_a_change_of_the_map_is_followed() {
    let (main, shell) = (Post::serve(Protocol::Imap).await, Backend::listen(Cut::Whole).await);
    let setup = Setup::one(Service::Imap, TlsRule::Implicit, main.address)
        .other_backend("shell", Protocol::Imap, shell.address)
        .file("users.map", "joe@example.net shell mbox-{local}\n")
        .route("file: users.map");
    let gateway = setup.start().await;
    shell.teach(Protocol::Imap).await;
    gateway.event("backend.up", "backend=main").await;
    let mut client = greeted(&gateway, Protocol::Imap).await;
    client.line("a LOGIN JOE@example.net \"s cret\"").await;
    let mut old = shell.dialled().await;
    old.line("* OK [CAPABILITY IMAP4rev1] ready").await;
    old.hear("g1 LOGIN \"mbox-JOE\" \"s cret\"").await;
    old.line("g1 OK in").await;
    client.hear("a OK <*>").await;
    gateway.event("auth.ok", "user=JOE@example.net login=mbox-JOE backend=shell").await;

    std::fs::write(gateway.file("users.map"), "joe@example.net main\n").expect("a file of ours");
    gateway.reload().await.expect("good");
    let mut client = greeted(&gateway, Protocol::Imap).await;
    client.line("a LOGIN joe@example.net secret").await;
    client.hear("a OK <*>").await;
    gateway.event("auth.ok", "user=joe@example.net backend=main").await;
}

#[tokio::test]
async fn the_name_a_client_asks_for_decides_with_starttls_too() {
    for (tls, protocol) in
        [(TlsRule::Implicit, Protocol::Imap), (TlsRule::StartTls, Protocol::Imap), (TlsRule::Implicit, Protocol::Pop3)]
    {
        let (gateway, main, shell) = two(protocol, tls, &["sni: mail.example.net, backend: shell"]).await;
        let named = gateway.trust();
        let mut nameless = rustls::ClientConfig::clone(&named);
        nameless.enable_sni = false;
        for (config, backend) in [(named, "shell"), (Arc::new(nameless), "main")] {
            let mut client = gateway.plain().await;
            if tls == TlsRule::StartTls {
                client.hear(greeting(protocol)).await;
                client.line("x STARTTLS").await;
                client.hear("x OK <*>").await;
            }
            let mut client = client.start_tls(config).await.expect("a handshake");
            if tls == TlsRule::Implicit {
                client.hear(greeting(protocol)).await;
            }
            log_in_as(&mut client, protocol, "joe", "secret").await;
            client.hear(welcome(protocol)).await;
            gateway.event("auth.ok", &format!("user=joe backend={backend}")).await;
        }
        assert_eq!((main.logins(), shell.logins()), (1, 1), "{protocol:?} {tls:?}");
    }
}

#[tokio::test]
async fn where_the_user_decides_only_what_names_the_user_is_shown() {
    let (gateway, ..) = two(Protocol::Imap, TlsRule::Implicit, &["user: \"x*\", backend: shell"]).await;
    let mut client = gateway.tls().await;
    // The backend offers CRAM-MD5.
    client.hear("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=LOGIN] <*>").await;
    client.line("a AUTHENTICATE CRAM-MD5").await;
    client.hear("a NO [CANNOT] <*>").await;
    // A route of another protocol changes nothing here.
    let (gateway, ..) = two(Protocol::Imap, TlsRule::Implicit, &["protocol: pop3, login: \"{local}\""]).await;
    gateway.tls().await.hear("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=LOGIN AUTH=CRAM-MD5] <*>").await;
}

#[tokio::test]
async fn who_may_not_take_a_route_is_refused_and_no_backend_hears_of_it() {
    let routes = ["user: \"staff-*\", backend: shell, allow: [192.0.2.0/24]"];
    let (gateway, main, shell) = two(Protocol::Imap, TlsRule::Implicit, &routes).await;
    let mut client = greeted(&gateway, Protocol::Imap).await;
    client.line("a LOGIN staff-ann secret").await;
    client.hear("a NO [NOPERM] <*>\n* BYE <*>").await;
    client.end().await;
    gateway.event("auth.refused", "user=staff-ann reason=not_allowed").await;
    assert_eq!((main.logins(), shell.logins()), (0, 0));
}

#[tokio::test]
async fn a_user_of_whom_no_login_name_can_be_made_has_a_wrong_password() {
    let (gateway, main, shell) =
        two(Protocol::Imap, TlsRule::Implicit, &["user: \"*\", backend: shell, login: \"{domain}\""]).await;
    let mut client = greeted(&gateway, Protocol::Imap).await;
    client.line("a LOGIN joe secret").await;
    client.hear(wrong(Protocol::Imap)).await;
    gateway.event("auth.failed", "user=joe reason=bad_credentials").await;
    assert_eq!((main.logins(), shell.logins()), (0, 0));
}

/// What a service answers to a user with a password; its requests are kept.
pub(crate) async fn auth_http(
    answer: impl Fn(&str) -> String + Send + 'static,
) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (tell, requests) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.unwrap_or(0) > 0 {}
            let request = String::from_utf8(request).expect("text");
            let said = answer(&request);
            // Who was told enough may be gone.
            let _ = stream.write_all(said.as_bytes()).await;
            let _ = tell.send(request);
        }
    });
    (address, requests)
}

/// Its yes: the server, and more headers, each with its line end.
fn placed(server: SocketAddr, more: &str) -> String {
    let (ip, port) = (server.ip(), server.port());
    format!("HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: {ip}\r\nAuth-Port: {port}\r\n{more}\r\n")
}

/// Its no, after which the client may try again at once.
fn refused() -> String {
    "HTTP/1.0 200 OK\r\nAuth-Status: No\r\nAuth-Wait: 0\r\n\r\n".to_owned()
}

/// What a gateway is started with whose users a service places.
fn asking(at: SocketAddr, service: Service, main: SocketAddr) -> Setup {
    Setup::one(service, TlsRule::Implicit, main).route(&format!("auth_http: \"http://{at}/\""))
}

/// A gateway that has heard its server.
async fn learned(setup: Setup) -> Gateway {
    let gateway = setup.start().await;
    gateway.has_learned().await;
    gateway
}

#[tokio::test]
async fn a_service_of_nginx_is_asked_as_nginx_asks() {
    let shell = Post::serve(Protocol::Imap).await;
    let main = Post::serve(Protocol::Imap).await;
    let (ip, port) = (shell.address.ip(), shell.address.port());
    let (service, mut requests) = auth_http(move |request| {
        // The status line means nothing, names are taken in either case.
        let verdict = if request.contains("Auth-Pass: s%20cr%25t\r\n") {
            format!(
                "auth-status: OK\r\nAuth-Server: {ip}\r\nAuth-Port: {port}\r\nAuth-User: mbox7\r\nAuth-Pass: secret"
            )
        } else {
            "Auth-Status: Invalid login or password\r\nAuth-Wait: 0".to_owned()
        };
        format!("HTTP/1.0 500 whatever\r\n{verdict}\r\n\r\nbody")
    })
    .await;
    let route = format!("auth_http: \"http://{service}/auth?x=1\", headers: {{ X-Auth-Key: hunter2 }}");
    let gateway = learned(Setup::one(Service::Imap, TlsRule::Implicit, main.address).route(&route)).await;
    let mut client = greeted(&gateway, Protocol::Imap).await;
    client.line("a LOGIN \"joe smith\" wrong").await;
    client.hear("a NO [AUTHENTICATIONFAILED] Invalid login or password").await;
    gateway.event("auth.failed", "reason=bad_credentials").await;
    client.line("b LOGIN \"joe smith\" \"s cr%t\"").await;
    client.hear("b OK <*>").await;
    let event = gateway.event("auth.ok", "login=mbox7 backend=main").await;
    assert_eq!(event["server"], shell.address.to_string());
    assert_eq!((main.logins(), shell.logins()), (0, 1));

    let first = requests.recv().await.expect("a request");
    let lines: Vec<&str> = first.split("\r\n").collect();
    let expected = [
        "GET /auth?x=1 HTTP/1.0",
        &format!("Host: {}", service.ip()),
        "Auth-Method: plain",
        "Auth-User: joe%20smith",
        "Auth-Pass: wrong",
        "Auth-Protocol: imap",
        "Auth-Login-Attempt: 1",
        "Client-IP: 127.0.0.1",
        "Auth-SSL: on",
        "Auth-SSL-Protocol: TLSv1.3",
    ];
    assert_eq!(lines[..expected.len()], expected);
    assert!(lines[expected.len()].starts_with("Auth-SSL-Cipher: TLS_"), "{first}");
    assert_eq!(lines[expected.len() + 1..], ["X-Auth-Key: hunter2", "", ""]);
    assert!(requests.recv().await.expect("another").contains("Auth-Login-Attempt: 2\r\n"));
    assert!(!gateway.logged().contains("hunter2") && !gateway.logged().contains("s cr%t"));
}

#[tokio::test]
async fn a_service_that_says_nothing_of_use_is_no_verdict() {
    let cases = [
        ("HTTP/1.0 200 OK\r\n\r\n", "no Auth-Status"),
        ("HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Port: 143\r\n\r\n", "no Auth-Server"),
        ("HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: 127.0.0.1\r\nAuth-Port: x\r\n\r\n", "not a port"),
        ("HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: a b\r\nAuth-Port: 1\r\n\r\n", "no address"),
        ("HTTP/1.0 200 OK\r\nAuth-Sta", "in the middle of its answer"),
        ("", "in the middle of its answer"),
    ];
    for protocol in PROTOCOLS {
        let main = Post::serve(protocol).await;
        for (answer, said) in cases {
            let (address, _requests) = auth_http(move |_| answer.to_owned()).await;
            let gateway = learned(asking(address, service(protocol), main.address)).await;
            let mut client = greeted(&gateway, protocol).await;
            log_in_as(&mut client, protocol, "joe", "secret").await;
            client.hear(not_now(protocol)).await;
            let event = gateway.event("auth.error", "user=joe reason=backend_down").await;
            assert!(event["detail"].as_str().unwrap_or_default().contains(said), "{said}: {event}");
        }
        assert_eq!(main.logins(), 0);
    }
}

#[tokio::test]
async fn a_services_words_reach_the_client_and_without_time_for_another_try_the_session_ends() {
    for (protocol, verdict, heard, event) in [
        (
            Protocol::Imap,
            "Auth-Status: Ask the help desk",
            "a NO [AUTHENTICATIONFAILED] Ask the help desk",
            "auth.failed",
        ),
        (Protocol::Imap, "Auth-Status: [EXPIRED] Too old", "a NO [EXPIRED] Too old", "auth.failed"),
        (
            Protocol::Pop3,
            "Auth-Status: Temporary server problem",
            "-ERR [SYS/TEMP] Temporary server problem",
            "auth.error",
        ),
        (Protocol::Smtp, "Auth-Status: No", "535 5.7.0 No", "auth.failed"),
        (Protocol::Smtp, "Auth-Status: Later\r\nAuth-Error-Code: 451 4.3.0", "451 4.3.0 Later", "auth.error"),
        (Protocol::Smtp, "Auth-Status: No\r\nAuth-Error-Code: 220 go ahead", "535 5.7.0 No", "auth.failed"),
        (Protocol::Smtp, "Auth-Status: Temporary server problem", "454 4.7.0 Temporary server problem", "auth.error"),
        (
            Protocol::Smtp,
            "Auth-Status: Bye\r\nAuth-Error-Code: 421 4.7.0\r\nAuth-Wait: 0",
            "421 4.7.0 Bye",
            "auth.error",
        ),
    ] {
        let main = Post::serve(protocol).await;
        let (address, _requests) = auth_http(move |_| format!("HTTP/1.0 200 OK\r\n{verdict}\r\n\r\n")).await;
        let gateway = learned(asking(address, service(protocol), main.address)).await;
        let mut client = greeted(&gateway, protocol).await;
        log_in_as(&mut client, protocol, "joe", "secret").await;
        client.hear(heard).await;
        client.end().await;
        gateway.event(event, "user=joe").await;
        gateway.event("session.closed", "reason=auth_http").await;
    }
}

#[tokio::test]
async fn a_service_may_ask_to_be_asked_again() {
    let main = Post::serve(Protocol::Imap).await;
    let (server, asked) = (main.address, AtomicUsize::new(0));
    let (address, _requests) = auth_http(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => "HTTP/1.0 200 OK\r\nAuth-Status: WAIT\r\nAuth-Wait: 0\r\n\r\n".to_owned(),
        _ => placed(server, ""),
    })
    .await;
    let gateway = learned(asking(address, Service::Imap, server)).await;
    let mut client = greeted(&gateway, Protocol::Imap).await;
    client.line("a LOGIN joe secret").await;
    client.hear("a OK <*>").await;
    assert_eq!(main.logins(), 1);
}

#[tokio::test]
async fn a_services_ok_is_the_verdict_on_a_sender_where_it_checks_senders() {
    let smtp = Backend::listen(Cut::Whole).await;
    let to = smtp.address;
    let (address, _requests) = auth_http(move |request| match request.contains("Auth-Pass: secret\r\n") {
        true => placed(to, ""),
        false => refused(),
    })
    .await;
    let gateway = asking(address, Service::Submission, to).with("auth", "submission: auth_http").start().await;
    let mut asked = smtp.dialled().await;
    asked.line("220 old.example.net ESMTP").await;
    asked.hear("EHLO mail.example.net").await;
    asked.line("250 old.example.net").await;
    gateway.has_learned().await;
    let mut client = greeted(&gateway, Protocol::Smtp).await;
    log_in_as(&mut client, Protocol::Smtp, "joe", "wrong").await;
    client.hear("535 5.7.0 No").await;
    log_in_as(&mut client, Protocol::Smtp, "joe", "secret").await;
    let mut old = smtp.dialled().await;
    old.line("220 old.example.net ESMTP").await;
    old.hear("EHLO mail.example.net").await;
    old.line("250 old.example.net").await;
    client.hear("235 2.7.0 <*>").await;
    client.line("MAIL FROM:<joe@example.net>").await;
    old.hear("MAIL FROM:<joe@example.net>").await;
}

/// The first found that a challenge was begun with a server the address may not go to.
#[tokio::test]
async fn a_route_that_is_not_for_an_address_is_not_for_it_before_the_user_is_known_either() {
    let routes = ["sni: mail.example.net, backend: shell, allow: [192.0.2.0/24]"];
    let (gateway, main, shell) = two(Protocol::Imap, TlsRule::Implicit, &routes).await;
    let (before_main, before_shell) = (main.dialled(), shell.dialled());
    let mut client = greeted(&gateway, Protocol::Imap).await;
    client.line("a AUTHENTICATE CRAM-MD5").await;
    client.hear("a NO [NOPERM] <*>\n* BYE <*>").await;
    client.end().await;
    assert_eq!((main.dialled(), shell.dialled()), (before_main, before_shell));
}

/// An old POP3 server takes the first word of a name, and a route took all of it.
#[tokio::test]
async fn a_blank_in_the_name_is_no_way_around_a_route() {
    let routes = ["user: admin, backend: shell, allow: [192.0.2.0/24]"];
    let (gateway, main, shell) = two(Protocol::Pop3, TlsRule::Implicit, &routes).await;
    for name in ["admin", "admin x", "admin ", "ADMIN"] {
        let mut client = greeted(&gateway, Protocol::Pop3).await;
        client.line(&format!("USER {name}")).await;
        client.hear("+OK <*>").await;
        client.line("PASS secret").await;
        client.hear("-ERR [SYS/PERM] <*>").await;
    }
    assert_eq!((main.logins(), shell.logins()), (0, 0));
}

/// The service saw joe, and the old server heard "boss" before the master user it was told of.
#[tokio::test]
async fn nobody_but_whom_the_service_saw_is_logged_in() {
    let backend = Backend::listen(Cut::Whole).await;
    let to = backend.address;
    let (service, _requests) =
        auth_http(move |_| placed(to, "Auth-User: joe*master\r\nAuth-Pass: topsecret\r\n")).await;
    let gateway = asking(service, Service::Imap, to).start().await;
    backend.teach(Protocol::Imap).await;
    gateway.has_learned().await;
    let mut client = greeted(&gateway, Protocol::Imap).await;
    // boss, joe, pw
    client.line("a AUTHENTICATE PLAIN Ym9zcwBqb2UAcHc=").await;
    let mut old = backend.dialled().await;
    old.line("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready").await;
    // joe*master, topsecret, and nobody before them
    old.hear(&format!("g1 AUTHENTICATE PLAIN {}", plain("joe*master", "topsecret"))).await;
    old.line("g1 OK in").await;
    client.hear("a OK <*>").await;
    assert!(!gateway.logged().contains("topsecret"));
}

/// Each alias was a user with limits of its own.
#[tokio::test]
async fn behind_a_service_a_customer_is_one_user_whatever_he_calls_himself() {
    let main = Post::serve(Protocol::Imap).await;
    let to = main.address;
    let (service, _requests) = auth_http(move |_| placed(to, "Auth-User: joe\r\n")).await;
    let setup = asking(service, Service::Imap, to).with("limits", "sessions_per_user: 1");
    let gateway = learned(setup.with("backend", "max_sessions: 9")).await;
    let mut first = greeted(&gateway, Protocol::Imap).await;
    first.line("a LOGIN joe secret").await;
    first.hear("a OK <*>").await;
    let mut second = greeted(&gateway, Protocol::Imap).await;
    second.line("a LOGIN joe+1 secret").await;
    second.hear("a NO [LIMIT] <*>\n* BYE <*>").await;
}

/// The service was the only one that named the server, so each session had one of its own with a count of its own.
#[tokio::test]
async fn a_server_that_only_a_service_names_has_its_bound_too() {
    let (main, shell) = (Post::serve(Protocol::Imap).await, Post::serve(Protocol::Imap).await);
    let to = shell.address;
    let (service, _requests) = auth_http(move |_| placed(to, "")).await;
    let setup = asking(service, Service::Imap, main.address).with("backend", "max_sessions: 1");
    let gateway = learned(setup).await;
    let mut first = greeted(&gateway, Protocol::Imap).await;
    first.line("a LOGIN joe secret").await;
    first.hear("a OK <*>").await;
    let mut second = greeted(&gateway, Protocol::Imap).await;
    second.line("a LOGIN ann secret").await;
    second.hear("a NO [UNAVAILABLE] <*>").await;
    drop(first);
    gateway.event("session.closed", "user=joe").await;
    shell.is_left().await;
    second.line("b LOGIN ann secret").await;
    second.hear("b OK <*>").await;
}

/// A login that failed had chosen the server for the mail that came after it.
#[tokio::test]
async fn a_strangers_mail_goes_where_strangers_mail_goes_whatever_login_came_before() {
    let (main, shell) = (Post::serve(Protocol::Smtp).await, Post::serve(Protocol::Smtp).await);
    let gateway = Setup::one(Service::Smtp, TlsRule::Implicit, main.address)
        .other_backend("shell", Protocol::Smtp, shell.address)
        .route("user: \"*@shell.example.net\", backend: shell")
        .start()
        .await;
    gateway.event("backend.up", "backend=main").await;
    gateway.event("backend.up", "backend=shell").await;
    let mut client = greeted(&gateway, Protocol::Smtp).await;
    log_in_as(&mut client, Protocol::Smtp, "x@shell.example.net", "wrong").await;
    client.hear("535 5.7.8 <*>").await;
    client.line("MAIL FROM:<a@b.example>\r\nRCPT TO:<joe@example.net>\r\nDATA").await;
    client.hear("250 <*>\n250 <*>\n354 <*>").await;
    client.line("Subject: x\r\n\r\nx\r\n.").await;
    client.hear("250 <*>").await;
    assert_eq!((main.messages().len(), shell.messages().len()), (1, 0));
}

/// Good logins were remembered under the service's name alone, guesses under the typed one: so anybody could lock a customer out.
#[tokio::test]
async fn a_customer_behind_a_service_gets_in_while_strangers_guess_at_the_name_he_types() {
    let main = Post::serve(Protocol::Imap).await;
    let to = main.address;
    let (service, _requests) = auth_http(move |request| match request.contains("Auth-Pass: secret\r\n") {
        true => placed(to, "Auth-User: mbox7\r\n"),
        false => refused(),
    })
    .await;
    let setup = asking(service, Service::Imap, to).with("limits", "auth_failures_per_user: 2/h, exempt: []");
    let gateway = learned(setup).await;
    let from = async |source: &str| {
        let source = source.parse().expect("an address");
        let client = Talk::connect(gateway.address(), Some(source), Cut::Whole).await.expect("it listens");
        let mut client = client.start_tls(gateway.trust()).await.expect("a handshake");
        client.hear(greeting(Protocol::Imap)).await;
        client
    };
    let mut joe = from("127.6.0.1").await;
    joe.line("a LOGIN joe secret").await;
    joe.hear("a OK <*>").await;
    for (guess, heard) in [
        ("one", "a NO [AUTHENTICATIONFAILED] <*>"),
        ("two", "a NO [AUTHENTICATIONFAILED] <*>"),
        ("three", "a NO [UNAVAILABLE] <*>"),
    ] {
        let mut stranger = from("127.5.0.1").await;
        stranger.line(&format!("a LOGIN joe {guess}")).await;
        stranger.hear(heard).await;
    }
    // His telephone, elsewhere, with the right password.
    let mut joe = from("127.6.0.2").await;
    joe.line("a LOGIN joe secret").await;
    joe.hear("a OK <*>").await;
}
