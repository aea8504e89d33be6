//! Few descriptors, and none left.

use super::client::{Client, NAME};
use super::gateway::{Folder, Gateway, IMAP, IMAPS};
use super::help_page::tls;
use super::outcome::{is_root_for, outcome, program_under, until};
use rustls::{ClientConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

/// Starts a gateway with a hard limit of so many descriptors.
fn start_with(descriptors: u32, listeners: &str) -> Gateway {
    let folder = Folder::new();
    folder.configure(listeners, "");
    let script = format!("ulimit -n {descriptors}; exec \"$@\"");
    let command = program_under("sh", &["-c", &script, "sh", env!("CARGO_BIN_EXE_gatepost")]);
    Gateway::start_by(&folder, command)
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_one() {
    let folder = Folder::new();
    folder.configure(IMAPS, "");
    let script = "ulimit -Sn 300; ulimit -Hn 1256; exec \"$@\"";
    let command = program_under("sh", &["-c", script, "sh", env!("CARGO_BIN_EXE_gatepost")]);
    let gateway = Gateway::start_by(&folder, command);
    let said = gateway.message("room for 500 sessions")["message"].to_string();
    assert!(said.contains("not the 20000 of limits.sessions") && said.contains("1256 descriptors"), "{said}");
    assert!(said.contains("40256"), "it says what would do: {said}");
}

#[test]
fn past_the_room_there_is_connections_are_refused_in_words() {
    let gateway = start_with(262, &format!("{IMAP}\n{IMAPS}"));
    let said = gateway.message("room for 3 sessions");
    assert_eq!(said["level"], "warn");
    let mut sessions: Vec<_> = (0..3).map(|number| gateway.tls("imaps").imap_login(&format!("user{number}"))).collect();

    let mut refused = Client::plain(gateway.address("imap")).expect("connects");
    let words = refused.rest();
    assert!(words.starts_with("* BYE ") && words.ends_with("\r\n"), "{words:?}");
    let event = gateway.event("connection.refused");
    assert_eq!((event["reason"].as_str(), event["listener"].as_str()), (Some("too_many_sessions"), Some("imap")));
    assert!(Client::tls(gateway.address("imaps"), &gateway.folder.root()).is_err(), "closed before the handshake");

    sessions.iter_mut().for_each(Client::noop);
    sessions.pop();
    gateway.event("session.closed");
    until("room for one more", || {
        let line = Client::plain(gateway.address("imap")).expect("connects").line();
        line.starts_with("* OK").then_some(())
    });
}

#[test]
fn browsers_take_half_of_the_room_that_there_is_and_mail_has_the_rest() {
    let gateway = start_with(276, &format!("{IMAP}\n  help: {{ address: \"127.0.0.1:0\", protocol: https }}"));
    gateway.message("room for 10 sessions");
    let mut browsers: Vec<_> = (0..5).map(|_| browser(&gateway).expect("TLS")).collect();
    for browser in &mut browsers {
        assert!(page(browser).starts_with("HTTP/1.1 200 "));
    }
    let mut one_more = browser(&gateway).expect("TLS");
    assert_eq!(page(&mut one_more), "");
    let mut client = Client::plain(gateway.address("imap")).expect("connects");
    assert!(client.line().starts_with("* OK"));
    drop(browsers);
    until("room for one more", || page(&mut browser(&gateway).ok()?).starts_with("HTTP/1.1 200 ").then_some(()));
}

/// A browser's connection, which lasts.
fn browser(gateway: &Gateway) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    tls(&gateway.folder.root(), gateway.address("help"), NAME, &["http/1.1"])
}

/// The begin of the answer; nothing where the connection is closed.
fn page(browser: &mut StreamOwned<ClientConnection, TcpStream>) -> String {
    let _ = browser.write_all(format!("HEAD / HTTP/1.1\r\nHost: {NAME}\r\n\r\n").as_bytes());
    let mut begin = [0; 13];
    browser.read_exact(&mut begin).map_or_else(|_| String::new(), |()| String::from_utf8_lossy(&begin).into_owned())
}

#[test]
fn without_descriptors_accepting_pauses_costs_nothing_and_recovers() {
    // A gateway keeps others of its own user from looking into it and from changing its limits.
    if !is_root_for("taking descriptors from a running gateway") {
        return;
    }
    let gateway = Gateway::start(&format!("{IMAP}\n{IMAPS}"), "");
    let mut session = gateway.tls("imaps").imap_login("joe");
    // The gateway counted on more than it has, as it does when something else in the system takes them.
    let few = gateway.descriptors() + 3;
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &gateway.pid().to_string(), &format!("--nofile={few}:")]);
    outcome(prlimit).ends(0, &[]);

    let mut greeted = Vec::new();
    let mut waiting = loop {
        assert!(greeted.len() < 20, "{}", gateway.said());
        let mut client = TcpStream::connect(gateway.address("imap")).expect("the kernel completes it");
        client.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
        let mut begin = [0; 4];
        match client.read_exact(&mut begin) {
            Ok(()) => {
                assert_eq!(&begin, b"* OK");
                greeted.push(client);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break client,
            Err(error) => panic!("{error}"),
        }
    };
    let paused = gateway.message("accepting pauses, live sessions go on");
    assert_eq!(paused["level"], "error");
    assert!(!greeted.is_empty(), "some got in");
    session.noop();

    let before = gateway.cpu_time();
    let error = waiting.read(&mut [0]).expect_err("nothing for a whole second");
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    let spent = gateway.cpu_time() - before;
    assert!(spent < Duration::from_millis(200), "{spent:?} of a second");
    session.noop();

    drop(greeted);
    waiting.set_read_timeout(Some(super::outcome::PATIENCE)).expect("a timeout");
    let mut begin = [0; 4];
    waiting.read_exact(&mut begin).expect("it has waited for this");
    assert_eq!(&begin, b"* OK");
    gateway.message("accepting again");
    session.noop();
}
