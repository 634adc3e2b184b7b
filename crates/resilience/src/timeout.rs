//! How long an attempt may take.
//!
//! Three clocks, none of which replaces another:
//!
//! | clock | bounds | default |
//! |---|---|---|
//! | connect | finding and reaching the target; data for whoever connects | 1 s |
//! | attempt | one attempt, from being admitted to its last word | 2 s |
//! | overall | the call: queues, attempts, waits | 10 s |
//!
//! **Adaptive.** What an attempt may take can follow what attempts do take: `factor` times the latency that the share
//! `1 - false_rate` of them stays below, held within `min` and `max`. The *false rate* is the share of attempts one is
//! ready to give up although they would have come through; each of them is wasted work, and a retry. Until there are
//! `warm_up` samples the fixed timeout holds.
//!
//! **Progressive.** With n attempts to go, one gets at most the n-th part of what is left of the call. A first attempt
//! that hangs cannot eat the time of the others.
//!
//! **Nothing in vain.** An attempt does not start when less is left than half of the attempts take (p50): more likely
//! than not it could not finish.
//!
//! Source: Brooker, "Timeouts, retries and backoff with jitter", Amazon Builders' Library (the false rate).

use crate::{Percentiles, TRACKED_MAX};
use outrigger_kernel::Mono;
use std::time::Duration;

/// An attempt timeout that follows what attempts take.
///
/// ```
/// use outrigger_kernel::Mono;
/// use outrigger_resilience::{AdaptiveTimeout, Percentiles};
/// use std::time::Duration;
///
/// let seen = Percentiles::new(Duration::from_secs(10), 5);
/// let adaptive = AdaptiveTimeout::default();
/// assert_eq!(adaptive.limit(&seen, Mono(0)), None, "nothing known yet");
/// for _ in 0..1_000 {
///     seen.record(Duration::from_millis(40), Mono(0));
/// }
/// let limit = adaptive.limit(&seen, Mono(0)).expect("a thousand samples are enough");
/// assert!(limit >= Duration::from_millis(80) && limit <= Duration::from_millis(86));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaptiveTimeout {
    /// The share of attempts that may be given up in vain; held within 0.0001 and 0.5.
    pub false_rate: f64,
    /// How many times the percentile is granted; at least 1.
    pub factor: f64,
    /// The shortest timeout.
    pub min: Duration,
    /// The longest one.
    pub max: Duration,
    /// How many samples it takes.
    pub warm_up: u64,
}

impl Default for AdaptiveTimeout {
    fn default() -> Self {
        Self {
            false_rate: 0.001,
            factor: 2.0,
            min: Duration::from_millis(5),
            max: Duration::from_secs(2),
            warm_up: 200,
        }
    }
}

impl AdaptiveTimeout {
    /// The timeout, once enough is known.
    #[must_use]
    pub fn limit(&self, seen: &Percentiles, now: Mono) -> Option<Duration> {
        if seen.count(now) < self.warm_up.max(1) {
            return None;
        }
        let false_rate =
            if self.false_rate.is_nan() { 0.001 } else { self.false_rate.clamp(0.000_1, 0.5) };
        let usual = seen.percentile(1.0 - false_rate, now)?;
        let factor = if self.factor >= 1.0 { self.factor } else { 1.0 };
        let limit = Duration::try_from_secs_f64(usual.as_secs_f64() * factor);
        let limit = limit.unwrap_or(TRACKED_MAX);
        // Not `clamp`, which panics when somebody configures the two the wrong way round.
        Some(limit.max(self.min).min(self.max))
    }
}

/// What one of `left` attempts gets of `remaining`: at most an equal part of it. With 0 left to count, all of it.
///
/// ```
/// use outrigger_resilience::share_of;
/// use std::time::Duration;
/// assert_eq!(share_of(Duration::from_secs(9), 3), Duration::from_secs(3));
/// assert_eq!(share_of(Duration::from_secs(9), 0), Duration::from_secs(9));
/// ```
#[must_use]
pub fn share_of(remaining: Duration, left: u32) -> Duration {
    remaining.checked_div(left).unwrap_or(remaining)
}

#[cfg(test)]
mod tests {
    use super::AdaptiveTimeout;
    use crate::Percentiles;
    use outrigger_kernel::Mono;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn the_share_given_up_in_vain_is_the_chosen_one() {
        let seen = Percentiles::new(Duration::from_secs(10), 5);
        let adaptive =
            AdaptiveTimeout { false_rate: 0.02, factor: 1.0, ..AdaptiveTimeout::default() };
        for us in 1..=10_000_u64 {
            seen.record(Duration::from_micros(us * 10), Mono(0));
        }
        let limit = adaptive.limit(&seen, Mono(0)).unwrap();
        let given_up = (1..=10_000_u64).filter(|us| Duration::from_micros(us * 10) > limit).count();
        // A percentile is told up to 6.25 % too high, and here that is most of the last two per cent.
        assert!(given_up <= 200, "{given_up}");
        assert!(limit <= Duration::from_millis(105));
    }

    #[test]
    fn timeouts_that_are_recorded_let_it_grow_again() {
        let seen = Percentiles::new(Duration::from_secs(10), 5);
        let adaptive = AdaptiveTimeout { warm_up: 10, ..AdaptiveTimeout::default() };
        for _ in 0..100 {
            seen.record(Duration::from_millis(10), Mono(0));
        }
        let tight = adaptive.limit(&seen, Mono(0)).unwrap();
        // Everything is ten times slower now: given up at the limit, which is what is recorded.
        let mut limit = tight;
        for _ in 0..50 {
            seen.record(limit.min(Duration::from_millis(100)), Mono(0));
            limit = adaptive.limit(&seen, Mono(0)).unwrap();
        }
        assert!(limit > Duration::from_millis(100), "{tight:?} -> {limit:?}");
    }

    proptest! {
        #[test]
        fn always_within_its_bounds(
            samples_ms in proptest::collection::vec(0_u64..200_000, 0..50),
            false_rate: f64, factor: f64,
            min_ms in 0_u64..100, more_ms in 0_u64..5_000,
        ) {
            let seen = Percentiles::new(Duration::from_secs(10), 5);
            for ms in &samples_ms {
                seen.record(Duration::from_millis(*ms), Mono(3));
            }
            let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(min_ms + more_ms));
            let adaptive = AdaptiveTimeout { false_rate, factor, min, max, warm_up: 20 };
            match adaptive.limit(&seen, Mono(3)) {
                None => prop_assert!(samples_ms.len() < 20),
                Some(limit) => prop_assert!(limit >= min && limit <= max),
            }
        }
    }
}
