//! What applies to a target, in words: each part in the order in which a call meets it, with where it comes from.

use super::{Effective, Policies, RECONNECT, parts, words};
use crate::failure::Failure;
use outrigger_calls::StickyBy;
use outrigger_kernel::Mono;
use outrigger_resilience::{BalanceSettings, Policy, Retry, Strategy};
use outrigger_resources::PolicyKind;

/// A part of what applies to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Explained {
    /// Its name.
    pub(crate) part: &'static str,
    /// What it does.
    pub(crate) says: String,
    /// The policy and its place in a file, or the default.
    pub(crate) from: String,
}

const BUILT_IN: &str = "built-in default";

impl Effective<'_> {
    /// The parts in order.
    pub(crate) fn explained(&self) -> Vec<Explained> {
        let mut parts = self.policy.explain();
        if let Some(balance) = &self.balance {
            // An instance is chosen for each attempt, right before it.
            let at = parts.iter().position(|(part, _)| *part == "attempt").unwrap_or(parts.len());
            parts.insert(at, ("balance", in_words(balance, self.sticky.as_ref())));
        }
        // Outside of everything, and right next to the wire.
        let cache = self.cache.as_ref().map(|(_, settings)| ("cache", words::cache(settings)));
        let fallback =
            self.fallback.as_ref().map(|(_, settings)| ("fallback", words::fallback(settings)));
        parts.splice(0..0, fallback.into_iter().chain(cache));
        parts.extend(self.faults.as_ref().map(|faults| ("fault", words::faults(faults))));
        let parts = parts.into_iter();
        parts.map(|(part, says)| Explained { part, says, from: self.origin(part) }).collect()
    }

    fn origin(&self, part: &str) -> String {
        let (kind, group) = match part {
            "overall" | "attempt" | "connect" => (PolicyKind::Timeout, "timeouts"),
            "retry" | "restraint" => (PolicyKind::Retry, "retries"),
            "budget" if self.has_own_budget => (PolicyKind::Retry, "retries"),
            "breaker" => (PolicyKind::CircuitBreaker, "circuitBreakers"),
            "bulkhead" => (PolicyKind::Bulkhead, "bulkheads"),
            "rate" => (PolicyKind::RateLimit, "rateLimits"),
            "hedge" => (PolicyKind::Hedge, "hedges"),
            "throttle" => (PolicyKind::Throttle, "throttles"),
            "balance" => (PolicyKind::LoadBalancer, "loadBalancers"),
            "cache" => (PolicyKind::Cache, "caches"),
            "fallback" => (PolicyKind::Fallback, "fallbacks"),
            "fault" => (PolicyKind::Fault, "faults"),
            _ => return BUILT_IN.to_owned(),
        };
        match self.chosen.iter().find(|(chosen, ..)| *chosen == kind) {
            None => BUILT_IN.to_owned(),
            Some((_, name, None)) => format!("{group}.{name}"),
            Some((_, name, Some(origin))) => format!("{group}.{name} at {origin}"),
        }
    }
}

fn in_words(balance: &BalanceSettings, sticky: Option<&StickyBy>) -> String {
    let by = match sticky {
        Some(StickyBy::Header(name)) => format!("the header {name}"),
        Some(StickyBy::Cookie(name)) => format!("the cookie {name}"),
        None => "nothing".to_owned(),
    };
    let at_home = match balance.strategy {
        Strategy::Sticky { load_factor } => {
            format!(
                "the instance that {by} belongs to, unless it has {load_factor} times the average under way"
            )
        }
        _ => String::new(),
    };
    let picks = match balance.strategy {
        Strategy::PeakEwma => "the cheaper of two instances drawn at random",
        Strategy::LeastLoaded => "the instance with the fewest calls under way",
        Strategy::RoundRobin => "each instance in turn",
        Strategy::Random => "any instance",
        Strategy::Sticky { .. } => at_home.as_str(),
    };
    let ejects = balance.outliers.as_ref().map(|outliers| {
        format!(
            "; left alone for {:?} after {} failures in a row, or when it does worse than the others",
            outliers.ejection_base, outliers.consecutive_failures
        )
    });
    picks.to_owned() + &ejects.unwrap_or_default()
}

impl Policies<'_> {
    /// How an app that cannot be reached is waited for, where no retry of its own takes the place of that.
    pub(crate) fn reconnect_explained(&self) -> Result<Explained, Failure> {
        let retry = self.calls(0, Mono(0))?.reconnect();
        let waits = Policy { retry: Some(Retry::clone(&retry)), ..Policy::default() };
        let says = waits.explain().into_iter().find(|(part, _)| *part == "retry");
        let says = says.map(|(_, says)| says).unwrap_or_default();
        let says = says.split(", after").next().unwrap_or_default();
        let origin = self.origins.get(&(PolicyKind::Retry, RECONNECT));
        let from = match (self.retries.contains_key(RECONNECT), origin) {
            (true, Some(origin)) => format!("retries.{RECONNECT} at {origin}"),
            _ => BUILT_IN.to_owned(),
        };
        let says = format!("when no connection comes up: {says}");
        Ok(Explained { part: "reconnect", says, from })
    }
}

/// Whether a retry says anything of its budget.
pub(super) fn has_own_budget(rules: Option<&outrigger_resources::RetryRules>) -> bool {
    rules.is_some_and(|rules| parts::budget(&rules.budget) != parts::budget(&Default::default()))
}

#[cfg(test)]
mod tests {
    use super::{Policies, RECONNECT};
    use outrigger_resources::Body;
    use std::path::Path;

    const FILE: &str = "\
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: shop}
spec:
  policies:
    timeouts:
      patient: {attempt: 2s, overall: 10s}
    retries:
      careful: {policy: exponential, jitter: full, maxInterval: 5s, maxRetries: 2}
      DaprBuiltInServiceRetries: {duration: 2s, maxRetries: 5}
    bulkheads:
      DefaultAppBulkheadPolicy: {maxConcurrent: 10, maxQueue: 0}
    rateLimits:
      hundred: {calls: 100, period: 1s, burst: 10, shared: true}
  targets:
    apps:
      cart: {timeout: patient, retry: careful, rateLimit: hundred}
";

    #[test]
    fn every_part_says_where_it_comes_from() {
        let (found, issues) = outrigger_resources::parse(Path::new("r.yaml"), FILE.as_bytes());
        assert!(issues.is_empty(), "{issues:?}");
        let Body::Resiliency(resource) = &found[0].body else { panic!("{found:?}") };
        let policies = Policies::new(vec![&**resource]);
        let told: Vec<String> = policies
            .app(Some("cart"))
            .unwrap()
            .explained()
            .into_iter()
            .map(|part| format!("{}: {} [{}]", part.part, part.says, part.from))
            .collect();
        assert_eq!(
            told,
            [
                "overall: 10s for the call, queues and waits included [timeouts.patient at r.yaml:7:7]",
                "rate: 100 calls in 1s, 10 at once, by all who share it [rateLimits.hundred at r.yaml:14:7]",
                "retry: up to 2 times, waits of up to 50ms doubling to 5s, after no answer, HTTP any failure, gRPC any \
                 failure [retries.careful at r.yaml:9:7]",
                "restraint: only what was not sent or may be repeated; Retry-After up to 20s; after overload waits of up \
                 to 1s doubling to 5s [retries.careful at r.yaml:9:7]",
                "budget: retries and hedges for 10 % of the calls, 3 a second at least; 20 % of those under way, 3 at \
                 least [built-in default]",
                "bulkhead: 10 at once; 0 may wait, 50ms at most [bulkheads.DefaultAppBulkheadPolicy at r.yaml:12:7]",
                "attempt: 2s [timeouts.patient at r.yaml:7:7]",
            ]
        );
        let others = policies.app(Some("other")).unwrap().explained();
        assert_eq!(others.iter().map(|part| part.part).collect::<Vec<_>>(), ["bulkhead"]);
        let reconnect = policies.reconnect_explained().unwrap();
        assert_eq!(reconnect.says, "when no connection comes up: up to 5 times, waits of 2s");
        assert_eq!(reconnect.from, format!("retries.{RECONNECT} at r.yaml:10:7"));
    }
}
