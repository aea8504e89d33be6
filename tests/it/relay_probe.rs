//! Whether an SMTP server relays for the gateway's bare address: asked at start, and never with a message.

use crate::backend::Backend;
use crate::gateway::Setup;
use crate::talk::{Cut, soon};
use gatepost::proto::{Service, TlsRule};

#[tokio::test]
async fn a_server_is_asked_with_a_foreign_recipient_and_never_given_a_message() {
    for (to_mail, to_recipient, expected) in [
        ("250 ok", "250 ok", "open"),
        ("250 ok", "554 5.7.1 Relay access denied", "closed"),
        ("250 ok", "451 4.7.1 greylisted", "unknown"),
        ("550 who are you", "", "unknown"),
    ] {
        let smtp = Backend::listen(Cut::Whole).await;
        let gateway = Setup::one(Service::Submission, TlsRule::Implicit, smtp.address)
            .with("submission", "relay_probe: true")
            .start()
            .await;
        // The health check and the probe, whichever comes first: both say EHLO, and one of them goes on.
        let mut asked = None;
        for _ in 0..2 {
            let mut talk = smtp.dialled().await;
            talk.line("220 old.example.net ESMTP").await;
            talk.hear("EHLO mail.example.net").await;
            talk.line("250 old.example.net").await;
            let line = talk.next_line().await.expect("a command");
            match line.as_str() {
                "QUIT" => talk.line("221 bye").await,
                "MAIL FROM:<postmaster@mail.example.net>" => asked = Some(talk),
                other => panic!("{other}"),
            }
        }
        let mut talk = asked.expect("the probe");
        talk.line(to_mail).await;
        if !to_recipient.is_empty() {
            talk.hear("RCPT TO:<relay-probe@example.org>").await;
            talk.line(to_recipient).await;
            talk.hear("RSET").await;
            talk.line("250 ok").await;
        }
        talk.hear("QUIT").await;
        talk.line("221 bye").await;
        talk.end().await;
        let known = async {
            while gateway.server.status().await.backends[0].relays != Some(expected) {
                tokio::task::yield_now().await;
            }
        };
        soon(expected, known).await;
    }
}
