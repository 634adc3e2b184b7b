//! What is committed, and how that is answered.

use crate::{KeyRange, limits};
use bytes::Bytes;
use outrigger_kernel::{Wall, World};
use std::fmt;

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
        /// When it becomes absent; to be counted from [`crate::KeySpace::now`].
        expires_at: Option<Wall>,
    },
    /// Removes `key`, if present. Counts as a change of the key even if it was absent.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Removes every key in `range`, in one step however many there are; only the range's ends count towards the
    /// transaction's size. Counts as a change of every key in the range, present or not.
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
    /// A name for this attempt to write, so that it can be sent again when its outcome is unknown: within
    /// [`limits::COMMIT_ID_AGE_MAX`] of its acceptance (and the last [`limits::COMMIT_IDS_MAX`] named commits) it is
    /// answered as it was then and changes nothing. One that was refused runs again, and so does one that changed nothing.
    pub id: Option<CommitId>,
    /// What its answer promises.
    pub durability: Durability,
}

/// A commit's name, never used for another. See [`Transaction::id`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(pub [u8; 16]);

impl CommitId {
    /// A name that nobody else has.
    #[must_use]
    pub fn random(world: &dyn World) -> Self {
        let (high, low) = (world.random(), world.random());
        Self((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// What the answer to a commit promises. Whatever was asked for, commits are seen and survive in their order: one that
/// is on disk brings all earlier ones with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// It is on disk: it survives a power cut.
    #[default]
    Flush,
    /// The operating system has it: it survives the end of the process, but for a moment not a power cut.
    Relaxed,
}

impl Durability {
    /// Its name in settings, metadata and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Flush => "flush",
            Self::Relaxed => "relaxed",
        }
    }
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
