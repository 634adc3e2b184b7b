//! # The local engine: a durable key space in one folder
//!
//! ```text
//!  commit -> lanes (small | bulk) -> committer: decides, encodes -> writer: log, flush -> publisher: view, watches, answers
//!                                       |                                                    |
//!                                       +-> active layer (in memory)      snapshot <- the last published view
//!
//!  view = active layer > sealed layer (on its way into the index) > index        all immutable, cheap to hold
//!  checkpointer: sealed layer -> index, with where the log goes on -> the log before that is used again
//! ```
//!
//! The log is what makes a commit last; the index is what keeps the log short. Between the two, recent changes are in memory,
//! and a crash finds them in the log.
//!
//! Invariants:
//!
//! - what is answered is on disk, unless the commit asked for less, and what is not on disk is not visible to any reader
//!   (but for time itself: a key that falls due is absent at once and removed with the next batch; a crash in between
//!   changes nothing, since it is due afterwards too);
//! - a batch is one frame of the log: after a crash all of it is there or none of it, and never a later one without an
//!   earlier one;
//! - a write or flush that fails ends the engine: everything in that batch and those after it is answered *unknown* or
//!   refused, and only opening the folder again shows what is there. A failed flush is never tried again: the kernel may
//!   have dropped the pages it failed to write;
//! - one process at a time holds the folder; memory, queues and the log are bounded, and commits wait at the bound.
//!
//! | module | |
//! |---|---|
//! | `local` | the engine as its users see it |
//! | `desk`, `lanes` | where commits wait, and who does what |
//! | `committer`, `writer`, `publisher` | the three stations of a `batch` |
//! | `layer`, `stack`, `view` | the state: in memory, as a whole, as it is shown |
//! | `log`, `index`, `record` | what is on disk, and the bytes of it |
//! | `checkpointer` | from memory into the index |
//! | `store`, `folder`, `disk` | making, opening and recovering a store, and what it stands on |
//! | `time`, `upcoming`, `headroom` | when keys fall due, and which do next; when the disk is too full |
//!
//! What it is not: fast on a disk that cannot sync, readable by two processes at once, or safe from a disk that lies
//! about syncing.
//!
//! The folder:
//!
//! | file | holds |
//! |---|---|
//! | `FORMAT` | the version of this layout and the store's id; newer ones are refused |
//! | `lock` | the lock, and the process id of who holds it |
//! | `log-*` | the log: see the module `log` |
//! | `index`, `run-*` | the index: see the module `index` |
#![forbid(unsafe_code)]

mod backup;
mod batch;
mod checkpointer;
mod committer;
mod counted;
mod desk;
mod disk;
mod engine;
mod error;
mod figures;
mod folder;
mod hands;
mod headroom;
mod index;
mod lanes;
mod layer;
mod local;
mod log;
mod options;
pub mod planted;
mod publisher;
mod record;
mod shared;
mod stack;
mod store;
mod time;
mod upcoming;
mod view;
mod writer;

#[cfg(test)]
mod tests;

pub use backup::{BackupError, Goal, Restored, Verified, restore, verify};
pub use error::OpenError;
pub use figures::Figures;
pub use hands::{Hands, InFlight};
pub use local::Local;
pub use options::Options;
