//! What a run says about keys: a row, or an extent of keys that are gone.
//!
//! Two families of keys share every run. One leading byte tells them apart, so that the rows of each lie together:
//!
//! | first byte | then | payload                                                                  |
//! |------------|------|--------------------------------------------------------------------------|
//! | `00`       | key  | when the key expires (8 bytes, little-endian)                            |
//! | `01`       | key  | the value, as everywhere ([`crate::record`])                             |
//!
//! The first is there so that a start need not read all rows to know what expires. It is ordered by key, not by time, so
//! that a key put again and again leaves one entry behind, not many; and it may be out of date where a key that expired was
//! put to stay.
//!
//! The invariants are those of a layer in memory: cells are ordered by where they start, extents never overlap, and no
//! cell starts inside another's extent.

use super::values::{self, Values};
use crate::record::{self, Place};
use bytes::Bytes;
use outrigger_kernel::Wall;
use outrigger_keyspace::{KeyRange, ReadError, Value, limits::KEY_BYTES_MAX};
use std::sync::Arc;

/// What the keys of a family begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// When keys expire.
    Expiries = 0,
    Rows = 1,
}

/// Past every key of every family.
pub(super) const END: Bytes = Bytes::from_static(&[Family::Rows as u8 + 1]);

/// A cell and where it starts; keys carry the byte of their family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Bytes,
    pub(super) item: Item,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// The key has this payload.
    Put(Bytes),
    /// Every key from the entry's up to this one (excluded) is absent.
    Gone(Bytes),
}

/// A cell that is about to be written; its parts may lie anywhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'a> {
    pub(super) key: &'a [u8],
    pub(super) says: Says<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Says<'a> {
    /// The key has this payload, which is in two pieces.
    Put(&'a [u8], &'a [u8]),
    /// As [`Item::Gone`].
    Gone(&'a [u8]),
}

impl Written<'_> {
    /// Where its value is that has this head, if it stands apart.
    pub(super) fn place(&self, head: &[u8]) -> Option<Place> {
        if Family::Rows.has(self.key) { record::place_of(head) } else { None }
    }

    /// Roughly the bytes it takes in a run.
    pub(super) fn bytes(&self) -> usize {
        let more = match self.says {
            Says::Put(head, rest) => head.len() + rest.len(),
            Says::Gone(end) if is_point(self.key, end) => 0,
            Says::Gone(end) => end.len(),
        };
        self.key.len() + more
    }
}

impl Entry {
    /// As it is written.
    pub(super) fn written(&self) -> Written<'_> {
        let says = match &self.item {
            Item::Put(payload) => Says::Put(payload, &[]),
            Item::Gone(end) => Says::Gone(end),
        };
        Written { key: &self.key, says }
    }

    /// Whether it says something about `key`, which is not before the entry's own.
    pub(super) fn reaches(&self, key: &[u8]) -> bool {
        match &self.item {
            Item::Put(_) => self.key == key,
            Item::Gone(end) => key < &end[..],
        }
    }

    /// Roughly the bytes it takes in a run.
    pub(super) fn bytes(&self) -> usize {
        self.written().bytes()
    }
}

/// Whether the extent from `start` to `end` is that of one key.
pub(super) fn is_point(start: &[u8], end: &[u8]) -> bool {
    end.len() == start.len() + 1 && end[start.len()] == 0 && end.starts_with(start)
}

/// The key right after `key`: nothing sorts between them.
pub(super) fn after(key: &[u8]) -> Bytes {
    let mut after = Vec::with_capacity(key.len() + 1);
    after.extend_from_slice(key);
    after.push(0);
    after.into()
}

/// A bound of a range, cut to what can matter: no key is longer than [`KEY_BYTES_MAX`], so all keys lie on the same side of
/// it and of its first bytes.
pub(super) fn cut(bound: &[u8]) -> &[u8] {
    bound.get(..=KEY_BYTES_MAX).unwrap_or(bound)
}

impl Family {
    /// A key with its family.
    pub(super) fn key(self, key: &[u8]) -> Bytes {
        let mut whole = Vec::with_capacity(key.len() + 1);
        whole.push(self as u8);
        whole.extend_from_slice(key);
        whole.into()
    }

    /// The end of an extent; no end means to the end of the map.
    pub(super) fn end(self, end: Option<&[u8]>) -> Bytes {
        end.map_or_else(|| Bytes::copy_from_slice(&[self as u8 + 1]), |end| self.key(end))
    }

    /// Where the keys of `range` lie.
    pub(super) fn range(self, range: &KeyRange) -> (Bytes, Bytes) {
        (self.key(&range.start), self.end(range.end.as_deref()))
    }

    /// Whether a file that begins with `first` may hold keys of this family.
    pub(super) fn reaches(self, first: &[u8]) -> bool {
        first.first().is_some_and(|family| *family <= self as u8)
    }

    /// Whether `key`, with its family, is of this one.
    pub(super) fn has(self, key: &[u8]) -> bool {
        key.first() == Some(&(self as u8))
    }
}

/// The payload that says that a key expires at `due`.
pub(super) fn encode_expiry(due: Wall) -> [u8; 8] {
    due.0.to_le_bytes()
}

/// When a key expires, by its entry among the expiries.
pub(super) fn decode_expiry(payload: &[u8]) -> Result<Wall, ReadError> {
    let due = payload.try_into().map_err(|_| malformed("an expiry"))?;
    Ok(Wall(u64::from_le_bytes(due)))
}

fn malformed(what: &str) -> ReadError {
    ReadError::Damaged(format!("{what} in the index is malformed"))
}

/// A row's value as it was written. The bytes are copied, so that a value kept for long keeps no whole block alive; of one
/// that stands apart they are read from one of `files`.
pub(super) fn decode_row(payload: &[u8], files: &[Arc<Values>]) -> Result<Value, ReadError> {
    match record::decode_stored(payload).map_err(|_| malformed("a row"))? {
        (value, None) => Ok(value),
        (value, Some(place)) => Ok(Value { bytes: values::get(files, &place)?, ..value }),
    }
}

/// When the row with `payload` expires, if it does.
pub(super) fn decode_row_expiry(payload: &[u8]) -> Result<Option<Wall>, ReadError> {
    let head = record::decode_head(payload).map_err(|_| malformed("a row"))?;
    Ok(head.0.expires_at)
}

/// The same for who has no use for damage.
pub(super) fn expiry_of(payload: &[u8]) -> Option<Wall> {
    decode_row_expiry(payload).ok().flatten()
}
