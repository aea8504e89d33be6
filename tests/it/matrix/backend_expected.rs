//! What a row with an ill backend asserts: words, events, and when.

use super::backend::Fault;
use super::bench::Bench;
use super::end::{End, Ended};
use super::points::{Part, Point, Step};
use crate::mail::not_now;
use gatepost::proto::{Protocol, Service};
use std::time::Duration;

/// What is under way when a backend closes, and delivered.
pub(super) const LAST_WORDS: &str = "* LAST WORDS";

/// What a row asserts.
pub(super) struct Expected {
    /// The client says this first, so that it may be answered.
    says: &'static str,
    /// The client hears this.
    words: Vec<String>,
    /// So long after the fault.
    pub(super) due: Duration,
    /// The reason in the events.
    pub(super) reason: &'static str,
    /// That is the session's end.
    pub(super) ends: bool,
    event: Option<&'static str>,
}

impl Expected {
    pub(super) fn of(service: Service, step: &Step, fault: Fault) -> Self {
        let hangs = matches!(fault, Fault::Hang | Fault::Slow);
        let protocol = service.protocol();
        let seconds = match step.point {
            _ if !hangs => 0,
            Point::Greeting | Point::Capabilities => 30,
            Point::Relay if protocol == Protocol::Imap => 35 * 60,
            Point::Relay | Point::Final => 10 * 60,
            Point::Quit => 0,
            point if point.part() == Part::Login => 3 * 60,
            _ => 5 * 60,
        };
        let due = Duration::from_secs(seconds);
        let words = |words: &[&str]| words.iter().map(|words| (*words).to_owned()).collect();
        let this =
            |heard: &[&str], reason, ends, event| Self { says: "", words: words(heard), due, reason, ends, event };
        let lost = match fault {
            Fault::Refused | Fault::Close | Fault::Reset => "backend_down",
            Fault::Hang | Fault::Slow => "backend_timeout",
            Fault::TurnedAway => "backend_temporary",
            _ => "backend_protocol",
        };
        match (step.point.part(), service) {
            // A stranger has no login: it is the mail that cannot be taken now.
            (Part::Opening, Service::Smtp) => this(&["451 4.3.0 <*>"], lost, false, None),
            (Part::Opening | Part::Login, _) => this(&[not_now(protocol)], lost, false, Some("auth.error")),
            (Part::Relay, _) => {
                let reason = match fault {
                    Fault::Reset => "backend_lost",
                    Fault::Hang => "timeout",
                    _ => "backend_closed",
                };
                let last = if fault == Fault::Close { &[LAST_WORDS][..] } else { &[] };
                let goodbye = if protocol == Protocol::Imap { &["* BYE <*>"][..] } else { &[] };
                this(&[last, goodbye].concat(), reason, true, None)
            }
            (Part::Mail, _) => {
                let reason = match fault {
                    Fault::Close | Fault::Reset => "backend_lost",
                    Fault::TurnedAway => "backend_closed",
                    _ => lost,
                };
                let lost = this(&["421 4.3.0 <*>"], reason, true, None);
                match (step.point, fault) {
                    // Nobody waits for a backend's goodbye.
                    (Point::Quit, _) => this(&["221 2.0.0 Bye"], "logout", true, None),
                    (Point::InData, Fault::TurnedAway) => Self {
                        says: "f\r\n.\r\n",
                        event: Some("message.refused"),
                        ..this(&[turned_away(service)], reason, true, None)
                    },
                    (Point::Mail | Point::Rcpt | Point::Data | Point::Final, Fault::TurnedAway) => {
                        this(&[turned_away(service)], reason, true, Some("message.refused"))
                    }
                    (_, Fault::TurnedAway) => this(&[turned_away(service)], reason, true, None),
                    // The second is an answer to the message before it has come.
                    (Point::Data, Fault::Twice) => Self {
                        says: "Subject: x\r\n\r\n.\r\n",
                        ..this(&["354 Go", "451 4.3.0 <*>"], reason, false, Some("message.refused"))
                    },
                    (Point::Final, Fault::Twice) => {
                        Self { words: words(&[&step.reply, "421 4.3.0 <*>"]), event: Some("message.accepted"), ..lost }
                    }
                    (_, Fault::Twice) => Self { words: words(&[&step.reply, "421 4.3.0 <*>"]), ..lost },
                    _ => lost,
                }
            }
        }
    }

    pub(super) async fn is_heard(&self, client: &mut End) {
        client.say(self.says).await;
        for words in &self.words {
            client.hear(words).await;
        }
        if self.ends && self.words.is_empty() {
            assert_eq!(client.rest().await, (String::new(), Ended::Properly));
        }
    }

    /// The event of the fault, and what it says of the server's health.
    pub(super) async fn is_recorded(&self, bench: &Bench, step: &Step) {
        match self.event {
            Some("auth.error") => bench.event("auth.error", &[("reason", self.reason)]).await,
            Some(event) => bench.event(event, &[]).await,
            None => {}
        }
        if turns_down(bench.service, step) {
            bench.event("backend.down", &[("reason", self.reason)]).await;
            assert_eq!(bench.gateway.metric("gatepost_backend_up{"), 0.0);
        }
    }

    pub(super) async fn nothing_else_is_recorded(&self, bench: &Bench, point: Point) {
        for event in ["auth.error", "auth.refused", "backend.down", "message.refused"] {
            assert_eq!(bench.gateway.left(event).await, [] as [serde_json::Value; 0]);
        }
        // The one of the session that goes well, on SMTP, and what was sent before the fault.
        let taken =
            usize::from(bench.protocol() == Protocol::Smtp) + usize::from(matches!(point, Point::Rset | Point::Quit));
        assert_eq!(bench.gateway.left("message.accepted").await.len(), taken);
    }
}

/// Whether a fault there tells of the server. What one makes of a stranger's name in EHLO does not.
pub(super) fn turns_down(service: Service, step: &Step) -> bool {
    step.point.part() == Part::Opening && (service, step.point) != (Service::Smtp, Point::Capabilities)
}

/// The goodbye of a backend that goes down.
pub(super) fn turned_away(service: Service) -> &'static str {
    match service.protocol() {
        Protocol::Imap => "* BYE going down",
        Protocol::Pop3 => "-ERR [SYS/TEMP] going down",
        Protocol::Smtp => "421 4.3.2 old.example.net going down",
    }
}
