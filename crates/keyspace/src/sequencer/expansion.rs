//! From writes, which say what is wanted, to a plan's clears and changes, which say what becomes of each key.
//!
//! Writes apply in order and see the ones before them, so the work is done on a small overlay of the newest state; what
//! stands in the overlay at the end is the plan's changes. A range delete takes what stands in the overlay and is noted:
//! clears come first, so a key in one that is written afterwards stands in both.

use super::{Change, Latest, clears::Clears};
use crate::{
    CommitError, KeyRange, ReadError, Stamp, Value, Write,
    planted::{self, Bug},
};
use bytes::Bytes;
use outrigger_kernel::Wall;
use std::{collections::BTreeMap, ops::Bound};

pub(super) struct Expansion<'a> {
    revision: u64,
    time: Wall,
    stamped: u16,
    latest: &'a dyn Latest,
    clears: Clears,
    overlay: BTreeMap<Bytes, Option<Value>>,
}

impl<'a> Expansion<'a> {
    pub(super) fn new(revision: u64, time: Wall, latest: &'a dyn Latest) -> Self {
        let (clears, overlay) = (Clears::default(), BTreeMap::new());
        Self { revision, time, stamped: 0, latest, clears, overlay }
    }

    pub(super) fn run(
        mut self,
        writes: Vec<Write>,
    ) -> Result<(Vec<KeyRange>, Vec<Change>), CommitError> {
        let single = writes.len() == 1;
        for write in writes {
            let change = match write {
                Write::Put { key, value, expires_at } => self.put(key, value, expires_at),
                Write::Delete { key } => Change { key, value: None },
                Write::DeleteRange { range } => {
                    self.clear(&range);
                    continue;
                }
                Write::Add { key, delta } => self.add(key, delta)?,
                Write::PutStamped { prefix, suffix, value, expires_at } => {
                    let stamp = Stamp { revision: self.revision, index: self.stamped };
                    self.stamped = self.stamped.saturating_add(1);
                    let key = [&prefix[..], &stamp.to_bytes()[..], &suffix[..]].concat();
                    self.put(key.into(), value, expires_at)
                }
            };
            if single {
                return Ok((Vec::new(), vec![change]));
            }
            self.overlay.insert(change.key, change.value);
        }
        if planted::is(Bug::ClearsLast) {
            let Self { clears, overlay, .. } = &mut self;
            overlay.retain(|key, _| !clears.contains(key));
        }
        let change = |(key, value)| Change { key, value };
        Ok((self.clears.into_ranges(), self.overlay.into_iter().map(change).collect()))
    }

    /// A value that is due already is never seen by anybody: the key is absent from this commit on.
    fn put(&self, key: Bytes, bytes: Bytes, expires_at: Option<Wall>) -> Change {
        let alive = expires_at.is_none_or(|at| at > self.time);
        Change { key, value: alive.then_some(Value { bytes, revision: self.revision, expires_at }) }
    }

    /// A counter keeps the expiry it was put with.
    fn add(&self, key: Bytes, delta: i64) -> Result<Change, CommitError> {
        let before = match self.overlay.get(&key) {
            Some(seen) => seen.clone(),
            None if self.clears.contains(&key) => None,
            None => self.latest.get(&key).map_err(unreadable)?,
        };
        let (sum, expires_at) = match before {
            None => (0, None),
            Some(value) => {
                let bytes = <[u8; 8]>::try_from(&value.bytes[..]);
                (i64::from_le_bytes(bytes.map_err(|_| CommitError::NotACounter)?), value.expires_at)
            }
        };
        let bytes = Bytes::copy_from_slice(&sum.wrapping_add(delta).to_le_bytes());
        Ok(self.put(key, bytes, expires_at))
    }

    fn clear(&mut self, range: &KeyRange) {
        // What an engine writes down of it is no longer than a key.
        let range = range.cut();
        if range.is_empty() {
            return;
        }
        let start = Bound::Included(&range.start[..]);
        let end = range.end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..]));
        let taken: Vec<Bytes> =
            self.overlay.range::<[u8], _>((start, end)).map(|(key, _)| key.clone()).collect();
        for key in &taken {
            self.overlay.remove(key);
        }
        self.clears.add(range);
    }
}

pub(super) fn unreadable(error: ReadError) -> CommitError {
    CommitError::Unavailable(error.to_string())
}
