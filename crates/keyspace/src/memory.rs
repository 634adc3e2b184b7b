//! The reference engine: everything in memory, gone when the process is. For tests, simulations and components that are
//! meant to forget.
//!
//! The map is persistent in the functional sense: a snapshot is a cheap clone that later commits do not change. Since
//! nothing is written anywhere, a commit is sequenced and applied under one lock, and visible when the lock is let go.

use crate::{
    CommitError, Committed, Direction, Entry, KeyRange, KeySpace, Level, Page, ReadError, Snapshot,
    Status, Transaction, Value, Watch, Write,
    limits::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX},
    planted::{self, Bug},
    sequencer::{Latest, Plan, Sequencer},
    watch::Registry,
};
use bytes::Bytes;
use imbl::OrdMap;
use outrigger_kernel::{BoxFuture, Wall, World};
use std::{
    fmt,
    ops::Bound,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// An engine without a disk. See the module's head.
pub struct Memory {
    world: Arc<dyn World>,
    state: Mutex<State>,
    visible: watch::Sender<u64>,
    registry: Registry,
}

struct State {
    sequencer: Sequencer,
    map: OrdMap<Bytes, Value>,
}

impl Memory {
    /// An empty map whose commits are stamped with `world`'s time.
    #[must_use]
    pub fn new(world: Arc<dyn World>) -> Arc<Self> {
        let sequencer = Sequencer::new(0, Wall::default());
        Arc::new(Self {
            world,
            state: Mutex::new(State { sequencer, map: OrdMap::new() }),
            visible: watch::channel(0).0,
            registry: Registry::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves time to the present; answers what became absent.
    fn advance(&self, state: &mut State) -> Vec<Plan> {
        let (now, mono) = (self.world.wall(), self.world.mono());
        let mut plans = Vec::new();
        let State { sequencer, map } = state;
        // Reading this map cannot fail.
        while let Ok(Some(plan)) = sequencer.advance(now, mono, map) {
            apply(map, &plan);
            plans.push(plan);
        }
        plans
    }

    /// Tells whoever waits. Called without the lock, so another commit's news may overtake; revisions only grow, so
    /// the later news covers the earlier.
    fn publish(&self, plans: &[Plan]) {
        for plan in plans {
            let revision = plan.committed.revision;
            self.visible.send_if_modified(|visible| {
                let newer = *visible < revision;
                *visible = revision.max(*visible);
                newer
            });
        }
        let (changed, cleared) =
            (plans.iter().flat_map(Plan::changed), plans.iter().flat_map(Plan::cleared));
        self.registry.notify(changed, cleared);
    }

    fn snapshot_now(&self) -> View {
        let state = self.state();
        View { revision: state.sequencer.revision(), map: state.map.clone() }
    }

    fn snapshot_advanced(&self) -> View {
        let mut state = self.state();
        let plans = self.advance(&mut state);
        let view = View { revision: state.sequencer.revision(), map: state.map.clone() };
        drop(state);
        self.publish(&plans);
        view
    }

    fn commit_now(&self, transaction: Transaction) -> Result<Committed, CommitError> {
        let mut guard = self.state();
        let state = &mut *guard;
        let mut plans = self.advance(state);
        let mono = self.world.mono();
        if planted::is(Bug::KeepHalf) {
            put_first(state, &transaction.writes);
        }
        let answer = state.sequencer.sequence(mono, transaction, &state.map).map(|plan| {
            let committed = plan.committed;
            if !plan.is_empty() {
                apply(&mut state.map, &plan);
                plans.push(plan);
            }
            committed
        });
        drop(guard);
        self.publish(&plans);
        answer
    }
}

fn apply(map: &mut OrdMap<Bytes, Value>, plan: &Plan) {
    for clear in &plan.clears {
        let gone: Vec<Bytes> =
            map.range::<_, [u8]>(bounds(clear)).map(|(k, _)| k.clone()).collect();
        for key in &gone {
            map.remove(key);
        }
    }
    for change in &plan.changes {
        match &change.value {
            Some(value) => {
                // Copies of their own: a key or value may be a slice that keeps a large request alive.
                let bytes = Bytes::copy_from_slice(&value.bytes);
                map.insert(Bytes::copy_from_slice(&change.key), Value { bytes, ..*value });
            }
            None => {
                map.remove(&change.key);
            }
        }
    }
}

/// For planted bugs: what happens too early, or although it must not.
fn put_first(state: &mut State, writes: &[Write]) {
    if let Some(Write::Put { key, value, expires_at: None }) = writes.first() {
        let revision = state.sequencer.revision() + 1;
        state.map.insert(key.clone(), Value { bytes: value.clone(), revision, expires_at: None });
    }
}

impl Memory {
    /// For planted bugs: what happens before the commit is decided, with time for others to see it.
    async fn misbehave(&self, writes: &[Write]) {
        let before = self.state().map.clone();
        if planted::is(Bug::ShowBeforeDeciding) {
            put_first(&mut self.state(), writes);
        } else if let Some(Write::Put { key, .. }) = writes.first() {
            let revision = self.state().sequencer.revision() + 1;
            self.registry.notify([(revision, key)], []);
        }
        tokio::task::yield_now().await;
        if planted::is(Bug::ShowBeforeDeciding)
            && let Some(Write::Put { key, .. }) = writes.first()
        {
            match before.get(key) {
                Some(value) => drop(self.state().map.insert(key.clone(), value.clone())),
                None => drop(self.state().map.remove(key)),
            }
        }
    }
}

impl Latest for OrdMap<Bytes, Value> {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, ReadError> {
        Ok(Self::get(self, key).cloned())
    }
}

fn bounds(range: &KeyRange) -> (Bound<&[u8]>, Bound<&[u8]>) {
    let end = range.end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..]));
    (Bound::Included(&range.start[..]), end)
}

impl KeySpace for Memory {
    fn snapshot(&self, level: Level) -> BoxFuture<'_, Result<Arc<dyn Snapshot>, ReadError>> {
        Box::pin(async move {
            let view = match level {
                Level::Linearizable => self.snapshot_advanced(),
                Level::Local => self.snapshot_now(),
                Level::AtLeast(revision) => {
                    let mut visible = self.visible.subscribe();
                    // The sender lives as long as `self`, so this cannot fail.
                    let waited = visible.wait_for(|visible| *visible >= revision).await;
                    waited.map_err(|_| ReadError::Unavailable("the engine is gone".to_owned()))?;
                    self.snapshot_now()
                }
            };
            Ok(Arc::new(view) as Arc<dyn Snapshot>)
        })
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(async move {
            if planted::is(Bug::ShowBeforeDeciding) || planted::is(Bug::WakeBeforeShowing) {
                self.misbehave(&transaction.writes).await;
            }
            self.commit_now(transaction)
        })
    }

    fn watch(&self, range: KeyRange) -> Watch {
        self.registry.watch(range)
    }

    fn now(&self) -> Wall {
        self.world.wall().max(self.state().sequencer.time())
    }

    fn status(&self) -> Status {
        let revision = self.state().sequencer.revision();
        Status { engine: "memory", revision, durable: false, disk_bytes: 0, failed: None }
    }

    fn checkpoint<'a>(&'a self, _target: &'a Path) -> BoxFuture<'a, Result<u64, ReadError>> {
        let refusal = "the memory engine has no stored form to copy; use a durable engine";
        Box::pin(async move { Err(ReadError::Unavailable(refusal.to_owned())) })
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory(at {})", self.state().sequencer.revision())
    }
}

struct View {
    revision: u64,
    map: OrdMap<Bytes, Value>,
}

impl View {
    fn page(&self, range: &KeyRange, limit: usize, direction: Direction) -> Page {
        if range.is_empty() {
            return Page::default();
        }
        let entries = self.map.range::<_, [u8]>(bounds(range));
        match direction {
            Direction::Forward => page_of(entries, limit),
            Direction::Backward => page_of(entries.rev(), limit),
        }
    }
}

fn page_of<'a>(entries: impl Iterator<Item = (&'a Bytes, &'a Value)>, limit: usize) -> Page {
    let limit = limit.min(PAGE_ENTRIES_MAX);
    let mut page = Page::default();
    let mut bytes = 0;
    for (key, value) in entries {
        if page.entries.len() >= limit || bytes > PAGE_BYTES_MAX {
            page.more = true;
            break;
        }
        bytes += key.len() + value.bytes.len();
        page.entries.push(Entry { key: key.clone(), value: value.clone() });
    }
    page
}

impl Snapshot for View {
    fn revision(&self) -> u64 {
        self.revision
    }

    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Value>, ReadError>> {
        Box::pin(async move { Ok(self.map.get(key).cloned()) })
    }

    fn get_many<'a>(
        &'a self,
        keys: &'a [Bytes],
    ) -> BoxFuture<'a, Result<Vec<Option<Value>>, ReadError>> {
        Box::pin(async move { Ok(keys.iter().map(|key| self.map.get(key).cloned()).collect()) })
    }

    fn scan<'a>(
        &'a self,
        range: &'a KeyRange,
        limit: usize,
        direction: Direction,
    ) -> BoxFuture<'a, Result<Page, ReadError>> {
        Box::pin(async move { Ok(self.page(range, limit, direction)) })
    }
}
