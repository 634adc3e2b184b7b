//! Time that goes back, and time that goes on while the disk is away.

use super::{clock, get, key, now, open, put, put_until, text, write};
use crate::{Local, Options};
use outrigger_kernel::{BoxFuture, Mono, TaskHandle, Wall, World};
use outrigger_keyspace::{KeySpace, Level, Space, Transaction, exam::Clock};
use outrigger_sim::SimWorld;
use std::{
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

#[tokio::test]
async fn a_lifetime_counts_from_the_time_of_the_store() {
    let (folder, world) = (tempfile::tempdir().unwrap(), SimWorld::new(1));
    // The machine booted with a clock that was an hour ahead, and something was written.
    world.jump_wall(3_600_000);
    let engine = Local::open(folder.path(), world.clone(), Options::default()).unwrap();
    let ahead = write(&engine, vec![put("x", "1")]).await.unwrap().time;
    engine.close().await;
    // The clock is put right, and the machine starts again.
    world.jump_wall(-3_600_000);
    let engine = Local::open(folder.path(), world.clone(), Options::default()).unwrap();
    let space = Space::new(engine.clone(), world.clone());
    assert!(world.wall() < ahead && space.now() >= ahead);
    let until = space.now().plus(Duration::from_secs(600));
    space.write(vec![put_until("session", until)]).await.unwrap();
    assert_eq!(text(&engine, "session").await.as_deref(), Some("v"));
    engine.close().await;
}

/// Lets the store's time catch up with the clock.
async fn caught_up(engine: &Local, clock: &Clock) {
    while engine.now() < clock.wall() {
        // Whoever reads lets time move; what is not in memory is looked up by another thread.
        get(engine, "nothing").await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_keys_expire_than_memory_knows_of() {
    const KEYS: u64 = 3 * crate::upcoming::EXPIRIES_MAX as u64;
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let mut engine = open(folder.path(), &clock);
    let first = now(&clock).0 + 10_000;
    // In no order of time; every tenth is put to stay later on, and every eleventh lives longer.
    for piece in 0..KEYS / 100 {
        let numbers = (piece * 100..piece * 100 + 100).map(|n| (n, n * 7_919 % KEYS));
        let puts = numbers.map(|(n, at)| put_until(&format!("k/{n:05}"), Wall(first + at)));
        write(&engine, puts.collect()).await.unwrap();
    }
    let lives_until = |n: u64| match (n % 10, n % 11) {
        (0, _) => None,
        (_, 0) => Some(first + 2 * KEYS),
        _ => Some(first + n * 7_919 % KEYS),
    };
    let again = (0..KEYS).filter_map(|n| match (n % 10, n % 11) {
        (0, _) => Some(put(&format!("k/{n:05}"), "stays")),
        (_, 0) => Some(put_until(&format!("k/{n:05}"), Wall(first + 2 * KEYS))),
        _ => None,
    });
    write(&engine, again.collect()).await.unwrap();
    clock.advance_ms(first - now(&clock).0);
    for step in 1..=5 {
        clock.advance_ms(KEYS / 5);
        caught_up(&engine, &clock).await;
        let time = now(&clock).0;
        let alive = |n: &u64| lives_until(*n).is_none_or(|until| until > time);
        let snapshot = engine.snapshot(Level::Linearizable).await.unwrap();
        let mut found = 0;
        for n in 0..KEYS {
            let is_there = snapshot.get(format!("k/{n:05}").as_bytes()).await.unwrap().is_some();
            assert_eq!(is_there, alive(&n), "{n} at {time}");
            found += u64::from(is_there);
        }
        assert_eq!(found, (0..KEYS).filter(alive).count() as u64);
        if step % 2 == 0 {
            engine.close().await;
            drop(snapshot);
            engine = open(folder.path(), &clock);
        }
    }
    engine.close().await;
}

/// A clock that keeps the committer waiting while the gate is shut: a disk that does not answer.
struct Gated {
    clock: Arc<Clock>,
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Gated {
    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }
}

impl World for Gated {
    fn wall(&self) -> Wall {
        if thread::current().name() == Some("committer") {
            drop(self.opened.wait_while(self.shut.lock().unwrap(), |shut| *shut).unwrap());
        }
        self.clock.wall()
    }
    fn mono(&self) -> Mono {
        self.clock.mono()
    }
    fn random(&self) -> u64 {
        self.clock.random()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.clock.sleep(duration)
    }
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        self.clock.spawn(name, task)
    }
}

#[tokio::test]
async fn a_reader_does_not_wait_for_a_disk_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let (shut, opened) = (Mutex::new(false), Condvar::new());
    let world = Arc::new(Gated { clock: clock(), shut, opened });
    let engine = Local::open(folder.path(), world.clone(), Options::default()).unwrap();
    let due = world.clock.wall().plus(Duration::from_millis(10));
    let first = write(&engine, vec![put("stays", "1"), put_until("due", due)]).await.unwrap();
    let read = engine.snapshot(Level::Linearizable).await.unwrap();

    world.set(true);
    let transaction = Transaction { writes: vec![put("late", "1")], ..Transaction::default() };
    let writing = engine.commit(transaction);
    tokio::pin!(writing);
    assert!(futures_util::poll!(&mut writing).is_pending());
    world.clock.advance_ms(10);
    for _ in 0..20 {
        assert_eq!(text(&engine, "due").await, None);
        assert_eq!(text(&engine, "stays").await.as_deref(), Some("1"));
    }
    // Who saw it gone sees it gone, whatever the clock and the level.
    world.clock.jump_wall_ms(-10);
    for level in [Level::Linearizable, Level::AtLeast(first.revision), Level::Local] {
        let snapshot = engine.snapshot(level).await.unwrap();
        assert_eq!(snapshot.get(b"due").await, Ok(None), "{level:?}");
    }
    assert!(engine.now() >= due);

    world.set(false);
    assert!(writing.await.unwrap().time >= due, "the writer follows the readers");
    let stale = Transaction {
        read_revision: read.revision(),
        read_keys: vec![key("due")],
        writes: vec![put("x", "1")],
        ..Transaction::default()
    };
    engine.commit(stale).await.unwrap_err();
    assert_eq!(text(&engine, "due").await, None);
    drop(read);
    engine.close().await;
}
