//! Two Postfixes: one that trusts its network, one that does not; and what an operator is told of them.

use crate::command::{client, run};
use crate::gatepost::{Backend, Gatepost};
use crate::kept::until;
use crate::servers::{dovecot, postfix};

#[test]
fn a_postfix_that_trusts_its_network_is_called_open_and_the_other_closed() {
    let dovecot = dovecot::shared();
    for (postfix, expected) in [(postfix::trusting(), "open"), (postfix::shared(), "closed")] {
        let backend = Backend { imap: Some(dovecot.imap()), pop3: None, smtp: Some(postfix.smtp()) };
        let gateway = Gatepost::start(backend, "");
        until(&format!("{expected} to be known"), || {
            let mut status = client(env!("CARGO_BIN_EXE_gatepost"));
            status.args(["status", "--json", "--socket"]).arg(gateway.socket());
            let status: serde_json::Value = serde_json::from_str(&run(status, b"").said).ok()?;
            let servers = status["backends"].as_array()?;
            servers.iter().any(|server| server["relays"] == expected).then_some(())
        });
        let warned = gateway.log().contains("relays mail to anywhere for our address without a login");
        assert_eq!(warned, expected == "open", "{}", gateway.log());
    }
}
