//! How a start ends that cannot succeed.

use super::gateway::{Folder, Gateway, IMAPS};
use super::outcome::{gatepost, outcome, program};
use nix::sys::signal::Signal;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use std::net::TcpListener;

#[test]
fn wrong_usage_is_two_and_help_is_none_of_a_failure() {
    for arguments in [&[][..], &["nonsense"], &["run", "--nonsense"], &["run", "--port-offset", "x"], &["cert"]] {
        gatepost(arguments).ends(2, &["Usage: gatepost"][..usize::from(!arguments.contains(&"x"))]);
    }
    for (argument, words) in [("--help", "Commands:"), ("--version", concat!("gatepost ", env!("CARGO_PKG_VERSION")))] {
        let said = gatepost([argument]).ends(0, &[]);
        assert!(said.out.contains(words), "{said:?}");
    }
}

#[test]
fn a_refused_configuration_is_78_with_file_line_and_column() {
    let folder = Folder::new();
    let file = folder.configure(IMAPS, "limits: { sesions: 5 }");
    let place = format!("{}:", file.display());
    folder.gatepost(&["run"]).ends(78, &[&place, "sesions", "sessions"]);

    folder.configure(IMAPS, "runtime: { user: nobody-of-this-name }");
    folder.gatepost(&["run"]).ends(78, &[&place, "nobody-of-this-name"]);

    let absent = folder.at("absent.yaml");
    gatepost(["run".as_ref(), "-c".as_ref(), absent.as_os_str()]).ends(78, &["absent.yaml"]);

    let mut command = program();
    command.args(["run", "--backend", "10.0.0.5:143"]).env("GATEPOST_HOSTNAME", "mail.example.net");
    outcome(command).ends(78, &["--backend", "10.0.0.5:143"]);

    if !std::path::Path::new("/etc/gatepost/gatepost.yaml").exists() {
        gatepost(["run"]).ends(78, &["/etc/gatepost/gatepost.yaml", "--backend HOST"]);
    }
}

#[test]
fn ports_in_use_are_said_all_at_once_with_what_to_do() {
    let taken = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let [first, second] = taken.each_ref().map(|socket| socket.local_addr().expect("bound").to_string());
    let folder = Folder::new();
    folder.configure(
        &format!(
            "  imaps: {{ address: \"{first}\", protocol: imap }}\n  other: {{ address: \"{second}\", protocol: imap }}"
        ),
        "",
    );
    let words = ["imaps", &first, "other", &second, "Address already in use", "`ss -ltnp` names it"];
    folder.gatepost(&["run"]).ends(1, &words);
}

#[test]
fn an_address_this_host_does_not_have_is_said() {
    let folder = Folder::new();
    folder.configure("  imaps: { address: \"192.0.2.1:1993\", protocol: imap }", "");
    folder.gatepost(&["run"]).ends(1, &["192.0.2.1:1993", "this host has no such address"]);
}

#[test]
fn a_state_folder_that_cannot_be_made_is_named() {
    let folder = Folder::new();
    let file = folder.write("file", "");
    folder.configure(IMAPS, &format!("state_dir: {}/state", file.display()));
    folder.gatepost(&["run"]).ends(1, &["state_dir", "file/state"]);
}

#[test]
fn an_auth_log_that_cannot_be_opened_is_named() {
    let folder = Folder::new();
    folder.configure(IMAPS, "log: { auth_log: absent/auth.log }");
    folder.gatepost(&["run"]).ends(1, &["log.auth_log", "absent/auth.log", "No such file"]);
}

#[test]
fn a_gateway_whose_old_server_is_down_starts_all_the_same() {
    let folder = Folder::new();
    folder.configure(IMAPS, "");
    let down = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let text = std::fs::read_to_string(folder.at("gatepost.yaml")).expect("written");
    let backend = format!("backends: {{ main: {{ imap: \"{down}\" }} }}\n");
    let others = text.lines().filter(|line| !line.starts_with("backends:")).map(|line| format!("{line}\n"));
    folder.write("gatepost.yaml", others.collect::<String>() + &backend);
    let gateway = Gateway::start_in(&folder);
    assert_eq!(gateway.event("backend.down")["server"], down.to_string());
    gateway.terminate();
}

const PAIR: &str = "tls: { certificates: [ { chain: chain.pem, key: key.pem } ] }";

/// A certificate of its own for the gateway's name, good to the end of that year, and its key.
fn pair(until: i32) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(["mail.example.net".to_owned()]).expect("a name");
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 12, 31));
    (params.self_signed(&key).expect("signs").pem(), key.serialize_pem())
}

/// Writes files whose key is readable by its owner alone.
fn put(folder: &Folder, chain: &str, key: &str) {
    use std::os::unix::fs::PermissionsExt;
    folder.write("chain.pem", chain);
    let key = folder.write("key.pem", key);
    std::fs::set_permissions(key, PermissionsExt::from_mode(0o600)).expect("ours");
}

#[test]
fn a_certificate_in_the_middle_of_its_renewal_is_waited_for_and_said() {
    let folder = Folder::new();
    folder.configure(IMAPS, PAIR);
    let ((old, _), (new, key)) = (pair(2100), pair(2101));
    put(&folder, &old, &key);
    let mut command = program();
    command.args(["run", "-c"]).arg(folder.at("gatepost.yaml"));
    let gateway = Gateway::spawn(&folder, command);
    gateway.hint("the key in");
    gateway.hint("tried again for 30 s");
    put(&folder, &new, &key);
    gateway.event("certificate.loaded");
    gateway.message("listening on");
    gateway.terminate();
}

#[test]
fn a_certificate_is_waited_for_at_a_start_alone_and_only_if_all_else_is_good() {
    let folder = Folder::new();
    put(&folder, &pair(2100).0, &pair(2101).1);
    folder.configure(IMAPS, PAIR);
    let said = folder.gatepost(&["check"]).ends(78, &["does not belong to the certificate"]);
    assert!(!said.err.contains("tried again"), "{said:?}");

    folder.configure(IMAPS, &format!("{PAIR}\nlimits: {{ sesions: 5 }}"));
    let said = folder.gatepost(&["run"]).ends(78, &["does not belong to the certificate", "sesions"]);
    assert!(!said.err.contains("tried again"), "{said:?}");
}

#[test]
fn a_warning_about_a_certificate_is_said_once_at_start_and_once_at_a_reload() {
    let folder = Folder::new();
    folder.configure(IMAPS, PAIR);
    let (chain, key) = pair(2021);
    put(&folder, &chain, &key);
    let gateway = Gateway::start_in(&folder);
    gateway.event("certificate.loaded");
    gateway.hint("expired on");
    gateway.hint("signed by itself");
    let times = |words: &str| gateway.said().lines().filter(|line| line.contains(words)).count();
    assert_eq!((times("expired on"), times("signed by itself")), (1, 1), "{}", gateway.said());

    folder.configure(IMAPS, &format!("{PAIR}\nlimits: {{ ban: 2h }}"));
    gateway.signal(Signal::SIGHUP);
    gateway.event("config.reloaded");
    assert_eq!((times("expired on"), times("signed by itself")), (2, 2), "{}", gateway.said());
    // Other files, with other words: what is new is said, once.
    let other = pair(2022);
    folder.write("other.pem", &other.0);
    put(&folder, &other.0, &other.1);
    folder.configure(IMAPS, "tls: { certificates: [ { chain: other.pem, key: key.pem } ] }");
    let before = gateway.lines_so_far();
    gateway.signal(Signal::SIGHUP);
    gateway.event_after(before, "config.reloaded");
    assert_eq!(times("other.pem expired on 2022"), 1, "{}", gateway.said());
    gateway.terminate();
}

/// See `.cargo/config.toml`: it would cost each start a tenth of a second, and on some machines the start itself.
#[test]
fn no_start_waits_for_the_jitter_of_the_processor() {
    let file = std::fs::read(env!("CARGO_BIN_EXE_gatepost")).expect("the program");
    let is_there = |words: &[u8]| memchr::memmem::find(&file, words).is_some();
    assert!(is_there(b"getrandom"), "its names can be read");
    assert!(!is_there(b"jent_read_entropy"), "built without .cargo/config.toml");
}
