//! Why a log cannot be read. Each says where, and what can be done.

use crate::record::Malformed;
use std::io;

/// What to do about bytes that are not what was written.
const RESTORE: &str = "the disk or whatever copied this folder has changed it: restore the store from a backup, and check the disk";
/// What to do about a disk that did not keep what it said it had kept.
const LYING: &str = "the disk has lost what it had confirmed, or the folder was put together from copies of different times: \
     restore the store from a backup, and check whether the disk's write cache honours flushes";

/// Why a log cannot be opened or read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The system refused.
    #[error("{file}: {source}")]
    Io {
        /// The file, or the folder.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes are not what was written there.
    #[error("{file} is damaged at byte {offset}: {what}; {remedy}")]
    Damaged {
        /// The file.
        file: String,
        /// Where the first bad bytes begin.
        offset: u64,
        /// What is wrong with them.
        what: String,
        /// What can be done.
        remedy: &'static str,
    },
    /// A newer release wrote the file.
    #[error("{file} has log format {found}, this release knows up to {known}; use a newer release")]
    Newer {
        /// The file.
        file: String,
        /// Its format.
        found: u32,
        /// The newest one known here.
        known: u32,
    },
    /// A file that must be there is not.
    #[error(
        "{file} is missing, though later parts of the log are there; put it back or restore the store from a backup"
    )]
    Missing {
        /// The file.
        file: String,
    },
    /// The log ends before the position up to which it is known to have been written.
    #[error(
        "the log ends in {file} at byte {offset}, though it was on disk up to {segment}:{expected}; {remedy}"
    )]
    Short {
        /// The file in which it ends, or that is missing.
        file: String,
        /// Where it ends.
        offset: u64,
        /// The segment in which it must not end before ..
        segment: u64,
        /// .. this offset.
        expected: u64,
        /// What can be done.
        remedy: &'static str,
    },
}

impl LogError {
    pub(crate) fn io(file: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| Self::Io { file, source }
    }

    pub(crate) fn damaged(file: impl Into<String>, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged { file: file.into(), offset, what: what.into(), remedy: RESTORE }
    }

    pub(crate) fn short(file: impl Into<String>, offset: u64, known: super::Position) -> Self {
        let (segment, expected) = (known.segment, known.offset);
        Self::Short { file: file.into(), offset, segment, expected, remedy: LYING }
    }

    pub(crate) fn malformed(file: impl Into<String>, offset: u64, malformed: Malformed) -> Self {
        Self::damaged(file, offset, format!("its checksum holds, yet {malformed}"))
    }
}
