//! What an attacker gets.

use super::*;
use std::task::Poll;

#[tokio::test(start_paused = true)]
async fn a_dictionary_from_one_address_ends_in_a_ban() {
    let world = World::new();
    world.account("joe", "secret");
    for n in 0..21 {
        assert_eq!(world.login(ATTACKER, "joe", &format!("guess{n}")).await, BAD, "guess {n}");
    }
    assert_eq!(world.login(ATTACKER, "joe", "secret").await, BANNED, "not even with the right one");
    assert_eq!(world.connects(ATTACKER), Err(Refusal::Banned));
    assert_eq!(world.connects("203.0.113.67"), Ok(()), "the neighbour has done nothing");
    assert_eq!(world.judged.get(), 21);
    assert_eq!(world.bans_metric(), "1");

    let events = world.events();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].event, events[0].client_ip), (Kind::BanAdded, Some(ip(ATTACKER))));
    let detail = events[0].detail.clone().expect("a detail");
    assert!(
        detail.contains("203.0.113.66/32") && detail.contains("more than 20") && !detail.contains("joe"),
        "{detail}"
    );

    advance(HOUR).await;
    assert_eq!(world.connects(ATTACKER), Ok(()), "an hour is over, swept or not");
    world.gate.sweep();
    assert_eq!(world.event_names(), ["ban.expired"]);
    assert_eq!(world.bans_metric(), "0");
}

#[tokio::test(start_paused = true)]
async fn twenty_in_ten_minutes_is_a_window_that_slides() {
    let world = World::new();
    for n in 0..60 {
        assert_eq!(
            world.login(ATTACKER, "joe", &format!("guess{n}")).await,
            if n < 50 { BAD } else { LATER },
            "guess {n}"
        );
        advance(Duration::from_secs(31)).await;
    }
    assert_eq!(world.connects(ATTACKER), Ok(()), "never more than twenty in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn the_same_password_for_many_users_is_as_many_guesses() {
    let world = World::new();
    for n in 0..21 {
        assert_eq!(world.login(ATTACKER, &format!("user{n}"), "123456").await, BAD);
    }
    assert_eq!(world.connects(ATTACKER), Err(Refusal::Banned));
}

#[tokio::test(start_paused = true)]
async fn an_own_account_does_not_wash_guesses_away() {
    let world = World::new();
    world.customer("eve", "own", ATTACKER).await;
    for n in 0..21 {
        assert_eq!(world.login(ATTACKER, "joe", &format!("guess{n}")).await, BAD);
        assert_eq!(world.login(ATTACKER, "eve", "own").await, Said::In);
    }
    assert_eq!(world.login(ATTACKER, "joe", "guess99").await, BANNED);
    assert_eq!(world.login(ATTACKER, "eve", "own").await, Said::In, "a customer all the same");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_connections_at_once_are_no_way_around_the_count() {
    let world = World::new();
    let client = ip(ATTACKER);
    let (user, password) = (user("joe"), Secret::from(&b"guess"[..]));
    let attempt = Attempt { client, user: Some(&user), password: Some(&password), backend: "main" };
    let mut tickets = Vec::new();
    for _ in 0..20 {
        tickets.push(world.gate.login(&attempt).await.expect("a lane"));
    }
    let mut waiting: Vec<_> = (0..1000).map(|_| tokio_test::task::spawn(world.gate.login(&attempt))).collect();
    assert!(waiting.iter_mut().all(|login| login.poll().is_pending()), "twenty are under way");
    // Each verdict lets one more through, until the ban.
    let mut judged = 0;
    for _ in 0..1000 {
        if let Some(ticket) = tickets.pop() {
            let guess = Secret::new(format!("guess{judged}").into_bytes());
            let failed = Attempt { password: Some(&guess), ..attempt };
            world.gate.outcome(ticket, &failed, Verdict::Rejected).await;
            judged += 1;
        }
        waiting.retain_mut(|login| match login.poll() {
            Poll::Pending => true,
            Poll::Ready(answer) => {
                match answer {
                    Ok(ticket) => tickets.push(ticket),
                    Err(refusal) => assert_eq!(refusal, Refusal::Banned),
                }
                false
            }
        });
        // The runtime lets a task do only so much in one turn.
        tokio::task::yield_now().await;
    }
    assert!(waiting.is_empty(), "{} wait for ever", waiting.len());
    assert!((21..=40).contains(&judged), "{judged} reached the server");
}

#[tokio::test(start_paused = true)]
async fn rotating_through_a_network_is_one_client() {
    let world = World::new();
    for n in 0..21 {
        assert_eq!(world.login(&format!("2001:db8:1:1::{n:x}"), "joe", &format!("guess{n}")).await, BAD);
    }
    assert_eq!(world.connects("2001:db8:1:1:ffff::1"), Err(Refusal::Banned));
    assert_eq!(world.connects("2001:db8:1:2::1"), Ok(()));
    assert_eq!(world.gate.bans()[0].net.to_string(), "2001:db8:1:1::/64");
}

#[tokio::test(start_paused = true)]
async fn rotating_through_the_networks_of_a_48_is_eight_clients_at_most() {
    let world = World::with(|policy| policy.limits.auth_failures_per_user = None);
    for n in 0..161 {
        assert_eq!(world.login(&format!("2001:db8:1:{n:x}::1"), "joe", &format!("guess{n}")).await, BAD, "{n}");
    }
    assert_eq!(world.connects("2001:db8:1:ffff::1"), Err(Refusal::Banned));
    assert_eq!(world.connects("2001:db8:2::1"), Ok(()));
    assert_eq!(world.gate.bans()[0].net.to_string(), "2001:db8:1::/48");
}

#[tokio::test(start_paused = true)]
async fn an_ipv4_address_is_the_same_in_ipv6_clothes() {
    let world = World::new();
    for n in 0..21 {
        world.login("::ffff:203.0.113.66", "joe", &format!("guess{n}")).await;
    }
    assert_eq!(world.connects(ATTACKER), Err(Refusal::Banned));
}

#[tokio::test(start_paused = true)]
async fn where_no_password_is_seen_a_user_and_minute_is_one_failure() {
    let world = World::new();
    for _ in 0..100 {
        assert_eq!(world.unseen(ATTACKER, "joe", false).await, BAD);
        advance(Duration::from_millis(500)).await;
    }
    assert_eq!(world.connects(ATTACKER), Ok(()));
    advance(Duration::from_secs(10)).await;
    for n in 0..20 {
        assert_eq!(world.unseen(ATTACKER, &format!("user{n}"), false).await, BAD);
    }
    assert_eq!(world.connects(ATTACKER), Err(Refusal::Banned));
}

#[tokio::test(start_paused = true)]
async fn many_addresses_get_fifty_guesses_an_hour_at_one_user() {
    let world = World::new();
    world.account("joe", "secret");
    for n in 0..200 {
        world.login(&format!("203.0.113.{n}"), "joe", &format!("guess{n}")).await;
    }
    assert_eq!(world.judged.get(), 50);
    assert_eq!(world.login("198.51.100.1", "joe", "guess").await, LATER);
    assert_eq!(world.login("198.51.100.1", "jim", "guess").await, BAD, "another user is another matter");
    advance(HOUR).await;
    assert_eq!(world.login("198.51.100.1", "joe", "guess").await, BAD);
}

#[tokio::test(start_paused = true)]
async fn logins_that_do_not_succeed_are_bounded_whatever_they_are() {
    let world = World::new();
    for _ in 0..300 {
        world.gate.denied(ip(ATTACKER)).await;
    }
    assert_eq!(world.login(ATTACKER, "joe", "guess").await, LATER);
    assert_eq!(world.connects(ATTACKER), Ok(()), "which is no verdict on a password, so no ban");
    advance(Duration::from_secs(1)).await;
    assert_eq!(world.login(ATTACKER, "joe", "guess").await, BAD);
}

#[tokio::test(start_paused = true)]
async fn connections_and_sessions_of_an_address_are_bounded() {
    let world = World::with(|policy| policy.limits.sessions_per_ip = Some(2));
    let listener = Arc::clone(&world.policy.listeners[0]);
    let open = |from| world.gate.connection(&listener, ip(from));
    let (one, two) = (open(ATTACKER), open(ATTACKER));
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(open(ATTACKER).err(), Some(Refusal::TooManySessions));
    assert!(open(HOME).is_ok());
    drop(one);
    assert!(open(ATTACKER).is_ok());
    for _ in 0..596 {
        assert_eq!(world.connects(ATTACKER), Ok(()));
    }
    assert_eq!(world.connects(ATTACKER), Err(Refusal::RateLimited));
    assert_eq!(world.connects("198.18.0.1"), Err(Refusal::Denied));
}

#[tokio::test(start_paused = true)]
async fn a_ban_holds_over_a_reload_and_an_operator_can_lift_it() {
    let world = World::new();
    for n in 0..21 {
        world.login(ATTACKER, "joe", &format!("guess{n}")).await;
    }
    let mut policy = world.policy.clone();
    policy.limits.auth_failures_per_ip = "5/10min".parse().ok();
    world.gate.reload(&policy);
    assert_eq!(world.connects(ATTACKER), Err(Refusal::Banned));
    assert!(world.gate.banned(ip(ATTACKER)).is_some_and(|ban| ban.closed));

    assert!(world.gate.unban(ip(ATTACKER)).await);
    assert!(!world.gate.unban(ip(ATTACKER)).await);
    assert_eq!(world.connects(ATTACKER), Ok(()));
    assert_eq!(world.login(ATTACKER, "joe", "guess0").await, BAD, "with a clean slate");
    for n in 1..6 {
        world.login(ATTACKER, "joe", &format!("guess{n}")).await;
    }
    assert_eq!(world.connects(ATTACKER), Err(Refusal::Banned), "the new limit holds");
    world.gate.ban(ip(HOME)).await;
    assert_eq!(world.connects(HOME), Err(Refusal::Banned));
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_cannot_use_the_sparing_of_a_customer_to_guess_on() {
    let world = World::new();
    world.customer("joe", "secret", HOME).await;
    let before = world.judged.get();
    for n in 0..500 {
        world.login(HOME, "joe", &format!("guess{n}")).await;
    }
    assert_eq!(world.judged.get() - before, 31, "twenty-one before the ban, ten more for mistakes");
    assert_eq!(world.login(HOME, "joe", "secret").await, Said::In);
    assert_eq!(world.login(HOME, "joe", "guess").await, LATER);
    advance(MINUTE).await;
    assert_eq!(world.login(HOME, "joe", "guess").await, BAD);
}

#[tokio::test(start_paused = true)]
async fn strangers_hold_so_many_connections_of_a_backend_and_no_customer_is_kept_out_by_them() {
    let world = World::new();
    world.customer("joe", "secret", HOME).await;
    let standby =
        async |from: &str, backend| world.gate.standby(from.parse().expect("an address"), backend, None).await;
    let mut held = Vec::new();
    for host in 0..16 {
        for _ in 0..4 {
            held.extend(standby(&format!("203.0.113.{host}"), "main").await);
        }
    }
    assert_eq!(held.len(), 64);
    assert!(standby("203.0.113.0", "other").await.is_none(), "the address has its four");
    assert!(standby("198.51.100.1", "main").await.is_none(), "the backend has its strangers");
    assert!(standby("198.51.100.1", "other").await.is_some());
    let mut office = Vec::new();
    for _ in 0..70 {
        office.extend(standby(HOME, "main").await);
    }
    assert_eq!(office.len(), 64);
    assert!(standby("127.0.0.1", "main").await.is_some(), "exempt");
    held.pop();
    assert!(standby("198.51.100.1", "main").await.is_some());
    // Of a small server they hold half: a customer finds a place.
    let of_small = async |from: &str| world.gate.standby(from.parse().expect("an address"), "small", Some(8)).await;
    let mut held = Vec::new();
    for host in 0..4 {
        held.extend(of_small(&format!("192.0.2.{host}")).await);
        held.extend(of_small(&format!("192.0.2.{host}")).await);
    }
    assert_eq!(held.len(), 4);
}
