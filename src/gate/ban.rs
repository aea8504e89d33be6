//! The addresses under a ban. Kept as they are, not hashed: people want to see and to lift them.

use ipnet::IpNet;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The most bans at once; those next to end make room.
const MAX_BANS: usize = 100_000;

/// One ban.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    /// Whom it is for: an IPv4 address or an IPv6 network.
    pub net: IpNet,
    /// When it ends.
    pub until: Instant,
    /// Nobody logged in there within 7 days, so not even a connection is taken. Otherwise users seen good there get in.
    pub closed: bool,
}

impl Ban {
    /// How long it still holds.
    pub fn remaining(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }
}

/// All bans.
#[derive(Debug, Default)]
pub(super) struct Bans {
    book: Mutex<Pages>,
    /// How many there are, to let connections by without the lock while there is none.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Pages {
    by_net: HashMap<IpNet, Ban>,
    by_end: BTreeSet<(Instant, IpNet)>,
}

impl Bans {
    /// The ban that holds for exactly this network now.
    pub(super) fn holds(&self, net: IpNet) -> Option<Ban> {
        if self.len() == 0 {
            return None;
        }
        self.lock().by_net.get(&net).copied().filter(|ban| ban.until > Instant::now())
    }

    /// Bans a network. `false`: it is banned already, and that ban goes on as it is.
    pub(super) fn add(&self, net: IpNet, time: Duration, closed: bool) -> bool {
        let now = Instant::now();
        let until = now.checked_add(time).unwrap_or(now + Duration::from_secs(365 * 86_400));
        let mut pages = self.lock();
        if pages.by_net.get(&net).is_some_and(|ban| ban.until > now) {
            return false;
        }
        pages.remove(net);
        if pages.by_net.len() >= MAX_BANS
            && let Some(&(_, next)) = pages.by_end.first()
        {
            pages.remove(next);
        }
        pages.by_net.insert(net, Ban { net, until, closed });
        pages.by_end.insert((until, net));
        self.note(&pages);
        true
    }

    /// Somebody has logged in there: the ban no longer closes the door on everybody.
    pub(super) fn open(&self, net: IpNet) {
        if self.len() > 0
            && let Some(ban) = self.lock().by_net.get_mut(&net)
        {
            ban.closed = false;
        }
    }

    /// Ends a ban.
    pub(super) fn lift(&self, net: IpNet) -> Option<Ban> {
        let mut pages = self.lock();
        let ban = pages.remove(net);
        self.note(&pages);
        ban
    }

    /// Ends the bans whose time is over.
    pub(super) fn expire(&self) -> Vec<Ban> {
        let now = Instant::now();
        let mut pages = self.lock();
        let mut over = Vec::new();
        while let Some(&(until, net)) = pages.by_end.first()
            && until <= now
        {
            over.extend(pages.remove(net));
        }
        self.note(&pages);
        over
    }

    /// All bans that hold, the next to end first.
    pub(super) fn all(&self) -> Vec<Ban> {
        let now = Instant::now();
        let pages = self.lock();
        pages
            .by_end
            .iter()
            .filter_map(|(_, net)| pages.by_net.get(net))
            .filter(|ban| ban.until > now)
            .copied()
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    fn note(&self, pages: &Pages) {
        self.count.store(pages.by_net.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn remove(&mut self, net: IpNet) -> Option<Ban> {
        let ban = self.by_net.remove(&net)?;
        self.by_end.remove(&(ban.until, net));
        Some(ban)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    #[tokio::test(start_paused = true)]
    async fn the_ban_next_to_end_makes_room_for_one_too_many() {
        let bans = Bans::default();
        let net = |n: usize| IpNet::from(IpAddr::from(Ipv4Addr::from(u32::try_from(n).expect("a small number"))));
        for n in 0..=MAX_BANS {
            assert!(bans.add(net(n), Duration::from_secs(60 + n as u64), true));
        }
        assert_eq!((bans.len(), bans.all().len()), (MAX_BANS, MAX_BANS));
        assert_eq!(bans.holds(net(0)), None);
        assert!(bans.holds(net(1)).is_some() && bans.holds(net(MAX_BANS)).is_some());
        assert_eq!(bans.all()[0].net, net(1));
    }
}
