//! Resiliency resources into policies: which named parts apply to which app or component.

use crate::failure::{Exit, Failure};
use outrigger_api::CallPolicies;
use outrigger_calls::CallPolicy;
use outrigger_resilience::{Backoff, BreakerSettings, Matching, Policy, Retry, Trip};
use outrigger_resources::{
    CircuitBreakerPolicy, ComponentBlock, Direction, PolicyKind, PolicyNames, PolicyTarget,
    Resiliency, RetryBackoff, RetryPolicy, default_policy_names,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The name under which the wait for apps that cannot be reached is changed.
const RECONNECT: &str = "DaprBuiltInServiceRetries";

/// The policies of all resiliency resources that apply to one app, by name; of two with one name the later one holds.
#[derive(Debug, Default)]
pub(crate) struct Policies<'a> {
    timeouts: BTreeMap<&'a str, Duration>,
    retries: BTreeMap<&'a str, &'a RetryPolicy>,
    breakers: BTreeMap<&'a str, &'a CircuitBreakerPolicy>,
    resources: Vec<&'a Resiliency>,
}

impl<'a> Policies<'a> {
    pub(crate) fn new(resources: Vec<&'a Resiliency>) -> Self {
        let mut all = Self { resources, ..Self::default() };
        for resource in &all.resources {
            let policies = &resource.policies;
            all.timeouts
                .extend(policies.timeouts.iter().map(|(name, value)| (name.as_str(), *value)));
            all.retries.extend(policies.retries.iter().map(|(name, value)| (name.as_str(), value)));
            all.breakers.extend(
                policies.circuit_breakers.iter().map(|(name, value)| (name.as_str(), value)),
            );
        }
        all
    }

    /// The names of the resources, for `metadata`.
    pub(crate) fn names(&self) -> Vec<String> {
        self.resources.iter().map(|resource| resource.head.name.clone()).collect()
    }

    /// The policies of calls, by whom they go to.
    pub(crate) fn calls(&self) -> Result<CallPolicies, Failure> {
        let mut named = BTreeMap::new();
        for id in self.resources.iter().flat_map(|resource| resource.targets.apps.keys()) {
            let (policy, operations) = self.app(id)?;
            let operations = usize::try_from(operations).unwrap_or(usize::MAX);
            named.insert(id.clone(), Arc::new(CallPolicy::new(policy, operations)));
        }
        let default = self.policy(None, PolicyTarget::App)?;
        let calls = CallPolicies::new(named, (!default.is_idle()).then_some(default));
        Ok(match self.retries.get(RECONNECT) {
            Some(policy) => {
                let retry = converted(policy)?;
                // As in the reference, what is overridden does not become less than it was.
                let max_retries = retry.max_retries.map(|most| most.max(3));
                calls.reconnecting(Retry { max_retries, ..retry })
            }
            None => calls,
        })
    }

    /// The policy of calls to the app `id`, and how many breakers to remember.
    fn app(&self, id: &str) -> Result<(Policy, u32), Failure> {
        let target = self.resources.iter().rev().find_map(|resource| resource.targets.apps.get(id));
        let names = target.map(|target| &target.policies);
        let cache = target.map_or(100, |target| target.circuit_breaker_cache_size);
        Ok((self.policy(names, PolicyTarget::App)?, cache))
    }

    /// The policy of a component in one direction.
    pub(crate) fn component(
        &self,
        name: &str,
        block: ComponentBlock,
        direction: Direction,
    ) -> Result<Policy, Failure> {
        let target =
            self.resources.iter().rev().find_map(|resource| resource.targets.components.get(name));
        let names = target.map(|target| match direction {
            Direction::Inbound => &target.inbound,
            Direction::Outbound => &target.outbound,
        });
        self.policy(names, PolicyTarget::Component(block, direction))
    }

    fn policy(&self, names: Option<&PolicyNames>, target: PolicyTarget) -> Result<Policy, Failure> {
        let named = |pick: fn(&PolicyNames) -> &Option<String>, kind| -> Vec<String> {
            match names.and_then(|names| pick(names).clone()) {
                Some(name) => vec![name],
                None => default_policy_names(target, kind),
            }
        };
        let timeout = named(|names| &names.timeout, PolicyKind::Timeout);
        let retry = named(|names| &names.retry, PolicyKind::Retry);
        let breaker = named(|names| &names.circuit_breaker, PolicyKind::CircuitBreaker);
        let retry = retry.iter().find_map(|name| self.retries.get(name.as_str()));
        let breaker = breaker.iter().find_map(|name| self.breakers.get(name.as_str()));
        Ok(Policy {
            timeout: timeout.iter().find_map(|name| self.timeouts.get(name.as_str()).copied()),
            retry: retry.map(|retry| converted(retry)).transpose()?,
            breaker: breaker.map(|breaker| breaker_settings(breaker)).transpose()?,
            ..Policy::default()
        })
    }
}

fn converted(policy: &RetryPolicy) -> Result<Retry, Failure> {
    let backoff = match policy.backoff {
        RetryBackoff::Constant { delay } => Backoff::Constant { delay },
        RetryBackoff::Exponential { initial, max } => Backoff::exponential(initial, max),
    };
    let http = policy.matching.http.as_deref().unwrap_or_default();
    let grpc = policy.matching.grpc.as_deref().unwrap_or_default();
    let matching = Matching::parse(http, grpc).map_err(|error| {
        Failure::new("OUTR-0015", Exit::Usage, "a retry policy cannot be used").why(error)
    })?;
    Ok(Retry { backoff, max_retries: policy.max_retries, matching })
}

fn breaker_settings(policy: &CircuitBreakerPolicy) -> Result<BreakerSettings, Failure> {
    let trip = match &policy.trip {
        None => Trip::ConsecutiveFailures(5),
        Some(condition) => super::trip::compile(condition).map_err(|reason| {
            Failure::new("OUTR-0015", Exit::Usage, "the condition of a circuit breaker cannot be used")
                .at(&policy.origin)
                .why(reason)
                .help("it is a CEL condition over requests, totalSuccesses, totalFailures, consecutiveSuccesses and consecutiveFailures")
        })?,
    };
    Ok(BreakerSettings {
        max_requests: policy.max_requests,
        interval: policy.interval,
        timeout: policy.timeout,
        trip,
        ..BreakerSettings::default()
    })
}

#[cfg(test)]
mod tests {
    use super::{Policies, RECONNECT};
    use outrigger_resilience::Backoff;
    use outrigger_resources::{RetryBackoff, RetryPolicy, StatusMatching};
    use std::time::Duration;

    #[test]
    fn the_wait_for_apps_that_are_away_has_a_name() {
        let seconds = Duration::from_secs;
        let policies = Policies::default();
        let usual = policies.calls().unwrap().reconnect();
        assert_eq!(usual.backoff, Backoff::Constant { delay: seconds(1) });
        assert_eq!(usual.max_retries, Some(3));
        for (said, meant) in [(Some(1), Some(3)), (Some(7), Some(7)), (None, None)] {
            let backoff = RetryBackoff::Constant { delay: seconds(2) };
            let matching = StatusMatching { http: None, grpc: None };
            let policy = RetryPolicy { backoff, max_retries: said, matching };
            let mut policies = Policies::default();
            policies.retries.insert(RECONNECT, &policy);
            let own = policies.calls().unwrap().reconnect();
            assert_eq!(own.backoff, Backoff::Constant { delay: seconds(2) });
            assert_eq!(own.max_retries, meant);
        }
    }
}
