//! What calls take: percentiles over the last moments, in fixed memory.
//!
//! A latency is counted in one of [`BUCKETS`] buckets, 16 to each doubling, so a percentile is at most 6.25 % above the
//! latency it stands for and never below it. The counts lie in a ring of slots, each a slice of the window long; a slot
//! whose time comes round again is emptied by whoever records first. So the window slides by slots: it covers between
//! the full window and one slot less.
//!
//! ```text
//!   window 10 s, 5 slots         | 0-2 s | 2-4 s | 4-6 s | 6-8 s | 8-10 s |     now = 11 s writes over 0-2 s
//!   each slot                    [ .. counts of 1.02 us, 1.09 us, .. 137 s .. ]
//! ```
//!
//! | | |
//! |---|---|
//! | resolution | 1.024 us (everything shorter counts as that) |
//! | longest told apart | [`TRACKED_MAX`], about 137 s (everything longer counts as that) |
//! | error | 0 to +6.25 % |
//! | memory | 1.7 KiB a slot, allocated once |
//! | cost | recording: two loads and one atomic addition; asking: a walk over all counts, so keep the answer ([`Memo`]) |
//!
//! Nothing locks. Two threads that meet while a slot is being emptied may lose a few counts of that instant, which a
//! percentile does not notice. The buckets are those of Gil Tene's HdrHistogram, with powers of two; the ring is that of
//! Finagle's `WindowedPercentileHistogram`.

use outrigger_kernel::Mono;
use std::{
    array, fmt,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

/// Buckets to each doubling, as a power of two.
const FINE_BITS: u32 = 4;
const FINE: usize = 1 << FINE_BITS;
/// The power of two of nanoseconds where the first bucket begins.
const LOW_BITS: u32 = 10;
/// The power of two of nanoseconds where the last one ends.
const HIGH_BITS: u32 = 37;
/// How many buckets there are.
const BUCKETS: usize = (HIGH_BITS - LOW_BITS) as usize * FINE;
/// The longest latency told apart from longer ones; a percentile of this says "too long to know".
pub const TRACKED_MAX: Duration = Duration::from_nanos(1 << HIGH_BITS);
/// Most slots of a window.
const SLOTS_MAX: usize = 64;

/// Percentiles of latencies over a sliding window.
///
/// ```
/// use outrigger_kernel::Mono;
/// use outrigger_resilience::Percentiles;
/// use std::time::Duration;
///
/// let seen = Percentiles::new(Duration::from_secs(10), 5);
/// let now = Mono(0);
/// for ms in 1..=100 {
///     seen.record(Duration::from_millis(ms), now);
/// }
/// let p95 = seen.percentile(0.95, now).expect("there are samples");
/// assert!(p95 >= Duration::from_millis(95) && p95 <= Duration::from_millis(101));
/// assert_eq!(seen.count(now), 100);
/// assert_eq!(seen.percentile(0.95, now.plus(Duration::from_secs(11))), None, "all forgotten");
/// ```
pub struct Percentiles {
    slot_ns: u64,
    slots: Box<[Slot]>,
}

struct Slot {
    /// Which slice of time it holds, from 1; 0 for none yet.
    epoch: AtomicU64,
    counts: [AtomicU32; BUCKETS],
}

impl Percentiles {
    /// An empty window of `window` (at least 1 ms) in `slots` slots (2 to [`SLOTS_MAX`]).
    #[must_use]
    pub fn new(window: Duration, slots: usize) -> Self {
        let slots = slots.clamp(2, SLOTS_MAX);
        let window = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX).max(1_000_000);
        let slot_ns = (window / slots as u64).max(1);
        let slots = (0..slots)
            .map(|_| Slot {
                epoch: AtomicU64::new(0),
                counts: array::from_fn(|_| AtomicU32::new(0)),
            })
            .collect();
        Self { slot_ns, slots }
    }

    /// Counts a latency of `took` at `now`.
    pub fn record(&self, took: Duration, now: Mono) {
        let epoch = self.epoch(now);
        let slot = &self.slots[usize::try_from(epoch).unwrap_or(0) % self.slots.len()];
        let held = slot.epoch.load(Ordering::Acquire);
        if held != epoch {
            if held > epoch {
                // Recorded with a reading of the clock from a whole window ago: of no use any more.
                return;
            }
            slot.begin(held, epoch);
        }
        slot.counts[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// The latency that the share `p` (0 to 1) of the window's calls did not exceed; `None` without any.
    #[must_use]
    pub fn percentile(&self, p: f64, now: Mono) -> Option<Duration> {
        let total = self.count(now);
        if total == 0 {
            return None;
        }
        let rank = rank(p, total);
        let mut seen = 0_u64;
        for index in 0..BUCKETS {
            for slot in self.live(now) {
                seen += u64::from(slot.counts[index].load(Ordering::Relaxed));
            }
            if seen >= rank {
                return Some(upper_edge(index));
            }
        }
        // Slots were emptied since they were counted.
        None
    }

    /// How many latencies the window holds.
    #[must_use]
    pub fn count(&self, now: Mono) -> u64 {
        let counts = self.live(now).flat_map(|slot| &slot.counts);
        counts.map(|count| u64::from(count.load(Ordering::Relaxed))).sum()
    }

    /// The slots whose time lies within the window.
    fn live(&self, now: Mono) -> impl Iterator<Item = &Slot> {
        let last = self.epoch(now);
        let first = last.saturating_sub(self.slots.len() as u64 - 1).max(1);
        self.slots
            .iter()
            .filter(move |slot| (first..=last).contains(&slot.epoch.load(Ordering::Acquire)))
    }

    fn epoch(&self, now: Mono) -> u64 {
        now.0 / self.slot_ns + 1
    }
}

impl Slot {
    /// Makes an old slot one of `epoch`, unless somebody else just did.
    #[cold]
    fn begin(&self, held: u64, epoch: u64) {
        // Emptied before it is named anew: a reader that sees the new name sees no old counts.
        if self.epoch.compare_exchange(held, 0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return;
        }
        for count in &self.counts {
            count.store(0, Ordering::Relaxed);
        }
        self.epoch.store(epoch, Ordering::Release);
    }
}

impl fmt::Debug for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Percentiles({} slots of {:?})",
            self.slots.len(),
            Duration::from_nanos(self.slot_ns)
        )
    }
}

/// Which of `total` samples in order the share `p` names, from 1.
fn rank(p: f64, total: u64) -> u64 {
    let p = if p.is_nan() { 1.0 } else { p.clamp(0.0, 1.0) };
    #[expect(clippy::cast_precision_loss, reason = "counts of one window stay far below 2^53")]
    let exact = p * total as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and the total"
    )]
    let rank = exact.ceil() as u64;
    rank.clamp(1, total)
}

fn bucket(took: Duration) -> usize {
    let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    if ns < 1 << LOW_BITS {
        return 0;
    }
    let power = ns.ilog2();
    if power >= HIGH_BITS {
        return BUCKETS - 1;
    }
    // The bits after the leading one say which of the doubling's buckets it is.
    let fine = (ns >> (power - FINE_BITS)) & (FINE as u64 - 1);
    (power - LOW_BITS) as usize * FINE + usize::try_from(fine).unwrap_or(0)
}

fn upper_edge(index: usize) -> Duration {
    let power = LOW_BITS + u32::try_from(index / FINE).unwrap_or(0);
    let step = 1_u64 << (power - FINE_BITS);
    Duration::from_nanos((1 << power) + step * (index % FINE + 1) as u64)
}

/// A value worked out now and then, and kept in between: one word, no lock.
///
/// Whoever finds it too old works it out, while the others go on with the old one.
///
/// ```
/// use outrigger_kernel::Mono;
/// use outrigger_resilience::Memo;
/// use std::time::Duration;
///
/// let memo = Memo::new(Duration::from_secs(1));
/// let second = Duration::from_secs(1);
/// assert_eq!(memo.get(Mono(0), || Some(second)), Some(second));
/// assert_eq!(memo.get(Mono(5), || unreachable!()), Some(second), "kept");
/// assert_eq!(memo.get(Mono(0).plus(second), || None), None, "worked out anew");
/// ```
#[derive(Debug)]
pub struct Memo {
    every_ns: u64,
    /// When it is too old, in nanoseconds.
    until: AtomicU64,
    /// The value in nanoseconds; 0 for none.
    value: AtomicU64,
}

impl Memo {
    /// A value that is worked out at most once `every` so often.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        let every_ns = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        Self { every_ns, until: AtomicU64::new(0), value: AtomicU64::new(0) }
    }

    /// The value, from `work_out` if what is kept is too old at `now`.
    pub fn get(&self, now: Mono, work_out: impl FnOnce() -> Option<Duration>) -> Option<Duration> {
        let until = self.until.load(Ordering::Relaxed);
        if now.0 >= until {
            let next = now.0.saturating_add(self.every_ns).max(1);
            let mine =
                self.until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed);
            if mine.is_ok() {
                let value = work_out();
                self.value.store(value.map_or(0, as_ns), Ordering::Relaxed);
                return value;
            }
        }
        let kept = self.value.load(Ordering::Relaxed);
        (kept > 0).then(|| Duration::from_nanos(kept))
    }
}

fn as_ns(value: Duration) -> u64 {
    u64::try_from(value.as_nanos()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Percentiles, TRACKED_MAX, bucket, upper_edge};
    use outrigger_kernel::Mono;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn every_bucket_ends_where_the_next_begins() {
        for index in 0..BUCKETS - 1 {
            let edge = upper_edge(index);
            assert_eq!(bucket(edge), index + 1, "{edge:?}");
            assert_eq!(bucket(edge - Duration::from_nanos(1)), index);
        }
        assert_eq!(upper_edge(BUCKETS - 1), TRACKED_MAX);
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_window_forgets_slot_by_slot() {
        let seen = Percentiles::new(Duration::from_secs(5), 5);
        let at = |second: u64| Mono(second * 1_000_000_000);
        for second in 0..5 {
            seen.record(Duration::from_millis(second + 1), at(second));
        }
        assert_eq!(seen.count(at(4)), 5);
        assert_eq!(seen.count(at(6)), 3);
        seen.record(Duration::from_millis(9), at(20));
        assert_eq!(seen.count(at(20)), 1);
        // A clock reading from before the window does no harm.
        seen.record(Duration::from_millis(9), at(0));
        assert_eq!(seen.count(at(20)), 1);
    }

    #[test]
    fn odd_questions_have_answers() {
        let seen = Percentiles::new(Duration::ZERO, 0);
        assert_eq!(seen.percentile(0.5, Mono(0)), None);
        seen.record(Duration::MAX, Mono(u64::MAX));
        for p in [-1.0, 0.0, 0.5, 1.0, 9.0, f64::NAN] {
            assert_eq!(seen.percentile(p, Mono(u64::MAX)), Some(TRACKED_MAX));
        }
    }

    #[test]
    fn threads_count_together() {
        let seen = Percentiles::new(Duration::from_secs(1), 2);
        // One before them, since counts may be lost while a slot begins.
        seen.record(Duration::ZERO, Mono(7));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for ms in 0..1_000 {
                        seen.record(Duration::from_millis(ms), Mono(7));
                    }
                });
            }
        });
        assert_eq!(seen.count(Mono(7)), 4_001);
    }

    proptest! {
        #[test]
        fn a_percentile_is_never_short_and_little_too_long(
            mut us in proptest::collection::vec(2_u64..50_000_000, 1..200),
            p in 0.0_f64..1.0,
        ) {
            let seen = Percentiles::new(Duration::from_secs(10), 10);
            for took in &us {
                seen.record(Duration::from_micros(*took), Mono(1));
            }
            us.sort_unstable();
            let rank = super::rank(p, us.len() as u64);
            let exact = Duration::from_micros(us[usize::try_from(rank - 1).unwrap()]);
            let told = seen.percentile(p, Mono(1)).unwrap();
            prop_assert!(told >= exact && told.as_secs_f64() <= exact.as_secs_f64() * 1.0626);
        }
    }
}
