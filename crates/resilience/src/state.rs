//! What a policy remembers about a target, and how that outlives a change of the policy.
//!
//! Each part keeps its own state. When a policy is read anew, a part whose settings are still the same keeps what it
//! knows: an edited timeout does not close an open breaker, and an edited breaker does not refill the retry budget.
//! Calls under way go on with the state they began with.

use crate::{
    AdaptiveTimeout, Algorithm, Breaker, Budget, Bulkhead, HedgeSettings, Memo, Percentiles,
    Policy, RateLimiter, Throttle, Watch, recent::Recent,
};
use outrigger_kernel::Mono;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// What a policy remembers about one target. Clones share it.
///
/// ```
/// use outrigger_resilience::{BreakerSettings, Policy, PolicyState};
/// let policy = Policy { breaker: Some(BreakerSettings::default()), ..Policy::default() };
/// let state = PolicyState::new(&policy);
/// assert!(state.breaker().is_some());
///
/// // The policy gets a timeout; the breaker is still the one it was.
/// let changed = Policy { timeout: Some(std::time::Duration::from_secs(1)), ..policy.clone() };
/// let next = state.carried_over(&policy, &changed);
/// assert!(next.breaker().is_some());
/// ```
#[derive(Clone, Debug, Default)]
pub struct PolicyState {
    seed: u64,
    breaker: Option<Breaker>,
    watch: Option<Arc<dyn Watch>>,
    budget: Option<Arc<Budget>>,
    hedges: Option<Arc<Budget>>,
    latencies: Option<Arc<Latencies>>,
    bulkhead: Option<Bulkhead>,
    rate: Option<Arc<RateLimiter>>,
    throttle: Option<Arc<Throttle>>,
}

impl PolicyState {
    /// The state of a target nothing is known about yet.
    #[must_use]
    pub fn new(policy: &Policy) -> Self {
        Self::seeded(policy, 0)
    }

    /// The same, with a seed for the random part of its breaker's open times; see [`Breaker::seeded`].
    #[must_use]
    pub fn seeded(policy: &Policy, seed: u64) -> Self {
        Self {
            seed,
            breaker: policy.breaker.clone().map(|settings| Breaker::seeded(settings, seed)),
            watch: None,
            budget: policy.budget.map(|settings| Arc::new(Budget::new(settings))),
            hedges: policy.hedge.map(|settings| Arc::new(Budget::new(settings.budget()))),
            latencies: policy.measures().then(Arc::default),
            bulkhead: policy.bulkhead.map(Bulkhead::new),
            rate: policy
                .rate
                .filter(|_| policy.share.is_none())
                .map(|quota| Arc::new(RateLimiter::new(Algorithm::Gcra, quota))),
            throttle: policy.throttle.map(|settings| Arc::new(Throttle::new(settings))),
        }
    }

    /// The state of a target whose breaker is kept elsewhere, for instance in [`crate::Breakers`].
    #[must_use]
    pub fn with_breaker(breaker: Option<Breaker>) -> Self {
        Self { breaker, ..Self::default() }
    }

    /// The same, with a breaker that is kept elsewhere: one for each method, say, where the rest is one for the target.
    #[must_use]
    pub fn breaking(mut self, breaker: Option<Breaker>) -> Self {
        self.breaker = breaker;
        self
    }

    /// The same, with somebody told of what the policy does.
    #[must_use]
    pub fn watched_by(mut self, watch: Arc<dyn Watch>) -> Self {
        self.watch = Some(watch);
        self
    }

    /// The state for `new`, which takes the place of `old`: what is set as before is remembered as before.
    #[must_use]
    pub fn carried_over(&self, old: &Policy, new: &Policy) -> Self {
        let fresh = Self::seeded(new, self.seed);
        let kept = |same: bool, own: &Self| if same { own.clone() } else { fresh.clone() };
        Self {
            seed: self.seed,
            breaker: kept(old.breaker == new.breaker, self).breaker,
            watch: self.watch.clone(),
            budget: kept(old.budget == new.budget, self).budget,
            hedges: kept(old.hedge == new.hedge, self).hedges,
            latencies: kept(old.measures() && new.measures(), self).latencies,
            bulkhead: kept(old.bulkhead == new.bulkhead, self).bulkhead,
            rate: kept(old.rate == new.rate && old.share == new.share, self).rate,
            throttle: kept(old.throttle == new.throttle, self).throttle,
        }
    }

    pub(crate) fn watch(&self) -> Option<&Arc<dyn Watch>> {
        self.watch.as_ref()
    }

    /// The target's breaker, if the policy has one.
    #[must_use]
    pub fn breaker(&self) -> Option<&Breaker> {
        self.breaker.as_ref()
    }

    /// The target's budget for retries and hedges, if the policy has one.
    #[must_use]
    pub fn budget(&self) -> Option<&Budget> {
        self.budget.as_deref()
    }

    /// The part of it that hedges may use up, if the policy has hedges.
    #[must_use]
    pub fn hedges(&self) -> Option<&Budget> {
        self.hedges.as_deref()
    }

    /// The target's bulkhead, if the policy has one.
    #[must_use]
    pub fn bulkhead(&self) -> Option<&Bulkhead> {
        self.bulkhead.as_ref()
    }

    /// The limit of calls in a time, if the policy has one.
    #[must_use]
    pub fn rate(&self) -> Option<&RateLimiter> {
        self.rate.as_deref()
    }

    /// What holds calls back, if the policy has it. It wants to know the level that answers tell ([`Throttle::told`]).
    #[must_use]
    pub fn throttle(&self) -> Option<&Throttle> {
        self.throttle.as_deref()
    }

    /// What attempts take, if the policy asks.
    #[must_use]
    pub fn latencies(&self) -> Option<&Latencies> {
        self.latencies.as_deref()
    }
}

/// What attempts at a target take, with the answers most asked for kept ready.
#[derive(Debug)]
pub struct Latencies {
    seen: Percentiles,
    usual: Memo,
    limit: Memo,
    hedge: Memo,
}

/// How many samples it takes to say what is usual.
const USUAL_MIN: u64 = 20;
/// How old an answer may be.
const REFRESH: Duration = Duration::from_millis(500);
const WINDOW: Duration = Duration::from_secs(30);
const SLOTS: usize = 6;

impl Default for Latencies {
    fn default() -> Self {
        let memo = || Memo::new(REFRESH);
        Self { seen: Percentiles::new(WINDOW, SLOTS), usual: memo(), limit: memo(), hedge: memo() }
    }
}

impl Latencies {
    /// All of them, of the last 30 s.
    #[must_use]
    pub fn seen(&self) -> &Percentiles {
        &self.seen
    }

    /// What half of the attempts take.
    #[must_use]
    pub fn usual(&self, now: Mono) -> Option<Duration> {
        self.usual.get(now, || {
            (self.seen.count(now) >= USUAL_MIN).then(|| self.seen.percentile(0.5, now)).flatten()
        })
    }

    /// What an attempt may take.
    #[must_use]
    pub fn limit(&self, adaptive: &AdaptiveTimeout, now: Mono) -> Option<Duration> {
        self.limit.get(now, || adaptive.limit(&self.seen, now))
    }

    /// After what an attempt gets a companion.
    #[must_use]
    pub fn hedge_delay(&self, hedge: &HedgeSettings, now: Mono) -> Option<Duration> {
        self.hedge.get(now, || hedge.delay(&self.seen, now))
    }
}

/// The states of policies by name, each carried over when its policy changes. Bounded in number: past the bound, those
/// used longest ago are forgotten.
///
/// ```
/// use outrigger_resilience::{Policy, PolicyStates};
/// let states = PolicyStates::new(100);
/// let policy = Policy::recommended();
/// let (one, again) = (states.get("orders", &policy), states.get("orders", &policy));
/// assert!(std::ptr::eq(one.budget().unwrap(), again.budget().unwrap()));
/// ```
pub struct PolicyStates {
    seed: u64,
    known: Mutex<Recent<(Policy, PolicyState)>>,
}

impl PolicyStates {
    /// None yet, and at most `capacity` (at least one).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { seed: 0, known: Mutex::new(Recent::new(capacity)) }
    }

    /// The same, with a seed for the random part of the breakers' open times; see [`Breaker::seeded`]. Each name has its
    /// own, and with different seeds so has each process.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The state of the policy called `name`, which reads `policy` now.
    #[must_use]
    pub fn get(&self, name: &str, policy: &Policy) -> PolicyState {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, state)) = known.find(name) {
            if *before != *policy {
                *state = state.carried_over(before, policy);
                *before = policy.clone();
            }
            return state.clone();
        }
        let state = PolicyState::seeded(policy, crate::shard::hash(self.seed, name.as_bytes()));
        known.keep(name, (policy.clone(), state.clone()));
        state
    }
}

impl fmt::Debug for PolicyStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        write!(f, "PolicyStates({} of {})", known.len(), known.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::PolicyStates;
    use crate::{BudgetSettings, Phase, Policy};
    use outrigger_kernel::Mono;
    use std::time::Duration;

    #[test]
    fn what_is_not_changed_is_not_forgotten() {
        let states = PolicyStates::new(2);
        let policy = Policy::recommended();
        let before = states.get("orders", &policy);
        for _ in 0..100 {
            if let Ok(pass) = before.breaker().unwrap().enter(Mono(1)) {
                pass.report(crate::Outcome::FAILURE, Mono(1));
            }
        }
        let phase = |state: &crate::PolicyState| state.breaker().unwrap().status(Mono(2)).phase;
        assert_eq!(phase(&before), Phase::Open);

        let changed = Policy {
            timeout: Some(Duration::from_secs(1)),
            budget: Some(BudgetSettings { share: 0.5, ..BudgetSettings::default() }),
            ..policy.clone()
        };
        let after = states.get("orders", &changed);
        assert_eq!(phase(&after), Phase::Open, "the breaker is the one it was");
        assert!(!std::ptr::eq(before.budget().unwrap(), after.budget().unwrap()));
        assert!(std::ptr::eq(before.latencies().unwrap(), after.latencies().unwrap()));

        let other = states.get("other", &policy);
        for _ in 0..100 {
            if let Ok(pass) = other.breaker().unwrap().enter(Mono(1)) {
                pass.report(crate::Outcome::FAILURE, Mono(1));
            }
        }
        let wait = |state: &crate::PolicyState| state.breaker().unwrap().status(Mono(2)).wait;
        assert_ne!(wait(&before), wait(&other), "two targets are not probed in one instant");

        for name in ["a", "b"] {
            let _state = states.get(name, &policy);
        }
        assert_eq!(phase(&states.get("orders", &policy)), Phase::Closed, "forgotten, so new");
    }
}
