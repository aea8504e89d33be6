//! IPv4 and IPv6 on one socket.

use super::client::Client;
use super::gateway::{Folder, Gateway};
use super::outcome::{is_root_for, outcome, program, program_under};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;

/// One listener for everybody.
fn everywhere(more: &str) -> String {
    format!("  imap: {{ address: \"[::]:0\", protocol: imap, tls: starttls{more} }}")
}

fn greeting(gateway: &Gateway, host: impl Into<IpAddr>) -> String {
    let address = SocketAddr::new(host.into(), gateway.address("imap").port());
    Client::plain(address).expect("connects").line()
}

#[test]
fn an_ipv4_client_of_an_ipv6_socket_is_an_ipv4_client() {
    let gateway = Gateway::start(&everywhere(", allow: [127.0.0.0/8]"), "");
    assert!(greeting(&gateway, Ipv4Addr::LOCALHOST).starts_with("* OK"));
    let closed = gateway.event("session.closed");
    assert_eq!(closed["client_ip"], "127.0.0.1");

    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        assert!(greeting(&gateway, Ipv6Addr::LOCALHOST).starts_with("* BYE"));
        let refused = gateway.event("connection.refused");
        assert_eq!((refused["client_ip"].as_str(), refused["reason"].as_str()), (Some("::1"), Some("not_allowed")));
    }
}

#[test]
fn an_ipv4_deny_list_holds_on_an_ipv6_socket() {
    let gateway = Gateway::start(&everywhere(", deny: [127.0.0.1]"), "");
    assert!(greeting(&gateway, Ipv4Addr::LOCALHOST).starts_with("* BYE"));
    assert_eq!(gateway.event("connection.refused")["client_ip"], "127.0.0.1");
}

#[test]
fn an_ipv6_address_of_its_own_takes_ipv6_alone() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let gateway = Gateway::start(&everywhere("").replace("[::]", "[::1]"), "");
    assert!(greeting(&gateway, Ipv6Addr::LOCALHOST).starts_with("* OK"));
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), gateway.address("imap").port());
    assert!(Client::plain(address).is_err());
}

#[test]
fn with_ipv6_switched_off_ipv4_still_gets_in() {
    if !is_root_for("a network namespace without IPv6") {
        return;
    }
    let folder = Folder::new();
    folder.configure(&everywhere(""), "");
    let script = "ip link set lo up; echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; exec \"$@\"";
    let command = program_under("unshare", &["--net", "sh", "-ec", script, "sh", env!("CARGO_BIN_EXE_gatepost")]);
    let gateway = Gateway::start_by(&folder, command);
    let mut inside = Command::new("nsenter");
    inside.args(["--net", "--target", &gateway.pid().to_string(), "bash", "-ec"]);
    inside.args(["exec 3<>/dev/tcp/127.0.0.1/$0; read -r line <&3; echo \"$line\""]);
    inside.arg(gateway.address("imap").port().to_string());
    assert!(outcome(inside).ends(0, &[]).out.starts_with("* OK"));
}

/// A kernel without IPv6 refuses its sockets, and so does this library before the C library's.
const WITHOUT_IPV6: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>
int socket(int domain, int type, int protocol) {
    if (domain == AF_INET6) { errno = EAFNOSUPPORT; return -1; }
    int (*real)(int, int, int) = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
    return real(domain, type, protocol);
}
"#;

#[test]
fn on_a_kernel_without_ipv6_everywhere_is_ipv4_and_the_log_says_so() {
    let folder = Folder::new();
    folder.configure(&everywhere(""), "");
    let library = folder.at("without_ipv6.so");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(folder.write("without_ipv6.c", WITHOUT_IPV6))
        .arg("-ldl");
    outcome(compiler).ends(0, &[]);

    let mut command = program();
    command.env("LD_PRELOAD", &library);
    let gateway = Gateway::start_by(&folder, command);
    let said = gateway.message("this host has no IPv6");
    assert_eq!(said["message"], "this host has no IPv6: listening on 0.0.0.0:0 instead of [::]:0");
    assert!(gateway.address("imap").is_ipv4());
    assert!(greeting(&gateway, Ipv4Addr::LOCALHOST).starts_with("* OK"));

    // The door is known again by what is configured, not by what it became.
    gateway.folder.gatepost(&["reload"]).ends(0, &["reloaded"]);
    assert_eq!(gateway.addresses("imap").len(), 1, "{}", gateway.said());
}

#[test]
fn a_port_that_another_gatepost_has_is_refused_though_both_have_many_sockets() {
    for (ours, theirs) in [(1, 2), (2, 1), (2, 2)] {
        let first = Gateway::start(&everywhere(""), &format!("runtime: {{ workers: {ours} }}"));
        let port = first.address("imap").port();
        let second = Folder::new();
        let listeners = everywhere("").replace(":0\"", &format!(":{port}\""));
        second.configure(&listeners, &format!("runtime: {{ workers: {theirs} }}"));
        second.gatepost(&["run"]).ends(1, &[&format!("cannot listen on [::]:{port}"), "ss -ltnp"]);
        // And the first goes on as before.
        for _ in 0..10 {
            assert!(greeting(&first, Ipv4Addr::LOCALHOST).starts_with("* OK"));
        }
        first.terminate();
    }
}

#[test]
fn every_worker_serves() {
    let gateway = Gateway::start(&everywhere(""), "runtime: { workers: 3 }");
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), gateway.address("imap").port());
    let sockets = std::fs::read_to_string(format!("/proc/{}/net/tcp6", gateway.pid())).expect("it runs");
    // Its hexadecimal port, and LISTEN.
    let listening = format!(":{:04X} 00000000000000000000000000000000:0000 0A", address.port());
    assert_eq!(sockets.matches(&listening).count(), 3, "{sockets}");
    // However they are spread, all are there at once.
    let mut clients: Vec<_> = (0..60).map(|_| Client::plain(address).expect("connects")).collect();
    assert!(clients.iter_mut().all(|client| client.line().starts_with("* OK")));
}
