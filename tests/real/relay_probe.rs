//! Postfixes that trust their network, all of it or but for the senders of their own domain, and one that does not; and what an
//! operator is told of them.

use crate::clients::python;
use crate::command::{client, run};
use crate::gatepost::{Backend, Gatepost};
use crate::kept::until;
use crate::servers::{dovecot, postfix};

#[test]
fn a_postfix_that_trusts_its_network_is_called_open_and_the_other_closed() {
    let rule = postfix::trusting_but_for_our_senders();
    let dovecot = dovecot::shared();
    for (postfix, expected) in [(postfix::trusting(), "open"), (rule, "open"), (postfix::shared(), "closed")] {
        let backend = Backend { imap: Some(dovecot.imap()), pop3: None, smtp: Some(postfix.smtp()) };
        let gateway = Gatepost::start(backend, "");
        is_known_to_be(&gateway, expected);
        let warned = gateway.log().contains("relays mail to anywhere for our address without a login");
        assert_eq!(warned, expected == "open", "{}", gateway.log());
    }
}

/// Waits until the gateway has found out about its SMTP server.
fn is_known_to_be(gateway: &Gatepost, expected: &str) {
    until(&format!("{expected} to be known"), || {
        let mut status = client(env!("CARGO_BIN_EXE_gatepost"));
        status.args(["status", "--json", "--socket"]).arg(gateway.socket());
        let status: serde_json::Value = serde_json::from_str(&run(status, b"").said).ok()?;
        let servers = status["backends"].as_array()?;
        servers.iter().any(|server| server["relays"] == expected).then_some(())
    });
}

#[test]
fn who_has_no_login_sends_by_the_postfix_that_relays_nothing_and_not_by_the_other() {
    let rule = postfix::trusting_but_for_our_senders();
    let dovecot = dovecot::shared();
    let user = dovecot.user("without-login");
    for (postfix, expected) in [(postfix::trusting(), "open"), (rule, "open"), (postfix::shared(), "closed")] {
        let backend = Backend { imap: Some(dovecot.imap()), pop3: None, smtp: Some(postfix.smtp()) };
        let gateway = Gatepost::start(backend, "submission: { require_auth: false }\n");
        is_known_to_be(&gateway, expected);
        // What the server says to MAIL, to somebody far away and to somebody here.
        let said = python(
            &gateway,
            &format!(
                "s = submission(); s.ehlo()\n\
                 print(s.mail('scanner@example.net')[0])\n\
                 print(s.rcpt('far@foreign.example')[0])\n\
                 print(s.rcpt('{user}@example.net')[0])\n\
                 print(s.data(b'Subject: scan\\r\\n\\r\\nhere\\r\\n')[0] if '{expected}' == 'closed' else 0)\n\
                 s.quit()\n"
            ),
        );
        let said: Vec<&str> = said.split_whitespace().collect();
        if expected == "closed" {
            assert_eq!(said, ["250", "554", "250", "250"], "{}", gateway.log());
            let arrived = dovecot.arrived(user);
            assert!(arrived.ends_with(b"Subject: scan\r\n\r\nhere\r\n"), "{}", arrived.escape_ascii());
        } else {
            assert_eq!(said, ["530", "530", "530", "0"], "{}", gateway.log());
            gateway.event_where("the refusal", |event| {
                event["event"] == "message.refused"
                    && event["detail"].as_str().is_some_and(|detail| detail.contains("require_auth: false"))
            });
            assert!(
                gateway.log().contains("submission.require_auth: false does not hold towards it"),
                "{}",
                gateway.log()
            );
        }
    }
}
