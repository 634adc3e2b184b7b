//! What readers have in common. The bound on memory: which tables' maps and filters are kept, the least recently used let go
//! first. And how much scans have read, which tells when runs are worth folding.

use super::table::Table;
use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicU64, Ordering},
};

#[derive(Debug)]
pub(super) struct Shelf {
    limit: usize,
    clock: AtomicU64,
    /// How many runs were looked at by scans, beyond one for each, since it was last forgotten.
    scanned: AtomicU64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    tables: Vec<(Weak<Table>, usize)>,
}

impl Shelf {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            clock: AtomicU64::new(0),
            scanned: AtomicU64::new(0),
            held: Mutex::default(),
        })
    }

    /// Notes that a scan looks at so many runs.
    pub(super) fn note_scan(&self, runs: usize) {
        self.scanned.fetch_add(runs.saturating_sub(1) as u64, Ordering::Relaxed);
    }

    /// How many runs scans have looked at that would not be there if all were one.
    pub(super) fn scanned(&self) -> u64 {
        self.scanned.load(Ordering::Relaxed)
    }

    pub(super) fn forget_scans(&self) {
        self.scanned.store(0, Ordering::Relaxed);
    }

    /// The next instant of its own count of time.
    pub(super) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// `table` has been given `bytes` of memory: others are let go until all fits.
    pub(super) fn put(&self, table: &Arc<Table>, bytes: usize) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Held { bytes: total, tables } = &mut *held;
        tables.retain(|(other, its_bytes)| {
            // A table read by two at once is put twice, and one that nobody has any more takes no memory.
            let keep = other.upgrade().is_some_and(|other| !Arc::ptr_eq(&other, table));
            if !keep {
                *total = total.saturating_sub(*its_bytes);
            }
            keep
        });
        *total += bytes;
        while *total > self.limit {
            let used = |(at, (table, _)): (usize, &(Weak<Table>, usize))| {
                (table.upgrade().map_or(0, |table| table.used()), at)
            };
            let Some((_, oldest)) = tables.iter().enumerate().map(used).min() else { break };
            let (table, its_bytes) = tables.swap_remove(oldest);
            *total = total.saturating_sub(its_bytes);
            if let Some(table) = table.upgrade() {
                table.forget();
            }
        }
        tables.push((Arc::downgrade(table), bytes));
    }
}
