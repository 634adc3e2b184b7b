//! # The key space: one ordered, transactional, watchable map of bytes to bytes
//!
//! State, topics, subscriptions, timers, locks and idempotency records are *layouts* in this map. What two of them need
//! to change together changes in ONE commit, which is why an outbox is not a feature here but a consequence.
//!
//! ```text
//!   blocks -- Space::transact --+  retries conflicts within the caller's deadline
//!                               v
//!   KeySpace (9 methods) -- snapshot > get, get_many, scan      commit      watch, now, status, checkpoint
//!                               v
//!   engines: memory (here), local (crate engine-local), remote (crate engine-remote), later: raft, postgres
//! ```
//!
//! Invariants every engine keeps, and the published exam (feature `exam`) checks:
//!
//! - a commit is accepted as a whole, durably, if and only if nothing it read has changed since it read it;
//! - revisions grow by commit order; a snapshot never changes; who saw a revision never sees less;
//! - time enters a commit as data: a key is absent for everyone from the first commit stamped at or after its expiry;
//! - everything has a bound ([`limits`]), and going over it is an error that names the bound and changes nothing.
#![forbid(unsafe_code)]

mod commit;
mod contract;
mod encoding;
#[cfg(any(test, feature = "exam"))]
pub mod exam;
mod hashing;
pub mod limits;
pub mod memory;
pub mod planted;
pub mod sequencer;
mod space;
mod table;
pub mod watch;

pub use commit::{CommitError, CommitId, Committed, Durability, Stamp, Transaction, Write};
pub use contract::{
    Direction, Entry, KeyRange, KeySpace, Level, Page, ReadError, Snapshot, Status, Value, Watch,
    WatchSource,
};
pub use encoding::{Corrupt, KeyPart, KeyReader, KeyTuple};
pub use space::{Space, TransactError, Tx};
pub use table::{Record, Table};
