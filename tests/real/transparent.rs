//! `client_address: transparent` and `source` between three hosts: a client, the gateway on the way to an old server, and that
//! server, each with IPv4 and IPv6. Each is a network namespace that ends with the program in it.

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
with socket.create_server(('::', 143), family=socket.AF_INET6, dualstack_ipv6=True) as s:
    print('listening', flush=True)
    while True:
        c, a = s.accept()
        print('dialled by', a[0].removeprefix('::ffff:'), flush=True)
        threading.Thread(target=serve, args=(c,)).start()
";

/// The three of them, the server listening, and the program before it.
struct Site {
    customer: Host,
    server: Kept,
    gatepost: Kept,
    /// They end after what runs on them.
    _hosts: [Host; 2],
}

impl Site {
    /// `recipe`: what is set up on the gateway besides its addresses, a command a line. `four` and `six`: the backends for clients of
    /// IPv4 and IPv6.
    fn start(name: &str, recipe: &str, four: &str, six: &str) -> Self {
        let directory = directory(name);
        let (customer, gateway, old) = (Host::new(&directory), Host::new(&directory), Host::new(&directory));
        for (host, name, net) in [(&customer, "customers", 1), (&old, "servers", 2)] {
            gateway.ip(&format!("link add {name} type veth peer name out netns {}", host.pid()));
            for (at, link, last) in [(&gateway, name, 1), (host, "out", 2)] {
                at.ip(&format!("address add 10.99.{net}.{last}/24 dev {link}"));
                // At once: nobody else can have it.
                at.ip(&format!("address add fd99:{net}::{last}/64 dev {link} nodad"));
            }
            gateway.ip(&format!("link set {name} up"));
            host.ip("link set out up");
            host.ip(&format!("route add default via 10.99.{net}.1"));
            host.ip(&format!("-6 route add default via fd99:{net}::1"));
        }
        for command in recipe.lines() {
            gateway.ip(command);
        }
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
                 listeners:\n\
                 \x20 four: {{ address: 10.99.1.1:143, protocol: imap, tls: off, allow: [10.99.1.0/24], backend: four }}\n\
                 \x20 six: {{ address: \"[fd99:1::1]:143\", protocol: imap, tls: off, allow: [\"fd99:1::/64\"], backend: six }}\n\
                 backends:\n\
                 \x20 four: {{ {four} }}\n\
                 \x20 six: {{ {six} }}\n",
                at = directory.display()
            ),
        );
        let configuration = configuration.to_str().expect("ASCII");
        let program = gateway.within(&[env!("CARGO_BIN_EXE_gatepost"), "run", "-c", configuration]);
        let gatepost = Kept::start("nsenter", &program, &directory.join("log"), Some(&directory));
        let site = Self { customer, server, gatepost, _hosts: [gateway, old] };
        let servers = [four, six].concat().matches(":143").count();
        let up = || site.gatepost.said().matches("\"backend.up\"").count();
        until("the health checks", || (up() == servers).then_some(()));
        site
    }

    /// Logs in at both addresses; gives who dialled the server in all, sorted.
    fn logged_in(&self) -> Vec<String> {
        for at in ["10.99.1.1", "[fd99:1::1]"] {
            let curl =
                ["curl", "--silent", "--show-error", "--globoff", "--user", "joe:secret", &format!("imap://{at}/")];
            output_of(self.customer.command(&curl), b"");
        }
        let said = self.server.said();
        let mut seen: Vec<_> =
            said.lines().filter_map(|line| line.strip_prefix("dialled by ")).map(str::to_owned).collect();
        seen.sort();
        seen
    }
}

#[test]
fn an_old_server_sees_the_client_though_we_have_become_nobody() {
    // The recipe of the documentation: what the server answers to a client comes to us.
    let recipe: Vec<String> = include_str!("../../deploy/docs/servers-behind.md")
        .lines()
        .filter_map(|line| line.strip_prefix("ip "))
        .map(|command| command.replace("eth1", "servers"))
        .collect();
    assert_eq!(recipe.len(), 8, "the recipe of the documentation: {recipe:#?}");
    let both = "imap: [10.99.2.2:143, \"[fd99:2::2]:143\"], client_address: transparent";
    let site = Site::start("transparent", &recipe.join("\n"), both, both);
    let status = std::fs::read_to_string(format!("/proc/{}/status", site.gatepost.pid())).expect("it runs");
    assert!(status.contains("CapEff:\t0000000000002000"), "CAP_NET_RAW and nothing else:\n{status}");
    let expected = ["10.99.1.2", "10.99.2.1", "10.99.2.1", "fd99:1::2", "fd99:2::1", "fd99:2::1"];
    assert_eq!(site.logged_in(), expected, "health checks come from us, sessions from the client");
}

#[test]
fn an_old_server_is_dialled_from_the_address_of_ours_that_is_said_and_of_its_family() {
    let ours = "address add 10.99.2.7/24 dev servers\naddress add fd99:2::7/64 dev servers nodad";
    let backend = |server: &str| format!("imap: {server}, source: [10.99.2.7, \"fd99:2::7\"]");
    let site = Site::start("source", ours, &backend("10.99.2.2:143"), &backend("\"[fd99:2::2]:143\""));
    assert_eq!(site.logged_in(), ["10.99.2.7", "10.99.2.7", "fd99:2::7", "fd99:2::7"]);
}
