//! What can be set about a local engine. The defaults suit a laptop: small, and fast enough to saturate its disk.

/// Sizes of a local engine's parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Memory for blocks read from disk.
    pub cache_bytes: u64,
    /// Memory for recent writes before they become a sorted file. Up to four times this while files are being written,
    /// and as much again where most writes carry an expiry.
    pub memtable_bytes: u64,
    /// Log kept on disk before the oldest part is forced into sorted files; bounds how long opening takes. At least
    /// 64 MiB. Writes wait before the log is four times as long.
    pub log_bytes_max: u64,
    /// Most bytes one group of commits writes with one sync, unless a single transaction is larger.
    pub group_bytes_max: usize,
    /// Most bytes of transactions that wait to be committed; whoever comes later waits outside the queue.
    pub queue_bytes_max: usize,
    /// Free space kept on the file system, so that there is a way out: below it only deletes and commits that make room
    /// are accepted, below half of it only deletes. By default a twentieth of the file system, but at least 64 MiB and
    /// at most 1 GiB.
    pub reserve_bytes: Option<u64>,
}

const MIB: u64 = 1024 * 1024;

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 8 * MIB,
            memtable_bytes: 8 * MIB,
            log_bytes_max: 128 * MIB,
            group_bytes_max: 1024 * 1024,
            queue_bytes_max: 32 * 1024 * 1024,
            reserve_bytes: None,
        }
    }
}
