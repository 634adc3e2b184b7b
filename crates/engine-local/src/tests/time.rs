//! Time that goes back, and time that goes on while the disk is away.

use super::{clock, key, put, put_until, text, write};
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
