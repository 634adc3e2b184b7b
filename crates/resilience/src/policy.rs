//! A policy is data: which parts a call goes through, with which settings. What the parts remember between calls is
//! its state (`state.rs`), which outlives a call and is shared by all calls to one target.

use crate::{
    AdaptiveTimeout, Backoff, BreakerSettings, BudgetSettings, BulkheadSettings, HedgeSettings,
    Matching, Quota, Restraint, Retry, ShareHolder, ThrottleSettings,
};
use std::{sync::Arc, time::Duration};

/// Which parts a call goes through; what is `None` is left out.
///
/// `timeout`, `retry` and `breaker` alone are a policy as the resource format knows it: every failure that matches is
/// retried, without a budget, whatever the call is. The others make it one that can be on everywhere:
/// [`Policy::recommended`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// How long one attempt may take. Zero counts as none.
    pub timeout: Option<Duration>,
    /// Whether failed attempts are repeated.
    pub retry: Option<Retry>,
    /// Whether a failing target is left alone for a while.
    pub breaker: Option<BreakerSettings>,
    /// How long the call may take altogether, whatever its caller grants.
    pub overall: Option<Duration>,
    /// How long reaching the target may take; data for whoever connects.
    pub connect: Option<Duration>,
    /// Whether the timeout of attempts follows what they take. `timeout` holds until enough is known.
    pub adaptive: Option<AdaptiveTimeout>,
    /// Whether each attempt gets at most its equal part of the time that is left.
    pub progressive: bool,
    /// What a retry may not do.
    pub restraint: Option<Restraint>,
    /// How many retries and hedges there may be in all.
    pub budget: Option<BudgetSettings>,
    /// Whether a slow attempt gets a companion.
    pub hedge: Option<HedgeSettings>,
    /// How many attempts may be under way at once.
    pub bulkhead: Option<BulkheadSettings>,
    /// How many calls there may be in a time.
    pub rate: Option<Quota>,
    /// Who decides that instead, where the limit is one for many nodes.
    pub share: Option<Arc<ShareHolder>>,
    /// Whether calls are held back that the target would most likely refuse for overload.
    pub throttle: Option<ThrottleSettings>,
}

impl Policy {
    /// What holds where nothing is configured: no call without an end, retries only where they are safe and within a
    /// budget.
    ///
    /// | | |
    /// |---|---|
    /// | overall, attempt, connect | 10 s, 2 s, 1 s |
    /// | retries | 2, full jitter, 50 ms to 5 s, after no answer, 408, 429, 500, 502-504 and their gRPC kin |
    /// | restraint | [`Restraint::default`] |
    /// | budget | [`BudgetSettings::default`] |
    /// | breaker | [`BreakerSettings::recommended`] |
    /// | bulkhead | [`BulkheadSettings::default`]: as many seats as the target turns out to manage |
    /// | throttle | [`ThrottleSettings::default`] |
    ///
    /// ```
    /// use outrigger_resilience::Policy;
    /// assert!(Policy::recommended().budget.is_some());
    /// ```
    #[must_use]
    pub fn recommended() -> Self {
        let (first, most) = (Duration::from_millis(50), Duration::from_secs(5));
        Self {
            timeout: Some(Duration::from_secs(2)),
            retry: Some(Retry {
                backoff: Backoff::FullJitter { base: first, max: most },
                max_retries: Some(2),
                matching: Matching {
                    http: Some(vec![408..=408, 429..=429, 500..=500, 502..=504]),
                    // Unknown, deadline exceeded, exhausted, aborted, internal, unavailable.
                    grpc: Some(vec![2..=2, 4..=4, 8..=8, 10..=10, 13..=14]),
                },
            }),
            breaker: Some(BreakerSettings::recommended()),
            overall: Some(Duration::from_secs(10)),
            connect: Some(Duration::from_secs(1)),
            adaptive: None,
            progressive: true,
            restraint: Some(Restraint::default()),
            budget: Some(BudgetSettings::default()),
            hedge: None,
            bulkhead: Some(BulkheadSettings::default()),
            rate: None,
            share: None,
            throttle: Some(ThrottleSettings::default()),
        }
    }

    /// Whether it leaves a call as it is.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let Self {
            timeout,
            retry,
            breaker,
            overall,
            connect: _,
            adaptive,
            progressive: _,
            restraint: _,
            budget: _,
            hedge,
            bulkhead,
            rate,
            share,
            throttle,
        } = self;
        timeout.is_none()
            && retry.is_none()
            && breaker.is_none()
            && overall.is_none()
            && adaptive.is_none()
            && hedge.is_none()
            && bulkhead.is_none()
            && rate.is_none()
            && share.is_none()
            && throttle.is_none()
    }

    /// Whether what attempts take is of interest.
    pub(crate) fn measures(&self) -> bool {
        self.adaptive.is_some() || self.hedge.is_some() || self.restraint.is_some()
    }

    /// The timeout of attempts, if there is one.
    pub(crate) fn fixed_timeout(&self) -> Option<Duration> {
        self.timeout.filter(|timeout| !timeout.is_zero())
    }
}
