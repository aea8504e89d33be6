//! Ten thousand strangers, and a customer who wants his mail.

use super::client::{Client, NAME};
use super::cost;
use super::crowd::{self, Crowd};
use super::gateway::{Folder, Gateway};
use super::hostile::{client_hello, runtime, trusting};
use super::outcome::{PATIENCE, until};
use super::turn;
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

/// The doors that are flooded, and what else the gateway is told.
fn gateway(more: &str) -> Gateway {
    let folder = Folder::new();
    folder.configure(
        "  imap: { address: \"127.0.0.1:0\", protocol: imap, tls: optional }\n  \
         imaps: { address: \"127.0.0.1:0\", protocol: imap }\n",
        more,
    );
    Gateway::start_in(&folder)
}

/// A customer logs in, asks something and leaves, so many times; each within the usual patience. Gives the longest time.
fn customers(gateway: &Gateway, times: usize) -> Duration {
    let mut longest = Duration::ZERO;
    for number in 0..times {
        let began = Instant::now();
        let mut customer = gateway.tls("imaps").imap_login(&format!("user{number}"));
        customer.noop();
        customer.ask("z LOGOUT", "z OK");
        longest = longest.max(began.elapsed());
    }
    longest
}

/// Waits until all is as it was before the flood.
fn is_over(gateway: &Gateway, descriptors: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while gateway.descriptors() > descriptors || sessions(gateway) > 0 {
        assert!(Instant::now() < deadline, "{} descriptors, {} before", gateway.descriptors(), descriptors);
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn sessions(gateway: &Gateway) -> u64 {
    let status = gateway.folder.gatepost(&["status", "--json"]).ends(0, &[]).out;
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    status["sessions"].as_u64().expect("a number")
}

#[test]
fn ten_thousand_that_say_a_byte_now_and_then_are_not_noticed_and_a_full_house_says_so_and_recovers() {
    let _turn = turn::take();
    // Both processes have the same limit; half of what the gateway has is for backends.
    let room = (crowd::descriptors().saturating_sub(256) / 2).min(20_000);
    let crowd_size = room - room / 25;
    let gateway = gateway("timeouts: { tls_handshake: 10min, login: 10min }");
    gateway.message(&format!("room for {room} sessions"));
    customers(&gateway, 2);
    let (descriptors, before) = (gateway.descriptors(), cost::memory(&gateway));

    let runtime = runtime();
    let doors: [(SocketAddr, Arc<[u8]>); 2] = [
        (gateway.address("imap"), b"a LOGIN somebody with-a-long-password"[..].into()),
        (gateway.address("imaps"), client_hello().into()),
    ];
    let slow = Crowd::of_slow_ones(&runtime, crowd_size, &doors, Duration::from_secs(3));
    let mut longest = Duration::ZERO;
    // While they come, and when they are all there.
    let deadline = Instant::now() + Duration::from_secs(60);
    while sessions(&gateway) < crowd_size as u64 {
        assert!(Instant::now() < deadline, "{} of {crowd_size} came in", sessions(&gateway));
        longest = longest.max(customers(&gateway, 1));
    }
    longest = longest.max(customers(&gateway, 20));
    let full = cost::memory(&gateway);
    println!(
        "{crowd_size} slow clients: a customer took at most {longest:?}; {} octets each",
        (full - before) / crowd_size
    );

    // The rest of the room, and one more.
    let more = Crowd::of_slow_ones(&runtime, room / 10, &doors[..1], Duration::from_secs(3));
    gateway.line_after(0, "a refusal", |line| line["reason"] == "too_many_sessions");
    let words =
        until("words of refusal", || Client::plain(gateway.address("imap")).ok().map(|mut client| client.line()));
    assert!(words.starts_with("* BYE"), "{words}");
    assert!(sessions(&gateway) <= room as u64);
    more.leave(&runtime);
    until("room again", || {
        Client::plain(gateway.address("imap"))
            .ok()
            .filter(|_| true)
            .map(|mut client| client.line())
            .filter(|line| line.starts_with("* OK"))
    });
    customers(&gateway, 3);

    slow.leave(&runtime);
    is_over(&gateway, descriptors);
    println!("memory: {before} before, {full} full, {} after", cost::memory(&gateway));
    customers(&gateway, 2);
    gateway.terminate();
}

#[test]
fn floods_of_handshakes_and_of_what_only_looks_like_them_leave_the_customer_alone_and_the_log_readable() {
    let _turn = turn::take();
    let gateway = gateway("");
    customers(&gateway, 2);
    let (descriptors, begun) = (gateway.descriptors(), Instant::now());
    let (imap, imaps) = (gateway.address("imap"), gateway.address("imaps"));
    let trust = trusting(&gateway.folder.root());
    let hello: Arc<[u8]> = client_hello().into();
    let runtime = runtime();

    let handshakes = move |stream| {
        let connector = TlsConnector::from(Arc::clone(&trust));
        async move {
            // Whatever becomes of it, the next one follows.
            let _ = connector.connect(ServerName::try_from(NAME).expect("a name"), stream).await;
        }
    };
    // Writes, and reads nothing.
    let hold = |words: Arc<[u8]>| {
        move |mut stream: tokio::net::TcpStream| {
            let words = Arc::clone(&words);
            async move {
                let _ = stream.write_all(&words).await;
                tokio::time::sleep(Duration::from_secs(15)).await;
            }
        }
    };
    let say = |words: Arc<[u8]>, stays: Duration| {
        move |mut stream: tokio::net::TcpStream| {
            let words = Arc::clone(&words);
            async move {
                let _ = stream.write_all(&words).await;
                let _ = tokio::time::timeout(stays, stream.read(&mut [0; 512])).await;
            }
        }
    };
    let long = Duration::from_secs(30);
    let reset = |stream: tokio::net::TcpStream| async move {
        // Closing a socket without lingering resets the connection.
        let _ = stream.set_zero_linger();
    };
    let floods = [
        ("full handshakes", Crowd::of_restless_ones(&runtime, 4, imaps, handshakes)),
        ("a ClientHello and no more", Crowd::of_restless_ones(&runtime, 200, imaps, hold(Arc::clone(&hello)))),
        ("half a ClientHello", Crowd::of_restless_ones(&runtime, 200, imaps, hold(hello[..200].into()))),
        ("nothing", Crowd::of_restless_ones(&runtime, 200, imaps, hold([][..].into()))),
        (
            "plaintext on a TLS port",
            Crowd::of_restless_ones(&runtime, 8, imaps, say(b"a LOGIN joe secret\r\n"[..].into(), long)),
        ),
        ("TLS on a plaintext port", Crowd::of_restless_ones(&runtime, 8, imap, say(hello, long))),
        ("connect and close", Crowd::of_restless_ones(&runtime, 8, imap, |_| async {})),
        ("connect and close on a TLS port", Crowd::of_restless_ones(&runtime, 8, imaps, |_| async {})),
        ("connect and reset", Crowd::of_restless_ones(&runtime, 8, imap, reset)),
        ("connect and reset on a TLS port", Crowd::of_restless_ones(&runtime, 8, imaps, reset)),
    ];
    let longest = customers(&gateway, 20);
    for (what, flood) in floods {
        println!("{what}: {}", flood.connected());
        assert!(flood.connected() > 0, "{what}");
        flood.leave(&runtime);
    }
    println!("a customer took at most {longest:?}");
    customers(&gateway, 2);
    is_over(&gateway, descriptors);
    let seconds = begun.elapsed().as_secs() + 2;
    gateway.signal(nix::sys::signal::Signal::SIGTERM);
    let mut gateway = gateway;
    assert_eq!(gateway.ended(), Some(0));
    let (mut lines, mut sums) = (HashMap::<String, u64>::new(), 0);
    for line in gateway.said().lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
        if line["event"] == "tls.failed" || line["event"] == "connection.refused" {
            sums += u64::from(line["count"].is_u64());
            *lines.entry(line["reason"].to_string()).or_default() += 1;
        }
    }
    println!("{lines:?}, {sums} of them sums, in {seconds} s");
    for (reason, count) in lines {
        assert!(count <= seconds * 101, "{reason}: {count} lines in {seconds} s");
    }
}

#[test]
fn a_flood_from_one_address_is_refused_there_and_others_get_in() {
    let _turn = turn::take();
    let gateway = gateway("limits: { exempt: [], connections_per_ip: 60/h }");
    let descriptors = gateway.descriptors();
    let runtime = runtime();
    let to = gateway.address("imap");
    let (mut greeted, mut refused) = (0, 0);
    let flood = async {
        let attacker = crowd::source(7);
        for _ in 0..2000 {
            let mut stream = super::hostile::connect_from(attacker, to).await.expect("the kernel completes it");
            let mut begin = [0; 5];
            let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut begin));
            read.await.expect("an answer in time").expect("words either way");
            match &begin {
                b"* OK " => greeted += 1,
                b"* BYE" => refused += 1,
                other => panic!("{}", other.escape_ascii()),
            }
        }
    };
    let cpu = gateway.cpu_time();
    let (_, longest) = std::thread::scope(|scope| {
        let others = scope.spawn(|| customers(&gateway, 10));
        (runtime.block_on(flood), others.join().expect("customers get in"))
    });
    println!(
        "{refused} refused for {:?} of processor time; a customer took at most {longest:?}",
        gateway.cpu_time() - cpu
    );
    assert_eq!((greeted, refused), (60, 1940));
    let event = gateway.event("connection.refused");
    assert_eq!((event["reason"].as_str(), event["client_ip"].as_str()), (Some("rate_limited"), Some("127.200.0.7")));
    is_over(&gateway, descriptors + 1);
}

#[test]
fn a_flood_of_silence_at_the_admin_port_does_not_hold_up_the_health_check() {
    let _turn = turn::take();
    let folder = Folder::new();
    let address = super::outcome::own_address();
    folder.configure(
        "  imaps: { address: \"127.0.0.1:0\", protocol: imap }\n",
        &format!("admin: {{ address: \"{address}:9900\", socket: run/admin.sock }}"),
    );
    let gateway = Gateway::start_in(&folder);
    let admin = SocketAddr::from((address, 9900));
    let runtime = runtime();
    let silent = Crowd::of_slow_ones(&runtime, 600, &[(admin, b"GET"[..].into())], Duration::from_secs(3));
    until("a flood", || (silent.connected() >= 300).then_some(()));
    for _ in 0..5 {
        let asking = async {
            let mut stream = tokio::net::TcpStream::connect(admin).await?;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, asking).await });
        let answer = answer.expect("sooner than a supervisor loses its patience").expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
    }
    silent.leave(&runtime);
    gateway.terminate();
}
