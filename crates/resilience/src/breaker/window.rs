//! What happened lately: the last N calls, or the last N seconds, in windows that truly slide and whose cost does not
//! depend on what is in them.
//!
//! * [`LastCalls`]: one byte per call in a ring. A new outcome replaces the one N calls ago; the sums change by the
//!   difference. A success that replaces a success, which is nearly every call of a healthy life, only moves the ring on.
//! * [`LastTime`]: ten buckets. A tenth of the span at a time falls out at the far end, so the window is between 90 % and
//!   100 % of its span long. One addition per call; a look sums ten words.
//!
//! Both are atomics; only a bucket's turn takes a lock, ten times per span. An outcome that races with a turn may land in
//! the neighbouring bucket, or be lost: one of many, and never twice.

use outrigger_kernel::Mono;
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Most calls that [`LastCalls`] looks back on.
pub(crate) const CALLS_MAX: u32 = 100_000;
/// How many buckets [`LastTime`] has.
pub(crate) const BUCKETS: usize = 10;

/// What is counted of one call; a call may be both slow and failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(u8);

impl Mark {
    pub(crate) const OK: Self = Self(0b001);

    pub(crate) const fn new(failed: bool, slow: bool) -> Self {
        Self(1 | (failed as u8) << 1 | (slow as u8) << 2)
    }

    /// Three counters of 21 bits in one word, so that one addition counts all of it.
    const fn packed(self) -> u64 {
        (self.0 & 1) as u64 | ((self.0 >> 1 & 1) as u64) << 21 | ((self.0 >> 2 & 1) as u64) << 42
    }
}

/// The sums of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    pub(crate) slow: u64,
}

const FIELD: u64 = (1 << 21) - 1;
/// What a halved word may have set: without it the lowest bit of a field would fall into its neighbour.
const HALVES: u64 = (FIELD >> 1) * (1 | 1 << 21 | 1 << 42);

impl Sums {
    const fn unpacked(word: u64) -> Self {
        Self { calls: word & FIELD, failed: word >> 21 & FIELD, slow: word >> 42 & FIELD }
    }
}

/// The last N calls.
#[derive(Debug)]
pub(crate) struct LastCalls {
    cells: Box<[AtomicU8]>,
    next: AtomicU64,
    /// Calls, failures and slow ones; the calls are counted until the window is full.
    sums: AtomicU64,
}

impl LastCalls {
    pub(crate) fn new(calls: u32) -> Self {
        let calls = calls.clamp(1, CALLS_MAX);
        let cells = (0..calls).map(|_| AtomicU8::new(0)).collect();
        Self { cells, next: AtomicU64::new(0), sums: AtomicU64::new(0) }
    }

    pub(crate) fn add(&self, mark: Mark) {
        let index = self.next.fetch_add(1, Relaxed) % self.cells.len() as u64;
        let Some(cell) = usize::try_from(index).ok().and_then(|index| self.cells.get(index)) else {
            return;
        };
        if cell.load(Relaxed) == mark.0 {
            return;
        }
        let before = Mark(cell.swap(mark.0, Relaxed));
        // Wrapping: a field that shrinks borrows from the next one and pays it back in the same addition.
        self.sums.fetch_add(mark.packed().wrapping_sub(before.packed()), Relaxed);
    }

    pub(crate) fn sums(&self) -> Sums {
        let sums = Sums::unpacked(self.sums.load(Relaxed));
        // Two writers of one cell, a whole window apart, may be seen in the wrong order for an instant. Better to know
        // nothing then; the next outcome asks again.
        let sane = sums.failed <= sums.calls
            && sums.slow <= sums.calls
            && sums.calls <= self.cells.len() as u64;
        if sane { sums } else { Sums::default() }
    }

    /// Forgets everything; as long as the window, and so only for transitions.
    pub(crate) fn clear(&self) {
        for cell in &self.cells {
            let before = Mark(cell.swap(0, Relaxed));
            self.sums.fetch_sub(before.packed(), Relaxed);
        }
    }
}

/// The last N seconds.
#[derive(Debug)]
pub(crate) struct LastTime {
    width_ns: u64,
    /// When the bucket of now ends; 0 before the first call.
    ends: AtomicU64,
    /// Which bucket it is, counted from the first.
    epoch: AtomicU64,
    cells: [AtomicU64; BUCKETS],
    turning: Mutex<()>,
}

impl LastTime {
    pub(crate) fn new(span: Duration) -> Self {
        let span_ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self {
            width_ns: (span_ns / BUCKETS as u64).max(1),
            ends: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            cells: [const { AtomicU64::new(0) }; BUCKETS],
            turning: Mutex::new(()),
        }
    }

    pub(crate) fn add(&self, mark: Mark, now: Mono) {
        self.count(mark.packed(), now);
    }

    /// Counts three small numbers at once.
    pub(crate) fn count(&self, packed: u64, now: Mono) {
        if now.0 >= self.ends.load(Relaxed) {
            self.turn(now);
        }
        let Some(cell) = self.cells.get(self.place(self.epoch.load(Relaxed))) else { return };
        let before = cell.fetch_add(packed, Relaxed);
        if before & FIELD >= FIELD / 2 {
            // Half a million adds fit into what is left, so nobody overflows while this is done.
            let _previous = cell.try_update(Relaxed, Relaxed, |word| {
                (word & FIELD >= FIELD / 2).then_some((word >> 1) & HALVES)
            });
        }
    }

    pub(crate) fn sums(&self, now: Mono) -> Sums {
        if now.0 >= self.ends.load(Relaxed) {
            self.turn(now);
        }
        self.cells.iter().fold(Sums::default(), |all, cell| {
            let own = Sums::unpacked(cell.load(Relaxed));
            Sums {
                calls: all.calls + own.calls,
                failed: all.failed + own.failed,
                slow: all.slow + own.slow,
            }
        })
    }

    pub(crate) fn clear(&self) {
        for cell in &self.cells {
            cell.store(0, Relaxed);
        }
    }

    fn place(&self, epoch: u64) -> usize {
        usize::try_from(epoch % BUCKETS as u64).unwrap_or_default()
    }

    /// Makes the bucket of `now` the present one and empties all that fell out.
    #[cold]
    fn turn(&self, now: Mono) {
        let _turning = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = self.ends.load(Relaxed);
        if now.0 < ends {
            return;
        }
        let epoch = self.epoch.load(Relaxed);
        // Buckets lie on multiples of their width: two windows that started at other times turn together.
        let steps = if ends == 0 { 1 } else { (now.0 - ends) / self.width_ns + 1 };
        for step in 1..=steps.min(BUCKETS as u64) {
            if let Some(cell) = self.cells.get(self.place(epoch.wrapping_add(step))) {
                cell.store(0, Relaxed);
            }
        }
        // Past a whole window all buckets are empty, so which one is next does not matter.
        self.epoch.store(epoch.wrapping_add(steps.min(BUCKETS as u64)), Relaxed);
        let begins = now.0 - now.0 % self.width_ns;
        self.ends.store(begins.saturating_add(self.width_ns), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{LastCalls, LastTime, Mark, Sums};
    use outrigger_kernel::Mono;
    use proptest::prelude::*;
    use std::{collections::VecDeque, time::Duration};

    #[test]
    fn a_full_bucket_halves_and_keeps_its_shares() {
        let window = LastTime::new(Duration::from_secs(10));
        for call in 0..5_000_000_u32 {
            window.add(Mark::new(call % 4 == 0, call % 10 == 0), Mono(5));
        }
        let sums = window.sums(Mono(5));
        assert!(sums.calls > 500_000, "{sums:?}");
        assert!((sums.failed * 1_000 / sums.calls).abs_diff(250) <= 1, "{sums:?}");
        assert!((sums.slow * 1_000 / sums.calls).abs_diff(100) <= 1, "{sums:?}");
    }

    #[test]
    fn the_end_of_time_is_harmless() {
        let window = LastTime::new(Duration::MAX);
        window.add(Mark::OK, Mono(u64::MAX));
        window.add(Mark::OK, Mono(u64::MAX));
        assert!(window.sums(Mono(u64::MAX)).calls >= 1);
    }

    proptest! {
        #[test]
        fn the_last_calls_are_exactly_the_last_calls(size in 1_u32..40, calls in proptest::collection::vec(any::<(bool, bool)>(), 0..200)) {
            let window = LastCalls::new(size);
            let mut model = VecDeque::new();
            for (failed, slow) in calls {
                window.add(Mark::new(failed, slow));
                model.push_back((failed, slow));
                if model.len() > size as usize {
                    model.pop_front();
                }
                let expected = Sums {
                    calls: model.len() as u64,
                    failed: model.iter().filter(|(failed, _)| *failed).count() as u64,
                    slow: model.iter().filter(|(_, slow)| *slow).count() as u64,
                };
                prop_assert_eq!(window.sums(), expected);
            }
            window.clear();
            prop_assert_eq!(window.sums(), Sums::default());
        }

        /// Never counts what is older than the span, always counts what is younger than nine tenths of it.
        #[test]
        fn the_last_time_slides(steps in proptest::collection::vec((0_u64..3_000, any::<bool>()), 0..200)) {
            let window = LastTime::new(Duration::from_nanos(1_000));
            let mut calls: Vec<(u64, bool)> = Vec::new();
            let mut now = 0;
            for (wait, failed) in steps {
                // Mostly small steps, now and then one past the whole window.
                now += if wait < 2_700 { wait / 27 } else { wait };
                window.add(Mark::new(failed, false), Mono(now));
                calls.push((now, failed));
                let sums = window.sums(Mono(now));
                let within = |span: u64| calls.iter().filter(move |(at, _)| at + span > now);
                prop_assert!(sums.calls <= within(1_000).count() as u64);
                prop_assert!(sums.calls >= within(900).count() as u64);
                prop_assert!(sums.failed <= within(1_000).filter(|(_, failed)| *failed).count() as u64);
                prop_assert!(sums.failed >= within(900).filter(|(_, failed)| *failed).count() as u64);
            }
        }
    }
}
