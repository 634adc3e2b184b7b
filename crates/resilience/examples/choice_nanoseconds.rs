//! What choosing, sharing, keeping and failing on purpose cost, in nanoseconds.
//!
//! ```text
//! cargo run --release -p outrigger-resilience --example choice_nanoseconds [part of a name]
//! ```
//!
//! Measured as `measure/` says. Time is given, not read.

mod measure;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use measure::Bench;
use outrigger_kernel::{Mono, Wall};
use outrigger_resilience::{
    Ask, BalanceSettings, Balancer, Endpoint, Faults, FlightSettings, Flights, Strategy, Verdict,
    cache::{
        CacheSettings, Early, Lifetime, Lookup, RequestHead, ResponseCache, ResponseHead, Store,
        StoreBounds, Times,
    },
};
use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Numbers that are random enough, at the cost of one multiplication.
fn random(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn at(n: u64) -> Mono {
    Mono((1 << 40) + n * 1_000)
}

fn main() {
    let bench = Bench::new();
    balancers(&bench);
    flights(&bench);
    caches(&bench);
    let faults = Faults::default();
    bench.case("faults, off", |n| {
        black_box(faults.plan(at(n), n, |_| None));
    });
}

fn balancers(bench: &Bench) {
    let strategies = [
        ("peak EWMA of two", Strategy::PeakEwma),
        ("random", Strategy::Random),
        ("round robin", Strategy::RoundRobin),
        ("least loaded", Strategy::LeastLoaded),
        ("sticky", Strategy::Sticky { load_factor: 1.25 }),
    ];
    for (name, strategy) in strategies {
        for (outliers, note) in [(true, "outliers"), (false, "bare")] {
            let mut settings = BalanceSettings { strategy, ..BalanceSettings::default() };
            settings.outliers = settings.outliers.filter(|_| outliers);
            let balancer = Balancer::new(settings);
            let endpoints = (0..10_u64).map(|n| Endpoint::new(format!("10.0.0.{n}:80"), n));
            balancer.update(endpoints, at(0));
            bench.case(&format!("balance, {name}, 10 endpoints, {note}"), |n| {
                let ask = Ask { tried: &[], key: Some(random(n)) };
                if let Ok(pick) = balancer.pick(ask, at(n), random(n)) {
                    let took = Duration::from_micros(500 + *pick.value());
                    black_box(pick.record(Verdict::Success, at(n).plus(took)));
                }
            });
        }
    }
}

fn flights(bench: &Bench) {
    let flights: Flights<u64, u64> = Flights::new(FlightSettings::default());
    bench.case("flight, leader without followers, ready at once", |n| {
        if let Ok(joined) = flights.join(n & 1_023, at(n), || std::future::ready(n)) {
            let polled = pin!(joined).poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(black_box(polled), Poll::Ready(Ok(n)));
        }
    });
}

fn caches(bench: &Bench) {
    let store: Store<u64, u64> = Store::new(StoreBounds::default());
    (0..1_000).for_each(|key| assert!(store.put(key, key, 100)));
    bench.case("cache, store hit, 1000 keys", |n| {
        black_box(store.get(&(n % 1_000)));
    });
    let lifetime = Lifetime {
        stored: at(0),
        fresh_for: Duration::from_secs(3_600),
        stale_for: Duration::ZERO,
        on_error_for: Duration::ZERO,
        load_took: Duration::from_millis(100),
    };
    bench.case("cache, store hit with its standing", |n| {
        black_box(store.get(&(n % 1_000)));
        black_box(lifetime.standing(at(n), Early::default(), n));
    });
    bench.case("cache, put of new keys, evicting", |n| {
        store.put(random(n), n, 100_000);
    });

    let cache: ResponseCache<&'static str> = ResponseCache::new(CacheSettings::default());
    let (asked, mut said) = (HeaderMap::new(), HeaderMap::new());
    said.insert("cache-control", HeaderValue::from_static("max-age=86400"));
    let response = ResponseHead { status: StatusCode::OK, headers: &said };
    let uri = "http://shop/items?page=1";
    let request = RequestHead { scope: "", method: &Method::GET, uri, headers: &asked };
    let times = Times { asked_at: at(0), now: at(0), wall: Wall(0), random: 0 };
    assert!(cache.keep(&request, &response, "body", 4, times).is_ok());
    bench.case("cache, HTTP response hit", |n| {
        assert!(matches!(black_box(cache.look(&request, at(n), n)), Lookup::Hit(_)));
    });
}
