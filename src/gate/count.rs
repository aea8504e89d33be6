//! How many of something there are right now.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts by key; a key nobody holds takes no room.
#[derive(Debug)]
pub(crate) struct Counts<K: Eq + Hash>(Mutex<HashMap<K, usize>>);

/// One of them; dropping it takes it out.
#[derive(Debug)]
#[must_use = "it counts as over when this is dropped"]
pub struct Held<K: Eq + Hash> {
    key: K,
    counts: Arc<Counts<K>>,
}

impl<K: Eq + Hash> Default for Counts<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Counts<K> {
    /// One more under this key, unless there are as many as there may be. Counted without a limit too, for one that a reload brings.
    pub(crate) fn enter(self: &Arc<Self>, key: K, limit: Option<usize>) -> Option<Held<K>> {
        let mut counts = self.lock();
        let count = counts.get(&key).copied().unwrap_or(0);
        if limit.is_some_and(|limit| count >= limit) {
            return None;
        }
        counts.insert(key.clone(), count + 1);
        Some(Held { key, counts: Arc::clone(self) })
    }
}

impl<K: Eq + Hash> Counts<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Held<K> {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        match counts.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_counts_no_more_and_leaves_nothing_behind() {
        let counts: Arc<Counts<&str>> = Arc::default();
        let (one, two) = (counts.enter("a", Some(2)), counts.enter("a", Some(2)));
        assert!(one.is_some() && two.is_some() && counts.enter("a", Some(2)).is_none());
        assert!(counts.enter("b", Some(2)).is_some());
        drop(one);
        let three = counts.enter("a", Some(2));
        assert!(three.is_some());
        drop((two, three));
        assert!(counts.lock().is_empty());
    }
}
