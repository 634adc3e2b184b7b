//! Which key expires when: an ordered index by time, and the way back from a key to its time.
//!
//! An entry is a reason to look, not a fact: what a clear took with it still stands here until its time comes, and a
//! store that restores entries may restore some that are overtaken. So whoever acts on one asks the newest state first,
//! and sets what is found there. What must hold is that no key expires *before* its entry says.

use crate::hashing::Hashing;
use bytes::Bytes;
use outrigger_kernel::Wall;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

#[derive(Debug, Default)]
pub(super) struct Agenda {
    by_time: BTreeSet<(Wall, Arc<[u8]>)>,
    by_key: HashMap<Arc<[u8]>, Wall, Hashing>,
}

impl Agenda {
    /// Sets or clears when `key` expires: one entry per key, however often it is put.
    pub(super) fn set(&mut self, key: &[u8], expires_at: Option<Wall>) {
        // Most keys never expire: without any that do, this is one look at an empty map.
        if !self.by_key.is_empty()
            && let Some((key, at)) = self.by_key.remove_entry(key)
        {
            self.by_time.remove(&(at, key));
        }
        if let Some(at) = expires_at {
            // A copy of its own: `key` may be a slice that keeps a large request alive.
            let key: Arc<[u8]> = Arc::from(key);
            self.by_time.insert((at, key.clone()));
            self.by_key.insert(key, at);
        }
    }

    /// Sets when `key` may expire, unless that is set to an earlier time.
    pub(super) fn restore(&mut self, key: &[u8], expires_at: Wall) {
        if self.get(key).is_none_or(|at| expires_at < at) {
            self.set(key, Some(expires_at));
        }
    }

    /// When `key` expires, if it does: it may be gone.
    pub(super) fn get(&self, key: &[u8]) -> Option<Wall> {
        self.by_key.get(key).copied()
    }

    /// How many entries it holds.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.by_time.len(), self.by_key.len());
        self.by_key.len()
    }

    /// When the first key after `time` expires.
    pub(super) fn next_after(&self, time: Wall) -> Option<Wall> {
        let after = (Wall(time.0.saturating_add(1)), Arc::from([]));
        self.by_time.range(after..).next().map(|(at, _)| *at)
    }

    /// When the next key expires.
    pub(super) fn next(&self) -> Option<Wall> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The keys due at or before `time`, the earliest first: at most `count` of them.
    pub(super) fn due(&self, time: Wall, count: usize) -> Vec<(Wall, Bytes)> {
        let due = self.by_time.iter().take_while(|(at, _)| *at <= time).take(count);
        due.map(|(at, key)| (*at, Bytes::copy_from_slice(key))).collect()
    }
}
