//! When the servers behind were down or shaken, so that what a client met then is judged as such.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A server behind the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// Reading, and the logins of sending too: Postfix asks Dovecot.
    Dovecot,
    Postfix,
}

/// Which of them a session needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Dovecot alone.
    Reading,
    /// Both.
    Sending,
}

/// How long after a server greets again its parts may still be finding each other.
pub const GRACE: Duration = Duration::from_secs(5);
/// How long foul weather is remembered after it: longer than any session.
const MEMORY: Duration = Duration::from_secs(3600);

/// All foul weather so far.
#[derive(Default)]
pub struct Weather(Mutex<Vec<Spell>>);

struct Spell {
    server: Server,
    to: Option<Instant>,
}

impl Weather {
    /// From now on `server` may fail its clients.
    pub fn turns(&self, server: Server) {
        let mut spells = self.0.lock().expect("nobody panics with it");
        spells.retain(|spell| spell.to.is_none_or(|to| to + MEMORY > Instant::now()));
        spells.push(Spell { server, to: None });
    }

    /// It is back; [`GRACE`] begins.
    pub fn clears(&self) {
        for spell in self.0.lock().expect("nobody panics with it").iter_mut() {
            spell.to.get_or_insert(Instant::now() + GRACE);
        }
    }

    /// Whether nothing stood against a session that needs these servers from `from` until now.
    pub fn was_fair(&self, needs: Needs, from: Instant) -> bool {
        let spells = self.0.lock().expect("nobody panics with it");
        !spells.iter().any(|spell| {
            (needs == Needs::Sending || spell.server == Server::Dovecot) && spell.to.is_none_or(|to| to > from)
        })
    }
}
