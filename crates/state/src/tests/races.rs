//! Many writers at once: no update is lost, no half of a request is ever seen.

use super::{fresh, soon, text};
use crate::{ApplyError, Change, Item, Set, Store};
use outrigger_kernel::{Deadline, World};
use std::time::Duration;
use tokio::task::JoinSet;

/// Time enough for the slowest machine; a race that hangs fails instead of waiting for ever.
fn patient(store: &Store) -> Deadline {
    Deadline::after(&**store.space().world(), Duration::from_secs(60))
}

fn number(item: Option<&Item>) -> u64 {
    item.map_or(0, |item| std::str::from_utf8(&item.data).unwrap().parse().unwrap())
}

/// A change of `key` from what was read to `value`, on condition that it still is what was read.
fn guarded(key: &str, read: Option<&Item>, value: u64) -> Change {
    let set = Set::new(key, value.to_string());
    Change::Set(match read {
        Some(item) => set.if_match(&item.etag),
        None => set.first_write(),
    })
}

async fn increment(store: &Store) {
    loop {
        let read = store.get("counter").await.unwrap();
        let change = guarded("counter", read.as_ref(), number(read.as_ref()) + 1);
        match store.apply(vec![change], patient(store)).await {
            Ok(_) => return,
            Err(ApplyError::EtagMismatch { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_tasks_increment_one_key_and_none_is_lost() {
    let (_world, store) = fresh();
    let mut tasks = JoinSet::new();
    for _ in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..4 {
                increment(&store).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(text(&store, "counter").await.as_deref(), Some("256"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn first_write_has_one_winner() {
    let (_world, store) = fresh();
    let mut tasks = JoinSet::new();
    for me in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            let mine = Change::Set(Set::new("leader", me.to_string()).first_write());
            store.apply(vec![mine], patient(&store)).await.is_ok().then_some(me)
        });
    }
    let mut winners = Vec::new();
    while let Some(done) = tasks.join_next().await {
        winners.extend(done.unwrap());
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(text(&store, "leader").await, Some(winners[0].to_string()));
}

/// Moves 1 from one account to another, or finds that somebody else was faster.
async fn transfer(store: &Store, from: &str, to: &str) {
    let keys = [from.to_owned(), to.to_owned()];
    let read = store.get_many(&keys).await.unwrap();
    let (source, target) = (read[0].as_ref(), read[1].as_ref());
    if number(source) == 0 {
        return;
    }
    let changes =
        vec![guarded(from, source, number(source) - 1), guarded(to, target, number(target) + 1)];
    match store.apply(changes, patient(store)).await {
        Ok(_) | Err(ApplyError::EtagMismatch { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn money_moves_but_is_never_made_or_lost() {
    const ACCOUNTS: [&str; 4] = ["a", "b", "c", "d"];
    let (world, store) = fresh();
    let filled = ACCOUNTS.map(|account| Change::Set(Set::new(account, "100"))).to_vec();
    store.apply(filled, soon(&store)).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let (store, world) = (store.clone(), world.clone());
        tasks.spawn(async move {
            for _ in 0..50 {
                let pick = world.random() as usize;
                let (from, to) = (pick % 4, (pick / 4 % 3 + pick + 1) % 4);
                if from != to {
                    transfer(&store, ACCOUNTS[from], ACCOUNTS[to]).await;
                }
                let all = store.get_many(&ACCOUNTS.map(str::to_owned)).await.unwrap();
                assert_eq!(all.iter().map(|item| number(item.as_ref())).sum::<u64>(), 400);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
