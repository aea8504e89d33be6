//! `gatepost connect` between curl, which is told nothing of TLS, and Dovecot and Postfix, which ask for it.

use crate::authority::{Authority, Order, of_dovecot, of_postfix};
use crate::clients::{Ended, client, run};
use crate::kept::{Kept, until};
use crate::servers::{dovecot::Dovecot, postfix};
use std::net::{Ipv4Addr, SocketAddr};

/// `gatepost connect` to a server, and where it listens.
struct Connect {
    kept: Kept,
    at: SocketAddr,
}

impl Connect {
    fn start(authority: &Authority, scheme: &str, server: Ipv4Addr, port: u16, name: &str) -> Self {
        let log = tempfile::NamedTempFile::new().expect("a file").into_temp_path().keep().expect("ours");
        let (root, url) = (authority.root().display().to_string(), format!("{scheme}://{server}:{port}"));
        let arguments = ["connect", "--listen", "127.0.0.1:0", "--ca", &root, "--name", name, &url];
        let kept = Kept::start(env!("CARGO_BIN_EXE_gatepost"), &arguments, &log, Some(&log));
        let at = until("it to listen", || kept.said().strip_prefix("listening on ")?.split(' ').next()?.parse().ok());
        Self { kept, at }
    }

    fn curl(&self, scheme: &str, path: &str, arguments: &[&str], input: &[u8]) -> Ended {
        let mut curl = client("curl");
        curl.args(["--silent", "--show-error", "--disable", "--user", "connected-user:secret"]).args(arguments);
        curl.arg(format!("{scheme}://{}/{path}", self.at));
        run(curl, input)
    }
}

#[test]
fn curl_reads_and_sends_mail_without_knowing_of_tls() {
    let authority = Authority::new();
    let pair = authority.sign("good", &Order::GOOD);
    let dovecot = Dovecot::start(&format!("ssl = required\n{}", of_dovecot(&pair)));
    let settings = "smtpd_tls_security_level = encrypt\nsmtpd_tls_auth_only = yes\n";
    let postfix = postfix::with_auth_by(&dovecot, &format!("{settings}{}", of_postfix(&pair)));
    let user = dovecot.user("connected-user");

    let sending = Connect::start(&authority, "submission", postfix.address, 25, "mail.example.net");
    let to = format!("{user}@example.net");
    let sent = sending.curl(
        "smtp",
        "",
        &["--mail-from", &to, "--mail-rcpt", &to, "--upload-file", "-"],
        b"Subject: through\r\n\r\nit\r\n",
    );
    assert!(sent.ok, "{}\n{}", sent.said, sending.kept.said());
    assert!(dovecot.arrived(user).ends_with(b"Subject: through\r\n\r\nit\r\n"));

    for (scheme, port, mail) in [
        ("imaps", 993, "INBOX;MAILINDEX=1"),
        ("imap", 143, "INBOX;MAILINDEX=1"),
        ("pop3s", 995, "1"),
        ("pop3", 110, "1"),
    ] {
        let connect = Connect::start(&authority, scheme, dovecot.address, port, "mail.example.net");
        let read = connect.curl(scheme.trim_end_matches('s'), mail, &[], b"");
        assert!(read.ok && read.said.contains("Subject: through"), "{scheme}: {}\n{}", read.said, connect.kept.said());
        until("its line in the log", || connect.kept.said().contains("octets there").then_some(()));
    }

    let wrong = Connect::start(&authority, "imaps", dovecot.address, 993, "other.example.net");
    let refused = wrong.curl("imap", "", &[], b"");
    assert!(!refused.ok, "{}", refused.said);
    assert!(wrong.kept.said().contains("not for other.example.net"), "{}", wrong.kept.said());
}
