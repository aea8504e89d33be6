//! Places of which there are so many in all, and so many for one network.

use ipnet::IpNet;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who sits where.
#[derive(Debug, Default)]
pub(super) struct Seats(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    by_client: HashMap<IpNet, usize>,
    count: usize,
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    taken: Arc<Mutex<Taken>>,
    client: IpNet,
}

/// How many there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// In all.
    pub(super) most: usize,
    /// For one network.
    pub(super) most_of_one: usize,
}

impl Seats {
    /// A place for one more of this address (its network, for IPv6), if there is one.
    pub(super) fn take(&self, client: IpNet, room: Room) -> Option<Seat> {
        let mut taken = lock(&self.0);
        let of_client = taken.by_client.get(&client).copied().unwrap_or_default();
        if taken.count >= room.most || of_client >= room.most_of_one {
            return None;
        }
        taken.count += 1;
        taken.by_client.insert(client, of_client + 1);
        Some(Seat { taken: Arc::clone(&self.0), client })
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.count = taken.count.saturating_sub(1);
        match taken.by_client.get_mut(&self.client) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.by_client.remove(&self.client)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_every_seat_and_each_is_given_back() {
        let seats = Seats::default();
        let room = Room { most: 5, most_of_one: 3 };
        let [one, other] = ["192.0.2.1/32", "192.0.2.2/32"].map(|net| net.parse().expect("a network"));
        let taken: Vec<_> = (0..3).map(|_| seats.take(one, room).expect("a seat")).collect();
        assert!(seats.take(one, room).is_none());
        let others: Vec<_> = (0..2).map(|_| seats.take(other, room).expect("a seat")).collect();
        assert!(seats.take(other, room).is_none(), "all are taken");
        drop((taken, others));
        assert!(seats.take(one, room).is_some());
        let left = lock(&seats.0);
        assert_eq!((left.count, left.by_client.len()), (0, 0));
    }
}
