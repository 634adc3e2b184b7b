//! Resiliency resources into policies: which named parts apply to which app or component.
//!
//! A target names its parts; a part it does not name is looked for under the names that stand for a default, the most
//! specific first. Which name was chosen, and where it stands, is kept, so that `policy explain` can say it.

mod explained;
mod parts;
mod words;

pub(crate) use explained::Explained;

use crate::failure::Failure;
use outrigger_api::CallPolicies;
use outrigger_calls::{
    CallPolicy, Chaos, FaultSettings, Ladder, LadderSettings, Shelf, ShelfSettings, StickyBy,
};
use outrigger_coordination::{LimitName, SharedLimits};
use outrigger_kernel::Mono;
use outrigger_resilience::{BalanceSettings, BudgetSettings, OnLoss, Policy, Retry, ShareHolder};
use outrigger_resources::{
    BulkheadPolicy, CachePolicy, CircuitBreakerPolicy, ComponentBlock, Direction, FallbackPolicy,
    FaultPolicy, HedgePolicy, LoadBalancerPolicy, Origin, PolicyKind, PolicyNames, PolicyTarget,
    RateLimitPolicy, Resiliency, RetryPolicy, ThrottlePolicy, TimeoutPolicy, default_policy_names,
};
use std::{collections::BTreeMap, sync::Arc};

/// The name under which the wait for apps that cannot be reached is changed.
const RECONNECT: &str = "DaprBuiltInServiceRetries";
/// Breakers remembered for a target that does not say how many.
const BREAKERS_DEFAULT: u32 = 100;

type ByName<'a, T> = BTreeMap<&'a str, &'a T>;

/// The policies of all resiliency resources that apply to one app, by name; of two with one name the later one holds.
#[derive(Debug, Default)]
pub(crate) struct Policies<'a> {
    timeouts: ByName<'a, TimeoutPolicy>,
    retries: ByName<'a, RetryPolicy>,
    breakers: ByName<'a, CircuitBreakerPolicy>,
    bulkheads: ByName<'a, BulkheadPolicy>,
    rates: ByName<'a, RateLimitPolicy>,
    hedges: ByName<'a, HedgePolicy>,
    throttles: ByName<'a, ThrottlePolicy>,
    balancers: ByName<'a, LoadBalancerPolicy>,
    caches: ByName<'a, CachePolicy>,
    fallbacks: ByName<'a, FallbackPolicy>,
    faults: ByName<'a, FaultPolicy>,
    origins: BTreeMap<(PolicyKind, &'a str), &'a Origin>,
    resources: Vec<&'a Resiliency>,
    /// Where limits are shared, and the namespace of those who share them.
    limits: Option<(Arc<SharedLimits>, &'a str)>,
}

/// What applies to one target.
#[derive(Debug)]
pub(crate) struct Effective<'a> {
    pub(crate) policy: Policy,
    /// How one of several instances is chosen, if not in turns.
    pub(crate) balance: Option<BalanceSettings>,
    /// What keeps a caller with one of them, if anything does.
    pub(crate) sticky: Option<StickyBy>,
    /// How answers are kept, and under which name.
    pub(crate) cache: Option<(&'a str, ShelfSettings)>,
    /// What calls that failed for good are answered with.
    pub(crate) fallback: Option<(&'a str, LadderSettings)>,
    /// What is done to calls on purpose.
    pub(crate) faults: Option<FaultSettings>,
    /// Whether every call to it may be repeated, whatever its method.
    pub(crate) repeat_all: bool,
    /// The names chosen, and where they are defined.
    pub(crate) chosen: Vec<(PolicyKind, &'a str, Option<&'a Origin>)>,
    /// How many breakers to remember.
    pub(crate) operations: u32,
    /// Whether the retry says what its budget is.
    has_own_budget: bool,
}

fn add<'a, T>(all: &mut ByName<'a, T>, named: &'a BTreeMap<String, T>) {
    all.extend(named.iter().map(|(name, value)| (name.as_str(), value)));
}

impl<'a> Policies<'a> {
    pub(crate) fn new(resources: Vec<&'a Resiliency>) -> Self {
        let mut all = Self { resources, ..Self::default() };
        for resource in &all.resources {
            let policies = &resource.policies;
            add(&mut all.timeouts, &policies.timeouts);
            add(&mut all.retries, &policies.retries);
            add(&mut all.breakers, &policies.circuit_breakers);
            add(&mut all.bulkheads, &policies.bulkheads);
            add(&mut all.rates, &policies.rate_limits);
            add(&mut all.hedges, &policies.hedges);
            add(&mut all.throttles, &policies.throttles);
            add(&mut all.balancers, &policies.load_balancers);
            add(&mut all.caches, &policies.caches);
            add(&mut all.fallbacks, &policies.fallbacks);
            add(&mut all.faults, &policies.faults);
            let origins = policies.origins.iter();
            all.origins.extend(origins.map(|((kind, name), at)| ((*kind, name.as_str()), at)));
        }
        all
    }

    /// The same, with limits that are shared by those of a namespace.
    pub(crate) fn sharing(mut self, limits: Arc<SharedLimits>, namespace: &'a str) -> Self {
        self.limits = Some((limits, namespace));
        self
    }

    /// The part of a shared limit that this process has. Where there is nobody to share it with, it is only told of.
    fn share(&self, name: &str, policy: &RateLimitPolicy) -> Arc<ShareHolder> {
        let terms = parts::terms(policy);
        match &self.limits {
            None => Arc::new(ShareHolder::new(terms, OnLoss::LastShare)),
            Some((limits, namespace)) => {
                let (namespace, name) = ((*namespace).to_owned(), name.to_owned());
                limits.holder(LimitName { namespace, name }, terms)
            }
        }
    }

    /// The names of the resources, for `metadata`.
    pub(crate) fn names(&self) -> Vec<String> {
        self.resources.iter().map(|resource| resource.head.name.clone()).collect()
    }

    /// The policies of calls, by whom they go to, in force from `now` on. `seed` is what sets their breakers apart from
    /// other processes'.
    pub(crate) fn calls(&self, seed: u64, now: Mono) -> Result<CallPolicies, Failure> {
        let mut shared = Shared::default();
        let mut named = BTreeMap::new();
        for id in self.apps() {
            let policy = shared.policy(self.app(Some(id))?, seed, now);
            named.insert(id.to_owned(), Arc::new(policy));
        }
        let default = shared.policy(self.app(None)?, seed, now);
        let calls = CallPolicies::new(named, Some(default).filter(|policy| !policy.is_idle()));
        Ok(match self.retries.get(RECONNECT) {
            Some(policy) => {
                let retry = parts::retry(policy)?;
                // As in the reference, what is overridden does not become less than it was.
                let max_retries = retry.max_retries.map(|most| most.max(3));
                calls.reconnecting(Retry { max_retries, ..retry })
            }
            None => calls,
        })
    }

    /// What holds at the app `id` itself, whoever calls it, if anything does.
    pub(crate) fn inbound(&self, id: &str) -> Result<Option<Effective<'a>>, Failure> {
        let targets = || self.resources.iter().rev();
        let names = targets().find_map(|found| found.targets.apps.get(id)?.inbound.as_ref());
        names.map(|names| self.effective(Some(names), PolicyTarget::Inbound)).transpose()
    }

    /// The apps and endpoints that a target names.
    pub(crate) fn apps(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.resources.iter().flat_map(|resource| resource.targets.apps.keys().map(String::as_str))
    }

    /// What applies to calls to the app `id`; to any that no target names, without one.
    pub(crate) fn app(&self, id: Option<&str>) -> Result<Effective<'a>, Failure> {
        let targets = || self.resources.iter().rev();
        let target = id.and_then(|id| targets().find_map(|found| found.targets.apps.get(id)));
        let names = target.map(|target| &target.policies);
        let cache = target.map_or(BREAKERS_DEFAULT, |target| target.circuit_breaker_cache_size);
        let effective = self.effective(names, PolicyTarget::App)?;
        Ok(Effective { operations: cache, ..effective })
    }

    /// The policy of a component in one direction.
    pub(crate) fn component(
        &self,
        name: &str,
        block: ComponentBlock,
        direction: Direction,
    ) -> Result<Policy, Failure> {
        Ok(self.of_component(name, block, direction)?.policy)
    }

    /// What applies to a component in one direction.
    pub(crate) fn of_component(
        &self,
        name: &str,
        block: ComponentBlock,
        direction: Direction,
    ) -> Result<Effective<'a>, Failure> {
        let target =
            self.resources.iter().rev().find_map(|resource| resource.targets.components.get(name));
        let names = target.map(|target| match direction {
            Direction::Inbound => &target.inbound,
            Direction::Outbound => &target.outbound,
        });
        self.effective(names, PolicyTarget::Component(block, direction))
    }

    fn effective(
        &self,
        names: Option<&'a PolicyNames>,
        target: PolicyTarget,
    ) -> Result<Effective<'a>, Failure> {
        let mut chosen = Vec::new();
        let mut pick = Pick { names, target, origins: &self.origins, chosen: &mut chosen };
        let timeout = pick.one(PolicyKind::Timeout, |names| &names.timeout, &self.timeouts);
        let retry = pick.one(PolicyKind::Retry, |names| &names.retry, &self.retries);
        let breaker =
            pick.one(PolicyKind::CircuitBreaker, |names| &names.circuit_breaker, &self.breakers);
        let bulkhead = pick.one(PolicyKind::Bulkhead, |names| &names.bulkhead, &self.bulkheads);
        let rate = pick.one(PolicyKind::RateLimit, |names| &names.rate_limit, &self.rates);
        let hedge = pick.one(PolicyKind::Hedge, |names| &names.hedge, &self.hedges);
        let throttle = pick.one(PolicyKind::Throttle, |names| &names.throttle, &self.throttles);
        let balancer =
            pick.one(PolicyKind::LoadBalancer, |names| &names.load_balancer, &self.balancers);
        let cache = pick.one(PolicyKind::Cache, |names| &names.cache, &self.caches);
        let cache = cache.map(|cache| (pick.last(), parts::cache(cache)));
        let fallback = pick.one(PolicyKind::Fallback, |names| &names.fallback, &self.fallbacks);
        let fallback = fallback.map(|fallback| (pick.last(), fallback));
        let fault = pick.one(PolicyKind::Fault, |names| &names.fault, &self.faults);
        let limit = chosen.iter().find(|(kind, ..)| *kind == PolicyKind::RateLimit);
        let share = rate.filter(|rate| rate.shared).zip(limit);
        let share = share.map(|(rate, (_, name, _))| self.share(name, rate));
        let rules = retry.and_then(|retry| retry.rules.as_ref());
        let budget = rules.map(|rules| parts::budget(&rules.budget));
        let policy = Policy {
            timeout: timeout.and_then(|timeout| timeout.attempt),
            retry: retry.map(parts::retry).transpose()?,
            breaker: breaker.map(parts::breaker).transpose()?,
            overall: timeout.and_then(|timeout| timeout.overall),
            connect: timeout.and_then(|timeout| timeout.connect),
            adaptive: timeout.and_then(|timeout| timeout.adaptive.as_ref()).map(parts::adaptive),
            progressive: timeout.is_some_and(|timeout| timeout.progressive),
            // What a component is asked to do has no method to tell whether it may be repeated.
            restraint: rules.filter(|_| target == PolicyTarget::App).map(parts::restraint),
            // Second copies are not to be had without a bound either.
            budget: budget.or_else(|| hedge.map(|_| BudgetSettings::default())),
            hedge: hedge.map(parts::hedge),
            bulkhead: bulkhead.map(parts::bulkhead),
            rate: rate.map(parts::rate),
            share,
            throttle: throttle.map(parts::throttle),
        };
        let repeat_all = rules.is_some_and(|rules| rules.repeat_all);
        let has_own_budget = explained::has_own_budget(rules);
        let operations = BREAKERS_DEFAULT;
        let balance = balancer.map(parts::balance);
        let sticky = balancer.and_then(parts::sticky);
        let fallback = match fallback {
            None => None,
            Some((name, fallback)) => Some((name, parts::fallback(fallback)?)),
        };
        let faults = fault.filter(|fault| fault.enabled).map(parts::faults);
        Ok(Effective {
            policy,
            balance,
            sticky,
            cache,
            fallback,
            faults,
            repeat_all,
            chosen,
            operations,
            has_own_budget,
        })
    }
}

/// What several targets share: the caches and the ladders that they name.
#[derive(Default)]
struct Shared {
    shelves: BTreeMap<String, Arc<Shelf>>,
    ladders: BTreeMap<String, Arc<Ladder>>,
}

impl Shared {
    fn policy(&mut self, effective: Effective<'_>, seed: u64, now: Mono) -> CallPolicy {
        let operations = usize::try_from(effective.operations).unwrap_or(usize::MAX);
        let shelf = effective.cache.map(|(name, settings)| {
            let made = || Shelf::new(name, settings);
            Arc::clone(self.shelves.entry(name.to_owned()).or_insert_with(made))
        });
        let ladder = effective.fallback.map(|(name, settings)| {
            let made = || Ladder::new(name, settings);
            Arc::clone(self.ladders.entry(name.to_owned()).or_insert_with(made))
        });
        CallPolicy::seeded(effective.policy, operations, seed)
            .repeating_all(effective.repeat_all)
            .balancing(effective.balance)
            .sticking(effective.sticky)
            .caching(shelf)
            .falling_back(ladder)
            .faulting(effective.faults.map(|faults| Chaos::begin(faults, now)))
    }
}

/// Looks the parts of one target up.
struct Pick<'p, 'a> {
    names: Option<&'a PolicyNames>,
    target: PolicyTarget,
    origins: &'p BTreeMap<(PolicyKind, &'a str), &'a Origin>,
    chosen: &'p mut Vec<(PolicyKind, &'a str, Option<&'a Origin>)>,
}

impl<'a> Pick<'_, 'a> {
    /// The name that was chosen last.
    fn last(&self) -> &'a str {
        self.chosen.last().map_or("", |(_, name, _)| name)
    }

    fn one<T>(
        &mut self,
        kind: PolicyKind,
        named: fn(&PolicyNames) -> &Option<String>,
        known: &ByName<'a, T>,
    ) -> Option<&'a T> {
        let names = match self.names.and_then(|names| named(names).clone()) {
            Some(name) => vec![name],
            None if stands_in(self.target, kind) => default_policy_names(self.target, kind),
            None => return None,
        };
        let (name, part) = names.iter().find_map(|name| known.get_key_value(name.as_str()))?;
        self.chosen.push((kind, name, self.origins.get(&(kind, *name)).copied()));
        Some(part)
    }
}

/// Whether a part can be had by default: what guards the way out does nothing on the way in.
fn stands_in(target: PolicyTarget, kind: PolicyKind) -> bool {
    let guards = match kind {
        _ if target == PolicyTarget::Inbound => return false,
        PolicyKind::Timeout | PolicyKind::Retry | PolicyKind::CircuitBreaker => return true,
        PolicyKind::Hedge | PolicyKind::LoadBalancer | PolicyKind::Cache | PolicyKind::Fallback => {
            return target == PolicyTarget::App;
        }
        // Whom faults are done to has to be said.
        PolicyKind::Fault => return false,
        PolicyKind::Bulkhead | PolicyKind::RateLimit | PolicyKind::Throttle => target,
    };
    matches!(guards, PolicyTarget::App | PolicyTarget::Component(_, Direction::Outbound))
}

#[cfg(test)]
mod tests {
    use super::{Policies, RECONNECT};
    use outrigger_kernel::Mono;
    use outrigger_resilience::Backoff;
    use outrigger_resources::{RetryBackoff, RetryPolicy, StatusMatching};
    use std::time::Duration;

    #[test]
    fn the_wait_for_apps_that_are_away_has_a_name() {
        let seconds = Duration::from_secs;
        let policies = Policies::default();
        let usual = policies.calls(1, Mono(0)).unwrap().reconnect();
        assert_eq!(usual.backoff, Backoff::Constant { delay: seconds(1) });
        assert_eq!(usual.max_retries, Some(3));
        for (said, meant) in [(Some(1), Some(3)), (Some(7), Some(7)), (None, None)] {
            let backoff = RetryBackoff::Constant { delay: seconds(2) };
            let matching = StatusMatching { http: None, grpc: None };
            let policy = RetryPolicy { backoff, max_retries: said, matching, rules: None };
            let mut policies = Policies::default();
            policies.retries.insert(RECONNECT, &policy);
            let own = policies.calls(1, Mono(0)).unwrap().reconnect();
            assert_eq!(own.backoff, Backoff::Constant { delay: seconds(2) });
            assert_eq!(own.max_retries, meant);
        }
    }
}
