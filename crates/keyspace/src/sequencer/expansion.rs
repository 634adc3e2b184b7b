//! From writes, which say what is wanted, to changes, which say what becomes of each key.
//!
//! Writes apply in order and see the ones before them, so the work is done on a small overlay of the newest state; what
//! stands in the overlay at the end is the plan's changes.

use super::{Change, Latest, bounds};
use crate::{CommitError, KeyRange, ReadError, Stamp, Value, Write};
use bytes::Bytes;
use outrigger_kernel::Wall;
use std::collections::BTreeMap;

pub(super) struct Expansion<'a> {
    revision: u64,
    time: Wall,
    bytes: usize,
    stamped: u16,
    latest: &'a dyn Latest,
    overlay: BTreeMap<Bytes, Option<Value>>,
}

impl<'a> Expansion<'a> {
    pub(super) fn new(revision: u64, time: Wall, bytes: usize, latest: &'a dyn Latest) -> Self {
        Self { revision, time, bytes, stamped: 0, latest, overlay: BTreeMap::new() }
    }

    pub(super) fn run(mut self, writes: Vec<Write>) -> Result<Vec<Change>, CommitError> {
        for write in writes {
            match write {
                Write::Put { key, value, expires_at } => self.put(key, value, expires_at),
                Write::Delete { key } => {
                    self.overlay.insert(key, None);
                }
                Write::DeleteRange { range } => self.delete_range(&range)?,
                Write::Add { key, delta } => self.add(key, delta)?,
                Write::PutStamped { prefix, suffix, value, expires_at } => {
                    let stamp = Stamp { revision: self.revision, index: self.stamped };
                    self.stamped = self.stamped.saturating_add(1);
                    let key = [&prefix[..], &stamp.to_bytes()[..], &suffix[..]].concat();
                    self.put(key.into(), value, expires_at);
                }
            }
        }
        let change = |(key, value)| Change { key, value, expiry_before: None };
        Ok(self.overlay.into_iter().map(change).collect())
    }

    /// A value that is due already is never seen by anybody: the key is absent from this commit on.
    fn put(&mut self, key: Bytes, bytes: Bytes, expires_at: Option<Wall>) {
        let alive = expires_at.is_none_or(|at| at > self.time);
        let value = alive.then_some(Value { bytes, revision: self.revision, expires_at });
        self.overlay.insert(key, value);
    }

    /// A counter keeps the expiry it was put with.
    fn add(&mut self, key: Bytes, delta: i64) -> Result<(), CommitError> {
        let before = match self.overlay.get(&key) {
            Some(seen) => seen.clone(),
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
        self.put(key, bytes, expires_at);
        Ok(())
    }

    /// Removes what is there, key by key: an engine need not know ranges, and a reader of a gap is left alone. The keys
    /// removed count towards the transaction's size, or one small write could hold up everybody for minutes.
    fn delete_range(&mut self, range: &KeyRange) -> Result<(), CommitError> {
        if range.is_empty() {
            return Ok(());
        }
        for (key, value) in &mut self.overlay {
            if range.contains(key) {
                *value = None;
            }
        }
        let Self { overlay, bytes, latest, .. } = self;
        let mut verdict = Ok(0);
        let mut visit = |key: &Bytes| {
            *bytes += bounds::counted(key.len());
            overlay.insert(key.clone(), None);
            verdict = bounds::within(*bytes);
            verdict.is_ok()
        };
        latest.keys(range, &mut visit).map_err(unreadable)?;
        verdict.map(|_| ())
    }
}

fn unreadable(error: ReadError) -> CommitError {
    CommitError::Unavailable(error.to_string())
}
