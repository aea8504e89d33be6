//! Counters and marks that decisions rest on: rates, and sets of things seen within a time.
//!
//! Whatever they are about (an address, a user, a password) comes in as a keyed hash and is never kept itself: who reads
//! this memory learns no password and cannot try any without the key. The hash is BLAKE3's keyed one, of 128 bits, with a
//! key drawn at the start.
//!
//! An implementation may forget: a forgotten rate or failure gives an attacker that many tries more, a forgotten good
//! login makes a customer a stranger until the next one. It must not invent: a login marked good that never was would let
//! guesses through to the backend, and a failure that never was could ban a customer. So what strangers can fill and what
//! only a login that succeeded can fill never compete for room ([`Space`]).

mod marks;
mod memory;
mod shelf;

pub use marks::{Found, Marked};
pub use memory::Memory;

use crate::policy::rate::Rate;
use std::sync::Arc;
use std::time::Duration;
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, Zeroizing};

/// Where a key lives. Each space has room of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Space {
    /// Rates; strangers fill it.
    Rates,
    /// Wrong passwords by address and by user; strangers fill it.
    Failures,
    /// By user: passwords that worked. Only logins that succeeded fill this and the next two.
    Passwords,
    /// By user: where it logged in from.
    Places,
    /// By address: who logged in there.
    Visitors,
}

/// The name of a counter or a set: a space, and a keyed hash of what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    space: Space,
    id: [u8; 16],
}

/// A member of a set: a keyed hash, compared in constant time.
#[derive(Clone, Copy)]
pub struct Tag([u8; 16]);

impl ConstantTimeEq for Tag {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// The store a gateway works with. Copies share what is in it.
#[derive(Clone)]
pub enum Store {
    /// In this process, gone with it.
    Memory(Arc<Memory>),
}

impl Store {
    /// A store in memory for at most a million keys.
    pub fn memory() -> Self {
        Self::Memory(Arc::new(Memory::new(memory::CAPACITY)))
    }

    /// The key of what `parts` name, in a space. Different parts give different keys, also where their texts run together.
    pub fn key(&self, space: Space, parts: &[&[u8]]) -> Key {
        Key { space, id: self.local().hash(&[space as u8], parts) }
    }

    /// The tag of what `parts` name.
    pub fn tag(&self, parts: &[&[u8]]) -> Tag {
        let tag = Tag(self.local().hash(b"tag", parts));
        // The last block stays on the stack when this is done, and may hold a password's end. Now it is nobody's.
        std::hint::black_box(self.local().hash(b"tag", &[&[0; 64]]));
        tag
    }

    /// Takes `n` from a rate if there are as many left.
    pub async fn take(&self, key: &Key, rate: Rate, n: u32) -> bool {
        self.local().take(key, rate, n)
    }

    /// Whether [`Store::take`] of one would succeed now.
    pub async fn has_room(&self, key: &Key, rate: Rate) -> bool {
        self.local().has_room(key, rate)
    }

    /// Puts `tag` into the set, or renews it there. A member stays for `ttl` since it was last put in; of more than
    /// `keep` members the oldest go.
    pub async fn mark(&self, key: &Key, tag: Tag, ttl: Duration, keep: usize) -> Marked {
        self.local().mark(key, tag, ttl, keep)
    }

    /// Looks for a member put in `within` that time.
    pub async fn find(&self, key: &Key, tag: Tag, within: Duration) -> Option<Found> {
        self.local().find(key, tag, within)
    }

    /// How many members were put in `within` that time.
    pub async fn count(&self, key: &Key, within: Duration) -> usize {
        self.local().count(key, within)
    }

    /// Forgets the counter or the set.
    pub async fn clear(&self, key: &Key) {
        self.local().clear(key);
    }

    /// What this process keeps itself, for decisions that cannot wait.
    pub fn local(&self) -> &Memory {
        let Self::Memory(memory) = self;
        memory
    }

    /// Drops what has run out. To be called about once a minute.
    pub fn sweep(&self) {
        self.local().sweep();
    }
}

/// What is hashed at once; nearly everything is shorter.
const AT_ONCE: usize = 512;

/// The keyed hash (BLAKE3 section 2.6: a pseudorandom function) over a domain and length-prefixed parts. A login asks for
/// some twenty of them, of a block or two each.
fn keyed_hash(key: &[u8; 32], domain: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut room = [0; AT_ONCE];
    let length = domain.len() + parts.iter().map(|part| size_of::<u64>() + part.len()).sum::<usize>();
    let mut long = Zeroizing::new(Vec::new());
    let text = if length <= AT_ONCE {
        &mut room[..length]
    } else {
        long.resize(length, 0);
        &mut long[..]
    };
    let mut rest = &mut text[..];
    let mut put = |bytes: &[u8]| {
        let (place, behind) = std::mem::take(&mut rest).split_at_mut(bytes.len());
        place.copy_from_slice(bytes);
        rest = behind;
    };
    put(domain);
    for part in parts {
        put(&(part.len() as u64).to_be_bytes());
        put(part);
    }
    let hash = blake3::keyed_hash(key, text);
    // A password may stand there.
    text.zeroize();
    let mut cut = [0; 16];
    cut.copy_from_slice(&hash.as_bytes()[..16]);
    cut
}

#[cfg(test)]
mod tests;
