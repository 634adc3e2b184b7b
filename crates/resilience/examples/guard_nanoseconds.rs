//! What a decision of breaker, bulkhead, limits and throttle costs, in nanoseconds.
//!
//! ```text
//! cargo run --release -p outrigger-resilience --example guard_nanoseconds [part of a name]
//! ```
//!
//! Measured as `measure/` says. Where a case says "time given" nobody reads a clock; that is how the
//! machines are used in a stack that reads it twice for all of them.

mod measure;

use measure::{Bench, instant};
use outrigger_kernel::Mono;
use outrigger_resilience::{
    AdaptiveLimit, Algorithm, Breaker, BreakerSettings, Bulkhead, BulkheadSettings, CellBulkhead,
    CellBulkheadSettings, Criticality, Ended, Entrant, Entry, Grant, KeyedRateLimiter,
    LimitSettings, OnLoss, Outcome, Quota, Rank, RateLimiter, Rates, Seats, ShareHolder,
    ShareTerms, ShuffleShard, Throttle, ThrottleSettings, TokenBucket, Trip, Window,
};
use std::{hint::black_box, time::Duration};

fn main() {
    let bench = Bench::new();
    breakers(&bench);
    bulkheads(&bench);
    rates(&bench);
    others(&bench);
}

fn breakers(bench: &Bench) {
    let of = |trip| Breaker::new(BreakerSettings { trip, ..BreakerSettings::recommended() });
    let rates = |window| Trip::Rates(Rates { window, ..Rates::default() });
    let pass = |breaker: &Breaker, now: Mono| {
        if let Ok(pass) = breaker.enter(now) {
            pass.report(Outcome::Success, now);
        }
    };
    let breaker = Breaker::new(BreakerSettings::default());
    bench.case("breaker, compatible, success, time given", |n| pass(black_box(&breaker), Mono(n)));
    bench.case("breaker, compatible, success, owned permit", |n| {
        if let Ok(permit) = black_box(&breaker).admit(Mono(n)) {
            permit.record(true, Mono(n));
        }
    });
    let epoch = instant();
    let clock = || Mono(u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX));
    bench.case("breaker, compatible, success, own clock read twice", |_| {
        if let Ok(pass) = black_box(&breaker).enter(clock()) {
            pass.report(Outcome::Success, clock());
        }
    });
    let calls = of(rates(Window::Calls(100)));
    bench.case("breaker, last 100 calls, success", |n| pass(black_box(&calls), Mono(n)));
    for (name, filled) in [("1", 1_u64), ("50 000", 50_000), ("1 000 000", 1_000_000)] {
        // Ten minutes, as many calls in it, and time that hardly moves.
        let breaker = of(rates(Window::Time(Duration::from_secs(600))));
        for n in 0..filled {
            pass(&breaker, Mono(600_000_000_000 / filled * n));
        }
        let name = format!("breaker, last 10 min, {name} calls in it, success");
        bench.case(&name, |n| pass(black_box(&breaker), Mono(600_000_000_000 + n)));
        let breaker = of(Trip::Rates(Rates {
            window: Window::Time(Duration::from_secs(600)),
            consecutive: 0,
            calls_min: u32::MAX,
            ..Rates::default()
        }));
        for n in 0..filled {
            pass(&breaker, Mono(600_000_000_000 / filled * n));
        }
        let name = name.replace("success", "failure");
        bench.case(&name, |n| {
            if let Ok(pass) = black_box(&breaker).enter(Mono(600_000_000_000 + n)) {
                pass.report(Outcome::FAILURE, Mono(600_000_000_000 + n));
            }
        });
    }
    let open = of(Trip::ConsecutiveFailures(0));
    if let Ok(pass) = open.enter(Mono(0)) {
        pass.report(Outcome::FAILURE, Mono(0));
    }
    bench.case("breaker, open, refused", |n| {
        let _refused = black_box(black_box(&open).enter(Mono(n)).is_err());
    });
}

fn bulkheads(bench: &Bench) {
    let fixed =
        Bulkhead::new(BulkheadSettings { seats: Seats::Fixed(10), ..BulkheadSettings::default() });
    bench.case("bulkhead, try and give back", |_| drop(black_box(&fixed).try_seat()));
    bench.case("bulkhead, enter and finish, measured", |n| {
        if let Ok(Entry::Seated(seat)) = black_box(&fixed).enter(&Entrant::default(), Mono(n)) {
            seat.finish(Ended::Answered, Mono(n));
        }
    });
    let adaptive = Bulkhead::new(BulkheadSettings::default());
    bench.case("bulkhead, adaptive, enter and finish", |n| {
        if let Ok(Entry::Seated(seat)) =
            black_box(&adaptive).enter(&Entrant::default(), Mono(n * 100))
        {
            seat.finish(Ended::Answered, Mono(n * 100));
        }
    });
    let door = Bulkhead::new(BulkheadSettings::front_door());
    bench.case("bulkhead, front door (sheds), enter and finish", |n| {
        if let Ok(Entry::Seated(seat)) = black_box(&door).enter(&Entrant::default(), Mono(n * 100))
        {
            seat.finish(Ended::Answered, Mono(n * 100));
        }
    });
    let door = Bulkhead::new(BulkheadSettings {
        seats: Seats::Fixed(1),
        queue_max: 0,
        ..BulkheadSettings::front_door()
    });
    let _held = door.enter(&Entrant::default(), Mono(0));
    let important =
        Entrant { rank: Rank::new(Criticality::CriticalPlus, 100), ..Entrant::default() };
    for ms in 0..500 {
        let _both = (
            door.enter(&important, Mono(ms * 1_000_000)),
            door.enter(&Entrant::default(), Mono(ms * 1_000_000)),
        );
    }
    bench.case("bulkhead, front door, shed", |n| {
        let _refused =
            black_box(black_box(&door).enter(&Entrant::default(), Mono(500_000_000 + n)).is_err());
    });
    let cells = CellBulkhead::new(CellBulkheadSettings::default());
    let hand = cells.hand(b"tenant-4711");
    bench.case("bulkhead, 4 cells of 16, enter and finish", |n| {
        if let Ok(Entry::Seated(seat)) = cells.enter_hand(&hand, &Entrant::default(), Mono(n)) {
            seat.finish(Ended::Answered, Mono(n));
        }
    });
    let shard = ShuffleShard::new(4, 1);
    bench.case("shuffle shard, 4 of 16 dealt", |n| {
        black_box(shard.deal(&n.to_le_bytes(), 16));
    });
    let limit = AdaptiveLimit::new(LimitSettings::default());
    bench.case("adaptive limit, one call observed", |n| {
        black_box(limit.observe(Duration::from_millis(10), Ended::Answered, 10, Mono(n * 1_000)));
    });
}

fn rates(bench: &Bench) {
    let quota = Quota::new(1_000, Duration::from_secs(1));
    let free = Quota::new(1_000_000, Duration::from_secs(1));
    let limiter = RateLimiter::new(Algorithm::Gcra, free);
    bench.case("rate, gcra, allowed, time given", |n| {
        black_box(black_box(&limiter).decide(1, Mono(n * 1_000)).allowed);
    });
    let refusing = RateLimiter::new(Algorithm::Gcra, quota);
    bench.case("rate, gcra, refused", |_| {
        black_box(black_box(&refusing).decide(1, Mono(5)).allowed);
    });
    let sliding = RateLimiter::new(Algorithm::SlidingWindow, free);
    bench.case("rate, sliding window, allowed", |n| {
        black_box(black_box(&sliding).decide(1, Mono(n * 1_000)).allowed);
    });
    let bucket = TokenBucket::new(free);
    bench.case("rate, token bucket, taken", |n| {
        black_box(black_box(&bucket).take(1, Mono(n * 1_000)).allowed);
    });
    for (name, keys) in [("1 000", 1_000), ("1 000 000", 1_000_000)] {
        let names: Vec<String> = (0..keys).map(|key| format!("caller-{key:09}")).collect();
        for algorithm in [Algorithm::Gcra, Algorithm::SlidingWindow] {
            let keyed = KeyedRateLimiter::new(algorithm, quota, keys, 1);
            bench.case(&format!("rate, {algorithm:?}, one of {name} keys, allowed"), |n| {
                // A stride that meets every key once per round and is no neighbour's.
                let key = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys as u64;
                let name = &names[usize::try_from(key).unwrap_or_default()];
                black_box(keyed.decide(&[name], 1, Mono(n * 1_000)).allowed);
            });
        }
    }
    let holder = ShareHolder::new(ShareTerms::per_second(1_000_000), OnLoss::LastShare);
    let grant = Grant { share_milli: 1_000_000_000, lease: Duration::from_secs(3_600) };
    holder.granted(grant, Mono(0), Mono(0));
    bench.case("rate, share of a limit for many nodes, allowed", |n| {
        black_box(holder.decide(1, Mono(n * 1_000)).allowed);
    });
}

fn others(bench: &Bench) {
    let throttle = Throttle::new(ThrottleSettings::default());
    bench.case("throttle, admitted and accepted", |n| {
        if black_box(&throttle).admit(Rank::default(), n, Mono(n)).is_ok() {
            throttle.ended(Rank::default(), true, Mono(n));
        }
    });
    // The four of them around one call, as a caller has them.
    let limiter = RateLimiter::new(Algorithm::Gcra, Quota::new(1_000_000, Duration::from_secs(1)));
    let bulkhead = Bulkhead::new(BulkheadSettings::default());
    let breaker = Breaker::new(BreakerSettings::recommended());
    bench.case("all four: rate, throttle, bulkhead, breaker", |n| {
        let now = Mono(n * 1_000);
        if !limiter.decide(1, now).allowed || throttle.admit(Rank::default(), n, now).is_err() {
            return;
        }
        let Some(seat) = bulkhead.try_seat_owned(now) else { return };
        if let Ok(pass) = breaker.enter(now) {
            pass.report(Outcome::Success, now);
        }
        seat.finish(Ended::Answered, now);
        throttle.ended(Rank::default(), true, now);
    });
    bench.case("the clock of the standard library", |_| {
        black_box(instant());
    });
}
