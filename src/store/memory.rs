//! The store in this process.

use super::marks::{Found, Marked, Marks};
use super::shelf::{Id, Shelf};
use super::{Key, Space, Tag, keyed_hash};
use crate::policy::rate::Rate;
use rand::RngCore;
use std::time::Duration;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// The most keys in all.
pub(super) const CAPACITY: usize = 1_000_000;

/// Rates and marks in maps of bounded size. Time is tokio's, so that a test can set it.
pub struct Memory {
    start: Instant,
    secret: Zeroizing<[u8; 32]>,
    rates: Shelf<Arrival>,
    failures: Shelf<Marks>,
    passwords: Shelf<Marks>,
    places: Shelf<Marks>,
    visitors: Shelf<Marks>,
}

/// Of a rate: when its burst is whole again (GCRA's theoretical arrival time), in nanoseconds since the start.
type Arrival = u64;

impl Memory {
    /// Room for `capacity` keys: half of it for what strangers can fill, half for what only good logins fill.
    pub(super) fn new(capacity: usize) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        rand::rng().fill_bytes(secret.as_mut());
        Self {
            start: Instant::now(),
            secret,
            rates: Shelf::new(capacity / 4),
            failures: Shelf::new(capacity / 4),
            passwords: Shelf::new(capacity * 15 / 100),
            places: Shelf::new(capacity * 15 / 100),
            visitors: Shelf::new(capacity / 5),
        }
    }

    /// [`super::Store::take`], without waiting.
    pub fn take(&self, key: &Key, rate: Rate, n: u32) -> bool {
        let now = self.now();
        self.rates.with(&key.id, |arrival| match next_arrival(*arrival, now, rate, n) {
            Some(next) => {
                *arrival = next;
                true
            }
            None => false,
        })
    }

    pub(super) fn has_room(&self, key: &Key, rate: Rate) -> bool {
        let now = self.now();
        self.rates.find(&key.id, |arrival| next_arrival(*arrival, now, rate, 1).is_some()).unwrap_or(true)
    }

    pub(super) fn mark(&self, key: &Key, tag: Tag, ttl: Duration, keep: usize) -> Marked {
        let now = self.now();
        self.shelf(key.space).with(&key.id, |marks| marks.mark(now, tag, ttl, keep))
    }

    pub(super) fn find(&self, key: &Key, tag: Tag, within: Duration) -> Option<Found> {
        let now = self.now();
        self.shelf(key.space).find(&key.id, |marks| marks.find(now, tag, within)).flatten()
    }

    pub(super) fn count(&self, key: &Key, within: Duration) -> usize {
        let now = self.now();
        self.shelf(key.space).find(&key.id, |marks| marks.count(now, within)).unwrap_or(0)
    }

    pub(super) fn clear(&self, key: &Key) {
        match key.space {
            Space::Rates => self.rates.remove(&key.id),
            space => self.shelf(space).remove(&key.id),
        }
    }

    pub(super) fn sweep(&self) {
        let now = self.now();
        self.rates.retain(|arrival| *arrival > nanoseconds(now));
        for space in [Space::Failures, Space::Passwords, Space::Places, Space::Visitors] {
            self.shelf(space).retain(|marks| !marks.has_run_out(now));
        }
    }

    pub(super) fn hash(&self, domain: &[u8], parts: &[&[u8]]) -> Id {
        keyed_hash(&self.secret, domain, parts)
    }

    /// How many keys are held in all.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let marks = [&self.failures, &self.passwords, &self.places, &self.visitors];
        self.rates.len() + marks.iter().map(|shelf| shelf.len()).sum::<usize>()
    }

    fn shelf(&self, space: Space) -> &Shelf<Marks> {
        match space {
            Space::Rates | Space::Failures => &self.failures,
            Space::Passwords => &self.passwords,
            Space::Places => &self.places,
            Space::Visitors => &self.visitors,
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// GCRA (ITU-T I.371): each thing taken moves the arrival time on by its share of the period; it may not come to lie
/// more than a period ahead. `None`: not that many are left. A changed rate goes on from the same arrival.
fn next_arrival(arrival: Arrival, now: Duration, rate: Rate, n: u32) -> Option<Arrival> {
    let (now, period) = (nanoseconds(now), nanoseconds(rate.period));
    let share = (u128::from(period) * u128::from(n) / u128::from(rate.count.get())).max(u128::from(n.min(1)));
    let next = arrival.max(now).checked_add(u64::try_from(share).ok()?)?;
    // Shares are rounded down, so a burst of `count` always fits.
    (next - now <= period).then_some(next)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
