//! A webmail behind the help page, in front of an old web server in plaintext.

use super::client::{Client, NAME};
use super::gateway::{Folder, Gateway};
use super::help_page::{Answer, ask, connect, request, tls};
use super::web_server::{self, WebServer};
use rustls::{ClientConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const LISTENERS: &str = "  imaps: { address: \"127.0.0.1:0\", protocol: imap }
  help: { address: \"127.0.0.1:0\", protocol: https }
  lead: { address: \"127.0.0.1:0\", protocol: https, tls: off }";
const WEBMAIL: &str = "webmail.example.net";

/// A gateway before the web server at three places, with further keys of `portal`.
fn start(server: SocketAddr, more: &str) -> Gateway {
    start_with(server, more, "")
}

fn start_with(server: SocketAddr, more: &str, top: &str) -> Gateway {
    let portal = format!(
        "portal: {{ ports: {{ help: 443 }}, webmail: [{{ path: /webmail/, to: \"http://{server}/old/\" }}, {{ path: /mail/, to: \"http://{server}\" }}, {{ name: {WEBMAIL}, to: \"http://{server}\" }}]{more} }}\n{top}"
    );
    Gateway::start(LISTENERS, &portal)
}

fn browser(gateway: &Gateway, name: &str) -> StreamOwned<ClientConnection, TcpStream> {
    tls(&gateway.folder.root(), gateway.address("help"), name, &["http/1.1"]).expect("TLS")
}

fn get(gateway: &Gateway, path: &str) -> Answer {
    ask(browser(gateway, NAME), &request("GET", path, ""))
}

/// These very octets.
fn raw(gateway: &Gateway, octets: &str) -> Answer {
    ask(browser(gateway, NAME), octets)
}

fn last(server: &WebServer) -> String {
    server.asked().last().expect("it was asked").clone()
}

#[test]
fn it_is_below_its_path_and_at_its_name() {
    let server = web_server::serve();
    let gateway = start(server.address, "");
    for (name, path, seen) in [
        (NAME, "/webmail/", "/old/"),
        (NAME, "/webmail/src/read.php?id=1&a=%2F..%2F", "/old/src/read.php?id=1&a=%2F..%2F"),
        (NAME, "/webmail/a/./b/../c%20d", "/old/a/c%20d"),
        (NAME, "/mail/config", "/config"),
        (NAME, "/mail//evil.example/", "/evil.example/"),
        (WEBMAIL, "/", "/"),
        (WEBMAIL, "/ca.pem", "/ca.pem"),
        (WEBMAIL, "//evil.example/", "/evil.example/"),
    ] {
        let answer =
            ask(browser(&gateway, name), &format!("GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"));
        answer.is(200);
        assert_eq!(answer.header("x-frame-options"), Some("SAMEORIGIN"), "its own headers, not the page's");
        assert_eq!(answer.header("content-security-policy"), None);
        let head = answer.text();
        assert!(head.starts_with(&format!("GET {seen} HTTP/1.1\r\n")), "{path}: {head}");
        assert!(head.contains(&format!("\r\nhost: {name}\r\n")), "{head}");
    }
    // The page stays where it is, and leads there.
    let page = get(&gateway, "/");
    page.is(200);
    for link in ["href=\"/webmail/\"", "href=\"https://webmail.example.net/\""] {
        assert!(page.text().contains(link), "{link}");
    }
    get(&gateway, "/mail/config-v1.1.xml").is(200);
    assert!(
        get(&gateway, "/mail/config-v1.1.xml")
            .text()
            .contains("<loginPage url=\"https://mail.example.net/webmail/\"/>")
    );
    get(&gateway, "/other").is(404);
    let slash = get(&gateway, "/webmail?a=b");
    slash.is(308);
    assert_eq!(slash.header("location"), Some("/webmail/?a=b"));
    assert_eq!(gateway.event("session.closed")["reason"], "webmail");
}

#[test]
fn the_old_server_hears_of_the_browser_from_us_alone() {
    let server = web_server::serve();
    let gateway = start(server.address, "");
    let forged = "X-Forwarded-For: 10.9.9.9\r\nX_Forwarded_For: 10.9.9.9\r\nForwarded: for=10.9.9.9\r\nX-Real-IP: 10.9.9.9\r\nX-Forwarded-Proto: http\r\nProxy: http://10.9.9.9/\r\nConnection: X-Secret, close\r\nX-Secret: 10.9.9.9\r\nTE: trailers\r\nUpgrade: h2c\r\nCookie: a=b\r\nX-Plain: stays\r\n";
    let answer = raw(&gateway, &format!("GET /webmail/ HTTP/1.1\r\nHost: {NAME}\r\n{forged}\r\n"));
    answer.is(200);
    let head = answer.text().to_ascii_lowercase();
    assert!(!head.contains("10.9.9.9") && !head.contains("h2c") && !head.contains("\r\nte:"), "{head}");
    for line in [
        "x-forwarded-for: 127.0.0.1",
        "x-real-ip: 127.0.0.1",
        "forwarded: for=127.0.0.1;proto=https",
        "x-forwarded-proto: https",
        "x-forwarded-host: mail.example.net",
        "connection: close",
        "cookie: a=b",
        "x-plain: stays",
    ] {
        assert_eq!(head.matches(&format!("\r\n{line}\r\n")).count(), 1, "{line} in\n{head}");
    }
}

#[test]
fn a_login_by_a_form_stays_with_us_and_under_tls() {
    let server = web_server::serve();
    let gateway = start(server.address, "");
    let answer = ask(browser(&gateway, NAME), &request("POST", "/webmail/login", "user=joe&pass=secret"));
    answer.is(302);
    assert_eq!(answer.header("location"), Some("https://mail.example.net/webmail/inbox?new=1"));
    assert_eq!(answer.header("set-cookie"), Some("SESSION=of-joe; path=/webmail/; Secure; SameSite=Lax"));
    assert_eq!(answer.header("strict-transport-security"), None);
    let inbox = raw(
        &gateway,
        &format!(
            "GET /webmail/inbox?new=1 HTTP/1.1\r\nHost: {NAME}\r\nCookie: SESSION=of-joe\r\nConnection: close\r\n\r\n"
        ),
    );
    assert!(String::from_utf8_lossy(&inbox.body).contains("two messages for joe"), "{}", inbox.head);
    assert!(!gateway.said().contains("secret"), "{}", gateway.said());
}

#[test]
fn large_bodies_pass_without_being_gathered() {
    let server = web_server::serve();
    let gateway = start(server.address, "");
    get(&gateway, "/webmail/").is(200);
    let memory = || gateway.proc_status("VmHWM")[0].parse::<u64>().expect("KiB");
    let before = memory();
    let mut stream = browser(&gateway, NAME);
    write!(
        stream,
        "POST /webmail/upload HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        50 << 20
    )
    .expect("it listens");
    for _ in 0..50 {
        stream.write_all(&vec![b'x'; 1 << 20]).expect("it reads");
    }
    let answer = ask(stream, "");
    answer.is(201);
    assert_eq!(answer.text(), "52428800 octets");
    let answer = get(&gateway, "/webmail/download");
    answer.is(200);
    assert_eq!(answer.header("trailer"), None);
    assert!(answer.body.len() > 50 << 20, "{}", answer.body.len());
    assert!(answer.body.ends_with(b"\r\n0\r\n\r\n"), "to its end, and without a trailer");
    let more = memory() - before;
    assert!(more < 16 << 10, "{more} KiB more");
    assert!(gateway.event("session.closed")["bytes_in"].as_u64().is_some());
}

#[test]
fn a_websocket_passes_both_ways_and_ends_with_either_side() {
    let server = web_server::serve();
    let mut gateway = start_with(server.address, "", "runtime: { drain_timeout: 1s }");
    let open = |gateway: &Gateway| {
        let mut stream = browser(gateway, NAME);
        let asks = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13";
        write!(stream, "GET /webmail/socket HTTP/1.1\r\nHost: {NAME}\r\n{asks}\r\n\r\nearly ").expect("it listens");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\nwelcome early ") {
            let mut octet = [0];
            assert_eq!(stream.read(&mut octet).expect("an answer"), 1, "{}", String::from_utf8_lossy(&head));
            head.extend(octet);
        }
        let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101 ") && head.contains("sec-websocket-accept: x\r\n"), "{head}");
        assert!(head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"), "{head}");
        stream
    };
    let mut stream = open(&gateway);
    assert!(last(&server).to_ascii_lowercase().contains("\r\nupgrade: websocket\r\n"), "{}", last(&server));
    let piece = vec![7; 100_000];
    stream.write_all(&piece).expect("it reads");
    let mut back = vec![0; piece.len()];
    stream.read_exact(&mut back).expect("all of it comes back");
    assert!(back == piece);
    drop(stream);
    let closed = gateway.event("session.closed");
    assert_eq!(closed["reason"], "webmail");
    assert!(closed["bytes_in"].as_u64() > Some(100_000) && closed["bytes_out"].as_u64() > Some(100_000), "{closed}");
    let mut stream = open(&gateway);
    // A server that vanished is noticed: the kernel's timer for that runs (proc(5)) on the connection to it.
    let (away, runs) = (format!("0100007F:{:04X}", server.address.port()), "02:");
    super::outcome::until("a keepalive", || {
        let sockets = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let mut connected = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let is_kept = |socket: &Vec<&str>| socket[2] == away && socket[3] == "01" && socket[5].starts_with(runs);
        connected.any(|socket| is_kept(&socket)).then_some(())
    });
    // One that is open does not hold up the end of the gateway.
    gateway.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(stream.read(&mut [0]).unwrap_or_default(), 0);
    assert_eq!(gateway.ended(), Some(0));
}

#[test]
fn a_server_that_is_away_or_ill_is_told_in_words() {
    let server = web_server::serve();
    let gateway = start(server.address, ", webmail_timeout: 2s");
    for (path, status) in [("garbage", 502), ("nothing", 502), ("unasked", 502), ("slow", 504), ("folded", 200)] {
        let answer = get(&gateway, &format!("/webmail/{path}?password=hush"));
        answer.is(status);
        if status != 200 {
            assert!(
                answer.text().contains("Your mail is safe") && !answer.text().contains("ESMTP"),
                "{}",
                answer.text()
            );
            let policy = answer.header("content-security-policy").expect("a policy");
            assert!(policy.starts_with("default-src 'none'"), "{policy}");
            assert_eq!(answer.header("retry-after"), Some("10"));
        }
    }
    // What was cut off is not taken for the whole.
    let half = get(&gateway, "/webmail/half");
    half.is(200);
    assert_eq!((half.header("content-length"), half.text()), (Some("1000"), "only this"));
    gateway.message("answers again");
    assert!(!gateway.said().contains("hush") && !gateway.said().contains("/webmail/"), "{}", gateway.said());
}

#[test]
fn a_plug_that_is_pulled_is_noticed_and_so_is_its_return() {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let gateway = start(address, "");
    for _ in 0..3 {
        get(&gateway, "/webmail/").is(502);
    }
    gateway.message(&format!("the webmail at {address} does not answer: cannot connect to {address}"));
    let lines = gateway.said().matches("does not answer").count();
    assert_eq!(lines, 1, "once, not at each request");
    let _server = web_server::serve_at(address);
    get(&gateway, "/webmail/").is(200);
    gateway.message(&format!("the webmail at {address} answers again"));
}

#[test]
fn under_tls_it_is_the_server_that_it_should_be_or_none() {
    // Another gateway's help page is the web server that knows TLS.
    let there = Folder::new();
    there.configure(LISTENERS, "");
    let text = std::fs::read_to_string(there.at("gatepost.yaml")).expect("written");
    there.write("gatepost.yaml", text.replace("hostname: mail.example.net", "hostname: localhost"));
    let server = Gateway::start_in(&there);
    let (port, ca) = (server.address("help").port(), there.at("state/ca/root.pem").display().to_string());
    let portal = format!(
        "portal: {{ webmail: [{{ path: /webmail/, to: \"https://localhost:{port}/\", ca: \"{ca}\" }}, {{ path: /name/, to: \"https://127.0.0.1:{port}/\", ca: \"{ca}\" }}, {{ path: /stranger/, to: \"https://localhost:{port}/\" }}] }}"
    );
    let gateway = Gateway::start(LISTENERS, &portal);
    let answer = get(&gateway, "/webmail/");
    answer.is(200);
    assert!(String::from_utf8_lossy(&answer.body).contains("<h1>localhost</h1>"), "{}", answer.head);
    get(&gateway, "/name/").is(502);
    gateway.message(&format!("the webmail at 127.0.0.1:{port} does not answer: 127.0.0.1:{port}: "));
    get(&gateway, "/stranger/").is(502);
    gateway.message(&format!("the webmail at localhost:{port} does not answer: localhost:{port}: "));
}

#[test]
fn what_two_readers_would_read_differently_is_not_passed_on() {
    let server = web_server::serve();
    let gateway = start(server.address, "");
    let host = format!("Host: {NAME}\r\nConnection: close\r\n");
    for path in [
        "/webmail/%2e%2e/private",
        "/webmail/..%2fprivate",
        "/webmail/..;/private",
        "/webmail/..%5cprivate",
        "/webmail/%252e%252e/private",
        "/webmail/a%00",
        "/webmail/a%0d%0ab",
        "/webmail/%c0%ae%c0%ae/private",
        "/webmail/..%u002fprivate",
        "/webmail/..%20/private",
    ] {
        raw(&gateway, &format!("GET {path} HTTP/1.1\r\n{host}\r\n")).is(400);
    }
    // Out of it is out of it: that is the page's.
    raw(&gateway, &format!("GET /webmail/../private HTTP/1.1\r\n{host}\r\n")).is(404);
    for request in [
        format!("GET /webmail/ HTTP/1.1\r\n{host}X: a\r\n folded\r\n\r\n"),
        format!("GET /webmail/ HTTP/1.1\r\n{host}X : a\r\n\r\n"),
        format!("GET /webmail/ HTTP/1.1\r\n{host}Host: other.example\r\n\r\n"),
        format!("POST /webmail/ HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        format!("POST /webmail/ HTTP/1.1\r\n{host}Content-Length: +1\r\n\r\na"),
        format!("POST /webmail/ HTTP/1.1\r\n{host}Transfer-Encoding: xchunked\r\n\r\na"),
        format!("POST /webmail/ HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("GET http://{NAME}/webmail/ HTTP/1.1\r\n{host}\r\n"),
        "GET /webmail/ HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(),
        "GET /webmail/ HTTP/1.1\r\nHost: a@b.example.net\r\nConnection: close\r\n\r\n".to_owned(),
        format!("TRACE /webmail/ HTTP/1.1\r\n{host}\r\n"),
        format!("GET /webmail/a b HTTP/1.1\r\n{host}\r\n"),
    ] {
        let answer = raw(&gateway, &request);
        assert!(
            answer.head.starts_with("HTTP/1.1 400 ") || answer.head.starts_with("HTTP/1.0 400 "),
            "{request}: {}",
            answer.head
        );
    }
    assert!(server.asked().is_empty(), "{:?}", server.asked());
    // Two lengths: one of them is written anew, and nothing that stands behind is another request.
    let smuggled = "0\r\n\r\nGET /webmail/smuggled HTTP/1.1\r\nHost: mail.example.net\r\n\r\n";
    for lengths in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5"]
    {
        let answer = raw(&gateway, &format!("POST /webmail/ HTTP/1.1\r\nHost: {NAME}\r\n{lengths}\r\n\r\n{smuggled}"));
        answer.is(200);
        let head = last(&server).to_ascii_lowercase();
        assert!(head.contains("transfer-encoding: chunked") && !head.contains("content-length"), "{head}");
        assert_eq!(answer.header("connection"), Some("close"));
    }
    assert_eq!(server.asked().len(), 2, "{:?}", server.asked());
    // Behind a name of somebody else's nothing is shown, but the way.
    let astray = raw(&gateway, "GET /webmail/?a HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    astray.is(308);
    assert_eq!(astray.header("location"), Some("https://mail.example.net/webmail/?a"));
    raw(&gateway, "POST /webmail/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        .is(421);
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn who_comes_in_the_clear_is_led_to_tls_and_to_nobody_else() {
    let server = web_server::serve();
    let gateway = start(server.address, "");
    for (host, path, place) in [
        (NAME, "/webmail/a?b=c", "https://mail.example.net/webmail/a?b=c"),
        ("MAIL.example.net:80", "/webmail", "https://mail.example.net/webmail"),
        (WEBMAIL, "/a/b?c", "https://webmail.example.net/a/b?c"),
        ("webmail.example.net.:80", "//evil.example/", "https://webmail.example.net//evil.example/"),
        ("evil.example", "/webmail/a", "https://mail.example.net/webmail/a"),
        ("evil.example", "/a", "https://mail.example.net/"),
        (NAME, "/webmail/../../x", "https://mail.example.net/"),
        (NAME, "/webmail/%2e%2e/x", "https://mail.example.net/"),
        (NAME, "/mail/config-v1.1.xml", "https://mail.example.net/mail/config-v1.1.xml"),
    ] {
        for method in ["GET", "POST"] {
            let asked =
                format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            let answer = ask(connect(gateway.address("lead")), &asked);
            answer.is(308);
            assert_eq!(answer.header("location"), Some(place), "{host} {path}");
        }
    }
    assert!(server.asked().is_empty());
}

#[test]
fn a_browser_on_a_mail_port_gets_the_page_and_no_webmail() {
    let server = web_server::serve();
    let gateway = start(server.address, "");
    let asked = |path: &str| {
        let stream = tls(&gateway.folder.root(), gateway.address("imaps"), NAME, &["http/1.1"]).expect("TLS");
        ask(stream, &request("GET", path, ""))
    };
    asked("/webmail/").is(404);
    asked("/").is(200);
    assert!(asked("/").text().contains("href=\"https://mail.example.net/webmail/\""));
    assert!(server.asked().is_empty());
}

#[test]
fn ten_browsers_behind_one_router_have_room_and_a_hundred_do_not_take_it_all() {
    let server = web_server::serve();
    let gateway = start(server.address, ", webmail_timeout: 60s");
    let slow: Vec<_> = (0..64)
        .map(|_| {
            let mut stream = browser(&gateway, NAME);
            stream.write_all(request("GET", "/webmail/slow", "").as_bytes()).expect("it listens");
            stream
        })
        .collect();
    super::outcome::until("all of them to be there", || (server.asked().len() == 64).then_some(()));
    let full = get(&gateway, "/webmail/");
    full.is(503);
    assert!(full.text().contains("too much to do"), "{}", full.text());
    get(&gateway, "/").is(200);
    drop(slow);
    super::outcome::until("their places to be free", || {
        get(&gateway, "/webmail/").head.starts_with("HTTP/1.1 200 ").then_some(())
    });
}

#[test]
fn a_banned_address_guesses_no_further_there() {
    let server = web_server::serve();
    let limits = "limits: { exempt: [], auth_failures_per_ip: 2/10min, failure_delay: 0s, ban: 30min }";
    let gateway = start_with(server.address, "", limits);
    get(&gateway, "/webmail/").is(200);
    for password in ["one", "two", "three"] {
        let Ok(mut client) = Client::tls(gateway.address("imaps"), &gateway.folder.root()) else { break };
        client.line();
        client.ask(&format!("a LOGIN joe {password}"), "a NO");
    }
    gateway.event("ban.added");
    let answer = get(&gateway, "/webmail/");
    answer.is(403);
    assert!(answer.text().contains("has to wait") && answer.text().contains("href=\"https://mail.example.net/\""));
    get(&gateway, "/").is(200);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_load_balancer_says_who_the_browser_is() {
    let server = web_server::serve();
    let listeners = LISTENERS.replace("protocol: https }", "protocol: https, proxy_protocol: [127.0.0.0/8] }");
    let gateway = Gateway::start(&listeners, &format!("portal: {{ webmail: \"http://{}\" }}", server.address));
    let mut socket = connect(gateway.address("help"));
    socket.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n").expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("an option");
    let answer = ask(
        super::help_page::tls_over(&gateway.folder.root(), socket, NAME, &["http/1.1"]).expect("TLS"),
        &request("GET", "/webmail/a", ""),
    );
    answer.is(200);
    assert!(
        answer.text().starts_with("GET /a ") && answer.text().contains("x-forwarded-for: 192.0.2.7\r\n"),
        "{}",
        answer.text()
    );
}

#[test]
fn a_reload_brings_another_with_a_certificate_for_its_name() {
    let server = web_server::serve();
    // A reload knows listeners again by their addresses.
    let listeners = LISTENERS.replace("help: { address: \"127.0.0.1:0", "help: { address: \"127.0.0.2:0");
    let gateway = Gateway::start(&listeners, "");
    let asked = || request("GET", "/", "").replace(NAME, WEBMAIL);
    let before = tls(&gateway.folder.root(), gateway.address("help"), WEBMAIL, &["http/1.1"]).map(drop);
    assert!(before.is_err(), "no certificate is for it yet");
    let portal = format!("portal: {{ webmail: [{{ name: {WEBMAIL}, to: \"http://{}\" }}] }}", server.address);
    let text = std::fs::read_to_string(gateway.folder.at("gatepost.yaml")).expect("written");
    gateway.folder.write("gatepost.yaml", format!("{text}{portal}\n"));
    gateway.signal(nix::sys::signal::Signal::SIGHUP);
    gateway.event("config.reloaded");
    ask(browser(&gateway, WEBMAIL), &asked()).is(200);
    assert!(last(&server).contains(&format!("\r\nhost: {WEBMAIL}\r\n")), "{}", last(&server));
}

#[test]
fn a_check_online_dials_it() {
    let server = web_server::serve();
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let folder = Folder::new();
    folder.configure(LISTENERS, &format!("portal: {{ webmail: \"http://{}\" }}", server.address));
    folder.gatepost(&["check", "--online"]).ends(0, &[&format!("dialling webmail {} …", server.address)]);
    folder.configure(LISTENERS, &format!("portal: {{ webmail: \"http://{free}\" }}"));
    folder.gatepost(&["check", "--online"]).ends(1, &[&format!("webmail {free}: cannot connect to {free}")]);
}
