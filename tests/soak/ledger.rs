//! The book of mail: what became of each message for its sender, and what arrived.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a sender knows of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is being sent.
    Open,
    /// 250: it must arrive.
    Accepted,
    /// Sent to the end and not answered, or with a "not now": it may arrive or not.
    Unsure,
    /// Not sent to the end, or refused for good: it must not arrive.
    Never,
}

/// Numbers for the report.
#[derive(Clone, Default, Debug, serde::Serialize)]
pub struct Counts {
    pub begun: u64,
    /// Answered with 250.
    pub accepted: u64,
    /// Of these, in the mailbox.
    pub arrived: u64,
    /// Whose answer was lost or was "not now".
    pub unsure: u64,
    /// Of these, in the mailbox all the same.
    pub unsure_arrived: u64,
    /// Cut before their end, or refused.
    pub never: u64,
    /// In the mailbox more than once: a server died between delivering and saying so.
    pub twice: u64,
    /// In the mailbox though never sent to the end.
    pub phantoms: u64,
    /// Not as they were sent.
    pub corrupt: u64,
    /// Answered with 250 and not in the mailbox at the end.
    pub lost: u64,
}

/// The book.
pub struct Ledger {
    next: AtomicU64,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    entries: HashMap<u64, Entry>,
    counts: Counts,
    /// What must never happen, in words.
    wrongs: Vec<String>,
}

struct Entry {
    fate: Fate,
    arrived: bool,
    since: Instant,
}

impl Ledger {
    pub fn new() -> Self {
        Self { next: AtomicU64::new(1), pages: Mutex::default() }
    }

    /// A number for a message that no sender is responsible for.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A number for a message that begins its way.
    pub fn begin(&self) -> u64 {
        let id = self.number();
        let mut pages = self.pages();
        pages.counts.begun += 1;
        pages.entries.insert(id, Entry { fate: Fate::Open, arrived: false, since: Instant::now() });
        id
    }

    /// What became of it for its sender.
    pub fn settle(&self, id: u64, fate: Fate) {
        let mut pages = self.pages();
        match fate {
            Fate::Open => return,
            Fate::Accepted => pages.counts.accepted += 1,
            Fate::Unsure => pages.counts.unsure += 1,
            Fate::Never => pages.counts.never += 1,
        }
        let entry = pages.entries.get_mut(&id).expect("it was begun");
        entry.fate = fate;
        entry.since = Instant::now();
        if entry.arrived {
            pages.close(id, fate);
        }
    }

    /// It is in the mailbox.
    pub fn arrived(&self, id: u64) {
        let mut pages = self.pages();
        match pages.entries.get_mut(&id) {
            // Closed before.
            None => pages.counts.twice += 1,
            Some(entry) if entry.arrived => pages.counts.twice += 1,
            Some(entry) => {
                entry.arrived = true;
                let fate = entry.fate;
                pages.close(id, fate);
            }
        }
    }

    /// Something is in the mailbox that nobody sent so.
    pub fn corrupt(&self, how: String) {
        let mut pages = self.pages();
        pages.counts.corrupt += 1;
        pages.wrong(how);
    }

    /// How many answered with 250 are still under way.
    pub fn under_way(&self) -> usize {
        self.pages().entries.values().filter(|entry| entry.fate == Fate::Accepted && !entry.arrived).count()
    }

    /// What is under way for longer than this, at most a few.
    pub fn late(&self, limit: Duration) -> Vec<u64> {
        let pages = self.pages();
        let late = pages
            .entries
            .iter()
            .filter(|(_, entry)| entry.fate == Fate::Accepted && !entry.arrived && entry.since.elapsed() > limit);
        late.map(|(id, _)| *id).take(10).collect()
    }

    /// The numbers so far.
    pub fn counts(&self) -> Counts {
        self.pages().counts.clone()
    }

    /// Takes what has not arrived by now for lost, and gives the numbers and everything that went wrong.
    pub fn closed(&self) -> (Counts, Vec<String>) {
        let lost = self.under_way() as u64;
        let names = self.late(Duration::ZERO);
        let mut pages = self.pages();
        pages.counts.lost = lost;
        if lost > 0 {
            pages.wrong(format!("answered with 250 and not arrived: {lost} messages, {names:?} among them"));
        }
        (pages.counts.clone(), pages.wrongs.clone())
    }

    fn pages(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.pages.lock().expect("nobody panics with it")
    }
}

impl Pages {
    /// For a message that is in the mailbox and whose sender knows its fate.
    fn close(&mut self, id: u64, fate: Fate) {
        match fate {
            Fate::Open => {}
            Fate::Accepted => {
                self.counts.arrived += 1;
                self.entries.remove(&id);
            }
            Fate::Unsure => {
                self.counts.unsure_arrived += 1;
                self.entries.remove(&id);
            }
            Fate::Never => {
                self.counts.phantoms += 1;
                self.wrong(format!("message {id} arrived and was never sent to the end"));
            }
        }
    }

    fn wrong(&mut self, how: String) {
        if self.wrongs.len() < 20 {
            self.wrongs.push(how);
        }
    }
}
