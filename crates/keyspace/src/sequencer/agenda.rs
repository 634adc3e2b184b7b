//! Which key expires when: an ordered index by time, and the way back from a key to its time.

use bytes::Bytes;
use outrigger_kernel::Wall;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

#[derive(Debug, Default)]
pub(super) struct Agenda {
    by_time: BTreeSet<(Wall, Arc<[u8]>)>,
    by_key: HashMap<Arc<[u8]>, Wall>,
}

impl Agenda {
    /// Sets or clears when `key` expires; answers when it would have until now.
    pub(super) fn set(&mut self, key: &Bytes, expires_at: Option<Wall>) -> Option<Wall> {
        // Most keys never expire: without any that do, this is one look at an empty map.
        let before = if self.by_key.is_empty() { None } else { self.by_key.remove_entry(&key[..]) };
        let before = before.map(|(key, at)| {
            self.by_time.remove(&(at, key));
            at
        });
        if let Some(at) = expires_at {
            // A copy of its own: `key` may be a slice that keeps a large request alive.
            let key: Arc<[u8]> = Arc::from(&key[..]);
            self.by_time.insert((at, key.clone()));
            self.by_key.insert(key, at);
        }
        before
    }

    /// When `key` expires.
    pub(super) fn get(&self, key: &[u8]) -> Option<Wall> {
        self.by_key.get(key).copied()
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

    /// Takes out the keys due at or before `time`, the earliest first: at most `count` of them.
    pub(super) fn take_due(&mut self, time: Wall, count: usize) -> Vec<(Wall, Bytes)> {
        let mut taken: Vec<(Wall, Bytes)> = Vec::new();
        while self.next().is_some_and(|at| at <= time) && taken.len() < count {
            if let Some((at, key)) = self.by_time.pop_first() {
                self.by_key.remove(&key);
                taken.push((at, Bytes::copy_from_slice(&key)));
            }
        }
        taken
    }
}
