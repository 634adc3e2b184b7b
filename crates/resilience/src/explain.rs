//! A policy in words, part by part in the order in which a call meets them.

use crate::{
    Backoff, BreakerSettings, BulkheadSettings, Matching, Policy, Rates, Retry, Seats, Trip, Window,
};
use std::{fmt::Write, ops::RangeInclusive, time::Duration};

impl Policy {
    /// The parts in the order in which a call meets them, each with what it is set to.
    ///
    /// ```
    /// use outrigger_resilience::Policy;
    /// let parts = Policy::recommended().explain();
    /// assert_eq!(parts[0], ("overall", "10s for the call, queues and waits included".to_owned()));
    /// let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
    /// let order = ["overall", "throttle", "retry", "restraint", "budget", "breaker", "bulkhead", "connect", "attempt"];
    /// assert_eq!(names, order);
    /// ```
    #[must_use]
    pub fn explain(&self) -> Vec<(&'static str, String)> {
        let hedge = self.hedge.map(|hedge| match hedge.fixed_delay {
            Some(delay) => {
                format!("a second copy after {delay:?}, {} at most", of(hedge.max_extra))
            }
            None => format!(
                "a second copy after what {} of attempts take, once {} are known, {} at most",
                share(1.0 - hedge.max_extra),
                hedge.warm_up,
                of(hedge.max_extra),
            ),
        });
        let budget = self.budget.map(|budget| {
            format!(
                "retries and hedges for {}, {} a second at least; {} of those under way, {} at least",
                of(budget.share),
                budget.floor_per_second,
                share(budget.concurrent_share),
                budget.concurrent_floor,
            )
        });
        let throttle = self.throttle.map(|throttle| {
            format!(
                "not sent with rising probability, {} at most, when more than {} calls are made for each accepted, \
                 over {:?}, by criticality",
                share(throttle.refused_max),
                throttle.multiplier,
                throttle.window,
            )
        });
        let rate = self.rate.map(|rate| {
            let by = if self.share.is_some() { ", by all who share it" } else { "" };
            format!("{} calls in {:?}, {} at once{by}", rate.calls(), rate.per(), rate.burst())
        });
        let restraint = self.restraint.as_ref().map(|restraint| {
            format!(
                "only what was not sent or may be repeated; Retry-After up to {:?}; after overload {}",
                restraint.pushback_max,
                backoff(&restraint.overloaded),
            )
        });
        let overall = |most: Duration| format!("{most:?} for the call, queues and waits included");
        let parts = [
            ("overall", self.overall.map(overall)),
            ("rate", rate),
            ("throttle", throttle),
            ("retry", self.retry.as_ref().map(retry)),
            ("restraint", restraint),
            ("hedge", hedge),
            ("budget", budget),
            ("breaker", self.breaker.as_ref().map(breaker)),
            ("bulkhead", self.bulkhead.as_ref().map(bulkhead)),
            ("connect", self.connect.map(|most| format!("{most:?} to reach the target"))),
            ("attempt", self.attempt_in_words()),
        ];
        parts.into_iter().filter_map(|(name, says)| Some((name, says?))).collect()
    }

    fn attempt_in_words(&self) -> Option<String> {
        let fixed = self.fixed_timeout().map(|timeout| format!("{timeout:?}"));
        let words = match (self.adaptive, fixed) {
            (Some(adaptive), fixed) => format!(
                "{} times what {} of attempts take, {:?} to {:?}; {} until that is known",
                adaptive.factor,
                share(1.0 - adaptive.false_rate),
                adaptive.min,
                adaptive.max,
                fixed.unwrap_or_else(|| "no limit".into()),
            ),
            (None, Some(fixed)) => fixed,
            (None, None) if self.progressive => "as long as the call".into(),
            (None, None) => return None,
        };
        let equally =
            if self.progressive { ", and no more than an equal part of what is left" } else { "" };
        Some(words + equally)
    }
}

fn share(of: f64) -> String {
    // Enough places for a tenth of a per mille, and no zeros at the end.
    let percent = (of * 1e6).round() / 1e4;
    format!("{percent} %")
}

fn of(extra: f64) -> String {
    format!("{} of the calls", share(extra))
}

fn retry(retry: &Retry) -> String {
    let times = match retry.max_retries {
        Some(1) => "once".to_owned(),
        Some(most) => format!("up to {most} times"),
        None => "until the deadline".to_owned(),
    };
    format!("{times}, {}, after {}", backoff(&retry.backoff), matching(&retry.matching))
}

fn backoff(backoff: &Backoff) -> String {
    match backoff {
        Backoff::Constant { delay } => format!("waits of {delay:?}"),
        Backoff::Exponential { initial, max, factor, randomization } => {
            let around = share(*randomization);
            format!("waits of {initial:?} growing by {factor} to {max:?}, give or take {around}")
        }
        Backoff::FullJitter { base, max } => format!("waits of up to {base:?} doubling to {max:?}"),
        Backoff::EqualJitter { base, max } => {
            format!("waits of a half to all of {base:?} doubling to {max:?}")
        }
        Backoff::Decorrelated { base, max } => {
            format!("waits of {base:?} to three times the one before, {max:?} at most")
        }
    }
}

fn matching(matching: &Matching) -> String {
    let list = |ranges: &Option<Vec<RangeInclusive<u16>>>, all: &str| match ranges {
        None => all.to_owned(),
        Some(ranges) => ranges.iter().fold(String::new(), |mut text, range| {
            let (comma, first, last) =
                (if text.is_empty() { "" } else { "," }, range.start(), range.end());
            // Writing to a string does not fail.
            let _ = if first == last {
                write!(text, "{comma}{first}")
            } else {
                write!(text, "{comma}{first}-{last}")
            };
            text
        }),
    };
    let (http, grpc) = (list(&matching.http, "any failure"), list(&matching.grpc, "any failure"));
    format!("no answer, HTTP {http}, gRPC {grpc}")
}

fn breaker(settings: &BreakerSettings) -> String {
    let trips = match &settings.trip {
        Trip::ConsecutiveFailures(most) => format!("more than {most} failures in a row"),
        Trip::Custom { condition, .. } => condition.to_string(),
        Trip::Rates(rates) => rates_in_words(rates),
    };
    let grows = settings.timeout_max.max(settings.timeout);
    let open = if grows > settings.timeout {
        format!("{:?} growing to {grows:?}", settings.timeout)
    } else {
        format!("{:?}", settings.timeout)
    };
    format!("opens on {trips}; open for {open}; {} probes", settings.max_requests.max(1))
}

/// Only the conditions that can be met.
fn rates_in_words(rates: &Rates) -> String {
    let window = match rates.window {
        Window::Calls(calls) => format!("{calls} calls"),
        Window::Time(time) => format!("{time:?}"),
    };
    let is_share = |share: f64| share <= 1.0;
    let in_row =
        (rates.consecutive > 0).then(|| format!("{} failures in a row", rates.consecutive));
    let of = format!("of at least {} calls in {window}", rates.calls_min.max(1));
    let failed = is_share(rates.failure_share)
        .then(|| format!("{of} {} failed", share(rates.failure_share)));
    let slow = (is_share(rates.slow_share) && !rates.slow_after.is_zero())
        .then(|| format!("{of} {} slower than {:?}", share(rates.slow_share), rates.slow_after));
    let all: Vec<String> = [in_row, failed, slow].into_iter().flatten().collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(", or ") }
}

fn bulkhead(settings: &BulkheadSettings) -> String {
    let seats = match settings.seats {
        Seats::Fixed(seats) => format!("{seats} at once"),
        Seats::Adaptive(limit) => {
            format!("{} to {} at once, as many as turn out to be managed", limit.min, limit.max)
        }
    };
    format!("{seats}; {} may wait, {:?} at most", settings.queue_max, settings.wait_max)
}

#[cfg(test)]
mod tests {
    use super::breaker;
    use crate::{AdaptiveTimeout, BreakerSettings, HedgeSettings, Policy, Quota, Rates, Trip};
    use std::time::Duration;

    #[test]
    fn every_part_says_what_it_is_set_to() {
        assert!(Policy::default().explain().is_empty());
        let policy = Policy {
            hedge: Some(HedgeSettings::default()),
            adaptive: Some(AdaptiveTimeout::default()),
            rate: Some(Quota::new(100, Duration::from_secs(1)).with_burst(10)),
            ..Policy::recommended()
        };
        let parts = policy.explain();
        let says = |name| parts.iter().find(|(known, _)| *known == name).unwrap().1.as_str();
        assert_eq!(says("rate"), "100 calls in 1s, 10 at once");
        assert_eq!(
            says("hedge"),
            "a second copy after what 95 % of attempts take, once 100 are known, 5 % of the calls at most"
        );
        assert_eq!(
            says("retry"),
            "up to 2 times, waits of up to 50ms doubling to 5s, after no answer, HTTP 408,429,500,502-504, gRPC \
             2,4,8,10,13-14"
        );
        assert_eq!(
            says("attempt"),
            "2 times what 99.9 % of attempts take, 5ms to 2s; 2s until that is known, and no more than an equal part of \
             what is left"
        );
        assert_eq!(parts.len(), 11);
    }

    #[test]
    fn a_condition_that_is_off_is_not_told() {
        let with = |rates| {
            breaker(&BreakerSettings { trip: Trip::Rates(rates), ..BreakerSettings::recommended() })
        };
        assert_eq!(
            with(Rates::default()),
            "opens on 5 failures in a row, or of at least 20 calls in 10s 50 % failed, or of at least 20 calls in 10s \
             80 % slower than 2s; open for 5s growing to 300s; 3 probes"
        );
        let off =
            Rates { consecutive: 0, failure_share: 2.0, slow_share: f64::NAN, ..Rates::default() };
        assert!(with(off).starts_with("opens on nothing;"), "{}", with(off));
    }
}
