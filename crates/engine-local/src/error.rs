//! Why a folder could not be opened, and what the errors of the parts mean to whoever opens it.

use crate::{index::IndexError, log::LogError};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Why an engine could not be opened. Nothing was changed, unless the folder is new.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the folder.
    #[error("the data folder {} is in use by {}; stop that process or choose another folder",
        path.display(), holder_name(*holder))]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process that holds it, if it wrote its id down.
        holder: Option<u32>,
    },
    /// A newer release wrote the folder.
    #[error("the data folder {} has format {found}, this release knows up to {known}; use a newer release",
        path.display())]
    NewerFormat {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The folder is from before the first release.
    #[error("the data folder {} has format {found}, of an early layout that was never released and is no longer read; \
        move the folder away and begin with an empty one", path.display())]
    EarlyFormat {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The folder cannot be written to.
    #[error("the data folder {} cannot be written to ({reason}); make it writable or choose another one",
        path.display())]
    ReadOnly {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file system has no room.
    #[error("there is no room left for the data folder {}; free some space on its file system",
        path.display())]
    Full {
        /// The folder.
        path: PathBuf,
    },
    /// What is stored is not what was written.
    #[error("the data folder {} is damaged ({reason}); restore it from a backup", path.display())]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is something else in the folder.
    #[error("the folder {} is not empty ({reason}); choose another one", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What it was wanted for.
        reason: String,
    },
    /// Anything else the system refused.
    #[error("the data folder {} cannot be opened: {source}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn holder_name(holder: Option<u32>) -> String {
    holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// Sorts what the system said by what can be done about it.
pub(crate) fn from_io(path: &Path, source: io::Error) -> OpenError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            OpenError::ReadOnly { path, reason: source.to_string() }
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OpenError::Full { path },
        _ => OpenError::Io { path, source },
    }
}

/// The same for what the log says.
pub(crate) fn from_log(path: &Path, error: LogError) -> OpenError {
    match error {
        LogError::Io { source, .. } => from_io(path, source),
        LogError::Newer { found, known, .. } => {
            OpenError::NewerFormat { path: path.to_owned(), found, known }
        }
        other => damaged(path, other.to_string()),
    }
}

/// The same for what the index says.
pub(crate) fn from_index(path: &Path, error: IndexError) -> OpenError {
    match error {
        IndexError::Newer { found, known } => {
            OpenError::NewerFormat { path: path.to_owned(), found, known }
        }
        IndexError::Missing => damaged(path, "its file \"index\" is missing".to_owned()),
        IndexError::Damaged(reason) => damaged(path, reason),
        IndexError::Full(_) => OpenError::Full { path: path.to_owned() },
        IndexError::Failed(reason) => from_io(path, io::Error::other(reason)),
    }
}

pub(crate) fn damaged(path: &Path, reason: String) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), reason }
}
