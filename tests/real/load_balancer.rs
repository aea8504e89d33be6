//! HAProxy before the gateway, as its manual has it for mail: it passes bytes and says whose they are.

use crate::clients::{client, curl, output_of, run};
use crate::gatepost::{Backend, Gatepost};
use crate::kept::{Kept, directory, own_address, until, write};
use crate::servers::dovecot;
use std::net::Ipv4Addr;

/// A running HAProxy that dials from the address it listens on.
struct Haproxy {
    address: Ipv4Addr,
    kept: Kept,
}

/// What it writes before a client's bytes, and the port on which it does that for the gateway's 993; 100 above it 143's stands.
const VERSIONS: [(&str, u16); 2] = [("send-proxy", 1993), ("send-proxy-v2", 2993)];

impl Haproxy {
    fn start(address: Ipv4Addr, gateway: &Gatepost) -> Self {
        let directory = directory("haproxy");
        let mut text =
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n".to_owned();
        for (version, port) in VERSIONS {
            for (port, to) in [(port, gateway.at(993)), (port + 100, gateway.at(143))] {
                text += &format!("listen {version}-{port}\n bind {address}:{port}\n source {address}\n");
                text += &format!(" server gatepost {to} {version} check inter 100ms\n");
            }
        }
        let configuration = directory.join("haproxy.cfg");
        write(&configuration, text);
        let arguments = ["-db".as_ref(), "-f".as_ref(), configuration.as_os_str()];
        let kept = Kept::start("haproxy", &arguments, &directory.join("log"), Some(&directory));
        Self { address, kept }
    }
}

/// curl from an address of its own, by way of HAProxy.
fn curl_through(haproxy: &Haproxy, gateway: &Gatepost, from: Ipv4Addr, port: u16) -> std::process::Command {
    let mut curl = curl(gateway);
    curl.args(["--resolve", &format!("mail.example.net:{port}:{}", haproxy.address), "--interface", &from.to_string()]);
    curl
}

#[test]
fn behind_haproxy_clients_are_who_they_are_and_its_checks_are_quiet() {
    let (address, dovecot) = (own_address(), dovecot::shared());
    let gateway = Gatepost::start_behind(address, Backend::usual());
    let haproxy = Haproxy::start(address, &gateway);

    // Its checks come in the form of the version that it speaks to clients.
    for listener in ["imaps", "imap"] {
        until("HAProxy to have looked in a few times", || {
            let mut metrics = client("curl");
            metrics.args(["--silent", &format!("http://{}:9900/metrics", gateway.address)]);
            let accepted = format!("gatepost_connections_total{{listener=\"{listener}\",outcome=\"accepted\"}} ");
            let metrics = run(metrics, b"").said;
            let accepted = metrics.lines().find_map(|line| line.strip_prefix(&accepted)?.parse::<u32>().ok());
            accepted.filter(|accepted| *accepted > 8)
        });
    }

    let mut clients = Vec::new();
    for (version, port) in VERSIONS {
        for (scheme, port, options) in [("imaps", port, &[][..]), ("imap", port + 100, &["--ssl-reqd"])] {
            let (from, user) = (own_address(), format!("behind-{version}-{scheme}"));
            dovecot.user(&user);
            let mut curl = curl_through(&haproxy, &gateway, from, port);
            curl.args(options).args([
                "--user",
                &format!("{user}:secret"),
                &format!("{scheme}://mail.example.net:{port}/"),
            ]);
            assert!(output_of(curl, b"").contains("INBOX"), "{version} {scheme}\n{}", haproxy.kept.said());
            let login = gateway.event("auth.ok", &user);
            assert_eq!(login["client_ip"], from.to_string(), "{login}");
            assert_eq!(login["proxy_ip"], address.to_string(), "{login}");
            gateway.event("session.closed", &user);
            clients.push(from.to_string());
        }
    }

    // Whoever does not come through it is not believed, whatever they say, and needs to say nothing.
    let mut direct = curl(&gateway);
    direct.args(["--haproxy-protocol", "--user", "joe:secret", "imaps://mail.example.net/"]);
    assert!(!run(direct, b"").ok);
    gateway.event_where("the liar's mistake", |event| event["reason"] == "plaintext_on_tls_port");
    let mut direct = curl(&gateway);
    direct.args(["--user", "joe:secret", "imaps://mail.example.net/"]);
    assert!(output_of(direct, b"").contains("INBOX"));
    assert!(gateway.event("auth.ok", "joe")["proxy_ip"].is_null());

    for event in gateway.events() {
        let of_a_check = event["client_ip"] == address.to_string();
        assert!(!of_a_check || event["event"] == "session.closed", "{event}");
    }
}
