//! `runtime.user`.

use super::client::Client;
use super::gateway::{Folder, Gateway, IMAPS};
use super::outcome::{is_root_for, outcome, own_address, program_under};
use nix::sys::signal::Signal;
use nix::unistd::{Group, User, chown};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

pub fn nobody() -> User {
    User::from_name("nobody").expect("a user database").expect("a user `nobody`")
}

#[test]
fn root_is_left_for_good_once_the_ports_are_bound() {
    if !is_root_for("runtime.user") {
        return;
    }
    let address = own_address();
    let folder = Folder::new();
    // Below folders that do not exist yet, as on a new machine.
    let more =
        "runtime: { user: nobody }\nstate_dir: lib/gatepost\nadmin: { address: null, socket: run/gatepost/admin.sock }";
    folder.configure(&format!("  imaps: {{ address: \"{address}:993\", protocol: imap }}"), more);
    let mut command = super::outcome::program();
    command.args(["run", "-c"]).arg(folder.at("gatepost.yaml"));
    let gateway = Gateway::spawn(&folder, command);
    gateway.message("listening on");
    gateway.message("running as nobody:");

    let user = nobody();
    let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
    assert_eq!(gateway.proc_status("Uid"), vec![uid; 4], "real, effective, saved, of files");
    assert_eq!(gateway.proc_status("Gid"), vec![gid.clone(); 4]);
    let groups = gateway.proc_status("Groups");
    assert!(groups.iter().all(|group| *group == gid), "no group of root's stays: {groups:?}");
    assert_eq!(gateway.proc_status("CapEff"), ["0000000000000000"]);

    let state = std::fs::metadata(folder.at("lib/gatepost")).expect("made");
    assert_eq!((state.mode() & 0o777, state.uid(), state.gid()), (0o700, user.uid.as_raw(), user.gid.as_raw()));
    assert_eq!(std::fs::metadata(folder.at("lib")).expect("made").mode() & 0o777, 0o755);

    let root = std::fs::read(folder.at("lib/gatepost/ca/root.pem")).expect("a CA");
    Client::tls((address, 993).into(), &root).expect("TLS").imap_login("joe").noop();
    gateway.folder.gatepost(&["status", "--health"]).ends(0, &[]);
    gateway.terminate();
    assert!(!folder.at("run/gatepost/admin.sock").exists(), "the folder is the user's, so the socket can go");
}

#[test]
fn a_group_of_its_own_by_name_or_number() {
    if !is_root_for("runtime.group") {
        return;
    }
    let daemon = Group::from_name("daemon").expect("a group database").expect("a group `daemon`");
    for written in ["daemon".to_owned(), format!("\"{}\"", daemon.gid)] {
        let gateway = Gateway::start(IMAPS, &format!("runtime: {{ user: nobody, group: {written} }}"));
        assert_eq!(gateway.proc_status("Gid")[1], daemon.gid.to_string());
    }
}

#[test]
fn a_certificate_that_the_user_cannot_read_is_refused_at_start() {
    if !is_root_for("runtime.user") {
        return;
    }
    let folder = Folder::new();
    let mut openssl = Command::new("openssl");
    openssl.current_dir(folder.at("")).args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"]);
    openssl.args("-subj /CN=mail.example.net -addext subjectAltName=DNS:mail.example.net".split(' '));
    openssl.args(["-keyout", "key.pem", "-out", "chain.pem"]);
    outcome(openssl).ends(0, &[]);
    std::fs::set_permissions(folder.at("key.pem"), PermissionsExt::from_mode(0o600)).expect("ours");
    let more = "runtime: { user: nobody }\ntls: { certificates: [ { chain: chain.pem, key: key.pem } ] }";
    folder.configure(IMAPS, more);
    for command in ["run", "check"] {
        folder.gatepost(&[command]).ends(78, &["gatepost.yaml:", "key.pem", "runtime.user `nobody` has no permission"]);
    }
    chown(&folder.at("key.pem"), Some(nobody().uid), None).expect("root may");
    let gateway = Gateway::start_in(&folder);
    let root = std::fs::read(folder.at("chain.pem")).expect("written");
    Client::tls(gateway.address("imaps"), &root).map_or_else(
        // A certificate that is its own root is no end of a chain to everybody; that it is shown is what counts.
        |error| assert!(error.to_string().contains("certificate"), "{error}"),
        |client| drop(client.imap_login("joe")),
    );
}

#[test]
fn a_state_folder_of_somebody_else_s_is_named_with_what_to_do() {
    if !is_root_for("runtime.user") {
        return;
    }
    let folder = Folder::new();
    folder.configure(IMAPS, "");
    // Begun as root, as one does.
    Gateway::start_in(&folder).terminate();
    folder.configure(IMAPS, "runtime: { user: nobody }");
    folder.gatepost(&["run"]).ends(1, &["state", "Permission denied", "the gateway's user can write"]);
}

#[test]
fn only_root_can_become_another() {
    if !is_root_for("being nobody") {
        return;
    }
    let folder = Folder::new();
    folder.configure(IMAPS, "runtime: { user: daemon }");
    let mut command = program_under("setpriv", &["--reuid", "nobody", "--clear-groups"]);
    command.arg(env!("CARGO_BIN_EXE_gatepost")).args(["run", "-c"]).arg(folder.at("gatepost.yaml"));
    let outcome = outcome(command);
    if outcome.code == Some(127) || outcome.err.contains("Permission denied") && outcome.err.contains("setpriv") {
        // The program is built where only root may enter.
        eprintln!("NOT TESTED: {} is out of the reach of nobody", env!("CARGO_BIN_EXE_gatepost"));
        return;
    }
    outcome.ends(78, &["only root can become \"daemon\""]);
}

#[test]
fn a_configuration_that_only_root_reads_is_told_at_start() {
    if !is_root_for("runtime.user") {
        return;
    }
    let folder = Folder::new();
    let file = folder.configure(IMAPS, "runtime: { user: nobody }");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("ours");
    let gateway = Gateway::start_in(&folder);
    let told = gateway.message("gatepost.yaml");
    assert_eq!(told["level"], "warn");
    gateway.signal(Signal::SIGHUP);
    let refused = gateway.event("config.refused");
    assert!(refused["detail"].to_string().contains("Permission denied"), "{refused}");
    gateway.tls("imaps").imap_login("joe").noop();
}
