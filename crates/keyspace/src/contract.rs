//! The contract between the blocks above and the engines below. Nine methods; everything else is a pattern over them.

use crate::{
    commit::{CommitError, Committed, Transaction},
    limits,
};
use bytes::Bytes;
use outrigger_kernel::{BoxFuture, Wall};
use std::{fmt, path::Path, sync::Arc};

/// An engine: a map of bytes to bytes with serializable commits.
pub trait KeySpace: Send + Sync + 'static {
    /// A consistent view. `Linearizable` sees every commit answered before the call; `AtLeast(r)` waits for revision
    /// `r`; `Local` answers at once and may be stale on engines with replicas.
    fn snapshot(&self, level: Level) -> BoxFuture<'_, Result<Arc<dyn Snapshot>, ReadError>>;

    /// Commits `transaction` as a whole, durably (as it asks, see [`crate::Durability`]), iff nothing it read has changed
    /// since its `read_revision`. One whose [`Transaction::id`] was accepted before is answered as it was then.
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Committed, CommitError>>;

    /// Tells that something in `range` has changed, and up to which revision. Level-triggered: the reader reads again.
    fn watch(&self, range: KeyRange) -> Watch;

    /// What time it is for expiry: the world's, or the engine's own where that is ahead because the world's clock went
    /// back. A lifetime is counted from here; counted from the world's clock it may be over before it begins.
    fn now(&self) -> Wall;

    /// What the engine is and how it fares.
    fn status(&self) -> Status;

    /// Writes a consistent copy into the empty or absent directory `target`, from which the same engine can be opened;
    /// answers the revision it is consistent at. Where `target` holds an earlier copy of the same store, it is brought up
    /// to date by adding only what is new. Whatever else stands there is left alone and refused.
    fn checkpoint<'a>(&'a self, target: &'a Path) -> BoxFuture<'a, Result<u64, ReadError>>;
}

/// A consistent, immutable view of the map at one revision.
pub trait Snapshot: Send + Sync {
    /// The revision of the last commit in this view; 0 before the first commit. An engine reached over a socket may pin
    /// its view with the first read, and says 0 until then: whoever needs the revision asks after reading.
    fn revision(&self) -> u64;

    /// The value at `key`, if present and not expired.
    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Value>, ReadError>>;

    /// The values at `keys`, in their order.
    fn get_many<'a>(
        &'a self,
        keys: &'a [Bytes],
    ) -> BoxFuture<'a, Result<Vec<Option<Value>>, ReadError>>;

    /// Entries of `range` in key order (or reverse), at most `limit` and at most one page.
    fn scan<'a>(
        &'a self,
        range: &'a KeyRange,
        limit: usize,
        direction: Direction,
    ) -> BoxFuture<'a, Result<Page, ReadError>>;
}

/// How fresh a snapshot must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Sees every commit that was answered before the call.
    Linearizable,
    /// Sees at least this revision: read your writes, monotonic reads, causal tokens.
    AtLeast(u64),
    /// Whatever is here; may be stale where there are replicas.
    Local,
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Forward,
    /// Largest key first.
    Backward,
}

/// A value with what the engine knows about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The bytes as written; for a counter, its sum as 8 bytes little-endian.
    pub bytes: Bytes,
    /// The revision of the commit that last wrote this key. Doubles as an etag and as a fencing token.
    pub revision: u64,
    /// When the key becomes absent; `None` for never.
    pub expires_at: Option<Wall>,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Value,
}

/// A bounded piece of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries, in scan order.
    pub entries: Vec<Entry>,
    /// Whether the range holds more beyond the last entry.
    pub more: bool,
}

/// Keys from `start` (included) to `end` (excluded); no `end` means to the end of the map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRange {
    /// First key in the range.
    pub start: Bytes,
    /// First key past the range.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// From `start` (included) to `end` (excluded).
    #[must_use]
    pub fn new(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self { start: start.into(), end: Some(end.into()) }
    }

    /// The whole map.
    #[must_use]
    pub fn all() -> Self {
        Self { start: Bytes::new(), end: None }
    }

    /// Every key that begins with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start: Bytes = prefix.into();
        let mut end = start.to_vec();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                return Self { start, end: Some(end.into()) };
            }
        }
        Self { start, end: None }
    }

    /// The same range without what comes before and at `key`: where the next page begins.
    #[must_use]
    pub fn after(&self, key: &[u8]) -> Self {
        let mut start = Vec::with_capacity(key.len() + 1);
        start.extend_from_slice(key);
        start.push(0);
        Self { start: start.into(), end: self.end.clone() }
    }

    /// Whether `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.end.as_ref().is_none_or(|end| key < &end[..])
    }

    /// Whether some key could lie in both ranges.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.end.as_ref().is_none_or(|end| other.start < *end)
            && other.end.as_ref().is_none_or(|end| self.start < *end)
    }

    /// The same keys between bounds no longer than they need to be: nothing that a key can be lies between a longer bound and
    /// its first bytes.
    #[must_use]
    pub fn cut(&self) -> Self {
        let cut = |bound: &Bytes| bound.slice(..bound.len().min(limits::KEY_BYTES_MAX + 1));
        Self { start: cut(&self.start), end: self.end.as_ref().map(cut) }
    }

    /// Whether no key lies in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// Why a read failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Stored bytes are not what was written.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// Trying again may help.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}

/// What an engine is and how it fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The engine's name: `memory`, `local`.
    pub engine: &'static str,
    /// The last revision visible to readers.
    pub revision: u64,
    /// Whether acknowledged commits survive `kill -9` and power loss, unless they asked for less
    /// ([`crate::Durability::Relaxed`]).
    pub durable: bool,
    /// Bytes on disk, where the engine has a disk.
    pub disk_bytes: u64,
    /// Why the engine no longer accepts commits, if so.
    pub failed: Option<String>,
}

/// A standing interest in a range. Made by an engine; see [`KeySpace::watch`].
pub struct Watch {
    seen: u64,
    source: Box<dyn WatchSource>,
}

/// What an engine implements behind a [`Watch`], unless it leaves that to [`crate::watch::Registry`]. Dropped with the
/// watch, which is when an engine forgets it.
pub trait WatchSource: Send + Sync {
    /// Resolves with the latest revision that touched the range once that is greater than `seen`; never, if nothing
    /// will change any more. Given up at any point and asked again, it must miss nothing.
    fn newer_than(&mut self, seen: u64) -> BoxFuture<'_, u64>;
}

impl Watch {
    /// A watch that is told of revisions after `seen`; for engines.
    #[must_use]
    pub fn new(seen: u64, source: Box<dyn WatchSource>) -> Self {
        Self { seen, source }
    }

    /// Waits until something in the range has changed since the last call (or since the watch was made), and returns
    /// the latest revision that changed it. Changes in between are folded into one wake-up. Cancel-safe.
    pub async fn changed(&mut self) -> u64 {
        let revision = self.source.newer_than(self.seen).await;
        self.seen = revision;
        revision
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watch(seen {})", self.seen)
    }
}
