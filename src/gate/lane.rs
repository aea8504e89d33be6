//! Attempts under way from an address, and at a user. A failure counts when the verdict comes, and an old backend takes seconds
//! over one; without a bound on what is under way, a thousand connections would be a thousand guesses before the first one counts.

use super::user::User;
use ipnet::IpNet;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Whose attempts follow each other. Who needs more than one takes a narrow network before a wide one and the user last: in one
/// order for all, so that nobody waits in a ring.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Road {
    /// Those that come from a network.
    From(IpNet),
    /// Those at a user.
    To(User),
}

/// The lanes of all roads that have an attempt under way, with how many each has.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<HashMap<Road, (usize, Arc<Semaphore>)>>);

/// A place among the attempts of a road, or in the queue for one; dropping it makes room.
#[derive(Debug)]
pub(super) struct Lane {
    road: Road,
    /// How many lanes the road has.
    width: usize,
    /// Taken out when dropped, so that its share in the semaphore is gone before the shares are counted.
    holding: Option<(Arc<Semaphore>, Option<OwnedSemaphorePermit>)>,
    lanes: Arc<Lanes>,
}

impl Lanes {
    /// Waits until fewer than `width` attempts are under way on the road; first come, first served.
    pub(super) async fn enter(self: &Arc<Self>, road: Road, width: usize) -> Lane {
        let width = width.clamp(1, Semaphore::MAX_PERMITS);
        let (width, semaphore) =
            self.lock().entry(road.clone()).or_insert_with(|| (width, Arc::new(Semaphore::new(width)))).clone();
        // Made before the wait, so that giving up waiting cleans up too.
        let mut lane = Lane { road, width, holding: Some((Arc::clone(&semaphore), None)), lanes: Arc::clone(self) };
        // The semaphore is never closed, so this is always a permit.
        let permit = semaphore.acquire_owned().await.ok();
        if let Some((_, place)) = &mut lane.holding {
            *place = permit;
        }
        lane
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Road, (usize, Arc<Semaphore>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    /// How many others are under way on the road.
    pub(super) fn others(&self) -> usize {
        let free = self.holding.as_ref().map_or(0, |(semaphore, _)| semaphore.available_permits());
        self.width.saturating_sub(free + 1)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.holding = None;
        let mut lanes = self.lanes.lock();
        // Shares are made under this lock alone: if the map's is the last, nobody is here or waits.
        if lanes.get(&self.road).is_some_and(|(_, semaphore)| Arc::strong_count(semaphore) == 1) {
            lanes.remove(&self.road);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio_test::{assert_pending, assert_ready, task};

    #[test]
    fn an_address_has_so_many_lanes_and_none_is_left_behind() {
        let lanes = Arc::new(Lanes::default());
        let enter = || lanes.enter(Road::From(std::net::IpAddr::from(Ipv4Addr::LOCALHOST).into()), 2);
        let first = assert_ready!(task::spawn(enter()).poll());
        assert_eq!(first.others(), 0);
        let second = assert_ready!(task::spawn(enter()).poll());
        let mut third = task::spawn(enter());
        assert_pending!(third.poll());
        let mut impatient = task::spawn(enter());
        assert_pending!(impatient.poll());
        assert_eq!((first.others(), second.others()), (1, 1), "who waits is not under way");
        drop(impatient);
        drop(first);
        assert!(third.is_woken());
        let third = assert_ready!(third.poll());
        assert_eq!(third.others(), 1);
        drop((second, third));
        assert!(lanes.lock().is_empty());
    }
}
