//! The program as a tunnel for what is no mail.

use super::client::Client;
use super::gateway::{Folder, Gateway};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// A server that greets, and gives back whatever it gets.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().filter_map(Result::ok) {
            std::thread::spawn(move || {
                stream.write_all(b"200 old server\r\n")?;
                let mut bytes = [0; 4096];
                loop {
                    match stream.read(&mut bytes)? {
                        0 => return std::io::Result::Ok(()),
                        count => stream.write_all(&bytes[..count])?,
                    }
                }
            });
        }
    });
    address
}

fn folder(server: SocketAddr, more: &str) -> Folder {
    let folder = Folder::new();
    folder.write(
        "gatepost.yaml",
        format!(
            "hostname: mail.example.net\nstate_dir: state\nadmin: {{ address: null, socket: run/admin.sock }}\n\
             listeners: {{ news: {{ address: \"127.0.0.1:0\", protocol: tcp }} }}\nbackends: {{ old: {{ tcp: \"{server}\" }} }}\n{more}\n"
        ),
    );
    folder
}

#[test]
fn a_gateway_may_be_there_for_what_is_no_mail_alone() {
    let folder = folder(echo(), "runtime: { drain_timeout: 2s }");
    folder.gatepost(&["check"]).ends(0, &["the configuration is good: 1 listener, 1 backend"]);
    let mut gateway = Gateway::start_in(&folder);
    let mut client = gateway.tls("news");
    assert_eq!(client.line(), "200 old server");
    assert_eq!(client.ask("MODE READER", "MODE"), ["MODE READER"]);
    let status = folder.gatepost(&["status"]).ends(0, &[]).out;
    assert!(status.contains("news") && status.contains("tcp") && status.contains("old"), "{status}");

    let began = Instant::now();
    gateway.signal(Signal::SIGTERM);
    gateway.message("draining: 1 session");
    assert_eq!(client.rest(), "", "no word of ours in a language we do not know");
    assert_eq!(gateway.ended(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let event = gateway.event("session.closed");
    assert_eq!((&event["reason"], &event["protocol"]), (&"shutting_down".into(), &"tcp".into()), "{event}");
}

#[test]
fn check_online_sees_whether_the_server_takes_a_connection() {
    let checked = folder(echo(), "").gatepost(&["check", "--online"]).ends(0, &["dialling old tcp://127.0.0.1:"]);
    assert!(checked.out.starts_with("old tcp://127.0.0.1:") && checked.out.ends_with(": up\n"), "{}", checked.out);
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    folder(nobody, "").gatepost(&["check", "--online"]).ends(1, &["cannot connect to 127.0.0.1:"]);
}

#[test]
fn a_client_that_finds_no_server_is_told_by_the_end_alone() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let gateway = Gateway::start_in(&folder(nobody, ""));
    let mut client = Client::tls(gateway.address("news"), &gateway.folder.root()).expect("TLS");
    assert_eq!(client.rest(), "");
    let event = gateway.event("session.closed");
    assert_eq!((&event["reason"], &event["backend"]), (&"backend_down".into(), &"old".into()), "{event}");
    gateway.event("backend.down");
}
