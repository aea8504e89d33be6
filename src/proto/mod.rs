//! The mail protocols, sans-IO: bytes in, steps out. No socket, no clock, no file, no task.
//!
//! Towards the client we are a server: a [`Front`] greets, answers everything that may be said
//! before a login, and reports what wants a decision as a [`Step`]. Towards the backend we are a
//! client: a [`Back`] takes the greeting, learns the capabilities and logs in. One engine
//! (`session::login`) drives any pair of them and never spells a protocol word; every word of the
//! contract's section 5 is spelled here.
//!
//! What is the same in all three dialogues lives beside them: [`mod@line`] cuts lines within a bound,
//! [`sasl`] holds both sides of an authentication exchange, [`Secret`] keeps passwords from printing.

mod back;
mod capabilities;
mod front;
pub mod imap;
pub mod line;
mod origin;
pub mod pop3;
pub mod proxy_header;
mod refusal;
pub mod sasl;
pub mod secret;
pub mod smtp;
mod stranger;

use bytes::BytesMut;

pub use back::{Back, BackFault, BackSettings, BackStep, Introduction, Reply};
pub use capabilities::Capabilities;
pub use front::{Answer, Front, FrontSettings, Goodbye, MAX_ANSWERS, MAX_ERRORS, Step, Violation};
pub use refusal::Refusal;
pub use sasl::{Credentials, Login, Mechanism, Mechanisms, UserName, fold};
pub use secret::Secret;
pub use stranger::is_http;

/// A protocol as a backend speaks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// RFC 3501, RFC 9051.
    Imap,
    /// RFC 1939.
    Pop3,
    /// RFC 5321, and as submission RFC 6409.
    Smtp,
}

impl Protocol {
    /// The lower-case name: a metric label, a configuration key, the ALPN name (RFC 7301).
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Imap => "imap",
            Protocol::Pop3 => "pop3",
            Protocol::Smtp => "smtp",
        }
    }
}

/// What a listener offers. Submission and relay are the same protocol under different rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// Mailbox access, ports 143 and 993.
    Imap,
    /// Mailbox access, ports 110 and 995.
    Pop3,
    /// Mail from customers, ports 587 and 465: nothing before a login.
    Submission,
    /// Mail from strangers to us, port 25.
    Smtp,
}

impl Service {
    /// What its backend speaks.
    pub fn protocol(self) -> Protocol {
        match self {
            Service::Imap => Protocol::Imap,
            Service::Pop3 => Protocol::Pop3,
            Service::Submission | Service::Smtp => Protocol::Smtp,
        }
    }

    /// The name in configuration and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Service::Imap => "imap",
            Service::Pop3 => "pop3",
            Service::Submission => "submission",
            Service::Smtp => "smtp",
        }
    }
}

/// A listener's rule about TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsRule {
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// An upgrade is offered and no login is taken before it; on [`Service::Smtp`] it bars AUTH, never mail (RFC 3207 section 4).
    StartTls,
    /// An upgrade is offered; a login without it is taken too, within `auth.without_tls`.
    Optional,
    /// No TLS at all.
    Off,
}

impl TlsRule {
    /// The configuration's word.
    pub fn as_str(self) -> &'static str {
        match self {
            TlsRule::Implicit => "implicit",
            TlsRule::StartTls => "starttls",
            TlsRule::Optional => "optional",
            TlsRule::Off => "off",
        }
    }

    /// Whether the listener offers STARTTLS or STLS on a connection still in the clear.
    pub fn offers_upgrade(self) -> bool {
        matches!(self, TlsRule::StartTls | TlsRule::Optional)
    }
}

/// Makes the server half for a listener.
pub fn front(settings: FrontSettings) -> Box<dyn Front> {
    match settings.service {
        Service::Imap => Box::new(imap::ImapFront::new(settings)),
        Service::Pop3 => Box::new(pop3::Pop3Front::new(settings)),
        Service::Submission | Service::Smtp => Box::new(smtp::SmtpFront::new(settings)),
    }
}

/// Makes the client half for a backend.
pub fn back(protocol: Protocol, settings: BackSettings) -> Box<dyn Back> {
    match protocol {
        Protocol::Imap => Box::new(imap::ImapBack::new(settings)),
        Protocol::Pop3 => Box::new(pop3::Pop3Back::new(settings)),
        Protocol::Smtp => Box::new(smtp::SmtpBack::new(settings)),
    }
}

/// Writes the last words to a client that is logged in. POP3 has none there: an idle server closes without
/// a response (RFC 1939 section 3).
pub fn goodbye_after_login(protocol: Protocol, goodbye: Goodbye, out: &mut BytesMut) {
    match protocol {
        Protocol::Imap => imap::goodbye(goodbye, out),
        Protocol::Pop3 => {}
        Protocol::Smtp => smtp::goodbye(goodbye, out),
    }
}

/// The beginnings of the lines, the client's and the backend's, by which a session behind its login shows that it is
/// meant to end. On POP3 the backend's last answer looks like any other.
pub fn farewells(protocol: Protocol) -> (Option<&'static [u8]>, Option<&'static [u8]>) {
    match protocol {
        Protocol::Imap => (None, Some(b"* BYE")),
        Protocol::Pop3 => (Some(b"QUIT"), None),
        Protocol::Smtp => (None, Some(b"221")),
    }
}

/// What a logged-in client says to have both directions encoded from there on (RFC 4978): a word of ours in the clear
/// would be garbage to it.
pub fn encoding(protocol: Protocol) -> Option<&'static [u8]> {
    (protocol == Protocol::Imap).then_some(b"COMPRESS")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_commands_with_large_answers_do_not_pile_them_up() {
        let cases = [
            (Service::Imap, "a CAPABILITY\r\n"),
            (Service::Pop3, "CAPA\r\n"),
            (Service::Submission, "EHLO x\r\n"),
            (Service::Smtp, "EHLO x\r\n"),
        ];
        for (service, command) in cases {
            let mut front = front(FrontSettings {
                hostname: "mail.example.net".to_owned(),
                service,
                tls: TlsRule::Implicit,
                mechanisms: Mechanisms::All,
                without_tls: Mechanisms::All,
                user_first: false,
                may_be_granted: false,
                believes_origin: false,
                max_message: 0,
            });
            let mut out = BytesMut::new();
            front.greet(&Capabilities::minimum(service.protocol()).into(), &mut out);
            let mut input = BytesMut::from(command.repeat(1500).as_bytes());
            while !input.is_empty() {
                let before = input.len();
                let step = front.next(&mut input, &mut out);
                assert!(out.len() < MAX_ANSWERS + 1024, "{service:?}: {} octets at once", out.len());
                if !matches!(step, Ok(Step::More)) {
                    break;
                }
                assert!(input.len() < before, "{service:?}: nothing was looked at");
                out.clear();
            }
        }
    }
}
