//! What an engine's troubles become, and what a store asks of an engine.

use super::{set, soon};
use crate::{ApplyError, Change, GetError, Set, Store};
use bytes::Bytes;
use outrigger_kernel::{BoxFuture, Deadline, Wall, World};
use outrigger_keyspace::{
    CommitError, Committed, KeyRange, KeySpace, Level, ReadError, Snapshot, Space, Status,
    Transaction, Watch, Write, memory::Memory,
};
use outrigger_sim::SimWorld;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// How the engine fares.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    Refuses(CommitError),
    Hangs,
    Blind(ReadError),
}

/// The memory engine in a mood, counting what is asked of it.
struct Moody {
    inner: Arc<Memory>,
    mood: Mood,
    snapshots: AtomicUsize,
    commits: AtomicUsize,
}

impl KeySpace for Moody {
    fn snapshot(&self, level: Level) -> BoxFuture<'_, Result<Arc<dyn Snapshot>, ReadError>> {
        self.snapshots.fetch_add(1, Ordering::SeqCst);
        match &self.mood {
            Mood::Blind(error) => Box::pin(std::future::ready(Err(error.clone()))),
            _ => self.inner.snapshot(level),
        }
    }
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Committed, CommitError>> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        match &self.mood {
            Mood::Refuses(error) => Box::pin(std::future::ready(Err(error.clone()))),
            Mood::Hangs => Box::pin(std::future::pending()),
            _ => self.inner.commit(transaction),
        }
    }
    fn watch(&self, range: KeyRange) -> Watch {
        self.inner.watch(range)
    }
    fn now(&self) -> Wall {
        self.inner.now()
    }
    fn status(&self) -> Status {
        self.inner.status()
    }
    fn checkpoint<'a>(&'a self, target: &'a Path) -> BoxFuture<'a, Result<u64, ReadError>> {
        self.inner.checkpoint(target)
    }
}

fn moody(mood: Mood) -> (Arc<Moody>, Store) {
    let world: Arc<dyn World> = SimWorld::new(1);
    let engine = Arc::new(Moody {
        inner: Memory::new(Arc::clone(&world)),
        mood,
        snapshots: AtomicUsize::new(0),
        commits: AtomicUsize::new(0),
    });
    (Arc::clone(&engine), Store::new(Space::new(engine, world), "test"))
}

#[tokio::test(start_paused = true)]
async fn a_get_is_one_snapshot_and_a_plain_set_is_one_commit() {
    let (engine, store) = moody(Mood::Well);
    let asked =
        || (engine.snapshots.swap(0, Ordering::SeqCst), engine.commits.swap(0, Ordering::SeqCst));
    set(&store, Set::new("k", "v")).await.unwrap();
    assert_eq!(asked(), (0, 1));
    let item = store.get("k").await.unwrap().unwrap();
    assert_eq!(asked(), (1, 0));
    let keys: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    store.get_many(&keys).await.unwrap();
    assert_eq!(asked(), (1, 0));
    set(&store, Set::new("k", "w").if_match(item.etag)).await.unwrap();
    assert_eq!(asked(), (1, 1));
    store
        .apply(vec![Change::Set(Set::new("k", "x").first_write())], soon(&store))
        .await
        .unwrap_err();
    assert_eq!(asked(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_prefix_goes_in_one_commit_whatever_it_holds() {
    let (engine, store) = moody(Mood::Well);
    // More than a commit could name one by one.
    let key = |n: usize| format!("app||{n:04}{}", "k".repeat(3_900));
    for first in (0..3_000).step_by(500) {
        let changes = (first..first + 500).map(|n| Change::Set(Set::new(key(n), "")));
        store.apply(changes.collect(), soon(&store)).await.unwrap();
    }
    set(&store, Set::new("app|", "stays")).await.unwrap();
    engine.commits.store(0, Ordering::SeqCst);
    store.delete_with_prefix("app||", soon(&store)).await.unwrap();
    assert_eq!(engine.commits.load(Ordering::SeqCst), 1);
    let left = store.list("", None, 10).await.unwrap().entries;
    assert_eq!(left.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn refusals_keep_their_meaning() {
    let cases = [
        (CommitError::Full("disk".to_owned()), ApplyError::Full("disk".to_owned())),
        (CommitError::Unavailable("x".to_owned()), ApplyError::Unavailable("x".to_owned())),
        (CommitError::Unknown("x".to_owned()), ApplyError::Unknown("x".to_owned())),
        (CommitError::TransactionTooLarge { bytes: 9 }, ApplyError::TooLarge { bytes: 9 }),
        (CommitError::NotACounter, ApplyError::Added(CommitError::NotACounter)),
    ];
    for (refusal, expected) in cases {
        let (_engine, store) = moody(Mood::Refuses(refusal));
        assert_eq!(set(&store, Set::new("k", "v")).await, Err(expected.clone()));
        assert_eq!(set(&store, Set::new("k", "v").first_write()).await, Err(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn endless_conflicts_end_at_the_deadline() {
    let (engine, store) = moody(Mood::Refuses(CommitError::Conflict));
    let refused = set(&store, Set::new("k", "v").first_write()).await;
    assert_eq!(refused, Err(ApplyError::Contended));
    assert!(engine.commits.load(Ordering::SeqCst) > 10);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_commit_is_an_unknown_outcome_at_the_deadline() {
    let (_engine, store) = moody(Mood::Hangs);
    assert_eq!(set(&store, Set::new("k", "v")).await, Err(ApplyError::Elapsed));
    assert_eq!(set(&store, Set::new("k", "v").first_write()).await, Err(ApplyError::Elapsed));
    let waited = store.space().world().mono();
    assert!(waited.0 >= Duration::from_secs(10).as_nanos() as u64);
}

#[tokio::test(start_paused = true)]
async fn a_passed_deadline_asks_the_engine_for_nothing() {
    let (engine, store) = moody(Mood::Well);
    let passed = Deadline(store.space().world().mono());
    let changes = vec![Change::Set(Set::new("k", "v"))];
    assert_eq!(store.apply(changes, passed).await, Err(ApplyError::TooLate));
    assert_eq!(store.delete_with_prefix("k", passed).await, Err(ApplyError::TooLate));
    assert_eq!(engine.commits.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn read_errors_keep_their_meaning() {
    let cases = [
        (
            ReadError::Damaged("x".to_owned()),
            GetError::Damaged("x".to_owned()),
            ApplyError::Damaged("x".to_owned()),
        ),
        (
            ReadError::Unavailable("x".to_owned()),
            GetError::Unavailable("x".to_owned()),
            ApplyError::Unavailable("x".to_owned()),
        ),
    ];
    for (trouble, read, applied) in cases {
        let (_engine, store) = moody(Mood::Blind(trouble));
        assert_eq!(store.get("k").await, Err(read.clone()));
        assert_eq!(store.get_many(&["k".to_owned()]).await, Err(read.clone()));
        assert_eq!(store.list("", None, 1).await, Err(read));
        assert_eq!(set(&store, Set::new("k", "v").first_write()).await, Err(applied));
    }
}

#[tokio::test(start_paused = true)]
async fn damaged_records_are_reported_not_guessed() {
    let (_engine, store) = moody(Mood::Well);
    let key = store.region().key("k");
    let put = Write::Put { key, value: Bytes::from_static(b"\xff\xff"), expires_at: None };
    store.apply_with(Vec::new(), vec![put], soon(&store)).await.unwrap();
    assert!(matches!(store.get("k").await, Err(GetError::Damaged(_))));
    assert!(matches!(store.list("", None, 1).await, Err(GetError::Damaged(_))));
    // What cannot be read can still be replaced.
    set(&store, Set::new("k", "v")).await.unwrap();
    assert!(store.get("k").await.unwrap().is_some());
}
