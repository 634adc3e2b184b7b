//! Bounds a transaction must keep before anything else is asked of it.

use crate::{CommitError, KeyRange, Stamp, Transaction, Write, limits};
use bytes::Bytes;

/// Checks every bound that needs no look at the data; answers how large the transaction is.
pub(super) fn check(transaction: &Transaction) -> Result<usize, CommitError> {
    let mut bytes: usize = transaction.read_keys.iter().map(|key| counted(key.len())).sum();
    bytes += transaction.read_ranges.iter().map(range_bytes).sum::<usize>();
    let mut stamped = 0;
    for write in &transaction.writes {
        bytes += match write {
            Write::Put { key, value, .. } => entry_bytes(key.len(), value)?,
            Write::Delete { key } | Write::Add { key, .. } => key_bytes(key.len())?,
            Write::DeleteRange { range } => range_bytes(range),
            Write::PutStamped { prefix, suffix, value, .. } => {
                stamped += 1;
                entry_bytes(prefix.len() + Stamp::BYTES + suffix.len(), value)?
            }
        };
    }
    if stamped > limits::STAMPED_WRITES_MAX {
        return Err(CommitError::TooManyStamped { count: stamped });
    }
    if bytes > limits::TRANSACTION_BYTES_MAX {
        return Err(CommitError::TransactionTooLarge { bytes });
    }
    Ok(bytes)
}

/// What something of `bytes` counts for.
fn counted(bytes: usize) -> usize {
    bytes + limits::OVERHEAD_BYTES
}

fn key_bytes(bytes: usize) -> Result<usize, CommitError> {
    match bytes {
        0 => Err(CommitError::KeyEmpty),
        1..=limits::KEY_BYTES_MAX => Ok(counted(bytes)),
        _ => Err(CommitError::KeyTooLong { bytes }),
    }
}

fn entry_bytes(key: usize, value: &Bytes) -> Result<usize, CommitError> {
    let key = key_bytes(key)?;
    if value.len() > limits::VALUE_BYTES_MAX {
        return Err(CommitError::ValueTooLarge { bytes: value.len() });
    }
    Ok(key + value.len())
}

fn range_bytes(range: &KeyRange) -> usize {
    counted(range.start.len() + range.end.as_ref().map_or(0, Bytes::len))
}
