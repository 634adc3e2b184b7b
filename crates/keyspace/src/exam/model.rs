//! The contract written down as naively as possible: a map, and for every key and every cleared range a number that says when it changed.
//!
//! It shares no code with the sequencer on purpose. What it costs does not matter; that it is obviously right does.

use crate::{CommitError, KeyRange, Stamp, Transaction, Value, Write};
use bytes::Bytes;
use outrigger_kernel::Wall;
use std::collections::BTreeMap;

/// A key space without an engine.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// What is there.
    pub map: BTreeMap<Bytes, Value>,
    /// The time of the last commit.
    pub time: Wall,
    /// Grows with every change; not the engine's revision, which may skip.
    pub moment: u64,
    changed_at: BTreeMap<Bytes, u64>,
    cleared_at: Vec<(KeyRange, u64)>,
}

impl Model {
    /// Lets time reach `now`, if anything falls due by it; otherwise nobody can tell whether it did.
    pub fn advance(&mut self, now: Wall) {
        let time = self.time.max(now);
        let is_due = |value: &Value| value.expires_at.is_some_and(|at| at <= time);
        let due: Vec<Bytes> =
            self.map.iter().filter(|(_, v)| is_due(v)).map(|(k, _)| k.clone()).collect();
        for key in due {
            self.time = time;
            self.moment += 1;
            self.set(key, None);
        }
    }

    fn set(&mut self, key: Bytes, value: Option<Value>) {
        self.changed_at.insert(key.clone(), self.moment);
        match value {
            Some(value) => self.map.insert(key, value),
            None => self.map.remove(&key),
        };
    }

    /// Every reason to refuse `transaction`, which read at `read_moment`; none means that it must be accepted.
    #[must_use]
    pub fn reasons_against(&self, transaction: &Transaction, read_moment: u64) -> Vec<CommitError> {
        let mut reasons = Vec::new();
        let changed = |wanted: &dyn Fn(&Bytes) -> bool| {
            self.changed_at.iter().any(|(key, at)| wanted(key) && *at > read_moment)
        };
        // A clear counts for all of its range, for the gaps too.
        let cleared = |wanted: &dyn Fn(&KeyRange) -> bool| {
            self.cleared_at.iter().any(|(range, at)| wanted(range) && *at > read_moment)
        };
        let key_changed =
            |read: &Bytes| changed(&|key| key == read) || cleared(&|clear| clear.contains(read));
        let range_changed = |read: &KeyRange| {
            changed(&|key| read.contains(key))
                || cleared(&|clear| !read.is_empty() && clear.intersects(read))
        };
        if transaction.read_keys.iter().any(key_changed)
            || transaction.read_ranges.iter().any(range_changed)
        {
            reasons.push(CommitError::Conflict);
        }
        if self.clone().apply(&transaction.writes, 0).is_err() {
            reasons.push(CommitError::NotACounter);
        }
        reasons
    }

    /// Applies `writes` as the commit of `revision` at `self.time`.
    ///
    /// # Errors
    /// When a counter is not one; the model is then half changed, so try on a clone.
    pub fn apply(&mut self, writes: &[Write], revision: u64) -> Result<(), CommitError> {
        self.moment += 1;
        let mut index = 0;
        for write in writes {
            match write {
                Write::Put { key, value, expires_at } => {
                    self.put(key.clone(), value.clone(), revision, *expires_at);
                }
                Write::Delete { key } => self.set(key.clone(), None),
                Write::DeleteRange { range } => self.delete_range(range),
                Write::Add { key, delta } => self.add(key, *delta, revision)?,
                Write::PutStamped { prefix, suffix, value, expires_at } => {
                    let stamp = Stamp { revision, index }.to_bytes();
                    index += 1;
                    let key = [&prefix[..], &stamp[..], &suffix[..]].concat();
                    self.put(key.into(), value.clone(), revision, *expires_at);
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, key: Bytes, bytes: Bytes, revision: u64, expires_at: Option<Wall>) {
        let alive = expires_at.is_none_or(|at| at > self.time);
        self.set(key, alive.then_some(Value { bytes, revision, expires_at }));
    }

    fn delete_range(&mut self, range: &KeyRange) {
        if range.is_empty() {
            return;
        }
        self.cleared_at.push((range.clone(), self.moment));
        let inside: Vec<Bytes> =
            self.map.keys().filter(|key| range.contains(key)).cloned().collect();
        for key in inside {
            self.set(key, None);
        }
    }

    fn add(&mut self, key: &Bytes, delta: i64, revision: u64) -> Result<(), CommitError> {
        let (sum, expires_at) = match self.map.get(key) {
            None => (0, None),
            Some(value) => {
                let bytes =
                    <[u8; 8]>::try_from(&value.bytes[..]).map_err(|_| CommitError::NotACounter)?;
                (i64::from_le_bytes(bytes), value.expires_at)
            }
        };
        let sum = Bytes::copy_from_slice(&sum.wrapping_add(delta).to_le_bytes());
        self.put(key.clone(), sum, revision, expires_at);
        Ok(())
    }
}

/// A range without keys is the one thing that can be written and changes nothing.
pub(super) fn changes_something(write: &Write) -> bool {
    !matches!(write, Write::DeleteRange { range } if range.is_empty())
}
