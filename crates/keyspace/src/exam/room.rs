//! Where an exercise takes place: a fresh engine, a clock under the exercise's control, and short words for long calls.

use super::EXERCISES;
use crate::{
    CommitError, Committed, Direction, Entry, KeyRange, KeySpace, Level, Snapshot, Space,
    Transaction, Value, Write,
};
use bytes::Bytes;
use outrigger_kernel::{BoxFuture, Mono, TaskHandle, Wall, World};
use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

/// How an examiner opens a fresh engine in a world.
type Open = dyn Fn(Arc<dyn World>) -> BoxFuture<'static, Arc<dyn KeySpace>> + Send + Sync;

/// Puts engines to the test. See the module's head.
pub struct Examiner {
    world: Arc<dyn World>,
    open: Box<Open>,
}

impl Examiner {
    /// An examiner of the engines that `open` makes. `world` lends randomness, sleep and tasks; time comes from a
    /// [`Clock`] over it, which is what `open` is given.
    pub fn new<F, Fut>(world: Arc<dyn World>, open: F) -> Self
    where
        F: Fn(Arc<dyn World>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Arc<dyn KeySpace>> + Send + 'static,
    {
        Self { world, open: Box::new(move |world| Box::pin(open(world))) }
    }

    /// Runs every exercise, each on an engine of its own.
    ///
    /// # Panics
    /// With the name of the exercise and what went wrong, when the engine fails one.
    pub async fn sit(&self) {
        for name in Self::exercises() {
            self.exercise(name).await;
        }
    }

    /// The names of all exercises, in their order.
    pub fn exercises() -> impl Iterator<Item = &'static str> {
        EXERCISES.iter().map(|(name, _)| *name)
    }

    /// Runs the exercise `name` on an engine of its own; nothing, if there is none of that name.
    ///
    /// # Panics
    /// With what went wrong, when the engine fails it.
    pub async fn exercise(&self, name: &str) {
        for (name, exercise) in EXERCISES.iter().filter(|(known, _)| *known == name) {
            let room = self.room(name).await;
            exercise(&room).await;
        }
    }

    pub(super) async fn room(&self, exercise: &'static str) -> Room {
        let clock = Clock::over(self.world.clone());
        let engine = (self.open)(clock.clone()).await;
        let space = Space::new(engine.clone(), clock.clone());
        Room { exercise, clock, engine, space }
    }

    pub(super) fn random(&self) -> u64 {
        self.world.random()
    }
}

impl fmt::Debug for Examiner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Examiner")
    }
}

/// A world whose clocks stand still until they are moved by hand.
pub struct Clock {
    inner: Arc<dyn World>,
    elapsed_ns: AtomicU64,
    wall_ms: AtomicI64,
}

/// Where the wall clock begins: 2026-01-01T00:00:00Z.
const WALL_START_MS: i64 = 1_767_225_600_000;

impl Clock {
    /// A stopped clock; everything else is `inner`'s.
    #[must_use]
    pub fn over(inner: Arc<dyn World>) -> Arc<Self> {
        let wall_ms = AtomicI64::new(WALL_START_MS);
        Arc::new(Self { inner, elapsed_ns: AtomicU64::new(0), wall_ms })
    }

    /// Lets both clocks go on by `ms`.
    pub fn advance_ms(&self, ms: u64) {
        let nanos = Mono::default().plus(Duration::from_millis(ms)).0;
        self.elapsed_ns.fetch_add(nanos, Ordering::SeqCst);
        self.jump_wall_ms(i64::try_from(ms).unwrap_or(i64::MAX));
    }

    /// Makes the wall clock alone jump.
    pub fn jump_wall_ms(&self, by_ms: i64) {
        self.wall_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl World for Clock {
    fn wall(&self) -> Wall {
        Wall(u64::try_from(self.wall_ms.load(Ordering::SeqCst)).unwrap_or(0))
    }
    fn mono(&self) -> Mono {
        Mono(self.elapsed_ns.load(Ordering::SeqCst))
    }
    fn random(&self) -> u64 {
        self.inner.random()
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.inner.sleep(duration)
    }
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        self.inner.spawn(name, task)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({:?}, {:?})", self.wall(), self.mono())
    }
}

/// One exercise's engine and clock.
pub(super) struct Room {
    pub(super) exercise: &'static str,
    pub(super) clock: Arc<Clock>,
    pub(super) engine: Arc<dyn KeySpace>,
    pub(super) space: Space,
}

impl Room {
    /// Fails the exercise unless `holds`.
    #[track_caller]
    pub(super) fn check(&self, holds: bool, promise: &str) {
        assert!(holds, "{}: broken: {promise}", self.exercise);
    }

    /// Fails the exercise unless `found` is what was `expected`.
    #[track_caller]
    pub(super) fn same<T: PartialEq + fmt::Debug>(&self, found: T, expected: T, promise: &str) {
        assert!(
            found == expected,
            "{}: broken: {promise}\n  expected {expected:?}\n  found    {found:?}",
            self.exercise
        );
    }

    /// The value of something that must not fail.
    #[track_caller]
    pub(super) fn sure<T, E: fmt::Debug>(&self, result: Result<T, E>) -> T {
        match result {
            Ok(value) => value,
            Err(error) => panic!("{}: failed: {error:?}", self.exercise),
        }
    }

    pub(super) fn in_ms(&self, ms: u64) -> Option<Wall> {
        Some(self.clock.wall().plus(Duration::from_millis(ms)))
    }

    pub(super) async fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.sure(self.engine.snapshot(Level::Linearizable).await)
    }

    /// A snapshot that has been read from: one that is far away is pinned by its first read.
    pub(super) async fn pinned(&self) -> Arc<dyn Snapshot> {
        let snapshot = self.snapshot().await;
        let _first: Option<Value> = self.sure(snapshot.get(b"\0").await);
        snapshot
    }

    pub(super) async fn try_write(&self, writes: Vec<Write>) -> Result<Committed, CommitError> {
        self.engine.commit(Transaction { writes, ..Transaction::default() }).await
    }

    pub(super) async fn write(&self, writes: Vec<Write>) -> Committed {
        self.sure(self.try_write(writes).await)
    }

    pub(super) async fn get(&self, key: &str) -> Option<Value> {
        self.sure(self.snapshot().await.get(key.as_bytes()).await)
    }

    pub(super) async fn text(&self, key: &str) -> Option<String> {
        self.get(key).await.map(|value| String::from_utf8_lossy(&value.bytes).into_owned())
    }

    pub(super) async fn scan(&self, range: &KeyRange, direction: Direction) -> Vec<Entry> {
        let snapshot = self.snapshot().await;
        self.sure(snapshot.scan(range, usize::MAX, direction).await).entries
    }

    pub(super) async fn keys(&self, range: &KeyRange) -> Vec<Bytes> {
        let entries = self.scan(range, Direction::Forward).await;
        entries.into_iter().map(|entry| entry.key).collect()
    }
}

pub(super) fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn keys(texts: &[&str]) -> Vec<Bytes> {
    texts.iter().map(|text| key(text)).collect()
}

pub(super) fn put(at: &str, value: &str) -> Write {
    Write::Put { key: key(at), value: key(value), expires_at: None }
}

pub(super) fn put_until(at: &str, value: &str, expires_at: Option<Wall>) -> Write {
    Write::Put { key: key(at), value: key(value), expires_at }
}

pub(super) fn delete(at: &str) -> Write {
    Write::Delete { key: key(at) }
}

pub(super) fn add(at: &str, delta: i64) -> Write {
    Write::Add { key: key(at), delta }
}

pub(super) fn counter(sum: i64) -> Bytes {
    Bytes::copy_from_slice(&sum.to_le_bytes())
}

pub(super) fn stamped(prefix: &str, suffix: &str, value: &str) -> Write {
    Write::PutStamped {
        prefix: key(prefix),
        suffix: key(suffix),
        value: key(value),
        expires_at: None,
    }
}
