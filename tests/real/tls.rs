//! TLS as OpenSSL sees it: versions, ciphers, names, ALPN, resumption, and certificates changed under way.

use crate::clients::{Ended, client, output_of, python, run};
use crate::gatepost::{self, Backend, Gatepost};
use crate::servers::dovecot;
use nix::sys::signal::Signal;
use std::sync::OnceLock;

/// Every port with the words that make `s_client` speak TLS there.
const PORTS: [(u16, &str); 6] =
    [(993, ""), (995, ""), (465, ""), (143, "-starttls imap"), (110, "-starttls pop3"), (587, "-starttls smtp")];

/// The command that makes each protocol's server say goodbye.
const GOODBYE: [(&str, &str); 3] = [("imap", "a LOGOUT\r\n"), ("pop3", "QUIT\r\n"), ("smtp", "QUIT\r\n")];

fn s_client(gateway: &Gatepost, port: u16, options: &str) -> Ended {
    let mut openssl = client("openssl");
    openssl.args(["s_client", "-connect", &gateway.at(port).to_string(), "-verify_return_error", "-CAfile"]);
    openssl.arg(gateway.authority()).args(options.split_whitespace());
    if !options.contains("servername") {
        openssl.args(["-servername", "mail.example.net", "-verify_hostname", "mail.example.net"]);
    }
    let protocol = match port {
        993 | 143 => GOODBYE[0],
        995 | 110 => GOODBYE[1],
        _ => GOODBYE[2],
    };
    // Until the server has gone, so that the tickets which TLS 1.3 sends later are seen.
    openssl.arg("-ign_eof");
    run(openssl, protocol.1.as_bytes())
}

#[test]
fn every_port_has_a_verified_certificate_in_both_versions() {
    for (port, starttls) in PORTS {
        for version in ["-tls1_2", "-tls1_3"] {
            let ended = s_client(gatepost::usual(), port, &format!("{starttls} {version}"));
            assert!(ended.ok && ended.said.contains("Verify return code: 0 (ok)"), "{port} {version}: {}", ended.said);
        }
    }
}

#[test]
fn old_versions_and_ciphers_without_forward_secrecy_or_with_cbc_are_refused() {
    for (port, starttls) in PORTS {
        let old = s_client(gatepost::usual(), port, &format!("{starttls} -tls1_1 -cipher DEFAULT@SECLEVEL=0"));
        // rustls says handshake failure rather than protocol version where the hello lacks what only TLS 1.2 has.
        assert!(!old.ok && old.said.contains(" alert "), "{port}: {}", old.said);
    }
    let mut metrics = client("curl");
    metrics.args(["--silent", &format!("http://{}:9900/metrics", gatepost::usual().address)]);
    let counted = output_of(metrics, b"");
    for listener in ["imaps", "imap", "pop3s", "pop3", "submissions", "submission"] {
        let count = format!("gatepost_tls_too_old_total{{listener=\"{listener}\",version=\"1.1\"}} ");
        let value =
            counted.lines().find_map(|line| line.strip_prefix(&count)).and_then(|value| value.parse::<f64>().ok());
        assert!(value.is_some_and(|value| value >= 1.0), "{listener}: {value:?}");
    }
    for cipher in ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA"] {
        let weak = s_client(gatepost::usual(), 993, &format!("-tls1_2 -cipher {cipher}:@SECLEVEL=0"));
        assert!(!weak.ok && weak.said.contains("alert handshake failure"), "{cipher}: {}", weak.said);
    }
}

#[test]
fn alpn_names_the_protocol_or_the_handshake_fails() {
    let gateway = gatepost::usual();
    for (port, name) in [(993, "imap"), (995, "pop3")] {
        let right = s_client(gateway, port, &format!("-alpn h2,{name}"));
        assert!(right.ok && right.said.contains(&format!("ALPN protocol: {name}")), "{}", right.said);
    }
    for port in [993, 995, 465] {
        let wrong = s_client(gateway, port, "-alpn h2,http/1.1");
        assert!(!wrong.ok && wrong.said.contains("alert no application protocol"), "{port}: {}", wrong.said);
        let none = s_client(gateway, port, "");
        assert!(none.ok && none.said.contains("No ALPN negotiated"), "{port}: {}", none.said);
    }
}

/// One gateway with an RSA and an ECDSA certificate for two names.
fn with_two_certificates() -> &'static Gatepost {
    static SHARED: OnceLock<Gatepost> = OnceLock::new();
    SHARED.get_or_init(|| Gatepost::start_with(Backend::usual(), "", &["rsa", "ecdsa"]))
}

#[test]
fn the_name_a_client_asks_for_chooses_the_certificate_also_after_starttls() {
    for (port, starttls) in PORTS {
        for (asked, served, key) in [
            ("-servername mail.example.net", "mail.example.net", "rsaEncryption"),
            ("-servername second.example.net", "second.example.net", "id-ecPublicKey"),
            ("-servername SECOND.example.net", "second.example.net", "id-ecPublicKey"),
            ("-servername unknown.example.net", "mail.example.net", "rsaEncryption"),
            ("-noservername", "mail.example.net", "rsaEncryption"),
        ] {
            let ended = s_client(with_two_certificates(), port, &format!("{starttls} {asked}"));
            assert!(
                ended.ok && ended.said.contains(&format!("subject=CN = {served}")),
                "{port} {asked}: {}",
                ended.said
            );
            assert!(ended.said.contains(key), "{port} {asked}: {}", ended.said);
        }
    }
}

#[test]
fn sessions_are_resumed_in_both_versions_on_every_kind_of_port() {
    let folder = tempfile::tempdir().expect("a directory");
    for (port, starttls) in PORTS {
        for version in ["-tls1_2", "-tls1_3"] {
            let session = folder.path().join(format!("{port}{version}"));
            let first =
                s_client(gatepost::usual(), port, &format!("{starttls} {version} -sess_out {}", session.display()));
            assert!(first.ok && first.said.contains("\nNew, "), "{port} {version}: {}", first.said);
            let second =
                s_client(gatepost::usual(), port, &format!("{starttls} {version} -sess_in {}", session.display()));
            assert!(second.ok && second.said.contains("\nReused, "), "{port} {version}: {}", second.said);
        }
    }
}

/// A client that asks for a new handshake inside the old one (TLS 1.2 alone has that) is told that there is none
/// (CVE-2009-3555, and a way to make a server work for nothing).
#[test]
fn a_renegotiation_is_refused() {
    python(
        gatepost::usual(),
        r"
import subprocess
for port, greeted in ((993, b'* OK'), (995, b'+OK'), (465, b'220 ')):
    command = ['openssl', 's_client', '-connect', GATE + ':' + str(port), '-CAfile', os.environ['AUTHORITY'], '-tls1_2',
               '-servername', 'mail.example.net', '-verify_return_error']
    asking = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    line = asking.stdout.readline()
    while not line.startswith(greeted):
        assert line, port
        line = asking.stdout.readline()
    # Held open: it must be the refusal that ends it, and no end of ours.
    asking.stdin.write(b'R\n')
    asking.stdin.flush()
    said = asking.stdout.read()
    assert b'RENEGOTIATING' in said and b'no renegotiation' in said, (port, said)
    asking.wait()
",
    );
}

#[test]
fn each_protocol_ends_its_tls_properly() {
    let user = dovecot::shared().user("tls-end");
    python(
        gatepost::usual(),
        &format!(
            "r = Raw(993); r.ask(b'a LOGOUT', b'a OK'); assert r.ended()\n\
             r = Raw(993); r.ask(b'a LOGIN {user} secret', b'a OK'); r.ask(b'b LOGOUT', b'b OK'); assert r.ended()\n\
             r = Raw(995); r.ask(b'QUIT', b'+OK'); assert r.ended()\n\
             r = Raw(995); r.ask(b'USER {user}', b'+OK'); r.ask(b'PASS secret', b'+OK'); r.ask(b'QUIT', b'+OK'); assert r.ended()\n\
             r = Raw(465); r.ask(b'QUIT', b'221'); assert r.ended()\n"
        ),
    );
}

/// Bytes that came in the clear behind STARTTLS may be an attacker's: nobody may ever see an answer to them.
#[test]
fn nothing_said_in_the_clear_survives_starttls() {
    python(
        gatepost::usual(),
        r"
for port, upgrade, greeted in ((143, b'a STARTTLS', b'* OK'), (110, b'STLS', b'+OK'), (587, b'STARTTLS', b'220')):
    for injected in (b'x NOOP\r\n', b'NOOP\n', b'NO', b'\r\n'):
        plain = socket.create_connection((GATE, port), timeout=50)
        file = plain.makefile('rb')
        assert file.readline().startswith(greeted)
        plain.sendall(upgrade + b'\r\n' + injected)
        try:
            said = file.read()
        except ConnectionResetError:
            said = b''
        assert said == b'', (port, injected, said)
",
    );
    let refused = gatepost::usual().events();
    assert!(refused.iter().any(|event| event["reason"] == "pipelined_starttls"), "the attempt is on record");
}

#[test]
fn a_renewed_certificate_is_served_after_a_reload_and_no_session_is_lost() {
    let gateway = Gatepost::start_with(Backend::usual(), "", &["ecdsa", "rsa"]);
    let user = dovecot::shared().user("tls-reload");
    let session = std::thread::scope(|scope| {
        let folder = tempfile::tempdir().expect("a directory");
        let (open, reloaded) = (folder.path().join("open"), folder.path().join("reloaded"));
        let script = format!(
            "m = imap(); m.login('{user}', 'secret')\n\
             open({open:?}, 'w')\n\
             while not os.path.exists({reloaded:?}): m.noop()\n\
             m.select(); m.logout()\n"
        );
        let gateway = &gateway;
        let session = scope.spawn(move || python(gateway, &script));
        crate::kept::until("the session to be open", || open.exists().then_some(()));
        // The two change places: what was the second name's is now the first, and so the default.
        for name in ["chain", "key"] {
            let path = |index: u8| gateway.authority().with_file_name(format!("{name}{index}.pem"));
            let (first, second) = (std::fs::read(path(0)), std::fs::read(path(1)));
            crate::kept::write(&path(0), second.expect("written at start"));
            crate::kept::write(&path(1), first.expect("written at start"));
        }
        gateway.signal(Signal::SIGHUP);
        gateway.event_where("config.reloaded", |event| event["event"] == "config.reloaded");
        let ended = s_client(gateway, 993, "-noservername");
        assert!(ended.said.contains("subject=CN = second.example.net"), "{}", ended.said);
        crate::kept::write(&reloaded, "");
        session.join()
    });
    assert!(session.is_ok());
}
