//! "Main servers" that offer plaintext too, beside "shell servers" that are secure only: a matter of each listener.

use crate::clients::{curl, output_of, run};
use crate::gatepost::{Backend, Gatepost};
use crate::servers::dovecot;

#[test]
fn curl_reads_mail_without_tls_where_a_listener_lets_it_and_nowhere_else() {
    let user = dovecot::shared().user("plaintext-beside-tls");
    dovecot::shared().deliver(user, "Subject: a letter\r\n\r\nhere\r\n");
    let gateway = Gatepost::start_edited(Backend::usual(), "", |text| {
        text.replacen("protocol: pop3, tls: starttls", "protocol: pop3, tls: optional", 1)
    });
    let fetch = |options: &[&str], url: &str| {
        let mut curl = curl(&gateway);
        curl.args(options).args(["--user", &format!("{user}:secret"), url]);
        curl
    };
    for (options, url, listener, is_tls) in [
        (&[][..], "pop3://mail.example.net/1", "pop3", false),
        (&["--ssl-reqd"], "pop3://mail.example.net/1", "pop3", true),
        (&[], "pop3s://mail.example.net/1", "pop3s", true),
        (&["--ssl-reqd"], "imap://mail.example.net/INBOX;UID=1", "imap", true),
        (&[], "imaps://mail.example.net/INBOX;UID=1", "imaps", true),
    ] {
        assert!(output_of(fetch(options, url), b"").contains("here"), "{options:?} {url}");
        gateway.event_where(&format!("a login on {listener}, TLS: {is_tls}"), |event| {
            event["event"] == "auth.ok" && event["listener"] == listener && event["tls"].is_object() == is_tls
        });
    }
    let refused = run(fetch(&[], "imap://mail.example.net/INBOX;UID=1"), b"");
    assert!(!refused.ok, "{}", refused.said);
    let logins = gateway.events().into_iter().filter(|event| event["event"] == "auth.ok");
    assert_eq!(logins.filter(|event| event["tls"].is_null()).count(), 1, "the one on pop3 alone");
}
