//! Lifetimes, on a clock that the test owns.

use super::{etag, fresh, mismatch, set, text};
use crate::{Set, Ttl};
use outrigger_kernel::{Wall, World};
use outrigger_keyspace::Level;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_value_is_there_until_its_time_and_not_after() {
    let (world, store) = fresh();
    let written = world.wall();
    set(&store, Set::new("k", "v").expiring(Ttl::After(2 * SECOND))).await.unwrap();
    let item = store.get("k").await.unwrap().unwrap();
    assert_eq!(item.expires_at, Some(written.plus(2 * SECOND)));
    world.sleep(2 * SECOND - Duration::from_millis(1)).await;
    assert_eq!(text(&store, "k").await.as_deref(), Some("v"));
    world.sleep(Duration::from_millis(1)).await;
    // A local snapshot does not move the engine's time: the store must look at the clock itself.
    assert_eq!(store.get_at("k", Level::Local).await.unwrap(), None);
    assert_eq!(text(&store, "k").await, None);
    assert_eq!(store.get_many(&["k".to_owned()]).await.unwrap(), [None]);
    assert_eq!(store.list("", None, 10).await.unwrap().entries, []);
}

#[tokio::test(start_paused = true)]
async fn conditions_take_an_expired_key_for_absent() {
    let (world, store) = fresh();
    set(&store, Set::new("k", "v").expiring(Ttl::After(SECOND))).await.unwrap();
    let old = etag(&store, "k").await;
    world.sleep(SECOND).await;
    assert_eq!(set(&store, Set::new("k", "w").if_match(&old)).await, mismatch("k"));
    set(&store, Set::new("k", "w").first_write()).await.unwrap();
    assert_eq!(text(&store, "k").await.as_deref(), Some("w"));
}

#[tokio::test(start_paused = true)]
async fn a_set_without_a_lifetime_ends_the_earlier_one() {
    let (world, store) = fresh();
    set(&store, Set::new("k", "v").expiring(Ttl::After(SECOND))).await.unwrap();
    set(&store, Set::new("k", "w")).await.unwrap();
    world.sleep(10 * SECOND).await;
    assert_eq!(text(&store, "k").await.as_deref(), Some("w"));
}

#[tokio::test(start_paused = true)]
async fn zero_and_the_unnameable_mean_for_ever() {
    let (world, store) = fresh();
    for ttl in [
        Ttl::Never,
        Ttl::After(Duration::ZERO),
        Ttl::from_seconds(0),
        Ttl::from_seconds(-1),
        Ttl::from_seconds(i64::MAX),
        Ttl::After(Duration::MAX),
    ] {
        set(&store, Set::new("k", "v").expiring(ttl)).await.unwrap();
        assert_eq!(store.get("k").await.unwrap().unwrap().expires_at, None, "{ttl:?}");
    }
    set(&store, Set::new("k", "v").expiring(Ttl::After(Duration::from_nanos(1)))).await.unwrap();
    let short = store.get("k").await.unwrap().unwrap().expires_at;
    assert_eq!(short, Some(Wall(world.wall().0 + 1)));
}

#[tokio::test(start_paused = true)]
async fn a_jumping_clock_takes_what_it_jumped_over() {
    let (world, store) = fresh();
    set(&store, Set::new("k", "v").expiring(Ttl::After(60 * SECOND))).await.unwrap();
    set(&store, Set::new("other", "v")).await.unwrap();
    world.jump_wall(61_000);
    assert_eq!(text(&store, "k").await, None);
    assert_eq!(text(&store, "other").await.as_deref(), Some("v"));
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_is_what_was_asked_for_after_the_clock_went_back() {
    let (world, store) = fresh();
    world.jump_wall(3_600_000);
    set(&store, Set::new("x", "1")).await.unwrap();
    world.jump_wall(-3_600_000);
    set(&store, Set::new("session", "v").expiring(Ttl::After(600 * SECOND))).await.unwrap();
    assert_eq!(text(&store, "session").await.as_deref(), Some("v"));
    set(&store, Set::new("session", "w").first_write()).await.unwrap_err();
}
