//! `run` without a file: flags and the environment. In mount namespaces of their own, for there the state folder and
//! the admin socket stand where every gateway of this machine has them.

use super::client::Client;
use super::gateway::{Folder, Gateway};
use super::old_server::{Speaks, serve_at};
use super::outcome::{gatepost, is_root_for, own_address, program_under, until};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Becomes what follows, with empty `/run` and `/var/lib`.
const OWN_FOLDERS: [&str; 5] =
    ["--mount", "sh", "-ec", "mount -t tmpfs own /run; mount -t tmpfs own /var/lib; exec \"$@\"", "sh"];

/// An old server on the standard ports of an address of its own.
fn old_server() -> Ipv4Addr {
    let address = own_address();
    for (speaks, port) in [(Speaks::Imap, 143), (Speaks::Pop3, 110), (Speaks::Smtp, 25)] {
        serve_at(speaks, (address, port).into());
    }
    address
}

/// An offset with which nobody listens on the default ports. Each caller has candidates of its own: tests run side by side,
/// and what is free for two of them at once is not for long.
fn free_offset() -> u16 {
    static CALLERS: AtomicU32 = AtomicU32::new(0);
    let first = CALLERS.fetch_add(1, Ordering::Relaxed) * 20;
    let candidates = (first..first + 20)
        .map(|step| 20_000 + u16::try_from((std::process::id() + step * 97) % 40_000).expect("fits"));
    let is_free =
        |offset: &u16| [993, 995, 465, 587].iter().all(|port| TcpListener::bind(("::", port + offset)).is_ok());
    candidates.into_iter().find(is_free).expect("four free ports")
}

fn without_file() -> Command {
    let mut command = program_under("unshare", &OWN_FOLDERS);
    command.args([env!("CARGO_BIN_EXE_gatepost"), "run"]);
    command
}

fn start(command: Command) -> Gateway {
    let gateway = Gateway::spawn(&Folder::new(), command);
    until("the admin socket", || {
        let socket = format!("/proc/{}/root/run/gatepost/admin.sock", gateway.pid());
        std::os::unix::net::UnixStream::connect(socket).ok()
    });
    gateway
}

#[test]
fn a_backend_s_name_is_enough_to_read_and_send_through_it() {
    if !is_root_for("running without a file") {
        return;
    }
    let (backend, offset) = (old_server(), free_offset());
    let mut command = without_file();
    command.args(["--backend", &backend.to_string(), "--hostname", "mail.example.net", "--admin-address", "off"]);
    command.args(["--port-offset", &offset.to_string()]);
    let gateway = start(command);
    let root = gatepost(["cert", "export", "--state-dir", &format!("/proc/{}/root/var/lib/gatepost", gateway.pid())])
        .ends(0, &["SHA-256 "])
        .out;
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port + offset));

    Client::tls(at(993), root.as_bytes()).expect("IMAPS").imap_login("joe").noop();

    let mut pop3 = Client::tls(at(995), root.as_bytes()).expect("POP3S");
    assert!(pop3.line().starts_with("+OK"));
    pop3.ask("USER joe", "+OK");
    pop3.ask("PASS secret", "+OK");

    let mut smtp = Client::tls(at(465), root.as_bytes()).expect("SMTPS");
    assert!(smtp.line().starts_with("220 mail.example.net"));
    smtp.ask("EHLO client", "250 ");
    smtp.ask("MAIL FROM:<joe@example.net>", "530 ");
    smtp.ask("AUTH PLAIN AGpvZQBzZWNyZXQ=", "235 ");
    smtp.ask("MAIL FROM:<joe@example.net>", "250 ");
    smtp.ask("RCPT TO:<ann@example.net>", "250 ");
    smtp.ask("DATA", "354 ");
    smtp.ask("Subject: hello\r\n\r\nhello\r\n.", "250 ");

    let mut plain = Client::plain(at(587)).expect("submission");
    assert!(plain.line().starts_with("220 mail.example.net"));
    let offered = plain.ask("EHLO client", "250 ");
    assert!(offered.iter().any(|line| line.ends_with("STARTTLS")), "{offered:?}");
    // Whoever stays would be given the whole of the drain's ten minutes.
    drop((pop3, smtp, plain));
    gateway.terminate();
}

#[test]
fn a_flag_stands_before_the_environment_and_both_before_a_file() {
    if !is_root_for("running without a file") {
        return;
    }
    let backend = old_server().to_string();
    let environment = |command: &mut Command| {
        command.env("GATEPOST_BACKEND", &backend).env("GATEPOST_HOSTNAME", "environment.example.net");
        command.env("GATEPOST_ADMIN_ADDRESS", "off").env("GATEPOST_PORT_OFFSET", free_offset().to_string());
        // A compose file passes on what is not set like this.
        command.env("GATEPOST_CERT", "").env("GATEPOST_KEY", "").env("GATEPOST_CONFIG", "");
    };
    let name = |gateway: &Gateway| {
        let loaded = gateway.event("certificate.loaded")["detail"].to_string();
        loaded.trim_matches('"').split(';').next().expect("names").to_owned()
    };

    let mut command = without_file();
    environment(&mut command);
    let gateway = start(command);
    assert_eq!(name(&gateway), "environment.example.net");
    gateway.terminate();

    let mut command = without_file();
    environment(&mut command);
    command.args(["--hostname", "flag.example.net"]);
    let gateway = start(command);
    assert_eq!(name(&gateway), "flag.example.net");
    gateway.terminate();

    let folder = Folder::new();
    folder.configure(super::gateway::IMAPS, "");
    let mut command = super::outcome::program();
    environment(&mut command);
    let gateway = Gateway::start_by(&folder, command);
    assert_eq!(name(&gateway), "environment.example.net");
    let status = folder.gatepost(&["status", "--json"]).ends(0, &[]).out;
    assert!(!status.contains(&backend), "the file names the backend: {status}");
    assert!(gateway.said().contains("--backend (GATEPOST_BACKEND): is not looked at"), "{}", gateway.said());
    gateway.terminate();
}

#[test]
fn a_backend_on_the_command_line_stands_before_a_file_in_the_environment() {
    let folder = Folder::new();
    let file = folder.write("gatepost.yaml", "hostname: 7\n");
    let ended = |arguments: &[&str]| {
        let mut command = super::outcome::program();
        command.args(arguments).env("GATEPOST_CONFIG", &file).env("GATEPOST_HOSTNAME", "mail.example.net");
        super::outcome::outcome(command)
    };
    let said = ended(&["check", "--backend", "10.0.0.5"]).ends(0, &["4 listeners, 1 backend"]);
    assert!(!said.err.contains("gatepost.yaml"), "{said:?}");
    // Both commands take their flags alike; this one ends by itself because the offset is wrong.
    let said = ended(&["run", "--backend", "10.0.0.5", "--port-offset", "65535"]).ends(78, &["65535"]);
    assert!(!said.err.contains("gatepost.yaml"), "{said:?}");
    ended(&["check"]).ends(78, &["gatepost.yaml"]);
    // Two flags: the file is read, and what the other is for is said.
    let path = file.display().to_string();
    let flags = ["check", "--backend", "10.0.0.5", "-c", &path];
    ended(&flags).ends(78, &["gatepost.yaml", "--backend (GATEPOST_BACKEND): is not looked at"]);
    // One place in the environment beside another: as ever, the file.
    let mut command = super::outcome::program();
    command.arg("check").env("GATEPOST_CONFIG", &file).env("GATEPOST_BACKEND", "10.0.0.5");
    super::outcome::outcome(command).ends(78, &["gatepost.yaml"]);
}

#[test]
fn nobody_outside_the_allow_list_comes_in() {
    if !is_root_for("running without a file") {
        return;
    }
    let offset = free_offset();
    let mut command = without_file();
    command.args(["--backend", &old_server().to_string(), "--hostname", "mail.example.net", "--admin-address", "off"]);
    command.args(["--port-offset", &offset.to_string(), "--allow", "192.0.2.0/24, 2001:db8::/32"]);
    let gateway = start(command);
    assert_eq!(
        Client::plain(([127, 0, 0, 1], 587 + offset).into()).expect("connects").line(),
        "554 5.7.1 Access denied"
    );
    let refused = gateway.event("connection.refused");
    assert_eq!((refused["reason"].as_str(), refused["client_ip"].as_str()), (Some("not_allowed"), Some("127.0.0.1")));
    gateway.terminate();
}
