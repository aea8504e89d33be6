use super::*;
use proptest::prelude::*;
use tokio::time::advance;

fn store(capacity: usize) -> Store {
    Store::Memory(Arc::new(Memory::new(capacity)))
}

fn rate(text: &str) -> Rate {
    text.parse().expect("a rate")
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_rate_is_a_burst_that_refills_evenly() {
    let store = store(1000);
    let (key, rate) = (store.key(Space::Rates, &[b"a"]), rate("6/min"));
    for _ in 0..6 {
        assert!(store.has_room(&key, rate).await && store.take(&key, rate, 1).await);
    }
    assert!(!store.has_room(&key, rate).await && !store.take(&key, rate, 1).await);
    advance(Duration::from_secs(10)).await;
    assert!(store.take(&key, rate, 1).await, "a sixth of a minute brings one back");
    assert!(!store.take(&key, rate, 1).await);
    advance(MINUTE).await;
    assert!(store.take(&key, rate, 6).await && !store.take(&key, rate, 1).await);
    assert!(store.take(&store.key(Space::Rates, &[b"b"]), rate, 6).await, "another key has its own");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_takes_nothing_and_a_new_rate_goes_on_from_the_old_count() {
    let store = store(1000);
    let key = store.key(Space::Rates, &[b"a"]);
    assert!(store.take(&key, rate("6/min"), 6).await);
    for _ in 0..1000 {
        store.take(&key, rate("6/min"), 1).await;
    }
    advance(Duration::from_secs(10)).await;
    assert!(store.take(&key, rate("6/min"), 1).await, "asking a thousand times put nothing off");
    assert!(!store.take(&key, rate("2/min"), 1).await, "a stricter rate does not begin anew");
}

#[tokio::test(start_paused = true)]
async fn a_set_forgets_its_members_one_by_one() {
    let store = store(1000);
    let key = store.key(Space::Failures, &[b"net"]);
    let (one, two) = (store.tag(&[b"one"]), store.tag(&[b"two"]));
    assert_eq!(store.mark(&key, one, MINUTE, 9).await, Marked { fresh: true, count: 1 });
    advance(MINUTE / 2).await;
    assert_eq!(store.mark(&key, two, MINUTE, 9).await, Marked { fresh: true, count: 2 });
    assert_eq!(store.mark(&key, two, MINUTE, 9).await, Marked { fresh: false, count: 2 });
    advance(MINUTE / 2).await;
    assert_eq!(store.count(&key, MINUTE).await, 1, "the first one is a minute old");
    assert_eq!(store.find(&key, one, MINUTE).await, None);
    assert_eq!(store.find(&key, two, MINUTE).await, Some(Found { latest: true }));
    assert_eq!(store.mark(&key, one, MINUTE, 9).await, Marked { fresh: true, count: 2 });
    assert_eq!(store.find(&key, two, MINUTE).await, Some(Found { latest: false }));
    store.clear(&key).await;
    assert_eq!(store.count(&key, MINUTE).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_set_keeps_the_newest_where_it_has_no_room_for_all() {
    let store = store(1000);
    let key = store.key(Space::Places, &[b"joe"]);
    for n in 0..100u32 {
        let count = store.mark(&key, store.tag(&[&n.to_be_bytes()]), MINUTE, 8).await.count;
        assert!(count <= 8, "{count}");
    }
    assert!(store.find(&key, store.tag(&[&91u32.to_be_bytes()]), MINUTE).await.is_none());
    assert!(store.find(&key, store.tag(&[&92u32.to_be_bytes()]), MINUTE).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn parts_that_run_together_are_still_different() {
    let store = store(1000);
    assert_ne!(store.key(Space::Failures, &[b"ab", b"c"]), store.key(Space::Failures, &[b"a", b"bc"]));
    assert_ne!(store.key(Space::Failures, &[b"a"]), store.key(Space::Places, &[b"a"]));
    assert_ne!(
        store.key(Space::Failures, &[b"a"]).id,
        super::tests::store(10).key(Space::Failures, &[b"a"]).id,
        "a key of its own"
    );
}

#[tokio::test(start_paused = true)]
async fn a_million_keys_at_most_and_the_oldest_go_first() {
    let store = Store::memory();
    let limit = rate("6/min");
    let key = |n: u32| store.key(Space::Rates, &[&n.to_be_bytes()]);
    assert!(store.take(&key(0), limit, 6).await);
    for n in 1..400_000 {
        store.take(&key(n), limit, 6).await;
    }
    assert!(store.has_room(&key(0), limit).await, "the first was let go");
    assert!(!store.has_room(&key(399_999), limit).await, "the last is there");
    assert!(store.local().len() <= memory::CAPACITY / 4, "{}", store.local().len());
    advance(2 * MINUTE).await;
    store.sweep();
    assert_eq!(store.local().len(), 0, "what has run out takes no room");
}

#[tokio::test(start_paused = true)]
async fn a_key_in_use_outlives_a_flood_of_new_ones() {
    let store = store(6400);
    let limit = rate("6/min");
    let used = store.key(Space::Rates, &[b"in use"]);
    assert!(store.take(&used, limit, 6).await);
    for n in 0..100_000u32 {
        store.take(&store.key(Space::Rates, &[&n.to_be_bytes()]), limit, 1).await;
        if n % 20 == 0 {
            assert!(!store.has_room(&used, limit).await, "forgotten after {n}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn strangers_cannot_push_out_what_a_good_login_left() {
    let store = store(1000);
    let (key, tag) = (store.key(Space::Places, &[b"joe"]), store.tag(&[b"home"]));
    store.mark(&key, tag, MINUTE, 8).await;
    for n in 0..20_000u32 {
        store.mark(&store.key(Space::Failures, &[&n.to_be_bytes()]), tag, MINUTE, 8).await;
        store.take(&store.key(Space::Rates, &[&n.to_be_bytes()]), rate("1/min"), 1).await;
    }
    assert!(store.find(&key, tag, MINUTE).await.is_some());
    assert!(store.local().len() <= 1000);
}

proptest! {
    #[test]
    fn no_more_than_the_burst_passes_in_any_order_of_asking(asks in proptest::collection::vec((0u64..30, 1u32..4), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let store = store(10);
            let (key, rate) = (store.key(Space::Rates, &[b"a"]), rate("10/min"));
            let (mut elapsed, mut passed) = (0, 0);
            for (pause, n) in asks {
                advance(Duration::from_secs(pause)).await;
                elapsed += pause;
                if store.take(&key, rate, n).await {
                    passed += n;
                }
                assert!(u64::from(passed) <= 10 + elapsed / 6 + 1, "{passed} in {elapsed} s");
            }
        });
    }
}
