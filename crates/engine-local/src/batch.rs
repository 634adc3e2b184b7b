//! A batch: what is decided together, written with one write, made to last with one flush and answered together. And the
//! orders it is made of.

use crate::{
    index::IndexView,
    lanes::Load,
    layer::Layer,
    log::{Frame, Position},
    stack::Stack,
    upcoming::{Found, Wanted},
};
use outrigger_kernel::Wall;
use outrigger_keyspace::{CommitError, CommitId, Committed, Transaction, sequencer::Plan};
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::oneshot;

pub(crate) type Answer = Result<Committed, CommitError>;

/// A commit that waits to be decided on.
pub(crate) struct Queued {
    pub(crate) transaction: Transaction,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// What the desk has for the committer.
#[derive(Default)]
pub(crate) struct Orders {
    /// Each with the bytes it counts for.
    pub(crate) commits: VecDeque<(usize, Queued)>,
    /// Readers wait for time to move; which of their requests this answers.
    pub(crate) step: Option<u64>,
    pub(crate) landed: Option<Landed>,
    /// Expiries that were looked up.
    pub(crate) found: Option<Found>,
    pub(crate) chore: Option<Chore>,
}

impl Orders {
    pub(crate) fn is_empty(&self) -> bool {
        self.commits.is_empty()
            && self.step.is_none()
            && self.landed.is_none()
            && self.found.is_none()
            && self.chore.is_none()
    }
}

/// A newer index.
pub(crate) struct Landed {
    pub(crate) index: Arc<IndexView>,
    /// Whether it holds the sealed layer. Otherwise it is only in better order than the one before.
    pub(crate) holds_sealed: bool,
}

/// What is done when there is nothing else to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chore {
    /// Nothing was committed for a moment: what is written and not flushed is flushed, and the log is told so.
    Rest,
    /// Nothing was committed for a while: what is in memory goes into the index.
    Seal,
}

/// A batch on its way.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) load: Load,
    pub(crate) answers: Vec<(oneshot::Sender<Answer>, Answer)>,
    /// The last revision in it, steps of time included.
    pub(crate) last: u64,
    /// How many of the commits change something.
    pub(crate) commits: u64,
    /// What it changes, for those who watch.
    pub(crate) plans: Vec<Plan>,
    /// What goes into the log.
    pub(crate) frame: Frame,
    pub(crate) flush: Flush,
    /// Whether the layer in memory goes into the index with it as the last batch, however small.
    pub(crate) seals: bool,
    /// Whether the log gets a mark behind it.
    pub(crate) rest: bool,
    /// The state it leads to, unless that was shown before.
    pub(crate) picture: Option<Picture>,
    /// A layer for the index, which it is the last batch of.
    pub(crate) sealed: Option<Sealed>,
    /// A layer that has become part of the index, kept until nobody is shown it any more.
    pub(crate) retired: Option<Layer>,
    pub(crate) step: Option<u64>,
    /// Expiries that should be looked up.
    pub(crate) wanted: Option<Wanted>,
    /// Where the log ends after it.
    pub(crate) position: Option<Position>,
    /// Why it could not be written.
    pub(crate) failed: Option<String>,
    /// Its share of the queues, in units.
    pub(crate) room: Room,
}

impl Batch {
    /// Whether it holds more than steps of time.
    pub(crate) fn has_changes(&self) -> bool {
        self.commits > 0
    }
}

/// Whether a batch must be on the disk before it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flush {
    /// No: nobody in it asked for that.
    #[default]
    No,
    /// It changes nothing itself, but somebody in it asked for what was written before.
    Before,
    /// Yes.
    Yes,
}

/// The state that a batch leads to.
pub(crate) struct Picture {
    pub(crate) last: Committed,
    pub(crate) next_due: Option<Wall>,
    pub(crate) stack: Stack,
    pub(crate) generation: u64,
}

/// A layer on its way into the index.
pub(crate) struct Sealed {
    pub(crate) layer: Layer,
    /// The last commit in it.
    pub(crate) committed: Committed,
    /// Recent commits by their names.
    pub(crate) ids: Vec<(CommitId, Committed)>,
}

/// Places in the two queues, in units of [`Room::UNIT_BYTES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) small: usize,
    pub(crate) bulk: usize,
}

impl Room {
    pub(crate) const UNIT_BYTES: usize = 1_024;

    /// How many units something of `bytes` takes.
    pub(crate) fn units(bytes: usize) -> usize {
        bytes.div_ceil(Self::UNIT_BYTES).max(1)
    }
}
