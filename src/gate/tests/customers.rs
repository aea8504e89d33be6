//! What a customer gets, whatever an attacker does.

use super::*;
use proptest::prelude::*;

#[tokio::test(start_paused = true)]
async fn an_attack_from_everywhere_leaves_the_customer_alone() {
    let world = World::new();
    world.customer("joe", "secret", HOME).await;
    for n in 0..2000 {
        world.login(&format!("203.0.{}.{}", n / 250, n % 250), "joe", &format!("guess{n}")).await;
    }
    assert_eq!(world.login(HOME, "joe", "secret").await, Said::In, "at home");
    assert_eq!(
        world.login("198.51.100.9", "joe", "secret").await,
        Said::In,
        "and on the road, with the known password"
    );
    assert_eq!(world.login(HOME, "joe", "mistyped").await, BAD, "whoever was there before may even mistype");
    world.account("joe", "new");
    assert_eq!(world.login("198.51.100.10", "joe", "new").await, LATER, "a new one from a new place has to wait");
    assert_eq!(world.login(HOME, "joe", "new").await, Said::In, "but not at home");
    assert_eq!(world.login("198.51.100.10", "joe", "new").await, Said::In, "and then it is known");
}

#[tokio::test(start_paused = true)]
async fn an_attacker_behind_the_same_address_leaves_the_customer_alone() {
    let world = World::new();
    world.customer("joe", "secret", HOME).await;
    for n in 0..400 {
        world.login(HOME, "admin", &format!("guess{n}")).await;
    }
    assert_eq!(world.login(HOME, "admin", "guess").await, BANNED);
    assert_eq!(world.connects(HOME), Ok(()), "the door is open");
    assert_eq!(world.login(HOME, "joe", "secret").await, Said::In);
    for _ in 0..400 {
        world.gate.denied(ip(HOME)).await;
    }
    assert_eq!(world.login(HOME, "joe", "secret").await, Said::In, "a flood of refused logins changes nothing");
    assert_eq!(world.login(HOME, "joe", "guess").await, LATER, "and is no way to guess on");
}

#[tokio::test(start_paused = true)]
async fn a_stale_phone_trying_the_old_password_for_ever_is_no_attack() {
    let world = World::new();
    world.customer("joe", "old", HOME).await;
    world.customer("joe", "new", HOME).await;
    for _ in 0..1000 {
        assert_eq!(world.login(HOME, "joe", "old").await, STALE);
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(world.login(HOME, "joe", "new").await, Said::In);
    assert_eq!(world.login("198.51.100.9", "joe", "old").await, STALE, "nor on the road");
    assert!(world.gate.bans().is_empty() && world.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_device_with_one_wrong_password_is_one_mistake() {
    let world = World::new();
    world.account("joe", "secret");
    assert_eq!(world.login(HOME, "joe", "wrong").await, BAD);
    for _ in 0..3000 {
        assert_eq!(world.login(HOME, "joe", "wrong").await, REPEATED);
        advance(Duration::from_secs(1)).await;
    }
    for n in 0..19 {
        assert_eq!(world.login(HOME, "joe", &format!("typo{n}")).await, BAD);
    }
    assert_eq!(world.login(HOME, "joe", "secret").await, Said::In, "nineteen mistakes more are still twenty");
}

#[tokio::test(start_paused = true)]
async fn a_stale_device_that_shows_no_password_does_not_throttle_its_user() {
    let world = World::new();
    world.account("joe", "secret");
    assert_eq!(world.unseen(HOME, "joe", true).await, Said::In);
    for _ in 0..180 {
        assert_eq!(world.unseen(HOME, "joe", false).await, BAD);
        advance(MINUTE).await;
    }
    assert_eq!(world.unseen("198.51.100.9", "joe", true).await, Said::In);
}

#[tokio::test(start_paused = true)]
async fn a_week_later_an_address_is_a_strangers_again() {
    let world = World::new();
    world.customer("joe", "secret", HOME).await;
    advance(7 * DAY).await;
    for n in 0..21 {
        world.login(HOME, "admin", &format!("guess{n}")).await;
    }
    assert_eq!(world.connects(HOME), Err(Refusal::Banned));
    assert_eq!(world.login(HOME, "joe", "secret").await, BANNED);
}

#[tokio::test(start_paused = true)]
async fn who_logs_in_while_the_ban_falls_opens_the_door_for_the_next_time() {
    let world = World::new();
    world.account("joe", "secret");
    let (joe, secret) = (user("joe"), Secret::from(&b"secret"[..]));
    let attempt = Attempt { client: ip(HOME), user: Some(&joe), password: Some(&secret), backend: "main" };
    let ticket = world.gate.login(&attempt).await.expect("nothing has happened yet");
    for n in 0..21 {
        world.login(HOME, "admin", &format!("guess{n}")).await;
    }
    assert_eq!(world.connects(HOME), Err(Refusal::Banned));
    assert_eq!(world.gate.outcome(ticket, &attempt, Verdict::Accepted).await, Ruling::Accepted);
    assert_eq!(world.connects(HOME), Ok(()));
    assert_eq!(world.login(HOME, "joe", "secret").await, Said::In);
    assert_eq!(world.login(HOME, "admin", "guess").await, BANNED);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_refuses_everybody_is_ill_and_nobody_is_punished() {
    let world = World::new();
    let office: Vec<_> = (0..40).map(|n| (format!("user{n}"), format!("secret{n}"))).collect();
    for (user, password) in &office {
        world.customer(user, password, HOME).await;
    }
    world.ill.set(true);
    for (n, (user, password)) in office.iter().enumerate() {
        let expected = if n < 4 { STALE } else { Said::Unavailable };
        assert_eq!(world.login(HOME, user, password).await, expected, "{user}");
    }
    assert_eq!(world.login("198.51.100.1", "new", "customer").await, Said::Unavailable, "known or not");
    world.ill.set(false);
    for (user, password) in &office {
        assert_eq!(world.login(HOME, user, password).await, Said::In, "{user}");
    }
    assert_eq!(world.login(HOME, "user0", "wrong").await, BAD, "and a verdict is a verdict again");
    assert!(world.gate.bans().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_few_changed_passwords_are_no_outage() {
    let world = World::new();
    for n in 0..6 {
        world.customer(&format!("user{n}"), "secret", HOME).await;
    }
    for n in 0..4 {
        world.account(&format!("user{n}"), "changed");
        assert_eq!(world.login(HOME, &format!("user{n}"), "secret").await, STALE);
    }
    assert_eq!(world.login(HOME, "user5", "secret").await, Said::In, "somebody gets in");
    world.account("user4", "changed");
    assert_eq!(world.login(HOME, "user4", "secret").await, STALE);
    for _ in 0..50 {
        assert_eq!(world.login(HOME, "user4", "secret").await, STALE, "one user is one witness");
    }
    let world = World::with(|policy| policy.auth.outage_guard = false);
    for n in 0..9 {
        world.customer(&format!("user{n}"), "secret", HOME).await;
    }
    world.ill.set(true);
    for n in 0..9 {
        assert_eq!(world.login(HOME, &format!("user{n}"), "secret").await, STALE, "told not to look");
    }
}

#[tokio::test(start_paused = true)]
async fn not_now_is_never_counted() {
    let world = World::new();
    let (joe, secret) = (user("joe"), Secret::from(&b"secret"[..]));
    let attempt = Attempt { client: ip(HOME), user: Some(&joe), password: Some(&secret), backend: "main" };
    for _ in 0..1000 {
        let ticket = world.gate.login(&attempt).await.expect("nothing speaks against it");
        assert_eq!(world.gate.outcome(ticket, &attempt, Verdict::NoVerdict).await, Ruling::NoVerdict);
        advance(Duration::from_secs(1)).await;
    }
    assert!(world.gate.bans().is_empty() && world.events().is_empty());
    for n in 0..20 {
        assert_eq!(world.login(HOME, "joe", &format!("typo{n}")).await, BAD, "all the mistakes there are");
    }
    assert_eq!(world.connects(HOME), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn an_exempt_webmail_is_never_banned_but_its_users_have_their_limits() {
    const WEBMAIL: &str = "10.1.1.1";
    let world = World::with(|policy| policy.limits.exempt.push("10.1.0.0/16".parse().expect("a network")));
    for n in 0..2000 {
        assert_eq!(world.connects(WEBMAIL), Ok(()));
        assert_eq!(world.login(WEBMAIL, &format!("user{n}"), "wrong").await, BAD);
    }
    assert_eq!(world.login(WEBMAIL, "user1999", "wrong").await, REPEATED);
    for n in 0..60 {
        world.login(WEBMAIL, "joe", &format!("guess{n}")).await;
    }
    assert_eq!(world.login(WEBMAIL, "joe", "guess99").await, LATER);
    assert_eq!(world.connects(WEBMAIL), Ok(()));
    assert!(world.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn clients_hidden_behind_dockers_nat_are_not_banned_but_somebody_is_told() {
    const GATEWAY: &str = "172.17.0.1";
    let world = World::behind(vec![ip(GATEWAY)], |policy| policy.limits.auth_failures_per_user = None);
    for n in 0..3 {
        world.customer(&format!("user{n}"), "secret", GATEWAY).await;
    }
    for n in 0..60 {
        assert_eq!(world.login(GATEWAY, "admin", &format!("guess{n}")).await, BAD);
    }
    assert_eq!(world.connects(GATEWAY), Ok(()));
    let events = world.events();
    assert_eq!(events.len(), 1, "told once");
    assert_eq!(events[0].event.as_str(), "clients_hidden_by_nat");
    let cures = events[0].detail.clone().expect("a detail");
    for cure in ["proxy_protocol", "network_mode: host", "userland-proxy"] {
        assert!(cures.contains(cure), "{cures}");
    }
    advance(HOUR).await;
    for n in 0..60 {
        world.login(GATEWAY, "admin", &format!("other{n}")).await;
    }
    assert_eq!(world.event_names(), ["clients_hidden_by_nat"], "and again an hour later");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_nobody_is_known_at_is_banned_shortly_so_that_customers_can_show() {
    const GATEWAY: &str = "172.17.0.1";
    let world = World::behind(vec![ip(GATEWAY)], |_| {});
    for n in 0..21 {
        world.login(GATEWAY, "admin", &format!("guess{n}")).await;
    }
    assert_eq!(world.connects(GATEWAY), Err(Refusal::Banned));
    advance(MINUTE).await;
    assert_eq!(world.connects(GATEWAY), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_mechanism_that_names_the_user_late_is_asked_about_twice() {
    let world = World::new();
    world.customer("joe", "secret", HOME).await;
    for n in 0..21 {
        world.login(HOME, "admin", &format!("guess{n}")).await;
    }
    let (joe, admin) = (user("joe"), user("admin"));
    let nobody = Attempt { client: ip(HOME), user: None, password: None, backend: "main" };
    drop(world.gate.login(&nobody).await.expect("somebody is known here"));
    let refused = world.gate.login(&Attempt { user: Some(&admin), ..nobody }).await;
    assert_eq!(refused.err(), Some(Refusal::Banned));
    let ticket = world.gate.login(&Attempt { user: Some(&joe), ..nobody }).await.expect("he is known here");
    assert_eq!(
        world.gate.outcome(ticket, &Attempt { user: Some(&joe), ..nobody }, Verdict::Accepted).await,
        Ruling::Accepted
    );
    for n in 0..21 {
        world.login(ATTACKER, "admin", &format!("guess{n}")).await;
    }
    let stranger = Attempt { client: ip(ATTACKER), ..nobody };
    assert_eq!(world.gate.login(&stranger).await.err(), Some(Refusal::Banned));
}

#[tokio::test(start_paused = true)]
async fn a_user_has_as_many_sessions_as_allowed_in_whatever_spelling() {
    let world = World::with(|policy| policy.limits.sessions_per_user = Some(2));
    let (one, two) = (world.gate.user_session(&user("joe")), world.gate.user_session(&user("JOE")));
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(world.gate.user_session(&user("Joe")).err(), Some(Refusal::TooManySessions));
    assert!(world.gate.user_session(&user("jim")).is_ok());
    drop(one);
    assert!(world.gate.user_session(&user("joe")).is_ok());
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_password_is_in_an_event_or_a_debug_print() {
    let world = World::new();
    let (joe, secret) = (user("joe"), Secret::from(&b"hunter2"[..]));
    let attempt = Attempt { client: ip(HOME), user: Some(&joe), password: Some(&secret), backend: "main" };
    assert!(!format!("{attempt:?}").contains("hunter2"));
    for n in 0..30 {
        world.login(HOME, "joe", &format!("hunter2{n}")).await;
    }
    assert!(!format!("{:?} {:?}", world.events(), world.gate.bans()).contains("hunter2"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// The promise of the whole module: whatever strangers and neighbours do, the right password from home gets in.
    #[test]
    fn nobody_can_lock_out_a_customer(deeds in proptest::collection::vec((0u8..6, 0u8..4, 0u16..400, 0u64..40), 1..400)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let world = World::new();
            world.customer("joe", "old", HOME).await;
            world.customer("joe", "secret", HOME).await;
            for (from, whom, what, pause) in deeds {
                let from = [HOME, HOME, ATTACKER, "2001:db8::1", "2001:db8:0:1::1", "198.51.100.1"][usize::from(from)];
                let user = ["joe", "joe", "admin", "info"][usize::from(whom)];
                match what {
                    0..20 => world.gate.denied(ip(from)).await,
                    20..40 => { world.login(from, "joe", "old").await; }
                    40..60 => { world.unseen(from, user, false).await; }
                    60..80 => { let _ = world.connects(from); }
                    _ => { world.login(from, user, &format!("guess{what}")).await; }
                }
                advance(Duration::from_secs(pause / 10)).await;
                assert_eq!(world.login(HOME, "joe", "secret").await, Said::In);
                assert_eq!(world.login("192.0.2.200", "joe", "secret").await, Said::In);
            }
            assert_eq!(world.connects(HOME), Ok(()));
        });
    }
}
