//! A map for many threads that holds so many keys and no more: the oldest go first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks are held for one look-up each; this many make it rare that two threads want the same.
const SHARDS: usize = 64;

/// Keys are keyed hashes: evenly spread, whatever an attacker wants.
pub(super) type Id = [u8; 16];

/// The map.
#[derive(Debug)]
pub(super) struct Shelf<V> {
    shards: Box<[Mutex<Shard<V>>]>,
}

#[derive(Debug)]
struct Shard<V> {
    room: usize,
    /// Counts uses; orders them.
    now: u64,
    slots: HashMap<Id, Slot<V>>,
    /// Each key once, in the order of its use when it was queued. A key used since is queued anew when its turn comes, so a use
    /// costs no more than a number, and a key is let go only if it was not used for a whole round.
    queue: VecDeque<(Id, u64)>,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    used: u64,
    queued: u64,
}

impl<V: Default> Shelf<V> {
    /// Room for at most `capacity` keys.
    pub(super) fn new(capacity: usize) -> Self {
        let count = SHARDS.min(capacity.max(1));
        let room = (capacity / count).max(1);
        let shard = || Mutex::new(Shard { room, now: 0, slots: HashMap::new(), queue: VecDeque::new() });
        Self { shards: (0..count).map(|_| shard()).collect() }
    }

    /// Works on the value of a key, made if it is not there.
    pub(super) fn with<R>(&self, id: &Id, work: impl FnOnce(&mut V) -> R) -> R {
        work(self.shard(id).get_or_make(id))
    }

    /// Works on the value of a key, if it is there.
    pub(super) fn find<R>(&self, id: &Id, work: impl FnOnce(&mut V) -> R) -> Option<R> {
        let mut shard = self.shard(id);
        shard.now += 1;
        let now = shard.now;
        let slot = shard.slots.get_mut(id)?;
        slot.used = now;
        Some(work(&mut slot.value))
    }

    /// Forgets a key.
    pub(super) fn remove(&self, id: &Id) {
        self.shard(id).slots.remove(id);
    }

    /// Keeps only the values wanted.
    pub(super) fn retain(&self, mut is_wanted: impl FnMut(&V) -> bool) {
        for shard in &self.shards {
            lock(shard).retain(&mut is_wanted);
        }
    }

    /// How many keys there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).slots.len()).sum()
    }

    fn shard(&self, id: &Id) -> MutexGuard<'_, Shard<V>> {
        lock(&self.shards[usize::from(id[15]) % self.shards.len()])
    }
}

impl<V: Default> Shard<V> {
    fn get_or_make(&mut self, id: &Id) -> &mut V {
        self.now += 1;
        let now = self.now;
        if !self.slots.contains_key(id) {
            self.make_room();
            self.queue.push_back((*id, now));
        }
        let slot = self.slots.entry(*id).or_insert_with(|| Slot { value: V::default(), used: now, queued: now });
        slot.used = now;
        &mut slot.value
    }

    fn make_room(&mut self) {
        while self.slots.len() >= self.room {
            let Some((id, queued)) = self.queue.pop_front() else { return };
            match self.slots.get_mut(&id) {
                // Forgotten and perhaps come again since: that one stands in the queue on its own.
                None => {}
                Some(slot) if slot.queued != queued => {}
                Some(slot) if slot.used > queued => {
                    slot.queued = slot.used;
                    self.queue.push_back((id, slot.used));
                }
                Some(_) => {
                    self.slots.remove(&id);
                }
            }
        }
    }

    fn retain(&mut self, is_wanted: &mut impl FnMut(&V) -> bool) {
        self.slots.retain(|_, slot| is_wanted(&slot.value));
        let slots = &self.slots;
        self.queue.retain(|(id, queued)| slots.get(id).is_some_and(|slot| slot.queued == *queued));
        if self.slots.capacity() > 4 * self.slots.len() + 64 {
            self.slots.shrink_to_fit();
            self.queue.shrink_to_fit();
        }
    }
}

/// A panic elsewhere leaves whole values behind: they are numbers and short lists.
fn lock<V>(shard: &Mutex<Shard<V>>) -> MutexGuard<'_, Shard<V>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
