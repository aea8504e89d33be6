//! May this happen? Asked for each connection, each login and each session; the answer is a [`Refusal`] or nothing.
//!
//! The rules are the contract's "Who is punished". Only a verdict on credentials counts against anybody; the same wrong
//! password again is one mistake, a formerly good one is a stale device; and whatever an attacker does, a customer with
//! the right password gets in from where they got in before. What is kept of users, addresses and passwords are keyed
//! hashes ([`crate::store`]), but for the addresses under a ban, which people want to see.
//!
//! ```text
//! connection ─ lists ─ ban ─ connections_per_ip ─ sessions_per_ip ─→ Admission (held for the session)
//! login ────── ban ─ auth_per_ip ─ auth_failures_per_user ─ lanes ─→ Ticket (held until the verdict)
//!              │ the backend's verdict
//! outcome ──── outage? ─ stale? ─ repeated? ─ counted ─ ban ───────→ Ruling
//! ```

mod attempt;
mod ban;
mod book;
mod count;
mod gateway;
mod lane;
mod outage;
mod place;
mod standby;
mod user;
mod verdict;

pub use attempt::{Attempt, FailedReason, Ruling, Verdict};
pub use ban::Ban;
pub(crate) use count::Counts;
pub use count::Held;
pub use standby::Standby;
pub use user::User;

use crate::observe::Observe;
use crate::policy::access::Access;
use crate::policy::rate::Rate;
use crate::policy::{Limits, Listener, Policy};
use crate::proto::Refusal;
use crate::store::{Found, Store};
use arc_swap::ArcSwap;
use ban::Bans;
use book::Book;
use gateway::Gateways;
use ipnet::IpNet;
use lane::{Lane, Lanes, Road};
use outage::Outages;
use place::Place;
use smallvec::SmallVec;
use standby::Waiting;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// An address is a customer's if somebody logged in there within this time.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// The most attempts of strangers that are under way from an address at once, however many may fail there.
const AT_ONCE: usize = 20;

/// The rules, and what is remembered to keep them.
pub struct Gate {
    rules: ArcSwap<Rules>,
    book: Book,
    observe: Arc<Observe>,
    sessions_by_net: Arc<Counts<IpNet>>,
    sessions_by_user: Arc<Counts<User>>,
    waiting: Arc<Counts<Waiting>>,
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
    pop_before_smtp: Option<Duration>,
}

impl Rules {
    fn of(policy: &Policy) -> Self {
        Self {
            limits: policy.limits.clone(),
            remember_good: policy.auth.remember_good,
            outage_guard: policy.auth.outage_guard,
            pop_before_smtp: policy.auth.pop_before_smtp,
        }
    }

    /// How long a place stays one "where that user logged in before".
    fn place_memory(&self) -> Duration {
        self.remember_good.max(WEEK)
    }
}

/// A connection that was let in; dropped when it has ended.
#[derive(Debug)]
#[must_use = "the session counts as over when this is dropped"]
pub struct Admission(#[expect(dead_code, reason = "held for its drop")] SmallVec<[Held<IpNet>; 1]>);

/// Leave to bring one attempt to the backend; handed back with the verdict. Dropped without one, the attempt counts as
/// never made, so the verdict is to be waited for even when the client has gone.
#[derive(Debug)]
#[must_use = "hand it back with the verdict"]
pub struct Ticket(#[expect(dead_code, reason = "held for its drop")] Vec<Lane>);

/// Why an address may not send without a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoGrant {
    /// Nobody may.
    #[error("nobody sends without a login here: write auth.pop_before_smtp: {{ window: 30m }}")]
    Off,
    /// Nothing is known of who stands behind it.
    #[error("the address is in limits.exempt, and whoever shares it could send")]
    Exempt,
    /// The host's own default gateway, which may hide everybody.
    #[error("the address is this host's default gateway, and whoever it hides could send")]
    Gateway,
}

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
            waiting: Arc::default(),
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
        self.come_in(&listener.access, client, true)
    }

    /// Whether a browser may come to the help page: as for a connection, but that a ban, which the page explains, holds
    /// nobody off.
    ///
    /// # Errors
    /// The list, the rate or the number of sessions that says no.
    pub fn visit(&self, access: &Access, client: IpAddr) -> Result<Admission, Refusal> {
        self.come_in(access, client, false)
    }

    /// Whether a connection may come in that is no mail's: as for [`Gate::connection`].
    ///
    /// # Errors
    /// The list, the ban, the rate or the number of sessions that says no.
    pub fn passage(&self, access: &Access, client: IpAddr) -> Result<Admission, Refusal> {
        self.come_in(access, client, true)
    }

    fn come_in(&self, access: &Access, client: IpAddr, bans_hold: bool) -> Result<Admission, Refusal> {
        access.check(client)?;
        let rules = self.rules.load();
        let place = Place::of(client, &rules.limits);
        if place.exempt {
            return Ok(Admission(SmallVec::new()));
        }
        if bans_hold && place.nets().any(|net| self.bans.holds(net).is_some_and(|ban| ban.closed)) {
            return Err(Refusal::Banned);
        }
        if let Some(rate) = rules.limits.connections_per_ip
            && !self.book.connect(&place, rate)
        {
            return Err(Refusal::RateLimited);
        }
        let most = rules.limits.sessions_per_ip;
        let enter = |net| self.sessions_by_net.enter(net, most.map(|each| place.many(net, each)));
        place.nets().map(enter).collect::<Option<_>>().map(Admission).ok_or(Refusal::TooManySessions)
    }

    /// Whether an attempt may reach the backend; asked before it is dialled. Where the user is not known yet, the address
    /// alone is judged; the ticket is dropped while a challenge lies with the client, and the question asked again with the
    /// response, and the user, that came.
    ///
    /// From one address, and at one user, only so many strangers' attempts are under way at once as there may be failures: the
    /// rest wait here for the verdicts, so that a thousand connections or a thousand addresses are no way around the count.
    ///
    /// # Errors
    /// [`Refusal::Banned`] or [`Refusal::RateLimited`], which a client hears as "temporary".
    pub async fn login(&self, attempt: &Attempt<'_>) -> Result<Ticket, Refusal> {
        let rules = self.rules.load_full();
        let place = Place::of(attempt.client, &rules.limits);
        let standing = self.standing(&rules, &place, attempt).await;
        self.may_try(&rules, &place, attempt, &standing, 0).await?;
        let mut lanes = self.lanes_of_address(&rules, &place, &standing).await;
        let watched = !lanes.is_empty();
        let lane_of_user = self.lane_of_user(&rules, attempt, &standing).await;
        let under_way = lane_of_user.as_ref().map_or(0, Lane::others);
        lanes.extend(lane_of_user);
        if !lanes.is_empty() {
            // The verdicts that were waited for may have changed the answer.
            self.may_try(&rules, &place, attempt, &standing, under_way).await?;
        }
        if watched {
            self.may_hurry(&rules, &place, attempt, &standing).await?;
        }
        self.may_guess(&rules, &place, attempt, &standing).await?;
        Ok(Ticket(lanes))
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
            Verdict::NoVerdict => {
                self.unjudged(&rules, &place, attempt).await;
                Ruling::NoVerdict
            }
        };
        drop(ticket);
        ruling
    }

    /// An attempt that the front half refused (mechanism, syntax, TLS required), or that the client took back: it counts as a
    /// login that did not succeed.
    pub async fn denied(&self, client: IpAddr) {
        let rules = self.rules.load_full();
        self.charge(&rules, &Place::of(client, &rules.limits)).await;
    }

    /// Remembers a login that was accepted under another name, too: that it was good there, from where, and with which password.
    pub async fn vouch(&self, attempt: &Attempt<'_>) {
        let rules = self.rules.load_full();
        let place = Place::of(attempt.client, &rules.limits);
        if let Some(user) = attempt.user {
            self.book.accept(user, attempt.password, &place, rules.remember_good, rules.place_memory()).await;
        }
    }

    /// What counts as one client: an IPv4 address, or the IPv6 network of `limits.ipv6_prefix`.
    pub fn network(&self, client: IpAddr) -> IpNet {
        Place::of(client, &self.rules.load().limits).own
    }

    /// The networks that a client is counted in, the narrow one first, each with how many times what one network may have it may
    /// have: [`Gate::network`], and for IPv6 the /48 around it.
    pub fn networks(&self, client: IpAddr) -> Vec<(IpNet, usize)> {
        let place = Place::of(client, &self.rules.load().limits);
        place.nets().map(|net| (net, place.many(net, 1))).collect()
    }

    /// Whether the address is this host's own default gateway, behind which there may be everybody.
    pub fn may_be_everybody(&self, client: IpAddr) -> bool {
        self.gateways.contains(client.to_canonical())
    }

    /// Whether the attempt's password worked for its user within that time, which is at most `auth.remember_good`. Asking does
    /// not make it younger.
    pub async fn has_just_proved(&self, attempt: &Attempt<'_>, within: Duration) -> bool {
        let within = within.min(self.rules.load().remember_good);
        let Some(user) = attempt.user else { return false };
        self.book.remembered(user, attempt.password, within).await.is_some_and(|found| found.latest)
    }

    /// A place for a session of a user who has logged in.
    ///
    /// # Errors
    /// [`Refusal::TooManySessions`].
    pub fn user_session(&self, user: &User) -> Result<UserSession, Refusal> {
        let limit = self.rules.load().limits.sessions_per_user;
        self.sessions_by_user.enter(user.clone(), limit).ok_or(Refusal::TooManySessions)
    }

    /// Lets an address send without a login for a while: somebody has just logged in there, or an operator says so. Gives for
    /// how long.
    ///
    /// # Errors
    /// [`NoGrant`]; nothing has changed.
    pub async fn grant(&self, client: IpAddr) -> Result<Duration, NoGrant> {
        let rules = self.rules.load_full();
        let window = rules.pop_before_smtp.ok_or(NoGrant::Off)?;
        let place = Place::of(client, &rules.limits);
        // Behind either there may be anybody.
        if place.exempt {
            return Err(NoGrant::Exempt);
        }
        if self.gateways.contains(place.client) {
            return Err(NoGrant::Gateway);
        }
        self.book.grant(&place, window).await;
        Ok(window)
    }

    /// Whether an address may send without a login, as nobody may that is banned.
    pub async fn is_granted(&self, client: IpAddr) -> bool {
        let rules = self.rules.load_full();
        let Some(window) = rules.pop_before_smtp else { return false };
        let place = Place::of(client, &rules.limits);
        let banned = place.nets().any(|net| self.bans.holds(net).is_some());
        !banned && self.book.is_granted(&place, window).await
    }

    /// Whether a user may begin another message; one that may has begun.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`]: `limits.messages_per_user`.
    pub async fn message(&self, user: &User) -> Result<(), Refusal> {
        let rate = self.rules.load().limits.messages_per_user;
        self.book.take_of_user(user, b"messages", rate).await
    }

    /// Whether a user may write to another recipient; one that may has done so.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`]: `limits.recipients_per_user`.
    pub async fn recipient(&self, user: &User) -> Result<(), Refusal> {
        let rate = self.rules.load().limits.recipients_per_user;
        self.book.take_of_user(user, b"recipients", rate).await
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

    /// Ends bans whose time is over and drops what has run out. To be called about once a minute, from a thread that may
    /// block: with a million keys it takes a tenth of a second, though never a lock for longer than a millisecond.
    pub fn sweep(&self) {
        for ban in self.bans.expire() {
            self.ban_ended(&ban, "its time is over");
        }
        self.book.sweep();
    }

    /// `under_way`: how many other strangers' attempts at the user are.
    async fn may_try(
        &self,
        rules: &Rules,
        place: &Place,
        attempt: &Attempt<'_>,
        standing: &Standing,
        under_way: usize,
    ) -> Result<(), Refusal> {
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
                && !standing.is_at_home()
            {
                return Err(Refusal::RateLimited);
            }
        }
        if let (Some(limit), Some(user)) = (rules.limits.auth_failures_per_user, attempt.user)
            && self.book.is_under_attack(user, under_way, limit).await
            && !standing.is_known()
        {
            self.charge(rules, place).await;
            return Err(Refusal::RateLimited);
        }
        Ok(())
    }

    /// Strangers at an address may bring only so many attempts to the backend in ten seconds that do not succeed.
    /// Where somebody is known, who has not been named yet may still turn out to be one of those.
    async fn may_hurry(
        &self,
        rules: &Rules,
        place: &Place,
        attempt: &Attempt<'_>,
        standing: &Standing,
    ) -> Result<(), Refusal> {
        let Some(limit) = rules.limits.auth_failures_per_ip else { return Ok(()) };
        if attempt.user.is_none() && self.book.visitors(place.own, WEEK).await > 0 {
            return Ok(());
        }
        let known = attempt.user.filter(|_| standing.here_this_week);
        for net in place.nets() {
            if !self.book.may_hurry(place, net, known, width(place, net, limit)).await {
                return Err(Refusal::RateLimited);
            }
        }
        Ok(())
    }

    /// A user whom a ban spares may still be guessed at by whom the ban is for. So there, what is not a password known to
    /// have worked gets half as many tries as an address has failures, and then one at a time as they refill.
    async fn may_guess(
        &self,
        rules: &Rules,
        place: &Place,
        attempt: &Attempt<'_>,
        standing: &Standing,
    ) -> Result<(), Refusal> {
        let (Some(user), Some(limit)) = (attempt.user, rules.limits.auth_failures_per_ip) else { return Ok(()) };
        let banned = !place.exempt && place.nets().any(|net| self.bans.holds(net).is_some());
        if banned && !standing.is_proven() && !self.book.may_guess(user, place, limit).await {
            return Err(Refusal::RateLimited);
        }
        Ok(())
    }

    /// All of it is looked up, whatever the first answer: it takes the same time for everybody.
    async fn standing(&self, rules: &Rules, place: &Place, attempt: &Attempt<'_>) -> Standing {
        let Some(user) = attempt.user else { return Standing::default() };
        Standing {
            here_this_week: self.book.was_at(user, place.own, WEEK).await,
            here_before: self.book.was_at(user, place.own, rules.place_memory()).await,
            password: self.book.remembered(user, attempt.password, rules.remember_good).await,
        }
    }

    /// Waits for a lane of the address, and for IPv6 of the wider network too. Whose word is proven needs none.
    async fn lanes_of_address(&self, rules: &Rules, place: &Place, standing: &Standing) -> Vec<Lane> {
        let Some(limit) = rules.limits.auth_failures_per_ip.filter(|_| !place.exempt) else { return Vec::new() };
        if standing.is_proven() || self.hides_many(place).await {
            return Vec::new();
        }
        let mut lanes = Vec::with_capacity(3);
        for net in place.nets() {
            lanes.push(self.lanes.enter(Road::From(net), width(place, net, limit)).await);
        }
        lanes
    }

    /// Waits for a lane of the user. Who would get in while everybody guesses at the user needs none.
    async fn lane_of_user(&self, rules: &Rules, attempt: &Attempt<'_>, standing: &Standing) -> Option<Lane> {
        let (user, limit) = (attempt.user?, rules.limits.auth_failures_per_user?);
        if standing.is_known() {
            return None;
        }
        let width = usize::try_from(limit.count.get()).unwrap_or(usize::MAX);
        Some(self.lanes.enter(Road::To(user.clone()), width).await)
    }
}

/// How many attempts of strangers may be under way from a network of the place.
fn width(place: &Place, net: IpNet, limit: Rate) -> usize {
    place.allowance(net, limit).min(place.many(net, AT_ONCE))
}

/// What speaks for an attempt.
#[derive(Debug, Default)]
struct Standing {
    /// The user logged in at this address within a week.
    here_this_week: bool,
    /// The user logged in at this address, as far back as is remembered.
    here_before: bool,
    /// The password worked for the user.
    password: Option<Found>,
}

impl Standing {
    /// Nothing that a neighbour does stops this.
    fn is_at_home(&self) -> bool {
        self.here_this_week && self.password.is_some_and(|found| found.latest)
    }

    /// No guess.
    fn is_proven(&self) -> bool {
        self.here_this_week && self.password.is_some()
    }

    /// Worth the backend's time while everybody guesses at the user.
    fn is_known(&self) -> bool {
        self.here_before || self.password.is_some()
    }
}

#[cfg(test)]
mod tests;
