//! Behind a load balancer: whose word on the client's address is believed, and what becomes of the others.

use crate::backend::Post;
use crate::gateway::{Gateway, Setup};
use crate::mail::{PROTOCOLS, greeting, log_in, welcome, wrong};
use crate::talk::{Cut, Talk, soon};
use gatepost::proto::{Protocol, Service, TlsRule};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// The load balancer, and what the listener says of it.
const BALANCER: &str = "127.9.9.9";
const BELIEVED: &str = "proxy_protocol: [127.9.0.0/16]";

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

async fn gateway(
    protocol: Protocol,
    tls: TlsRule,
    listener: &str,
    section: &'static str,
    keys: &str,
) -> (Gateway, Post) {
    let service = match protocol {
        Protocol::Imap => Service::Imap,
        Protocol::Pop3 => Service::Pop3,
        Protocol::Smtp => Service::Submission,
    };
    let post = Post::serve(protocol).await;
    let mut setup = Setup::new().listener(service, tls, listener).backend(protocol, post.address);
    if !keys.is_empty() {
        setup = setup.with(section, keys);
    }
    let gateway = setup.start().await;
    gateway.has_learned().await;
    (gateway, post)
}

fn v1(client: &str) -> Vec<u8> {
    let client: SocketAddr = client.parse().expect("an address");
    let (family, to) = if client.is_ipv4() { ("TCP4", "198.51.100.1") } else { ("TCP6", "2001:db8::1") };
    format!("PROXY {family} {} {to} {} 993\r\n", client.ip(), client.port()).into_bytes()
}

fn v2(client: &str) -> Vec<u8> {
    let client: SocketAddr = client.parse().expect("an address");
    let (family, from, to) = match client.ip() {
        IpAddr::V4(ip) => (0x11, ip.octets().to_vec(), vec![198, 51, 100, 1]),
        IpAddr::V6(ip) => (0x21, ip.octets().to_vec(), Ipv6Addr::LOCALHOST.octets().to_vec()),
    };
    // A NOOP of five bytes behind the addresses, as senders put TLVs there.
    let block = [&from[..], &to, &client.port().to_be_bytes(), &993_u16.to_be_bytes(), &[4, 0, 2, 0, 0]].concat();
    let length = u16::try_from(block.len()).expect("short");
    [SIGNATURE, &[0x21, family], &length.to_be_bytes(), &block].concat()
}

/// A health check's: the balancer speaks for itself.
fn local() -> Vec<u8> {
    [SIGNATURE, &[0x20, 0, 0, 0]].concat()
}

/// How a header reaches the gateway.
#[derive(Debug, Clone, Copy)]
enum Sent {
    /// In one segment with the client's first bytes, as load balancers like to.
    WithTheClientsBytes,
    /// As soon as there is a connection, whatever the client does.
    First,
    /// Byte by byte.
    Dripped,
}

/// A load balancer for one connection: its address is the one to connect to.
async fn balancer(gateway: &Gateway, header: Vec<u8>, sent: Sent) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (address, to) = (listener.local_addr().expect("bound"), gateway.address());
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await?;
        let mut server = from_balancer(to).await;
        match sent {
            Sent::WithTheClientsBytes => {
                let mut bytes = header;
                client.read_buf(&mut bytes).await?;
                server.write_all(&bytes).await?;
            }
            Sent::First => server.write_all(&header).await?,
            Sent::Dripped => {
                for byte in header {
                    server.write_all(&[byte]).await?;
                    tokio::task::yield_now().await;
                }
            }
        }
        copy_bidirectional(&mut client, &mut server).await
    });
    address
}

async fn from_balancer(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_nodelay(true).expect("an option");
    socket.bind(SocketAddr::new(BALANCER.parse().expect("an address"), 0)).expect("loopback is ours");
    socket.connect(to).await.expect("it listens")
}

async fn through(gateway: &Gateway, header: Vec<u8>, sent: Sent) -> Talk {
    let address = balancer(gateway, header, sent).await;
    Talk::connect(address, None, Cut::Whole).await.expect("the load balancer listens")
}

/// The text of a field.
fn text<'a>(event: &'a serde_json::Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_client_under_tls_is_who_the_header_says_however_it_is_cut() {
    for protocol in PROTOCOLS {
        let (gateway, _post) = gateway(protocol, TlsRule::Implicit, BELIEVED, "limits", "").await;
        for sent in [Sent::WithTheClientsBytes, Sent::First, Sent::Dripped] {
            for (header, client_ip) in [
                (v1("192.0.2.7:40001"), "192.0.2.7"),
                (v1("[2001:db8::7]:40001"), "2001:db8::7"),
                (v1("[::ffff:192.0.2.7]:40001"), "192.0.2.7"),
                (v2("192.0.2.7:40001"), "192.0.2.7"),
                (v2("[2001:db8::7]:40001"), "2001:db8::7"),
                (v2("[::ffff:192.0.2.7]:40001"), "192.0.2.7"),
            ] {
                let client = through(&gateway, header, sent).await;
                let mut client = client.start_tls(gateway.trust()).await.expect("a handshake");
                client.hear(greeting(protocol)).await;
                log_in(&mut client, protocol, "secret").await;
                client.hear(welcome(protocol)).await;
                client.end().await;
                let fields = format!("client_ip={client_ip} client_port=40001 proxy_ip={BALANCER}");
                gateway.event("auth.ok", &fields).await;
                gateway.event("session.closed", &fields).await;
            }
        }
        gateway.is_empty().await;
    }
}

#[tokio::test]
async fn what_stands_behind_the_header_is_the_clients_and_nothing_of_the_header_is() {
    for (protocol, asked, answer) in [
        (Protocol::Imap, "a NOOP", "a OK <*>"),
        (Protocol::Pop3, "NOOP", "-ERR <*>"),
        (Protocol::Smtp, "NOOP", "250 <*>"),
    ] {
        let (gateway, _post) = gateway(protocol, TlsRule::Off, BELIEVED, "limits", "").await;
        for header in [v1("192.0.2.7:40001"), v2("192.0.2.7:40001")] {
            let mut client = gateway.plain_from(BALANCER).await;
            client.say([&header[..], asked.as_bytes(), b"\r\n"].concat()).await;
            client.hear(greeting(protocol)).await;
            client.hear(answer).await;
            log_in(&mut client, protocol, "secret").await;
            client.hear(welcome(protocol)).await;
            client.end().await;
            gateway.event("auth.ok", &format!("client_ip=192.0.2.7 proxy_ip={BALANCER}")).await;
        }
        gateway.is_empty().await;
    }
}

#[tokio::test]
async fn who_speaks_for_itself_or_does_not_know_counts_as_the_load_balancer() {
    let unix = [SIGNATURE, &[0x21, 0x31, 0, 216], &[b'/'; 216]].concat();
    for header in [local(), b"PROXY UNKNOWN\r\n".to_vec(), unix] {
        let (gateway, _post) = gateway(Protocol::Imap, TlsRule::Implicit, BELIEVED, "limits", "").await;
        let client = through(&gateway, header, Sent::First).await;
        let mut client = client.start_tls(gateway.trust()).await.expect("a handshake");
        client.hear("* OK <*>").await;
        log_in(&mut client, Protocol::Imap, "secret").await;
        client.hear("a OK <*>").await;
        gateway.event("auth.ok", &format!("client_ip={BALANCER} proxy_ip={BALANCER}")).await;
    }
}

#[tokio::test]
async fn whoever_is_not_listed_is_not_believed() {
    for protocol in PROTOCOLS {
        for header in [v1("192.0.2.7:40001"), v2("192.0.2.7:40001")] {
            // The header names one who may come in, and one who may not: neither makes a difference.
            let access = format!("{BELIEVED}, deny: [192.0.2.7]");
            let (tls, _post) = gateway(protocol, TlsRule::Implicit, &access, "limits", "").await;
            let mut client = tls.plain_from("127.0.0.5").await;
            client.say(&header).await;
            client.end().await;
            // An alert, perhaps.
            let heard = client.rest().await.unwrap_or_default();
            assert!(heard.is_empty() || heard.starts_with(b"\x15\x03"), "{}", heard.escape_ascii());
            let event = tls.event("tls.failed", "client_ip=127.0.0.5 reason=plaintext_on_tls_port").await;
            assert!(event["proxy_ip"].is_null(), "{event}");

            let (clear, post) = gateway(protocol, TlsRule::Off, &access, "limits", "").await;
            let mut client = clear.plain_from("127.0.0.5").await;
            client.hear(greeting(protocol)).await;
            client.say(&header).await;
            client.end().await;
            let heard = client.rest().await.expect("a proper end");
            let heard = String::from_utf8(heard).expect("words of ours");
            let is_error =
                ["PROXY BAD", "* BAD", "-ERR", "500 ", "550 5.7.0"].iter().any(|error| heard.starts_with(error));
            assert!(is_error, "{heard:?}");
            clear.event("session.closed", "client_ip=127.0.0.5").await;
            clear.is_empty().await;
            assert_eq!(post.dialled(), 1, "the health check alone");

            let mut client = clear.plain_from("127.0.0.5").await;
            client.hear(greeting(protocol)).await;
            log_in(&mut client, protocol, "secret").await;
            client.hear(welcome(protocol)).await;
            clear.event("auth.ok", "client_ip=127.0.0.5").await;
        }
    }
}

#[tokio::test]
async fn without_a_sound_header_nobody_gets_past_the_listed_addresses() {
    let mut too_long = [SIGNATURE, &[0x21, 0x11, 2, 9]].concat();
    too_long.resize(600, 0);
    let cases: [(&[u8], &str); 10] = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "no PROXY header"),
        (b"a LOGIN joe secret\r\n", "no PROXY header"),
        (b"GET / HTTP/1.1\r\n\r\n", "no PROXY header"),
        (b"proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n", "no PROXY header"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n", "CR or LF alone"),
        (b"PROXY TCP4 192.0.2.777 198.51.100.1 1 2\r\n", "an address that is none"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2", "ended within"),
        (b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x00", "version 3"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x04\x7f\x00\x00\x01", "too short"),
        (&too_long, "521 bytes"),
    ];
    for tls in [TlsRule::Implicit, TlsRule::StartTls, TlsRule::Off] {
        let (gateway, post) = gateway(Protocol::Imap, tls, BELIEVED, "limits", "").await;
        for (said, why) in cases {
            let mut client = gateway.plain_from(BALANCER).await;
            client.say(said).await;
            client.end().await;
            // Closed with unread bytes before it, a socket is reset; either way there are no words.
            let heard = client.rest().await.unwrap_or_default();
            assert!(heard.is_empty(), "{}", heard.escape_ascii());
            let event = gateway.event("connection.refused", &format!("reason=proxy_header client_ip={BALANCER}")).await;
            assert!(text(&event, "detail").contains(why), "{event}");
            assert!(event["proxy_ip"].is_null(), "{event}");
        }
        gateway.is_empty().await;
        assert_eq!(post.dialled(), 1, "the health check alone");
        let refused =
            format!("gatepost_connections_total{{listener=\"imap-{}\",outcome=\"proxy_header\"}}", tls.as_str());
        assert!(gateway.metric(&refused) > 9.0);
        for nothing in ["session.closed", "tls.failed"] {
            assert!(gateway.left(nothing).await.is_empty(), "{:?}", gateway.left(nothing).await);
        }
    }
}

#[tokio::test]
async fn a_header_has_the_handshakes_time_and_no_more() {
    for tls in [TlsRule::Implicit, TlsRule::Off] {
        let (gateway, _post) = gateway(Protocol::Imap, tls, BELIEVED, "timeouts", "tls_handshake: 200ms").await;
        for said in [&b""[..], b"PROXY TCP4 192.", &SIGNATURE[..7]] {
            let mut client = gateway.plain_from(BALANCER).await;
            client.say(said).await;
            client.closed().await;
            let fields = format!("reason=timeout client_ip={BALANCER}");
            let event = gateway.event("connection.refused", &fields).await;
            assert!(text(&event, "detail").contains("no whole PROXY header"), "{event}");
        }
        gateway.is_empty().await;
    }
    // Behind a whole header the handshake is the client's.
    let (gateway, _post) = gateway(Protocol::Imap, TlsRule::Implicit, BELIEVED, "timeouts", "tls_handshake: 2s").await;
    let mut client = gateway.plain_from(BALANCER).await;
    client.say([v1("192.0.2.7:40001"), b"\x16\x03\x01".to_vec()].concat()).await;
    client.closed().await;
    gateway.event("tls.failed", &format!("reason=timeout client_ip=192.0.2.7 proxy_ip={BALANCER}")).await;
}

#[tokio::test]
async fn a_load_balancer_that_looks_in_leaves_no_warning() {
    let (gateway, post) = gateway(Protocol::Imap, TlsRule::Implicit, BELIEVED, "limits", "").await;
    let own = v1(&format!("{BALANCER}:40001"));
    for header in [Vec::new(), local(), b"PROXY UNKNOWN\r\n".to_vec(), own] {
        for reset in [false, true] {
            let mut check = from_balancer(gateway.address()).await;
            check.write_all(&header).await.expect("it listens");
            if reset {
                check.set_zero_linger().expect("an option");
                drop(check);
            } else {
                check.shutdown().await.expect("open");
                // It ends without a word, or with the alert of a handshake that was not.
                let _ = soon("the end", check.read_to_end(&mut Vec::new())).await;
            }
        }
    }
    gateway.is_empty().await;
    // Behind them, an event that is due.
    let client = through(&gateway, v2("192.0.2.7:40001"), Sent::First).await;
    drop(client);
    gateway.event("tls.failed", "reason=client_closed client_ip=192.0.2.7").await;
    gateway.is_empty().await;
    for nothing in ["connection.refused", "tls.failed", "session.closed"] {
        assert!(gateway.left(nothing).await.is_empty(), "{:?}", gateway.left(nothing).await);
    }
    assert_eq!(post.dialled(), 1);
}

#[tokio::test]
async fn lists_are_for_the_clients_address_and_not_the_load_balancers() {
    for (access, reason) in [
        ("deny: [192.0.2.7, 127.9.9.9]", "denied"),
        ("allow: [192.0.2.8, 127.9.9.9, \"2001:db8::/32\"]", "not_allowed"),
    ] {
        let access = format!("{BELIEVED}, {access}");
        let (clear, _post) = gateway(Protocol::Imap, TlsRule::Off, &access, "limits", "").await;
        let fields = format!("reason={reason} client_ip=192.0.2.7 client_port=40001 proxy_ip={BALANCER}");
        for header in [v1("192.0.2.7:40001"), v2("[::ffff:192.0.2.7]:40001")] {
            let mut client = through(&clear, header, Sent::First).await;
            client.hear("* BYE <*>").await;
            client.closed().await;
            clear.event("connection.refused", &fields).await;
        }
        for header in [v1("192.0.2.8:40001"), v2("192.0.2.8:40001")] {
            through(&clear, header, Sent::First).await.hear("* OK <*>").await;
        }

        let (tls, _post) = gateway(Protocol::Imap, TlsRule::Implicit, &access, "limits", "").await;
        let client = through(&tls, v1("192.0.2.7:40001"), Sent::WithTheClientsBytes).await;
        assert!(client.start_tls(tls.trust()).await.is_err(), "it is closed before the handshake");
        tls.event("connection.refused", &fields).await;
        let client = through(&tls, v1("192.0.2.8:40001"), Sent::WithTheClientsBytes).await;
        client.start_tls(tls.trust()).await.expect("the neighbour comes in").hear("* OK <*>").await;
    }
}

#[tokio::test]
async fn whoever_guesses_behind_a_load_balancer_is_banned_alone() {
    // The load balancer itself stands on `exempt`, which is no cover for who comes through it.
    let limits = "auth_failures_per_ip: 2/10min, exempt: [127.0.0.0/8]";
    let (gateway, post) = gateway(Protocol::Imap, TlsRule::Off, BELIEVED, "limits", limits).await;
    let mut client = through(&gateway, v2("203.0.113.66:40001"), Sent::First).await;
    client.hear("* OK <*>").await;
    for password in ["one", "two", "three"] {
        log_in(&mut client, Protocol::Imap, password).await;
        client.hear(wrong(Protocol::Imap)).await;
    }
    client.end().await;
    gateway.event("ban.added", "client_ip=203.0.113.66").await;
    gateway.event("session.closed", "").await;

    let mut again = through(&gateway, v1("203.0.113.66:40002"), Sent::First).await;
    again.hear("* BYE [UNAVAILABLE] <*>").await;
    again.closed().await;
    gateway.event("connection.refused", &format!("reason=banned client_ip=203.0.113.66 proxy_ip={BALANCER}")).await;

    let mut neighbour = through(&gateway, v2("203.0.113.67:40001"), Sent::First).await;
    neighbour.hear("* OK <*>").await;
    log_in(&mut neighbour, Protocol::Imap, "secret").await;
    neighbour.hear("a OK <*>").await;
    assert_eq!(post.logins(), 4);
}

#[tokio::test]
async fn sessions_are_counted_by_client_behind_a_load_balancer() {
    let limits = "sessions_per_ip: 1, connections_per_ip: 3/h, exempt: []";
    let (gateway, _post) = gateway(Protocol::Imap, TlsRule::Off, BELIEVED, "limits", limits).await;
    let mut first = through(&gateway, v2("192.0.2.7:40001"), Sent::First).await;
    first.hear("* OK <*>").await;
    let mut second = through(&gateway, v2("192.0.2.7:40002"), Sent::First).await;
    second.hear("* BYE [UNAVAILABLE] <*>").await;
    gateway.event("connection.refused", "reason=too_many_sessions client_ip=192.0.2.7").await;
    first.end().await;
    first.closed().await;
    gateway.event("session.closed", "").await;
    through(&gateway, v2("192.0.2.7:40003"), Sent::First).await.hear("* OK <*>").await;
    through(&gateway, v2("192.0.2.7:40004"), Sent::First).await.hear("* BYE [UNAVAILABLE] <*>").await;
    gateway.event("connection.refused", "reason=rate_limited client_ip=192.0.2.7").await;
    // Six connections of the load balancer are nobody's limit.
    for client in ["192.0.2.8:1", "192.0.2.9:1", "[2001:db8::7]:1"] {
        through(&gateway, v2(client), Sent::First).await.hear("* OK <*>").await;
    }
}

#[tokio::test]
async fn a_full_gateway_does_not_wait_for_a_header() {
    let (gateway, _post) = gateway(Protocol::Imap, TlsRule::Off, BELIEVED, "limits", "sessions: 1").await;
    // Not a byte was said on it, and it counts.
    let silent = gateway.plain_from(BALANCER).await;
    let mut second = gateway.plain_from(BALANCER).await;
    second.hear("* BYE [UNAVAILABLE] <*>").await;
    second.closed().await;
    gateway.event("connection.refused", &format!("reason=too_many_sessions client_ip={BALANCER}")).await;
    drop(silent);
    gateway.is_empty().await;
    through(&gateway, v1("192.0.2.7:40001"), Sent::First).await.hear("* OK <*>").await;
}

#[tokio::test]
async fn a_reload_turns_it_on_and_off() {
    let (mut gateway, _post) = gateway(Protocol::Imap, TlsRule::Off, "", "limits", "").await;
    for believed in [true, false, true] {
        gateway.setup.set_listener(if believed { BELIEVED } else { "" });
        gateway.reload().await.expect("a good configuration");
        let mut client = gateway.plain_from(BALANCER).await;
        client.say([v1("192.0.2.7:40001"), b"a NOOP\r\n".to_vec()].concat()).await;
        client.hear("* OK <*>").await;
        if !believed {
            client.hear("PROXY BAD <*>").await;
        }
        client.hear("a OK <*>").await;
        client.end().await;
        let client_ip = if believed { "192.0.2.7" } else { BALANCER };
        gateway.event("session.closed", &format!("client_ip={client_ip}")).await;
    }
}
