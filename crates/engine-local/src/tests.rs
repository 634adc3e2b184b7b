//! The engine on a real disk: the exam, what a restart finds, what is refused at the door.

mod by_hand;
mod crowd;
mod doors;
mod exam;
mod format;
mod full;
mod memory;
mod restarts;
mod time;

use crate::{Local, OpenError, Options};
use bytes::Bytes;
use outrigger_kernel::{Wall, World};
use outrigger_keyspace::{
    CommitError, Committed, KeySpace, Level, Transaction, Value, Write, exam::Clock,
};
use outrigger_sim::SimWorld;
use std::{path::Path, sync::Arc};

/// A clock that moves by hand: the committer's thread cannot see a paused one.
pub(crate) fn clock() -> Arc<Clock> {
    Clock::over(SimWorld::new(7))
}

pub(crate) fn open(dir: &Path, clock: &Arc<Clock>) -> Arc<Local> {
    Local::open(dir, clock.clone(), Options::default()).unwrap()
}

fn refused(dir: &Path) -> OpenError {
    Local::open(dir, clock(), Options::default()).unwrap_err()
}

pub(crate) fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn put(at: &str, value: &str) -> Write {
    Write::Put { key: key(at), value: key(value), expires_at: None }
}

pub(crate) fn put_until(at: &str, expires_at: Wall) -> Write {
    Write::Put { key: key(at), value: key("v"), expires_at: Some(expires_at) }
}

pub(crate) async fn write(engine: &Local, writes: Vec<Write>) -> Result<Committed, CommitError> {
    engine.commit(Transaction { writes, ..Transaction::default() }).await
}

pub(crate) async fn get(engine: &Local, at: &str) -> Option<Value> {
    let snapshot = engine.snapshot(Level::Linearizable).await.unwrap();
    snapshot.get(at.as_bytes()).await.unwrap()
}

pub(crate) async fn text(engine: &Local, at: &str) -> Option<String> {
    get(engine, at).await.map(|value| String::from_utf8(value.bytes.to_vec()).unwrap())
}

pub(crate) fn now(clock: &Clock) -> Wall {
    clock.wall()
}
