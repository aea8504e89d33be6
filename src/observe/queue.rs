//! Lines on their way to the thread that writes them: put behind each other by whoever has one, taken all at once.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines that wait for the thread or are with it; what comes while there are so many is dropped and counted. At some
/// 400 bytes a line this is 6 MiB.
pub(super) const MOST: usize = 16_384;
/// A buffer that grew beyond this is given back when it is empty.
const KEPT: usize = 64 << 10;

/// Lines, as they will stand in the files.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) log: Vec<u8>,
    pub(super) auth: Vec<u8>,
}

/// What waits, and who is to be woken for it.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Wakes the thread.
    work: Condvar,
    /// Wakes who waits for a flush.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Lines,
    /// Events and messages in `waiting` and in what the thread has taken and not written yet.
    held: usize,
    /// The thread sleeps until somebody calls.
    is_idle: bool,
    /// Flushes asked for, and done.
    flushes: (u64, u64),
    is_closed: bool,
}

/// What the thread is called for.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub(super) lines: Lines,
    /// How many were held when this was taken; to be handed back with [`Queue::done`].
    pub(super) taken: usize,
    /// A flush to be reported done with [`Queue::flushed`].
    pub(super) flush: Option<u64>,
    pub(super) is_last: bool,
}

impl Queue {
    /// Puts lines behind the others without waiting for their being written. `false`: there were too many, these are lost.
    pub(super) fn put(&self, log: &[u8], auth: &[u8]) -> bool {
        let mut state = self.lock();
        if state.held >= MOST || state.is_closed {
            return false;
        }
        state.held += 1;
        state.waiting.log.extend_from_slice(log);
        state.waiting.auth.extend_from_slice(auth);
        self.call(state);
        true
    }

    /// Asks the thread to write what there is, and waits for it, at most `patience`.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        state.flushes.0 += 1;
        let ours = state.flushes.0;
        // Also where it rests between two writes.
        self.work.notify_one();
        while state.flushes.1 < ours {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.written.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.work.notify_one();
    }

    /// The thread: sleeps until there is something to do, at most `patience`, and takes it into the empty `lines`.
    pub(super) fn next(&self, lines: Lines, patience: Duration) -> Call {
        let mut state = self.lock();
        if !state.is_due() && state.held == 0 {
            state.is_idle = true;
            state = self.work.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
            state.is_idle = false;
        }
        let lines = std::mem::replace(&mut state.waiting, lines);
        let flush = (state.flushes.1 < state.flushes.0).then_some(state.flushes.0);
        Call { lines, taken: state.held, flush, is_last: state.is_closed }
    }

    /// The thread: lets more lines gather, unless somebody waits for them.
    pub(super) fn rest(&self, time: Duration) {
        let state = self.lock();
        if !state.is_due() {
            drop(self.work.wait_timeout(state, time));
        }
    }

    /// The thread: what was taken is written. Gives back the buffers to be filled again.
    pub(super) fn done(&self, taken: usize, mut lines: Lines) -> Lines {
        self.lock().held -= taken;
        for buffer in [&mut lines.log, &mut lines.auth] {
            if buffer.capacity() > KEPT {
                *buffer = Vec::new();
            }
            buffer.clear();
        }
        lines
    }

    /// The thread: the flush is done, and with it those asked for before.
    pub(super) fn flushed(&self, flush: u64) {
        self.lock().flushes.1 = flush;
        self.written.notify_all();
    }

    /// Wakes the thread if it sleeps for want of work. Where it is at work or rests a moment it will look by itself, and waking
    /// it for every line would cost two changes of context each.
    fn call(&self, mut state: MutexGuard<'_, State>) {
        let was_idle = std::mem::take(&mut state.is_idle);
        drop(state);
        if was_idle {
            self.work.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether somebody waits for the thread.
    fn is_due(&self) -> bool {
        self.is_closed || self.flushes.1 < self.flushes.0
    }
}
