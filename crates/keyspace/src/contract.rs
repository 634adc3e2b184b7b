//! The contract between the blocks above and the engines below. Nine methods; everything else is a pattern over them.

use bytes::Bytes;
use outrigger_kernel::{BoxFuture, Wall};
use std::{fmt, path::Path, sync::Arc};

use crate::limits;

/// An engine: a map of bytes to bytes with serializable commits.
pub trait KeySpace: Send + Sync + 'static {
    /// A consistent view. `Linearizable` sees every commit answered before the call; `AtLeast(r)` waits for revision
    /// `r`; `Local` answers at once and may be stale on engines with replicas.
    fn snapshot(&self, level: Level) -> BoxFuture<'_, Result<Arc<dyn Snapshot>, ReadError>>;

    /// Commits `transaction` as a whole, durably, iff nothing it read has changed since its `read_revision`.
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Committed, CommitError>>;

    /// Tells that something in `range` has changed, and up to which revision. Level-triggered: the reader reads again.
    fn watch(&self, range: KeyRange) -> Watch;

    /// What time it is for expiry: the world's, or the engine's own where that is ahead because the world's clock went
    /// back. A lifetime is counted from here; counted from the world's clock it may be over before it begins.
    fn now(&self) -> Wall;

    /// What the engine is and how it fares.
    fn status(&self) -> Status;

    /// Writes a consistent copy into the empty or absent directory `target`, from which the same engine can be opened.
    fn checkpoint<'a>(&'a self, target: &'a Path) -> BoxFuture<'a, Result<u64, ReadError>>;
}

/// A consistent, immutable view of the map at one revision.
pub trait Snapshot: Send + Sync {
    /// The revision of the last commit in this view; 0 before the first.
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

    /// Whether no key lies in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// The position of a stamped write in the order of all commits: revision, then index within the transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Revision of the commit.
    pub revision: u64,
    /// Which of the commit's stamped writes, from 0.
    pub index: u16,
}

impl Stamp {
    /// Length of the encoded form.
    pub const BYTES: usize = 10;

    /// Big-endian bytes, so that stamps sort in commit order.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.revision.to_be_bytes());
        bytes[8..].copy_from_slice(&self.index.to_be_bytes());
        bytes
    }

    /// The inverse of [`Stamp::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j] = bytes;
        Self {
            revision: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            index: u16::from_be_bytes([i, j]),
        }
    }
}

/// One change of a transaction. Changes apply in order; a later one sees the earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets `key`.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// When it becomes absent; to be counted from [`KeySpace::now`].
        expires_at: Option<Wall>,
    },
    /// Removes `key`, if present. Counts as a change of the key even if it was absent.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Removes every key in `range`. The keys removed count towards the transaction's size: clear a large range in
    /// pieces.
    DeleteRange {
        /// The range.
        range: KeyRange,
    },
    /// Adds `delta` to the counter at `key` (absent counts as 0, wraps around); its expiry stays. Never conflicts with
    /// another add, but does conflict with a transaction that read the key.
    Add {
        /// The key.
        key: Bytes,
        /// What to add.
        delta: i64,
    },
    /// Sets `prefix ++ stamp ++ suffix`, where the engine fills in the commit's stamp: order without a hot counter.
    PutStamped {
        /// What comes before the stamp.
        prefix: Bytes,
        /// What comes after it.
        suffix: Bytes,
        /// The value.
        value: Bytes,
        /// When it becomes absent.
        expires_at: Option<Wall>,
    },
}

/// What to commit, and what it was decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// The revision of the snapshot that was read. Ignored when nothing was read.
    pub read_revision: u64,
    /// Keys whose value (or absence) the decision rests on.
    pub read_keys: Vec<Bytes>,
    /// Ranges whose contents (and gaps) the decision rests on.
    pub read_ranges: Vec<KeyRange>,
    /// The changes, in order.
    pub writes: Vec<Write>,
    /// Whether the commit makes room, or leads to it: an acknowledgement, a cursor, a claim, a sweep. A store that is
    /// too full for other commits still takes it, from the room it keeps for that purpose; so it must be small.
    pub makes_room: bool,
}

/// An accepted commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its revision.
    pub revision: u64,
    /// The time stamped on it; never before the time of an earlier commit.
    pub time: Wall,
}

impl Committed {
    /// The stamp of the transaction's `index`-th [`Write::PutStamped`], from 0.
    #[must_use]
    pub fn stamp(&self, index: u16) -> Stamp {
        Stamp { revision: self.revision, index }
    }
}

/// Why a commit was not accepted. In every case but [`CommitError::Unknown`] nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Something read has changed since; read again.
    #[error("something this transaction read has changed since")]
    Conflict,
    /// The snapshot is too old to tell whether something changed; read again.
    #[error("the transaction read revision {read}, older than the {max:?} a transaction may take",
        max = limits::TRANSACTION_AGE_MAX)]
    TooOld {
        /// The revision it read at.
        read: u64,
    },
    /// A key is empty.
    #[error("a key must have at least one byte")]
    KeyEmpty,
    /// A key is too long.
    #[error("a key of {bytes} bytes is longer than {max}", max = limits::KEY_BYTES_MAX)]
    KeyTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A value is too large.
    #[error("a value of {bytes} bytes is larger than {max}", max = limits::VALUE_BYTES_MAX)]
    ValueTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The transaction is too large as a whole.
    #[error("a transaction of {bytes} bytes is larger than {max}", max = limits::TRANSACTION_BYTES_MAX)]
    TransactionTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// More stamped writes than a stamp can number.
    #[error("{count} stamped writes are more than {max}", max = limits::STAMPED_WRITES_MAX)]
    TooManyStamped {
        /// How many.
        count: usize,
    },
    /// `Add` met a value that is not a counter.
    #[error("the value at an added-to key is not a counter of 8 bytes")]
    NotACounter,
    /// The store has no room for more; deletes still work, and so does what makes room ([`Transaction::makes_room`]).
    #[error("the store is full: {0}")]
    Full(String),
    /// Not accepted, and trying again may help.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Whether it was accepted is unknown: it may or may not be there after a restart.
    #[error("the outcome of the commit is unknown: {0}")]
    Unknown(String),
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
    /// Whether acknowledged commits survive `kill -9` and power loss.
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

/// What an engine implements behind a [`Watch`].
pub(crate) trait WatchSource: Send + Sync {
    /// Resolves with the latest revision that touched the range once that is greater than `seen`.
    fn newer_than(&mut self, seen: u64) -> BoxFuture<'_, u64>;
}

impl Watch {
    pub(crate) fn new(seen: u64, source: Box<dyn WatchSource>) -> Self {
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
