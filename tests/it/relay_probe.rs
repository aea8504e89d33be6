//! Whether an SMTP server relays for the gateway's bare address: asked at start, and never with a message.

use crate::backend::Backend;
use crate::gateway::{Gateway, Setup};
use crate::talk::{Cut, soon};
use gatepost::proto::{Service, TlsRule};
use std::collections::BTreeSet;

/// Who is asked about: nobody, in a domain that is nobody's.
pub(crate) const FOREIGN: &str = "relay-probe@example.org";

/// What a server says to a sender (the recipient is empty), and to a recipient of his.
pub(crate) type Said = fn(&str, &str) -> &'static str;

/// Answers the first probe on so many connections, and the health check, whichever comes first; gives who was asked about for whom.
pub(crate) async fn answer_the_probe(smtp: &Backend, said: Said, connections: usize) -> Vec<Vec<(String, String)>> {
    let asked = answer(smtp, said, connections + 1).await;
    assert_eq!(asked.len(), connections, "{asked:?}");
    asked
}

/// The same of the probe behind a reload.
pub(crate) async fn answer_again(smtp: &Backend, said: Said, connections: usize) {
    assert_eq!(answer(smtp, said, connections).await.len(), connections);
}

/// Answers on so many connections. A health check says nothing but EHLO.
async fn answer(smtp: &Backend, said: Said, connections: usize) -> Vec<Vec<(String, String)>> {
    let mut asked = Vec::new();
    for _ in 0..connections {
        let mut talk = smtp.dialled().await;
        talk.line("220 old.example.net ESMTP").await;
        talk.hear("EHLO mail.example.net").await;
        talk.line("250-old.example.net\r\n250 AUTH PLAIN").await;
        let (mut sender, mut questions) = (None, Vec::new());
        loop {
            let line = talk.next_line().await.expect("a command");
            let path =
                || line.split_once(":<").and_then(|(_, rest)| rest.strip_suffix('>')).expect("a path").to_owned();
            let answer = match line.split([' ', ':']).next() {
                Some("QUIT") => break,
                Some("RSET") => {
                    sender = None;
                    "250 ok"
                }
                Some("MAIL") => {
                    let answer = said(&path(), "");
                    questions.push((path(), String::new()));
                    assert_eq!(sender, None, "a second sender without RSET");
                    sender = answer.starts_with('2').then(path);
                    answer
                }
                Some("RCPT") => {
                    let sender = sender.clone().expect("a sender");
                    questions.push((sender.clone(), path()));
                    said(&sender, &path())
                }
                _ => panic!("{line}"),
            };
            talk.line(answer).await;
        }
        talk.line("221 bye").await;
        talk.end().await;
        asked.extend((!questions.is_empty()).then_some(questions));
    }
    asked
}

/// Waits until this is the gateway's verdict.
pub(crate) async fn is_known_to_be(gateway: &Gateway, expected: &str) {
    let known = async {
        while gateway.server.status().await.backends[0].relays != Some(expected) {
            tokio::task::yield_now().await;
        }
    };
    soon(expected, known).await;
}

#[tokio::test]
async fn a_server_is_asked_with_a_foreign_recipient_and_never_given_a_message() {
    let trusts: Said = |_, _| "250 ok";
    let relays_nothing: Said = |_, recipient| if recipient.is_empty() { "250 ok" } else { "554 5.7.1 Relay denied" };
    let greylists: Said = |_, recipient| if recipient.is_empty() { "250 ok" } else { "451 4.7.1 greylisted" };
    // Who calls himself one of its users must log in, and whoever does not is sent on: to any stranger it is open.
    let knows_its_users: Said = |sender, recipient| match recipient {
        _ if recipient.is_empty() || !sender.ends_with("example.net") => "250 ok",
        _ => "553 5.7.1 not logged in",
    };
    for (said, expected) in [
        (trusts, "open"),
        (relays_nothing, "closed"),
        (greylists, "unknown"),
        (|_, _| "550 who are you", "unknown"),
        (|_, _| "451 not now", "unknown"),
        (knows_its_users, "open"),
    ] {
        let smtp = Backend::listen(Cut::Whole).await;
        let gateway = Setup::one(Service::Submission, TlsRule::Implicit, smtp.address)
            .with("submission", "relay_probe: true")
            .start()
            .await;
        let asked = answer_the_probe(&smtp, said, 1).await.concat();
        is_known_to_be(&gateway, expected).await;
        assert!(asked.iter().all(|(_, recipient)| recipient.is_empty() || recipient == FOREIGN), "{asked:?}");
        assert_eq!(asked[0].0, "", "{asked:?}");
    }
}

#[tokio::test]
async fn a_server_is_asked_as_a_sender_of_each_domain_and_refuses_few_on_a_connection() {
    let smtp = Backend::listen(Cut::Whole).await;
    let domains: Vec<String> = (0..20).map(|number| format!("d{number}.example")).collect();
    let gateway = Setup::one(Service::Submission, TlsRule::Implicit, smtp.address)
        .with(
            "submission",
            // The hostname stands among them, and is asked about once.
            &format!(
                "require_auth: false, relay_probe: true, accept_domains: [mail.example.net, {}]",
                domains.join(", ")
            ),
        )
        .start()
        .await;
    // Three strangers, the hostname, its domain, and the others.
    let relays_for_the_last: Said = |sender, recipient| match recipient {
        _ if recipient.is_empty() || sender == "postmaster@d19.example" => "250 ok",
        _ => "554 5.7.1 Relay denied",
    };
    let asked = answer_the_probe(&smtp, relays_for_the_last, 5).await;
    is_known_to_be(&gateway, "open").await;
    for questions in &asked {
        let refused = questions.iter().filter(|(_, recipient)| !recipient.is_empty()).count();
        assert!(refused <= 10, "{questions:?}");
    }
    let senders: Vec<String> =
        asked.concat().into_iter().filter(|(_, to)| to.is_empty()).map(|(from, _)| from).collect();
    let different: BTreeSet<&String> = senders.iter().collect();
    assert_eq!(senders.len(), different.len(), "{senders:?}");
    assert!(domains.iter().all(|domain| senders.contains(&format!("postmaster@{domain}"))), "{senders:?}");
}
