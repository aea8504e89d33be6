//! What a row with an ill client asserts: words, events, and when.

use super::client::{Fault, Stage};
use super::end::{End, Ended};
use gatepost::proto::{Protocol, Service};
use std::collections::VecDeque;
use std::time::Duration;

impl Fault {
    pub(super) fn says(self) -> Option<Vec<u8>> {
        Some(match self {
            Fault::Http => b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            Fault::Ssh => b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
            Fault::Binary => b"\x80\xff\xfe\x01\r\n\x7f\x80\r\n".to_vec(),
            Fault::Nul => b"\0\0\0\r\n".to_vec(),
            Fault::Megabyte => vec![b'x'; 1 << 20],
            Fault::Close | Fault::Reset | Fault::Hang | Fault::Slow => return None,
        })
    }
}

impl Fault {
    /// What stands against it where a command is due.
    fn answered(self, protocol: Protocol) -> &'static [&'static str] {
        match (self, protocol) {
            // Its first word could be a tag.
            (Fault::Ssh, Protocol::Imap) => &["SSH-2.0-OpenSSH_9.6 BAD <*>"],
            (Fault::Binary, Protocol::Imap) => &["* BAD <*>", "* BAD <*>"],
            (Fault::Nul | Fault::Megabyte, Protocol::Imap) => &["* BAD <*>"],
            (Fault::Ssh | Fault::Nul, Protocol::Pop3) => &["-ERR <*>"],
            (Fault::Binary, Protocol::Pop3) => &["-ERR <*>", "-ERR <*>"],
            (Fault::Ssh, Protocol::Smtp) => &["500 5.5.1 <*>"],
            (Fault::Binary, Protocol::Smtp) => &["500 5.5.1 <*>", "500 5.5.1 <*>"],
            (Fault::Nul, Protocol::Smtp) => &["500 5.5.2 <*>"],
            _ => &[],
        }
    }
}

#[derive(Clone)]
pub(super) struct Expected {
    /// The client hears this, and then the end.
    words: VecDeque<&'static str>,
    /// A TLS alert may stand there.
    alert: bool,
    pub(super) due: Duration,
    pub(super) events: Vec<(&'static str, Option<&'static str>)>,
}

impl Expected {
    pub(super) fn of(service: Service, stage: Stage, fault: Fault) -> Self {
        let protocol = service.protocol();
        let hangs = matches!(fault, Fault::Hang | Fault::Slow);
        let seconds = match (stage, service) {
            // The backend need not end its side because the client has; it is not waited for for ever (must-hold 43).
            (Stage::Relay | Stage::Verdict, _) if fault == Fault::Close && protocol != Protocol::Smtp => 3,
            _ if !hangs => 0,
            (Stage::Connected | Stage::HalfHello | Stage::GoneAhead, _) => 10,
            (Stage::Relay, Service::Imap) => 35 * 60,
            (Stage::Relay, _) => 10 * 60,
            // A quarter of the time for the login.
            (Stage::Challenged, _) => 15,
            (Stage::Mail | Stage::HalfText | Stage::TextLine, _) | (_, Service::Smtp) => 5 * 60,
            _ => 60,
        };
        let goodbye = match protocol {
            Protocol::Imap => Some("* BYE <*>"),
            // RFC 1939 section 3: it closes without a word.
            Protocol::Pop3 => None,
            Protocol::Smtp => Some("421 4.4.2 <*>"),
        };
        let due = Duration::from_secs(seconds);
        let closed = match fault {
            Fault::Reset => "client_lost",
            Fault::Hang | Fault::Slow => "timeout",
            _ => "client_closed",
        };
        let mut this =
            Self { words: VecDeque::new(), alert: false, due, events: vec![("session.closed", Some(closed))] };
        if hangs {
            this.words.extend(goodbye);
        }
        match stage {
            Stage::Greeted if fault == Fault::Http => this.events = vec![("session.closed", Some("bad_syntax"))],
            Stage::Greeted => this.words.extend(fault.answered(protocol)),
            Stage::Connected | Stage::HalfHello | Stage::GoneAhead => {
                let reason = match fault {
                    Fault::Close => Some("client_closed"),
                    Fault::Hang | Fault::Slow => Some("timeout"),
                    Fault::Reset => None,
                    _ if stage == Stage::GoneAhead => Some("not_tls"),
                    _ => Some("plaintext_on_tls_port"),
                };
                this.events = vec![("tls.failed", reason)];
                if stage == Stage::GoneAhead {
                    this.events.push(("session.closed", Some("tls_failed")));
                }
                (this.words, this.alert) = (VecDeque::new(), true);
            }
            Stage::Challenged => {
                this.events.push(("auth.refused", Some(if hangs { "timeout" } else { "cancelled" })));
            }
            Stage::Verdict => {
                this.events.push(("auth.ok", None));
                this.words.push_back(match protocol {
                    Protocol::Imap => "a OK <*>",
                    Protocol::Pop3 => "+OK <*>",
                    Protocol::Smtp => "235 2.7.0 <*>",
                });
            }
            // Its mail is with the backend, and it hears so if it can.
            Stage::AfterDot if fault == Fault::Close => {
                this.events.push(("message.accepted", None));
                this.words.push_back("250 queued");
            }
            _ => {}
        }
        this
    }

    /// Nothing is forgotten when it is cancelled.
    pub(super) async fn is_heard(&mut self, client: &mut End) {
        while let Some(words) = self.words.front() {
            client.hear(words).await;
            self.words.pop_front();
        }
        let (rest, ended) = client.rest().await;
        if self.alert {
            assert!(rest.is_empty() || rest.starts_with("\\x15\\x03"), "{rest}");
        } else {
            assert_eq!((rest.as_str(), ended), ("", Ended::Properly));
        }
    }
}
