//! What somebody gets who looks for a way around the counting.

use super::*;
use std::collections::VecDeque;
use std::task::Poll;

impl World {
    /// Brings a guess to a backend that says neither yes nor no to it.
    async fn unjudged(&self, from: &str, name: &str, password: &str) -> Result<(), Refusal> {
        let (user, password) = (user(name), Secret::from(password.as_bytes()));
        let attempt = Attempt { client: ip(from), user: Some(&user), password: Some(&password), backend: "main" };
        let ticket = self.gate.login(&attempt).await?;
        self.judged.set(self.judged.get() + 1);
        assert_eq!(self.gate.outcome(ticket, &attempt, Verdict::NoVerdict).await, Ruling::NoVerdict);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn guesses_without_a_verdict_are_logins_that_did_not_succeed() {
    let world = World::with(|policy| policy.limits.auth_failures_per_ip = None);
    for n in 0..300 {
        assert_eq!(world.unjudged(ATTACKER, &format!("user{n}"), "guess").await, Ok(()), "{n}");
    }
    assert_eq!(world.unjudged(ATTACKER, "joe", "guess").await, Err(Refusal::RateLimited));
    assert_eq!(world.connects(ATTACKER), Ok(()), "and nobody is banned for them");
    assert_eq!(world.unjudged(HOME, "joe", "guess").await, Ok(()));
    assert!(world.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn strangers_get_fifty_guesses_an_hour_at_a_user_without_a_verdict_too() {
    let world = World::new();
    world.customer("joe", "secret", HOME).await;
    world.judged.set(0);
    for n in 0..400 {
        let _ = world.unjudged(&format!("203.0.113.{}", n % 250), "joe", &format!("guess{n}")).await;
    }
    assert_eq!(world.judged.get(), 50);
    assert_eq!(world.unjudged("198.51.100.1", "joe", "guess").await, Err(Refusal::RateLimited));
    assert_eq!(world.unjudged("198.51.100.1", "jim", "guess").await, Ok(()), "another user is another matter");
    for _ in 0..400 {
        assert_eq!(world.unjudged(HOME, "joe", "secret").await, Ok(()), "whoever knows the password may always ask");
        assert_eq!(world.unjudged("198.51.100.9", "joe", "secret").await, Ok(()), "wherever that is");
    }
    assert!(world.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_no_way_to_guess_on() {
    let world = World::new();
    for n in 0..5 {
        world.customer(&format!("own{n}"), "old", ATTACKER).await;
        world.account(&format!("own{n}"), "new");
    }
    world.customer("joe", "secret", HOME).await;
    for n in 0..5 {
        world.login(ATTACKER, &format!("own{n}"), "old").await;
    }
    world.judged.set(0);
    world.ill.set(true);
    for n in 0..250 {
        let said = world.login(&format!("203.0.113.{n}"), "joe", &format!("guess{n}")).await;
        assert_eq!(said, if n < 50 { Said::Unavailable } else { LATER }, "{n}");
    }
    assert_eq!(world.judged.get(), 50);
    assert_eq!(world.login(HOME, "joe", "secret").await, Said::Unavailable, "his own password is always asked about");
    world.ill.set(false);
    assert_eq!(world.login(HOME, "joe", "secret").await, Said::In);
    assert!(world.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn many_addresses_at_once_are_no_way_around_a_users_limit() {
    let world = World::new();
    let joe = user("joe");
    let guesses: Vec<_> =
        (0..400).map(|n| (format!("203.0.113.{}", n / 20), Secret::new(format!("guess{n}").into_bytes()))).collect();
    let attempts: Vec<_> = guesses
        .iter()
        .map(|(from, password)| Attempt {
            client: ip(from),
            user: Some(&joe),
            password: Some(password),
            backend: "main",
        })
        .collect();
    let mut waiting: Vec<_> =
        attempts.iter().map(|attempt| (attempt, tokio_test::task::spawn(world.gate.login(attempt)))).collect();
    let (mut reached, mut refused, mut under_way) = (0, 0, VecDeque::new());
    for _ in 0..2000 {
        waiting.retain_mut(|(attempt, login)| match login.poll() {
            Poll::Pending => true,
            Poll::Ready(Ok(ticket)) => {
                reached += 1;
                under_way.push_back((*attempt, ticket));
                false
            }
            Poll::Ready(Err(refusal)) => {
                assert_eq!(refusal, Refusal::RateLimited);
                refused += 1;
                false
            }
        });
        assert!(reached <= 50, "{reached} reached the backend");
        if let Some((attempt, ticket)) = under_way.pop_front() {
            world.gate.outcome(ticket, attempt, Verdict::Rejected).await;
        }
        // The runtime lets a task do only so much in one turn.
        tokio::task::yield_now().await;
    }
    assert_eq!((reached, refused, waiting.len()), (50, 350, 0));
}

#[tokio::test(start_paused = true)]
async fn many_devices_of_one_user_wait_for_each_other_and_all_get_in() {
    let world = World::with(|policy| policy.limits.auth_failures_per_user = "2/h".parse().ok());
    let (joe, secret) = (user("joe"), Secret::from(&b"secret"[..]));
    let attempt = |n| Attempt {
        client: ip(&format!("203.0.113.{n}")),
        user: Some(&joe),
        password: Some(&secret),
        backend: "main",
    };
    let attempts: Vec<_> = (0..9).map(attempt).collect();
    let mut waiting: Vec<_> =
        attempts.iter().map(|attempt| (attempt, tokio_test::task::spawn(world.gate.login(attempt)))).collect();
    let mut under_way = VecDeque::new();
    for _ in 0..100 {
        waiting.retain_mut(|(attempt, login)| match login.poll() {
            Poll::Pending => true,
            Poll::Ready(answer) => {
                under_way.push_back((*attempt, answer.expect("nothing speaks against it")));
                false
            }
        });
        if let Some((attempt, ticket)) = under_way.pop_front() {
            world.gate.outcome(ticket, attempt, Verdict::Accepted).await;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!((waiting.len(), under_way.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_networks_of_a_48_share_their_connections_and_sessions() {
    let world = World::with(|policy| {
        policy.limits.sessions_per_ip = Some(2);
        policy.limits.connections_per_ip = "3/h".parse().ok();
    });
    let listener = Arc::clone(&world.policy.listeners[0]);
    let open = |from: String| world.gate.connection(&listener, ip(&from));
    let held: Vec<_> = (0..16).map(|n| open(format!("2001:db8:1:{n:x}::1")).expect("eight times two")).collect();
    assert_eq!(open("2001:db8:1:ff::1".to_owned()).err(), Some(Refusal::TooManySessions));
    assert!(open("2001:db8:2::1".to_owned()).is_ok(), "the neighbour has a /48 of his own");
    drop(held);
    for n in 0..7 {
        assert!(open(format!("2001:db8:1:{n:x}::2")).is_ok(), "{n}");
    }
    assert_eq!(open("2001:db8:1:ff::2".to_owned()).err(), Some(Refusal::RateLimited), "eight times three");
    assert!(open("2001:db8:2::2".to_owned()).is_ok());
    // What others share out by address goes by the same networks.
    let counted = |from: &str| -> Vec<String> {
        world.gate.networks(ip(from)).iter().map(|(network, times)| format!("{times} in {network}")).collect()
    };
    assert_eq!(counted("2001:db8:1:ff::2"), ["1 in 2001:db8:1:ff::/64", "8 in 2001:db8:1::/48"]);
    assert_eq!(counted("::ffff:192.0.2.1"), ["1 in 192.0.2.1/32"]);
}

#[tokio::test(start_paused = true)]
async fn fifty_in_ten_seconds_reach_the_backend_from_an_address_whatever_the_mechanism() {
    for password in [None, Some(Secret::from(&b"the same again"[..]))] {
        let world = World::new();
        let joe = user("joe");
        let attempt = Attempt { client: ip(ATTACKER), user: Some(&joe), password: password.as_ref(), backend: "main" };
        let mut reached: Vec<tokio::time::Instant> = Vec::new();
        let mut under_way = VecDeque::new();
        // Thirty seconds of attempts, each judged when nineteen more are under way.
        for _ in 0..3000 {
            if under_way.len() == 20 {
                let ticket = under_way.pop_front().expect("twenty");
                world.gate.outcome(ticket, &attempt, Verdict::Rejected).await;
            }
            match world.gate.login(&attempt).await {
                Ok(ticket) => {
                    under_way.push_back(ticket);
                    reached.push(tokio::time::Instant::now());
                }
                Err(refusal) => assert_eq!(refusal, Refusal::RateLimited),
            }
            advance(Duration::from_millis(10)).await;
        }
        for (n, at) in reached.iter().enumerate() {
            let later = reached[n..].iter().filter(|other| other.duration_since(*at) < Duration::from_secs(10)).count();
            assert!(later <= 50, "{later} within ten seconds of number {n}");
        }
        assert!(reached.len() > 50, "a bound, not a ban: {}", reached.len());
        assert!(world.events().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_attackers_pace_holds_up_no_user_known_at_the_address() {
    let world = World::new();
    world.account("joe", "secret");
    assert_eq!(world.unseen(HOME, "joe", true).await, Said::In);
    for _ in 0..100 {
        world.unseen(HOME, "admin", false).await;
    }
    assert_eq!(world.unseen(HOME, "admin", false).await, LATER);
    let unnamed = Attempt { client: ip(HOME), user: None, password: None, backend: "main" };
    assert!(world.gate.login(&unnamed).await.is_ok(), "who may be joe");
    assert_eq!(world.unseen(HOME, "joe", true).await, Said::In);
    assert_eq!(world.login(HOME, "joe", "secret").await, Said::In);
}

#[tokio::test(start_paused = true)]
async fn attempts_that_name_nobody_lead_to_a_ban_too() {
    let world = World::new();
    let nobody = Attempt { client: ip(ATTACKER), user: None, password: None, backend: "main" };
    for n in 0..21 {
        let ticket = world.gate.login(&nobody).await.expect("nothing speaks against it yet");
        let ruling = world.gate.outcome(ticket, &nobody, Verdict::Rejected).await;
        assert_eq!(ruling, Ruling::Failed(FailedReason::BadCredentials), "{n}");
    }
    assert_eq!(world.connects(ATTACKER), Err(Refusal::Banned));
    assert_eq!(world.event_names(), ["ban.added"]);
}

#[tokio::test(start_paused = true)]
async fn an_office_whose_mechanism_names_nobody_is_not_shut_out_by_one_bad_device() {
    let world = World::new();
    let nobody = Attempt { client: ip(HOME), user: None, password: None, backend: "main" };
    let ticket = world.gate.login(&nobody).await.expect("nothing speaks against it");
    assert_eq!(world.gate.outcome(ticket, &nobody, Verdict::Accepted).await, Ruling::Accepted);
    for _ in 0..30 {
        let ticket = world.gate.login(&nobody).await.expect("somebody is known here");
        world.gate.outcome(ticket, &nobody, Verdict::Rejected).await;
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(world.event_names(), ["ban.added"]);
    assert_eq!(world.connects(HOME), Ok(()));
    assert!(world.gate.login(&nobody).await.is_ok());
    assert_eq!(world.login(HOME, "joe", "guess").await, BANNED, "but no stranger by name");
}
