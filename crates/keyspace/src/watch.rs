//! Who waits for which range: the registry behind [`crate::KeySpace::watch`], shared by all engines.
//!
//! Watches of the same range share a *cell*, which holds one number: the last revision that touched the range. A change
//! overwrites the number and wakes whoever waits, so a slow reader costs nobody anything and changes in between fold
//! into one wake-up.
//!
//! A cell is filed under the longest prefix that all keys of its range begin with. For a changed key the registry looks
//! up the key's own prefixes, only of lengths that are in use: the cost goes by the number of distinct lengths (a
//! handful, since lengths come from tables' layouts), not by the number of watchers.
//!
//! Engines make a commit visible first and call [`Registry::notify`] then: whoever is woken finds the change.

use crate::{KeyRange, Watch, contract::WatchSource};
use bytes::Bytes;
use outrigger_kernel::BoxFuture;
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// The standing watches of one engine. Cheap to clone; clones are the same registry.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<Filed>>);

#[derive(Default)]
struct Filed {
    by_prefix: HashMap<Bytes, Vec<Cell>>,
    /// How many prefixes are filed, by their length.
    lengths: BTreeMap<usize, usize>,
}

struct Cell {
    range: KeyRange,
    latest: watch::Sender<u64>,
}

impl Registry {
    /// Registers interest in `range` until the watch is dropped.
    #[must_use]
    pub fn watch(&self, range: KeyRange) -> Watch {
        let prefix = common_prefix(&range);
        let latest = self.filed().subscribe(&prefix, &range);
        let seen = *latest.borrow();
        let source = Source { latest: Some(latest), range, prefix, registry: self.clone() };
        Watch::new(seen, Box::new(source))
    }

    /// Tells which keys have changed, and as of which revision; all of it visible by now.
    pub fn notify<'a>(&self, changed: impl IntoIterator<Item = (u64, &'a Bytes)>) {
        let filed = self.filed();
        if filed.by_prefix.is_empty() {
            return;
        }
        for (revision, key) in changed {
            filed.notify(revision, key);
        }
    }

    fn filed(&self) -> MutexGuard<'_, Filed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filed {
    fn subscribe(&mut self, prefix: &Bytes, range: &KeyRange) -> watch::Receiver<u64> {
        let cells = self.by_prefix.entry(prefix.clone()).or_default();
        if cells.is_empty() {
            *self.lengths.entry(prefix.len()).or_default() += 1;
        }
        if let Some(cell) = cells.iter().find(|cell| cell.range == *range) {
            return cell.latest.subscribe();
        }
        let (latest, receiver) = watch::channel(0);
        cells.push(Cell { range: range.clone(), latest });
        receiver
    }

    fn notify(&self, revision: u64, key: &[u8]) {
        for (&length, _) in self.lengths.range(..=key.len()) {
            let Some(cells) = self.by_prefix.get(&key[..length]) else { continue };
            for cell in cells.iter().filter(|cell| cell.range.contains(key)) {
                // A commit that touches a range many times wakes its watchers once.
                cell.latest.send_if_modified(|latest| {
                    let newer = *latest < revision;
                    *latest = revision.max(*latest);
                    newer
                });
            }
        }
    }

    /// Drops the cell of `range` unless somebody else still holds it.
    fn sweep(&mut self, prefix: &Bytes, range: &KeyRange) {
        let Some(cells) = self.by_prefix.get_mut(prefix) else { return };
        cells.retain(|cell| cell.range != *range || cell.latest.receiver_count() > 0);
        if !cells.is_empty() {
            return;
        }
        self.by_prefix.remove(prefix);
        if let Some(count) = self.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filed = self.filed();
        let cells: usize = filed.by_prefix.values().map(Vec::len).sum();
        write!(f, "Registry({cells} ranges, {} prefix lengths)", filed.lengths.len())
    }
}

struct Source {
    /// Taken only when dropped.
    latest: Option<watch::Receiver<u64>>,
    range: KeyRange,
    prefix: Bytes,
    registry: Registry,
}

impl WatchSource for Source {
    fn newer_than(&mut self, seen: u64) -> BoxFuture<'_, u64> {
        Box::pin(async move {
            if let Some(latest) = &mut self.latest
                && let Ok(revision) = latest.wait_for(|latest| *latest > seen).await
            {
                return *revision;
            }
            // Its engine is gone: nothing will ever change again.
            std::future::pending().await
        })
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut filed = self.registry.filed();
        // Inside the lock, so that of two watches dropped at once the second one sees that it is the last.
        drop(self.latest.take());
        filed.sweep(&self.prefix, &self.range);
    }
}

/// The longest prefix that every key in `range` begins with.
fn common_prefix(range: &KeyRange) -> Bytes {
    let start = &range.start;
    let Some(end) = &range.end else {
        // Without an end only a run of ff at the start is common to all: nothing sorts after it.
        let run = start.iter().take_while(|byte| **byte == 0xff).count();
        return start.slice(..run);
    };
    let mut length = start.iter().zip(end.iter()).take_while(|(a, b)| a == b).count();
    // An end that is the successor of a prefix (`ab`..`ac`) excludes exactly what does not begin with that prefix; ff
    // has no successor of its own, so it belongs to the prefix too (`a ff`..`b`).
    let successor = end.len() == length + 1
        && start.get(length).is_some_and(|byte| byte.checked_add(1) == Some(end[length]));
    if successor {
        length += 1;
        length += start[length..].iter().take_while(|byte| **byte == 0xff).count();
    }
    start.slice(..length)
}

#[cfg(test)]
mod tests;
