//! # Coordination: what processes that share a key space know of each other
//!
//! ```text
//!   process A --announce--> registry (rows in the key space) <--announce-- process B
//!       ^                        |
//!       +--------- watch --------+--> who is there, which apps, how to reach them
//! ```
//!
//! | file | what |
//! |---|---|
//! | `registry/mod.rs` | [`Registry`]: announce, withdraw, bury, list, watch |
//! | `registry/keys.rs` | its tables |
//! | `registry/records.rs` | what they store |
//! | `lock/` | [`Locks`]: locks with fencing tokens, lifetimes and a fair line |
//! | `limits/mod.rs` | [`SharedLimits`]: rate limits that are one for all of them |
//! | `limits/ledger.rs`, `limits/keys.rs` | who holds which share of a limit, and where that stands |
//!
//! The registry's invariant: a row says that a process *was* there, never that it still is. Whether it is, is asked of the process
//! itself, by knocking at its door; whoever finds nobody there removes exactly the row it read
//! ([`Registry::bury`]). So there are no heartbeats, nothing is written while nothing changes, and a process that is
//! merely slow or paused is never taken for dead. Shares of limits are the exception: they are leases, because a share
//! that nobody uses is a loss to all others.
//!
//! The locks' invariant: a later holder's fencing token is the greater one, so what a lock protects can tell who is late.
//!
//! It is not: a failure detector for other machines. A door that is closed is proof on one machine only.
#![forbid(unsafe_code)]

mod limits;
mod lock;
mod registry;

pub use limits::{LimitName, SharedLimits};
pub use lock::{
    Ask, Fence, HOLDERS_MAX, Held, Holder, LockError, LockStatus, Locks, Mode, OWNER_BYTES_MAX,
    PERMITS_MAX, RESOURCE_BYTES_MAX, Released, TTL_MAX, WAIT_MAX, WAITING_MAX,
};
pub use registry::{App, Instance, Registry, RegistryError, Resident};
