//! Two lanes of waiting commits, and what of them goes into one batch.
//!
//! A batch is written and flushed as a whole, so everybody in it waits for its last byte. Small commits go first and bulk
//! is rationed: as long as small ones keep coming, little bulk rides along; otherwise a batch is as large as still flushes
//! at a decent pace. Within a lane first come, first served.
//!
//! | waiting | a batch takes |
//! |---|---|
//! | small ones | all of them, up to [`Bounds::batch_bytes_max`] |
//! | bulk, while small ones keep coming | up to [`Bounds::bulk_bytes_beside_small`] |
//! | bulk alone | up to [`Bounds::batch_bytes_max`] |
//! | one that is larger | it alone, after one batch of whatever small ones there are |
//!
//! When memory fills up faster than it can be emptied, bulk waits first ([`Held::Bulk`]): small ones go on with the room that
//! is left.

use std::collections::VecDeque;

/// Which lane a commit waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Small,
    Bulk,
}

impl Lane {
    /// The largest small commit: it adds little to the time a flush takes.
    const SMALL_BYTES_MAX: usize = 16 * 1024;

    pub(crate) fn of(bytes: usize) -> Self {
        if bytes <= Self::SMALL_BYTES_MAX { Self::Small } else { Self::Bulk }
    }
}

/// What must wait until there is less in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Nothing,
    Bulk,
    All,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) batch_bytes_max: usize,
    pub(crate) bulk_bytes_beside_small: usize,
}

/// What a batch has taken so far.
#[derive(Debug, Default)]
pub(crate) struct Load {
    small_bytes: usize,
    bulk_bytes: usize,
    commits: usize,
    /// How many commits it takes at most, if not all there are.
    commits_max: Option<usize>,
    closed: bool,
    /// Whether it takes no more than what there is when the writer is found.
    is_last: bool,
}

impl Load {
    /// How many commits were taken.
    pub(crate) fn commits(&self) -> usize {
        self.commits
    }

    /// It takes no more than `commits`.
    pub(crate) fn bound(&mut self, commits: usize) {
        self.commits_max = Some(commits);
    }

    fn commits_left(&self) -> usize {
        self.commits_max.map_or(usize::MAX, |max| max.saturating_sub(self.commits))
    }

    /// From now on it is as it is, but for what waits at this moment. Whether that was not so already.
    pub(crate) fn call_last(&mut self) -> bool {
        !std::mem::replace(&mut self.is_last, true)
    }

    /// Nothing more goes into the batch.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    fn is_empty(&self) -> bool {
        self.small_bytes + self.bulk_bytes == 0
    }
}

pub(crate) struct Lanes<T> {
    bounds: Bounds,
    small: Queue<T>,
    bulk: Queue<T>,
    /// Whether the batch before took small ones, and whether this one has.
    small_before: bool,
    small_now: bool,
    /// Whether the first of the bulk, too large to share a batch, has let one batch go first.
    has_yielded: bool,
}

struct Queue<T> {
    waiting: VecDeque<(usize, T)>,
    bytes: usize,
}

impl<T> Lanes<T> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            small: Queue::default(),
            bulk: Queue::default(),
            small_before: false,
            small_now: false,
            has_yielded: false,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.small.waiting.is_empty() && self.bulk.waiting.is_empty()
    }

    /// How many small ones wait.
    pub(crate) fn small(&self) -> usize {
        self.small.waiting.len()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.small.waiting.len() + self.bulk.waiting.len()
    }

    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Whether something waits that is not held.
    pub(crate) fn has_free(&self, held: Held) -> bool {
        match held {
            Held::Nothing => !self.is_empty(),
            Held::Bulk => !self.small.waiting.is_empty(),
            Held::All => false,
        }
    }

    /// The bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.small.bytes + self.bulk.bytes
    }

    pub(crate) fn push(&mut self, bytes: usize, item: T) {
        let queue = match Lane::of(bytes) {
            Lane::Small => &mut self.small,
            Lane::Bulk => &mut self.bulk,
        };
        queue.bytes += bytes;
        queue.waiting.push_back((bytes, item));
    }

    /// Moves into `taken` what still fits into a batch that has `load` and is not held.
    pub(crate) fn take(&mut self, load: &mut Load, held: Held, taken: &mut VecDeque<(usize, T)>) {
        let before = taken.len();
        self.take_of_both(load, held, taken);
        load.commits += taken.len() - before;
    }

    fn take_of_both(&mut self, load: &mut Load, held: Held, taken: &mut VecDeque<(usize, T)>) {
        if load.closed || held == Held::All {
            return;
        }
        if load.is_empty() {
            self.small_before = std::mem::take(&mut self.small_now);
            if held == Held::Nothing
                && self.has_outsized(load)
                && (self.small.waiting.is_empty() || self.has_yielded)
            {
                self.has_yielded = false;
                load.bulk_bytes += self.bulk.pop(usize::MAX, taken).unwrap_or(0);
                load.close();
                return;
            }
        }
        let room = self.bounds.batch_bytes_max.saturating_sub(load.small_bytes);
        let took = self.small.take(room, load.commits_left(), taken);
        self.small_now |= took > 0;
        load.small_bytes += took;
        if held == Held::Bulk || load.commits_max.is_some() {
            return;
        }
        let room = self.bulk_bytes_max(load).saturating_sub(load.bulk_bytes);
        load.bulk_bytes += self.bulk.take(room, usize::MAX, taken);
        self.has_yielded = self.has_outsized(load);
    }

    fn bulk_bytes_max(&self, load: &Load) -> usize {
        let small = self.small_before || load.small_bytes > 0 || !self.small.waiting.is_empty();
        if small { self.bounds.bulk_bytes_beside_small } else { self.bounds.batch_bytes_max }
    }

    /// Whether the first of the bulk fits into no batch that others share.
    fn has_outsized(&self, load: &Load) -> bool {
        let first = self.bulk.waiting.front();
        first.is_some_and(|(bytes, _)| *bytes > self.bulk_bytes_max(load))
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0 }
    }
}

impl<T> Queue<T> {
    /// Moves as many as fit into `room`, but no more than `commits_max`; answers their bytes.
    fn take(&mut self, room: usize, commits_max: usize, taken: &mut VecDeque<(usize, T)>) -> usize {
        if self.bytes <= room && self.waiting.len() <= commits_max && taken.is_empty() {
            std::mem::swap(&mut self.waiting, taken);
            return std::mem::take(&mut self.bytes);
        }
        let (mut took, mut left) = (0, commits_max);
        while left > 0
            && let Some(bytes) = self.pop(room - took, taken)
        {
            took += bytes;
            left -= 1;
        }
        took
    }

    fn pop(&mut self, room: usize, taken: &mut VecDeque<(usize, T)>) -> Option<usize> {
        let bytes = self.waiting.front().map(|(bytes, _)| *bytes).filter(|bytes| *bytes <= room)?;
        taken.extend(self.waiting.pop_front());
        self.bytes -= bytes;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Held, Lanes, Load};
    use std::collections::VecDeque;

    const KIB: usize = 1024;

    fn lanes(waiting: &[usize]) -> Lanes<()> {
        let bounds = Bounds { batch_bytes_max: 1024 * KIB, bulk_bytes_beside_small: 256 * KIB };
        let mut lanes = Lanes::new(bounds);
        for kib in waiting {
            lanes.push(kib * KIB, ());
        }
        lanes
    }

    /// What the next batch takes, in KiB, when it is closed at once.
    fn batch(lanes: &mut Lanes<()>) -> Vec<usize> {
        take(lanes, &mut Load::default())
    }

    fn take(lanes: &mut Lanes<()>, load: &mut Load) -> Vec<usize> {
        let mut taken = VecDeque::new();
        lanes.take(load, Held::Nothing, &mut taken);
        kib(taken)
    }

    fn kib(taken: VecDeque<(usize, ())>) -> Vec<usize> {
        taken.into_iter().map(|(bytes, ())| bytes / KIB).collect()
    }

    #[test]
    fn small_ones_pass_bulk_and_ration_it() {
        let mut lanes = lanes(&[100, 100, 100, 1, 2]);
        assert_eq!(batch(&mut lanes), [1, 2, 100, 100]);
        lanes.push(KIB, ());
        assert_eq!(batch(&mut lanes), [1, 100]);
        assert!(lanes.is_empty() && lanes.bytes() == 0);
    }

    #[test]
    fn bulk_alone_fills_a_batch_once_small_ones_have_stayed_away() {
        let mut lanes = lanes(&[1, 200, 200, 200, 200, 200, 200, 200, 200, 200]);
        assert_eq!(batch(&mut lanes), [1, 200]);
        assert_eq!(batch(&mut lanes), [200], "one may come again");
        assert_eq!(batch(&mut lanes), [200; 5]);
        assert_eq!(batch(&mut lanes), [200; 2]);
    }

    #[test]
    fn a_batch_that_waits_for_the_disk_takes_more_until_it_is_full() {
        let mut lanes = lanes(&[600]);
        let mut load = Load::default();
        assert_eq!(take(&mut lanes, &mut load), [600]);
        lanes.push(400 * KIB, ());
        lanes.push(100 * KIB, ());
        assert_eq!(take(&mut lanes, &mut load), [400]);
        // Full of bulk, but a small one still catches it.
        lanes.push(KIB, ());
        assert_eq!(take(&mut lanes, &mut load), [1]);
        load.close();
        lanes.push(KIB, ());
        assert_eq!(take(&mut lanes, &mut load), Vec::<usize>::new());
    }

    #[test]
    fn one_that_fits_no_batch_goes_alone_and_is_not_starved() {
        let mut lanes = lanes(&[5_000, 100, 1]);
        assert_eq!(batch(&mut lanes), [1]);
        lanes.push(KIB, ());
        let mut load = Load::default();
        assert_eq!(take(&mut lanes, &mut load), [5_000]);
        assert_eq!(take(&mut lanes, &mut load), Vec::<usize>::new(), "nobody waits with it");
        assert_eq!(batch(&mut lanes), [1, 100]);
        lanes.push(5_000 * KIB, ());
        let _one: Vec<usize> = batch(&mut lanes);
        assert!(lanes.is_empty(), "nobody to yield to");
    }

    #[test]
    fn bulk_is_held_before_small_ones_are() {
        let mut lanes = lanes(&[100, 5_000, 1, 2]);
        let mut taken = VecDeque::new();
        lanes.take(&mut Load::default(), Held::All, &mut taken);
        assert!(taken.is_empty() && !lanes.has_free(Held::All) && lanes.has_free(Held::Bulk));
        lanes.take(&mut Load::default(), Held::Bulk, &mut taken);
        assert_eq!(kib(taken), [1, 2]);
        assert!(!lanes.has_free(Held::Bulk) && lanes.has_free(Held::Nothing));
        assert_eq!(batch(&mut lanes), [100]);
        assert_eq!(batch(&mut lanes), [5_000]);
    }

    #[test]
    fn a_batch_is_bounded() {
        let mut lanes = lanes(&[16; 100]);
        assert_eq!(batch(&mut lanes).len(), 64);
        assert_eq!(batch(&mut lanes).len(), 36);
    }
}
