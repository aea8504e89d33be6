//! `gatepost probe`, against the gateway and against servers that are worse.

use super::careless::{self, Words};
use super::client::NAME;
use super::gateway::{Folder, Gateway};
use super::old_server::{self, Speaks};
use super::outcome::{Outcome, gatepost};
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};

/// Both ways to TLS.
const LISTENERS: &str = "  imaps: { address: \"127.0.0.1:0\", protocol: imap }\n  imap: { address: \"127.0.0.1:0\", protocol: imap, tls: starttls }";

/// Asks for `name` at an address; what is found with `--json`.
fn found(scheme: &str, name: &str, address: SocketAddr, options: &[&str], code: i32) -> Value {
    let (url, at) = (format!("{scheme}://{name}"), address.to_string());
    let outcome = gatepost(["probe", "--json", "--connect", &at, &url].iter().chain(options));
    assert_eq!(outcome.code, Some(code), "{outcome:#?}");
    serde_json::from_str(&outcome.out).expect("one object")
}

/// The grade of what was looked at under this name.
#[track_caller]
fn grade(found: &Value, code: &str) -> String {
    let findings = found["findings"].as_array().expect("a list");
    let finding = findings.iter().find(|finding| finding["code"] == code);
    finding.unwrap_or_else(|| panic!("no {code} in {found:#}"))["grade"].as_str().expect("a word").to_owned()
}

#[test]
fn nothing_is_bad_about_the_gateway_itself() {
    let gateway = Gateway::start(LISTENERS, "");
    let root = gateway.folder.at("state/ca/root.pem").display().to_string();
    for (scheme, listener) in [("imaps", "imaps"), ("imap", "imap")] {
        let found = found(scheme, NAME, gateway.address(listener), &["--ca", &root], 0);
        assert_eq!(found["grade"], "ok", "{found:#}");
        assert_eq!(found["tls"]["version"], "1.3");
        assert_eq!(found["tls"]["group"], "X25519MLKEM768");
        assert_eq!(found["tls"]["accepted"], serde_json::json!(["1.2", "1.3"]));
        assert_eq!(found["certificate"]["trusted"], true);
        assert_eq!(found["certificate"]["name_matches"], true);
        assert_eq!(found["certificate"]["names"][0], NAME);
        for code in ["certificate", "old_tls", "tls13"] {
            assert_eq!(grade(&found, code), "ok");
        }
        assert!(found["greeting"].as_str().is_some_and(|greeting| greeting.starts_with("* OK")));
        assert!(found["capabilities"].to_string().contains("AUTH=PLAIN"), "{found:#}");
        let before = &found["capabilities_before_tls"];
        assert_eq!(before.is_null(), scheme == "imaps");
        if scheme == "imap" {
            assert!(before.to_string().contains("LOGINDISABLED"), "{before}");
            assert_eq!(grade(&found, "starttls_injection"), "ok");
            assert_eq!(grade(&found, "plaintext_login"), "ok");
        }
    }
}

#[test]
fn a_person_reads_facts_and_findings_of_each_server() {
    let gateway = Gateway::start(LISTENERS, "");
    let root = gateway.folder.at("state/ca/root.pem").display().to_string();
    let urls = [("imaps", "imaps"), ("imap", "imap")]
        .map(|(scheme, listener)| format!("{scheme}://{NAME}:{}", gateway.address(listener).port()));
    let outcome = gatepost(["probe", "--ca", &root, "--connect", "127.0.0.1", &urls[0], &urls[1]]).ends(0, &[]);
    assert_eq!(outcome.err, "", "progress is for terminals");
    let text = &outcome.out;
    for words in
        [&urls[0], &urls[1], "  TLS          1.3, TLS_", "X25519MLKEM768", "  before TLS   ", "  valid        20"]
    {
        assert!(text.contains(words), "lacks {words:?}: {text}");
    }
    assert!(text.contains("\n  ok    the certificate is trusted, for this name, and good for "), "{text}");
    assert_eq!(text.matches("  0 bad, 0 to look at, ").count(), 2, "{text}");
    assert!(!text.contains('\x1b'), "colour is for terminals");
}

#[test]
fn a_certificate_is_refused_for_everything_that_is_wrong_with_it() {
    let gateway = Gateway::start(LISTENERS, "");
    let root = gateway.folder.at("state/ca/root.pem").display().to_string();
    let address = gateway.address("imaps");
    let wrong = found("imaps", "imap.example.org", address, &["--ca", &root], 1);
    assert_eq!(grade(&wrong, "wrong_name"), "bad");
    let strange = found("imaps", NAME, address, &[], 1);
    assert_eq!(grade(&strange, "incomplete_chain"), "bad");
    let both = found("imaps", "imap.example.org", address, &[], 1);
    assert_eq!((grade(&both, "wrong_name"), grade(&both, "incomplete_chain")), ("bad".to_owned(), "bad".to_owned()));
    assert_eq!((&both["certificate"]["trusted"], &both["certificate"]["name_matches"]), (&false.into(), &false.into()));
}

#[test]
fn a_command_that_is_run_behind_starttls_is_bad_on_every_protocol() {
    let servers: [(&str, Words); 3] = [("imap", careless::IMAP), ("pop3", careless::POP3), ("smtp", careless::SMTP)];
    for (scheme, words) in servers {
        let run = found(scheme, NAME, careless::serve(words, true), &[], 1);
        assert_eq!(grade(&run, "starttls_injection"), "bad", "{scheme}");
        let dropped = found(scheme, NAME, careless::serve(words, false), &[], 1);
        assert_eq!(grade(&dropped, "starttls_injection"), "ok", "{scheme}");
        assert_eq!(grade(&dropped, "self_signed"), "bad", "{scheme}");
        assert_eq!(grade(&dropped, "starttls_under_tls"), "warn", "{scheme}");
    }
}

#[test]
fn an_old_server_is_told_what_it_lacks() {
    let imap = found("imap", "localhost", old_server::serve(Speaks::Imap), &[], 1);
    let pop3 = found("pop3", "localhost", old_server::serve(Speaks::Pop3), &[], 1);
    let smtp = found("submission", "localhost", old_server::serve(Speaks::Smtp), &[], 1);
    for found in [&imap, &pop3, &smtp] {
        assert_eq!((grade(found, "starttls"), grade(found, "plaintext_login")), ("bad".to_owned(), "bad".to_owned()));
        assert!(found["tls"].is_null() && found["certificate"].is_null());
    }
    assert_eq!(grade(&smtp, "open_relay"), "bad");
    let implicit = found("imaps", "localhost", old_server::serve(Speaks::Imap), &["--timeout", "2s"], 1);
    assert_eq!(grade(&implicit, "tls"), "bad");
    let other = found("smtp", "localhost", old_server::serve(Speaks::Pop3), &[], 1);
    assert_eq!(grade(&other, "wrong_protocol"), "bad");
}

#[test]
fn a_server_that_is_not_there_or_silent_is_bad_and_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    for scheme in ["imap", "imaps"] {
        let silent = found(scheme, "localhost", address, &["--timeout", "200ms"], 1);
        assert_eq!(grade(&silent, "unreachable"), "bad");
    }
    drop(listener);
    let gone = found("imaps", "localhost", address, &[], 1);
    assert_eq!(grade(&gone, "unreachable"), "bad");
    assert!(gone["findings"][0]["text"].as_str().is_some_and(|text| text.contains("refused")), "{gone:#}");
}

#[test]
fn wrong_usage_says_what_to_write() {
    let misused =
        |arguments: &[&str], words: &[&str]| -> Outcome { gatepost(["probe"].iter().chain(arguments)).ends(2, words) };
    misused(&[], &["<URL>"]);
    misused(&["mail.example.net"], &["imaps://mail.example.net"]);
    misused(&["imaps://joe:secret@mail.example.net"], &["nobody logs in"]);
    misused(&["--timeout", "soon", "imaps://h"], &["--timeout"]);
    misused(&["--connect", "::1", "imaps://h"], &["--connect", "brackets"]);
    let folder = Folder::new();
    misused(&["--ca", &folder.at("absent.pem").display().to_string(), "imaps://h"], &["absent.pem", "cannot be read"]);
    let empty = folder.write("empty.pem", "nothing");
    misused(&["--ca", &empty.display().to_string(), "imaps://h"], &["empty.pem", "no certificate"]);
}

#[test]
fn the_help_says_what_is_looked_at_and_what_the_exit_code_means() {
    let help = gatepost(["probe", "--help"]).ends(0, &[]).out;
    for words in ["submission://", "Exit code: 0", "no mail is sent", "--ca <FILE>", "--json"] {
        assert!(help.contains(words), "lacks {words:?}: {help}");
    }
    // What we wrote fits a terminal as it is; the options are broken by clap.
    let ours = help.split_once("What URLs mean:").expect("the text behind the options").1;
    assert!(ours.lines().all(|line| line.chars().count() < 80), "{help}");
}
