//! Why the index cannot be opened or brought up to date.

use outrigger_keyspace::ReadError;
use std::io;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IndexError {
    /// There is no index in the folder. Whether there should be one is for the log to say.
    #[error("there is no index")]
    Missing,
    /// It was written by a newer release.
    #[error("the index has format {found}; this release knows formats up to {known}")]
    Newer { found: u32, known: u32 },
    /// Its bytes are not those that were written.
    #[error("{0}")]
    Damaged(String),
    /// The disk has no room for what was to be written. Nothing has changed, and trying again may help.
    #[error("{0}")]
    Full(String),
    /// The system failed. What is on the disk is whole, but this index takes no more changes until it is opened again.
    #[error("{0}")]
    Failed(String),
}

impl From<io::Error> for IndexError {
    fn from(error: io::Error) -> Self {
        let what = format!("writing the index: {error}");
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(what),
            _ => Self::Failed(what),
        }
    }
}

impl IndexError {
    /// What went wrong where there is no way back.
    pub(super) fn failed(error: &io::Error) -> Self {
        Self::Failed(format!("writing the index: {error}"))
    }
}

impl From<ReadError> for IndexError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged(what) => Self::Damaged(what),
            ReadError::Unavailable(what) => Self::Failed(what),
        }
    }
}

/// The file `name` does not hold at `at` what was written there.
pub(super) fn damaged(name: &str, at: u64) -> ReadError {
    ReadError::Damaged(format!(
        "file {name} of the index holds other bytes at {at} than were written"
    ))
}

/// What `error` says of the file `name`, whose bytes were on disk before anything referred to it.
pub(super) fn unreadable(name: &str, error: &io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::NotFound => {
            ReadError::Damaged(format!("file {name} of the index is missing"))
        }
        io::ErrorKind::UnexpectedEof => {
            ReadError::Damaged(format!("file {name} of the index is shorter than was written"))
        }
        _ => ReadError::Unavailable(format!("reading file {name} of the index: {error}")),
    }
}
