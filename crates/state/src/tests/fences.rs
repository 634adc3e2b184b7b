//! Changes that rest on a lock.

use crate::{ApplyError, Change, Set, Store};
use outrigger_coordination::{Ask, Fence, Locks};
use outrigger_kernel::{Deadline, World};
use outrigger_keyspace::{Space, memory::Memory};
use outrigger_sim::SimWorld;
use std::{sync::Arc, time::Duration};

#[tokio::test(start_paused = true)]
async fn a_change_under_a_lock_happens_only_while_it_is_held() {
    let world: Arc<SimWorld> = SimWorld::new(3);
    let space = || Space::new(Memory::new(Arc::clone(&world) as _), Arc::clone(&world) as _);
    let shared = space();
    let (store, locks) = (Store::new(shared.clone(), "s"), Locks::new(shared, "l"));
    let deadline = || Deadline::after(&*world, Duration::from_secs(1));
    let set = |value: &'static str| vec![Change::Set(Set::new("k", value))];

    let ask = Ask::exclusive("r", "a", Duration::from_secs(5));
    let held = locks.try_take(&ask, deadline()).await.unwrap().unwrap();
    let fence = Fence::new(locks.clone(), "r", held.token);
    store.apply_fenced(set("one"), vec![fence.clone()], deadline()).await.unwrap();

    world.sleep(Duration::from_secs(5)).await;
    let late = store.apply_fenced(set("two"), vec![fence.clone()], deadline()).await;
    assert_eq!(late, Err(ApplyError::Fenced { resource: "r".to_owned(), token: held.token }));
    let next = locks.try_take(&ask, deadline()).await.unwrap().unwrap();
    let late = store.apply_fenced(set("two"), vec![fence], deadline()).await;
    assert!(matches!(late, Err(ApplyError::Fenced { .. })));
    assert_eq!(store.get("k").await.unwrap().unwrap().data, "one");

    let next = Fence::new(locks, "r", next.token);
    store.apply_fenced(set("three"), vec![next.clone()], deadline()).await.unwrap();
    let other = Store::new(space(), "s");
    let elsewhere = other.apply_fenced(set("four"), vec![next], deadline()).await;
    assert_eq!(elsewhere, Err(ApplyError::FenceElsewhere { resource: "r".to_owned() }));
}
