//! The bounds of this block. Going over one is an error that names it and changes nothing.

use outrigger_keyspace::limits::{TRANSACTION_BYTES_MAX, VALUE_BYTES_MAX};

/// Longest name of a topic, a group or a broker, in bytes.
pub const NAME_BYTES_MAX: usize = 512;
/// Largest message: data, content type and metadata as stored. A value of the key space, less room for the notes that
/// a dead letter carries.
pub const MESSAGE_BYTES_MAX: usize = VALUE_BYTES_MAX - 16 * 1024;
/// Most messages in one bulk.
pub const BULK_MESSAGES_MAX: usize = 10_000;
/// Largest bulk: the sum of its messages as stored, with their keys. A transaction of the key space, less room for
/// counters and for what another block commits along with it.
pub const BULK_BYTES_MAX: usize = TRANSACTION_BYTES_MAX - 64 * 1024;
/// Most messages a dispatcher has in flight, to all consumers of its group.
pub const IN_FLIGHT_MAX: usize = 30_000;
/// Most messages a dispatcher reads ahead, whatever is set.
pub const WINDOW_MAX: usize = 20_000;
/// Longest source of a routing rule, in bytes.
pub const RULE_BYTES_MAX: usize = 2 * 1024;
/// Deepest nesting of a routing rule, in operators, calls and selections. Evaluation goes by recursion, and runs on
/// whatever stack the consumer has.
pub const RULE_DEPTH_MAX: usize = 24;
/// Longest reason kept with a dead letter, in bytes; what is beyond is cut off.
pub const REASON_BYTES_MAX: usize = 1024;
