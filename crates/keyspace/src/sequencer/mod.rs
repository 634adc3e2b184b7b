//! The sequencer: a pure machine that decides, for every engine alike, whether a transaction is accepted, which
//! revision and time it gets, and what it changes.
//!
//! ```text
//!   advance(now) -- time moves --> Plan: what is due becomes absent                 \  an engine writes plans down
//!   sequence(transaction) -- bounds > known id? > conflicts > expansion --> Plan    /  in the order they were made
//! ```
//!
//! It knows no disk, no thread and no clock: the engine hands in the time and a view of the newest state ([`Latest`],
//! plans not yet durable included), and gets back a [`Plan`]: a revision, a time, the ranges that are cleared and the
//! changes, one per key. Nothing is left to decide when a plan is applied, which is what makes a plan fit for a log that
//! others replay.
//!
//! Invariants:
//!
//! - time moves only in [`Sequencer::advance`], and never past a key that is due without making that key absent first;
//! - a plan's clears come before its changes, and its changes hold each key once, so an engine may apply those in any
//!   order;
//! - a range delete costs the same whatever it removes: nothing is listed;
//! - a refused transaction leaves the sequencer as it was.

mod agenda;
mod bounds;
mod clears;
mod expansion;
mod ids;
mod slice;
mod window;

#[cfg(test)]
mod tests;

pub use window::WINDOW_BYTES_MAX;

use crate::{
    CommitError, CommitId, Committed, KeyRange, ReadError, Transaction, Value, Write,
    planted::{self, Bug},
};
use agenda::Agenda;
use bytes::Bytes;
use expansion::Expansion;
use ids::Ids;
use outrigger_kernel::{Mono, Wall};
use window::Window;

/// Most keys that become absent in one step of time; more are taken in further steps, each with its own revision.
pub const DUE_KEYS_PER_STEP: usize = 256;
/// What these keys count for at most, each with [`OVERHEAD_BYTES`](crate::limits::OVERHEAD_BYTES).
pub const DUE_BYTES_PER_STEP: usize = 64 * 1024;

/// The newest state: everything planned so far, durable or not.
pub trait Latest {
    /// The value at `key`, even if it is due: only a plan makes it absent.
    ///
    /// # Errors
    /// When the engine cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Value>, ReadError>;

    /// When the value at `key` expires, if there is one and it does. For engines that need not read a value for that.
    ///
    /// # Errors
    /// When the engine cannot be read.
    fn expiry(&self, key: &[u8]) -> Result<Option<Wall>, ReadError> {
        Ok(self.get(key)?.and_then(|value| value.expires_at))
    }
}

/// The keys on which a decision on `transaction` rests.
fn read_keys(transaction: &Transaction) -> impl Iterator<Item = &Bytes> {
    let added = transaction.writes.iter().filter_map(|write| match write {
        Write::Add { key, .. } => Some(key),
        _ => None,
    });
    transaction.read_keys.iter().chain(added)
}

/// How large `transaction` counts, for an engine that refuses before it queues.
///
/// # Errors
/// Which bound the transaction goes over.
pub fn size(transaction: &Transaction) -> Result<usize, CommitError> {
    bounds::check(transaction)
}

/// An accepted commit, worked out to the last byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its revision and time. Of an empty plan: how the commit is answered.
    pub committed: Committed,
    /// The transaction's name, to be stored with what it changes.
    pub id: Option<CommitId>,
    /// Ranges that become empty before the changes are made: none of them empty, disjoint, by their start.
    pub clears: Vec<KeyRange>,
    /// What else it changes, ordered by key, each key once.
    pub changes: Vec<Change>,
}

impl Plan {
    /// Whether there is nothing to write down: the commit has no writes, or was accepted before. Its answer still waits
    /// until all earlier plans are as durable as it asks: it rests on them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clears.is_empty() && self.changes.is_empty()
    }

    /// The keys it changes, for [`crate::watch::Registry::notify`].
    pub fn changed(&self) -> impl Iterator<Item = (u64, &Bytes)> {
        self.changes.iter().map(|change| (self.committed.revision, &change.key))
    }

    /// The ranges it clears, for [`crate::watch::Registry::notify`].
    pub fn cleared(&self) -> impl Iterator<Item = (u64, &KeyRange)> {
        self.clears.iter().map(|range| (self.committed.revision, range))
    }

    fn answering(committed: Committed) -> Self {
        Self { committed, id: None, clears: Vec::new(), changes: Vec::new() }
    }
}

/// What a plan does to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// Its new value; `None` when it becomes absent.
    pub value: Option<Value>,
}

/// Assigns revisions and times, and refuses what conflicts. See the module's head.
#[derive(Debug)]
pub struct Sequencer {
    revision: u64,
    time: Wall,
    window: Window,
    agenda: Agenda,
    ids: Ids,
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
            ids: Ids::default(),
        }
    }

    /// Tells that the stored `key` may expire at `expires_at`; for an engine that opens existing data. Entries that are
    /// overtaken do no harm as long as the key's true expiry, if it has one, is told too, in whatever order.
    pub fn restore_expiry(&mut self, key: &[u8], expires_at: Wall) {
        self.agenda.restore(key, expires_at);
    }

    /// How many expiries are in memory.
    #[must_use]
    pub fn expiries(&self) -> usize {
        self.agenda.len()
    }

    /// When the last key expires of those whose expiry is in memory.
    #[must_use]
    pub fn latest_expiry(&self) -> Option<Wall> {
        self.agenda.last()
    }

    /// When the first key expires whose expiry is not in memory, at the earliest.
    #[must_use]
    pub fn horizon(&self) -> Option<Wall> {
        self.agenda.horizon()
    }

    /// Whether the last expiry in memory lies beyond the horizon, as those may that were taken in while others were looked
    /// up. It is looked up again in its turn.
    #[must_use]
    pub fn knows_beyond_horizon(&self) -> bool {
        self.agenda.reaches_beyond()
    }

    /// Forgets the expiry that is farthest away, to bound the memory they take. What expires from then on is not known any
    /// more: time stands still before it until expiries were looked up ([`Sequencer::fill`]).
    pub fn forget_latest_expiry(&mut self) {
        self.agenda.forget_last();
    }

    /// Answers from which expiry on (and for equal ones from which key on) they have to be looked up in the newest state, if
    /// any were forgotten. Everything planned from here on is taken in; what is found is told with
    /// [`Sequencer::restore_expiry`] and then [`Sequencer::end_filling`].
    pub fn fill(&mut self) -> Option<(Wall, Bytes)> {
        self.agenda.fill()
    }

    /// All that expires before `horizon` has been told. The horizon is an earlier one if expiries before that were forgotten
    /// meanwhile.
    pub fn end_filling(&mut self, horizon: Option<(Wall, Bytes)>) {
        self.agenda.end_filling(horizon);
    }

    /// Tells that the commit `id` was accepted and how it was answered; for an engine that opens existing data, the
    /// oldest first.
    pub fn remember(&mut self, id: CommitId, committed: Committed, mono: Mono) {
        self.ids.remember(id, committed, mono);
    }

    /// How the commit `id` was answered, if it was accepted and is remembered; for an engine that has reasons of its own to
    /// refuse a commit, and must not refuse one that is done.
    #[must_use]
    pub fn answered(&self, id: &CommitId) -> Option<Committed> {
        self.ids.get(id)
    }

    /// The commits that are remembered by name and how they were answered, the oldest first; for an engine to store.
    pub fn ids(&self) -> impl Iterator<Item = (CommitId, Committed)> {
        self.ids.iter()
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

    /// When the next key may expire: nothing does before.
    #[must_use]
    pub fn next_due(&self) -> Option<Wall> {
        self.agenda.next()
    }

    /// Whether some key may have to become absent at `now` that is not yet.
    #[must_use]
    pub fn is_due(&self, now: Wall) -> bool {
        self.next_due().is_some_and(|due| due <= now.max(self.time))
    }

    /// The first expiry after `now` of what `transaction` read or adds to: its decision holds until then. For a range it is
    /// the first expiry of any key, and a key of which none is known may expire at the horizon. What is known of a key may
    /// be out of date; it is at most too early.
    #[must_use]
    pub fn rests_until(&self, transaction: &Transaction, now: Wall) -> Option<Wall> {
        let horizon = self.agenda.horizon();
        let keys = read_keys(transaction).filter_map(|key| self.agenda.get(key).or(horizon));
        let ranges = transaction.read_ranges.first().and_then(|_| self.agenda.next_after(now));
        // A time that has passed belongs to a key that is about to go, or to one that was put to live longer since.
        let after_now = Wall(now.0.saturating_add(1));
        keys.map(|at| at.max(after_now)).chain(ranges).min()
    }

    /// What the next step of time towards `now` takes at most, each key counted with
    /// [`OVERHEAD_BYTES`](crate::limits::OVERHEAD_BYTES); `None` when nothing is known to be due by then. For an engine that
    /// must have room for a step before it asks for one.
    #[must_use]
    pub fn step_bytes(&self, now: Wall) -> Option<usize> {
        let bytes = self.agenda.due_bytes(self.target(now), DUE_BYTES_PER_STEP);
        Some(bytes).filter(|bytes| *bytes > 0)
    }

    /// Whether something that `transaction` read or adds to may be due at `now` and not absent yet: for an engine whose time
    /// stands still, though its readers are shown what is due as absent.
    #[must_use]
    pub fn rests_on_due(&self, transaction: &Transaction, now: Wall) -> bool {
        let is_due = |at: Option<Wall>| at.is_some_and(|at| at <= now.max(self.time));
        let reads_range = !transaction.read_ranges.is_empty();
        let mut keys = read_keys(transaction);
        (reads_range && is_due(self.agenda.first())) || keys.any(|key| is_due(self.agenda.get(key)))
    }

    /// Moves time to `now` (never back). When keys are due by then, answers a plan that makes them absent; apply it and
    /// call again until there is none.
    ///
    /// # Errors
    /// When the newest state cannot be read; time stands still then.
    pub fn advance(
        &mut self,
        now: Wall,
        mono: Mono,
        latest: &dyn Latest,
    ) -> Result<Option<Plan>, ReadError> {
        let horizon = self.agenda.horizon();
        let target = self.target(now);
        self.window.forget(mono);
        self.ids.forget(mono);
        // A step in which all entries turn out to be overtaken changes nothing and takes no revision: on to the next.
        while self.agenda.first().is_some_and(|due| due <= target) {
            let changes = self.step(target, latest)?;
            if !changes.is_empty() {
                return Ok(Some(self.accept(mono, None, Vec::new(), changes)));
            }
        }
        self.time = match horizon {
            Some(horizon) if horizon <= target => self.time.max(Wall(horizon.0.saturating_sub(1))),
            _ => target,
        };
        Ok(None)
    }

    /// How far a step towards `now` may get.
    fn target(&self, now: Wall) -> Wall {
        // What is known at the horizon's own instant goes, too: else nothing would get past many keys of one instant.
        self.agenda.horizon().map_or(now, |horizon| now.min(horizon)).max(self.time)
    }

    /// Moves time towards `target`, past as many due keys as one step takes, and answers what becomes absent.
    fn step(&mut self, target: Wall, latest: &dyn Latest) -> Result<Vec<Change>, ReadError> {
        let mut due = self.agenda.due(target, DUE_KEYS_PER_STEP, DUE_BYTES_PER_STEP);
        let last = due.last().map_or(target, |(at, _)| *at);
        due.sort_unstable_by(|a, b| a.1.cmp(&b.1));
        let mut found = Vec::with_capacity(due.len());
        for (_, key) in &due {
            found.push(latest.expiry(key)?);
        }
        let mut changes = Vec::new();
        for ((_, key), expires_at) in due.into_iter().zip(found) {
            // One that expires later than its entry said is taken in its turn.
            let is_due =
                expires_at.is_some_and(|at| at <= last) || planted::is(Bug::TrustTheAgenda);
            self.agenda.set(&key, expires_at.filter(|_| !is_due));
            if is_due {
                changes.push(Change { key, value: None });
            }
        }
        // A step that could not take everything stops at the time of the last key it took, or just before it when others
        // are due at the same instant.
        self.time = match self.agenda.next() {
            Some(next) if next <= target => {
                let before_next = Wall(next.0.saturating_sub(1));
                self.time.max(before_next.min(last))
            }
            _ => target,
        };
        Ok(changes)
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
        bounds::check(&transaction)?;
        // Before conflicts: what the first try wrote is in conflict with what it read.
        let known = transaction.id.and_then(|id| self.answered(&id));
        if let Some(committed) = known.filter(|_| !planted::is(Bug::IdsAfterConflicts)) {
            return Ok(Plan::answering(committed));
        }
        if let Err(refusal) = self.check_reads(&transaction) {
            if let Some(id) = transaction.id.filter(|_| planted::is(Bug::RememberRefused)) {
                self.ids.remember(id, self.last(), mono);
            }
            return Err(refusal);
        }
        if let Some(committed) = known {
            return Ok(Plan::answering(committed));
        }
        let expansion = Expansion::new(self.revision + 1, self.time, latest);
        let (clears, changes) = expansion.run(transaction.writes)?;
        if clears.is_empty() && changes.is_empty() {
            return Ok(Plan::answering(self.last()));
        }
        for change in &changes {
            let expiry = change.value.as_ref().and_then(|value| value.expires_at);
            self.agenda.set(&change.key, expiry);
        }
        Ok(self.accept(mono, transaction.id, clears, changes))
    }

    fn last(&self) -> Committed {
        Committed { revision: self.revision, time: self.time }
    }

    fn accept(
        &mut self,
        mono: Mono,
        id: Option<CommitId>,
        clears: Vec<KeyRange>,
        changes: Vec<Change>,
    ) -> Plan {
        if !planted::is(Bug::ReuseRevision)
            || !self.revision.is_multiple_of(4)
            || self.revision == 0
        {
            self.revision += 1;
        }
        let mut committed = self.last();
        if planted::is(Bug::TimeGoesBack) && self.revision.is_multiple_of(2) {
            committed.time.0 = committed.time.0.saturating_sub(1_000);
        }
        let keys = changes.iter().map(|change| &change.key[..]);
        self.window.record(self.revision, mono, keys, &clears);
        if let Some(id) = id.filter(|_| !planted::is(Bug::ForgetIds)) {
            self.ids.remember(id, committed, mono);
        }
        Plan { committed, id, clears, changes }
    }

    fn check_reads(&mut self, transaction: &Transaction) -> Result<(), CommitError> {
        let read = transaction.read_revision;
        if transaction.read_keys.is_empty() && transaction.read_ranges.is_empty() {
            return Ok(());
        }
        if read < self.window.floor() && !planted::is(Bug::AcceptTooOld) {
            return Err(CommitError::TooOld { read });
        }
        // A revision from the future was not read here: it belongs to another engine, or to a life before a restore.
        let changed = read > self.revision
            || transaction.read_keys.iter().any(|key| self.window.key_changed(key, read))
            || transaction.read_ranges.iter().any(|range| self.window.range_changed(range, read));
        if changed { Err(CommitError::Conflict) } else { Ok(()) }
    }
}
