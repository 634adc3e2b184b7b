//! Histories: what concurrent clients saw, judged afterwards.
//!
//! ```text
//!   record   clients run transactions at once and write down what they read, wrote and were told, and when
//!   replay   the judge who knows revisions: replays the commits in their order on the naive model
//!   append   the judge who knows nothing: infers the order from lists that only grow, and looks for cycles
//! ```
//!
//! The first judge is the sharper one; the second one trusts no number that the engine gave out. Both are proven able
//! to fail: on histories that are bad by hand, on good ones with one entry changed, and on engines with a planted bug
//! ([`crate::planted`]).

pub mod append;
mod graph;
mod record;
pub mod replay;

#[cfg(test)]
mod tests;

use super::Examiner;
use crate::{Committed, Entry, KeyRange, Value, Write};
use bytes::Bytes;
use record::Recorder;
use std::fmt;

/// What a client was told about a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It happened.
    Committed(Committed),
    /// It did not happen.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// One transaction as its client saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When the client began, on a clock that counts events.
    pub invoked: u64,
    /// When it had its answer.
    pub answered: u64,
    /// The revision it read at.
    pub read_revision: u64,
    /// What it read, key by key.
    pub reads: Vec<(Bytes, Option<Value>)>,
    /// What it read, range by range; each to its end.
    pub scans: Vec<(KeyRange, Vec<Entry>)>,
    /// What it wanted written.
    pub writes: Vec<Write>,
    /// What it was told.
    pub outcome: Outcome,
    /// What it was told when it sent the same named commit again, before or after it had its first answer.
    pub again: Option<Outcome>,
}

impl Examiner {
    /// Runs `rounds` of concurrent histories of both kinds, each on an engine of its own, and judges them.
    ///
    /// # Panics
    /// With what the judges found, when the engine is not serializable, or not in real-time order.
    pub async fn histories(&self, rounds: u32) {
        for _ in 0..rounds {
            let room = self.room("history").await;
            let seen = Recorder::new(&room).mixed(8, 60).await;
            blame("replay of mixed transactions", &replay::check(&seen));

            let room = self.room("history").await;
            let (seen, lists) = Recorder::new(&room).appending(8, 60).await;
            blame("replay of appends", &replay::check(&seen));
            blame("cycles among appends", &append::check(&lists));
        }
    }

    /// Runs one history of each kind and answers how much the judges, each for itself, found.
    #[cfg(test)]
    pub(super) async fn found_by_judges(&self) -> (usize, usize) {
        let room = self.room("history").await;
        let mixed = Recorder::new(&room).mixed(8, 60).await;
        let room = self.room("history").await;
        let (seen, lists) = Recorder::new(&room).appending(8, 60).await;
        let by_replay = replay::check(&mixed).len() + replay::check(&seen).len();
        (by_replay, append::check(&lists).len())
    }
}

fn blame(what: &str, faults: &[impl fmt::Debug]) {
    assert!(
        faults.is_empty(),
        "{what}: {} faults, the first ones: {:#?}",
        faults.len(),
        &faults[..faults.len().min(3)]
    );
}
