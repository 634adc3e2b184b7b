//! Time that goes back, and time that goes on while the disk is away.

use super::{clock, key, now, open, put, put_until, text, write};
use crate::{Hands, Local, Options};
use futures_util::FutureExt;
use outrigger_kernel::{BoxFuture, Mono, TaskHandle, Wall, World};
use outrigger_keyspace::{
    Direction, KeyRange, KeySpace, Level, ReadError, Snapshot, Space, Transaction, exam::Clock,
};
use outrigger_sim::{
    SimWorld,
    disk::{Kind, SimDisk, Trouble},
};
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
        let time = now(&clock).0;
        let alive = |n: &u64| lives_until(*n).is_none_or(|until| until > time);
        // It waits until what is not in memory was looked up.
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

/// A store by hand that has come to what it does not know of, and a reader that waits for that.
struct Held {
    clock: Arc<Clock>,
    disk: SimDisk,
    engine: Arc<Local>,
    hands: Hands,
    reading: BoxFuture<'static, Result<Arc<dyn Snapshot>, ReadError>>,
}

impl Held {
    const KEYS: u64 = 2 * crate::upcoming::EXPIRIES_MAX as u64;

    /// The keys are in the index if they are `stored`, otherwise in a layer.
    fn new(stored: bool) -> Self {
        let (clock, disk) = (clock(), SimDisk::new(1));
        let options = Options { log_first_bytes: 64 * 1024, ..Options::default() };
        let opened = Local::open_by_hand(Arc::new(disk.clone()), clock.clone(), options);
        let (engine, mut hands) = opened.unwrap();
        let first = now(&clock).0 + 10_000;
        for piece in 0..Self::KEYS / 1_000 {
            let numbers = piece * 1_000..piece * 1_000 + 1_000;
            let writes = numbers.map(|n| put_until(&format!("{n:05}"), Wall(first + n))).collect();
            let mut writing = engine.commit(Transaction { writes, ..Transaction::default() });
            assert!((&mut writing).now_or_never().is_none());
            while hands.turn() {}
            writing.now_or_never().unwrap().unwrap();
        }
        if stored {
            hands.seal();
            while hands.turn() || hands.checkpoint() || hands.tidy() {}
        }
        clock.advance_ms(10_000 + Self::KEYS);
        let reader = engine.clone();
        // Polled by hand it would look pending to itself after a while.
        let reading = async move { reader.snapshot(Level::Linearizable).await };
        let reading = Box::pin(tokio::task::unconstrained(reading));
        let mut held = Self { clock, disk, engine, hands, reading };
        assert!(!held.has_read());
        while held.hands.turn() {}
        held
    }

    fn has_read(&mut self) -> bool {
        match (&mut self.reading).now_or_never() {
            Some(read) => read.map(drop).is_ok(),
            None => false,
        }
    }

    /// Lets the reader have its way; nothing is left that should be gone.
    fn ends(mut self) {
        let mut rounds = 0;
        while !self.has_read() {
            while self.hands.turn() || self.hands.tidy() {}
            rounds += 1;
            assert!(rounds < 100, "the reader waits in vain");
        }
        while self.hands.turn() || self.hands.tidy() {}
        let view = self.engine.current().unwrap();
        let left = view.stack.entries(&KeyRange::all(), Direction::Forward).count();
        assert_eq!(left, 0, "what is due is removed");
        self.hands.close();
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_look_up_asks_for_nothing_meanwhile() {
    let mut held = Held::new(false);
    for _ in 0..5 {
        assert!(!held.has_read());
        assert!(!held.hands.turn(), "there is nothing to do but to look up");
    }
    let now = now(&held.clock);
    assert_eq!(held.engine.now(), now, "a lifetime counts from now all the same");
    held.ends();
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_look_up_is_told_when_the_store_is_closed() {
    let mut held = Held::new(false);
    assert!(!held.has_read());
    held.hands.close();
    assert!(matches!((&mut held.reading).now_or_never(), Some(Err(ReadError::Unavailable(_)))));
}

#[tokio::test(start_paused = true)]
async fn a_layer_is_written_while_expiries_are_looked_up() {
    let mut held = Held::new(false);
    held.hands.seal();
    while held.hands.turn() {}
    let before = held.engine.figures().checkpoints;
    // It looks up first, as a checkpointer does that has begun to when the layer comes.
    assert!(held.hands.tidy());
    assert_eq!(held.engine.figures().checkpoints, before + 1);
    held.ends();
}

#[tokio::test(start_paused = true)]
async fn expiries_that_cannot_be_read_are_asked_for_again() {
    let mut held = Held::new(true);
    assert!(!held.has_read());
    held.disk.plan_from(Kind::Read, 0, Trouble::Fails);
    let before = held.disk.seen(Kind::Read);
    assert!(held.hands.tidy());
    assert!(held.disk.seen(Kind::Read) > before, "it was tried");
    while held.hands.turn() {}
    assert!(!held.has_read(), "it is not known what should be gone");
    held.disk.calm();
    held.ends();
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
