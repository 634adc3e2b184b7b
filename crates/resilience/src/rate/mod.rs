//! Rate limits: at most so many calls in so long.
//!
//! | | remembers | admits in any window of `w` | use |
//! |---|---|---|---|
//! | [`Algorithm::Gcra`] | one instant | `rate * w + burst` | the default |
//! | [`TokenBucket`] | one instant | the same: it is the same machine seen from the other side | shaping, refunds, a rate that changes |
//! | [`Algorithm::SlidingWindow`] | two counters | `limit`, if calls came evenly in the window before; twice that at worst | "100 per hour" as people mean it |
//!
//! GCRA keeps the *theoretical arrival time*: when the next call would come if all came exactly in step. A call may be
//! early by as much as the burst; then that time moves on by one step. Nothing is ever refilled, a refused call costs
//! nothing, and when to come back is a subtraction.
//!
//! [`KeyedRateLimiter`] is a limit for each of many keys, with a bounded memory; [`ShareHolder`] and [`ShareLedger`] are
//! one limit for many nodes. A [`Decision`] knows what the headers of a response need.
//!
//! Bounds: a step is at least a microsecond (a million calls a second; more counts as that) and a burst lasts at most a
//! year. Sources: ITU-T I.371 (GCRA, virtual scheduling); the sliding counter is Cloudflare's.

mod bucket;
mod header;
mod keyed;
mod shared;
mod window;

pub use bucket::TokenBucket;
pub use header::{RateLimitField, RateLimitPolicyField};
pub use keyed::{KEYS_MAX, KeyedRateLimiter};
use outrigger_kernel::Mono;
pub use shared::{Grant, LedgerDamaged, OnLoss, SHARERS_MAX, ShareHolder, ShareLedger, ShareTerms};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::Duration,
};

const STEP_MIN_NS: u64 = 1_000;
const YEAR_NS: u64 = 365 * 24 * 3_600 * 1_000_000_000;

/// At most `calls` per `per`, and up to `burst` of them at once.
///
/// ```
/// use outrigger_resilience::Quota;
/// use std::time::Duration;
/// let quota = Quota::new(100, Duration::from_secs(60));
/// assert_eq!((quota.calls(), quota.burst()), (100, 100));
/// assert_eq!(quota.with_burst(10).burst(), 10);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    calls: u32,
    per_ns: u64,
    burst: u32,
    step_ns: u64,
}

impl Quota {
    /// At most `calls` per `per`, all of them at once if need be. At least one call; at most a million a second.
    #[must_use]
    pub fn new(calls: u32, per: Duration) -> Self {
        let calls = calls.max(1);
        let per_ns = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX).clamp(STEP_MIN_NS, YEAR_NS);
        let step_ns = (per_ns / u64::from(calls)).max(STEP_MIN_NS);
        Self { calls, per_ns, burst: 1, step_ns }.with_burst(calls)
    }

    /// The same with another burst, at least 1.
    #[must_use]
    pub fn with_burst(mut self, burst: u32) -> Self {
        let longest = u32::try_from(YEAR_NS / self.step_ns).unwrap_or(u32::MAX);
        self.burst = burst.clamp(1, longest.max(1));
        self
    }

    /// How many calls.
    #[must_use]
    pub const fn calls(self) -> u32 {
        self.calls
    }

    /// In how long.
    #[must_use]
    pub const fn per(self) -> Duration {
        Duration::from_nanos(self.per_ns)
    }

    /// How many at once.
    #[must_use]
    pub const fn burst(self) -> u32 {
        self.burst
    }

    const fn step_ns(self) -> u64 {
        self.step_ns
    }

    const fn burst_ns(self) -> u64 {
        self.step_ns * self.burst as u64
    }
}

/// How a limit is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// By the theoretical arrival time: smooth, with a burst.
    #[default]
    Gcra,
    /// By the counts of this window and the one before, weighed by how much of it is still in sight. Knows no burst.
    SlidingWindow,
}

/// What a limit says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may be made. If so, it has been counted.
    pub allowed: bool,
    /// How many could be made at once with nothing counted.
    pub limit: u32,
    /// After how long all of `limit` is there again.
    pub reset: Duration,
    /// After how long to ask again; `None` if it is allowed, or costs more than the limit ever has.
    pub retry_after: Option<Duration>,
    left_ns: u64,
    step_ns: u64,
}

impl Decision {
    /// How many calls more could be made now.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        // A division that most callers never ask for.
        u32::try_from(self.left_ns / self.step_ns.max(1)).unwrap_or(u32::MAX).min(self.limit)
    }
}

/// GCRA on a theoretical arrival time: the next one, if the call is allowed.
#[inline]
fn gcra(arrival_ns: u64, quota: Quota, cost: u32, now: Mono) -> (Option<u64>, Decision) {
    let burst_ns = quota.burst_ns();
    let early_ns = arrival_ns.saturating_sub(now.0);
    // Bounded by two years.
    let next_ns = early_ns.saturating_add(quota.step_ns().saturating_mul(u64::from(cost)));
    let allowed = next_ns <= burst_ns;
    let counted_ns = if allowed { next_ns } else { early_ns };
    let possible = quota.step_ns().saturating_mul(u64::from(cost)) <= burst_ns;
    let decision = Decision {
        allowed,
        limit: quota.burst(),
        reset: Duration::from_nanos(counted_ns),
        retry_after: (!allowed && possible)
            .then(|| Duration::from_nanos(next_ns.saturating_sub(burst_ns))),
        left_ns: burst_ns.saturating_sub(counted_ns),
        step_ns: quota.step_ns(),
    };
    (allowed.then(|| now.0.saturating_add(next_ns)), decision)
}

/// One limit for everybody who asks.
///
/// ```
/// use outrigger_kernel::Mono;
/// use outrigger_resilience::{Algorithm, Quota, RateLimiter};
/// use std::time::Duration;
///
/// let limiter = RateLimiter::new(Algorithm::Gcra, Quota::new(2, Duration::from_secs(1)));
/// assert!(limiter.decide(1, Mono(0)).allowed);
/// assert_eq!(limiter.decide(1, Mono(0)).remaining(), 0);
/// let refused = limiter.decide(1, Mono(0));
/// assert_eq!(refused.retry_after, Some(Duration::from_millis(500)));
/// assert!(limiter.decide(1, Mono(500_000_000)).allowed);
/// ```
#[derive(Debug)]
pub struct RateLimiter {
    quota: Quota,
    state: State,
}

#[derive(Debug)]
enum State {
    Arrival(AtomicU64),
    Counters(Mutex<window::Counters>),
}

impl RateLimiter {
    /// With nothing counted yet.
    #[must_use]
    pub fn new(algorithm: Algorithm, quota: Quota) -> Self {
        let state = match algorithm {
            Algorithm::Gcra => State::Arrival(AtomicU64::new(0)),
            Algorithm::SlidingWindow => State::Counters(Mutex::default()),
        };
        Self { quota, state }
    }

    /// What it was made with.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// Whether a call worth `cost` ordinary ones may be made; counts it if so.
    #[inline]
    pub fn decide(&self, cost: u32, now: Mono) -> Decision {
        match &self.state {
            State::Arrival(arrival) => {
                let mut seen = arrival.load(Relaxed);
                loop {
                    let (next, decision) = gcra(seen, self.quota, cost, now);
                    let Some(next) = next else { return decision };
                    match arrival.compare_exchange_weak(seen, next, AcqRel, Relaxed) {
                        Ok(_) => return decision,
                        Err(other) => seen = other,
                    }
                }
            }
            State::Counters(counters) => counters
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .decide(self.quota, cost, now),
        }
    }

    /// Takes back what an allowed call was counted for: an inner limit refused it, so that it was never made.
    pub fn refund(&self, cost: u32, now: Mono) {
        match &self.state {
            State::Arrival(arrival) => {
                let back = self.quota.step_ns().saturating_mul(u64::from(cost));
                let _before = arrival.try_update(AcqRel, Relaxed, |seen| {
                    Some(seen.saturating_sub(back).max(now.0.min(seen)))
                });
            }
            State::Counters(counters) => {
                counters.lock().unwrap_or_else(PoisonError::into_inner).refund(cost);
            }
        }
    }
}

/// Asks several limits, the widest first: allowed by all, or counted by none. What is handed back is the first refusal,
/// or the decision with the least left.
///
/// ```
/// use outrigger_kernel::Mono;
/// use outrigger_resilience::{Algorithm, Quota, RateLimiter, decide_all};
/// use std::time::Duration;
/// let of = |calls| RateLimiter::new(Algorithm::Gcra, Quota::new(calls, Duration::from_secs(1)));
/// let (tenant, user) = (of(10), of(1));
/// assert!(decide_all(&[&tenant, &user], 1, Mono(0)).is_some_and(|all| all.allowed));
/// assert!(decide_all(&[&tenant, &user], 1, Mono(0)).is_some_and(|all| !all.allowed));
/// assert_eq!(tenant.decide(1, Mono(0)).remaining(), 8, "what the user may not is not the tenant's loss");
/// ```
pub fn decide_all(limits: &[&RateLimiter], cost: u32, now: Mono) -> Option<Decision> {
    let mut tightest: Option<Decision> = None;
    for (index, limit) in limits.iter().enumerate() {
        let decision = limit.decide(cost, now);
        if !decision.allowed {
            for earlier in limits.iter().take(index) {
                earlier.refund(cost, now);
            }
            return Some(decision);
        }
        let tighter = tightest.is_none_or(|known| decision.remaining() < known.remaining());
        tightest = if tighter { Some(decision) } else { tightest };
    }
    tightest
}

#[cfg(test)]
mod tests;
