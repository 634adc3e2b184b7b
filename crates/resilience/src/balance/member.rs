//! What is known of one endpoint: a few words of atomics that survive every change of the set around it.
//!
//! Counters that decide about correctness (calls in flight) are exact. Those that only feed averages are written without
//! read-modify-write: two outcomes in the same nanosecond may count as one, which no average notices and every call
//! gains from.

use outrigger_kernel::Mono;
use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// How much one outcome moves the share of failures.
const FAILING_STEP: f32 = 1.0 / 32.0;

/// The state of one endpoint.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Unlike any other endpoint's of this balancer, ever.
    pub(super) id: u64,
    pub(super) in_flight: AtomicU32,
    pub(super) picks: AtomicU64,
    latency: Decaying,
    failing: Decaying,
    pub(super) consecutive_failures: AtomicU32,
    pub(super) window: Window,
    /// Ejected until then; 0 for not.
    pub(super) ejected_until: AtomicU64,
    /// Ejections not yet forgiven.
    pub(super) ejections: AtomicU32,
    /// Back from ejection, with no success yet: one call at a time.
    pub(super) probation: AtomicBool,
    /// Since when it comes up to its weight; 0 for being there.
    rising_since: AtomicU64,
}

impl State {
    pub(super) fn new(id: u64, rising_since: Option<Mono>) -> Self {
        let state = Self { id, ..Self::default() };
        if let Some(now) = rising_since {
            state.rise(now);
        }
        state
    }

    /// Begins slow start.
    pub(super) fn rise(&self, now: Mono) {
        self.rising_since.store(now.0.max(1), Relaxed);
    }

    /// The share of its weight that it has come up to, from 0.1 to 1.
    pub(super) fn risen(&self, now: Mono, slow_start: Duration) -> f32 {
        let since = self.rising_since.load(Relaxed);
        if since == 0 {
            return 1.0;
        }
        let passed = now.since(Mono(since));
        if passed >= slow_start {
            self.rising_since.store(0, Relaxed);
            return 1.0;
        }
        (passed.as_secs_f32() / slow_start.as_secs_f32()).clamp(0.1, 1.0)
    }

    /// Whether ejection keeps it from being picked at `now`.
    pub(super) fn is_out(&self, now: Mono) -> bool {
        let until = self.ejected_until.load(Relaxed);
        if until == 0 {
            return false;
        }
        now.0 < until || (self.probation.load(Relaxed) && self.in_flight.load(Relaxed) > 0)
    }

    /// The latency expected of it in seconds; `None` before the first sample.
    pub(super) fn latency(&self, now: Mono, decay: Duration) -> Option<f32> {
        self.latency.faded(now, decay)
    }

    /// The share of recent failures, from 0 to 1.
    pub(super) fn failing(&self, now: Mono, decay: Duration) -> f32 {
        self.failing.faded(now, decay).unwrap_or(0.0)
    }

    /// A latency was seen: jumps up, sinks slowly.
    pub(super) fn saw_latency(&self, seconds: f32, now: Mono, decay: Duration) {
        let Some((old, kept)) = self.latency.read(now, decay) else {
            return self.latency.write(seconds, now);
        };
        let new = if seconds >= old { seconds } else { old * kept + seconds * (1.0 - kept) };
        self.latency.write(new, now);
    }

    /// A call ended well or badly.
    pub(super) fn saw_end(&self, ok: bool, now: Mono, decay: Duration) {
        let share = self.failing.faded(now, decay);
        match (share, ok) {
            // The common case: never failed, and did not now.
            (None, true) => {}
            (share, false) => {
                let share = share.unwrap_or(0.0);
                self.failing.write(share + (1.0 - share) * FAILING_STEP, now);
            }
            (Some(share), true) => self.failing.write(share * (1.0 - FAILING_STEP), now),
        }
    }
}

/// A number and the instant it was written, in one word, so that readers never see halves of two.
#[derive(Debug, Default)]
struct Decaying(AtomicU64);

impl Decaying {
    /// An instant is kept in units of 2^18 ns (0.26 ms), of which 32 bits hold 13 days.
    const UNIT_BITS: u32 = 18;

    /// The number as written, and the share of it that is left; `None` when nothing was ever written.
    fn read(&self, now: Mono, decay: Duration) -> Option<(f32, f32)> {
        let word = self.0.load(Relaxed);
        if word == 0 {
            return None;
        }
        let value = f32::from_bits((word >> 32) as u32);
        let age = Self::stamp(now).wrapping_sub(word as u32);
        // Another thread's later write may carry a later instant than ours.
        let age = if age > u32::MAX / 2 { 0 } else { age };
        let x = age as f32 * (1 << Self::UNIT_BITS) as f32 / decay.as_nanos().max(1) as f32;
        Some((value, 1.0 / (1.0 + x * (1.0 + x * (0.5 + x / 6.0)))))
    }

    /// What is left of the number. The fall is `1 / (1 + x + x^2/2 + x^3/6)`, which follows `e^-x` closely where it
    /// matters and costs no call of a library.
    fn faded(&self, now: Mono, decay: Duration) -> Option<f32> {
        self.read(now, decay).map(|(value, kept)| value * kept)
    }

    fn write(&self, value: f32, now: Mono) {
        // Never the word that stands for nothing: the smallest number is not zero.
        let bits = value.max(f32::MIN_POSITIVE).to_bits();
        self.0.store(u64::from(bits) << 32 | u64::from(Self::stamp(now)), Relaxed);
    }

    fn stamp(now: Mono) -> u32 {
        (now.0 >> Self::UNIT_BITS) as u32
    }
}

const BUCKETS: usize = 52;

/// How the calls of one judging interval ended: failures, and latencies in buckets half a power of two wide.
#[derive(Debug)]
pub(super) struct Window {
    failures: AtomicU32,
    latencies: [AtomicU32; BUCKETS],
}

impl Default for Window {
    fn default() -> Self {
        Self { failures: AtomicU32::new(0), latencies: [const { AtomicU32::new(0) }; BUCKETS] }
    }
}

impl Window {
    pub(super) fn success(&self, latency: Duration) {
        increment(&self.latencies[Self::bucket(latency)]);
    }

    pub(super) fn failure(&self) {
        increment(&self.failures);
    }

    /// Bucket 0 ends at 8 us, the last one begins beyond a minute.
    fn bucket(latency: Duration) -> usize {
        let units = (u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX) >> 11).max(2);
        let power = 63 - units.leading_zeros();
        let upper_half = (units >> (power - 1)) & 1;
        (((power - 1) * 2) as usize + upper_half as usize).min(BUCKETS - 1)
    }

    fn bucket_end(bucket: usize) -> Duration {
        let (power, upper_half) = (bucket / 2 + 1, bucket % 2);
        let units = (1_u64 << power) + ((1 + upper_half as u64) << (power - 1));
        Duration::from_nanos(units << 11)
    }

    /// Empties it: failures, successes, and the latency that nine of ten successes stayed below.
    pub(super) fn take(&self) -> (u32, u32, Option<Duration>) {
        let counts: [u32; BUCKETS] = std::array::from_fn(|i| self.latencies[i].swap(0, Relaxed));
        let successes = counts.iter().fold(0_u32, |sum, count| sum.saturating_add(*count));
        let wanted = u64::from(successes) * 9;
        let mut passed = 0_u64;
        let p90 = counts.iter().position(|count| {
            passed += u64::from(*count) * 10;
            passed >= wanted && *count > 0
        });
        (self.failures.swap(0, Relaxed), successes, p90.map(Self::bucket_end))
    }
}

/// One more, or in a race the same again.
fn increment(counter: &AtomicU32) {
    counter.store(counter.load(Relaxed).saturating_add(1), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::{Decaying, State, Window};
    use outrigger_kernel::Mono;
    use std::time::Duration;

    const DECAY: Duration = Duration::from_secs(5);

    #[test]
    fn the_fall_follows_the_exponential() {
        let number = Decaying::default();
        assert_eq!(number.faded(Mono(5), DECAY), None);
        number.write(1.0, Mono(0));
        for (seconds, least, most) in
            [(0, 0.999, 1.0), (1, 0.81, 0.83), (5, 0.36, 0.39), (50, 0.0, 0.01)]
        {
            let left = number.faded(Mono(0).plus(Duration::from_secs(seconds)), DECAY).unwrap();
            assert!((least..=most).contains(&left), "{left} after {seconds} s");
        }
    }

    #[test]
    fn latency_jumps_up_and_sinks_slowly() {
        let (state, start) = (State::new(1, None), Mono(1 << 40));
        state.saw_latency(0.005, start, DECAY);
        state.saw_latency(0.5, start, DECAY);
        assert_eq!(state.latency(start, DECAY), Some(0.5));
        let later = start.plus(Duration::from_secs(1));
        state.saw_latency(0.005, later, DECAY);
        let now = state.latency(later, DECAY).unwrap();
        assert!((0.40..0.42).contains(&now), "{now}");
    }

    #[test]
    fn an_old_write_does_not_age_backwards() {
        let state = State::new(1, None);
        state.saw_latency(0.5, Mono(10 << 30), DECAY);
        assert_eq!(state.latency(Mono(9 << 30), DECAY), Some(0.5));
    }

    #[test]
    fn buckets_hold_what_falls_into_them() {
        for nanos in [0, 1, 4_096, 8_191, 8_192, 1_000_000, 5_000_000, 7_300_000, 900_000_000] {
            let latency = Duration::from_nanos(nanos);
            let bucket = Window::bucket(latency);
            assert!(latency < Window::bucket_end(bucket), "{latency:?}");
            assert!(bucket == 0 || latency >= Window::bucket_end(bucket - 1), "{latency:?}");
        }
        assert_eq!(Window::bucket(Duration::MAX), super::BUCKETS - 1);
    }

    #[test]
    fn a_window_is_emptied_by_taking() {
        let window = Window::default();
        (0..95).for_each(|_| window.success(Duration::from_millis(5)));
        (0..5).for_each(|_| window.success(Duration::from_secs(5)));
        (0..7).for_each(|_| window.failure());
        let (failures, successes, p90) = window.take();
        assert_eq!((failures, successes), (7, 100));
        assert!(p90.unwrap() > Duration::from_millis(5) && p90.unwrap() < Duration::from_millis(8));
        assert_eq!(window.take(), (0, 0, None));
    }
}
