//! The bounds of the contract, the same for every engine, so that what works on a laptop works on a cluster.

use std::time::Duration;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// Largest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest transaction: the sum of all keys and values written (those that a range delete removes included) and all
/// keys and range ends read, in bytes, each counted with [`OVERHEAD_BYTES`] for its keeping.
pub const TRANSACTION_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What every key or range counts for in a transaction beside its bytes.
pub const OVERHEAD_BYTES: usize = 32;
/// Oldest snapshot a commit may have read at.
pub const TRANSACTION_AGE_MAX: Duration = Duration::from_secs(5);
/// Most stamped writes in one transaction: their index must fit a [`crate::Stamp`].
pub const STAMPED_WRITES_MAX: usize = 65_535;
/// Most entries one page of a scan holds, whatever limit is asked for.
pub const PAGE_ENTRIES_MAX: usize = 10_000;
/// A page of a scan ends with the entry that takes it past this many bytes.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
