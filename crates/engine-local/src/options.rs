//! What can be set about a local engine. The defaults suit a laptop: small, and fast enough to saturate its disk.

use std::time::Duration;

/// Sizes of a local engine's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Memory for pages of the index.
    pub cache_bytes: usize,
    /// Recent changes kept in memory before they are written into the index. About twice as much log may lie behind them,
    /// which is what is read when a store is opened after a crash.
    pub layer_bytes_max: usize,
    /// Recent changes in memory at which commits wait, while the layer before is still being written into the index.
    pub layer_bytes_bound: usize,
    /// Log kept at most after it has become part of the index, for copies that are brought up to date and for looking back. A
    /// small index or a full disk leave less.
    pub log_bytes_kept: u64,
    /// Size of the first segment of a new log. Each is twice as large as the one before, up to the largest.
    pub log_first_bytes: u64,
    /// Size of the largest segments of the log.
    pub log_max_bytes: u64,
    /// Most bytes one batch of commits writes with one flush, unless a single transaction is larger.
    pub batch_bytes_max: usize,
    /// Most bytes of bulk in a batch while small commits keep coming.
    pub bulk_bytes_beside_small: usize,
    /// Most bytes of small transactions that wait to be committed; whoever comes later waits outside the queue.
    pub small_queue_bytes_max: usize,
    /// The same for transactions that are not small.
    pub bulk_queue_bytes_max: usize,
    /// When nothing was committed for this long, what is in memory is written into the index.
    pub idle_after: Duration,
    /// Free space kept on the file system, so that there is a way out: below it only deletes and commits that make room
    /// are accepted, below half of it only deletes. By default a twentieth of the file system, but at least 64 MiB and
    /// at most 1 GiB.
    pub reserve_bytes: Option<u64>,
}

const MIB: usize = 1024 * 1024;

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 32 * MIB,
            layer_bytes_max: 36 * MIB,
            layer_bytes_bound: 72 * MIB,
            log_bytes_kept: 64 * 1024 * 1024,
            log_first_bytes: 1024 * 1024,
            log_max_bytes: 16 * 1024 * 1024,
            batch_bytes_max: MIB,
            bulk_bytes_beside_small: MIB / 4,
            small_queue_bytes_max: 8 * MIB,
            bulk_queue_bytes_max: 32 * MIB,
            idle_after: Duration::from_secs(5),
            reserve_bytes: None,
        }
    }
}
