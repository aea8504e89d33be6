//! Places of which there are so many in all, and so many for one network.

use ipnet::IpNet;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who sits where.
#[derive(Debug, Default)]
pub(super) struct Seats(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    by_network: HashMap<IpNet, usize>,
    count: usize,
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    taken: Arc<Mutex<Taken>>,
    networks: Vec<IpNet>,
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
    /// A place for one more of a client in these networks, each with how many times what one may have it may have, if there is one.
    pub(super) fn take(&self, networks: &[(IpNet, usize)], room: Room) -> Option<Seat> {
        let mut taken = lock(&self.0);
        let is_full = |(network, times): &(IpNet, usize)| {
            let there = taken.by_network.get(network).copied().unwrap_or_default();
            there >= room.most_of_one.saturating_mul(*times)
        };
        if taken.count >= room.most || networks.iter().any(is_full) {
            return None;
        }
        taken.count += 1;
        let networks: Vec<IpNet> = networks.iter().map(|(network, _)| *network).collect();
        for network in &networks {
            *taken.by_network.entry(*network).or_default() += 1;
        }
        Some(Seat { taken: Arc::clone(&self.0), networks })
    }
}

impl Room {
    /// The same for an address behind which there may be everybody.
    pub(super) fn for_everybody(self) -> Self {
        Self { most_of_one: self.most, ..self }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.count = taken.count.saturating_sub(1);
        for network in &self.networks {
            match taken.by_network.get_mut(network) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(taken.by_network.remove(network)),
            }
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
        let [one, other] = ["192.0.2.1/32", "192.0.2.2/32"].map(|net| [(net.parse().expect("a network"), 1)]);
        let taken: Vec<_> = (0..3).map(|_| seats.take(&one, room).expect("a seat")).collect();
        assert!(seats.take(&one, room).is_none());
        let others: Vec<_> = (0..2).map(|_| seats.take(&other, room).expect("a seat")).collect();
        assert!(seats.take(&other, room).is_none(), "all are taken");
        drop((taken, others));
        assert!(seats.take(&one, room).is_some());
        let left = lock(&seats.0);
        assert_eq!((left.count, left.by_network.len()), (0, 0));
    }

    #[test]
    fn who_moves_through_his_networks_is_still_one() {
        let seats = Seats::default();
        let room = Room { most: 100, most_of_one: 1 };
        let wide: IpNet = "2001:db8:1::/48".parse().expect("a network");
        let of = |number: u16| {
            let own = format!("2001:db8:1:{number:x}::/64").parse().expect("a network");
            seats.take(&[(own, 1), (wide, 8)], room)
        };
        let taken: Vec<_> = (0..8).map(|number| of(number).expect("a seat")).collect();
        assert!(of(7).is_none() && of(8).is_none());
        drop(taken);
        assert!(of(8).is_some());
        let left = lock(&seats.0);
        assert_eq!((left.count, left.by_network.len()), (0, 0));
    }
}
