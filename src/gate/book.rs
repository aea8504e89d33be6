//! What is remembered, in terms of users, places and passwords.

use super::WEEK;
use super::place::Place;
use super::user::User;
use crate::policy::rate::Rate;
use crate::proto::{Refusal, Secret};
use crate::store::{Found, Key, Marked, Space, Store, Tag};
use ipnet::IpNet;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Passwords remembered of a user: the one in use, application passwords, and some that were.
const PASSWORDS: usize = 8;
/// Networks remembered of a user: a telephone sees dozens a week.
const PLACES: usize = 64;
/// Users remembered of an address: enough to tell one from many.
const VISITORS: usize = 16;
/// Where failures are not limited they are still known, to tell a repeated one.
const UNLIMITED: (Duration, usize) = (Duration::from_secs(600), 32);

/// The most attempts of strangers at one address that may reach the backend, none of them good, within …
const PACE: usize = 50;
/// … this time.
const PACE_WINDOW: Duration = Duration::from_secs(10);

/// The book.
pub(super) struct Book {
    store: Store,
    start: Instant,
    /// Numbers what is never the same again.
    next: AtomicU64,
}

/// A wrong password, as it is counted.
pub(super) struct Guess {
    /// Among an address's failures: the user and the password, or the user and the minute where no password is seen.
    at_address: Tag,
    /// Among a user's failures: the password, or the address and the minute.
    at_user: Tag,
    /// Whether a password was seen.
    pub(super) password_seen: bool,
}

impl Book {
    pub(super) fn new(store: Store) -> Self {
        Self { store, start: Instant::now(), next: AtomicU64::new(0) }
    }

    /// Takes one of the connections an address may make, in this process.
    pub(super) fn connect(&self, place: &Place, rate: Rate) -> bool {
        let key = |net| self.net_key(Space::Rates, b"connections", net);
        place.nets().all(|net| self.store.local().take(&key(net), place.rate(net, rate), 1))
    }

    /// Whether another login may fail at the address.
    pub(super) async fn may_fail(&self, place: &Place, rate: Rate) -> bool {
        for net in place.nets() {
            if !self.store.has_room(&self.net_key(Space::Rates, b"logins", net), place.rate(net, rate)).await {
                return false;
            }
        }
        true
    }

    /// A login at the address did not succeed.
    pub(super) async fn charge(&self, place: &Place, rate: Rate) {
        for net in place.nets() {
            self.store.take(&self.net_key(Space::Rates, b"logins", net), place.rate(net, rate), 1).await;
        }
    }

    /// Whether another attempt may reach the backend now, if `under_way` are on their way already, in a network of the place.
    /// Whatever the mechanism and whether the same again: without a password in sight nobody knows how many guesses they are.
    pub(super) async fn may_hurry(&self, place: &Place, net: IpNet, known: Option<&User>, under_way: usize) -> bool {
        self.store.count(&self.pace(net, known), PACE_WINDOW).await + under_way <= place.many(net, PACE)
    }

    /// An attempt reached the backend and did not succeed.
    pub(super) async fn hurried(&self, place: &Place, known: Option<&User>) {
        for net in place.nets() {
            let tag = self.store.tag(&[b"attempt", &self.number()]);
            self.store.mark(&self.pace(net, known), tag, PACE_WINDOW, place.many(net, PACE)).await;
        }
    }

    /// A user known at the address is counted apart: a neighbour's hurry must not hold them up.
    fn pace(&self, net: IpNet, known: Option<&User>) -> Key {
        self.store.key(Space::Failures, &[b"pace", &octets(net), known.map_or(&[][..], User::as_bytes)])
    }

    fn number(&self) -> [u8; 8] {
        self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes()
    }

    /// Takes one of the tries left to guess at a user from where a ban spares the user.
    pub(super) async fn may_guess(&self, user: &User, place: &Place, limit: Rate) -> bool {
        let half = NonZeroU32::new(limit.count.get() / 2).unwrap_or(NonZeroU32::MIN);
        let key = self.store.key(Space::Rates, &[b"guesses", &octets(place.own), user.as_bytes()]);
        self.store.take(&key, Rate { count: half, period: limit.period }, 1).await
    }

    /// Notes that somebody has just shown who they are at the address, or an operator has.
    pub(super) async fn grant(&self, place: &Place, window: Duration) {
        let key = self.net_key(Space::Visitors, b"grant", place.own);
        self.store.mark(&key, self.store.tag(&[b"grant"]), window, 1).await;
    }

    /// Whether that was so within that time.
    pub(super) async fn is_granted(&self, place: &Place, window: Duration) -> bool {
        let key = self.net_key(Space::Visitors, b"grant", place.own);
        self.store.find(&key, self.store.tag(&[b"grant"]), window).await.is_some()
    }

    /// Takes one of what a user may do so often.
    pub(super) async fn take_of_user(&self, user: &User, what: &[u8], rate: Option<Rate>) -> Result<(), Refusal> {
        let Some(rate) = rate else { return Ok(()) };
        let key = self.store.key(Space::Rates, &[what, user.as_bytes()]);
        if self.store.take(&key, rate, 1).await { Ok(()) } else { Err(Refusal::RateLimited) }
    }

    /// Whether the user logged in there within that time.
    pub(super) async fn was_at(&self, user: &User, net: IpNet, within: Duration) -> bool {
        let tag = self.store.tag(&[b"net", &octets(net)]);
        self.store.find(&self.places(user), tag, within).await.is_some()
    }

    /// Whether this password worked for the user within that time.
    pub(super) async fn remembered(
        &self,
        user: &User,
        password: Option<&Secret<Vec<u8>>>,
        within: Duration,
    ) -> Option<Found> {
        if within.is_zero() {
            return None;
        }
        let tag = self.store.tag(&[b"password", password?.declassify()]);
        self.store.find(&self.passwords(user), tag, within).await
    }

    /// How many users logged in there within that time, as far as they are counted.
    pub(super) async fn visitors(&self, net: IpNet, within: Duration) -> usize {
        self.store.count(&self.net_key(Space::Visitors, b"", net), within).await
    }

    /// A login succeeded.
    pub(super) async fn accept(
        &self,
        user: &User,
        password: Option<&Secret<Vec<u8>>>,
        place: &Place,
        remember_good: Duration,
        place_memory: Duration,
    ) {
        if let (Some(password), false) = (password, remember_good.is_zero()) {
            let tag = self.store.tag(&[b"password", password.declassify()]);
            self.store.mark(&self.passwords(user), tag, remember_good, PASSWORDS).await;
        }
        for net in place.nets() {
            let tag = self.store.tag(&[b"net", &octets(net)]);
            self.store.mark(&self.places(user), tag, place_memory, PLACES).await;
            let tag = self.store.tag(&[b"user", user.as_bytes()]);
            self.store.mark(&self.net_key(Space::Visitors, b"", net), tag, WEEK, VISITORS).await;
        }
    }

    /// A login succeeded there whose user nobody knows.
    pub(super) async fn accept_unnamed(&self, place: &Place) {
        for net in place.nets() {
            let tag = self.store.tag(&[b"unnamed"]);
            self.store.mark(&self.net_key(Space::Visitors, b"", net), tag, WEEK, VISITORS).await;
        }
    }

    /// How a wrong password is to be counted. Where not even the user is known each attempt is one guess.
    pub(super) fn guess(&self, user: Option<&User>, password: Option<&Secret<Vec<u8>>>, place: &Place) -> Guess {
        let name = user.map_or(&[][..], User::as_bytes);
        let minute = (self.start.elapsed().as_secs() / 60).to_be_bytes();
        match password {
            None if user.is_none() => {
                let tag = self.store.tag(&[b"unnamed", &self.number()]);
                Guess { at_address: tag, at_user: tag, password_seen: false }
            }
            Some(password) => Guess {
                at_address: self.store.tag(&[b"guess", name, password.declassify()]),
                at_user: self.store.tag(&[b"guess", password.declassify()]),
                password_seen: true,
            },
            None => Guess {
                at_address: self.store.tag(&[b"unseen", name, &minute]),
                at_user: self.store.tag(&[b"unseen", &octets(place.own), &minute]),
                password_seen: false,
            },
        }
    }

    /// Counts a failure in a network of the place.
    pub(super) async fn fail_at(&self, place: &Place, net: IpNet, guess: &Guess, limit: Option<Rate>) -> Marked {
        let (window, keep) = limit.map_or(UNLIMITED, |limit| (limit.period, place.allowance(net, limit) + 1));
        self.store.mark(&self.net_key(Space::Failures, b"at", net), guess.at_address, window, keep).await
    }

    /// Counts a failure of the user. `false`: it was counted before.
    pub(super) async fn fail_user(&self, user: &User, guess: &Guess, limit: Option<Rate>) -> bool {
        let (window, keep) = limit.map_or(UNLIMITED, |limit| (limit.period, count(limit)));
        self.store.mark(&self.failures(user), guess.at_user, window, keep).await.fresh
    }

    /// Keeps a guess at the user that came to no verdict, apart from the failures.
    pub(super) async fn doubt(&self, user: &User, guess: &Guess, limit: Rate) {
        self.store.mark(&self.doubts(user), guess.at_user, limit.period, count(limit)).await;
    }

    /// Whether the user has had all the guesses there may be, if those under way are some too: wrong passwords, or as many that
    /// came to no verdict.
    pub(super) async fn is_under_attack(&self, user: &User, under_way: usize, limit: Rate) -> bool {
        let failures = self.store.count(&self.failures(user), limit.period).await;
        let doubts = self.store.count(&self.doubts(user), limit.period).await;
        failures.max(doubts) + under_way >= count(limit)
    }

    /// Forgets the failures of a network.
    pub(super) async fn forgive(&self, net: IpNet) {
        self.store.clear(&self.net_key(Space::Failures, b"at", net)).await;
    }

    pub(super) fn sweep(&self) {
        self.store.sweep();
    }

    fn failures(&self, user: &User) -> Key {
        self.store.key(Space::Failures, &[b"of", user.as_bytes()])
    }

    fn doubts(&self, user: &User) -> Key {
        self.store.key(Space::Failures, &[b"doubts", user.as_bytes()])
    }

    fn passwords(&self, user: &User) -> Key {
        self.store.key(Space::Passwords, &[user.as_bytes()])
    }

    fn places(&self, user: &User) -> Key {
        self.store.key(Space::Places, &[user.as_bytes()])
    }

    fn net_key(&self, space: Space, what: &[u8], net: IpNet) -> Key {
        self.store.key(space, &[what, &octets(net)])
    }
}

fn count(limit: Rate) -> usize {
    usize::try_from(limit.count.get()).unwrap_or(usize::MAX)
}

/// A network as bytes: its address as IPv6 and its length; IPv4 lengths stand beyond those of IPv6.
fn octets(net: IpNet) -> [u8; 17] {
    let mut bytes = [0; 17];
    let (address, length) = match net.network() {
        IpAddr::V4(address) => (address.to_ipv6_mapped(), net.prefix_len() + 129),
        IpAddr::V6(address) => (address, net.prefix_len()),
    };
    bytes[..16].copy_from_slice(&address.octets());
    bytes[16] = length;
    bytes
}
