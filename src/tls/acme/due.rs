//! When to ask the CA: for the next certificate, and again after it has said no.

use super::super::identity::Identity;
use super::window::Window;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::{Duration, SystemTime};

/// The wait after each failure in a row; the last one goes on.
const WAITS: [Duration; 7] = [
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(3600),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(4 * 3600),
    Duration::from_secs(6 * 3600),
];

/// Failed tries an hour, of all kinds of certificate together, restarts or not. Let's Encrypt bars a name after five.
const MOST_AN_HOUR: usize = 4;

const HOUR: Duration = Duration::from_secs(3600);

/// The longest wait that a CA's own word (Retry-After) is taken for.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Gives the moment to renew a certificate: one in the window that the CA suggests (RFC 9773); without a window that makes
/// sense, when two thirds of its life are over, or up to a thirtieth of its life later. It differs from certificate to
/// certificate, so that many gateways do not come at once, and is the same whenever it is asked.
pub fn renewal(identity: &Identity, window: Option<&Window>) -> SystemTime {
    if let Some(moment) = window.and_then(|window| window.moment(identity)) {
        return moment;
    }
    let life = identity.not_after().duration_since(identity.not_before()).unwrap_or_default();
    let first = identity.chain().first().map(AsRef::as_ref).unwrap_or_default();
    let share = Sha256::digest(first).first().copied().unwrap_or_default();
    identity.not_before() + life / 3 * 2 + life / 30 * u32::from(share) / 256
}

/// The tries for one kind of certificate that failed of late, and when the next one may be.
///
/// What is kept on the disk is when they failed. How often in a row is forgotten at a restart: then somebody is at work, and
/// the next try may come at once, unless the hour's are used up.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tries {
    /// Seconds since 1970, oldest first, at most [`MOST_AN_HOUR`].
    #[serde(default)]
    failed: Vec<u64>,
    #[serde(skip)]
    in_a_row: usize,
    #[serde(skip)]
    wait: Option<(SystemTime, Duration)>,
}

impl Tries {
    /// Reads what [`Tries::written`] wrote. What cannot be understood counts for nothing.
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// Writes it as JSON.
    pub fn written(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Notes that a try failed. `told` is the wait that the CA asked for; `chance`, from 0 to 1, lengthens ours by up to a
    /// quarter.
    pub fn fail(&mut self, now: SystemTime, told: Option<Duration>, chance: f64) {
        self.failed.push(seconds(now));
        let surplus = self.failed.len().saturating_sub(MOST_AN_HOUR);
        self.failed.drain(..surplus);
        let wait = WAITS.get(self.in_a_row).or(WAITS.last()).copied().unwrap_or(HOUR);
        let wait = wait.mul_f64(1.0 + chance.clamp(0.0, 1.0) / 4.0);
        self.wait = Some((now, wait.max(told.unwrap_or_default().min(LONGEST_WAIT))));
        self.in_a_row += 1;
    }

    /// Notes a wait that the CA asked for when another kind was refused: it is of the gateway, not of a kind, that it has enough.
    pub fn heed(&mut self, now: SystemTime, told: Duration) {
        let told = told.min(LONGEST_WAIT);
        if told > self.own_wait(now) {
            self.wait = Some((now, told));
        }
    }

    /// Notes that all went well.
    pub fn succeed(&mut self) {
        self.in_a_row = 0;
        self.wait = None;
    }

    /// How long to wait from now before the next try; zero: it may be at once. So many kinds of certificate are wanted for the
    /// same names: each has its share of what the CA takes in an hour, and none waits for what befell another, unless the CA said
    /// so ([`Tries::heed`]).
    pub fn wait(&self, now: SystemTime, kinds: usize) -> Duration {
        let share = (MOST_AN_HOUR / kinds.max(1)).max(1);
        let oldest =
            self.failed.iter().rev().nth(share - 1).map(|at| SystemTime::UNIX_EPOCH + Duration::from_secs(*at));
        self.own_wait(now).max(oldest.map(|at| left(now, at, HOUR)).unwrap_or_default())
    }

    /// Without the hour's share.
    fn own_wait(&self, now: SystemTime) -> Duration {
        self.wait.map(|(since, wait)| left(now, since, wait)).unwrap_or_default()
    }
}

/// What is left of a wait. A time that lies far ahead was written by a clock that was wrong, and is not waited for at all.
fn left(now: SystemTime, since: SystemTime, wait: Duration) -> Duration {
    match now.duration_since(since) {
        Ok(over) => wait.saturating_sub(over),
        Err(ahead) if ahead.duration() > wait => Duration::ZERO,
        Err(_) => wait,
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[test]
    fn a_ca_that_says_no_is_asked_a_handful_of_times_an_hour_and_then_ever_less() {
        let (mut tries, mut time, mut at) = (Tries::default(), now(), Vec::new());
        for _ in 0..12 {
            assert_eq!(tries.wait(time, 1), Duration::ZERO);
            at.push(time.duration_since(now()).expect("later").as_secs() / 60);
            tries.fail(time, None, 0.0);
            time += tries.wait(time, 1);
        }
        assert_eq!(at, [0, 5, 20, 50, 110, 230, 470, 830, 1190, 1550, 1910, 2270]);
    }

    #[test]
    fn a_restart_may_try_at_once_but_not_more_often_in_an_hour() {
        let mut tries = Tries::default();
        for try_ in 0..4 {
            tries = Tries::read(&tries.written());
            let time = now() + MINUTE * try_;
            assert_eq!(tries.wait(time, 1), Duration::ZERO, "try {try_}");
            tries.fail(time, None, 1.0);
        }
        tries = Tries::read(&tries.written());
        assert_eq!(tries.wait(now() + MINUTE * 4, 1), MINUTE * 56);
        assert_eq!(tries.wait(now() + MINUTE * 60, 1), Duration::ZERO);
    }

    #[test]
    fn two_kinds_share_what_the_ca_takes_in_an_hour() {
        let mut tries = Tries::default();
        for try_ in 0..2 {
            tries = Tries::read(&tries.written());
            assert_eq!(tries.wait(now() + MINUTE * try_, 2), Duration::ZERO, "try {try_}");
            tries.fail(now() + MINUTE * try_, None, 0.0);
        }
        tries = Tries::read(&tries.written());
        assert_eq!(tries.wait(now() + MINUTE * 2, 2), MINUTE * 58);
        assert_eq!(tries.wait(now() + MINUTE * 2, 1), Duration::ZERO, "the other kind is wanted no more");
    }

    #[test]
    fn the_cas_word_is_kept_within_a_day_and_success_ends_the_waiting() {
        let mut tries = Tries::default();
        tries.fail(now(), Some(MINUTE * 90), 0.0);
        assert_eq!(tries.wait(now(), 1), MINUTE * 90);
        tries.fail(now(), Some(MINUTE * 60 * 24 * 365), 0.0);
        assert_eq!(tries.wait(now(), 1), MINUTE * 60 * 24);
        tries.succeed();
        assert_eq!(tries.wait(now(), 1), Duration::ZERO);
        tries.fail(now(), None, 1.0);
        assert_eq!(tries.wait(now(), 1), MINUTE * 5 * 5 / 4, "the row begins anew, and chance adds a quarter at most");
    }

    #[test]
    fn what_one_kind_was_told_holds_for_the_other_and_shortens_no_wait() {
        let mut tries = Tries::default();
        tries.heed(now(), MINUTE * 90);
        assert_eq!(tries.wait(now(), 2), MINUTE * 90);
        tries.heed(now() + MINUTE * 30, MINUTE * 20);
        assert_eq!(tries.wait(now() + MINUTE * 30, 2), MINUTE * 60);
        tries.heed(now(), MINUTE * 60 * 24 * 365);
        assert_eq!(tries.wait(now(), 2), MINUTE * 60 * 24);
        tries.heed(now(), Duration::MAX);
        assert_eq!(tries.wait(now(), 2), MINUTE * 60 * 24);
        let mut fresh = Tries::default();
        fresh.heed(now(), MINUTE);
        fresh.fail(now() + MINUTE, None, 0.0);
        assert_eq!(fresh.wait(now() + MINUTE, 2), MINUTE * 5, "it is no failure of its own");
    }

    #[test]
    fn a_clock_that_was_set_back_holds_nothing_up_for_long() {
        let mut tries = Tries::default();
        tries.fail(now() + MINUTE * 60 * 24 * 365, None, 0.0);
        assert_eq!(tries.wait(now(), 1), Duration::ZERO, "a year ahead says nothing");
        tries.fail(now() + MINUTE, None, 0.0);
        assert!(tries.wait(now(), 1) > MINUTE, "a minute ahead is a clock that was corrected");
        for text in ["", "{}", "[1]", "{\"failed\":[-1]}", "\u{0}"] {
            assert_eq!(Tries::read(text).wait(now(), 1), Duration::ZERO, "{text:?}");
        }
    }
}
