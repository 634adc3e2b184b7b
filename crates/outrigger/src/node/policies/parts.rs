//! A named policy of a resource as the settings of a machine. What the resource leaves out is the machine's default.

use crate::failure::{Exit, Failure};
use outrigger_resilience::{
    AdaptiveTimeout, Backoff, BalanceSettings, BreakerSettings, BudgetSettings, BulkheadSettings,
    HedgeSettings, LimitSettings, Matching, OutlierSettings, Quota, Rates, Restraint, Retry, Seats,
    ShareTerms, Strategy, ThrottleSettings, Trip, Window,
};
use outrigger_resources::{
    AdaptiveTimeoutPolicy, BalanceStrategy, BreakerRates, BreakerWindow, BulkheadPolicy,
    BulkheadSeats, CircuitBreakerPolicy, Decimal, HedgePolicy, Jitter, LoadBalancerPolicy,
    RateLimitPolicy, RetryBackoff, RetryBudget, RetryPolicy, RetryRules, ThrottlePolicy,
};

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
