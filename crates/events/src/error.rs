//! Why an operation did not happen, one type per operation. Every bound has its own case, which names it.

use crate::limits;
use outrigger_keyspace::{CommitError, Corrupt, ReadError, TransactError};

/// Why nothing was published. Except for [`PublishError::Unknown`], nothing was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The topic's name cannot be one.
    #[error(transparent)]
    Topic(#[from] IllegalName),
    /// A message is too large.
    #[error("message {index} takes {bytes} bytes, more than {max}", max = limits::MESSAGE_BYTES_MAX)]
    MessageTooLarge {
        /// Which message of the bulk, from 0.
        index: usize,
        /// What it would take, with content type and metadata.
        bytes: usize,
    },
    /// Too many messages at once.
    #[error("{count} messages in one bulk are more than {max}", max = limits::BULK_MESSAGES_MAX)]
    BulkTooMany {
        /// How many.
        count: usize,
    },
    /// The messages are too large together.
    #[error("a bulk of {bytes} bytes is larger than {max}", max = limits::BULK_BYTES_MAX)]
    BulkTooLarge {
        /// What they would take.
        bytes: usize,
    },
    /// The store has no room for more.
    #[error("the store is full: {0}")]
    Full(String),
    /// Trying again may help.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The deadline passed, or the store failed, while the commit was under way: published or not, that is unknown.
    #[error("the outcome of the publish is unknown: {0}")]
    Unknown(String),
}

impl From<CommitError> for PublishError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Full(why) => Self::Full(why),
            CommitError::Unknown(why) => Self::Unknown(why),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// Why a consumer was not subscribed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// A topic or group name cannot be one.
    #[error(transparent)]
    Name(#[from] IllegalName),
    /// Messages of the topic would be dead-lettered into the topic itself, for ever.
    #[error("the dead-letter topic {0:?} is the topic itself")]
    DeadLetterLoop(String),
    /// The broker is closed.
    #[error("the broker is closed")]
    Closed,
    /// The group could not be registered or its place not be read; trying again may help.
    #[error("the group could not be registered: {0}")]
    Store(#[from] StoreError),
}

/// A name that cannot be the name of a topic, group or broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IllegalName {
    /// Empty.
    #[error("the name of a {what} is empty")]
    Empty {
        /// What was to be named.
        what: &'static str,
    },
    /// Too long.
    #[error("the name of a {what} has {bytes} bytes, more than {max}", max = limits::NAME_BYTES_MAX)]
    TooLong {
        /// What was to be named.
        what: &'static str,
        /// How long it is.
        bytes: usize,
    },
    /// Contains a control character.
    #[error("the name of a {what} contains a control character: {name:?}")]
    Control {
        /// What was to be named.
        what: &'static str,
        /// The name.
        name: String,
    },
}

/// The store could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A read failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A commit failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Stored bytes are not what this block writes.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// Conflicting writers, or a store too slow to answer.
    #[error("the store did not answer in time")]
    Elapsed,
    /// Another process dispatches to the group, and could not be joined.
    #[error("the process {0} dispatches to this group")]
    Held(String),
}

impl From<TransactError<Self>> for StoreError {
    fn from(error: TransactError<Self>) -> Self {
        match error {
            TransactError::Refused(error) => error,
            TransactError::Read(error) => Self::Read(error),
            TransactError::Corrupt(error) => Self::Corrupt(error),
            TransactError::Commit(error) => Self::Commit(error),
            TransactError::Contended | TransactError::Elapsed => Self::Elapsed,
        }
    }
}
