//! The last seconds of writes: by key, the revision that last touched it. What conflict detection looks at.
//!
//! It is bounded in time and in bytes. What falls out raises the *floor*: a transaction that read below the floor can no
//! longer be judged and is refused as too old.

use crate::{KeyRange, limits::TRANSACTION_AGE_MAX};
use bytes::Bytes;
use outrigger_kernel::Mono;
use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

/// Most memory the window may take; a burst that needs more shortens how long a transaction may take.
pub const WINDOW_BYTES_MAX: usize = 64 * 1024 * 1024;

/// About what one key costs beside its bytes: two handles, a map entry, an allocation.
const KEY_OVERHEAD_BYTES: usize = 96;

#[derive(Debug)]
pub(super) struct Window {
    latest: BTreeMap<Arc<[u8]>, u64>,
    order: VecDeque<Recent>,
    floor: u64,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Recent {
    revision: u64,
    at: Mono,
    keys: Box<[Arc<[u8]>]>,
    bytes: usize,
}

impl Window {
    pub(super) fn new(floor: u64) -> Self {
        Self {
            latest: BTreeMap::new(),
            order: VecDeque::new(),
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

    pub(super) fn record<'a>(
        &mut self,
        revision: u64,
        at: Mono,
        changed: impl Iterator<Item = &'a Bytes>,
    ) {
        // Copies of their own: a key may be a slice that keeps a large request alive.
        let keys: Box<[Arc<[u8]>]> = changed.map(|key| Arc::from(&key[..])).collect();
        let bytes = keys.iter().map(|key| key.len() + KEY_OVERHEAD_BYTES).sum();
        for key in &keys {
            self.latest.insert(key.clone(), revision);
        }
        self.bytes += bytes;
        self.order.push_back(Recent { revision, at, keys, bytes });
        self.forget(at);
    }

    /// Lets go of what is too old to matter, or too much.
    pub(super) fn forget(&mut self, now: Mono) {
        while let Some(oldest) = self.order.front() {
            let aged = now.since(oldest.at) > TRANSACTION_AGE_MAX;
            if !aged && self.bytes <= self.bytes_max {
                break;
            }
            let Some(oldest) = self.order.pop_front() else { break };
            for key in &oldest.keys {
                if self.latest.get(key) == Some(&oldest.revision) {
                    self.latest.remove(key);
                }
            }
            self.bytes -= oldest.bytes;
            self.floor = oldest.revision;
        }
    }

    pub(super) fn key_changed(&self, key: &[u8], since: u64) -> bool {
        self.latest.get(key).is_some_and(|revision| *revision > since)
    }

    pub(super) fn range_changed(&self, range: &KeyRange, since: u64) -> bool {
        if range.is_empty() {
            return false;
        }
        let end = match &range.end {
            Some(end) => Bound::Excluded(&end[..]),
            None => Bound::Unbounded,
        };
        self.latest
            .range::<[u8], _>((Bound::Included(&range.start[..]), end))
            .any(|(_, revision)| *revision > since)
    }
}
