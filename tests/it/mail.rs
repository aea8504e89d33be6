//! The three dialogues as a client and as an old server speak them, for tests that are about something else.

use crate::talk::Talk;
use gatepost::proto::{Protocol, Service};

pub(crate) const PROTOCOLS: [Protocol; 3] = [Protocol::Imap, Protocol::Pop3, Protocol::Smtp];

/// The service on which users log in.
pub(crate) fn service(protocol: Protocol) -> Service {
    match protocol {
        Protocol::Imap => Service::Imap,
        Protocol::Pop3 => Service::Pop3,
        Protocol::Smtp => Service::Submission,
    }
}

/// Asks to log in as joe. POP3's USER is answered on the way.
pub(crate) async fn log_in(client: &mut Talk, protocol: Protocol, password: &str) {
    log_in_as(client, protocol, "joe", password).await;
}

pub(crate) async fn log_in_as(client: &mut Talk, protocol: Protocol, user: &str, password: &str) {
    match protocol {
        Protocol::Imap => client.line(&format!("a LOGIN {user} {password}")).await,
        Protocol::Pop3 => {
            client.line(&format!("USER {user}")).await;
            client.hear("+OK <*>").await;
            client.line(&format!("PASS {password}")).await;
        }
        Protocol::Smtp => client.line(&format!("AUTH PLAIN {}", plain(user, password))).await,
    }
}

/// A PLAIN response (RFC 4616).
pub(crate) fn plain(user: &str, password: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0{password}"))
}

/// The greeting a client meets.
pub(crate) fn greeting(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Imap => "* OK <*>",
        Protocol::Pop3 => "+OK <*>",
        Protocol::Smtp => "220 mail.example.net ESMTP",
    }
}

/// The answer to a right password.
pub(crate) fn welcome(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Imap => "a OK <*>",
        Protocol::Pop3 => "+OK <*>",
        Protocol::Smtp => "235 2.7.0 <*>",
    }
}

/// The answer to a wrong one.
pub(crate) fn wrong(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Imap => "a NO [AUTHENTICATIONFAILED] <*>",
        Protocol::Pop3 => "-ERR [AUTH] <*>",
        Protocol::Smtp => "535 5.7.8 <*>",
    }
}

/// The answer while there is no backend.
pub(crate) fn not_now(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Imap => "a NO [UNAVAILABLE] <*>",
        Protocol::Pop3 => "-ERR [SYS/TEMP] <*>",
        Protocol::Smtp => "454 4.7.0 <*>",
    }
}

/// What an old server says to whom dials, and what it is asked before a login: its word, then ours.
pub(crate) fn first_words(protocol: Protocol) -> (&'static str, Option<(&'static str, &'static str)>) {
    match protocol {
        Protocol::Imap => ("* OK [CAPABILITY IMAP4rev1] ready\r\n", None),
        Protocol::Pop3 => ("+OK ready\r\n", Some(("CAPA", "-ERR what\r\n"))),
        Protocol::Smtp => {
            ("220 old.example.net ESMTP\r\n", Some(("EHLO <*>", "250-old.example.net\r\n250 AUTH PLAIN LOGIN\r\n")))
        }
    }
}

/// An old server, up to where it has heard the password.
pub(crate) async fn hear_login(backend: &mut Talk, protocol: Protocol) {
    let (greeting, asked) = first_words(protocol);
    backend.say(greeting).await;
    if let Some((question, answer)) = asked {
        backend.hear(question).await;
        backend.say(answer).await;
    }
    hear_password(backend, protocol).await;
}

/// The same on a connection that has been greeted before.
pub(crate) async fn hear_password(backend: &mut Talk, protocol: Protocol) {
    match protocol {
        Protocol::Imap => backend.hear("<*> LOGIN <*>").await,
        Protocol::Pop3 => {
            backend.hear("USER joe").await;
            backend.line("+OK").await;
            backend.hear("PASS <*>").await;
        }
        Protocol::Smtp => backend.hear("AUTH PLAIN <*>").await,
    }
}

/// Its yes to the first login of a connection.
pub(crate) fn yes(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Imap => "g1 OK in\r\n",
        Protocol::Pop3 => "+OK in\r\n",
        Protocol::Smtp => "235 ok\r\n",
    }
}
