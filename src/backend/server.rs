//! One server: how it is, what it last said, how many sessions of ours are on it.

use super::{Asked, Relaying};
use crate::observe::metrics::{BackendMetrics, Metrics};
use crate::policy::{Backend, ServerName, Spoken};
use crate::proto::{Capabilities, Protocol};
use arc_swap::ArcSwapOption;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One server of a backend for one protocol.
#[derive(Debug)]
pub struct Server {
    /// The backend's name: a metric label.
    pub backend: String,
    /// What it speaks.
    pub protocol: Spoken<Protocol>,
    /// Where it is.
    pub name: ServerName,
    pub(super) learned: ArcSwapOption<Capabilities>,
    pub(super) state: AtomicU8,
    pub(super) metrics: BackendMetrics,
    /// Milliseconds after the start of the last good dialogue; zero for never.
    pub(super) last_good: AtomicU64,
    /// What it does with mail for somebody else from our address.
    relaying: Mutex<Verdict>,
    /// Connections there are for a session's sake.
    sessions: AtomicUsize,
    /// When it was last somebody's first choice, in choices.
    chosen: AtomicU64,
}

/// How it is asked whether it relays, where it is, and what came of that.
type Verdict = (Option<Arc<Asked>>, Relaying);

pub(super) const UNKNOWN: u8 = 0;
pub(super) const UP: u8 = 1;
pub(super) const DOWN: u8 = 2;

impl Server {
    pub(super) fn new(
        backend: &Backend,
        protocol: Spoken<Protocol>,
        name: &ServerName,
        metrics: &Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            backend: backend.name.clone(),
            protocol,
            name: name.clone(),
            learned: ArcSwapOption::empty(),
            state: AtomicU8::new(UNKNOWN),
            metrics: metrics.backend(&backend.name, protocol),
            last_good: AtomicU64::new(0),
            relaying: Mutex::new((None, Relaying::Unknown)),
            sessions: AtomicUsize::new(0),
            chosen: AtomicU64::new(0),
        })
    }

    pub(super) fn is(&self, protocol: Spoken<Protocol>, name: &ServerName) -> bool {
        self.protocol == protocol && self.name == *name
    }

    /// Whether the last that was heard of it was good. A server nobody has asked yet is not up.
    pub fn is_up(&self) -> bool {
        self.answers() == Some(true)
    }

    /// Whether it answered when it was last asked; `None` until it was.
    pub fn answers(&self) -> Option<bool> {
        match self.state.load(Ordering::Relaxed) {
            UP => Some(true),
            DOWN => Some(false),
            _ => None,
        }
    }

    /// What it last said it can do.
    pub fn learned(&self) -> Option<Arc<Capabilities>> {
        self.learned.load_full()
    }

    /// What it does with mail for somebody else that comes from our address without a login, as far as it was asked.
    pub fn relaying(&self) -> Relaying {
        self.verdict().1
    }

    /// The same for a session of which the server would be asked so; nothing is known where it was asked in another way.
    pub fn relaying_as(&self, asked: &Asked) -> Relaying {
        let (found_by, relaying) = &*self.verdict();
        if found_by.as_deref() == Some(asked) { *relaying } else { Relaying::Unknown }
    }

    /// Notes what it does, and gives what was known before; nothing, where it is to be asked in another way by now.
    pub(super) fn relays(&self, asked: &Asked, relaying: Relaying) -> Option<Relaying> {
        let mut verdict = self.verdict();
        (verdict.0.as_deref() == Some(asked)).then(|| std::mem::replace(&mut verdict.1, relaying))
    }

    /// It is asked so from now on: what was found in another way is forgotten.
    pub(super) fn is_asked(&self, asked: &Arc<Asked>) {
        let mut verdict = self.verdict();
        if verdict.0.as_ref() != Some(asked) {
            *verdict = (Some(Arc::clone(asked)), Relaying::Unknown);
        }
    }

    fn verdict(&self) -> MutexGuard<'_, Verdict> {
        self.relaying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections there are to it for a session's sake; the health check's are not among them.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    pub(super) fn chosen(&self) -> u64 {
        self.chosen.load(Ordering::Relaxed)
    }

    pub(super) fn choose(&self, choice: u64) {
        self.chosen.store(choice, Ordering::Relaxed);
    }

    /// Takes a place on it, if there are fewer than `most` taken.
    pub(super) fn enter(self: &Arc<Self>, most: Option<usize>) -> Option<Place> {
        let most = most.unwrap_or(usize::MAX);
        let one_more = |taken| (taken < most).then_some(taken + 1);
        let entered = self.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        entered.is_ok().then(|| Place(Arc::clone(self)))
    }
}

/// A session's place on a server, given back when the connection ends.
#[derive(Debug)]
pub(super) struct Place(Arc<Server>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}
