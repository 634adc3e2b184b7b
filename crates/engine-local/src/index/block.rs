//! A block: a few neighbouring cells of a run, read and checked as one piece.
//!
//! ```text
//!   cell .. cell | where each cell begins (4 bytes each) | how many (4 bytes)
//!   cell: kind (1) | key length (2) | payload length (4) | key | payload       integers little-endian
//! ```
//!
//! A block carries no checksum of its own: whoever points at it knows it (the run's table of blocks; for that table the
//! manifest). So a block that was lost, misplaced or left over from another file is found like one with a flipped bit.

use super::cell::{Entry, Item, Says, Written, after, is_point};
use bytes::Bytes;
use outrigger_keyspace::ReadError;

const KIND_PUT: u8 = 1;
const KIND_GONE: u8 = 2;
const KIND_GONE_ONE: u8 = 3;
const CELL_HEAD_BYTES: usize = 7;

/// The checksum of bytes that lie at `at` of the file `file`: the same bytes elsewhere have another.
pub(super) fn checksum(bytes: &[u8], file: u64, at: u64) -> u64 {
    let seed = file.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at;
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed)
}

/// A block being filled, at the end of what its file gets next.
#[derive(Debug, Default)]
pub(super) struct Filling {
    /// How long its cells are.
    bytes: usize,
    begins: Vec<u32>,
    first: Vec<u8>,
}

impl Filling {
    /// Takes a cell, which must come after those taken before, and appends it to `to`.
    pub(super) fn push(&mut self, cell: &Written<'_>, to: &mut Vec<u8>) {
        if self.begins.is_empty() {
            self.first.clear();
            self.first.extend_from_slice(cell.key);
        }
        self.begins.push(u32::try_from(self.bytes).unwrap_or(u32::MAX));
        let (kind, payload): (u8, [&[u8]; 2]) = match cell.says {
            Says::Put(head, rest) => (KIND_PUT, [head, rest]),
            Says::Gone(end) if is_point(cell.key, end) => (KIND_GONE_ONE, [&[], &[]]),
            Says::Gone(end) => (KIND_GONE, [end, &[]]),
        };
        let payload_bytes = payload[0].len() + payload[1].len();
        let mut head = [0; CELL_HEAD_BYTES];
        head[0] = kind;
        let key_bytes = u16::try_from(cell.key.len()).unwrap_or(u16::MAX);
        head[1..3].copy_from_slice(&key_bytes.to_le_bytes());
        let length = u32::try_from(payload_bytes).unwrap_or(u32::MAX);
        head[3..].copy_from_slice(&length.to_le_bytes());
        for part in [&head, cell.key, payload[0], payload[1]] {
            to.extend_from_slice(part);
        }
        self.bytes += CELL_HEAD_BYTES + cell.key.len() + payload_bytes;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.begins.is_empty()
    }

    /// How long it is so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.begins.len() * 4
    }

    /// The first key of the block.
    pub(super) fn first(&self) -> &[u8] {
        &self.first
    }

    /// Ends the block in `to`, answers its length, and begins the next one.
    pub(super) fn finish(&mut self, to: &mut Vec<u8>) -> usize {
        for begin in &self.begins {
            to.extend_from_slice(&begin.to_le_bytes());
        }
        let count = u32::try_from(self.begins.len()).unwrap_or(u32::MAX);
        to.extend_from_slice(&count.to_le_bytes());
        let bytes = self.bytes() + 4;
        self.bytes = 0;
        self.begins.clear();
        bytes
    }
}

/// A block as it was read; its checksum has been looked at.
#[derive(Clone, Debug)]
pub(super) struct Block {
    bytes: Bytes,
    /// Where the cells end.
    cells_end: usize,
    count: usize,
}

impl Block {
    pub(super) fn new(bytes: Bytes) -> Result<Self, ReadError> {
        let (rest, count) = bytes.split_last_chunk().ok_or_else(malformed)?;
        let count = u32::from_le_bytes(*count) as usize;
        let cells_end = rest.len().checked_sub(count.saturating_mul(4)).ok_or_else(malformed)?;
        if count == 0 {
            return Err(malformed());
        }
        Ok(Self { bytes, cells_end, count })
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    fn begin(&self, index: usize) -> Option<usize> {
        let at = self.cells_end + index * 4;
        Some(u32::from_le_bytes(self.bytes.get(at..at + 4)?.try_into().ok()?) as usize)
    }

    /// The kind of a cell and where its key and payload lie.
    fn parts(&self, index: usize) -> Option<(u8, usize, usize, usize)> {
        let begin = self.begin(index)?;
        let head = self.bytes.get(begin..begin + CELL_HEAD_BYTES)?;
        let key = begin + CELL_HEAD_BYTES;
        let payload = key + usize::from(u16::from_le_bytes(head[1..3].try_into().ok()?));
        let end = payload + u32::from_le_bytes(head[3..7].try_into().ok()?) as usize;
        (end <= self.cells_end).then_some((head[0], key, payload, end))
    }

    /// The key of the cell `index`.
    pub(super) fn key(&self, index: usize) -> Result<&[u8], ReadError> {
        let (_, key, payload, _) = self.parts(index).ok_or_else(malformed)?;
        self.bytes.get(key..payload).ok_or_else(malformed)
    }

    /// The cell `index`; it shares the block's memory.
    pub(super) fn entry(&self, index: usize) -> Result<Entry, ReadError> {
        let (kind, key, payload, end) = self.parts(index).ok_or_else(malformed)?;
        let key = self.bytes.slice(key..payload);
        let item = match kind {
            KIND_PUT => Item::Put(self.bytes.slice(payload..end)),
            KIND_GONE => Item::Gone(self.bytes.slice(payload..end)),
            KIND_GONE_ONE => Item::Gone(after(&key)),
            _ => return Err(malformed()),
        };
        Ok(Entry { key, item })
    }

    /// How many cells start before `key`, or at it when `or_at`.
    pub(super) fn before(&self, key: &[u8], or_at: bool) -> Result<usize, ReadError> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            let this = self.key(middle)?;
            if this < key || (or_at && this == key) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

fn malformed() -> ReadError {
    ReadError::Damaged("a block of the index is malformed".into())
}
