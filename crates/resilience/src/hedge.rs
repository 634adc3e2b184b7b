//! A second copy of a call that takes longer than such calls do.
//!
//! When an attempt has not ended after a delay, another one goes to another endpoint, and whichever ends well first wins;
//! the loser is dropped. The delay is a percentile of what attempts take: with `max_extra` of 5 %, the time that 95 %
//! of them stay below, so in normal times 5 % of the calls get a copy.
//!
//! ```text
//!   attempt 1  |----------------------------x  dropped
//!              |<-- p95 -->|
//!   attempt 2              |------| answered
//! ```
//!
//! When *everything* gets slower, every call would get a copy, and the copies would make it slower still. So a hedge needs
//! all of these:
//!
//! - the call may be repeated ([`crate::Idempotency`]), and is no hedge itself;
//! - the percentile is known: `warm_up` samples within the window, and not beyond what is tracked;
//! - its own budget has a token: exactly `max_extra` of the calls, without a floor;
//! - the target's common budget has one too ([`crate::Budget`]), and the call has attempts left;
//! - the breaker is closed, and a permit is there at once: a hedge never queues.
//!
//! No token means no hedge; the first attempt goes on undisturbed. What attempts take is recorded for answers, timeouts
//! and losers (how long they had been under way), not for failures: quick ones would pull the percentile down.
//!
//! Sources: Dean and Barroso, "The Tail at Scale", 2013; Finagle's `BackupRequestFilter` for percentile and budget.

use crate::{BudgetSettings, Percentiles, TRACKED_MAX};
use outrigger_kernel::Mono;
use std::time::Duration;

/// When a call gets a second copy.
///
/// ```
/// use outrigger_kernel::Mono;
/// use outrigger_resilience::{HedgeSettings, Percentiles};
/// use std::time::Duration;
///
/// let hedge = HedgeSettings::default();
/// let seen = Percentiles::new(Duration::from_secs(10), 5);
/// for ms in 1..=100 {
///     seen.record(Duration::from_millis(ms), Mono(0));
/// }
/// let delay = hedge.delay(&seen, Mono(0)).expect("100 samples are enough");
/// assert!(delay >= Duration::from_millis(95) && delay <= Duration::from_millis(101));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HedgeSettings {
    /// The most extra load, as a share of the calls; held within 0.001 and 0.5.
    pub max_extra: f64,
    /// The shortest delay.
    pub min_delay: Duration,
    /// A fixed delay in place of the percentile. The budget holds all the same.
    pub fixed_delay: Option<Duration>,
    /// How many samples it takes before there are hedges; with a fixed delay, none.
    pub warm_up: u64,
}

impl Default for HedgeSettings {
    fn default() -> Self {
        Self {
            max_extra: 0.05,
            min_delay: Duration::from_millis(1),
            fixed_delay: None,
            warm_up: 100,
        }
    }
}

impl HedgeSettings {
    fn extra(&self) -> f64 {
        if self.max_extra.is_nan() { 0.05 } else { self.max_extra.clamp(0.001, 0.5) }
    }

    /// After how long an attempt gets a companion; `None` while that is not known.
    #[must_use]
    pub fn delay(&self, seen: &Percentiles, now: Mono) -> Option<Duration> {
        if let Some(fixed) = self.fixed_delay {
            return Some(fixed.max(self.min_delay));
        }
        if seen.count(now) < self.warm_up.max(1) {
            return None;
        }
        let usual = seen.percentile(1.0 - self.extra(), now)?;
        (usual < TRACKED_MAX).then(|| usual.max(self.min_delay))
    }

    /// The budget of its own.
    #[must_use]
    pub fn budget(&self) -> BudgetSettings {
        BudgetSettings {
            share: self.extra(),
            floor_per_second: 0,
            // The common budget bounds how many are under way.
            concurrent_share: 1.0,
            concurrent_floor: u32::MAX,
            ..BudgetSettings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::HedgeSettings;
    use crate::{Percentiles, TRACKED_MAX};
    use outrigger_kernel::Mono;
    use std::time::Duration;

    #[test]
    fn no_delay_without_knowledge() {
        let (hedge, now) = (HedgeSettings::default(), Mono(0));
        let seen = Percentiles::new(Duration::from_secs(10), 5);
        for sample in 0..99 {
            assert_eq!(hedge.delay(&seen, now), None, "{sample}");
            seen.record(Duration::from_micros(3), now);
        }
        seen.record(Duration::from_micros(3), now);
        assert_eq!(hedge.delay(&seen, now), Some(hedge.min_delay));
        // Too long to know how long.
        for _ in 0..900 {
            seen.record(TRACKED_MAX, now);
        }
        assert_eq!(hedge.delay(&seen, now), None);
        let fixed = Some(Duration::from_millis(20));
        let hedge = HedgeSettings { fixed_delay: fixed, ..hedge };
        assert_eq!(hedge.delay(&seen, now), fixed);
    }
}
