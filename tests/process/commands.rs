//! The commands beside a running gateway, and those that only print.

use super::gateway::{Folder, Gateway, IMAPS};
use super::outcome::{gatepost, outcome};
use serde_json::Value;
use std::process::Command;

#[test]
fn the_schema_is_json_and_knows_the_sections() {
    let schema: Value = serde_json::from_str(&gatepost(["schema"]).ends(0, &[]).out).expect("JSON");
    for section in ["hostname", "listeners", "backends", "tls", "limits", "runtime"] {
        assert!(schema["properties"][section].is_object(), "{section}");
    }
}

#[test]
fn data_that_cannot_be_written_is_a_failure_and_a_reader_that_has_enough_is_none() {
    let mut full = Command::new("sh");
    full.args(["-c", "\"$0\" schema > /dev/full", env!("CARGO_BIN_EXE_gatepost")]);
    outcome(full).ends(1, &["No space left"]);
    let mut enough = Command::new("bash");
    enough.args(["-c", "\"$0\" schema | head -c 1 > /dev/null; exit ${PIPESTATUS[0]}", env!("CARGO_BIN_EXE_gatepost")]);
    outcome(enough).ends(0, &[]);
    let mut findings = Command::new("bash");
    findings.args([
        "-c",
        "exec 2> >(exec true); wait $!; exec \"$0\" check -c /absent",
        env!("CARGO_BIN_EXE_gatepost"),
    ]);
    outcome(findings).ends(78, &[]);
}

#[test]
fn openssl_believes_the_gateway_by_the_exported_root() {
    let gateway = Gateway::start(IMAPS, "");
    let pem = gateway.folder.gatepost(&["cert", "export"]).ends(0, &["SHA-256 "]);
    let root = gateway.folder.write("root.pem", &pem.out);

    let address = gateway.address("imaps").to_string();
    let mut shown = Command::new("openssl");
    shown.args([
        "s_client",
        "-connect",
        &address,
        "-verify_return_error",
        "-verify_hostname",
        "mail.example.net",
        "-CAfile",
    ]);
    let shown = outcome({
        shown.arg(&root);
        shown
    });
    assert!(shown.out.contains("Verify return code: 0 (ok)"), "{shown:#?}");
    let begin = shown.out.find("-----BEGIN CERTIFICATE-----").expect("a certificate");
    let leaf = gateway.folder.write("leaf.pem", &shown.out[begin..]);
    let mut verify = Command::new("openssl");
    verify.args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"]).args([&root, &leaf]);
    outcome(verify).ends(0, &[]);

    let der = gateway.folder.at("root.der");
    let mut export = Command::new("sh");
    export.args(["-c", "\"$0\" cert export --format der -c \"$1\" > \"$2\" && openssl x509 -inform DER -noout -fingerprint -sha256 -in \"$2\""]);
    export.args([env!("CARGO_BIN_EXE_gatepost").as_ref(), gateway.folder.at("gatepost.yaml").as_path(), &der]);
    let fingerprint = outcome(export).ends(0, &[]);
    let said = pem.err.trim().strip_prefix("SHA-256 ").expect("a fingerprint");
    assert!(fingerprint.out.trim().ends_with(said), "{said} and {}", fingerprint.out);
}

#[test]
fn without_a_ca_the_export_says_where_one_comes_from() {
    let folder = Folder::new();
    folder.configure(IMAPS, "");
    folder.gatepost(&["cert", "export"]).ends(1, &["no private CA in", "gatepost cert init", "gatepost run"]);
}

#[test]
fn the_status_is_for_people_and_for_programs() {
    let gateway = Gateway::start(IMAPS, "limits: { sessions: 77 }");
    let mut session = gateway.tls("imaps").imap_login("joe");
    let address = gateway.address("imaps").to_string();

    let human = gateway.folder.gatepost(&["status"]).ends(0, &[]).out;
    for words in ["1 of 77 sessions", "imaps", &address, "tls: implicit", "main", "up"] {
        assert!(human.contains(words), "lacks {words:?}: {human}");
    }
    let json: Value =
        serde_json::from_str(&gateway.folder.gatepost(&["status", "--json"]).ends(0, &[]).out).expect("JSON");
    assert_eq!((&json["sessions"], &json["draining"]), (&Value::from(1), &Value::from(false)));
    assert_eq!(json["listeners"][0]["addresses"][0], address);

    let health = gateway.folder.gatepost(&["status", "--health"]).ends(0, &[]);
    assert_eq!((health.out.as_str(), health.err.as_str()), ("", ""));
    session.noop();
}

#[test]
fn a_gateway_that_does_not_run_is_not_healthy() {
    let folder = Folder::new();
    folder.configure(IMAPS, "");
    let socket = folder.socket().display().to_string();
    for command in [&["status"][..], &["status", "--health"], &["status", "--json"], &["reload"], &["drain"]] {
        folder.gatepost(command).ends(1, &[&socket, "is it running"]);
    }
}

#[test]
fn a_reload_says_why_not_and_leaves_the_gateway_running() {
    let gateway = Gateway::start(IMAPS, "");
    let mut session = gateway.tls("imaps").imap_login("joe");
    let file = gateway.folder.configure(IMAPS, "limits: { sesions: 5 }");
    gateway.folder.gatepost(&["reload"]).ends(1, &[&file.display().to_string(), "sesions"]);
    let refused = gateway.event("config.refused");
    assert!(refused["detail"].to_string().contains("sesions"), "{refused}");

    gateway.folder.configure(IMAPS, "limits: { sessions: 78 }");
    gateway.folder.gatepost(&["reload"]).ends(0, &["reloaded"]);
    gateway.event("config.reloaded");
    assert!(gateway.folder.gatepost(&["status"]).ends(0, &[]).out.contains("1 of 78 sessions"));
    session.noop();
}

#[test]
fn a_drain_is_always_answered_and_ends_with_success() {
    for _ in 0..5 {
        let mut gateway = Gateway::start(IMAPS, "");
        gateway.folder.gatepost(&["drain"]).ends(0, &["draining"]);
        assert_eq!(gateway.ended(), Some(0));
    }
}
