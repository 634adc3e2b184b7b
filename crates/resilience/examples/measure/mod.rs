//! How the examples measure: batches of about 30 microseconds, far below a slice of the scheduler, so that a batch that was
//! interrupted is an outlier and not a part of every figure; half a second for each case, its first tenth dropped. Printed:
//! the 2nd percentile, the median and the 90th percentile of the batches.

use std::time::{Duration, Instant};

const BATCH: Duration = Duration::from_micros(30);
const CASE: Duration = Duration::from_millis(500);

#[expect(clippy::disallowed_methods, reason = "this measures what the clock says")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

/// Runs the cases whose names contain the first argument of the program.
pub(crate) struct Bench {
    filter: String,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { filter: std::env::args().nth(1).unwrap_or_default() }
    }

    /// Measures `work`, which is told how often it has been called.
    #[expect(clippy::print_stdout, reason = "the output of a program")]
    pub(crate) fn case(&self, name: &str, mut work: impl FnMut(u64)) {
        if !name.contains(&self.filter) {
            return;
        }
        let (mut counter, mut per_batch) = (0_u64, 16_u64);
        let mut batch = |per_batch: u64| {
            let begun = instant();
            for _ in 0..per_batch {
                counter += 1;
                work(counter);
            }
            begun.elapsed()
        };
        while batch(per_batch) < BATCH && per_batch < 1 << 20 {
            per_batch *= 2;
        }
        let (begun, mut batches) = (instant(), Vec::with_capacity(40_000));
        while begun.elapsed() < CASE && batches.len() < 40_000 {
            batches.push(batch(per_batch).as_nanos() as f64 / per_batch as f64);
        }
        batches.drain(..batches.len() / 10);
        batches.sort_by(f64::total_cmp);
        let at = |percent: usize| batches.get(batches.len() * percent / 100).copied();
        let at = |percent| at(percent).unwrap_or(f64::NAN);
        println!("{name:<58} {:>8.1} {:>8.1} {:>8.1}", at(2), at(50), at(90));
    }
}
