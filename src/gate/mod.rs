//! May this happen? Asked for each connection, each login and each session; the answer is a [`Refusal`] or nothing.
//!
//! The rules are the contract's "Who is punished". Only a verdict on credentials counts against anybody; the same wrong
//! password again is one mistake, a formerly good one is a stale device; and whatever an attacker does, a customer with
//! the right password gets in from where they got in before. What is kept of users, addresses and passwords are keyed
//! hashes ([`crate::store`]), but for the addresses under a ban, which people want to see.
//!
//! ```text
//! connection ─ lists ─ ban ─ connections_per_ip ─ sessions_per_ip ─→ Admission (held for the session)
//! login ────── ban ─ auth_per_ip ─ auth_failures_per_user ─ lane ──→ Ticket (held until the verdict)
//!              │ the backend's verdict
//! outcome ──── outage? ─ stale? ─ repeated? ─ counted ─ ban ───────→ Ruling
//! ```

mod ban;
mod book;
mod count;
mod gateway;
mod lane;
mod outage;
mod place;
mod user;

pub use ban::Ban;
pub use count::Held;
pub use user::User;

use crate::observe::{Event, Kind, Observe};
use crate::policy::{Limits, Listener, Policy};
use crate::proto::{Refusal, Secret};
use crate::store::Store;
use arc_swap::ArcSwap;
use ban::Bans;
use book::{Book, Guess};
use count::Counts;
use gateway::Gateways;
use ipnet::IpNet;
use lane::{Lane, Lanes};
use outage::Outages;
use place::Place;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// An address is a customer's if somebody logged in there within this time.
const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// Who comes from the default gateway is taken for many people behind NAT from this many users on.
const MANY_USERS: usize = 3;
/// The longest ban of a default gateway nobody has logged in from yet: it may hide everybody, and they must get a chance to show.
const GATEWAY_BAN: Duration = Duration::from_secs(60);

/// The rules, and what is remembered to keep them.
pub struct Gate {
    rules: ArcSwap<Rules>,
    book: Book,
    observe: Arc<Observe>,
    sessions_by_net: Arc<Counts<IpNet>>,
    sessions_by_user: Arc<Counts<User>>,
    lanes: Arc<Lanes>,
    bans: Bans,
    outages: Outages,
    gateways: Gateways,
}

/// What the configuration says, as far as it is decided here.
struct Rules {
    limits: Limits,
    remember_good: Duration,
    outage_guard: bool,
}

impl Rules {
    fn of(policy: &Policy) -> Self {
        Self {
            limits: policy.limits.clone(),
            remember_good: policy.auth.remember_good,
            outage_guard: policy.auth.outage_guard,
        }
    }

    /// How long a place stays one "where that user logged in before".
    fn place_memory(&self) -> Duration {
        self.remember_good.max(WEEK)
    }
}

/// One attempt to log in.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// Where it comes from.
    pub client: IpAddr,
    /// Who it is for, once that is known.
    pub user: Option<&'a User>,
    /// With which password, where one is seen.
    pub password: Option<&'a Secret<Vec<u8>>>,
    /// The backend it goes to, by its name in the configuration: an outage is a backend's.
    pub backend: &'a str,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The backend said yes.
    Accepted,
    /// The backend said no to the credentials.
    Rejected,
    /// The backend is not there or says "not now". Never counted.
    NoVerdict,
    /// We said no (mechanism, syntax, TLS required), or the client took it back.
    Refused,
}

/// What is to be said and recorded of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// `auth.ok`.
    Accepted,
    /// `auth.failed`, with its reason.
    Failed(FailedReason),
    /// The backend says no to everybody: to be answered and recorded as unavailable, whatever it said.
    Outage,
    /// There was no verdict to rule on.
    NoVerdict,
}

/// The reason on `auth.failed`. The client hears the same words for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedReason {
    /// A mistake or a guess. It counts.
    BadCredentials,
    /// A password that was good once: a device nobody told of the new one. Not counted.
    StalePassword,
    /// The same wrong password again. Not counted.
    Repeated,
}

impl FailedReason {
    /// The contract's `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            FailedReason::BadCredentials => "bad_credentials",
            FailedReason::StalePassword => "stale_password",
            FailedReason::Repeated => "repeated",
        }
    }
}

/// A connection that was let in; dropped when it has ended.
#[derive(Debug)]
#[must_use = "the session counts as over when this is dropped"]
pub struct Admission(#[expect(dead_code, reason = "held for its drop")] Option<Held<IpNet>>);

/// Leave to bring one attempt to the backend; handed back with the verdict. Dropped without one, the attempt counts as
/// never made, so the verdict is to be waited for even when the client has gone.
#[derive(Debug)]
#[must_use = "hand it back with the verdict"]
pub struct Ticket(#[expect(dead_code, reason = "held for its drop")] Vec<Lane>);

/// A user's session; dropped when it has ended.
pub type UserSession = Held<User>;

impl Gate {
    /// A gate with these rules. Reads the host's default gateways.
    pub fn new(policy: &Policy, store: Store, observe: Arc<Observe>) -> Self {
        Self::with_gateways(policy, store, observe, Gateways::of_host())
    }

    /// The same on a host with these default gateways.
    pub fn behind(policy: &Policy, store: Store, observe: Arc<Observe>, gateways: Vec<IpAddr>) -> Self {
        Self::with_gateways(policy, store, observe, Gateways::fixed(gateways))
    }

    fn with_gateways(policy: &Policy, store: Store, observe: Arc<Observe>, gateways: Gateways) -> Self {
        Self {
            rules: ArcSwap::from_pointee(Rules::of(policy)),
            book: Book::new(store),
            observe,
            sessions_by_net: Arc::default(),
            sessions_by_user: Arc::default(),
            lanes: Arc::default(),
            bans: Bans::default(),
            outages: Outages::default(),
            gateways,
        }
    }

    /// Goes on with other rules; counters and bans stay.
    pub fn reload(&self, policy: &Policy) {
        self.rules.store(Arc::new(Rules::of(policy)));
        self.gateways.reread();
    }

    /// Whether a connection may come in. Decided at once, with what this process knows itself.
    ///
    /// # Errors
    /// The list, the ban, the rate or the number of sessions that says no, asked in this order.
    pub fn connection(&self, listener: &Listener, client: IpAddr) -> Result<Admission, Refusal> {
        listener.access.check(client)?;
        let rules = self.rules.load();
        let place = Place::of(client, &rules.limits);
        if place.exempt {
            return Ok(Admission(None));
        }
        if place.nets().any(|net| self.bans.holds(net).is_some_and(|ban| ban.closed)) {
            return Err(Refusal::Banned);
        }
        if let Some(rate) = rules.limits.connections_per_ip
            && !self.book.connect(&place, rate)
        {
            return Err(Refusal::RateLimited);
        }
        let held = self.sessions_by_net.enter(place.own, rules.limits.sessions_per_ip);
        held.map(|held| Admission(Some(held))).ok_or(Refusal::TooManySessions)
    }

    /// Whether an attempt may reach the backend; asked before it is dialled. Where the user is not known yet, the address
    /// alone is judged, and [`Gate::named`] is asked once the user is.
    ///
    /// From one address only so many strangers' attempts are under way at once as there may be failures: the rest wait
    /// here for the verdicts, so that a thousand connections are no way around the count.
    ///
    /// # Errors
    /// [`Refusal::Banned`] or [`Refusal::RateLimited`], which a client hears as "temporary".
    pub async fn login(&self, attempt: &Attempt<'_>) -> Result<Ticket, Refusal> {
        let rules = self.rules.load_full();
        let place = Place::of(attempt.client, &rules.limits);
        self.may_try(&rules, &place, attempt).await?;
        let lanes = self.lanes(&rules, &place, attempt).await;
        if !lanes.is_empty() {
            // The verdicts that were waited for may have changed the answer.
            self.may_try(&rules, &place, attempt).await?;
        }
        Ok(Ticket(lanes))
    }

    /// Asked again when a mechanism that is passed through has named the user, before the response is forwarded.
    ///
    /// # Errors
    /// As for [`Gate::login`].
    pub async fn named(&self, attempt: &Attempt<'_>) -> Result<(), Refusal> {
        let rules = self.rules.load_full();
        self.may_try(&rules, &Place::of(attempt.client, &rules.limits), attempt).await
    }

    /// The end of an attempt, whatever it was. For a refusal of the gate's own there is no ticket and nothing to report.
    pub async fn outcome(&self, ticket: Ticket, attempt: &Attempt<'_>, verdict: Verdict) -> Ruling {
        let rules = self.rules.load_full();
        let place = Place::of(attempt.client, &rules.limits);
        let ruling = match verdict {
            Verdict::Accepted => {
                self.accepted(&rules, &place, attempt).await;
                Ruling::Accepted
            }
            Verdict::Rejected => self.rejected(&rules, &place, attempt).await,
            Verdict::NoVerdict => Ruling::NoVerdict,
            Verdict::Refused => {
                self.charge(&rules, &place).await;
                Ruling::NoVerdict
            }
        };
        drop(ticket);
        ruling
    }

    /// An attempt refused by the front half before the gate was asked (mechanism, syntax, TLS required): it counts as a
    /// login that did not succeed.
    pub async fn denied(&self, client: IpAddr) {
        let rules = self.rules.load_full();
        self.charge(&rules, &Place::of(client, &rules.limits)).await;
    }

    /// A place for a session of a user who has logged in.
    ///
    /// # Errors
    /// [`Refusal::TooManySessions`].
    pub fn user_session(&self, user: &User) -> Result<UserSession, Refusal> {
        let limit = self.rules.load().limits.sessions_per_user;
        self.sessions_by_user.enter(user.clone(), limit).ok_or(Refusal::TooManySessions)
    }

    /// The ban an address is under.
    pub fn banned(&self, client: IpAddr) -> Option<Ban> {
        let place = Place::of(client, &self.rules.load().limits);
        place.nets().find_map(|net| self.bans.holds(net))
    }

    /// All bans that hold, the next to end first.
    pub fn bans(&self) -> Vec<Ban> {
        self.bans.all()
    }

    /// Bans an address (its network, for IPv6) for `limits.ban` by hand. Users seen good there still get in.
    pub async fn ban(&self, client: IpAddr) {
        let rules = self.rules.load_full();
        let place = Place::of(client, &rules.limits);
        self.add_ban(place.own, rules.limits.ban, "by hand".to_owned()).await;
    }

    /// Lifts every ban an address is under and forgets its failures. `false`: there was none.
    pub async fn unban(&self, client: IpAddr) -> bool {
        let place = Place::of(client, &self.rules.load_full().limits);
        let mut lifted = false;
        for net in place.nets() {
            self.book.forgive(net).await;
            if let Some(ban) = self.bans.lift(net) {
                lifted = true;
                self.ban_ended(&ban, "lifted by hand");
            }
        }
        lifted
    }

    /// Ends bans whose time is over and drops what has run out. To be called about once a minute.
    pub fn sweep(&self) {
        for ban in self.bans.expire() {
            self.ban_ended(&ban, "its time is over");
        }
        self.book.sweep();
    }

    async fn may_try(&self, rules: &Rules, place: &Place, attempt: &Attempt<'_>) -> Result<(), Refusal> {
        if !place.exempt {
            for net in place.nets() {
                let Some(ban) = self.bans.holds(net) else { continue };
                let spared = match attempt.user {
                    Some(user) => self.book.was_at(user, net, WEEK).await,
                    None => !ban.closed,
                };
                if !spared {
                    return Err(Refusal::Banned);
                }
            }
            if let Some(rate) = rules.limits.auth_per_ip
                && !self.book.may_fail(place, rate).await
                && !self.is_at_home(rules, place, attempt).await
            {
                return Err(Refusal::RateLimited);
            }
        }
        if let (Some(limit), Some(user)) = (rules.limits.auth_failures_per_user, attempt.user)
            && self.book.is_under_attack(user, limit).await
            && !self.is_known(rules, place, attempt).await
        {
            self.charge(rules, place).await;
            return Err(Refusal::RateLimited);
        }
        Ok(())
    }

    /// The user has logged in at this address and brings the password that worked last: no neighbour's flood stops that.
    async fn is_at_home(&self, rules: &Rules, place: &Place, attempt: &Attempt<'_>) -> bool {
        let Some(user) = attempt.user else { return false };
        self.book.was_at(user, place.own, WEEK).await
            && self.book.remembered(user, attempt.password, rules.remember_good).await.is_some_and(|found| found.latest)
    }

    /// The password worked once, or the user has logged in at this address.
    async fn is_known(&self, rules: &Rules, place: &Place, attempt: &Attempt<'_>) -> bool {
        let Some(user) = attempt.user else { return false };
        // Both are looked up whatever the first says: the answer takes the same time.
        let password = self.book.remembered(user, attempt.password, rules.remember_good).await.is_some();
        let here = self.book.was_at(user, place.own, rules.place_memory()).await;
        password || here
    }

    /// Waits for a lane of the address, and for IPv6 of the wider network too.
    async fn lanes(&self, rules: &Rules, place: &Place, attempt: &Attempt<'_>) -> Vec<Lane> {
        let Some(limit) = rules.limits.auth_failures_per_ip.filter(|_| !place.exempt) else { return Vec::new() };
        let at_home = match attempt.user {
            Some(user) => self.book.was_at(user, place.own, WEEK).await,
            None => false,
        };
        if at_home || self.hides_many(place).await {
            return Vec::new();
        }
        let mut lanes = Vec::with_capacity(2);
        for net in place.nets() {
            lanes.push(self.lanes.enter(net, place.allowance(net, limit)).await);
        }
        lanes
    }

    async fn accepted(&self, rules: &Rules, place: &Place, attempt: &Attempt<'_>) {
        self.outages.succeeded(attempt.backend);
        if let Some(user) = attempt.user {
            self.book.accept(user, attempt.password, place, rules.remember_good, rules.place_memory()).await;
            for net in place.nets() {
                self.bans.open(net);
            }
        }
    }

    async fn rejected(&self, rules: &Rules, place: &Place, attempt: &Attempt<'_>) -> Ruling {
        let remembered = match attempt.user {
            Some(user) => self.book.remembered(user, attempt.password, rules.remember_good).await,
            None => None,
        };
        if rules.outage_guard {
            let witness = attempt.user.filter(|_| remembered.is_some_and(|found| found.latest));
            if self.outages.failed(attempt.backend, witness) {
                if remembered.is_none() {
                    self.charge(rules, place).await;
                }
                return Ruling::Outage;
            }
        }
        self.charge(rules, place).await;
        if remembered.is_some() {
            return Ruling::Failed(FailedReason::StalePassword);
        }
        let guess = self.book.guess(attempt.user, attempt.password, place);
        let fresh = self.count(rules, place, attempt.user, &guess).await;
        Ruling::Failed(match fresh || !guess.password_seen {
            true => FailedReason::BadCredentials,
            false => FailedReason::Repeated,
        })
    }

    /// Counts a failure against the address and the user. `false`: it was counted before.
    async fn count(&self, rules: &Rules, place: &Place, user: Option<&User>, guess: &Guess) -> bool {
        if !place.exempt && !self.count_here(rules, place, guess).await {
            return false;
        }
        let Some(user) = user else { return true };
        // A user's own device with an old password cannot show that it was good where no password is seen.
        if !guess.password_seen && self.book.was_at(user, place.own, rules.place_memory()).await {
            return true;
        }
        let fresh = self.book.fail_user(user, guess, rules.limits.auth_failures_per_user).await;
        !place.exempt || fresh
    }

    async fn count_here(&self, rules: &Rules, place: &Place, guess: &Guess) -> bool {
        let limit = rules.limits.auth_failures_per_ip;
        let marked = self.book.fail_at(place, place.own, guess, limit).await;
        if !marked.fresh {
            return false;
        }
        for net in place.nets() {
            let count = match net == place.own {
                true => marked.count,
                false => self.book.fail_at(place, net, guess, limit).await.count,
            };
            if let Some(limit) = limit
                && count > place.allowance(net, limit)
            {
                let why = format!("more than {} distinct wrong passwords", place.allowance(net, limit));
                self.punish(rules, place, net, why).await;
            }
        }
        true
    }

    async fn punish(&self, rules: &Rules, place: &Place, net: IpNet, why: String) {
        if !self.gateways.contains(place.client) {
            self.add_ban(net, rules.limits.ban, why).await;
        } else if self.hides_many(place).await {
            if self.gateways.warning_is_due() {
                self.observe.record(&hidden_by_nat(place.client));
            }
        } else {
            let why = format!("{why}; short, because this host's default gateway may hide many clients");
            self.add_ban(net, rules.limits.ban.min(GATEWAY_BAN), why).await;
        }
    }

    /// Whether the place is this host's default gateway and many users come from it: Docker's NAT, most likely.
    async fn hides_many(&self, place: &Place) -> bool {
        self.gateways.contains(place.client) && self.book.visitors(place.own, WEEK).await >= MANY_USERS
    }

    async fn add_ban(&self, net: IpNet, time: Duration, why: String) {
        let closed = self.book.visitors(net, WEEK).await == 0;
        if time.is_zero() || !self.bans.add(net, time, closed) {
            return;
        }
        let effect = if closed { "closed at connect" } else { "only users who logged in there within 7 days get in" };
        let mut event = Event::new(Kind::BanAdded);
        event.client_ip = Some(net.addr());
        event.duration = Some(time);
        event.detail = Some(format!("{net}: {why}; {effect}"));
        self.observe.metrics().bans(self.bans.len());
        self.observe.record(&event);
    }

    fn ban_ended(&self, ban: &Ban, why: &str) {
        let mut event = Event::new(Kind::BanExpired);
        event.client_ip = Some(ban.net.addr());
        event.detail = Some(format!("{}: {why}", ban.net));
        self.observe.metrics().bans(self.bans.len());
        self.observe.record(&event);
    }

    /// Takes one from `auth_per_ip`, for a login that did not succeed.
    async fn charge(&self, rules: &Rules, place: &Place) {
        if let Some(rate) = rules.limits.auth_per_ip.filter(|_| !place.exempt) {
            self.book.charge(place, rate).await;
        }
    }
}

fn hidden_by_nat(client: IpAddr) -> Event {
    let mut event = Event::new(Kind::ClientsHiddenByNat);
    event.client_ip = Some(client);
    event.detail = Some(
        "many users come from this host's own default gateway, so their real addresses are hidden and it is not banned. \
         Cures: host networking for the container (network_mode: host); \"userland-proxy\": false in Docker's daemon.json; \
         a load balancer in front that sends the PROXY header, with proxy_protocol set on the listener; \
         or name this address in limits.exempt"
            .to_owned(),
    );
    event
}

#[cfg(test)]
mod tests;
