//! Which key expires when: an ordered index by time, and the way back from a key to its time.
//!
//! An entry is a reason to look, not a fact: what a clear took with it still stands here until its time comes, and a
//! store that restores entries may restore some that are overtaken. So whoever acts on one asks the newest state first,
//! and sets what is found there. What must hold is that no key expires *before* its entry says.
//!
//! It need not hold all: from a *horizon* on, nothing is sure. Whoever keeps it that short looks up what comes next in good
//! time, and takes everything in meanwhile; what is too much even then is forgotten, and the horizon comes before it.

use crate::{hashing::Hashing, limits::OVERHEAD_BYTES};
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
    /// What expires from here on is not all in it.
    horizon: Option<(Wall, Arc<[u8]>)>,
    /// Somebody is looking up what lies beyond the horizon: everything is taken in.
    is_filling: bool,
    /// But for what expires from here on: that was forgotten meanwhile.
    forgotten: Option<(Wall, Arc<[u8]>)>,
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
        let is_beyond = |(from, first): &(Wall, Arc<[u8]>)| {
            expires_at.is_some_and(|at| (at, key) >= (*from, &first[..]))
        };
        let end = if self.is_filling { &self.forgotten } else { &self.horizon };
        if end.as_ref().is_some_and(is_beyond) {
            return;
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
    pub(super) fn len(&self) -> usize {
        debug_assert_eq!(self.by_time.len(), self.by_key.len(), "one entry per key");
        self.by_key.len()
    }

    /// When the last key expires that is in it.
    pub(super) fn last(&self) -> Option<Wall> {
        self.by_time.last().map(|(at, _)| *at)
    }

    /// Forgets the entry that expires last, which is the horizon from then on if there is none before it.
    pub(super) fn forget_last(&mut self) {
        let Some(last) = self.by_time.pop_last() else { return };
        self.by_key.remove(&last.1);
        if self.is_filling {
            self.forgotten = earlier(self.forgotten.take(), Some(last.clone()));
        }
        self.horizon = earlier(self.horizon.take(), Some(last));
    }

    /// Whether the entry that expires last lies beyond the horizon.
    pub(super) fn reaches_beyond(&self) -> bool {
        self.horizon.as_ref().is_some_and(|horizon| self.by_time.last() >= Some(horizon))
    }

    /// From here on what expires is not all in it.
    pub(super) fn horizon(&self) -> Option<Wall> {
        self.horizon.as_ref().map(|(at, _)| *at)
    }

    /// Takes everything in from here on; answers the horizon beyond which expiries have to be looked up, if there is one.
    pub(super) fn fill(&mut self) -> Option<(Wall, Bytes)> {
        let (at, key) = self.horizon.as_ref()?;
        (self.is_filling, self.forgotten) = (true, None);
        Some((*at, Bytes::copy_from_slice(key)))
    }

    /// Everything has been told that expires before `horizon`. What was taken in beyond it does no harm.
    pub(super) fn end_filling(&mut self, horizon: Option<(Wall, Bytes)>) {
        let horizon = horizon.map(|(at, key)| (at, Arc::from(&key[..])));
        self.horizon = earlier(horizon, self.forgotten.take());
        self.is_filling = false;
    }

    /// When the first key after `time` expires.
    pub(super) fn next_after(&self, time: Wall) -> Option<Wall> {
        let after = (Wall(time.0.saturating_add(1)), Arc::from([]));
        let next = self.by_time.range(after..).next().map(|(at, _)| *at);
        next.into_iter().chain(self.horizon().filter(|horizon| *horizon > time)).min()
    }

    /// When the next key expires, as far as that is known: not before.
    pub(super) fn next(&self) -> Option<Wall> {
        self.first().into_iter().chain(self.horizon()).min()
    }

    /// When the first key expires that is in it.
    pub(super) fn first(&self) -> Option<Wall> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The keys due at or before `time`, the earliest first: at most `count` of them, and no more than count for `bytes`
    /// unless it is one alone.
    pub(super) fn due(&self, time: Wall, count: usize, bytes: usize) -> Vec<(Wall, Bytes)> {
        let mut taken = 0;
        let fits = |(_, key): &&(Wall, Arc<[u8]>)| {
            let is_first = taken == 0;
            taken += key.len() + OVERHEAD_BYTES;
            is_first || taken <= bytes
        };
        let due = self.by_time.iter().take_while(|(at, _)| *at <= time).take(count);
        due.take_while(fits).map(|(at, key)| (*at, Bytes::copy_from_slice(key))).collect()
    }

    /// What the keys due at or before `time` count for, looked at up to `bytes`.
    pub(super) fn due_bytes(&self, time: Wall, bytes: usize) -> usize {
        let mut due = self.by_time.iter().take_while(|(at, _)| *at <= time);
        let counted = due.try_fold(0, |sum: usize, (_, key)| {
            Some(sum + key.len() + OVERHEAD_BYTES).filter(|sum| *sum < bytes)
        });
        counted.unwrap_or(bytes)
    }
}

/// The earlier of two horizons; none is later than any.
fn earlier(
    one: Option<(Wall, Arc<[u8]>)>,
    other: Option<(Wall, Arc<[u8]>)>,
) -> Option<(Wall, Arc<[u8]>)> {
    one.into_iter().chain(other).min()
}
