//! Kind `Resiliency`: named policies, and which app, actor type or component uses which.
//!
//! Policies are validated here (durations, counts, status code lists); turning them into running machines is the
//! caller's work. Names in targets that no loaded document defines are reported by [`crate::load()`], which sees all
//! documents at once, because a policy may be defined in another file than the one that uses it.

mod answers;
mod defaults;
mod guards;
mod read;

pub use answers::{
    AbortEnd, AbortFault, CachePolicy, DelayFault, FallbackPolicy, FaultPolicy, StaticAnswer,
};
pub use defaults::{
    BUILT_IN_POLICIES, ComponentBlock, Direction, PolicyKind, PolicyTarget, default_policy_names,
};
pub use guards::{
    AdaptiveTimeoutPolicy, BalanceStrategy, BreakerRates, BreakerWindow, BulkheadPolicy,
    BulkheadSeats, Decimal, EjectionPolicy, HedgePolicy, Jitter, LoadBalancerPolicy,
    RateLimitPolicy, RetryBudget, RetryRules, StickyBy, ThrottlePolicy, TimeoutPolicy,
};

use crate::{issue::Origin, value::Head};
use std::{collections::BTreeMap, time::Duration};

/// A set of policies and their targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resiliency {
    /// Name, namespace, labels and scopes.
    pub head: Head,
    /// `spec.policies`.
    pub policies: Policies,
    /// `spec.targets`.
    pub targets: Targets,
    /// Where the document begins.
    pub origin: Origin,
}

/// Policies by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// `timeouts`.
    pub timeouts: BTreeMap<String, TimeoutPolicy>,
    /// `retries`.
    pub retries: BTreeMap<String, RetryPolicy>,
    /// `circuitBreakers`.
    pub circuit_breakers: BTreeMap<String, CircuitBreakerPolicy>,
    /// `bulkheads`.
    pub bulkheads: BTreeMap<String, BulkheadPolicy>,
    /// `rateLimits`.
    pub rate_limits: BTreeMap<String, RateLimitPolicy>,
    /// `hedges`.
    pub hedges: BTreeMap<String, HedgePolicy>,
    /// `throttles`.
    pub throttles: BTreeMap<String, ThrottlePolicy>,
    /// `loadBalancers`.
    pub load_balancers: BTreeMap<String, LoadBalancerPolicy>,
    /// `caches`.
    pub caches: BTreeMap<String, CachePolicy>,
    /// `fallbacks`.
    pub fallbacks: BTreeMap<String, FallbackPolicy>,
    /// `faults`.
    pub faults: BTreeMap<String, FaultPolicy>,
    /// Where each of them stands.
    pub origins: BTreeMap<(PolicyKind, String), Origin>,
}

/// A retry policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The pause between attempts.
    pub backoff: RetryBackoff,
    /// Retries after the first attempt; `None` is endless (`-1`, the default).
    pub max_retries: Option<u32>,
    /// Which answers are worth a retry.
    pub matching: StatusMatching,
    /// What holds it back; `None` for a retry as the reference knows it.
    pub rules: Option<RetryRules>,
}

/// The pause between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryBackoff {
    /// Always the same.
    Constant {
        /// `duration`, 5 s unless set.
        delay: Duration,
    },
    /// Growing by half each time, with half of it random.
    Exponential {
        /// `initialInterval`, 500 ms unless set.
        initial: Duration,
        /// `maxInterval`, 60 s unless set.
        max: Duration,
    },
    /// Doubling each time and spread at random, as `jitter` says.
    Jittered {
        /// How they are spread.
        jitter: Jitter,
        /// `initialInterval`, 50 ms unless set.
        initial: Duration,
        /// `maxInterval`, 60 s unless set.
        max: Duration,
    },
}

/// `matching`: lists such as `429,500-599`, checked but kept as text. `None` matches every failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusMatching {
    /// `httpStatusCodes`: numbers and ranges within 100-599.
    pub http: Option<String>,
    /// `gRPCStatusCodes`: numbers and ranges within 1-16.
    pub grpc: Option<String>,
}

/// A circuit breaker policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitBreakerPolicy {
    /// `maxRequests` let through while half open (1).
    pub max_requests: u32,
    /// `interval` after which counts are forgotten while closed; zero never forgets (0).
    pub interval: Duration,
    /// `timeout`: how long it stays open (60 s).
    pub timeout: Duration,
    /// `trip`: a CEL condition over the counts; `None` is `consecutiveFailures > 5`. Not compiled here.
    pub trip: Option<String>,
    /// What it looks at in place of `trip`.
    pub rates: Option<BreakerRates>,
    /// `maxTimeout`: what `timeout` grows to while it opens again and again.
    pub max_timeout: Option<Duration>,
    /// `rampUp`: for how long after closing only a part of the calls is let through.
    pub ramp_up: Option<Duration>,
    /// Where the policy stands, to report a condition that does not compile.
    pub origin: Origin,
}

/// Who uses which policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// `apps`, by app id.
    pub apps: BTreeMap<String, AppTarget>,
    /// `actors`, by actor type.
    pub actors: BTreeMap<String, ActorTarget>,
    /// `components`, by component name.
    pub components: BTreeMap<String, ComponentTarget>,
}

/// Policies by the names under which they are defined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyNames {
    /// `timeout`.
    pub timeout: Option<String>,
    /// `retry`.
    pub retry: Option<String>,
    /// `circuitBreaker`.
    pub circuit_breaker: Option<String>,
    /// `bulkhead`; of apps and outbound components only, like the following.
    pub bulkhead: Option<String>,
    /// `rateLimit`.
    pub rate_limit: Option<String>,
    /// `hedge`; of apps only.
    pub hedge: Option<String>,
    /// `throttle`.
    pub throttle: Option<String>,
    /// `loadBalancer`; of apps only.
    pub load_balancer: Option<String>,
    /// `cache`; of apps only, like the following.
    pub cache: Option<String>,
    /// `fallback`.
    pub fallback: Option<String>,
    /// `fault`.
    pub fault: Option<String>,
    /// Where the names stand; `None` when the target gives none.
    pub origin: Option<Origin>,
}

/// Policies for calls to an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppTarget {
    /// The policies.
    pub policies: PolicyNames,
    /// `inbound`: policies of the app itself, whoever calls it; held where the app runs.
    pub inbound: Option<PolicyNames>,
    /// `circuitBreakerCacheSize`: breakers remembered (100).
    pub circuit_breaker_cache_size: u32,
}

/// Policies for calls to actors of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorTarget {
    /// The policies.
    pub policies: PolicyNames,
    /// `circuitBreakerScope`.
    pub circuit_breaker_scope: BreakerScope,
    /// `circuitBreakerCacheSize`: breakers remembered (5000).
    pub circuit_breaker_cache_size: u32,
}

/// What shares one breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerScope {
    /// All actors of the type.
    #[default]
    Type,
    /// Each actor its own.
    Id,
    /// Both at once.
    Both,
}

/// Policies for a component.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ComponentTarget {
    /// From this process to the component.
    pub outbound: PolicyNames,
    /// From the component to the app.
    pub inbound: PolicyNames,
}
