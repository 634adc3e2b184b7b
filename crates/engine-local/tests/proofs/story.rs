//! What a store answered, and what it must therefore hold.

use crate::{run::Look, verdict::find};
use bytes::Bytes;
use outrigger_kernel::Wall;
use outrigger_keyspace::{Committed, Durability, Entry, Transaction, Write, exam::model::Model};
use std::collections::BTreeMap;

/// Everything that was said while a script was played.
#[derive(Debug, Default)]
pub(crate) struct Story {
    /// The accepted commits by revision.
    pub(crate) accepted: BTreeMap<u64, Accepted>,
    /// Sent, and the answer was that nobody knows, or there was no answer; in the order they were sent.
    pub(crate) unknown: Vec<Transaction>,
    /// What readers saw on the way, and after which disk step.
    seen: Vec<(usize, Look)>,
    /// What both clocks said, from which disk step on.
    clocks: Vec<(usize, Clocks)>,
}

/// A commit that was answered with yes.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) committed: Committed,
    pub(crate) transaction: Transaction,
    /// How many disk steps there had been when it was answered.
    pub(crate) step: usize,
}

/// How far the clocks have gone since the beginning.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clocks {
    pub(crate) mono_ms: u64,
    pub(crate) back_ms: u64,
}

/// A state that the store had: everything up to and including one commit.
pub(crate) struct State {
    pub(crate) revision: u64,
    pub(crate) model: Model,
}

impl Story {
    pub(crate) fn tick(&mut self, step: usize, clocks: Clocks) {
        self.clocks.push((step, clocks));
    }

    pub(crate) fn looks(&self) -> usize {
        self.seen.len()
    }

    pub(crate) fn saw(&mut self, step: usize, look: Look) {
        self.seen.push((step, look));
    }

    pub(crate) fn clocks_at(&self, step: usize) -> Clocks {
        let later = self.clocks.partition_point(|(from, _)| *from <= step);
        later.checked_sub(1).map_or(Clocks::default(), |last| self.clocks[last].1)
    }

    /// Takes down a yes. The same commit may be answered twice when it was sent twice; never two with one revision.
    pub(crate) fn accept(
        &mut self,
        committed: Committed,
        transaction: Transaction,
        step: usize,
    ) -> Result<(), String> {
        if !transaction.writes.iter().any(changes_something) {
            return Ok(());
        }
        if let Some(known) = self.accepted.get(&committed.revision) {
            let same = transaction.id.is_some() && transaction.id == known.transaction.id;
            return if same && known.committed == committed {
                Ok(())
            } else {
                Err(format!("revision {} was given to two commits", committed.revision))
            };
        }
        if let Some(id) = transaction.id {
            let twice = self.accepted.values().find(|known| known.transaction.id == Some(id));
            if let Some(known) = twice {
                return Err(format!(
                    "commit {id:?} was accepted twice, as revision {} and as {}",
                    known.committed.revision, committed.revision
                ));
            }
        }
        self.accepted.insert(committed.revision, Accepted { committed, transaction, step });
        Ok(())
    }

    /// The newest revision that a power cut after `step` steps must leave (`kill`: that the end of the process must): what
    /// was answered, and what a reader was shown.
    pub(crate) fn promised(&self, step: usize, kill: bool) -> u64 {
        let lasting =
            |accepted: &&Accepted| kill || accepted.transaction.durability == Durability::Flush;
        let answered = self.accepted.values().filter(|a| a.step <= step).filter(lasting);
        let answered = answered.map(|a| a.committed.revision).max().unwrap_or(0);
        let shown = self.seen.iter().filter(|(at, _)| *at <= step).map(|(_, look)| look.revision);
        let shown = self.accepted.range(..=shown.max().unwrap_or(0)).map(|(_, a)| a);
        let shown = shown.rev().find(lasting).map_or(0, |a| a.committed.revision);
        answered.max(shown)
    }

    /// The newest revision that anybody had been told of after `step` steps.
    pub(crate) fn told(&self, step: usize) -> u64 {
        let told = self.accepted.values().filter(|accepted| accepted.step <= step);
        told.map(|accepted| accepted.committed.revision).max().unwrap_or(0)
    }

    /// The states the store had, oldest first; the first one is empty.
    pub(crate) fn states(&self) -> Result<Vec<State>, String> {
        let mut model = Model::default();
        let mut states = vec![State { revision: 0, model: model.clone() }];
        for (revision, accepted) in &self.accepted {
            if accepted.committed.time < model.time {
                return Err(format!("the time of revision {revision} is before an earlier one"));
            }
            self.check_reads(&states, accepted)?;
            model.advance(accepted.committed.time);
            model.time = accepted.committed.time;
            model
                .apply(&accepted.transaction.writes, *revision)
                .map_err(|error| format!("revision {revision} should be refused: {error}"))?;
            states.push(State { revision: *revision, model: model.clone() });
        }
        // A reader never sees what was not a state of the store, nor one that is older than what was answered by then.
        for (step, look) in &self.seen {
            let answered = self.accepted.values().filter(|accepted| accepted.step < *step);
            let answered = answered.map(|accepted| accepted.committed.revision).max().unwrap_or(0);
            find(&states, look, answered)
                .map_err(|error| format!("a reader after step {step}: {error}"))?;
        }
        Ok(states)
    }

    /// What an accepted commit had read was still so when it happened.
    fn check_reads(&self, states: &[State], accepted: &Accepted) -> Result<(), String> {
        let transaction = &accepted.transaction;
        let read = state_at(states, transaction.read_revision);
        let before = state_at(states, accepted.committed.revision - 1);
        for key in &transaction.read_keys {
            // A key that fell due in between is a change too, but one the model tells only by the clock.
            let then = read.model.map.get(key).map(|value| value.revision);
            let now = before.model.map.get(key).map(|value| value.revision);
            if then != now && now.is_some() {
                return Err(format!(
                    "revision {} rests on a read of {key:?} at {} that was overtaken",
                    accepted.committed.revision, transaction.read_revision
                ));
            }
        }
        Ok(())
    }
}

/// Whether a write could change anything: deleting an empty range could not, and such a commit gets no revision.
fn changes_something(write: &Write) -> bool {
    !matches!(write, Write::DeleteRange { range } if range.is_empty())
}

/// The last of `states` that is not after `revision`.
pub(crate) fn state_at(states: &[State], revision: u64) -> &State {
    let later = states.partition_point(|state| state.revision <= revision);
    &states[later.saturating_sub(1)]
}

/// What `model` holds for a reader at `now`.
pub(crate) fn entries(model: &Model, now: Wall) -> Vec<Entry> {
    let mut model = model.clone();
    model.advance(now);
    let entry = |(key, value): (Bytes, _)| Entry { key, value };
    model.map.into_iter().map(entry).collect()
}
