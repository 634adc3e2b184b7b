//! How much of anything one side of a connection makes the other side keep. What a transaction or a page may hold is the
//! contract's business (`keyspace::limits`); these follow from it.

use outrigger_keyspace::limits;
use std::time::Duration;

/// Longest frame: the largest page (which ends with the entry that takes it past its bound) and the largest transaction
/// fit, each with what the codec adds to it.
pub(crate) const FRAME_BYTES_MAX: usize =
    limits::PAGE_BYTES_MAX + limits::VALUE_BYTES_MAX + 1024 * 1024;
/// Most keys, ranges or writes in a frame: each counts for that much in a transaction, whatever its length.
pub(crate) const ITEMS_MAX: usize = limits::TRANSACTION_BYTES_MAX / limits::OVERHEAD_BYTES;
/// Most keys that one request asks for; a client splits what is more.
pub(crate) const MANY_KEYS_MAX: usize = limits::PAGE_ENTRIES_MAX;
/// Bytes of the keys of one such request.
pub(crate) const MANY_BYTES_MAX: usize = 1024 * 1024;
/// Longest text of an error; what is longer is cut.
pub(crate) const TEXT_BYTES_MAX: usize = 4 * 1024;
/// Longest path, as the system has it.
pub(crate) const PATH_BYTES_MAX: usize = 4 * 1024;

/// Most connections of a server.
pub(crate) const CONNECTIONS_MAX: usize = 256;
/// Most requests of a connection that are not answered yet; a server reads no further than that.
pub(crate) const REQUESTS_MAX: usize = 1_024;
/// Bytes of requests that are not answered yet; a server reads no further than that.
pub(crate) const REQUEST_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Answers that wait for a slow client; a server does nothing more for it than that.
pub(crate) const UNSENT_BYTES_MAX: usize = 1024 * 1024;
/// Most snapshots of a connection.
pub(crate) const SNAPSHOTS_MAX: usize = 4_096;
/// Most watches of a connection; a client looks after the rest by itself.
pub(crate) const WATCHES_MAX: usize = 4_096;

/// How often either side looks after what has been forgotten.
pub(crate) const TICK: Duration = Duration::from_secs(1);
/// How often a client does while nobody there calls: it finds out by that much later that somebody has waited for too long.
pub(crate) const IDLE_TICK: Duration = Duration::from_secs(5);
/// A snapshot that was not read from for so many ticks is gone.
pub(crate) const SNAPSHOT_IDLE_TICKS: u64 = 60;
/// How long a request may take before it is given up, all attempts together. Half of the time for which engines
/// remember a commit's name: what is sent again within it cannot be taken for something new.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How many commits later a commit's name is surely still remembered.
pub(crate) const REMEMBERED_COMMITS: u64 = 56_000;
/// How long opening waits for a holder that holds the folder and does not answer.
pub(crate) const OPEN_PATIENCE: Duration = Duration::from_secs(10);
/// How long the first words of a connection may take.
pub(crate) const HELLO_PATIENCE: Duration = Duration::from_secs(10);

const _: () = assert!(REMEMBERED_COMMITS < limits::COMMIT_IDS_MAX as u64);
const _: () = assert!(PATIENCE.as_secs() * 2 <= limits::COMMIT_ID_AGE_MAX.as_secs());
const _: () = assert!(FRAME_BYTES_MAX > limits::TRANSACTION_BYTES_MAX);
