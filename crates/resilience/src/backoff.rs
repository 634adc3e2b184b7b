//! How long to wait before a retry.
//!
//! Waiting spreads load over time; *randomised* waiting also spreads it over callers, who otherwise all come back in the
//! same instant. The cap applies before the randomisation: capping afterwards would pile everyone up at the cap.
//!
//! | kind | delay before the n-th retry | use |
//! |---|---|---|
//! | constant | `delay` | a known recovery time, few callers |
//! | exponential | `min(max, initial * factor^(n-1))`, give or take `randomization` of it | the default |
//! | full jitter | uniform between 0 and `min(max, base * 2^(n-1))` | many callers, least work in total |
//! | equal jitter | half of that, and up to as much again | where a wait of next to nothing would do harm |
//! | decorrelated | uniform between `base` and `min(max, 3 * the wait before)` | long outages: waits drift apart |
//!
//! Sources: the exponential kind is that of the Go library cenkalti/backoff (factor 1.5, randomisation 0.5); the jitters
//! are Brooker, "Exponential Backoff And Jitter", AWS 2015, with the cap before the randomisation as AWS does since 2026.

use crate::dice::unit;
use std::time::Duration;

/// How long to wait before a retry.
///
/// ```
/// use outrigger_resilience::Backoff;
/// use std::time::Duration;
///
/// let backoff = Backoff::exponential(Duration::from_millis(500), Duration::from_secs(60));
/// let (shortest, longest) = (backoff.delay(3, 0), backoff.delay(3, u64::MAX));
/// // 500 ms * 1.5 * 1.5 = 1125 ms, give or take half of it
/// assert_eq!(shortest.as_micros(), 562_500);
/// assert_eq!(longest.as_millis(), 1687);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Backoff {
    /// The same delay each time.
    Constant {
        /// The delay.
        delay: Duration,
    },
    /// Growing delays, each randomised around its nominal value.
    Exponential {
        /// The nominal delay before the first retry.
        initial: Duration,
        /// The largest nominal delay.
        max: Duration,
        /// By how much the nominal delay grows; below 1 (or not a number) counts as 1.
        factor: f64,
        /// How far a delay may stray from the nominal one, as a share of it; held within 0 and 1.
        randomization: f64,
    },
    /// Growing delays, each anything between nothing and its nominal value.
    FullJitter {
        /// The nominal delay before the first retry; doubled for each following one.
        base: Duration,
        /// The largest nominal delay.
        max: Duration,
    },
    /// Growing delays, each between half its nominal value and all of it.
    EqualJitter {
        /// The nominal delay before the first retry; doubled for each following one.
        base: Duration,
        /// The largest nominal delay.
        max: Duration,
    },
    /// Each delay anything between the base and three times the one before.
    Decorrelated {
        /// The shortest delay.
        base: Duration,
        /// The largest delay.
        max: Duration,
    },
}

impl Backoff {
    /// Exponential with the usual factor of 1.5 and randomisation of 0.5.
    #[must_use]
    pub fn exponential(initial: Duration, max: Duration) -> Self {
        Self::Exponential { initial, max, factor: 1.5, randomization: 0.5 }
    }

    /// The delay before retry number `attempt`, `previous` being the one before the last retry (zero for none): only the
    /// decorrelated kind cares.
    #[must_use]
    pub fn next(&self, attempt: u32, previous: Duration, random: u64) -> Duration {
        match *self {
            Self::Decorrelated { base, max } => {
                between(base, previous.max(base).saturating_mul(3).min(max), random)
            }
            _ => self.delay(attempt, random),
        }
    }

    /// The delay before retry number `attempt` (from 1; 0 counts as 1), given 64 random bits. A decorrelated one that is
    /// not told the delay before ([`Backoff::next`] is) takes that for the longest it can have been.
    #[must_use]
    pub fn delay(&self, attempt: u32, random: u64) -> Duration {
        match *self {
            Self::Constant { delay } => delay,
            Self::Exponential { initial, max, factor, randomization } => {
                let nominal = grown(initial, max, factor, attempt);
                let spread =
                    if randomization.is_nan() { 0.0 } else { randomization.clamp(0.0, 1.0) };
                scaled(nominal, 1.0 - spread + 2.0 * spread * unit(random))
            }
            Self::FullJitter { base, max } => scaled(grown(base, max, 2.0, attempt), unit(random)),
            Self::EqualJitter { base, max } => {
                scaled(grown(base, max, 2.0, attempt), 0.5 + unit(random) / 2.0)
            }
            Self::Decorrelated { base, max } => {
                between(base, grown(base, max, 3.0, attempt.saturating_add(1)), random)
            }
        }
    }
}

/// Uniform between `least` and `most`; `most` where that is the smaller one.
fn between(least: Duration, most: Duration, random: u64) -> Duration {
    let room = most.saturating_sub(least);
    least.saturating_add(scaled(room, unit(random))).min(most)
}

/// `min(max, initial * factor^(attempt - 1))`.
fn grown(initial: Duration, max: Duration, factor: f64, attempt: u32) -> Duration {
    let factor = if factor >= 1.0 { factor } else { 1.0 };
    let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
    scaled(initial, factor.powi(exponent)).min(max)
}

/// `duration * by`, at the end of time where that is too much for a duration.
fn scaled(duration: Duration, by: f64) -> Duration {
    if duration.is_zero() {
        // Nothing times infinity is nothing here, not a number that is none.
        return duration;
    }
    Duration::try_from_secs_f64(duration.as_secs_f64() * by).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::Backoff;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn nominal_delays_follow_the_source() {
        let backoff = Backoff::Exponential {
            initial: Duration::from_millis(500),
            max: Duration::from_secs(60),
            factor: 1.5,
            randomization: 0.0,
        };
        let delays: Vec<u128> = (1..=6).map(|n| backoff.delay(n, 3).as_millis()).collect();
        assert_eq!(delays, [500, 750, 1_125, 1_687, 2_531, 3_796]);
        assert_eq!(backoff.delay(u32::MAX, 3), Duration::from_secs(60));
    }

    #[test]
    fn odd_settings_do_no_harm() {
        for factor in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1e300] {
            for randomization in [f64::NAN, f64::INFINITY, -1.0, 2.0] {
                let backoff =
                    |initial, max| Backoff::Exponential { initial, max, factor, randomization };
                for attempt in [0, 1, 2, 1_000, u32::MAX] {
                    let zero = backoff(Duration::ZERO, Duration::MAX).delay(attempt, u64::MAX);
                    assert_eq!(zero, Duration::ZERO);
                    let capped = backoff(Duration::from_secs(1), Duration::from_secs(2));
                    assert!(capped.delay(attempt, u64::MAX) <= Duration::from_secs(4));
                    // Merely does not panic.
                    let _huge = backoff(Duration::MAX, Duration::MAX).delay(attempt, u64::MAX);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn exponential_stays_in_its_band(initial_ms in 1_u64..10_000, max_ms in 1_u64..100_000, attempt in 1_u32..200, random: u64) {
            let (initial, max) = (Duration::from_millis(initial_ms), Duration::from_millis(max_ms));
            let exact = Backoff::Exponential { initial, max, factor: 1.5, randomization: 0.0 };
            let nominal = exact.delay(attempt, random);
            prop_assert!(nominal <= max);
            prop_assert!(nominal <= exact.delay(attempt + 1, random));
            let spread = Backoff::exponential(initial, max).delay(attempt, random);
            prop_assert!(spread.as_secs_f64() >= nominal.as_secs_f64() * 0.499_999);
            prop_assert!(spread.as_secs_f64() <= nominal.as_secs_f64() * 1.500_001);
        }

        #[test]
        fn equal_jitter_is_never_less_than_half(base_ms in 0_u64..1_000, max_ms in 0_u64..60_000, attempt in 1_u32..20, random: u64) {
            let (base, max) = (Duration::from_millis(base_ms), Duration::from_millis(max_ms));
            let delay = Backoff::EqualJitter { base, max }.delay(attempt, random);
            let nominal = base.saturating_mul(1 << (attempt - 1)).min(max);
            prop_assert!(delay <= nominal && delay.as_secs_f64() >= nominal.as_secs_f64() * 0.499_999);
        }

        #[test]
        fn decorrelated_waits_follow_the_one_before(base_ms in 1_u64..1_000, max_ms in 1_u64..60_000, draws in proptest::collection::vec(any::<u64>(), 1..20)) {
            let (base, max) = (Duration::from_millis(base_ms), Duration::from_millis(max_ms));
            let backoff = Backoff::Decorrelated { base, max };
            let mut previous = Duration::ZERO;
            for (attempt, random) in (1..).zip(draws) {
                let delay = backoff.next(attempt, previous, random);
                prop_assert!(delay <= max && delay <= previous.max(base) * 3);
                prop_assert!(delay >= base.min(max));
                prop_assert!(backoff.delay(attempt, random) <= max);
                previous = delay;
            }
        }

        #[test]
        fn full_jitter_stays_below_its_ceiling(base_ms in 0_u64..1_000, max_ms in 0_u64..60_000, attempt: u32, random: u64) {
            let (base, max) = (Duration::from_millis(base_ms), Duration::from_millis(max_ms));
            let delay = Backoff::FullJitter { base, max }.delay(attempt, random);
            prop_assert!(delay <= max);
            let doublings = attempt.saturating_sub(1).min(16);
            prop_assert!(delay <= base.saturating_mul(1 << doublings) || attempt > 16);
        }
    }
}
