//! A named policy of a resource as the settings of a machine. What the resource leaves out is the machine's default.

use crate::failure::{Exit, Failure};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use outrigger_calls::{FaultSettings, LadderSettings, ShelfSettings, StaticAnswer, StickyBy};
use outrigger_resilience::{
    Abort, AdaptiveTimeout, Backoff, BalanceSettings, BreakerSettings, BudgetSettings,
    BulkheadSettings, FAULTS_FOR_DEFAULT, Fault, FaultRule, HeaderIs, HedgeSettings, LimitSettings,
    Matching, OutlierSettings, Quota, Rates, Restraint, Retry, Seats, ShareTerms, Step, Strategy,
    ThrottleSettings, Trip, Window,
    cache::{CacheSettings, Early, StoreBounds},
};
use outrigger_resources::{
    AbortEnd, AdaptiveTimeoutPolicy, BalanceStrategy, BreakerRates, BreakerWindow, BulkheadPolicy,
    BulkheadSeats, CachePolicy, CircuitBreakerPolicy, Decimal, FallbackPolicy, FaultPolicy,
    HedgePolicy, Jitter, LoadBalancerPolicy, RateLimitPolicy, RetryBackoff, RetryBudget,
    RetryPolicy, RetryRules, StickyBy as NamedBy, ThrottlePolicy,
};
use std::time::Duration;

/// How many times the average an instance may have under way that calls stick to.
const LOAD_FACTOR: f64 = 1.25;
/// Bytes of last good answers that are kept.
const GOOD_BYTES: u64 = 16 << 20;
/// How many of them.
const GOOD_ENTRIES: usize = 10_000;
/// How much time must be left for another target.
const ALTERNATE_TIME_MIN: Duration = Duration::from_millis(50);

fn share(percent: Option<Decimal>, usual: f64) -> f64 {
    percent.map_or(usual, Decimal::share)
}

pub(super) fn adaptive(policy: &AdaptiveTimeoutPolicy) -> AdaptiveTimeout {
    let usual = AdaptiveTimeout::default();
    AdaptiveTimeout {
        false_rate: share(policy.false_timeout_percent, usual.false_rate),
        factor: policy.factor.map_or(usual.factor, Decimal::get),
        min: policy.min.unwrap_or(usual.min),
        max: policy.max.unwrap_or(usual.max.max(policy.min.unwrap_or_default())),
        warm_up: policy.min_calls.map_or(usual.warm_up, u64::from),
    }
}

pub(super) fn retry(policy: &RetryPolicy) -> Result<Retry, Failure> {
    let backoff = match policy.backoff {
        RetryBackoff::Constant { delay } => Backoff::Constant { delay },
        RetryBackoff::Exponential { initial, max } => Backoff::exponential(initial, max),
        RetryBackoff::Jittered { jitter, initial: base, max } => match jitter {
            Jitter::Full => Backoff::FullJitter { base, max },
            Jitter::Equal => Backoff::EqualJitter { base, max },
            Jitter::Decorrelated => Backoff::Decorrelated { base, max },
        },
    };
    let http = policy.matching.http.as_deref().unwrap_or_default();
    let grpc = policy.matching.grpc.as_deref().unwrap_or_default();
    let matching = Matching::parse(http, grpc).map_err(|error| {
        Failure::new("OUTR-0015", Exit::Usage, "a retry policy cannot be used").why(error)
    })?;
    Ok(Retry { backoff, max_retries: policy.max_retries, matching })
}

pub(super) fn restraint(rules: &RetryRules) -> Restraint {
    let usual = Restraint::default();
    Restraint { pushback_max: rules.max_retry_after.unwrap_or(usual.pushback_max), ..usual }
}

pub(super) fn budget(policy: &RetryBudget) -> BudgetSettings {
    let usual = BudgetSettings::default();
    BudgetSettings {
        share: share(policy.percent, usual.share),
        floor_per_second: policy.min_per_second.unwrap_or(usual.floor_per_second),
        concurrent_share: share(policy.concurrent_percent, usual.concurrent_share),
        concurrent_floor: policy.min_concurrent.unwrap_or(usual.concurrent_floor),
        ..usual
    }
}

pub(super) fn breaker(policy: &CircuitBreakerPolicy) -> Result<BreakerSettings, Failure> {
    let trip = match (&policy.rates, &policy.trip) {
        (Some(wanted), _) => Trip::Rates(rates(wanted)),
        (None, None) => Trip::ConsecutiveFailures(5),
        (None, Some(condition)) => super::super::trip::compile(condition).map_err(|reason| {
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
        timeout_max: policy.max_timeout.unwrap_or_default(),
        ramp: policy.ramp_up.unwrap_or_default(),
    })
}

fn rates(wanted: &BreakerRates) -> Rates {
    let usual = Rates::default();
    Rates {
        window: match wanted.window {
            None => usual.window,
            Some(BreakerWindow::Calls(calls)) => Window::Calls(calls),
            Some(BreakerWindow::Time(time)) => Window::Time(time),
        },
        calls_min: wanted.min_calls.unwrap_or(usual.calls_min),
        failure_share: share(wanted.failure_percent, usual.failure_share),
        slow_share: share(wanted.slow_call_percent, usual.slow_share),
        slow_after: wanted.slow_call_duration.unwrap_or(usual.slow_after),
        consecutive: wanted.consecutive_failures.unwrap_or(usual.consecutive),
    }
}

pub(super) fn bulkhead(policy: &BulkheadPolicy) -> BulkheadSettings {
    let usual = BulkheadSettings::default();
    let seats = match policy.seats {
        BulkheadSeats::Fixed(seats) => Seats::Fixed(seats),
        BulkheadSeats::Adaptive { initial, min, max } => {
            let usual = LimitSettings::default();
            let min = min.unwrap_or(usual.min.min(max.unwrap_or(usual.min)));
            let max = max.unwrap_or(usual.max).max(min);
            let initial = initial.unwrap_or(usual.initial).clamp(min, max);
            Seats::Adaptive(LimitSettings { initial, min, max })
        }
    };
    BulkheadSettings {
        seats,
        queue_max: policy.max_queue.unwrap_or(usual.queue_max),
        wait_max: policy.max_wait.unwrap_or(usual.wait_max),
        ..usual
    }
}

pub(super) fn rate(policy: &RateLimitPolicy) -> Quota {
    let quota = Quota::new(policy.calls, policy.period);
    policy.burst.map_or(quota, |burst| quota.with_burst(burst))
}

/// What the processes that share a limit agree on.
pub(super) fn terms(policy: &RateLimitPolicy) -> ShareTerms {
    let period_us = policy.period.as_micros().max(1);
    let rate_milli = u128::from(policy.calls) * 1_000_000_000 / period_us;
    ShareTerms {
        rate_milli: u64::try_from(rate_milli).unwrap_or(u64::MAX).max(1),
        burst: policy.period.saturating_mul(policy.burst.unwrap_or(policy.calls))
            / policy.calls.max(1),
        ..ShareTerms::per_second(1)
    }
}

pub(super) fn hedge(policy: &HedgePolicy) -> HedgeSettings {
    let usual = HedgeSettings::default();
    HedgeSettings {
        max_extra: share(policy.max_extra_percent, usual.max_extra),
        min_delay: policy.min_delay.unwrap_or(usual.min_delay),
        fixed_delay: policy.delay,
        warm_up: policy.min_calls.map_or(usual.warm_up, u64::from),
    }
}

pub(super) fn throttle(policy: &ThrottlePolicy) -> ThrottleSettings {
    let usual = ThrottleSettings::default();
    ThrottleSettings {
        multiplier: policy.multiplier.map_or(usual.multiplier, Decimal::get),
        window: policy.window.unwrap_or(usual.window),
        refused_max: share(policy.max_refused_percent, usual.refused_max),
        calls_min: policy.min_calls.unwrap_or(usual.calls_min),
    }
}

pub(super) fn balance(policy: &LoadBalancerPolicy) -> BalanceSettings {
    let usual = BalanceSettings::default();
    let outlier = OutlierSettings::default();
    let ejection = &policy.ejection;
    let base = ejection.base_time.unwrap_or(outlier.ejection_base);
    BalanceSettings {
        strategy: match policy.strategy {
            None | Some(BalanceStrategy::PeakEwma) => Strategy::PeakEwma,
            Some(BalanceStrategy::LeastLoaded) => Strategy::LeastLoaded,
            Some(BalanceStrategy::RoundRobin) => Strategy::RoundRobin,
            Some(BalanceStrategy::Random) => Strategy::Random,
            Some(BalanceStrategy::Sticky) => {
                let load_factor = policy.load_factor.map_or(LOAD_FACTOR, Decimal::get);
                Strategy::Sticky { load_factor }
            }
        },
        slow_start: policy.slow_start.unwrap_or(usual.slow_start),
        panic_share: share(policy.panic_percent, usual.panic_share),
        outliers: Some(OutlierSettings {
            consecutive_failures: ejection
                .consecutive_failures
                .unwrap_or(outlier.consecutive_failures),
            interval: ejection.interval.unwrap_or(outlier.interval),
            latency_factor: ejection.latency_factor.map_or(outlier.latency_factor, Decimal::get),
            requests_min: ejection.min_calls.unwrap_or(outlier.requests_min),
            ejection_base: base,
            ejection_max: ejection.max_time.unwrap_or(outlier.ejection_max).max(base),
            ejected_share_max: share(ejection.max_percent, outlier.ejected_share_max),
            ..outlier
        }),
        ..usual
    }
}

pub(super) fn sticky(policy: &LoadBalancerPolicy) -> Option<StickyBy> {
    if policy.strategy != Some(BalanceStrategy::Sticky) {
        return None;
    }
    Some(match policy.sticky_by.as_ref()? {
        NamedBy::Header(name) => StickyBy::Header(HeaderName::try_from(name).ok()?),
        NamedBy::Cookie(name) => StickyBy::Cookie(name.clone()),
    })
}

fn size(bytes: Option<u64>, usual: usize) -> usize {
    bytes.map_or(usual, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

pub(super) fn cache(policy: &CachePolicy) -> ShelfSettings {
    let usual = CacheSettings::default();
    let entries = policy.max_entries.and_then(|entries| usize::try_from(entries).ok());
    let bounds = StoreBounds {
        entries_max: entries.unwrap_or(usual.bounds.entries_max),
        bytes_max: size(policy.max_bytes, usual.bounds.bytes_max),
    };
    let cache = CacheSettings {
        bounds,
        body_max: size(policy.max_body, usual.body_max).min(bounds.bytes_max),
        jitter: share(policy.jitter_percent, usual.jitter),
        early: if policy.refresh_ahead == Some(false) { Early::Off } else { usual.early },
        stale_while_revalidate: policy.stale_while_revalidate.unwrap_or_default(),
        stale_if_error: policy.stale_if_error.unwrap_or_default(),
        negative_for: policy.negative.unwrap_or(usual.negative_for),
        fresh_for: policy.fresh_for.unwrap_or_default(),
        ..usual
    };
    let key_headers =
        policy.key_headers.iter().filter_map(|name| HeaderName::try_from(name).ok()).collect();
    ShelfSettings { cache, key_headers, coalesce_any: policy.coalesce_any }
}

pub(super) fn fallback(policy: &FallbackPolicy) -> Result<LadderSettings, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        Failure::new("OUTR-0015", Exit::Usage, "a fallback policy cannot be used").why(why)
    };
    let mut steps = Vec::new();
    steps.extend(policy.last_good.map(|age_max| Step::LastGood { age_max }));
    steps.extend(policy.target.as_ref().map(|target| Step::Alternate {
        target: target.clone(),
        time_min: policy.min_time.unwrap_or(ALTERNATE_TIME_MIN),
    }));
    if let Some(answer) = &policy.answer {
        let mut headers = HeaderMap::new();
        for (name, value) in &answer.headers {
            let name = HeaderName::try_from(name).map_err(|error| wrong(&error))?;
            headers.insert(name, HeaderValue::try_from(value).map_err(|error| wrong(&error))?);
        }
        let status = StatusCode::from_u16(answer.status).map_err(|error| wrong(&error))?;
        let body = answer.body.clone().into();
        steps.push(Step::Answer(StaticAnswer { status, headers, body }));
    }
    let statuses = policy.statuses.as_deref().unwrap_or("500-599");
    let statuses = Matching::parse(statuses, "").map_err(|error| wrong(&error))?.http;
    let bytes_max = size(policy.max_bytes.or(Some(GOOD_BYTES)), 0);
    Ok(LadderSettings {
        steps,
        statuses: statuses.unwrap_or_default(),
        all_methods: policy.all_methods,
        bounds: StoreBounds { entries_max: GOOD_ENTRIES, bytes_max },
        body_max: size(policy.max_body, 1 << 20).min(bytes_max),
    })
}

pub(super) fn faults(policy: &FaultPolicy) -> FaultSettings {
    let headers = policy.headers.iter().map(|(name, value)| HeaderIs {
        name: name.clone(),
        value: Some(value.clone()).filter(|value| value != "*"),
    });
    let headers: Vec<HeaderIs> = headers.collect();
    let rule = |fault, percent: Decimal| FaultRule {
        fault,
        share: percent.share(),
        headers: headers.clone(),
    };
    let mut rules = Vec::new();
    rules.extend(
        policy
            .delay
            .map(|delay| rule(Fault::Delay { least: delay.min, most: delay.max }, delay.percent)),
    );
    rules.extend(policy.abort.map(|abort| {
        let end = match abort.end {
            AbortEnd::Http(status) => Abort::Http(status),
            AbortEnd::Grpc(code) => Abort::Grpc(code),
            AbortEnd::Reset => Abort::Reset,
        };
        rule(Fault::Abort(end), abort.percent)
    }));
    rules.extend(policy.drop.map(|percent| rule(Fault::Drop, percent)));
    rules.extend(policy.corrupt.map(|(percent, every)| rule(Fault::Corrupt { every }, percent)));
    rules.extend(
        policy
            .bandwidth
            .map(|(percent, bytes_per_s)| rule(Fault::Bandwidth { bytes_per_s }, percent)),
    );
    FaultSettings { rules, lasts: policy.lasts.unwrap_or(FAULTS_FOR_DEFAULT) }
}
