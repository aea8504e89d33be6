//! What a verdict leads to: what is remembered of a good login, and whether a bad one counts, against whom, and what follows.

use super::attempt::{Attempt, FailedReason, Ruling};
use super::ban::Ban;
use super::book::Guess;
use super::place::Place;
use super::user::User;
use super::{Gate, Rules, WEEK};
use crate::observe::{Event, Kind};
use crate::store::Found;
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;

/// Who comes from the default gateway is taken for many people behind NAT from this many users on.
const MANY_USERS: usize = 3;
/// The longest ban of a default gateway nobody has logged in from yet: it may hide everybody, and they must get a chance to show.
const GATEWAY_BAN: Duration = Duration::from_secs(60);

impl Gate {
    pub(super) async fn accepted(&self, rules: &Rules, place: &Place, attempt: &Attempt<'_>) {
        self.outages.succeeded(attempt.backend);
        match attempt.user {
            Some(user) => {
                self.book.accept(user, attempt.password, place, rules.remember_good, rules.place_memory()).await;
            }
            None => self.book.accept_unnamed(place).await,
        }
        for net in place.nets() {
            self.bans.open(net);
        }
    }

    pub(super) async fn rejected(&self, rules: &Rules, place: &Place, attempt: &Attempt<'_>) -> Ruling {
        let remembered = match attempt.user {
            Some(user) => self.book.remembered(user, attempt.password, rules.remember_good).await,
            None => None,
        };
        if rules.outage_guard {
            let witness = attempt.user.filter(|_| remembered.is_some_and(|found| found.latest));
            if self.outages.failed(attempt.backend, witness) {
                self.doubt(rules, place, attempt, remembered).await;
                return Ruling::Outage;
            }
        }
        self.charge(rules, place).await;
        self.hurried(place, attempt).await;
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

    /// There was no verdict. That is no failure and punishes nobody; but a backend may say "not now", or hang up, over a wrong
    /// password too. So it is a login that did not succeed, and at each user strangers get no more guesses this way than with
    /// verdicts. A password that worked is none.
    pub(super) async fn unjudged(&self, rules: &Rules, place: &Place, attempt: &Attempt<'_>) {
        let remembered = match attempt.user {
            Some(user) => self.book.remembered(user, attempt.password, rules.remember_good).await,
            None => None,
        };
        self.doubt(rules, place, attempt, remembered).await;
    }

    async fn doubt(&self, rules: &Rules, place: &Place, attempt: &Attempt<'_>, remembered: Option<Found>) {
        if remembered.is_some() {
            return;
        }
        self.charge(rules, place).await;
        self.hurried(place, attempt).await;
        if let (Some(user), Some(limit)) = (attempt.user, rules.limits.auth_failures_per_user) {
            let guess = self.book.guess(attempt.user, attempt.password, place);
            self.book.doubt(user, &guess, limit).await;
        }
    }

    async fn hurried(&self, place: &Place, attempt: &Attempt<'_>) {
        let known = match attempt.user {
            Some(user) if self.book.was_at(user, place.own, WEEK).await => Some(user),
            _ => None,
        };
        self.book.hurried(place, known).await;
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
    pub(super) async fn hides_many(&self, place: &Place) -> bool {
        self.gateways.contains(place.client) && self.book.visitors(place.own, WEEK).await >= MANY_USERS
    }

    pub(super) async fn add_ban(&self, net: IpNet, time: Duration, why: String) {
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

    pub(super) fn ban_ended(&self, ban: &Ban, why: &str) {
        let mut event = Event::new(Kind::BanExpired);
        event.client_ip = Some(ban.net.addr());
        event.detail = Some(format!("{}: {why}", ban.net));
        self.observe.metrics().bans(self.bans.len());
        self.observe.record(&event);
    }

    /// Takes one from `auth_per_ip`, for a login that did not succeed.
    pub(super) async fn charge(&self, rules: &Rules, place: &Place) {
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
