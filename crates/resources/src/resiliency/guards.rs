//! The policies beyond timeout, retry and breaker, and what those three can say beyond the reference.
//!
//! Everything is optional here: what is left out is decided by whoever makes machines of these, so that there is one
//! place for defaults. Numbers with a fraction are [`Decimal`]s, because resources are compared on every reload.

use super::{answers::header_name, read::status_list};
use crate::{
    codes,
    fields::{Fields, Report},
};
use std::{ops::RangeInclusive, time::Duration};

/// A bare number in this kind counts milliseconds.
pub(super) const UNIT: Option<Duration> = Some(Duration::from_millis(1));
const PERCENT: RangeInclusive<f64> = 0.0..=100.0;
pub(super) const COUNTS: RangeInclusive<u32> = 1..=1_000_000;

/// A number to six places, which can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal {
    millionths: u64,
}

impl Decimal {
    /// The number, rounded to six places. Negative ones and those beyond a million count as the nearest that fits.
    #[must_use]
    pub fn new(number: f64) -> Self {
        let millionths = (number.clamp(0.0, 1e6) * 1e6).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "held within 0 and 1e12"
        )]
        let millionths = millionths as u64;
        Self { millionths }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most 1e12")]
        let millionths = self.millionths as f64;
        millionths / 1e6
    }

    /// The share that so many percent are.
    #[must_use]
    pub fn share(self) -> f64 {
        self.get() / 100.0
    }
}

/// A timeout: a duration, or a mapping with these fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeoutPolicy {
    /// `attempt`, or the duration by itself: how long one attempt may take.
    pub attempt: Option<Duration>,
    /// `overall`: how long the call may take, queues, attempts and waits included.
    pub overall: Option<Duration>,
    /// `connect`: how long a new connection may take.
    pub connect: Option<Duration>,
    /// `adaptive`: the attempt's timeout follows what attempts take.
    pub adaptive: Option<AdaptiveTimeoutPolicy>,
    /// `progressive`: an attempt gets at most an equal part of what is left.
    pub progressive: bool,
}

/// `adaptive` of a timeout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdaptiveTimeoutPolicy {
    /// `falseTimeoutPercent`: how many attempts may be given up in vain.
    pub false_timeout_percent: Option<Decimal>,
    /// `factor`: how many times the percentile is granted.
    pub factor: Option<Decimal>,
    /// `min`.
    pub min: Option<Duration>,
    /// `max`.
    pub max: Option<Duration>,
    /// `minCalls`: how many calls must be known.
    pub min_calls: Option<u32>,
}

/// How the pauses of a retry are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// Anything up to the pause.
    Full,
    /// A half to all of it.
    Equal,
    /// Up to three times the pause before.
    Decorrelated,
}

/// What holds a retry back. There is one as soon as a retry uses a field that the reference does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryRules {
    /// `idempotentOnly: false`: every call to the target may be repeated, whatever its method.
    pub repeat_all: bool,
    /// `maxRetryAfter`: the longest that a target can make us wait.
    pub max_retry_after: Option<Duration>,
    /// `budget`.
    pub budget: RetryBudget,
}

/// `budget` of a retry: how many retries and hedges there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryBudget {
    /// `percent` of the calls.
    pub percent: Option<Decimal>,
    /// `minPerSecond`: as many are always allowed.
    pub min_per_second: Option<u32>,
    /// `concurrentPercent` of the calls under way.
    pub concurrent_percent: Option<Decimal>,
    /// `minConcurrent`: as many may always be under way.
    pub min_concurrent: Option<u32>,
}

/// What a breaker looks at over a sliding window, in place of `trip`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerRates {
    /// `window`: `{calls: n}` or `{time: duration}`.
    pub window: Option<BreakerWindow>,
    /// `minCalls` in the window before shares count.
    pub min_calls: Option<u32>,
    /// `failurePercent`.
    pub failure_percent: Option<Decimal>,
    /// `slowCallPercent`.
    pub slow_call_percent: Option<Decimal>,
    /// `slowCallDuration`.
    pub slow_call_duration: Option<Duration>,
    /// `consecutiveFailures`; 0 for never.
    pub consecutive_failures: Option<u32>,
}

/// What a breaker looks back on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerWindow {
    /// So many calls.
    Calls(u32),
    /// So much time.
    Time(Duration),
}

/// A bulkhead: how many attempts may be under way at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkheadPolicy {
    /// How many.
    pub seats: BulkheadSeats,
    /// `maxQueue`: how many may wait.
    pub max_queue: Option<u32>,
    /// `maxWait`: for how long.
    pub max_wait: Option<Duration>,
}

/// How many attempts may be under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkheadSeats {
    /// `maxConcurrent`.
    Fixed(u32),
    /// `adaptive`: as many as the target turns out to manage.
    Adaptive {
        /// `initial`.
        initial: Option<u32>,
        /// `min`.
        min: Option<u32>,
        /// `max`.
        max: Option<u32>,
    },
}

impl Default for BulkheadSeats {
    fn default() -> Self {
        Self::Adaptive { initial: None, min: None, max: None }
    }
}

/// A rate limit: how many calls there may be in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimitPolicy {
    /// `calls`.
    pub calls: u32,
    /// `period` (1 s).
    pub period: Duration,
    /// `burst`: how many at once; `calls` unless set.
    pub burst: Option<u32>,
    /// `shared`: one limit for all processes of the data folder (false).
    pub shared: bool,
}

/// A hedge: a second copy of a call that takes long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HedgePolicy {
    /// `maxExtraPercent` of the calls.
    pub max_extra_percent: Option<Decimal>,
    /// `delay`, in place of the percentile.
    pub delay: Option<Duration>,
    /// `minDelay`.
    pub min_delay: Option<Duration>,
    /// `minCalls`: how many calls must be known.
    pub min_calls: Option<u32>,
}

/// A throttle: calls that the target would most likely refuse for overload are not sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThrottlePolicy {
    /// `multiplier`: how many calls are sent for each that is accepted.
    pub multiplier: Option<Decimal>,
    /// `window`.
    pub window: Option<Duration>,
    /// `maxRefusedPercent`.
    pub max_refused_percent: Option<Decimal>,
    /// `minCalls` in the window before anything is refused.
    pub min_calls: Option<u32>,
}

/// A load balancer: which instance of an app gets an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadBalancerPolicy {
    /// `strategy`.
    pub strategy: Option<BalanceStrategy>,
    /// `stickyBy`, of the strategy `sticky`: what a call belongs to an instance by.
    pub sticky_by: Option<StickyBy>,
    /// `loadFactor` of it: how many times the average an instance may have under way.
    pub load_factor: Option<Decimal>,
    /// `slowStart`: how long a new instance takes to come up to its share.
    pub slow_start: Option<Duration>,
    /// `panicPercent`: below this usable share ejections are ignored.
    pub panic_percent: Option<Decimal>,
    /// `ejection`.
    pub ejection: EjectionPolicy,
}

/// How an instance is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalanceStrategy {
    /// Of two drawn at random the one with the lower expected cost.
    PeakEwma,
    /// The one with the fewest calls under way.
    LeastLoaded,
    /// Each in turn.
    RoundRobin,
    /// Any.
    Random,
    /// The one that the call's key belongs to.
    Sticky,
}

/// What keeps a caller with an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StickyBy {
    /// `header`: the value of this one, its name in lower case.
    Header(String),
    /// `cookie`: the value of this one.
    Cookie(String),
}

/// `ejection` of a load balancer: an instance that does worse than the others is left alone for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EjectionPolicy {
    /// `consecutiveFailures`; 0 for never.
    pub consecutive_failures: Option<u32>,
    /// `interval` in which instances are compared.
    pub interval: Option<Duration>,
    /// `latencyFactor`: how many times slower than the others; 0 for never.
    pub latency_factor: Option<Decimal>,
    /// `minCalls` of an instance in an interval.
    pub min_calls: Option<u32>,
    /// `baseTime`: how long the first ejection lasts.
    pub base_time: Option<Duration>,
    /// `maxTime`.
    pub max_time: Option<Duration>,
    /// `maxPercent` of the instances at a time.
    pub max_percent: Option<Decimal>,
}

/// A number within `range`.
pub(super) fn decimal(
    report: &mut Report,
    fields: &mut Fields<'_>,
    name: &'static str,
    range: RangeInclusive<f64>,
) -> Option<Decimal> {
    let number = fields.number(report, name)?;
    if range.contains(&number) {
        return Some(Decimal::new(number));
    }
    let (path, from, to) = (fields.path_of(name), range.start(), range.end());
    let message = format!("{path} must be between {from} and {to}, not {number}");
    report.error(codes::BAD_VALUE, fields.place_of(name), message);
    None
}

pub(super) fn percent(
    report: &mut Report,
    fields: &mut Fields<'_>,
    name: &'static str,
) -> Option<Decimal> {
    decimal(report, fields, name, PERCENT)
}

/// A duration that is not zero.
pub(super) fn span(
    report: &mut Report,
    fields: &mut Fields<'_>,
    name: &'static str,
) -> Option<Duration> {
    let duration = fields.duration(report, name, UNIT)?;
    if duration.is_zero() {
        let message = format!("{} must be longer than nothing", fields.path_of(name));
        report.error(codes::BAD_VALUE, fields.place_of(name), message);
        return None;
    }
    Some(duration)
}

/// Reports that of two fields only one can be given.
pub(super) fn either(report: &mut Report, fields: &Fields<'_>, one: &str, other: &str) {
    if fields.has(one) && fields.has(other) {
        let (path, second) = (fields.path_of(other), fields.path_of(one));
        let message = format!("{path} cannot stand beside {second}: both say the same thing");
        report.error(codes::BAD_VALUE, fields.place_of(other), message);
    }
}

/// Reports that `low` is more than `high`, where it is.
pub(super) fn ordered<T: PartialOrd>(
    report: &mut Report,
    fields: &Fields<'_>,
    (low, min): (&str, Option<T>),
    (high, max): (&str, Option<T>),
) {
    if min.zip(max).is_some_and(|(min, max)| min > max) {
        let message = format!("{} is more than {}", fields.path_of(low), fields.path_of(high));
        report.error(codes::BAD_VALUE, fields.place_of(low), message);
    }
}

/// A list of statuses that are failures of the callee.
pub(super) fn status_list_of_failures(
    report: &mut Report,
    fields: &mut Fields<'_>,
    name: &'static str,
) -> Option<String> {
    status_list(report, fields, name, 500..=599)
}

/// Reads a timeout that is a mapping.
pub(super) fn read_timeout(report: &mut Report, fields: &mut Fields<'_>) -> TimeoutPolicy {
    let adaptive = fields.object(report, "adaptive").map(|mut adaptive| {
        let read = AdaptiveTimeoutPolicy {
            false_timeout_percent: decimal(
                report,
                &mut adaptive,
                "falseTimeoutPercent",
                0.01..=50.0,
            ),
            factor: decimal(report, &mut adaptive, "factor", 1.0..=100.0),
            min: span(report, &mut adaptive, "min"),
            max: span(report, &mut adaptive, "max"),
            min_calls: adaptive.integer(report, "minCalls", COUNTS),
        };
        ordered(report, &adaptive, ("min", read.min), ("max", read.max));
        adaptive.finish(report);
        read
    });
    let policy = TimeoutPolicy {
        attempt: span(report, fields, "attempt"),
        overall: span(report, fields, "overall"),
        connect: span(report, fields, "connect"),
        adaptive,
        progressive: fields.switch(report, "progressive").unwrap_or(false),
    };
    ordered(report, fields, ("attempt", policy.attempt), ("overall", policy.overall));
    policy
}

/// The fields of a retry that make it one with rules.
const RETRY_FIELDS: [&str; 5] =
    ["jitter", "initialInterval", "idempotentOnly", "maxRetryAfter", "budget"];

/// Reads what holds a retry back, if the retry uses any field that the reference does not have.
pub(super) fn read_rules(report: &mut Report, fields: &mut Fields<'_>) -> Option<RetryRules> {
    let only = fields.switch(report, "idempotentOnly");
    let max_retry_after = fields.duration(report, "maxRetryAfter", UNIT);
    let budget = fields.object(report, "budget").map(|mut budget| {
        let read = RetryBudget {
            percent: percent(report, &mut budget, "percent"),
            min_per_second: budget.integer(report, "minPerSecond", 0..=100_000),
            concurrent_percent: percent(report, &mut budget, "concurrentPercent"),
            min_concurrent: budget.integer(report, "minConcurrent", 0..=100_000),
        };
        budget.finish(report);
        read
    });
    let used = RETRY_FIELDS.iter().any(|name| fields.has(name));
    used.then(|| RetryRules {
        repeat_all: only == Some(false),
        max_retry_after,
        budget: budget.unwrap_or_default(),
    })
}

/// Reads what a breaker looks at in place of `trip`, if it says so.
pub(super) fn read_rates(report: &mut Report, fields: &mut Fields<'_>) -> Option<BreakerRates> {
    let window = fields.object(report, "window").and_then(|mut window| {
        let calls = window.integer(report, "calls", 1..=100_000).map(BreakerWindow::Calls);
        let time = span(report, &mut window, "time").map(BreakerWindow::Time);
        either(report, &window, "calls", "time");
        if !window.has("calls") && !window.has("time") {
            window.missing(report, "calls or time");
        }
        window.finish(report);
        calls.or(time)
    });
    let rates = BreakerRates {
        window,
        min_calls: fields.integer(report, "minCalls", COUNTS),
        failure_percent: percent(report, fields, "failurePercent"),
        slow_call_percent: percent(report, fields, "slowCallPercent"),
        slow_call_duration: span(report, fields, "slowCallDuration"),
        consecutive_failures: fields.integer(report, "consecutiveFailures", 0..=1_000_000),
    };
    let used = rates != BreakerRates::default();
    if used && fields.has("trip") {
        let message = format!(
            "{} cannot stand beside window and its conditions: the breaker opens on one or the others",
            fields.path_of("trip")
        );
        report.error(codes::BAD_VALUE, fields.place_of("trip"), message);
    }
    used.then_some(rates)
}

/// Reads a bulkhead.
pub(super) fn read_bulkhead(report: &mut Report, fields: &mut Fields<'_>) -> BulkheadPolicy {
    let fixed = fields.integer(report, "maxConcurrent", COUNTS);
    let adaptive = fields.object(report, "adaptive").map(|mut adaptive| {
        let initial = adaptive.integer(report, "initial", COUNTS);
        let (min, max) =
            (adaptive.integer(report, "min", COUNTS), adaptive.integer(report, "max", COUNTS));
        ordered(report, &adaptive, ("min", min), ("max", max));
        adaptive.finish(report);
        BulkheadSeats::Adaptive { initial, min, max }
    });
    either(report, fields, "maxConcurrent", "adaptive");
    BulkheadPolicy {
        seats: fixed.map(BulkheadSeats::Fixed).or(adaptive).unwrap_or_default(),
        max_queue: fields.integer(report, "maxQueue", 0..=65_536),
        max_wait: fields.duration(report, "maxWait", UNIT),
    }
}

/// Reads a rate limit; one without a number of calls is reported and limits nothing.
pub(super) fn read_rate(report: &mut Report, fields: &mut Fields<'_>) -> RateLimitPolicy {
    let errors = report.errors();
    let calls = fields.integer(report, "calls", COUNTS);
    if calls.is_none() && report.errors() == errors {
        fields.missing(report, "calls");
    }
    let policy = RateLimitPolicy {
        calls: calls.unwrap_or(1),
        period: span(report, fields, "period").unwrap_or(Duration::from_secs(1)),
        burst: fields.integer(report, "burst", COUNTS),
        shared: fields.switch(report, "shared").unwrap_or(false),
    };
    // Shares are counted in thousandths of a call a second; of less, nothing would be left to share.
    if policy.shared && calls.is_some() && policy.period > Duration::from_secs(policy.calls.into())
    {
        let path = fields.path_of("shared");
        let message = format!("{path} needs a limit of at least one call a second");
        report.error(codes::BAD_VALUE, fields.place_of("shared"), message);
    }
    policy
}

/// Reads a hedge.
pub(super) fn read_hedge(report: &mut Report, fields: &mut Fields<'_>) -> HedgePolicy {
    HedgePolicy {
        max_extra_percent: decimal(report, fields, "maxExtraPercent", 0.1..=50.0),
        delay: span(report, fields, "delay"),
        min_delay: fields.duration(report, "minDelay", UNIT),
        min_calls: fields.integer(report, "minCalls", COUNTS),
    }
}

/// Reads a throttle.
pub(super) fn read_throttle(report: &mut Report, fields: &mut Fields<'_>) -> ThrottlePolicy {
    ThrottlePolicy {
        multiplier: decimal(report, fields, "multiplier", 1.0..=100.0),
        window: span(report, fields, "window"),
        max_refused_percent: percent(report, fields, "maxRefusedPercent"),
        min_calls: fields.integer(report, "minCalls", COUNTS),
    }
}

/// Reads a load balancer.
pub(super) fn read_balancer(report: &mut Report, fields: &mut Fields<'_>) -> LoadBalancerPolicy {
    let strategies = [
        ("peakEwma", BalanceStrategy::PeakEwma),
        ("leastLoaded", BalanceStrategy::LeastLoaded),
        ("roundRobin", BalanceStrategy::RoundRobin),
        ("random", BalanceStrategy::Random),
        ("sticky", BalanceStrategy::Sticky),
    ];
    let ejection = fields.object(report, "ejection").map(|mut ejection| {
        let read = EjectionPolicy {
            consecutive_failures: ejection.integer(report, "consecutiveFailures", 0..=1_000_000),
            interval: span(report, &mut ejection, "interval"),
            latency_factor: decimal(report, &mut ejection, "latencyFactor", 0.0..=1_000.0),
            min_calls: ejection.integer(report, "minCalls", COUNTS),
            base_time: span(report, &mut ejection, "baseTime"),
            max_time: span(report, &mut ejection, "maxTime"),
            max_percent: percent(report, &mut ejection, "maxPercent"),
        };
        ordered(report, &ejection, ("baseTime", read.base_time), ("maxTime", read.max_time));
        ejection.finish(report);
        read
    });
    let strategy = fields.choice(report, "strategy", &strategies);
    let (sticky_by, load_factor) = read_sticky(report, fields, strategy);
    LoadBalancerPolicy {
        strategy,
        sticky_by,
        load_factor,
        slow_start: fields.duration(report, "slowStart", UNIT),
        panic_percent: percent(report, fields, "panicPercent"),
        ejection: ejection.unwrap_or_default(),
    }
}

/// Reads what a sticky balancer goes by.
fn read_sticky(
    report: &mut Report,
    fields: &mut Fields<'_>,
    strategy: Option<BalanceStrategy>,
) -> (Option<StickyBy>, Option<Decimal>) {
    let by = fields.object(report, "stickyBy").and_then(|mut by| {
        let header = header_name(report, &mut by, "header");
        let cookie = header_name(report, &mut by, "cookie");
        either(report, &by, "header", "cookie");
        if !by.has("header") && !by.has("cookie") {
            by.missing(report, "header or cookie");
        }
        by.finish(report);
        let header = header.map(|name| StickyBy::Header(name.to_ascii_lowercase()));
        header.or(cookie.map(StickyBy::Cookie))
    });
    let factor = decimal(report, fields, "loadFactor", 1.0..=100.0);
    let is_sticky = strategy == Some(BalanceStrategy::Sticky);
    if is_sticky && !fields.has("stickyBy") {
        fields.missing(report, "stickyBy");
    }
    for name in ["stickyBy", "loadFactor"].iter().filter(|name| !is_sticky && fields.has(name)) {
        let message = format!("{} has no effect: the strategy is not sticky", fields.path_of(name));
        report.note(codes::NO_EFFECT, fields.place_of(name), message);
    }
    (by, factor)
}

#[cfg(test)]
mod tests {
    use super::Decimal;

    #[test]
    fn decimals_keep_six_places() {
        for number in [0.0, 0.1, 0.000_001, 33.333_333, 100.0, 1e6] {
            assert!((Decimal::new(number).get() - number).abs() < 1e-9, "{number}");
        }
        assert_eq!(Decimal::new(-1.0), Decimal::new(0.0));
        assert_eq!(Decimal::new(f64::NAN), Decimal::default());
        assert!((Decimal::new(5.0).share() - 0.05).abs() < 1e-12);
    }
}
