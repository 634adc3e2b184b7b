//! Reading kind `Resiliency`.

use super::{
    ActorTarget, AppTarget, BreakerScope, CircuitBreakerPolicy, ComponentTarget, Policies,
    PolicyNames, Resiliency, RetryBackoff, RetryPolicy, StatusMatching, Targets,
};
use crate::{
    codes,
    fields::{Fields, Report},
    value::Head,
};
use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

/// A bare number in this kind counts milliseconds.
const UNIT: Option<Duration> = Some(Duration::from_millis(1));
const DELAY_DEFAULT: Duration = Duration::from_secs(5);
const EXPONENTIAL_INITIAL: Duration = Duration::from_millis(500);
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
    let mut timeouts = BTreeMap::new();
    if let Some(mut all) = fields.object(report, "timeouts") {
        timeouts = all.durations(report, UNIT);
    }
    let policies = Policies {
        timeouts,
        retries: named(report, &mut fields, "retries", read_retry),
        circuit_breakers: named(report, &mut fields, "circuitBreakers", read_breaker),
    };
    fields.finish(report);
    policies
}

fn read_retry(report: &mut Report, fields: &mut Fields<'_>) -> RetryPolicy {
    let kinds = [("constant", false), ("exponential", true)];
    let exponential = fields.choice(report, "policy", &kinds).unwrap_or(false);
    let delay = fields.duration(report, "duration", UNIT);
    let max = fields.duration(report, "maxInterval", UNIT);
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
        RetryBackoff::Exponential { initial: EXPONENTIAL_INITIAL.min(max), max }
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
    }
}

/// A list of codes and ranges, checked and kept as text.
fn status_list(
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
        origin: report.origin(fields.place_of("trip")),
    }
}

fn read_targets(report: &mut Report, mut fields: Fields<'_>) -> Targets {
    let targets = Targets {
        apps: named(report, &mut fields, "apps", |report, fields| AppTarget {
            policies: policy_names(report, fields),
            circuit_breaker_cache_size: fields
                .integer(report, "circuitBreakerCacheSize", CACHE_SIZES)
                .unwrap_or(APP_CACHE_SIZE_DEFAULT),
        }),
        actors: named(report, &mut fields, "actors", read_actor),
        components: named(report, &mut fields, "components", |report, fields| {
            let mut way = |name| {
                let mut way = fields.object(report, name)?;
                let names = policy_names(report, &mut way);
                way.finish(report);
                Some(names)
            };
            ComponentTarget {
                outbound: way("outbound").unwrap_or_default(),
                inbound: way("inbound").unwrap_or_default(),
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
    }
}
