//! Attempts under way at an address. A failure counts when the verdict comes, and an old backend takes seconds over one; without a
//! bound on what is under way, a thousand connections would be a thousand guesses before the first one counts.

use ipnet::IpNet;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The lanes of all addresses that have an attempt under way.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<HashMap<IpNet, Arc<Semaphore>>>);

/// A place among an address's attempts, or in the queue for one; dropping it makes room.
#[derive(Debug)]
pub(super) struct Lane {
    net: IpNet,
    /// Taken out when dropped, so that its share in the semaphore is gone before the shares are counted.
    holding: Option<(Arc<Semaphore>, Option<OwnedSemaphorePermit>)>,
    lanes: Arc<Lanes>,
}

impl Lanes {
    /// Waits until fewer than `width` attempts are under way at the address; first come, first served.
    pub(super) async fn enter(self: &Arc<Self>, net: IpNet, width: usize) -> Lane {
        let width = width.clamp(1, Semaphore::MAX_PERMITS);
        let semaphore = Arc::clone(self.lock().entry(net).or_insert_with(|| Arc::new(Semaphore::new(width))));
        // Made before the wait, so that giving up waiting cleans up too.
        let mut lane = Lane { net, holding: Some((Arc::clone(&semaphore), None)), lanes: Arc::clone(self) };
        // The semaphore is never closed, so this is always a permit.
        let permit = semaphore.acquire_owned().await.ok();
        if let Some((_, place)) = &mut lane.holding {
            *place = permit;
        }
        lane
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpNet, Arc<Semaphore>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.holding = None;
        let mut lanes = self.lanes.lock();
        // Shares are made under this lock alone: if the map's is the last, nobody is here or waits.
        if lanes.get(&self.net).is_some_and(|semaphore| Arc::strong_count(semaphore) == 1) {
            lanes.remove(&self.net);
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
        let net = IpNet::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
        let first = assert_ready!(task::spawn(lanes.enter(net, 2)).poll());
        let second = assert_ready!(task::spawn(lanes.enter(net, 2)).poll());
        let mut third = task::spawn(lanes.enter(net, 2));
        assert_pending!(third.poll());
        let mut impatient = task::spawn(lanes.enter(net, 2));
        assert_pending!(impatient.poll());
        drop(impatient);
        drop(first);
        assert!(third.is_woken());
        let third = assert_ready!(third.poll());
        drop((second, third));
        assert!(lanes.lock().is_empty());
    }
}
