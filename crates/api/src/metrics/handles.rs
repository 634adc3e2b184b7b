//! Metrics found once: what the hottest paths record into, looked up without a lock and without shared counters.
//!
//! A family finds a metric under a lock that every core has to touch; at tens of thousands of requests a second that
//! costs more than the recording. Here the table is replaced whole when it grows, which it does a few dozen times in the
//! life of a process, and readers only read.

use super::kinds::{Spread, Tally};
use arc_swap::ArcSwap;
use std::{collections::HashMap, fmt, hash::Hash, sync::Arc};

/// Most entries of a table. Beyond it, metrics are found the slow way.
const ENTRIES_MAX: usize = 1_000;

/// Values by key.
pub(crate) struct Handles<K, V>(ArcSwap<HashMap<K, Arc<V>>>);

impl<K, V> Default for Handles<K, V> {
    fn default() -> Self {
        Self(ArcSwap::default())
    }
}

impl<K: Clone + Eq + Hash, V> Handles<K, V> {
    /// Does something with the value of `key`, which is made if it is not there yet.
    pub(crate) fn with(&self, key: K, make: impl FnOnce() -> V, act: impl FnOnce(&V)) {
        let table = self.0.load();
        if let Some(value) = table.get(&key) {
            return act(value);
        }
        drop(table);
        let value = Arc::new(make());
        act(&value);
        self.0.rcu(|table| {
            let mut table = HashMap::clone(table);
            if table.len() < ENTRIES_MAX {
                table.insert(key.clone(), Arc::clone(&value));
            }
            table
        });
    }
}

impl<K, V> fmt::Debug for Handles<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handles({})", self.0.load().len())
    }
}

/// A fixed word by its address: the same word at two addresses has two entries that lead to one metric.
pub(crate) type Fixed = usize;

/// The address of a fixed word.
pub(crate) fn fixed(word: &'static str) -> Fixed {
    word.as_ptr().addr()
}

/// What an answered HTTP request is recorded in.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) requests: Tally,
    pub(crate) responses: Tally,
    pub(crate) latency: Spread,
    pub(crate) request_bytes: Spread,
    pub(crate) response_bytes: Spread,
}

/// What an operation on a component is recorded in.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) count: Tally,
    pub(crate) latency: Spread,
    /// The component's name, whose address is part of the key: kept, so that no other name can take the address.
    pub(crate) _name: Arc<str>,
}

/// The tables of one app.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// By method, path and status.
    pub(crate) http: Handles<(Fixed, Fixed, u16), Http>,
    /// By component, operation and success.
    pub(crate) state: Handles<(usize, Fixed, bool), Operation>,
}
