//! Reading kind `Resiliency`.

use super::{
    ActorTarget, AppTarget, BreakerScope, CircuitBreakerPolicy, ComponentTarget, Jitter, Policies,
    PolicyKind, PolicyNames, Resiliency, RetryBackoff, RetryPolicy, StatusMatching, Targets,
    TimeoutPolicy,
    answers::{read_cache, read_fallback, read_fault},
    guards::{
        UNIT, read_balancer, read_bulkhead, read_hedge, read_rate, read_rates, read_rules,
        read_throttle, read_timeout,
    },
};
use crate::{
    codes,
    fields::{Fields, Report},
    value::Head,
};
use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

const DELAY_DEFAULT: Duration = Duration::from_secs(5);
const EXPONENTIAL_INITIAL: Duration = Duration::from_millis(500);
const JITTERED_INITIAL: Duration = Duration::from_millis(50);
const MAX_INTERVAL_DEFAULT: Duration = Duration::from_secs(60);
const BREAKER_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
const APP_CACHE_SIZE_DEFAULT: u32 = 100;
const ACTOR_CACHE_SIZE_DEFAULT: u32 = 5000;
/// More breakers than this would be a mistake, and would be memory.
const CACHE_SIZES: RangeInclusive<u32> = 1..=1_000_000;

impl Resiliency {
    pub(crate) fn read(report: &mut Report, fields: &mut Fields<'_>, head: Head) -> Option<Self> {
        let origin = report.origin(fields.place());
        let Some(mut spec) = fields.object(report, "spec") else {
            fields.missing(report, "spec");
            return None;
        };
        let policies = spec.object(report, "policies").map(|f| read_policies(report, f));
        let targets = spec.object(report, "targets").map(|f| read_targets(report, f));
        spec.finish_spec(report);
        let (policies, targets) = (policies.unwrap_or_default(), targets.unwrap_or_default());
        Some(Self { head, policies, targets, origin })
    }
}

/// Reads each value of a mapping of names as a mapping of fields.
fn named<T>(
    report: &mut Report,
    fields: &mut Fields<'_>,
    name: &'static str,
    read: impl Fn(&mut Report, &mut Fields<'_>) -> T,
) -> BTreeMap<String, T> {
    let mut all = BTreeMap::new();
    for (key, node, path) in fields.entries(report, name).unwrap_or_default() {
        let Some(mut entry) = Fields::open(report, node, path) else { continue };
        all.insert(key.to_owned(), read(report, &mut entry));
        entry.finish(report);
    }
    all
}

fn read_policies(report: &mut Report, mut fields: Fields<'_>) -> Policies {
    let mut origins = BTreeMap::new();
    for (name, kind) in [
        ("timeouts", PolicyKind::Timeout),
        ("retries", PolicyKind::Retry),
        ("circuitBreakers", PolicyKind::CircuitBreaker),
        ("bulkheads", PolicyKind::Bulkhead),
        ("rateLimits", PolicyKind::RateLimit),
        ("hedges", PolicyKind::Hedge),
        ("throttles", PolicyKind::Throttle),
        ("loadBalancers", PolicyKind::LoadBalancer),
        ("caches", PolicyKind::Cache),
        ("fallbacks", PolicyKind::Fallback),
        ("faults", PolicyKind::Fault),
    ] {
        for (key, place) in fields.places(name) {
            origins.insert((kind, key.to_owned()), report.origin(place));
        }
    }
    let policies = Policies {
        timeouts: read_timeouts(report, &mut fields),
        retries: named(report, &mut fields, "retries", read_retry),
        circuit_breakers: named(report, &mut fields, "circuitBreakers", read_breaker),
        bulkheads: named(report, &mut fields, "bulkheads", read_bulkhead),
        rate_limits: named(report, &mut fields, "rateLimits", read_rate),
        hedges: named(report, &mut fields, "hedges", read_hedge),
        throttles: named(report, &mut fields, "throttles", read_throttle),
        load_balancers: named(report, &mut fields, "loadBalancers", read_balancer),
        caches: named(report, &mut fields, "caches", read_cache),
        fallbacks: named(report, &mut fields, "fallbacks", read_fallback),
        faults: named(report, &mut fields, "faults", read_fault),
        origins,
    };
    fields.finish(report);
    policies
}

/// Timeouts are durations, or mappings.
fn read_timeouts(report: &mut Report, fields: &mut Fields<'_>) -> BTreeMap<String, TimeoutPolicy> {
    let mut timeouts = BTreeMap::new();
    let Some(mut all) = fields.object(report, "timeouts") else { return timeouts };
    let (durations, mappings) = all.durations_and_mappings(report, UNIT);
    for (name, duration) in durations {
        let attempt = Some(duration);
        timeouts.insert(name, TimeoutPolicy { attempt, ..TimeoutPolicy::default() });
    }
    for (name, mut mapping) in mappings {
        timeouts.insert(name.to_owned(), read_timeout(report, &mut mapping));
        mapping.finish(report);
    }
    timeouts
}

fn read_retry(report: &mut Report, fields: &mut Fields<'_>) -> RetryPolicy {
    let kinds = [("constant", false), ("exponential", true)];
    let exponential = fields.choice(report, "policy", &kinds).unwrap_or(false);
    let delay = fields.duration(report, "duration", UNIT);
    let max = fields.duration(report, "maxInterval", UNIT);
    let first = fields.duration(report, "initialInterval", UNIT);
    let jitters =
        [("full", Jitter::Full), ("equal", Jitter::Equal), ("decorrelated", Jitter::Decorrelated)];
    let jitter = fields.choice(report, "jitter", &jitters);
    for name in ["jitter", "initialInterval"] {
        if !exponential && fields.has(name) {
            let message = format!("{} has no effect: the policy is constant", fields.path_of(name));
            report.note(codes::NO_EFFECT, fields.place_of(name), message);
        }
    }
    let (idle, kind, other) = match exponential {
        true => (delay.is_some(), "exponential", "duration"),
        false => (max.is_some(), "constant", "maxInterval"),
    };
    if idle {
        let message = format!("{} has no effect: the policy is {kind}", fields.path_of(other));
        report.note(codes::NO_EFFECT, fields.place_of(other), message);
    }
    let backoff = if exponential {
        let max = max.unwrap_or(MAX_INTERVAL_DEFAULT);
        match jitter {
            None => RetryBackoff::Exponential {
                initial: first.unwrap_or(EXPONENTIAL_INITIAL).min(max),
                max,
            },
            Some(jitter) => RetryBackoff::Jittered {
                jitter,
                initial: first.unwrap_or(JITTERED_INITIAL).min(max),
                max,
            },
        }
    } else {
        RetryBackoff::Constant { delay: delay.unwrap_or(DELAY_DEFAULT) }
    };
    let retries = fields.integer(report, "maxRetries", -1..=i64::from(i32::MAX));
    let matching = fields.object(report, "matching").map(|mut matching| {
        let http = status_list(report, &mut matching, "httpStatusCodes", 100..=599);
        let grpc = status_list(report, &mut matching, "gRPCStatusCodes", 0..=16);
        matching.finish(report);
        StatusMatching { http, grpc }
    });
    RetryPolicy {
        backoff,
        max_retries: retries.and_then(|n| u32::try_from(n).ok()),
        matching: matching.unwrap_or_default(),
        rules: read_rules(report, fields),
    }
}

/// A list of codes and ranges, checked and kept as text.
pub(super) fn status_list(
    report: &mut Report,
    fields: &mut Fields<'_>,
    name: &'static str,
    range: RangeInclusive<u16>,
) -> Option<String> {
    let text = fields.string(report, name)?;
    if let Some(bad) = text.split(',').map(str::trim).find(|item| !is_status_item(item, &range)) {
        let (from, to) = (range.start(), range.end());
        let path = fields.path_of(name);
        let message = format!("{path}: \"{bad}\" is no code or range between {from} and {to}");
        report.error(codes::BAD_STATUS_LIST, fields.place_of(name), message);
    }
    Some(text)
}

fn is_status_item(item: &str, range: &RangeInclusive<u16>) -> bool {
    let (from, to) = item.split_once('-').unwrap_or((item, item));
    let number = |text: &str| text.trim().parse().ok().filter(|n| range.contains(n));
    number(from).zip(number(to)).is_some_and(|(from, to)| from <= to)
}

fn read_breaker(report: &mut Report, fields: &mut Fields<'_>) -> CircuitBreakerPolicy {
    let max_requests = fields.integer(report, "maxRequests", 0..=u32::MAX);
    let interval = fields.duration(report, "interval", UNIT);
    let timeout = fields.duration(report, "timeout", UNIT).filter(|t| !t.is_zero());
    CircuitBreakerPolicy {
        max_requests: max_requests.unwrap_or(1).max(1),
        interval: interval.unwrap_or_default(),
        timeout: timeout.unwrap_or(BREAKER_TIMEOUT_DEFAULT),
        trip: fields.string(report, "trip"),
        rates: read_rates(report, fields),
        max_timeout: fields.duration(report, "maxTimeout", UNIT),
        ramp_up: fields.duration(report, "rampUp", UNIT),
        origin: report.origin(fields.place_of("trip")),
    }
}

fn read_targets(report: &mut Report, mut fields: Fields<'_>) -> Targets {
    let targets = Targets {
        apps: named(report, &mut fields, "apps", |report, fields| AppTarget {
            policies: PolicyNames {
                hedge: fields.string(report, "hedge"),
                load_balancer: fields.string(report, "loadBalancer"),
                cache: fields.string(report, "cache"),
                fallback: fields.string(report, "fallback"),
                fault: fields.string(report, "fault"),
                ..outbound_names(report, fields)
            },
            inbound: fields.object(report, "inbound").map(|mut inbound| {
                let names = PolicyNames {
                    bulkhead: inbound.string(report, "bulkhead"),
                    rate_limit: inbound.string(report, "rateLimit"),
                    origin: Some(report.origin(inbound.place())),
                    ..PolicyNames::default()
                };
                inbound.finish(report);
                names
            }),
            circuit_breaker_cache_size: fields
                .integer(report, "circuitBreakerCacheSize", CACHE_SIZES)
                .unwrap_or(APP_CACHE_SIZE_DEFAULT),
        }),
        actors: named(report, &mut fields, "actors", read_actor),
        components: named(report, &mut fields, "components", |report, fields| {
            type Names = fn(&mut Report, &mut Fields<'_>) -> PolicyNames;
            let mut way = |name, read: Names| {
                let mut way = fields.object(report, name)?;
                let names = read(report, &mut way);
                way.finish(report);
                Some(names)
            };
            ComponentTarget {
                outbound: way("outbound", outbound_names).unwrap_or_default(),
                inbound: way("inbound", policy_names).unwrap_or_default(),
            }
        }),
    };
    fields.finish(report);
    targets
}

fn read_actor(report: &mut Report, fields: &mut Fields<'_>) -> ActorTarget {
    let scopes =
        [("type", BreakerScope::Type), ("id", BreakerScope::Id), ("both", BreakerScope::Both)];
    ActorTarget {
        policies: policy_names(report, fields),
        circuit_breaker_scope: fields
            .choice(report, "circuitBreakerScope", &scopes)
            .unwrap_or_default(),
        circuit_breaker_cache_size: fields
            .integer(report, "circuitBreakerCacheSize", CACHE_SIZES)
            .unwrap_or(ACTOR_CACHE_SIZE_DEFAULT),
    }
}

fn policy_names(report: &mut Report, fields: &mut Fields<'_>) -> PolicyNames {
    PolicyNames {
        timeout: fields.string(report, "timeout"),
        retry: fields.string(report, "retry"),
        circuit_breaker: fields.string(report, "circuitBreaker"),
        origin: Some(report.origin(fields.place())),
        ..PolicyNames::default()
    }
}

/// The names of what leaves this process, which more can be done about.
fn outbound_names(report: &mut Report, fields: &mut Fields<'_>) -> PolicyNames {
    PolicyNames {
        bulkhead: fields.string(report, "bulkhead"),
        rate_limit: fields.string(report, "rateLimit"),
        throttle: fields.string(report, "throttle"),
        ..policy_names(report, fields)
    }
}
