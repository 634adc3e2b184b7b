//! Outlier ejection: an endpoint that does worse than its peers gets no traffic for a while.
//!
//! ```text
//!   IN --- consecutive failures, or judged an outlier ---> OUT --- time is up ---> PROBATION
//!    ^                                                      ^                     one call at a time
//!    |                                                      +----- a failure ---------|
//!    +--------------- slow start <------------------------------- a success ----------+
//! ```
//!
//! | cause | rule | defaults |
//! |---|---|---|
//! | failures in a row | at once | 5 |
//! | failing | per interval: the share of failures is *surely* (Wilson, three sigma) above the fleet's median by a margin, or by three times the spread | 10 s, margin 0.05, 3 endpoints of 20 calls |
//! | slow | per interval: nine of ten calls take more than a multiple of the fleet's median of the same | 3 times, at least 5 ms |
//!
//! Median and median deviation, not mean and sigma: of five endpoints, two bad ones move the mean so far that no one is an
//! outlier any more, and the z-score of a single one cannot exceed 2. The lower Wilson bound keeps a handful of unlucky
//! calls from being taken for an illness.
//!
//! The time out is `ejection_base` (10 s) times the number of ejections not yet forgiven, at most `ejection_max` (300 s),
//! give or take a tenth, so that many callers do not come back together. Every interval without ejection forgives one.
//! At most `ejected_share_max` (0.3) of the endpoints is out at a time, but one may always be, and never the last.
//!
//! The base is a third of Envoy's: a probation of one call at a time makes an early return cheap.
//!
//! Sources: Envoy's outlier detection; Wilson, "Probable Inference", 1927.

use std::time::Duration;

/// When endpoints are ejected, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierSettings {
    /// Ejected after this many failures in a row; 0 for never.
    pub consecutive_failures: u32,
    /// How often the fleet is compared; at least 100 ms.
    pub interval: Duration,
    /// How far the share of failures must be above the fleet's median; 1 or more turns this off.
    pub failure_margin: f64,
    /// How many times the fleet's median an endpoint's latency must be; 0 turns this off.
    pub latency_factor: f64,
    /// How many calls an endpoint must have had in an interval to be judged.
    pub requests_min: u32,
    /// How many endpoints must have had so many calls.
    pub endpoints_min: usize,
    /// How long the first ejection lasts.
    pub ejection_base: Duration,
    /// How long an ejection lasts at most.
    pub ejection_max: Duration,
    /// The share of the endpoints that may be out at a time.
    pub ejected_share_max: f64,
}

impl Default for OutlierSettings {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            interval: Duration::from_secs(10),
            failure_margin: 0.05,
            latency_factor: 3.0,
            requests_min: 20,
            endpoints_min: 3,
            ejection_base: Duration::from_secs(10),
            ejection_max: Duration::from_secs(300),
            ejected_share_max: 0.3,
        }
    }
}

impl OutlierSettings {
    /// How many of `count` endpoints may be out at a time.
    pub(super) fn ejected_max(&self, count: usize) -> usize {
        let share = self.ejected_share_max.clamp(0.0, 1.0) * count as f64;
        (share as usize).max(1).min(count.saturating_sub(1))
    }

    /// How long the `nth` unforgiven ejection lasts, from 1, given random bits.
    pub(super) fn time_out(&self, nth: u32, random: u64) -> Duration {
        let nominal = self.ejection_base.saturating_mul(nth.max(1)).min(self.ejection_max);
        let spread = 0.9 + 0.2 * (random >> 40) as f64 / f64::from(1 << 24);
        Duration::try_from_secs_f64(nominal.as_secs_f64() * spread).unwrap_or(nominal)
    }
}

/// Why an endpoint was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It failed too often in a row.
    ConsecutiveFailures,
    /// It failed more often than the others.
    Failing,
    /// It was slower than the others.
    Slow,
}

/// What one endpoint did in one interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) index: usize,
    pub(super) failures: u32,
    pub(super) successes: u32,
    pub(super) p90: Option<Duration>,
}

impl Report {
    fn calls(&self) -> u32 {
        self.failures.saturating_add(self.successes)
    }

    fn failure_share(&self) -> f64 {
        f64::from(self.failures) / f64::from(self.calls().max(1))
    }

    /// What the true share of failures is at least, but for one case in seven hundred.
    fn failure_share_surely(&self) -> f64 {
        const SIGMAS: f64 = 3.0;
        let (calls, share) = (f64::from(self.calls().max(1)), self.failure_share());
        let z2 = SIGMAS * SIGMAS / calls;
        let middle = share + z2 / 2.0;
        let spread = SIGMAS * (share * (1.0 - share) / calls + z2 / calls / 4.0).sqrt();
        (middle - spread) / (1.0 + z2)
    }
}

/// The outliers among the endpoints, those that fail first, the worst first.
pub(super) fn judge(reports: &[Report], settings: &OutlierSettings) -> Vec<(usize, Cause)> {
    let enough = |report: &&Report| report.calls() >= settings.requests_min.max(1);
    let judged: Vec<&Report> = reports.iter().filter(enough).collect();
    if judged.len() < settings.endpoints_min.max(2) {
        return Vec::new();
    }
    let mut bad: Vec<(f64, usize, Cause)> = Vec::new();

    let middle = median(judged.iter().map(|report| report.failure_share()));
    let deviation = median(judged.iter().map(|report| (report.failure_share() - middle).abs()));
    let limit = middle + settings.failure_margin.max(3.0 * 1.4826 * deviation);
    for report in &judged {
        let share = report.failure_share_surely();
        if share > limit {
            bad.push((1.0 + share, report.index, Cause::Failing));
        }
    }

    let latency = |report: &&Report| report.p90.map(|p90| p90.as_secs_f64());
    let usual = median(judged.iter().filter_map(latency));
    let limit = (usual * settings.latency_factor).max(0.005);
    for report in judged.iter().filter(|_| settings.latency_factor > 0.0) {
        let slow = latency(report).filter(|latency| *latency > limit);
        if let Some(latency) = slow
            && !bad.iter().any(|(_, index, _)| *index == report.index)
        {
            bad.push((1.0 - limit / latency, report.index, Cause::Slow));
        }
    }
    bad.sort_by(|a, b| b.0.total_cmp(&a.0));
    bad.into_iter().map(|(_, index, cause)| (index, cause)).collect()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[odd / 2],
        even => (values[even / 2 - 1] + values[even / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::{Cause, OutlierSettings, Report, judge};
    use crate::dice::mixed;
    use std::time::Duration;

    fn report(index: usize, failures: u32, successes: u32, p90_ms: u64) -> Report {
        let p90 = (successes > 0).then(|| Duration::from_millis(p90_ms));
        Report { index, failures, successes, p90 }
    }

    #[test]
    fn two_bad_ones_of_five_are_both_found() {
        let settings = OutlierSettings::default();
        let mut reports: Vec<Report> = (0..5).map(|i| report(i, 1, 199, 20)).collect();
        reports[1] = report(1, 100, 100, 20);
        reports[3] = report(3, 160, 40, 20);
        assert_eq!(judge(&reports, &settings), [(3, Cause::Failing), (1, Cause::Failing)]);
        reports[1] = report(1, 0, 200, 200);
        assert_eq!(judge(&reports, &settings), [(3, Cause::Failing), (1, Cause::Slow)]);
    }

    #[test]
    fn when_all_are_bad_none_is_an_outlier() {
        let settings = OutlierSettings::default();
        let reports: Vec<Report> = (0..5).map(|i| report(i, 200, 0, 0)).collect();
        assert_eq!(judge(&reports, &settings), []);
        let reports: Vec<Report> = (0..5).map(|i| report(i, 60 + i as u32, 140, 500)).collect();
        assert_eq!(judge(&reports, &settings), []);
    }

    #[test]
    fn a_day_of_base_errors_ejects_nobody() {
        let (settings, mut random) = (OutlierSettings::default(), 0_u64);
        let mut failure = || {
            random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            // One in two hundred.
            u32::from(mixed(random) < u64::MAX / 200)
        };
        for _ in 0..8_640 {
            let mut report = |index| {
                let failures = (0..100).map(|_| failure()).sum();
                report(index, failures, 100 - failures, 20)
            };
            let reports: Vec<Report> = (0..10).map(&mut report).collect();
            assert_eq!(judge(&reports, &settings), [], "{reports:?}");
        }
    }

    #[test]
    fn few_calls_prove_nothing() {
        let settings = OutlierSettings::default();
        let mut reports: Vec<Report> = (0..5).map(|i| report(i, 0, 100, 20)).collect();
        reports[2] = report(2, 3, 17, 20);
        assert_eq!(judge(&reports, &settings), []);
        reports[2] = report(2, 19, 0, 20);
        assert_eq!(judge(&reports, &settings), []);
    }

    #[test]
    fn one_may_always_be_out_and_never_all() {
        let settings = OutlierSettings::default();
        let most: Vec<usize> = [0, 1, 2, 5, 10, 100].map(|n| settings.ejected_max(n)).into();
        assert_eq!(most, [0, 0, 1, 1, 3, 30]);
        let all = OutlierSettings { ejected_share_max: f64::INFINITY, ..settings };
        assert_eq!(all.ejected_max(5), 4);
    }

    #[test]
    fn the_time_out_grows_to_its_bound() {
        let settings = OutlierSettings::default();
        let seconds = |nth, random| settings.time_out(nth, random).as_secs();
        assert_eq!((seconds(0, 0), seconds(1, u64::MAX)), (9, 10));
        assert_eq!((seconds(3, 1 << 63), seconds(u32::MAX, 1 << 63)), (30, 300));
    }
}
