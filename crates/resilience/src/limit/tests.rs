//! The limit against servers of known capacity, in simulated time.

use super::{AdaptiveLimit, Ended, LimitSettings};
use crate::dice::{mixed, unit};
use outrigger_kernel::Mono;
use proptest::prelude::*;
use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

/// A server with workers and a queue of its own, under as many calls as the limit lets in.
struct Server {
    limit: AdaptiveLimit,
    workers: usize,
    service_ms: f64,
    /// When each worker is free, in nanoseconds.
    free: BinaryHeap<Reverse<u64>>,
    /// When each call under way ends, and when it began.
    running: BinaryHeap<Reverse<(u64, u64)>>,
    now: u64,
    draws: u64,
    done: u64,
}

impl Server {
    fn new(settings: LimitSettings, workers: usize, service_ms: f64) -> Self {
        Self {
            limit: AdaptiveLimit::new(settings),
            workers,
            service_ms,
            free: (0..workers).map(|_| Reverse(0)).collect(),
            running: BinaryHeap::new(),
            now: 0,
            draws: 0,
            done: 0,
        }
    }

    fn resize(&mut self, workers: usize, service_ms: f64) {
        self.service_ms = service_ms;
        self.workers = workers;
        self.free = (0..workers).map(|_| Reverse(self.now)).collect();
    }

    /// Log-normal around 1 with a spread of one half.
    fn drawn(&mut self) -> f64 {
        let mut uniform = || {
            self.draws += 1;
            unit(mixed(self.draws)).max(1e-12)
        };
        let (a, b) = (uniform(), uniform());
        let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        (normal * 0.5 - 0.125).exp()
    }

    /// Runs with more calls at the door than are let in; the share of the capacity that was used.
    fn run(&mut self, seconds: f64) -> f64 {
        let (began, before) = (self.now, self.done);
        let until = began + (seconds * 1e9) as u64;
        while self.now < until {
            while (self.running.len() as u32) < self.limit.limit() {
                let Reverse(free) = self.free.pop().unwrap();
                let took = self.service_ms * self.drawn();
                let ends = free.max(self.now) + (took * 1e6) as u64;
                self.free.push(Reverse(ends));
                // Half a millisecond on the wire.
                self.running.push(Reverse((ends + 500_000, self.now)));
            }
            let under_way = self.running.len() as u32;
            let Reverse((ends, start)) = self.running.pop().unwrap();
            self.now = self.now.max(ends);
            self.done += 1;
            let took = Duration::from_nanos(ends - start);
            self.limit.observe(took, Ended::Answered, under_way, Mono(self.now));
        }
        let capacity = self.workers as f64 * 1_000.0 / self.service_ms;
        (self.done - before) as f64 / (self.now - began) as f64 * 1e9 / capacity
    }

    /// How many calls are enough to keep the workers busy.
    fn enough(&self) -> f64 {
        self.workers as f64 * (self.service_ms + 0.5) / self.service_ms
    }
}

#[test]
fn finds_the_capacity_within_ten_seconds_whatever_calls_take() {
    for service_ms in [1.0, 10.0, 100.0] {
        for workers in [2, 10, 100] {
            let mut server = Server::new(LimitSettings::default(), workers, service_ms);
            server.run(10.0);
            let used = server.run(20.0);
            let limit = f64::from(server.limit.limit());
            let enough = server.enough();
            assert!(used > 0.9, "{workers} x {service_ms} ms: {used:.3} used, limit {limit}");
            let most = enough * 1.25 + 4.0 + 2.0 * enough.log10();
            assert!(limit <= most, "{workers} x {service_ms} ms: limit {limit} for {enough}");
        }
    }
}

#[test]
fn half_an_hour_of_overload_does_not_move_it() {
    let mut server = Server::new(LimitSettings::default(), 20, 10.0);
    server.run(30.0);
    let mut limits = Vec::new();
    for _ in 0..180 {
        let used = server.run(10.0);
        assert!(used > 0.9, "{used}");
        limits.push(server.limit.limit());
    }
    limits.sort_unstable();
    let middle = f64::from(limits[90]);
    assert!((20.0..=27.0).contains(&middle), "{limits:?}");
    // A tenth of the looks may fall on a window in which less is tried.
    assert!(
        f64::from(limits[18]) >= middle * 0.8 - 1.0 && f64::from(limits[162]) <= middle * 1.2 + 1.0,
        "{limits:?}"
    );
}

#[test]
fn follows_a_capacity_that_halves() {
    let mut server = Server::new(LimitSettings::default(), 20, 10.0);
    server.run(60.0);
    server.resize(10, 10.0);
    server.run(5.0);
    let limit = server.limit.limit();
    assert!((10..=17).contains(&limit), "fewer workers: {limit}");
    assert!(server.run(10.0) > 0.9);
    server.resize(20, 10.0);
    server.run(10.0);
    assert!(server.run(10.0) > 0.9, "and back");
    server.resize(20, 30.0);
    server.run(10.0);
    let used = server.run(10.0);
    assert!(used > 0.9, "slower calls are no queue: {used}, limit {}", server.limit.limit());
    assert!(server.limit.limit() <= 30);
}

#[test]
fn drops_bring_it_down_and_the_bounds_hold() {
    let limit = AdaptiveLimit::new(LimitSettings { initial: 50, min: 3, max: 60 });
    let mut now = Mono(0);
    for _ in 0..20_000 {
        now = now.plus(Duration::from_millis(1));
        limit.observe(Duration::from_millis(10), Ended::Dropped, limit.limit(), now);
    }
    assert_eq!(limit.limit(), 3);
    for _ in 0..200_000 {
        now = now.plus(Duration::from_millis(1));
        limit.observe(Duration::from_millis(10), Ended::Answered, limit.limit(), now);
    }
    assert!((50..=60).contains(&limit.limit()), "{}", limit.limit());
}

#[test]
fn a_limit_that_is_not_used_is_left_alone_and_learns_the_base() {
    let limit = AdaptiveLimit::new(LimitSettings::default());
    for ms in 0..60_000 {
        limit.observe(Duration::from_millis(30), Ended::Answered, 3, Mono(ms * 1_000_000));
    }
    assert_eq!(limit.limit(), 20);
    assert_eq!(limit.service(Mono(60_000_000_000)), Duration::from_millis(30));
    assert_eq!(limit.service(Mono(70_000_000_000)), Duration::ZERO, "that is long ago");
}

proptest! {
    /// Whatever is reported, the limit stays within its bounds and nothing panics.
    #[test]
    fn stays_within_bounds(min in 0_u32..50, max in 0_u32..2_000, initial: u32, calls in proptest::collection::vec((any::<u64>(), 0_u64..2_000_000_000, any::<u32>(), 0..3_u8), 0..400)) {
        let limit = AdaptiveLimit::new(LimitSettings { initial, min, max });
        let max = max.max(1);
        let mut now = Mono(0);
        for (took, wait, in_flight, ended) in calls {
            now = now.plus(Duration::from_nanos(wait));
            let ended = [Ended::Answered, Ended::Dropped, Ended::Unknown][usize::from(ended)];
            limit.observe(Duration::from_nanos(took), ended, in_flight, now);
            prop_assert!(limit.limit() >= min.clamp(1, max) && limit.limit() <= max);
        }
    }
}
