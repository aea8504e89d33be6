//! One flood at a time: two at once would measure each other.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for the turn; it ends when this is dropped.
pub fn take() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
