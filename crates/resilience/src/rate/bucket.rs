//! A token bucket: filled at a steady rate up to its burst, emptied by calls.
//!
//! A bucket that is `x` tokens short of full will be full after `x` steps. So the one number to keep is *when it will be
//! full*, which is GCRA's theoretical arrival time; nothing has to be refilled, and there is no remainder to drift. Beyond
//! GCRA it can be waited for ([`TokenBucket::reserve`]: a leaky bucket that delays instead of refusing) and retuned.

use super::{Decision, Quota, gcra};
use outrigger_kernel::Mono;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A token bucket.
///
/// ```
/// use outrigger_kernel::Mono;
/// use outrigger_resilience::{Quota, TokenBucket};
/// use std::time::Duration;
///
/// let bucket = TokenBucket::new(Quota::new(10, Duration::from_secs(1)).with_burst(2));
/// let most = Duration::from_secs(1);
/// assert_eq!(bucket.reserve(2, most, Mono(0)), Some(Duration::ZERO));
/// assert_eq!(bucket.reserve(1, most, Mono(0)), Some(Duration::from_millis(100)), "its turn is in 100 ms");
/// assert_eq!(bucket.reserve(20, most, Mono(0)), None, "longer than it would wait; nothing was taken");
/// ```
#[derive(Debug)]
pub struct TokenBucket(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    quota: Quota,
    full_at_ns: u64,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self(Mutex::new(Bucket { quota, full_at_ns: 0 }))
    }

    /// Takes `cost` tokens if they are there.
    pub fn take(&self, cost: u32, now: Mono) -> Decision {
        let mut bucket = self.bucket();
        let (next, decision) = gcra(bucket.full_at_ns, bucket.quota, cost, now);
        bucket.full_at_ns = next.unwrap_or(bucket.full_at_ns);
        decision
    }

    /// Takes `cost` tokens, if need be ahead of time: how long to wait until it is their turn. `None`, and nothing taken,
    /// if that is longer than `wait_max`.
    pub fn reserve(&self, cost: u32, wait_max: Duration, now: Mono) -> Option<Duration> {
        let mut bucket = self.bucket();
        let ahead = bucket.full_at_ns.saturating_sub(now.0);
        let next = ahead.saturating_add(bucket.quota.step_ns().saturating_mul(cost.into()));
        let wait = Duration::from_nanos(next.saturating_sub(bucket.quota.burst_ns()));
        if wait > wait_max {
            return None;
        }
        bucket.full_at_ns = now.0.saturating_add(next);
        Some(wait)
    }

    /// Puts tokens back that were taken and not used.
    pub fn put_back(&self, cost: u32, now: Mono) {
        let mut bucket = self.bucket();
        let back = bucket.quota.step_ns().saturating_mul(cost.into());
        bucket.full_at_ns =
            bucket.full_at_ns.saturating_sub(back).max(now.0.min(bucket.full_at_ns));
    }

    /// Changes rate and burst. The tokens in it stay, as far as they fit.
    pub fn retune(&self, quota: Quota, now: Mono) {
        let mut bucket = self.bucket();
        let old = bucket.quota;
        if old == quota {
            return;
        }
        let missing_ns = u128::from(bucket.full_at_ns.saturating_sub(now.0));
        let tokens_short = missing_ns * 1_000 / u128::from(old.step_ns());
        let held = (u128::from(old.burst()) * 1_000).saturating_sub(tokens_short);
        let short = (u128::from(quota.burst()) * 1_000).saturating_sub(held);
        let short_ns = short * u128::from(quota.step_ns()) / 1_000;
        let full_in = u64::try_from(short_ns).unwrap_or(u64::MAX);
        *bucket = Bucket { quota, full_at_ns: now.0.saturating_add(full_in) };
    }

    /// How many tokens there are.
    #[must_use]
    pub fn tokens(&self, now: Mono) -> u32 {
        let bucket = self.bucket();
        gcra(bucket.full_at_ns, bucket.quota, 0, now).1.remaining()
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
