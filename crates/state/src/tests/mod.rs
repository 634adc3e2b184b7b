//! Tests of the store as a whole, over the memory engine and a simulated world.

mod bounds;
mod conditions;
mod engine;
mod expiry;
mod fences;
mod model;
mod races;
mod reading;

use crate::{ApplyError, Change, Delete, Set, Store};
use outrigger_kernel::{Deadline, World};
use outrigger_keyspace::{Committed, Space, memory::Memory};
use outrigger_sim::SimWorld;
use std::{sync::Arc, time::Duration};

/// A store over an empty memory engine, and the world it lives in.
fn fresh() -> (Arc<SimWorld>, Store) {
    let world = SimWorld::new(1);
    let dyn_world: Arc<dyn World> = world.clone();
    let space = Space::new(Memory::new(Arc::clone(&dyn_world)), dyn_world);
    (world, Store::new(space, "test"))
}

fn soon(store: &Store) -> Deadline {
    Deadline::after(&**store.space().world(), Duration::from_secs(5))
}

async fn apply(store: &Store, changes: Vec<Change>) -> Result<Committed, ApplyError> {
    store.apply(changes, soon(store)).await
}

async fn set(store: &Store, set: Set) -> Result<Committed, ApplyError> {
    apply(store, vec![Change::Set(set)]).await
}

async fn delete(store: &Store, delete: Delete) -> Result<Committed, ApplyError> {
    apply(store, vec![Change::Delete(delete)]).await
}

/// The value at `key` as text.
async fn text(store: &Store, key: &str) -> Option<String> {
    let item = store.get(key).await.unwrap()?;
    Some(String::from_utf8(item.data.to_vec()).unwrap())
}

async fn etag(store: &Store, key: &str) -> String {
    store.get(key).await.unwrap().unwrap().etag
}

fn mismatch(key: &str) -> Result<Committed, ApplyError> {
    Err(ApplyError::EtagMismatch { key: key.to_owned() })
}
