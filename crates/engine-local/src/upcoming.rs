//! The keys that expire next are in memory; those that expire later are found in the store when their time comes near.
//!
//! ```text
//!   agenda (sequencer): the next 200,000 | horizon | the rest: in layers and index, by key
//! ```
//!
//! When the agenda holds more, the latest entry leaves it, and what expires from there on is no longer known: that is the
//! *horizon*. When it is half empty, the checkpointer goes through all expiries from the horizon on and finds the nearest
//! ([`find`]); whatever is put meanwhile is taken in, however late it expires. Until that is done time stands still before
//! the horizon ([`crate::time`]): commits are stamped before it, and a reader that comes later waits.

use crate::{
    layer::{Cell, Layer},
    stack::Stack,
    time::Time,
};
use bytes::Bytes;
use outrigger_kernel::Wall;
use outrigger_keyspace::{ReadError, sequencer::Sequencer};
use std::{collections::BinaryHeap, ops::ControlFlow};

/// So many expiries are in memory, about 150 bytes each.
pub(crate) const EXPIRIES_MAX: usize = if cfg!(test) { 12_000 } else { 200_000 };
/// So many are taken in with one batch.
const TAKEN_PER_BATCH: usize = 1_024;

/// A key and when it expires.
type Expiry = (Wall, Bytes);

/// Expiries are wanted from `from` on, of what `stack` holds; what comes later is known.
pub(crate) struct Wanted {
    from: Expiry,
    stack: Stack,
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

    /// Offers what expires in a layer.
    fn offer_layer(&mut self, layer: &Layer) {
        for (key, cell) in layer.iter() {
            if let Cell::Live(value) = cell
                && let Some(at) = value.expires_at
            {
                self.offer(at, key);
            }
        }
    }

    pub(crate) fn found(mut self) -> Found {
        let horizon = if self.is_all { None } else { self.kept.pop() };
        Found { expiries: self.kept.into_vec(), horizon }
    }
}

/// Finds what is wanted. It takes as long as reading when every key expires.
pub(crate) fn find(wanted: &Wanted) -> Result<Found, ReadError> {
    let mut nearest = Nearest::new(Some(wanted.from.clone()), EXPIRIES_MAX / 2);
    let Stack { active, sealed, index } = &wanted.stack;
    nearest.offer_layer(active);
    if let Some(sealed) = sealed {
        nearest.offer_layer(sealed);
    }
    index.expiries(&mut |at, key| {
        nearest.offer(at, key);
        ControlFlow::Continue(())
    })?;
    Ok(nearest.found())
}

/// What the committer has to do with it.
#[derive(Default)]
pub(crate) struct Upcoming {
    /// Found, and not taken in yet.
    found: Option<Found>,
    is_wanted: bool,
}

impl Upcoming {
    /// Whether there is more to be taken in.
    pub(crate) fn is_busy(&self) -> bool {
        self.found.is_some()
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
            time.set_horizon(found.horizon.as_ref().map(|(at, _)| *at));
            sequencer.end_filling(found.horizon.take());
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
        if self.is_wanted {
            return None;
        }
        while sequencer.expiries() > EXPIRIES_MAX {
            // Nobody may have been shown a time past the horizon.
            let Some(last) = sequencer.latest_expiry() else { break };
            if !time.lower_horizon(last) {
                break;
            }
            sequencer.forget_latest_expiry();
        }
        let waits = sequencer.horizon().is_some_and(|at| at.0 <= sequencer.time().0 + 1);
        if sequencer.expiries() >= EXPIRIES_MAX / 2 && !waits {
            return None;
        }
        let from = sequencer.fill()?;
        self.is_wanted = true;
        Some(Wanted { from, stack: stack.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::{EXPIRIES_MAX, Nearest, Upcoming};
    use crate::{layer::Layer, stack::Stack, time::Time};
    use bytes::Bytes;
    use outrigger_kernel::{Mono, Wall};
    use outrigger_keyspace::{Transaction, Write, sequencer::Sequencer};
    use std::sync::Arc;

    #[test]
    fn the_nearest_are_found_key_by_key_within_one_instant() {
        let key = |n: u64| n.to_be_bytes();
        let mut from = None;
        let mut all = Vec::new();
        loop {
            let mut nearest = Nearest::new(from.clone(), 10);
            for n in 0..100 {
                // All at three instants: there are more at each than are found at once.
                nearest.offer(Wall(n % 3), &key(n * 37 % 100));
            }
            let found = nearest.found();
            assert!(found.expiries.len() <= 10);
            let mut expiries = found.expiries;
            expiries.sort();
            all.extend(expiries);
            from = found.horizon;
            if from.is_none() {
                break;
            }
        }
        assert_eq!(all.len(), 100);
        assert!(all.is_sorted(), "each but once, the nearest first");
    }

    #[test]
    fn memory_holds_so_many_and_asks_for_more_when_half_are_gone() {
        let (mut sequencer, time) = (Sequencer::new(0, Wall(1)), Time::new(Wall(1)));
        let (active, index) = (Layer::default(), Arc::new(crate::stack::tests::Map::default()));
        let stack = Stack { active, sealed: None, index };
        let mut upcoming = Upcoming::default();
        let many = 3 * EXPIRIES_MAX as u64;
        for n in 0..many {
            let (key, expires_at) = (Bytes::from(n.to_string()), Some(Wall(10 + n * 7 % many)));
            let writes = vec![Write::Put { key, value: Bytes::new(), expires_at }];
            let transaction = Transaction { writes, ..Transaction::default() };
            sequencer.sequence(Mono(0), transaction, &stack).unwrap();
            assert!(upcoming.bound(&mut sequencer, &time, &stack).is_none());
            assert!(sequencer.expiries() <= EXPIRIES_MAX);
        }
        assert_eq!(sequencer.horizon(), Some(Wall(10 + EXPIRIES_MAX as u64)));
        assert_eq!(time.now(Wall(u64::MAX)), Wall(9 + EXPIRIES_MAX as u64));
        // What is in the agenda is not in this map: its time passes, and it is gone from the agenda.
        let halfway = Wall(10 + EXPIRIES_MAX as u64 / 2);
        assert_eq!(sequencer.advance(halfway, Mono(0), &stack), Ok(None));
        assert!(upcoming.bound(&mut sequencer, &time, &stack).is_some());
        assert!(upcoming.bound(&mut sequencer, &time, &stack).is_none(), "once is enough");
    }
}
