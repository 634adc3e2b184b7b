//! Backups: a folder that holds the map as it was, and everything committed since, so that it can be restored to any
//! commit in between.
//!
//! ```text
//!   first backup    rows at 1,000
//!   next backup     rows at 1,000   plans 1,001 .. 1,700
//!   next backup     rows at 1,000   plans 1,001 .. 1,700   plans 1,701 .. 2,050
//! ```
//!
//! A backup is taken while commits go on: of a published view and of the log up to where that view stands. When the log since
//! the last backup is not kept any more, the whole map is written again, beside what is there.
//!
//! | file | holds |
//! |---|---|
//! | `BACKUP` | which parts there are ([`manifest`]); written last, replaced whole |
//! | `rows-*` | the whole map at one revision ([`part`]) |
//! | `plans-*` | commits, in their order |
//! | `lock` | the lock |
//!
//! Invariants: a part that the manifest names is on disk and never changed; what it does not name is left over from a backup
//! that was cut short, and replaced by the next one. A damaged byte anywhere is found before anything is restored from it.

mod manifest;
mod part;
mod restore;
mod take;
mod verify;

#[cfg(test)]
mod tests;

pub use restore::{Goal, Restored, restore};
pub(crate) use take::{Source, take};
pub use verify::{Verified, verify};

use crate::{OpenError, log::LogError};
use outrigger_keyspace::ReadError;
use std::{io, path::PathBuf};

/// Why a backup could not be taken, read or restored. A backup folder is left as it was.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] OpenError),
    /// There is no backup in the folder.
    #[error("there is no backup in {}; name the folder that a backup was taken to", path.display())]
    Absent {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds the backup of another store.
    #[error("{} holds the backup of another store; choose another folder", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// A newer release wrote the backup.
    #[error("the backup has format {found}, this release knows up to {known}; use a newer release")]
    Newer {
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// A file of the backup is not as it was written.
    #[error(
        "the backup's file {file} is damaged ({reason}); use another backup, or an earlier revision of this one"
    )]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The backup does not reach to what is to be restored.
    #[error("{goal} is not in the backup, which holds {held}; choose what it holds")]
    NotHeld {
        /// What was asked for.
        goal: String,
        /// What there is.
        held: String,
    },
    /// The store could not be read.
    #[error("the store could not be read: {0}")]
    Read(#[from] ReadError),
    /// The log of the store could not be read.
    #[error("the log could not be read: {0}")]
    Log(String),
    /// Anything else the system refused.
    #[error("the backup's file {file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

impl BackupError {
    fn io(file: &str, source: io::Error) -> Self {
        Self::Io { file: file.to_owned(), source }
    }

    fn damaged(file: &str, reason: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_owned(), reason: reason.into() }
    }
}

impl From<LogError> for BackupError {
    fn from(error: LogError) -> Self {
        Self::Log(error.to_string())
    }
}
