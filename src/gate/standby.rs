//! Connections to servers behind that wait for somebody who has not logged in: the timestamp of a greeting, or a challenge,
//! is one connection's alone. An old server has few, and a stranger who says nothing more must not hold them all.

use super::count::Held;
use super::place::Place;
use super::{Gate, WEEK};
use ipnet::IpNet;
use std::net::IpAddr;

/// How many may wait for one address at once.
const FOR_A_STRANGER: usize = 4;
/// The same where somebody logged in within a week: it may be an office.
const FOR_A_CUSTOMER: usize = 64;
/// How many of a backend's may wait for strangers at once. Customers are not among them: no crowd takes their way in.
const OF_A_BACKEND: usize = 64;

/// For whom, or of whose.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Waiting {
    For(IpNet),
    Of(String),
}

/// Leave to keep a connection to a backend waiting for a client that has not logged in; dropped when it waits no more.
#[derive(Debug)]
#[must_use = "the connection counts as gone when this is dropped"]
pub struct Standby(#[expect(dead_code, reason = "held for its drop")] Vec<Held<Waiting>>);

impl Gate {
    /// Whether another connection to the backend may wait for the client. `None`: as many do as may.
    /// `most`: the sessions the backend takes at all, of which strangers may hold half.
    pub async fn standby(&self, client: IpAddr, backend: &str, most: Option<usize>) -> Option<Standby> {
        let place = Place::of(client, &self.rules.load_full().limits);
        if place.exempt {
            return Some(Standby(Vec::new()));
        }
        let known = self.book.visitors(place.own, WEEK).await > 0;
        let each = if known { FOR_A_CUSTOMER } else { FOR_A_STRANGER };
        let enter = |waiting, limit| self.waiting.enter(waiting, Some(limit));
        let mut held: Vec<_> =
            place.nets().map(|net| enter(Waiting::For(net), place.many(net, each))).collect::<Option<_>>()?;
        if !known {
            let of_backend = most.map_or(OF_A_BACKEND, |most| OF_A_BACKEND.min(most / 2).max(1));
            held.push(enter(Waiting::Of(backend.to_owned()), of_backend)?);
        }
        Some(Standby(held))
    }
}
