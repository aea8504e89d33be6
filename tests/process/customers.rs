//! Customers with certificates: the gateway's own CA signs them, and whoever signs them changes while it runs.

use super::client::Client;
use super::gateway::{Folder, Gateway, IMAPS};
use super::outcome::until;
use nix::sys::signal::Signal;

/// A certificate for a client and its key, by the CA in `state`.
fn issued(folder: &Folder, state: &str, name: &str) -> (Vec<u8>, Vec<u8>) {
    let (state, out) = (folder.at(state), folder.at(""));
    let state = state.to_str().expect("UTF-8");
    let out = out.to_str().expect("UTF-8");
    super::outcome::gatepost(["cert", "issue", "--client", name, "--state-dir", state, "--out", out]).ends(0, &[]);
    let read = |end: &str| std::fs::read(folder.at(&format!("{name}.{end}"))).expect("issued");
    (read("pem"), read("key"))
}

fn asking() -> String {
    IMAPS.replace(" }", ", client_certificate: require }")
}

#[test]
fn who_signs_customers_changes_by_itself_and_a_broken_file_leaves_who_was_believed() {
    let folder = Folder::new();
    folder.configure(IMAPS, "");
    folder.gatepost(&["cert", "init"]).ends(0, &[]);
    let other = folder.at("other");
    let other = other.to_str().expect("UTF-8");
    super::outcome::gatepost(["cert", "init", "--state-dir", other, "--hostname", "other"]).ends(0, &[]);
    let (joe, ann) = (issued(&folder, "state", "joe@example.net"), issued(&folder, "other", "ann@example.net"));
    let [first, second] = ["state", "other"].map(|state| std::fs::read(folder.at(&format!("{state}/ca/root.pem"))));
    let (first, second) = (first.expect("a root"), second.expect("a root"));
    // As a careful script replaces a file: another one, whole at once, which the sandbox must reach too.
    std::fs::create_dir(folder.at("customers")).expect("a folder");
    let put = |text: &[u8]| {
        let new = folder.write("customers/new.pem", text);
        std::fs::rename(new, folder.at("customers/ca.pem")).expect("renamed");
    };
    put(&first);
    folder.configure(&asking(), "tls: { client_ca: customers/ca.pem }");
    let gateway = Gateway::start_in(&folder);
    let address = gateway.address("imaps");
    let connect = |own: &(Vec<u8>, Vec<u8>)| Client::tls_with((&own.0, &own.1), address, &gateway.folder.root());
    let mut session = connect(&joe).expect("TLS").imap_login("joe");
    let event = gateway.event("auth.ok");
    assert_eq!(event["tls"]["client"]["name"], "joe@example.net", "{event}");
    assert!(connect(&ann).is_err());
    assert_eq!(gateway.event("tls.failed")["reason"], "client_certificate");
    let before = gateway.lines_so_far();
    assert!(Client::tls(address, &gateway.folder.root()).map_or(true, |mut client| client.rest().is_empty()));
    assert_eq!(gateway.event_after(before, "tls.failed")["reason"], "no_client_certificate");

    let before = gateway.lines_so_far();
    put(&second);
    let loaded = gateway.event_after(before, "certificate.loaded");
    assert!(loaded["detail"].to_string().contains("tls.client_ca"), "{loaded}");
    assert!(connect(&joe).is_err());
    connect(&ann).expect("TLS").imap_login("ann");
    session.noop();

    for broken in [&b"nothing"[..], &second[..100]] {
        let before = gateway.lines_so_far();
        put(broken);
        let refused = gateway.event_after(before, "certificate.refused");
        assert!(refused["detail"].to_string().contains("customers/ca.pem"), "{refused}");
        connect(&ann).expect("TLS").imap_login("ann");
    }
    let before = gateway.lines_so_far();
    gateway.signal(Signal::SIGHUP);
    let refused = gateway.event_after(before, "config.refused");
    assert!(refused["detail"].to_string().contains("tls.client_ca"), "{refused}");
    connect(&ann).expect("TLS").imap_login("ann");

    // A listener that asks no more, and one that begins to.
    put(&second);
    folder.configure(IMAPS, "");
    let before = gateway.lines_so_far();
    gateway.signal(Signal::SIGHUP);
    gateway.event_after(before, "config.reloaded");
    gateway.tls("imaps").imap_login("joe");
    folder.configure(&asking(), "tls: { client_ca: customers/ca.pem }");
    let before = gateway.lines_so_far();
    gateway.signal(Signal::SIGHUP);
    gateway.event_after(before, "config.reloaded");
    assert!(connect(&joe).is_err());
    connect(&ann).expect("TLS").imap_login("ann");
}

#[test]
fn a_start_waits_for_a_file_that_is_being_written() {
    let folder = Folder::new();
    folder.configure(IMAPS, "");
    folder.gatepost(&["cert", "init"]).ends(0, &[]);
    let root = folder.root();
    folder.write("clients.pem", &root[..root.len() / 2]);
    folder.configure(&asking(), "tls: { client_ca: clients.pem }");
    let mut command = super::outcome::program();
    command.args(["run", "-c"]).arg(folder.at("gatepost.yaml"));
    let gateway = Gateway::spawn(&folder, command);
    gateway.hint("tls.client_ca");
    folder.write("clients.pem", &root);
    let socket = folder.socket();
    until("the gateway to be ready", || std::os::unix::net::UnixStream::connect(&socket).ok());
    let joe = issued(&folder, "state", "joe");
    Client::tls_with((&joe.0, &joe.1), gateway.address("imaps"), &root).expect("TLS").imap_login("joe");
}
