//! The keys that expire next are in memory; those that expire later are found in the store when their time comes near.
//!
//! ```text
//!   agenda (sequencer): the next 200,000 | horizon | the rest: in layers and index, by key
//! ```
//!
//! When the agenda holds more, the latest entry leaves it, and what expires from there on is no longer known: that is the
//! *horizon*. When it is half empty, the checkpointer goes through all expiries from the horizon on and finds the nearest
//! ([`find`]); whatever is put meanwhile is taken in, however late it expires, up to twice as many. Until that is done time
//! stands still before the horizon ([`crate::time`]): commits are stamped before it, and a reader that comes later waits.
//!
//! Of any number of keys that expire at one instant so many are found at a time, in the order of their keys: who looks for
//! the rest begins where the last one ended, so that all of them together are read once.

use crate::{
    layer::{Cell, Layer},
    stack::Stack,
    time::Time,
};
use bytes::Bytes;
use outrigger_kernel::Wall;
use outrigger_keyspace::{KeyRange, ReadError, sequencer::Sequencer};
use std::{collections::BinaryHeap, ops::ControlFlow};

/// So many expiries are in memory, about 150 bytes each.
pub(crate) const EXPIRIES_MAX: usize = if cfg!(test) { 12_000 } else { 200_000 };
/// So many are found at a time.
const FOUND_MAX: usize = EXPIRIES_MAX / 2;
/// So many are taken in with one batch.
const TAKEN_PER_BATCH: usize = 1_024;
/// So many that are too much are let go with one batch; those past twice the bound go at once.
const DROPPED_PER_BATCH: usize = 4_096;
/// After so many expiries that were looked at, others get their turn.
const SEEN_AT_ONCE: usize = 1_024;

/// A key and when it expires.
type Expiry = (Wall, Bytes);

/// Expiries are wanted from `from` on, of what `stack` holds; what comes later is known.
pub(crate) struct Wanted {
    pub(crate) from: Expiry,
    pub(crate) stack: Stack,
}

impl Wanted {
    /// What was found when nothing could be read: the same will be asked for again.
    pub(crate) fn nothing(&self) -> Found {
        Found { expiries: Vec::new(), horizon: Some(self.from.clone()) }
    }
}

/// The nearest expiries.
pub(crate) struct Found {
    pub(crate) expiries: Vec<Expiry>,
    /// From here on there are others; `None` when these are all.
    pub(crate) horizon: Option<Expiry>,
}

/// Keeps the nearest of all that are offered.
pub(crate) struct Nearest {
    from: Option<Expiry>,
    count: usize,
    kept: BinaryHeap<Expiry>,
    is_all: bool,
}

impl Nearest {
    pub(crate) fn new(from: Option<Expiry>, count: usize) -> Self {
        Self { from, count, kept: BinaryHeap::new(), is_all: true }
    }

    pub(crate) fn offer(&mut self, at: Wall, key: &[u8]) {
        let is_before = |(its, its_key): &Expiry| (at, key) < (*its, &its_key[..]);
        if self.from.as_ref().is_some_and(is_before) {
            return;
        }
        if self.kept.len() >= self.count {
            self.is_all = false;
            if !self.kept.peek().is_some_and(is_before) {
                return;
            }
            self.kept.pop();
        }
        self.kept.push((at, Bytes::copy_from_slice(key)));
    }

    /// The last of them, if all are of the instant it begins with and there are more: what comes later need not be offered.
    fn last_of_one_instant(&self) -> Option<&Bytes> {
        let (from, (last, key)) = (self.from.as_ref()?, self.kept.peek()?);
        (!self.is_all && from.0 == *last).then_some(key)
    }

    pub(crate) fn found(mut self) -> Found {
        let horizon = if self.is_all { None } else { self.kept.pop() };
        Found { expiries: self.kept.into_vec(), horizon }
    }
}

/// Goes through expiries in the order of their keys.
struct Search<'a> {
    nearest: Nearest,
    seen: usize,
    serve_others: &'a mut dyn FnMut() -> bool,
    is_broken_off: bool,
}

impl Search<'_> {
    fn visit(&mut self, at: Wall, key: &[u8]) -> ControlFlow<()> {
        self.seen += 1;
        if self.seen.is_multiple_of(SEEN_AT_ONCE) {
            self.is_broken_off = !(self.serve_others)();
        }
        self.nearest.offer(at, key);
        let is_past = self.nearest.last_of_one_instant().is_some_and(|last| *key >= **last);
        if self.is_broken_off || is_past {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn visit_layer(&mut self, layer: &Layer, range: &KeyRange) {
        for (key, cell) in layer.range(range) {
            if let Cell::Live(value) = cell
                && let Some(at) = value.expires_at
                && self.visit(at, key).is_break()
            {
                return;
            }
        }
    }
}

/// Finds what is wanted; it takes as long as reading when every key expires. Now and then it calls `serve_others`, and ends
/// without having found anything when that answers `false`.
pub(crate) fn find(
    wanted: &Wanted,
    serve_others: &mut dyn FnMut() -> bool,
) -> Result<Option<Found>, ReadError> {
    let Wanted { from, stack: Stack { active, sealed, index } } = wanted;
    let nearest = Nearest::new(Some(from.clone()), FOUND_MAX);
    let mut search = Search { nearest, seen: 0, serve_others, is_broken_off: false };
    // First the keys that may be wanted of the horizon's own instant: perhaps there are enough of them.
    let behind = KeyRange { start: from.1.clone(), end: None };
    let before = KeyRange { start: Bytes::new(), end: Some(from.1.clone()) };
    for range in [behind, before] {
        for layer in std::iter::once(active).chain(sealed) {
            search.visit_layer(layer, &range);
        }
        index.expiries(&range, &mut |at, key| search.visit(at, key))?;
        if search.is_broken_off {
            return Ok(None);
        }
        if search.nearest.last_of_one_instant().is_some() {
            break;
        }
    }
    Ok(Some(search.nearest.found()))
}

/// What the committer has to do with it.
#[derive(Default)]
pub(crate) struct Upcoming {
    /// Found, and not taken in yet.
    found: Option<Found>,
    is_wanted: bool,
    /// There is more to be let go.
    has_too_many: bool,
}

impl Upcoming {
    /// Whether there is more to be taken in, or to be let go.
    pub(crate) fn is_busy(&self) -> bool {
        self.found.is_some() || self.has_too_many
    }

    pub(crate) fn note(&mut self, found: Found) {
        self.found = Some(found);
    }

    /// Takes in some of what was found.
    pub(crate) fn take(&mut self, sequencer: &mut Sequencer, time: &Time) {
        let Some(found) = &mut self.found else { return };
        let left = found.expiries.len().saturating_sub(TAKEN_PER_BATCH);
        for (at, key) in found.expiries.drain(left..) {
            sequencer.restore_expiry(&key, at);
        }
        if left == 0 {
            sequencer.end_filling(found.horizon.take());
            time.set_horizon(sequencer.horizon());
            (self.found, self.is_wanted) = (None, false);
        }
    }

    /// Lets go of what is too much, and says what is wanted.
    pub(crate) fn bound(
        &mut self,
        sequencer: &mut Sequencer,
        time: &Time,
        stack: &Stack,
    ) -> Option<Wanted> {
        self.has_too_many = self.let_go(sequencer, time);
        if self.is_wanted || self.has_too_many {
            return None;
        }
        let waits = sequencer.horizon().is_some_and(|at| at.0 <= sequencer.time().0 + 1);
        if sequencer.expiries() >= EXPIRIES_MAX / 2 && !waits {
            return None;
        }
        let from = sequencer.fill()?;
        self.is_wanted = true;
        Some(Wanted { from, stack: stack.clone() })
    }

    /// Lets go of some of what is too much. Whether there is more.
    fn let_go(&self, sequencer: &mut Sequencer, time: &Time) -> bool {
        let mut dropped = 0;
        loop {
            let count = sequencer.expiries();
            if count <= 2 * EXPIRIES_MAX {
                let is_too_much = count > EXPIRIES_MAX || sequencer.knows_beyond_horizon();
                if self.is_wanted || !is_too_much || dropped >= DROPPED_PER_BATCH {
                    return !self.is_wanted && is_too_much;
                }
            }
            // Nobody may have been shown a time past the horizon.
            if !sequencer.latest_expiry().is_some_and(|last| time.lower_horizon(last)) {
                return false;
            }
            sequencer.forget_latest_expiry();
            dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests;
