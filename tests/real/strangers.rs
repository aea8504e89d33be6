//! Who may come in, by hosts.allow and after guessing, as curl meets it from several addresses.

use crate::clients::{curl, output_of, run};
use crate::gatepost::{Backend, Gatepost};
use crate::kept::write;
use crate::servers::dovecot;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// curl that comes from `address` and logs in so.
fn from(gateway: &Gatepost, address: &str, login: &str) -> Command {
    let mut curl = curl(gateway);
    curl.args([
        "--interface",
        address,
        "--login-options",
        "AUTH=PLAIN",
        "--user",
        login,
        "imaps://mail.example.net/INBOX;UID=1",
    ]);
    curl
}

fn refused(gateway: &Gatepost, reason: &str, address: &str) {
    gateway.event_where(&format!("{address} refused, {reason}"), |event| {
        event["event"] == "connection.refused" && event["reason"] == reason && event["client_ip"] == address
    });
}

#[test]
fn an_old_hosts_allow_decides_who_reads_mail() {
    let user = dovecot::shared().user("hosts-allow");
    dovecot::shared().deliver(user, "Subject: a letter\r\n\r\nhere\r\n");
    let folder = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("ours");
    let list = folder.path().join("hosts.allow");
    write(&list, "# the office, but not the printer\nin.ftpd: ALL\nimapd: 127.7.7. EXCEPT 127.7.7.9\n");
    let gateway = Gatepost::start_edited(Backend::usual(), "", |text| {
        let allow = format!("protocol: imap, tls: implicit, allow: [\"file:{}\"]", list.display());
        text.replacen("protocol: imap, tls: implicit", &allow, 1)
    });
    let login = format!("{user}:secret");
    assert!(output_of(from(&gateway, "127.7.7.1", &login), b"").contains("here"));
    for address in ["127.7.7.9", "127.7.8.1"] {
        assert!(!run(from(&gateway, address, &login), b"").ok, "{address}");
        refused(&gateway, "not_allowed", address);
    }
    assert_eq!(gateway.events().iter().filter(|event| event["event"] == "auth.ok").count(), 1);
}

#[test]
fn who_guesses_is_shut_out_and_his_neighbours_are_not() {
    let user = dovecot::shared().user("guessed-at");
    dovecot::shared().deliver(user, "Subject: a letter\r\n\r\nhere\r\n");
    let limits = "limits: { exempt: [], auth_failures_per_ip: 3/10min, failure_delay: 100ms }\n";
    let gateway = Gatepost::start(Backend::usual(), limits);
    for guess in ["1", "2", "3", "4"] {
        assert!(!run(from(&gateway, "127.7.7.1", &format!("{user}:{guess}")), b"").ok, "{guess}");
    }
    gateway.event_where("the ban", |event| event["event"] == "ban.added" && event["client_ip"] == "127.7.7.1");
    let login = format!("{user}:secret");
    assert!(!run(from(&gateway, "127.7.7.1", &login), b"").ok, "the right one comes too late");
    refused(&gateway, "banned", "127.7.7.1");
    assert!(output_of(from(&gateway, "127.7.7.2", &login), b"").contains("here"));
}
