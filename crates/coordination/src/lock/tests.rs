//! Locks on the memory engine, in time that a test owns.

use super::{Ask, Fence, Held, LockError, Locks, Mode, Released};
use outrigger_kernel::{Deadline, Wall, World};
use outrigger_keyspace::{Space, memory::Memory};
use outrigger_sim::SimWorld;
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

struct Fixture {
    world: Arc<SimWorld>,
    locks: Locks,
}

fn fixture() -> Fixture {
    let world = SimWorld::new(1);
    let space = Space::new(Memory::new(Arc::clone(&world) as _), Arc::clone(&world) as _);
    Fixture { world, locks: Locks::new(space, "locks") }
}

impl Fixture {
    fn within(&self, time: Duration) -> Deadline {
        Deadline::after(&*self.world, time)
    }

    async fn try_take(&self, ask: &Ask) -> Option<Held> {
        self.locks.try_take(ask, self.within(SECOND)).await.unwrap()
    }

    async fn take(&self, ask: &Ask) -> Result<Held, LockError> {
        self.locks.take(ask, self.within(MINUTE)).await
    }

    async fn release(&self, resource: &str, owner: &str) -> Released {
        self.locks.release(resource, owner, None, self.within(SECOND)).await.unwrap()
    }

    /// Puts `ask` in line in the background, and waits until it stands there.
    async fn stand_in_line(&self, ask: Ask) -> tokio::task::JoinHandle<Result<Held, LockError>> {
        let before = self.waiting(&ask.resource).await.len();
        let (locks, deadline) = (self.locks.clone(), self.within(MINUTE));
        let (resource, taking) =
            (ask.resource.clone(), async move { locks.take(&ask, deadline).await });
        #[expect(clippy::disallowed_methods, reason = "a test's own task")]
        let task = tokio::spawn(taking);
        while self.waiting(&resource).await.len() == before && !task.is_finished() {
            tokio::task::yield_now().await;
        }
        task
    }

    async fn waiting(&self, resource: &str) -> Vec<String> {
        self.locks.status(resource, 100).await.unwrap().waiting
    }

    async fn holders(&self, resource: &str) -> Vec<String> {
        let status = self.locks.status(resource, 100).await.unwrap();
        status.holders.into_iter().map(|holder| holder.owner).collect()
    }
}

fn ask(resource: &str, owner: &str) -> Ask {
    Ask::exclusive(resource, owner, 10 * SECOND)
}

fn shared(resource: &str, owner: &str) -> Ask {
    Ask { mode: Mode::Shared, ..ask(resource, owner) }
}

#[tokio::test(start_paused = true)]
async fn one_at_a_time_and_every_token_is_greater() {
    let f = fixture();
    let first = f.try_take(&ask("r", "a")).await.unwrap();
    assert!(f.try_take(&ask("r", "b")).await.is_none());
    assert!(f.try_take(&ask("other", "b")).await.is_some());
    assert_eq!(f.release("r", "b").await, Released::HeldByOthers);
    assert_eq!(f.release("r", "a").await, Released::Free);
    assert_eq!(f.release("r", "a").await, Released::NotHeld);
    let second = f.try_take(&ask("r", "b")).await.unwrap();
    assert!(second.token > first.token);
    assert_eq!((first.depth, second.depth), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_ends_and_is_renewed() {
    let f = fixture();
    let first = f.try_take(&ask("r", "a")).await.unwrap();
    f.world.sleep(9 * SECOND).await;
    let renewed = f.locks.renew("r", "a", Some(first.token), 10 * SECOND, f.within(SECOND)).await;
    let renewed = renewed.unwrap().unwrap();
    assert_eq!(renewed.token, first.token);
    assert_eq!(renewed.expires_at, Wall(first.expires_at.0 + 9_000));
    f.world.sleep(9 * SECOND).await;
    assert!(f.try_take(&ask("r", "b")).await.is_none());
    f.world.sleep(SECOND).await;
    let second = f.try_take(&ask("r", "b")).await.unwrap();
    assert!(second.token > first.token);
    // Too late is too late, whoever asks.
    let late = f.locks.renew("r", "a", None, SECOND, f.within(SECOND)).await.unwrap();
    assert_eq!(late, None);
    assert_eq!(f.release("r", "a").await, Released::HeldByOthers);
    let stale = f.locks.release("r", "b", Some(first.token), f.within(SECOND)).await.unwrap();
    assert_eq!(stale, Released::HeldByOthers);
    assert_eq!(f.holders("r").await, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn the_line_is_served_in_order_by_the_commit_that_releases() {
    let f = fixture();
    f.try_take(&ask("r", "a")).await.unwrap();
    let b = f.stand_in_line(ask("r", "b")).await;
    let c = f.stand_in_line(ask("r", "c")).await;
    assert_eq!(f.waiting("r").await, ["b", "c"]);
    // Nobody passes the line, not even when the lock is free for a moment.
    assert!(f.try_take(&ask("r", "d")).await.is_none());
    let before = f.locks.space.engine().status().revision;
    assert_eq!(f.release("r", "a").await, Released::Free);
    assert_eq!(f.holders("r").await, ["b"]);
    assert_eq!(f.locks.space.engine().status().revision, before + 1);
    let b = b.await.unwrap().unwrap();
    assert_eq!(b.token, before + 1);
    assert_eq!(f.release("r", "b").await, Released::Free);
    assert!(c.await.unwrap().unwrap().token > b.token);
    assert_eq!(f.release("r", "c").await, Released::Free);
    assert!(f.try_take(&ask("r", "d")).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn when_a_lifetime_ends_the_line_moves_by_itself() {
    let f = fixture();
    f.try_take(&ask("r", "a")).await.unwrap();
    let began = f.world.mono();
    let held = f.take(&ask("r", "b")).await.unwrap();
    let waited = f.world.mono().since(began);
    assert!(waited >= 10 * SECOND && waited < 11 * SECOND, "{waited:?}");
    assert_eq!(f.holders("r").await, ["b"]);
    assert!(held.expires_at >= f.locks.space.now().plus(9 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_or_hangs_up_leaves_nothing_behind() {
    let f = fixture();
    f.try_take(&Ask { ttl: MINUTE, ..ask("r", "a") }).await.unwrap();
    let in_vain = f.locks.take(&ask("r", "b"), f.within(SECOND)).await;
    assert_eq!(in_vain, Err(LockError::TimedOut));
    assert!(f.waiting("r").await.is_empty());

    let hung_up = f.stand_in_line(ask("r", "c")).await;
    let next = f.stand_in_line(ask("r", "d")).await;
    hung_up.abort();
    let _aborted = hung_up.await;
    while f.waiting("r").await != ["d"] {
        tokio::task::yield_now().await;
    }
    assert_eq!(f.release("r", "a").await, Released::Free);
    assert_eq!(f.holders("r").await, ["d"]);
    next.await.unwrap().unwrap();
    assert!(f.locks.held_by("c", f.within(SECOND)).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lock_given_to_one_who_has_gone_is_let_go_of() {
    let f = fixture();
    f.try_take(&ask("r", "a")).await.unwrap();
    let gone = f.stand_in_line(Ask { ttl: MINUTE, ..ask("r", "b") }).await;
    // Given by the release, and aborted before it could look.
    assert_eq!(f.release("r", "a").await, Released::Free);
    gone.abort();
    let _aborted = gone.await;
    let began = f.world.mono();
    f.take(&ask("r", "c")).await.unwrap();
    assert!(f.world.mono().since(began) < 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn readers_share_and_do_not_starve_a_writer() {
    let f = fixture();
    let one = f.try_take(&shared("r", "a")).await.unwrap();
    let two = f.try_take(&shared("r", "b")).await.unwrap();
    assert!(two.token > one.token);
    let writer = f.stand_in_line(ask("r", "w")).await;
    let late = [f.stand_in_line(shared("r", "c")).await, f.stand_in_line(shared("r", "d")).await];
    f.release("r", "a").await;
    assert_eq!(f.holders("r").await, ["b"]);
    f.release("r", "b").await;
    assert_eq!(f.holders("r").await, ["w"]);
    writer.await.unwrap().unwrap();
    f.release("r", "w").await;
    assert_eq!(f.holders("r").await.len(), 2);
    for reader in late {
        reader.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn when_a_writer_gives_up_the_readers_behind_it_come_in() {
    let f = fixture();
    f.try_take(&shared("r", "a")).await.unwrap();
    let writer = f.stand_in_line(ask("r", "w")).await;
    let reader = f.stand_in_line(shared("r", "b")).await;
    writer.abort();
    reader.await.unwrap().unwrap();
    let mut holders = f.holders("r").await;
    holders.sort();
    assert_eq!(holders, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn who_observes_sees_every_change_of_hands() {
    let f = fixture();
    let observe =
        async |seen: u64| f.locks.observe("leader", seen, 10, f.within(MINUTE)).await.unwrap();
    let one = f.try_take(&ask("leader", "a")).await.unwrap();
    assert_eq!(observe(0).await.token(), one.token);
    let began = f.world.mono();
    // Nobody is in line and nobody commits: the lifetime's end is seen all the same.
    assert_eq!(observe(one.token).await.holders, []);
    let waited = f.world.mono().since(began);
    assert!(waited >= 10 * SECOND && waited < 11 * SECOND, "{waited:?}");

    let two = f.try_take(&ask("leader", "a")).await.unwrap();
    let next = f.stand_in_line(ask("leader", "b")).await;
    let (changed, _) = tokio::join!(observe(two.token), f.release("leader", "a"));
    assert_eq!(changed.holders[0].owner, "b");
    let three = next.await.unwrap().unwrap();
    // A renewal is no change of hands.
    let (same, _) = tokio::join!(
        f.locks.observe("leader", three.token, 10, f.within(5 * SECOND)),
        f.locks.renew("leader", "b", None, MINUTE, f.within(SECOND)),
    );
    assert_eq!(same.unwrap().token(), three.token);
}

#[tokio::test(start_paused = true)]
async fn a_semaphore_has_so_many_permits() {
    let f = fixture();
    let permit = |owner: &str| Ask { mode: Mode::Permit { of: 2 }, ..ask("pool", owner) };
    f.try_take(&permit("a")).await.unwrap();
    f.try_take(&permit("b")).await.unwrap();
    assert!(f.try_take(&permit("c")).await.is_none());
    assert!(f.try_take(&ask("pool", "c")).await.is_none());
    let c = f.stand_in_line(permit("c")).await;
    f.release("pool", "a").await;
    c.await.unwrap().unwrap();
    assert_eq!(f.holders("pool").await, ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn an_owner_takes_it_again_if_it_says_so() {
    let f = fixture();
    let again = Ask { reentrant: true, ..ask("r", "a") };
    let first = f.try_take(&again).await.unwrap();
    assert!(f.try_take(&ask("r", "a")).await.is_none());
    let second = f.try_take(&again).await.unwrap();
    assert_eq!((second.token, second.depth), (first.token, 2));
    assert_eq!(f.release("r", "a").await, Released::Still { depth: 1 });
    assert!(f.try_take(&ask("r", "b")).await.is_none());
    assert_eq!(f.release("r", "a").await, Released::Free);
    assert!(f.try_take(&ask("r", "b")).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn waiting_in_a_circle_is_refused_and_says_how() {
    let f = fixture();
    for (resource, owner) in [("r1", "a"), ("r2", "b"), ("r3", "c")] {
        f.try_take(&Ask { ttl: MINUTE, ..ask(resource, owner) }).await.unwrap();
    }
    let _b = f.stand_in_line(ask("r3", "b")).await;
    let _a = f.stand_in_line(ask("r2", "a")).await;
    let refused = f.take(&ask("r1", "c")).await;
    let Err(LockError::Deadlock(steps)) = refused else { panic!("{refused:?}") };
    let expected = ["a holds r1 and waits for r2", "b holds r2 and waits for r3", "c holds r3"];
    assert_eq!(steps, expected);
    assert!(f.waiting("r1").await.is_empty());
    // Not waiting is no deadlock, and neither is an owner in its own way.
    assert!(f.try_take(&ask("r1", "c")).await.is_none());
    let own = f.locks.take(&ask("r1", "a"), f.within(SECOND)).await;
    assert_eq!(own, Err(LockError::TimedOut));
}

#[tokio::test(start_paused = true)]
async fn a_semaphore_that_somebody_will_give_back_is_no_circle() {
    let f = fixture();
    let permit =
        |owner: &str| Ask { mode: Mode::Permit { of: 2 }, ttl: MINUTE, ..ask("pool", owner) };
    f.try_take(&permit("b")).await.unwrap();
    f.try_take(&permit("c")).await.unwrap();
    f.try_take(&Ask { ttl: MINUTE, ..ask("x", "a") }).await.unwrap();
    let _b = f.stand_in_line(ask("x", "b")).await;
    let a = f.stand_in_line(permit("a")).await;
    assert_eq!(f.waiting("pool").await, ["a"]);
    f.release("pool", "c").await;
    a.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_line_that_nobody_moves_is_moved_by_who_comes_next() {
    let f = fixture();
    f.try_take(&ask("r", "a")).await.unwrap();
    // In line, but whoever stood there is gone without a word: a process that was killed.
    let dead = Locks::new(f.locks.space.clone(), "locks");
    let deadline = f.within(MINUTE);
    let place = super::line::Place::asking(&dead, &ask("r", "dead"));
    let until = f.locks.space.now().plus(MINUTE);
    assert!(dead.ask(&ask("r", "dead"), &place, Some(until), deadline).await.unwrap().is_none());
    place.left();
    f.world.sleep(11 * SECOND).await;
    // Free, and it was its turn; the next one does not wait for its patience, but for the lifetime it asked for.
    assert!(f.try_take(&ask("r", "b")).await.is_none());
    assert_eq!(f.holders("r").await, ["dead"]);
    f.world.sleep(10 * SECOND).await;
    assert!(f.try_take(&ask("r", "b")).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn asked_and_hung_up_at_any_moment_nothing_is_kept() {
    let f = fixture();
    for polls in 1..12 {
        let ask = Ask { ttl: MINUTE, ..ask("r", "a") };
        let mut taking = Box::pin(f.locks.take(&ask, f.within(MINUTE)));
        let mut left = polls;
        let ended = std::future::poll_fn(|cx| {
            left -= 1;
            match taking.as_mut().poll(cx) {
                std::task::Poll::Ready(held) => std::task::Poll::Ready(Some(held)),
                std::task::Poll::Pending if left == 0 => std::task::Poll::Ready(None),
                std::task::Poll::Pending => {
                    cx.waker().wake_by_ref();
                    std::task::Poll::Pending
                }
            }
        });
        let ended = ended.await;
        drop(taking);
        if ended.is_some() {
            f.release("r", "a").await;
        }
        f.world.sleep(2 * SECOND).await;
        assert!(f.holders("r").await.is_empty(), "kept after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_and_the_end_of_an_owner_let_go() {
    let f = fixture();
    for resource in ["r1", "r2", "r3"] {
        f.try_take(&ask(resource, "a")).await.unwrap();
    }
    let next = f.stand_in_line(ask("r2", "b")).await;
    assert_eq!(f.locks.force("r1", f.within(SECOND)).await.unwrap(), 1);
    assert_eq!(f.locks.force("r1", f.within(SECOND)).await.unwrap(), 0);
    f.try_take(&ask("r4", "c")).await.unwrap();
    let _in_line = f.stand_in_line(ask("r4", "a")).await;
    assert_eq!(f.locks.release_all("a", f.within(SECOND)).await.unwrap(), 2);
    next.await.unwrap().unwrap();
    assert_eq!(f.holders("r2").await, ["b"]);
    assert!(f.waiting("r4").await.is_empty());
    assert!(f.holders("r3").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn work_done_under_a_token_happens_only_while_it_is_held() {
    let f = fixture();
    let held = f.try_take(&ask("r", "a")).await.unwrap();
    let key = bytes::Bytes::from_static(b"\xff work");
    let work = async |token: u64| {
        let body = async |tx: outrigger_keyspace::Tx| {
            let fence = Fence::new(f.locks.clone(), "r", token);
            if !fence.holds(&tx).await? {
                return Ok(false);
            }
            let value = bytes::Bytes::from_static(b"done");
            tx.write(outrigger_keyspace::Write::Put { key: key.clone(), value, expires_at: None });
            Ok(true)
        };
        f.locks.space.transact::<_, LockError, _, _>(f.within(SECOND), body).await.unwrap().0
    };
    assert!(work(held.token).await);
    assert!(!work(held.token + 1).await);
    f.world.sleep(10 * SECOND).await;
    assert!(!work(held.token).await);
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_changes_nothing() {
    let f = fixture();
    let before = f.locks.space.engine().status().revision;
    let long = "x".repeat(1_025);
    let cases = [
        (ask("", "a"), LockError::Resource(0)),
        (ask(&long, "a"), LockError::Resource(1_025)),
        (ask("r", ""), LockError::Owner(0)),
        (ask("r", &long), LockError::Owner(1_025)),
        (Ask { ttl: Duration::ZERO, ..ask("r", "a") }, LockError::Ttl(Duration::ZERO)),
        (Ask { ttl: Duration::MAX, ..ask("r", "a") }, LockError::Ttl(Duration::MAX)),
        (Ask { mode: Mode::Permit { of: 0 }, ..ask("r", "a") }, LockError::Permits(0)),
        (Ask { mode: Mode::Permit { of: 1_001 }, ..ask("r", "a") }, LockError::Permits(1_001)),
    ];
    for (ask, error) in cases {
        assert_eq!(f.locks.try_take(&ask, f.within(SECOND)).await, Err(error.clone()));
        assert_eq!(f.locks.take(&ask, f.within(SECOND)).await, Err(error));
    }
    let zero = f.locks.renew("r", "a", None, Duration::ZERO, f.within(SECOND)).await;
    assert_eq!(zero, Err(LockError::Ttl(Duration::ZERO)));
    assert_eq!(f.locks.space.engine().status().revision, before);
}

/// Many owners at random: whoever holds a lock holds it alone, later tokens are greater, and everybody gets his turn.
#[derive(Clone, Debug)]
struct Life {
    owner: u8,
    resource: u8,
    begins_ms: u64,
    works_ms: u64,
    /// Longer than the lifetime: the lock is lost meanwhile.
    ttl_ms: u64,
    hangs_up_after_ms: Option<u64>,
}

fn lives() -> impl Strategy<Value = Vec<Life>> {
    let life = (
        0_u8..6,
        0_u8..2,
        0_u64..200,
        0_u64..60,
        20_u64..80,
        prop::option::weighted(0.2, 0_u64..150),
    );
    let life =
        life.prop_map(|(owner, resource, begins_ms, works_ms, ttl_ms, hangs_up_after_ms)| Life {
            owner,
            resource,
            begins_ms,
            works_ms,
            ttl_ms,
            hangs_up_after_ms,
        });
    prop::collection::vec(life, 1..25)
}

/// What one turn at a lock was: from when to when, by the token it had.
type Turns = Arc<Mutex<BTreeMap<u8, Vec<(u64, u64, u64)>>>>;

async fn live(world: Arc<SimWorld>, locks: Locks, life: Life, turns: Turns) {
    let ms = Duration::from_millis;
    world.sleep(ms(life.begins_ms)).await;
    let ask = Ask::exclusive(
        &format!("r{}", life.resource),
        &format!("o{} at r{}", life.owner, life.resource),
        ms(life.ttl_ms),
    );
    let patience = life.hangs_up_after_ms.map_or(MINUTE, ms);
    let waiting = locks.take(&ask, Deadline::after(&*world, MINUTE));
    let given =
        outrigger_kernel::within(&*world, Deadline::after(&*world, patience), waiting).await;
    let Ok(given) = given else { return };
    let held = given.unwrap();
    let from = locks.space.now().0;
    world.sleep(ms(life.works_ms)).await;
    let until = locks.space.now().0.min(held.expires_at.0);
    turns.lock().unwrap().entry(life.resource).or_default().push((held.token, from, until));
    let deadline = Deadline::after(&*world, SECOND);
    let _released =
        locks.release(&ask.resource, &ask.owner, Some(held.token), deadline).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn turns_do_not_overlap_and_nobody_is_forgotten(lives in lives()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let f = fixture();
            let turns = Turns::default();
            let mut tasks = Vec::new();
            let patient = lives.iter().filter(|life| life.hangs_up_after_ms.is_none()).count();
            for life in lives {
                let (world, locks, turns) = (Arc::clone(&f.world), f.locks.clone(), Arc::clone(&turns));
                #[expect(clippy::disallowed_methods, reason = "a test's own task")]
                tasks.push(tokio::spawn(live(world, locks, life, turns)));
            }
            for task in tasks {
                task.await.unwrap();
            }
            let mut served = 0;
            for turns in turns.lock().unwrap().values_mut() {
                turns.sort_unstable();
                served += turns.len();
                for pair in turns.windows(2) {
                    let [(token, _, until), (next, from, _)] = [pair[0], pair[1]];
                    assert!(token < next && until <= from, "{turns:?}");
                }
            }
            assert!(served >= patient);
            // When all is done, nothing is left.
            for resource in ["r0", "r1"] {
                f.world.sleep(2 * SECOND).await;
                let status = f.locks.status(resource, 10).await.unwrap();
                assert!(status.holders.is_empty() && status.waiting.is_empty(), "{status:?}");
            }
        });
    }
}
