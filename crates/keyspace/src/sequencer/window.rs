//! The last seconds of writes: what conflict detection looks at.
//!
//! ```text
//!   points: hash of a key -> the revision that last wrote it        is this key newer than my read?  one look
//!   slices: [ 4,096 writes | 4,096 writes | ... | the active one ]  is anything in this range?       newest first
//! ```
//!
//! A key that was read costs one look at a table of hashes. Two keys of one hash can only make a transaction read
//! again, and the hash is seeded, so nobody can aim for it. A range that was read is held against the keys written
//! since, in the order they were written: few, unless the transaction took long. A slice that is walked often is sorted.
//!
//! A *clear* (a range delete) is one entry, whatever it removes: it counts as a write of every key in its range.
//!
//! It is bounded in time and in bytes. What falls out raises the *floor*: a transaction that read below the floor can no
//! longer be judged and is refused as too old.

use super::slice::Slice;
use crate::{
    KeyRange,
    hashing::Hashing,
    limits::TRANSACTION_AGE_MAX,
    planted::{self, Bug},
};
use outrigger_kernel::Mono;
use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    hash::{BuildHasherDefault, Hasher},
};

/// Most memory the window may take; a burst that needs more shortens how long a transaction may take.
pub const WINDOW_BYTES_MAX: usize = 40 * 1024 * 1024;

/// About what one entry costs beside its bytes: its place in a slice, and in the table of hashes at its emptiest.
const ENTRY_OVERHEAD_BYTES: usize = 64;

#[derive(Debug)]
pub(super) struct Window {
    hashing: Hashing,
    points: HashMap<u64, u64, BuildHasherDefault<Already>>,
    /// Never empty; the last one is being filled.
    slices: VecDeque<Slice>,
    commits: VecDeque<Commit>,
    /// Clears in all slices.
    clears: usize,
    floor: u64,
    bytes: usize,
    bytes_max: usize,
}

/// How much of the slices a commit takes.
#[derive(Debug)]
struct Commit {
    revision: u64,
    at: Mono,
    entries: usize,
    bytes: usize,
}

impl Window {
    pub(super) fn new(floor: u64) -> Self {
        Self {
            hashing: Hashing::default(),
            points: HashMap::default(),
            slices: VecDeque::from([Slice::default()]),
            commits: VecDeque::new(),
            clears: 0,
            floor,
            bytes: 0,
            bytes_max: WINDOW_BYTES_MAX,
        }
    }

    #[cfg(test)]
    pub(super) fn bounded(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::new(0) }
    }

    /// The oldest revision a transaction may have read at.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Takes note of what the commit `revision` wrote.
    pub(super) fn record<'a>(
        &mut self,
        revision: u64,
        at: Mono,
        keys: impl Iterator<Item = &'a [u8]>,
        clears: &[KeyRange],
    ) {
        let clears = if planted::is(Bug::ForgetClears) { &[] } else { clears };
        let mut commit = Commit { revision, at, entries: clears.len(), bytes: 0 };
        for clear in clears {
            commit.bytes += range_bytes(clear);
            self.active().push_clear(revision, clear);
        }
        self.clears += clears.len();
        for key in keys {
            let hash = self.hashing.of(key);
            self.points.insert(hash, revision);
            self.active().push_key(revision, hash, key);
            commit.entries += 1;
            commit.bytes += key.len() + ENTRY_OVERHEAD_BYTES;
        }
        self.bytes += commit.bytes;
        self.commits.push_back(commit);
        self.forget(at);
    }

    /// The slice to write to.
    fn active(&mut self) -> &mut Slice {
        if self.slices.back().is_none_or(Slice::is_full) {
            if let Some(full) = self.slices.back_mut() {
                full.seal();
            }
            self.slices.push_back(Slice::default());
        }
        let last = self.slices.len() - 1;
        &mut self.slices[last]
    }

    /// Lets go of what is too old to matter, or too much.
    pub(super) fn forget(&mut self, now: Mono) {
        while let Some(oldest) = self.commits.front() {
            let aged = now.since(oldest.at) > TRANSACTION_AGE_MAX;
            if !aged && self.bytes <= self.bytes_max {
                break;
            }
            let Some(oldest) = self.commits.pop_front() else { break };
            for _ in 0..oldest.entries {
                self.forget_entry(oldest.revision);
            }
            self.bytes -= oldest.bytes;
            self.floor = oldest.revision;
        }
    }

    fn forget_entry(&mut self, revision: u64) {
        while self.slices.len() > 1 && self.slices[0].is_spent() {
            self.slices.pop_front();
        }
        match self.slices[0].forget_first() {
            None => self.clears -= 1,
            Some(hash) => {
                // Unless it was written again since.
                if let Entry::Occupied(point) = self.points.entry(hash)
                    && *point.get() == revision
                {
                    point.remove();
                }
            }
        }
    }

    pub(super) fn key_changed(&self, key: &[u8], since: u64) -> bool {
        if planted::is(Bug::IgnoreReadKeys) {
            return false;
        }
        let since = since + u64::from(planted::is(Bug::OverlookTheNext));
        let hash = self.hashing.of(key);
        self.points.get(&hash).is_some_and(|revision| *revision > since)
            || (self.clears > 0 && self.newer(since).any(|slice| slice.has_cleared(key, since)))
    }

    pub(super) fn range_changed(&mut self, range: &KeyRange, since: u64) -> bool {
        if range.is_empty() || planted::is(Bug::IgnoreReadRanges) {
            return false;
        }
        let since = since + u64::from(planted::is(Bug::OverlookTheNext));
        let mut newer = self.slices.iter_mut().rev().take_while(|slice| slice.last() > since);
        newer.any(|slice| slice.has_changed(range, since))
    }

    /// Slices with something newer than `since`, the newest first.
    fn newer(&self, since: u64) -> impl Iterator<Item = &Slice> {
        self.slices.iter().rev().take_while(move |slice| slice.last() > since)
    }
}

fn range_bytes(range: &KeyRange) -> usize {
    ENTRY_OVERHEAD_BYTES * 3 + range.start.len() + range.end.as_ref().map_or(0, |end| end.len())
}

/// What is hashed already is not hashed again.
#[derive(Default)]
struct Already(u64);

impl Hasher for Already {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests;
