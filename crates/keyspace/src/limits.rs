//! The bounds of the contract, the same for every engine, so that what works on a laptop works on a cluster.

use std::time::Duration;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// Largest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest transaction: the sum of all keys, values and range ends written and all keys and range ends read, in bytes,
/// each counted with [`OVERHEAD_BYTES`] for its keeping. What a range delete removes does not count.
pub const TRANSACTION_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What every key or range counts for in a transaction beside its bytes.
pub const OVERHEAD_BYTES: usize = 32;
/// Oldest snapshot a commit may have read at.
pub const TRANSACTION_AGE_MAX: Duration = Duration::from_secs(5);
/// How long a commit's name is remembered after it was accepted ([`crate::Transaction::id`]), unless
/// [`COMMIT_IDS_MAX`] others were accepted since. Measured by the engine's monotonic clock.
pub const COMMIT_ID_AGE_MAX: Duration = Duration::from_secs(60);
/// Most commits' names that are remembered: the last ones.
pub const COMMIT_IDS_MAX: usize = 65_536;
/// Most stamped writes in one transaction: their index must fit a [`crate::Stamp`].
pub const STAMPED_WRITES_MAX: usize = 65_535;
/// Most entries one page of a scan holds, whatever limit is asked for.
pub const PAGE_ENTRIES_MAX: usize = 10_000;
/// A page of a scan ends with the entry that takes it past this many bytes.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
