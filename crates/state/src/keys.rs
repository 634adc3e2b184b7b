//! The one table of this block.
//!
//! | number | key | value |
//! |---|---|---|
//! | `0x0100` | region (string), key (raw bytes to the end) | [`Entry`] |
//!
//! The key comes last and without a terminator, so every string prefix of a key is a byte prefix of its stored form:
//! listing and deleting by prefix is one range.

use crate::records::Entry;
use bytes::Bytes;
use outrigger_keyspace::{Corrupt, KeyPart, KeyRange, KeyReader, Table, limits};

/// Every state entry of every region.
pub(crate) const ENTRIES: Table<(String, Tail), Entry> = Table::new(0x0100);

/// The last part of a key: UTF-8 to the end, unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tail(pub(crate) String);

impl KeyPart for Tail {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }
    fn read(reader: &mut KeyReader<'_>) -> Result<Self, Corrupt> {
        let mut bytes = Vec::new();
        while !reader.is_done() {
            bytes.push(u8::read(reader)?);
        }
        String::from_utf8(bytes).map(Self).map_err(|_| Corrupt("not UTF-8"))
    }
}

/// The stored keys of one region, with what they all begin with worked out once.
#[derive(Clone, Debug)]
pub(crate) struct Region(Bytes);

impl Region {
    pub(crate) fn new(name: String) -> Self {
        Self(ENTRIES.start_with(&(name,)))
    }

    /// The longest key that still fits into a stored key.
    pub(crate) fn key_bytes_max(&self) -> usize {
        limits::KEY_BYTES_MAX.saturating_sub(self.0.len())
    }

    /// The stored form of `key`; the same as `ENTRIES.key`, in one allocation and without an owned key.
    pub(crate) fn key(&self, key: &str) -> Bytes {
        let mut stored = Vec::with_capacity(self.0.len() + key.len());
        stored.extend_from_slice(&self.0);
        stored.extend_from_slice(key.as_bytes());
        stored.into()
    }

    /// All stored keys whose key begins with `prefix`.
    pub(crate) fn range(&self, prefix: &str) -> KeyRange {
        KeyRange::prefix(self.key(prefix))
    }

    /// The key inside a stored key of this region.
    pub(crate) fn strip(&self, stored: &[u8]) -> Result<String, Corrupt> {
        let key = stored.strip_prefix(&self.0[..]).ok_or(Corrupt("key of another region"))?;
        String::from_utf8(key.to_vec()).map_err(|_| Corrupt("not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::{ENTRIES, Region, Tail};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn region_agrees_with_the_table(region: String, key: String) {
            let stored = Region::new(region.clone()).key(&key);
            prop_assert_eq!(&stored, &ENTRIES.key(&(region.clone(), Tail(key.clone()))));
            let parts = ENTRIES.decode_key(&stored).unwrap();
            prop_assert_eq!(parts, (region.clone(), Tail(key.clone())));
            prop_assert_eq!(Region::new(region).strip(&stored).unwrap(), key);
        }

        #[test]
        fn a_prefix_is_a_range(region in "[a-b\0]{0,3}", other in "[a-b\0]{0,3}", prefix in "[a-b\u{ff}]{0,3}", key in "[a-b\u{ff}]{0,4}") {
            let range = Region::new(region.clone()).range(&prefix);
            let inside = region == other && key.starts_with(&prefix);
            prop_assert_eq!(range.contains(&Region::new(other).key(&key)), inside);
        }
    }
}
