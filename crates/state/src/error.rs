//! Why a key, a read or a change set was refused. Each variant names what to look at: the key, the bound, or the engine.

use outrigger_keyspace::{CommitError, Corrupt, ReadError, TransactError, limits};

use crate::{ANSWER_BYTES_MAX, KEY_SEPARATOR, KEYS_PER_READ_MAX, OPERATIONS_MAX};

/// A key (or a key prefix) that no store accepts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IllegalKey {
    /// Nothing to go by.
    #[error("a key must not be empty")]
    Empty,
    /// It contains what separates prefix and key, so it could name another app's data.
    #[error("{key:?} must not contain {KEY_SEPARATOR:?}")]
    Separator {
        /// The key or prefix.
        key: String,
    },
    /// Longer than this store can hold under its region's name.
    #[error("a key of {bytes} bytes is longer than the {max} this store can hold")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The longest this store can hold.
        max: usize,
    },
}

/// Why a read failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// A key no store accepts.
    #[error(transparent)]
    Key(#[from] IllegalKey),
    /// Too many keys in one read.
    #[error("{count} keys in one read are more than {KEYS_PER_READ_MAX}")]
    TooManyKeys {
        /// How many.
        count: usize,
    },
    /// The values together are larger than one answer may be.
    #[error("the values of one read are larger than {ANSWER_BYTES_MAX} bytes together")]
    AnswerTooLarge,
    /// Stored bytes are not what was written.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// Trying again may help.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}

impl From<ReadError> for GetError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(what) => Self::Damaged(what),
            ReadError::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

impl From<Corrupt> for GetError {
    fn from(error: Corrupt) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Why a change set was not applied. In every case but [`ApplyError::Elapsed`] and [`ApplyError::Unknown`] nothing
/// changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A condition did not hold: the key has another etag, is absent, or (first write) is present.
    #[error("the etag given for {key:?} does not match the stored one")]
    EtagMismatch {
        /// The first key of the request whose condition failed.
        key: String,
    },
    /// A lock that the changes rest on has ended, or is in other hands.
    #[error("the lock on {resource:?} is not held with the token {token} any more")]
    Fenced {
        /// What is locked.
        resource: String,
        /// The token given.
        token: u64,
    },
    /// A lock that the changes rest on is in another store, so that no commit can hold both.
    #[error("the lock on {resource:?} is kept in another store than this state")]
    FenceElsewhere {
        /// What is locked.
        resource: String,
    },
    /// Not an etag this store ever gave out.
    #[error("the etag {etag:?} given for {key:?} is malformed: expected a decimal number")]
    EtagMalformed {
        /// The key.
        key: String,
        /// What was given.
        etag: String,
    },
    /// A key no store accepts.
    #[error(transparent)]
    Key(#[from] IllegalKey),
    /// Too many changes in one request.
    #[error("{count} changes in one request are more than {OPERATIONS_MAX}")]
    TooManyOperations {
        /// How many.
        count: usize,
    },
    /// A value is too large.
    #[error("the value of {key:?} takes {bytes} bytes, more than {max}", max = limits::VALUE_BYTES_MAX)]
    ValueTooLarge {
        /// Its key.
        key: String,
        /// Its size as stored, content type included.
        bytes: usize,
    },
    /// The request is too large as a whole.
    #[error("a request of {bytes} bytes is larger than {max}", max = limits::TRANSACTION_BYTES_MAX)]
    TooLarge {
        /// Its size as stored.
        bytes: usize,
    },
    /// The deadline had passed before the commit began.
    #[error("the deadline passed before the changes were committed; nothing was written")]
    TooLate,
    /// Conflicts did not end before the deadline.
    #[error("conflicting writers kept the changes from being committed within the deadline")]
    Contended,
    /// The deadline passed while the commit was under way: the outcome is unknown.
    #[error("the deadline passed while the changes were being committed: the outcome is unknown")]
    Elapsed,
    /// The store has no room for more; deletes still work.
    #[error("the store is full: {0}")]
    Full(String),
    /// Not accepted, and trying again may help.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Whether it was accepted is unknown.
    #[error("the outcome of the commit is unknown: {0}")]
    Unknown(String),
    /// Stored bytes are not what was written.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// Writes that another block added to the commit were refused.
    #[error("writes added to the change set were refused: {0}")]
    Added(CommitError),
}

impl From<ReadError> for ApplyError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(what) => Self::Damaged(what),
            ReadError::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

impl From<CommitError> for ApplyError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict | CommitError::TooOld { .. } => Self::Contended,
            CommitError::TransactionTooLarge { bytes } => Self::TooLarge { bytes },
            CommitError::Full(why) => Self::Full(why),
            CommitError::Unavailable(why) => Self::Unavailable(why),
            CommitError::Unknown(why) => Self::Unknown(why),
            // The plan has checked every key and value of its own, and contains neither counters nor stamps.
            other => Self::Added(other),
        }
    }
}

impl From<TransactError<Self>> for ApplyError {
    fn from(error: TransactError<Self>) -> Self {
        match error {
            TransactError::Refused(error) => error,
            TransactError::Read(error) => error.into(),
            TransactError::Corrupt(error) => Self::Damaged(error.to_string()),
            TransactError::Commit(error) => error.into(),
            TransactError::Contended => Self::Contended,
            TransactError::Elapsed => Self::Elapsed,
        }
    }
}
