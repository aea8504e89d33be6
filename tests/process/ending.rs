//! SIGTERM, SIGINT, and what is left behind.

use super::client::Client;
use super::gateway::{Gateway, IMAP, IMAPS};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

#[test]
fn a_drain_says_goodbye_to_who_is_there_and_lets_nobody_in() {
    let mut gateway = Gateway::start(IMAPS, "runtime: { drain_timeout: 2s }");
    let mut session = gateway.tls("imaps").imap_login("joe");
    session.ask("i IDLE", "+ ");
    let began = Instant::now();
    gateway.signal(Signal::SIGTERM);
    gateway.message("draining: 1 session");

    let error = Client::plain(gateway.address("imaps")).err().expect("nobody accepts");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    gateway.folder.gatepost(&["status", "--health"]).ends(1, &["draining"]);
    gateway.folder.gatepost(&["reload"]).ends(1, &["draining"]);
    assert!(gateway.folder.gatepost(&["status"]).ends(0, &[]).out.contains("draining"));

    assert!(session.rest().contains("* BYE"));
    assert_eq!(gateway.ended(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    gateway.event("session.closed");
    assert!(!gateway.folder.socket().exists());
}

#[test]
fn a_session_that_ends_by_itself_lets_the_drain_end() {
    let mut gateway = Gateway::start(IMAPS, "");
    let mut session = gateway.tls("imaps").imap_login("joe");
    gateway.signal(Signal::SIGTERM);
    gateway.message("draining");
    session.noop();
    session.ask("l LOGOUT", "l OK");
    assert_eq!(gateway.ended(), Some(0));
}

#[test]
fn who_is_in_the_queue_of_any_worker_when_the_drain_begins_hears_words() {
    let mut gateway = Gateway::start(IMAP, "runtime: { drain_timeout: 1s, workers: 3 }");
    let address = gateway.address("imap");
    // It sleeps while they come, so all of them wait to be accepted.
    gateway.signal(Signal::SIGSTOP);
    let mut clients: Vec<_> = (0..60).map(|_| Client::plain(address).expect("the kernel connects them")).collect();
    gateway.signal(Signal::SIGTERM);
    gateway.signal(Signal::SIGCONT);
    for client in &mut clients {
        let heard = client.rest();
        assert!(heard.starts_with("* OK ") && heard.contains("* BYE "), "{heard:?}");
    }
    assert_eq!(gateway.ended(), Some(0));
    assert_eq!(Client::plain(address).err().map(|error| error.kind()), Some(std::io::ErrorKind::ConnectionRefused));
}

#[test]
fn a_second_signal_ends_at_once() {
    for (first, second) in [(Signal::SIGTERM, Signal::SIGTERM), (Signal::SIGINT, Signal::SIGTERM)] {
        let mut gateway = Gateway::start(IMAPS, "");
        let mut session = gateway.tls("imaps").imap_login("joe");
        session.ask("i IDLE", "+ ");
        gateway.signal(first);
        gateway.message("draining: 1 session,");
        let began = Instant::now();
        gateway.signal(second);
        assert_eq!(gateway.ended(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(session.rest().contains("* BYE"));
        gateway.event("session.closed");
    }
}

#[test]
fn the_socket_of_a_killed_gateway_is_replaced() {
    let mut killed = Gateway::start(IMAPS, "");
    killed.signal(Signal::SIGKILL);
    killed.ended();
    assert!(killed.folder.socket().exists());
    let gateway = Gateway::start_in(&killed.folder);
    gateway.folder.gatepost(&["status"]).ends(0, &[]);
    gateway.terminate();
}

#[test]
fn a_second_gateway_leaves_the_socket_to_the_first_and_says_so() {
    let first = Gateway::start(IMAPS, "");
    let second = Gateway::start_in(&first.folder);
    second.message("another gatepost answers on it");
    second.terminate();
    let status = first.folder.gatepost(&["status"]).ends(0, &[]).out;
    assert!(status.contains(&first.address("imaps").to_string()), "{status}");
}

#[test]
fn a_file_that_is_no_socket_is_not_removed_for_one() {
    let folder = super::gateway::Folder::new();
    folder.configure(IMAPS, "");
    std::fs::create_dir(folder.at("run")).expect("made");
    folder.write("run/admin.sock", "somebody's work");
    let mut command = super::outcome::program();
    command.args(["run", "-c"]).arg(folder.at("gatepost.yaml"));
    let mut gateway = Gateway::spawn(&folder, command);
    gateway.message("no admin socket");
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.ended(), Some(0));
    assert_eq!(std::fs::read(folder.socket()).expect("it is there"), b"somebody's work");
}
