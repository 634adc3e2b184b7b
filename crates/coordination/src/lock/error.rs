//! Why a lock was refused, or could not be asked for. Each variant names what to change: the request, the wait, the store.

use super::{OWNER_BYTES_MAX, PERMITS_MAX, RESOURCE_BYTES_MAX, TTL_MAX, WAITING_MAX};
use outrigger_keyspace::{CommitError, Corrupt, ReadError, TransactError};

/// Why nothing was locked, released or read. But for [`LockError::Elapsed`] and [`LockError::Unknown`], nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// A resource without a name, or with one that is too long.
    #[error("the name of a resource has 1 to {RESOURCE_BYTES_MAX} bytes, this one {0}")]
    Resource(usize),
    /// An owner without a name, or with one that is too long.
    #[error("the name of an owner has 1 to {OWNER_BYTES_MAX} bytes, this one {0}")]
    Owner(usize),
    /// A lifetime of nothing, or without end.
    #[error("a lock is held for 1 ms to {TTL_MAX:?} and renewed, not for {0:?}")]
    Ttl(std::time::Duration),
    /// No permits, or too many.
    #[error("a semaphore has 1 to {PERMITS_MAX} permits, not {0}")]
    Permits(u32),
    /// Waiting would never end: those who hold the lock wait for what the asking owner holds.
    #[error("waiting would never end: {}", path(.0))]
    Deadlock(Vec<String>),
    /// Too many wait for this lock already.
    #[error("{WAITING_MAX} wait for this lock already")]
    TooManyWaiting,
    /// The lock was not to be had in time.
    #[error("the lock was not to be had in the time given")]
    TimedOut,
    /// The store did not answer in time; the lock may have been taken, and is let go of when its lifetime ends.
    #[error("the store did not answer in time")]
    Elapsed,
    /// Whether the commit happened is not known.
    #[error("whether the store took the change is not known: {0}")]
    Unknown(String),
    /// Trying again may help.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Stored bytes are not what was written.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
}

/// `a waits for x, held by b` ... as people read it.
fn path(steps: &[String]) -> String {
    steps.join(", ")
}

impl From<ReadError> for LockError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(what) => Self::Damaged(what),
            ReadError::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

impl From<Corrupt> for LockError {
    fn from(error: Corrupt) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<CommitError> for LockError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Unknown(why) => Self::Unknown(why),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<TransactError<Self>> for LockError {
    fn from(error: TransactError<Self>) -> Self {
        match error {
            TransactError::Refused(error) => error,
            TransactError::Read(error) => error.into(),
            TransactError::Corrupt(error) => error.into(),
            TransactError::Commit(error) => error.into(),
            TransactError::Contended => {
                Self::Unavailable("others changed the same lock all the time".to_owned())
            }
            TransactError::Elapsed => Self::Elapsed,
        }
    }
}
