//! # The local engine: a durable key space in one folder
//!
//! One thread, the *committer*, decides and writes; everybody else reads.
//!
//! ```text
//!   commit --> bounded queue --> committer: sequence > one write batch > one fdatasync > publish > wake > answer
//!                                     | while it syncs, the queue fills: the next group forms by itself
//!   snapshot <-- the last published view (an LSM tree at one instant; no lock, no thread hop)
//! ```
//!
//! Invariants:
//!
//! - what is answered is on disk, and what is not on disk is not visible to any reader (but for time itself: a key that
//!   falls due is absent at once and removed with the next group; a crash in between changes nothing, since it is due
//!   afterwards too);
//! - a group is one batch of the log: after a crash all of it is there or none of it, and never a later group without an
//!   earlier one;
//! - a write or sync that fails ends the engine: everything in that group is answered *unknown*, everything after it is
//!   refused, and only opening the folder again shows what is there. A failed sync is never tried again: the kernel may
//!   have dropped the pages it failed to write;
//! - one process at a time holds the folder.
//!
//! A new store is on disk, whole, before it has its name (the module `folder` tells how that takes two dozen syncs at once instead
//! of a hundred in a row); a store that has lost a part is refused, never opened as an empty one.
//!
//! What it is not: fast on a disk that cannot sync, readable by two processes at once, or safe from a disk that lies
//! about syncing.
//!
//! The folder:
//!
//! | file | holds |
//! |---|---|
//! | `FORMAT` | the version of this layout; newer ones are refused |
//! | `lock` | the lock, and the process id of who holds it |
//! | `store/` | the LSM tree (fjall): keyspaces `data`, `expiry` (by time, so that opening need not read all data), `meta` |
#![forbid(unsafe_code)]

mod checkpoint;
mod committer;
mod error;
mod folder;
mod group;
mod headroom;
mod local;
mod log_check;
mod options;
mod syncing;
mod tables;
mod time;
mod view;

#[cfg(test)]
mod tests;

pub use error::OpenError;
pub use local::Local;
pub use options::Options;
