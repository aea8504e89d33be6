//! A flood of refusals as a few lines: past a number a second, refusals for the same reason are only counted.

use super::event::{Event, Kind};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// As many a second and reason have a line of their own.
pub(super) const LINES_A_SECOND: u64 = 100;

/// The seconds under way, by event and reason.
#[derive(Debug, Default)]
pub(super) struct Tally {
    seconds: Mutex<HashMap<(Kind, String), Second>>,
}

#[derive(Debug)]
struct Second {
    begun: Instant,
    seen: u64,
}

impl Tally {
    /// Whether the event has a line of its own whatever happens.
    pub(super) fn is_never_summed(event: &Event) -> bool {
        !matches!(event.event, Kind::ConnectionRefused | Kind::TlsFailed) || event.count.is_some()
    }

    /// Whether the event is to have a line of its own. Otherwise it is part of a sum that [`Tally::sums`] hands out.
    pub(super) fn admits(&self, event: &Event, now: Instant) -> bool {
        if Self::is_never_summed(event) {
            return true;
        }
        let reason = event.reason.clone().unwrap_or_default();
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let second = seconds.entry((event.event, reason)).or_insert(Second { begun: now, seen: 0 });
        second.seen += 1;
        second.seen <= LINES_A_SECOND
    }

    /// Ends the seconds that are over, and says what they kept back: an event for each reason, with a `count`.
    pub(super) fn sums(&self, now: Instant) -> Vec<Event> {
        self.end_where(|second| now.duration_since(second.begun) >= Duration::from_secs(1))
    }

    /// The same for all seconds, at the end of the program.
    pub(super) fn rest(&self) -> Vec<Event> {
        self.end_where(|_| true)
    }

    fn end_where(&self, is_over: impl Fn(&Second) -> bool) -> Vec<Event> {
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let over = seconds.extract_if(|_, second| is_over(second));
        over.filter(|(_, second)| second.seen > LINES_A_SECOND)
            .map(|((kind, reason), second)| {
                let mut event = Event::new(kind);
                event.reason = Some(reason).filter(|reason| !reason.is_empty());
                event.count = Some(second.seen - LINES_A_SECOND);
                event
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: &str) -> Event {
        let mut event = Event::new(Kind::ConnectionRefused);
        event.reason = Some(reason.into());
        event
    }

    #[test]
    fn a_flood_is_a_hundred_lines_and_a_sum() {
        let (tally, start) = (Tally::default(), Instant::now());
        let lines = (0..5000).filter(|_| tally.admits(&refused("banned"), start)).count();
        assert_eq!(lines, 100);
        assert!(tally.admits(&refused("denied"), start), "another reason has lines of its own");
        assert!(tally.sums(start + Duration::from_millis(900)).is_empty());

        let sums = tally.sums(start + Duration::from_secs(1));
        assert_eq!(sums.len(), 1);
        assert_eq!((sums[0].reason.as_deref(), sums[0].count), (Some("banned"), Some(4900)));
        assert!(tally.admits(&refused("banned"), start + Duration::from_secs(1)), "a new second begins");
        assert!(tally.rest().is_empty());
    }

    #[test]
    fn a_login_is_never_summed() {
        let tally = Tally::default();
        assert!((0..500).all(|_| tally.admits(&Event::new(Kind::AuthFailed), Instant::now())));
    }
}
