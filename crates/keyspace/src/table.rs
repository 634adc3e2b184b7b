//! A table: a numbered region of the key space whose keys are tuples and whose values are records.
//!
//! Each block declares its tables once, in its `keys.rs`. A number, once used, is never used for anything else.

use crate::{Corrupt, KeyRange, KeyReader, KeyTuple, Stamp};
use bytes::Bytes;
use std::marker::PhantomData;

/// What a table stores.
pub trait Record: Sized {
    /// The stored form.
    fn encode_record(&self) -> Bytes;
    /// The inverse of [`Record::encode_record`].
    ///
    /// # Errors
    /// [`Corrupt`] when the bytes are not a stored record.
    fn decode_record(bytes: Bytes) -> Result<Self, Corrupt>;
}

impl<M: prost::Message + Default> Record for M {
    fn encode_record(&self) -> Bytes {
        self.encode_to_vec().into()
    }
    fn decode_record(bytes: Bytes) -> Result<Self, Corrupt> {
        M::decode(bytes).map_err(|_| Corrupt("not a record of this table"))
    }
}

/// A numbered region of the key space: keys are `K`, values are `V`.
pub struct Table<K, V> {
    number: u16,
    shape: PhantomData<fn() -> (K, V)>,
}

impl<K: KeyTuple, V: Record> Table<K, V> {
    /// Declares the table with its number.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self { number, shape: PhantomData }
    }

    /// The stored key of `key`.
    #[must_use]
    pub fn key(&self, key: &K) -> Bytes {
        self.start_with(key)
    }

    /// The range of all keys that begin with the parts `prefix`.
    #[must_use]
    pub fn range<P: KeyTuple>(&self, prefix: &P) -> KeyRange {
        KeyRange::prefix(self.start_with(prefix))
    }

    /// The bytes that all keys beginning with the parts `prefix` begin with; what a stamped write puts first.
    #[must_use]
    pub fn start_with<P: KeyTuple>(&self, prefix: &P) -> Bytes {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(&self.number.to_be_bytes());
        prefix.write(&mut out);
        out.into()
    }

    /// The range from just after `stamp` to the end of the keys that begin with `prefix`, for tables whose next part is
    /// a stamp.
    #[must_use]
    pub fn range_after<P: KeyTuple>(&self, prefix: &P, stamp: Stamp) -> KeyRange {
        let whole = self.range(prefix);
        let mut last = self.start_with(prefix).to_vec();
        last.extend_from_slice(&stamp.to_bytes());
        // 0xff past the stamp would miss suffixes; the next stamp is the first key that is after it with any suffix.
        let next = KeyRange::prefix(last).end.unwrap_or_default();
        KeyRange { start: next, end: whole.end }
    }

    /// The parts of a stored key.
    ///
    /// # Errors
    /// [`Corrupt`] when it is not a key of this table.
    pub fn decode_key(&self, stored: &[u8]) -> Result<K, Corrupt> {
        let parts = stored
            .strip_prefix(&self.number.to_be_bytes()[..])
            .ok_or(Corrupt("key of another table"))?;
        let mut reader = KeyReader::new(parts);
        let key = K::read(&mut reader)?;
        if reader.is_done() { Ok(key) } else { Err(Corrupt("trailing bytes")) }
    }

    /// A stored value as a record.
    ///
    /// # Errors
    /// [`Corrupt`] when it is not a record of this table.
    pub fn decode(&self, stored: Bytes) -> Result<V, Corrupt> {
        V::decode_record(stored)
    }
}
