//! A small set whose members are forgotten one by one.

use super::Tag;
use smallvec::SmallVec;
use std::time::Duration;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// What [`super::Store::mark`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marked {
    /// The tag was not in the set, or had run out.
    pub fresh: bool,
    /// How many members there are now, this one included.
    pub count: usize,
}

/// What [`super::Store::find`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// No other member was put in later.
    pub latest: bool,
}

/// Members with the time each was last put in, in order of that time.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Nearly always one, which stands in the map itself: a piece of memory for each would lie between those of sessions, and
    /// keep their pages when they have ended.
    members: SmallVec<[Member; 1]>,
    /// When the last of them runs out.
    until: Tick,
}

#[derive(Clone, Copy)]
struct Member {
    tag: Tag,
    at: Tick,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[member at {}]", self.at)
    }
}

/// Tenths of a second since the start: four bytes for thirteen years.
type Tick = u32;

impl Marks {
    pub(super) fn mark(&mut self, now: Duration, tag: Tag, ttl: Duration, keep: usize) -> Marked {
        let at = tick(now);
        self.drop_older(at, ttl);
        let fresh = match self.position(tag) {
            Some(place) => {
                self.members.remove(place);
                false
            }
            None => true,
        };
        let surplus = (self.members.len() + 1).saturating_sub(keep.max(1));
        self.members.drain(..surplus);
        if self.members.len() == self.members.capacity() {
            // Most sets have one or two members; doubling from four would waste more than it saves.
            self.members.reserve_exact(1 + self.members.len() / 4);
        }
        self.members.push(Member { tag, at });
        self.until = at.saturating_add(tick(ttl));
        Marked { fresh, count: self.members.len() }
    }

    pub(super) fn find(&self, now: Duration, tag: Tag, within: Duration) -> Option<Found> {
        let place = self.position(tag)?;
        let member = self.members.get(place)?;
        is_within(member.at, tick(now), within).then_some(Found { latest: place + 1 == self.members.len() })
    }

    pub(super) fn count(&self, now: Duration, within: Duration) -> usize {
        self.members.iter().filter(|member| is_within(member.at, tick(now), within)).count()
    }

    pub(super) fn has_run_out(&self, now: Duration) -> bool {
        self.until < tick(now)
    }

    fn drop_older(&mut self, now: Tick, ttl: Duration) {
        self.members.retain(|member| is_within(member.at, now, ttl));
    }

    /// Looks at every member, so that the time it takes does not tell which one it was.
    fn position(&self, tag: Tag) -> Option<usize> {
        let (mut place, mut found) = (0u64, Choice::from(0));
        for (at, member) in self.members.iter().enumerate() {
            let same = member.tag.ct_eq(&tag);
            place.conditional_assign(&(at as u64), same);
            found |= same;
        }
        bool::from(found).then(|| usize::try_from(place).ok()).flatten()
    }
}

fn is_within(at: Tick, now: Tick, time: Duration) -> bool {
    now.saturating_sub(at) < tick(time).max(1)
}

fn tick(time: Duration) -> Tick {
    Tick::try_from(time.as_millis() / 100).unwrap_or(Tick::MAX)
}
