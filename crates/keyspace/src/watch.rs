//! Who waits for which range: the registry behind [`crate::KeySpace::watch`], shared by all engines.
//!
//! ```text
//!   notify(keys, clears)  1. which cells does it touch, and as of which revision?   2. raise each once, and wake
//!   cells: "abc" -> [range, its watches], ...   filed under the longest prefix that all keys of the range begin with
//! ```
//!
//! A watch holds one number: the last revision that touched its range. A change raises the number and wakes whoever
//! waits, so a slow reader costs nobody anything and changes in between fold into one wake-up. One call of
//! [`Registry::notify`] raises a watch at most once, however many commits it tells of: a group of commits is one wake-up.
//!
//! For a changed key the registry looks up the key's own prefixes, only of lengths that are in use: the cost goes by the
//! number of distinct lengths (a handful, since lengths come from tables' layouts), not by the number of watchers. For a
//! cleared range it looks at the prefixes of its start and at all prefixes inside it.
//!
//! Engines make a commit visible first and call [`Registry::notify`] then: whoever is woken finds the change.

mod filed;
mod slot;

#[cfg(test)]
pub(crate) mod tests;

use crate::{
    KeyRange, Watch, WatchSource,
    planted::{self, Bug},
};
use bytes::Bytes;
use filed::{Filed, Place};
use outrigger_kernel::BoxFuture;
use slot::Slot;
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The standing watches of one engine. Cheap to clone; clones are the same registry.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<Filed>>);

impl Registry {
    /// Registers interest in `range` until the watch is dropped.
    #[must_use]
    pub fn watch(&self, range: KeyRange) -> Watch {
        let slot = Arc::new(Slot::default());
        let place = self.filed().file(range, slot.clone());
        Watch::new(0, Box::new(Source { slot, place, registry: self.clone() }))
    }

    /// Tells which keys have changed and which ranges were cleared, each as of which revision; all of it visible by now.
    /// Best called once for all commits that became visible together.
    pub fn notify<'a>(
        &self,
        changed: impl IntoIterator<Item = (u64, &'a Bytes)>,
        cleared: impl IntoIterator<Item = (u64, &'a KeyRange)>,
    ) {
        let mut filed = self.filed();
        if filed.is_empty() {
            return;
        }
        for (revision, key) in changed {
            filed.touch_key(revision, key);
            if planted::is(Bug::WakePerCommit) {
                filed.wake_touched();
            }
        }
        for (revision, range) in cleared {
            if planted::is(Bug::ClearsWakeNobody) {
                continue;
            }
            filed.touch_range(revision, range);
        }
        filed.wake_touched();
    }

    fn filed(&self) -> MutexGuard<'_, Filed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.filed().fmt(f)
    }
}

struct Source {
    slot: Arc<Slot>,
    place: Place,
    registry: Registry,
}

impl WatchSource for Source {
    fn newer_than(&mut self, seen: u64) -> BoxFuture<'_, u64> {
        Box::pin(std::future::poll_fn(move |context| self.slot.poll_newer_than(seen, context)))
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.registry.filed().remove(self.place, &self.slot);
    }
}
