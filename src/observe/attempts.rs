//! What became of an address' last attempts, so that its owner can be told why nothing works.
//!
//! Bounded in every direction: so many addresses, so many attempts of each, so long. Who floods it from many addresses
//! makes it forget, and learns nothing. No user name is kept: whoever shares an address must not learn whose mailbox it
//! was.

use super::event::{Event, Kind};
use crate::policy::Spoken;
use crate::proto::Service;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The most addresses at once; who was quiet longest makes room.
const ADDRESSES: usize = 10_000;
/// The most attempts of an address.
const EACH: usize = 10;
/// How long an attempt is kept.
const KEPT: Duration = Duration::from_secs(15 * 60);
/// The most octets of a text that is kept: ours all of them, and short.
const LONGEST: usize = 120;

/// What became of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When it ended.
    pub at: SystemTime,
    /// How it ended: `auth.*`, `connection.refused` or `tls.failed`.
    pub kind: Kind,
    /// Where it came in.
    pub service: Service,
    /// Whether it was under TLS.
    pub tls: bool,
    /// The event's word for why; empty where there is none.
    pub reason: Box<str>,
    /// `tls.failed` with `too_old`: the newest version that the program knows.
    pub version: Option<&'static str>,
}

/// The last attempts, by address.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    by_client: HashMap<IpAddr, Entry>,
    /// Whose last attempt is how long ago: the count of all attempts at it.
    by_age: BTreeMap<u64, IpAddr>,
    count: u64,
}

#[derive(Debug)]
struct Entry {
    attempts: VecDeque<Attempt>,
    age: u64,
}

impl Attempts {
    /// Keeps what this event says of an attempt, if it says anything.
    pub(super) fn note(&self, event: &Event, now: SystemTime) {
        let told = event.event.is_auth() || matches!(event.event, Kind::ConnectionRefused | Kind::TlsFailed);
        // What is of no mail protocol came to the page itself, or to what the page says nothing of.
        let service = event.protocol.and_then(Spoken::mail);
        let (true, Some(client), Some(service)) = (told, event.client_ip, service) else { return };
        let text = |text: &Option<String>| text.as_deref().map(|text| super::event::safe(text, LONGEST).into_owned());
        let reason = text(&event.reason).unwrap_or_default().into_boxed_str();
        let version = event.detail.as_deref().filter(|_| &*reason == "too_old").and_then(version);
        let attempt = Attempt { at: now, kind: event.event, service, tls: event.tls.is_some(), reason, version };
        self.lock().add(client, attempt);
    }

    /// What is known of an address, newest first.
    pub(super) fn of(&self, client: IpAddr, now: SystemTime) -> Vec<Attempt> {
        let book = self.lock();
        let attempts = book.by_client.get(&client).into_iter().flat_map(|entry| entry.attempts.iter().rev());
        attempts.filter(|attempt| is_fresh(attempt, now)).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn add(&mut self, client: IpAddr, attempt: Attempt) {
        self.count += 1;
        let now = attempt.at;
        let entry = self.by_client.entry(client).or_insert_with(|| Entry { attempts: VecDeque::new(), age: 0 });
        self.by_age.remove(&entry.age);
        entry.age = self.count;
        self.by_age.insert(self.count, client);
        if entry.attempts.len() == EACH {
            entry.attempts.pop_front();
        }
        entry.attempts.push_back(attempt);
        // Two at most: one for the newcomer, one that is over. The book empties while it is written in.
        for _ in 0..2 {
            let Some((&age, &oldest)) = self.by_age.first_key_value() else { return };
            let last = self.by_client.get(&oldest).and_then(|entry| entry.attempts.back());
            if self.by_client.len() <= ADDRESSES && last.is_some_and(|last| is_fresh(last, now)) {
                return;
            }
            self.by_age.remove(&age);
            self.by_client.remove(&oldest);
        }
    }
}

/// A clock that was set back makes an attempt one of just now.
fn is_fresh(attempt: &Attempt, now: SystemTime) -> bool {
    now.duration_since(attempt.at).map_or(true, |age| age <= KEPT)
}

/// The version in what `tls.failed` says of a program that is too old.
fn version(detail: &str) -> Option<&'static str> {
    let versions = [("1.1", "TLS 1.1"), ("1.0", "TLS 1.0"), ("ssl3", "SSL 3"), ("ssl2", "SSL 2")];
    versions.into_iter().find_map(|(word, name)| detail.ends_with(word).then_some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn failed(client: u32) -> Event {
        let mut event = Event::new(Kind::AuthFailed);
        event.client_ip = Some(Ipv4Addr::from(client).into());
        event.protocol = Some(Service::Imap.into());
        event.user = Some("joe".into());
        event.reason = Some("bad_credentials".into());
        event
    }

    fn ip(client: u32) -> IpAddr {
        Ipv4Addr::from(client).into()
    }

    #[test]
    fn the_last_ten_of_an_address_are_known_for_a_quarter_of_an_hour_and_to_nobody_else() {
        let (attempts, begin) = (Attempts::default(), SystemTime::UNIX_EPOCH);
        for second in 0..20 {
            attempts.note(&failed(1), begin + Duration::from_secs(second));
        }
        let last = begin + Duration::from_secs(19);
        let known = attempts.of(ip(1), last);
        assert_eq!(known.len(), EACH);
        assert_eq!(known[0].at, last, "newest first");
        assert!(!format!("{known:?}").contains("joe"));
        assert_eq!(attempts.of(ip(2), last), []);
        assert_eq!(attempts.of(ip(1), last + KEPT).len(), 1);
        assert_eq!(attempts.of(ip(1), last + KEPT + Duration::from_secs(1)), []);
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded_and_leaves_no_trace_when_it_is_over() {
        let (attempts, begin) = (Attempts::default(), SystemTime::UNIX_EPOCH);
        for client in 0..30_000 {
            attempts.note(&failed(client), begin);
        }
        let count = |attempts: &Attempts| {
            let book = attempts.lock();
            (book.by_client.len(), book.by_age.len())
        };
        assert_eq!(count(&attempts), (ADDRESSES, ADDRESSES));
        assert_eq!((attempts.of(ip(0), begin).len(), attempts.of(ip(29_999), begin).len()), (0, 1));
        let later = begin + KEPT + Duration::from_secs(1);
        for _ in 0..ADDRESSES {
            attempts.note(&failed(1), later);
        }
        assert_eq!(count(&attempts), (1, 1));
    }

    #[test]
    fn what_is_no_attempt_is_not_kept_and_an_old_program_is_named_with_its_version() {
        let (attempts, now) = (Attempts::default(), SystemTime::UNIX_EPOCH);
        let mut event = failed(1);
        event.event = Kind::SessionClosed;
        attempts.note(&event, now);
        event.event = Kind::TlsFailed;
        event.protocol = None;
        attempts.note(&event, now);
        assert_eq!(attempts.of(ip(1), now), []);
        event.protocol = Some(Service::Pop3.into());
        event.reason = Some("too_old".into());
        event.detail = Some("the client knows nothing newer than 1.0".into());
        attempts.note(&event, now);
        assert_eq!(attempts.of(ip(1), now)[0].version, Some("TLS 1.0"));
    }
}
