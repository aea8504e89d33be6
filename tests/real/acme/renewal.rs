//! Renewal when the CA wants it (ARI, RFC 9773). Debian's pebble does not know that; a front of it does.

use super::{Gateway, Pebble, assert_waits_after_one_failure, events};
use crate::kept::{Kept, own_address, until};
use std::net::TcpStream;

/// What stands in front of pebble.
struct Front(Kept);

impl Front {
    fn start(pebble: &Pebble, manner: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/acme/renewal_info.py");
        let address = pebble.address.to_string();
        let [chain, key] = [&pebble.certificate.0, &pebble.certificate.1].map(|path| path.display().to_string());
        let arguments = [script, &address, &chain, &key, manner];
        let kept = Kept::start("/usr/bin/python3", &arguments, &pebble.directory.join("front.log"), None);
        until("the front to listen", || TcpStream::connect((pebble.address, 14001)).ok());
        Self(kept)
    }

    /// What it was asked so far, each in its words.
    fn asked(&self, what: &str) -> Vec<String> {
        self.0.said().lines().filter_map(|line| line.strip_prefix(what)?.strip_prefix(' ')).map(str::to_owned).collect()
    }
}

/// A gateway that asks the front, with certificates that live so long.
fn start(manner: &str, life: u32) -> (Gateway, Pebble, Front) {
    let address = own_address();
    let pebble = Pebble::start(address, life);
    let front = Front::start(&pebble, manner);
    let acme = format!("http_address: \"{address}:5002\"\n    key: ecdsa");
    let gateway = Gateway::start_at(14001, "mail.example.net, imap.example.net", address, &pebble, &acme);
    (gateway, pebble, front)
}

#[test]
fn a_certificate_is_renewed_when_the_ca_wants_it_and_a_ca_that_always_does_is_not_asked_without_end() {
    let (gateway, pebble, front) = start("past", 86_400);
    gateway.loaded(2);
    // Five minutes, and up to a quarter of that by chance.
    let waits = |log: &str| ["5m", "6m"].iter().any(|wait| log.contains(&format!("of late: asked again in {wait}")));
    gateway.wait_for("it to wait", |log| waits(log).then_some(()));
    let log = gateway.log();
    assert!(log.contains("the CA wants the ECDSA certificate") && log.contains("ca.example.net/incident"), "{log}");
    assert_eq!(events(&log, "certificate.loaded").len(), 3, "the private CA's and two: {log}");
    assert_eq!(pebble.issued(), 2);
    let (asked, orders) = (front.asked("asked"), front.asked("order"));
    assert!(asked.len() == 2 && asked[0] != asked[1], "once for each certificate: {asked:?}");
    assert_eq!(orders, ["None", asked[0].as_str()], "the second says which one it replaces");
    gateway.assert_serves(&pebble.root(), "ECDSA+SHA256", "Peer signature type: ECDSA");
}

#[test]
fn a_ca_that_takes_no_successor_is_asked_for_a_certificate_without_that() {
    let (gateway, _pebble, front) = start("refuses", 86_400);
    gateway.loaded(2);
    assert!(!gateway.log().contains("acme: no "), "{}", gateway.log());
    let asked = front.asked("asked");
    assert_eq!(front.asked("order"), ["None", asked[0].as_str(), "None"]);
}

#[test]
fn an_answer_that_is_broken_does_not_stop_the_renewal() {
    let (gateway, _pebble, front) = start("broken", 30);
    gateway.loaded(2);
    let log = gateway.log();
    assert!(log.contains("does not say when it wants the certificate renewed"), "{log}");
    assert!(log.contains("is due for renewal") && !log.contains("acme: no "), "{log}");
    assert!(!front.asked("asked").is_empty());
}

#[test]
fn a_ca_that_refuses_its_own_nonces_is_asked_anew_a_few_times() {
    // Three are what one request is repeated for.
    let (gateway, _pebble, front) = start("nonces-3", 86_400);
    gateway.loaded(1);
    let log = gateway.log();
    assert_eq!(log.matches("begun anew").count(), 1, "{log}");
    assert!(!log.contains("acme: no "), "{log}");
    assert_eq!(front.asked("nonce").len(), 3);

    let (gateway, pebble, front) = start("nonces-100", 86_400);
    let line = gateway.failure();
    assert!(line.contains("never seen it") && line.contains("badNonce"), "in the CA's words: {line}");
    assert_waits_after_one_failure(&line);
    assert_eq!((front.asked("nonce").len(), pebble.issued()), (9, 0));
}
