//! The sequencer: a pure machine that decides, for every engine alike, whether a transaction is accepted, which
//! revision and time it gets, and what it changes.
//!
//! ```text
//!   advance(now) -- time moves --> Plan: what is due becomes absent      \  an engine writes plans down
//!   sequence(transaction) -- bounds > conflicts > expansion --> Plan     /  in the order they were made
//! ```
//!
//! It knows no disk, no thread and no clock: the engine hands in the time and a view of the newest state ([`Latest`],
//! plans not yet durable included), and gets back a [`Plan`]: a revision, a time and the changes, one per key. Nothing
//! is left to decide when a plan is applied, which is what makes a plan fit for a log that others replay.
//!
//! Invariants:
//!
//! - time moves only in [`Sequencer::advance`], and never past a key that is due without making that key absent first;
//! - a plan's changes hold each key once, so an engine may apply them in any order;
//! - a refused transaction leaves the sequencer as it was.

mod agenda;
mod bounds;
mod expansion;
mod window;

#[cfg(test)]
mod tests;

pub use window::WINDOW_BYTES_MAX;

use crate::{CommitError, Committed, KeyRange, ReadError, Transaction, Value};
use agenda::Agenda;
use bytes::Bytes;
use expansion::Expansion;
use outrigger_kernel::{Mono, Wall};
use window::Window;

/// Most keys that become absent in one step of time; more are taken in further steps, each with its own revision.
const DUE_KEYS_PER_STEP: usize = 4_096;

/// The newest state: everything planned so far, durable or not.
pub trait Latest {
    /// The value at `key`.
    ///
    /// # Errors
    /// When the engine cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Value>, ReadError>;

    /// Shows the keys in `range` to `visit`, each once and in any order, until it answers `false`.
    ///
    /// # Errors
    /// When the engine cannot be read.
    fn keys(
        &self,
        range: &KeyRange,
        visit: &mut dyn FnMut(&Bytes) -> bool,
    ) -> Result<(), ReadError>;
}

/// How large `transaction` counts, for an engine that refuses before it queues.
///
/// # Errors
/// Which bound the transaction goes over. A range delete may still take it over the largest size.
pub fn size(transaction: &Transaction) -> Result<usize, CommitError> {
    bounds::check(transaction)
}

/// An accepted commit, worked out to the last byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its revision and time. Without changes, the revision of the commit it comes right after.
    pub committed: Committed,
    /// What it changes, ordered by key, each key once.
    pub changes: Vec<Change>,
}

/// What a plan does to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// Its new value; `None` when it becomes absent.
    pub value: Option<Value>,
    /// The expiry the key had until now: an engine that stores an index by expiry removes this entry from it.
    pub expiry_before: Option<Wall>,
}

/// Assigns revisions and times, and refuses what conflicts. See the module's head.
#[derive(Debug)]
pub struct Sequencer {
    revision: u64,
    time: Wall,
    window: Window,
    agenda: Agenda,
    /// Off only in the test that proves that the history checker finds an engine without conflict detection.
    check_conflicts: bool,
}

impl Sequencer {
    /// A sequencer that goes on after `revision`, committed at `time`. What was written before is not known to it, so
    /// a transaction that read earlier is too old.
    #[must_use]
    pub fn new(revision: u64, time: Wall) -> Self {
        Self {
            revision,
            time,
            window: Window::new(revision),
            agenda: Agenda::default(),
            check_conflicts: true,
        }
    }

    /// A sequencer with a planted bug: it sees no conflicts. For testing the tests.
    #[must_use]
    pub(crate) fn without_conflicts() -> Self {
        Self { check_conflicts: false, ..Self::new(0, Wall::default()) }
    }

    /// Tells that the stored `key` expires at `expires_at`; for an engine that opens existing data.
    pub fn restore_expiry(&mut self, key: Bytes, expires_at: Wall) {
        let _replaced: Option<Wall> = self.agenda.set(&key, Some(expires_at));
    }

    /// The last revision given out.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The time the next commit will be stamped with, unless time moves first.
    #[must_use]
    pub fn time(&self) -> Wall {
        self.time
    }

    /// When the next key expires.
    #[must_use]
    pub fn next_due(&self) -> Option<Wall> {
        self.agenda.next()
    }

    /// Whether some key should be absent at `now` and is not yet.
    #[must_use]
    pub fn is_due(&self, now: Wall) -> bool {
        self.next_due().is_some_and(|due| due <= now.max(self.time))
    }

    /// The first expiry after `now` of what `transaction` read: its decision holds until then. For a range it is the first
    /// expiry of any key.
    #[must_use]
    pub fn rests_until(&self, transaction: &Transaction, now: Wall) -> Option<Wall> {
        let keys = transaction.read_keys.iter().filter_map(|key| self.agenda.get(key));
        let ranges = transaction.read_ranges.first().and_then(|_| self.agenda.next_after(now));
        keys.filter(|at| *at > now).chain(ranges).min()
    }

    /// Moves time to `now` (never back). When keys are due by then, answers a plan that makes them absent; apply it and
    /// call again until there is none.
    pub fn advance(&mut self, now: Wall, mono: Mono) -> Option<Plan> {
        let target = now.max(self.time);
        self.window.forget(mono);
        let due = self.agenda.take_due(target, DUE_KEYS_PER_STEP);
        // A step that could not take everything stops at the time of the last key it took, or just before it when others
        // are due at the same instant.
        self.time = match (due.last(), self.agenda.next()) {
            (Some((at, _)), Some(next)) if next <= target => {
                let before_next = Wall(next.0.saturating_sub(1));
                self.time.max(before_next.min(*at))
            }
            _ => target,
        };
        if due.is_empty() {
            return None;
        }
        let mut changes: Vec<Change> = due
            .into_iter()
            .map(|(at, key)| Change { key, value: None, expiry_before: Some(at) })
            .collect();
        changes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Some(self.accept(mono, changes))
    }

    /// Decides on `transaction`, given the newest state. An accepted plan must be applied before the next call.
    ///
    /// # Errors
    /// Why it is refused; the sequencer is unchanged then.
    pub fn sequence(
        &mut self,
        mono: Mono,
        transaction: Transaction,
        latest: &dyn Latest,
    ) -> Result<Plan, CommitError> {
        let bytes = bounds::check(&transaction)?;
        if self.check_conflicts {
            self.check_reads(&transaction)?;
        }
        if transaction.writes.is_empty() {
            return Ok(Plan { committed: self.last(), changes: Vec::new() });
        }
        let expansion = Expansion::new(self.revision + 1, self.time, bytes, latest);
        let mut changes = expansion.run(transaction.writes)?;
        for change in &mut changes {
            let expiry = change.value.as_ref().and_then(|value| value.expires_at);
            change.expiry_before = self.agenda.set(&change.key, expiry);
        }
        Ok(self.accept(mono, changes))
    }

    fn last(&self) -> Committed {
        Committed { revision: self.revision, time: self.time }
    }

    fn accept(&mut self, mono: Mono, changes: Vec<Change>) -> Plan {
        self.revision += 1;
        self.window.record(self.revision, mono, changes.iter().map(|change| &change.key));
        Plan { committed: self.last(), changes }
    }

    fn check_reads(&self, transaction: &Transaction) -> Result<(), CommitError> {
        let read = transaction.read_revision;
        if transaction.read_keys.is_empty() && transaction.read_ranges.is_empty() {
            return Ok(());
        }
        if read < self.window.floor() {
            return Err(CommitError::TooOld { read });
        }
        // A revision from the future was not read here: it belongs to another engine, or to a life before a restore.
        let changed = read > self.revision
            || transaction.read_keys.iter().any(|key| self.window.key_changed(key, read))
            || transaction.read_ranges.iter().any(|range| self.window.range_changed(range, read));
        if changed { Err(CommitError::Conflict) } else { Ok(()) }
    }
}
