//! `client_address: transparent` between three hosts: a client, the gateway on the way to an old server, and that server. Each is
//! a network namespace that ends with the program in it.

use crate::clients::{client, output_of};
use crate::kept::{Kept, directory, until, write};
use nix::unistd::Pid;
use std::path::Path;
use std::process::Command;

/// A host with nothing but its loopback.
struct Host(Kept);

impl Host {
    fn new(directory: &Path) -> Self {
        let kept = Kept::start("unshare", &["--net", "sleep", "infinity"], &directory.join("host.log"), None);
        let host = Self(kept);
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("a process of ours");
        until("a network of its own", || (of(&host.pid().to_string()) != of("self")).then_some(()));
        host.ip("link set lo up");
        host
    }

    fn pid(&self) -> Pid {
        self.0.pid()
    }

    /// The arguments of `nsenter` for a program on this host.
    fn within(&self, program: &[&str]) -> Vec<String> {
        let pid = self.pid().to_string();
        ["--target", &pid, "--net", "--"].iter().chain(program).map(|word| (*word).to_owned()).collect()
    }

    fn command(&self, program: &[&str]) -> Command {
        let mut command = client("nsenter");
        command.args(self.within(program));
        command
    }

    fn ip(&self, arguments: &str) {
        let words: Vec<&str> = ["ip"].into_iter().chain(arguments.split_whitespace()).collect();
        output_of(self.command(&words), b"");
    }
}

/// A server that says who dials it, and lets everybody in.
const OLD_SERVER: &str = "
import socket, threading
def serve(c):
    c.sendall(b'* OK [CAPABILITY IMAP4rev1] ready\\r\\n')
    for line in c.makefile('rb'):
        tag, command = line.split()[:2]
        bye = command.upper() == b'LOGOUT'
        c.sendall((b'* BYE\\r\\n' if bye else b'') + tag + b' OK done\\r\\n')
        if bye: break
    c.close()
with socket.create_server(('10.99.2.2', 143)) as s:
    print('listening', flush=True)
    while True:
        c, a = s.accept()
        print('dialled by', a[0], flush=True)
        threading.Thread(target=serve, args=(c,)).start()
";

#[test]
fn an_old_server_sees_the_client_though_we_have_become_nobody() {
    let directory = directory("transparent");
    let (customer, gateway, old) = (Host::new(&directory), Host::new(&directory), Host::new(&directory));
    for (host, name, address, theirs) in
        [(&customer, "customers", "10.99.1", "10.99.1.2"), (&old, "servers", "10.99.2", "10.99.2.2")]
    {
        gateway.ip(&format!("link add {name} type veth peer name out netns {}", host.pid()));
        gateway.ip(&format!("address add {address}.1/24 dev {name}"));
        gateway.ip(&format!("link set {name} up"));
        host.ip(&format!("address add {theirs}/24 dev out"));
        host.ip("link set out up");
        host.ip(&format!("route add default via {address}.1"));
    }
    // The recipe of the documentation: what the server answers to a client comes to us.
    gateway.ip("rule add iif servers ipproto tcp sport 143 lookup 100");
    gateway.ip("route add local default dev lo table 100");

    let server = old.within(&["python3", "-c", OLD_SERVER]);
    let server = Kept::start("nsenter", &server, &directory.join("server.log"), None);
    until("the server to listen", || server.said().contains("listening").then_some(()));
    let configuration = directory.join("gatepost.yaml");
    write(
        &configuration,
        format!(
            "hostname: mail.example.net\n\
             state_dir: {at}/state\n\
             log: {{ format: json }}\n\
             admin: {{ address: null, socket: null }}\n\
             runtime: {{ user: nobody }}\n\
             listeners:\n  imap: {{ address: 10.99.1.1:143, protocol: imap, tls: off, allow: [10.99.1.0/24] }}\n\
             backends:\n  main: {{ imap: 10.99.2.2:143, client_address: transparent }}\n",
            at = directory.display()
        ),
    );
    let configuration = configuration.to_str().expect("ASCII");
    let program = gateway.within(&[env!("CARGO_BIN_EXE_gatepost"), "run", "-c", configuration]);
    let gatepost = Kept::start("nsenter", &program, &directory.join("log"), Some(&directory));
    until("the health check", || gatepost.said().contains("\"backend.up\"").then_some(()));
    let status = std::fs::read_to_string(format!("/proc/{}/status", gatepost.pid())).expect("it runs");
    assert!(status.contains("CapEff:\t0000000000002000"), "CAP_NET_RAW and nothing else:\n{status}");

    let curl = customer.command(&["curl", "--silent", "--show-error", "--user", "joe:secret", "imap://10.99.1.1/"]);
    output_of(curl, b"");
    let seen: Vec<String> =
        server.said().lines().filter_map(|line| line.strip_prefix("dialled by ")).map(str::to_owned).collect();
    assert_eq!(seen, ["10.99.2.1", "10.99.1.2"], "the health check comes from us, the session from the client");
}
