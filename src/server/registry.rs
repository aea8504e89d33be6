//! The sessions there are.

use crate::observe::event::SessionId;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Names sessions, counts them, and reaches each one of them.
#[derive(Debug, Clone, Default)]
pub struct Registry(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    sessions: Mutex<Sessions>,
    next: AtomicU64,
    /// Told when many sessions fewer are there than there were.
    ebb: Notify,
}

#[derive(Debug, Default)]
struct Sessions {
    there: BTreeMap<SessionId, CancellationToken>,
    /// The most there were since the ebb was last told.
    high: usize,
}

/// So many sessions fewer are an ebb: some megabytes.
const EBB: usize = 500;

/// A session's place; it is given back when this is dropped.
#[derive(Debug)]
pub struct Place {
    /// The session's name.
    pub id: SessionId,
    /// Asks it to leave.
    pub leave: CancellationToken,
    inner: Arc<Inner>,
}

impl Registry {
    /// Takes a place, if fewer than `limit` are taken.
    pub fn enter(&self, limit: usize) -> Option<Place> {
        let mut sessions = self.lock();
        if sessions.there.len() >= limit {
            return None;
        }
        // One of its own: children of a common one would all wait for that one's lock, at their beginning and at their end.
        let (id, leave) = (self.name(), CancellationToken::new());
        sessions.there.insert(id, leave.clone());
        sessions.high = sessions.high.max(sessions.there.len());
        Some(Place { id, leave, inner: Arc::clone(&self.0) })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().there.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every session's wish to leave, oldest first.
    pub fn leaving(&self) -> Vec<CancellationToken> {
        self.lock().there.values().cloned().collect()
    }

    /// Waits until many sessions have ended, more than have come.
    pub async fn ebb(&self) {
        self.0.ebb.notified().await;
    }

    /// The clock in the upper bits, so that names sort by time and none comes twice over restarts.
    fn name(&self) -> SessionId {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let clock = u64::try_from(now).unwrap_or(u64::MAX) << 20;
        self.0.next.fetch_max(clock, Ordering::Relaxed);
        SessionId(self.0.next.fetch_add(1, Ordering::Relaxed))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut sessions = self.inner.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.there.remove(&self.id);
        if sessions.there.len() + EBB <= sessions.high {
            sessions.high = sessions.there.len();
            self.inner.ebb.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_ebb_is_told_once_for_each_five_hundred_that_are_missing() {
        let registry = Registry::default();
        let enter = || registry.enter(usize::MAX).expect("room");
        let mut places: Vec<_> = (0..EBB * 2).map(|_| enter()).collect();
        // As many that come as go are none.
        for _ in 0..EBB * 2 {
            places.pop();
            places.push(enter());
        }
        assert!(tokio_test::task::spawn(registry.ebb()).poll().is_pending());
        places.truncate(EBB);
        assert!(tokio_test::task::spawn(registry.ebb()).poll().is_ready());
        assert!(tokio_test::task::spawn(registry.ebb()).poll().is_pending());
        drop(places);
        assert!(tokio_test::task::spawn(registry.ebb()).poll().is_ready());
    }

    #[test]
    fn a_full_gateway_has_no_place_until_one_is_given_back() {
        let registry = Registry::default();
        let first = registry.enter(2).expect("room");
        let second = registry.enter(2).expect("room");
        assert!(first.id < second.id);
        assert!(registry.enter(2).is_none());
        drop(first);
        assert!(registry.enter(2).is_some());
    }
}
