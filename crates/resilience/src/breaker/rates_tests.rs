//! The breaker with sliding windows, probes, growing open times, the ramp and the operator.

use super::{Breaker, BreakerSettings, Forced, Open, Outcome, Phase, Rates, Trip, Window};
use outrigger_kernel::Mono;
use proptest::prelude::*;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn at(ms: u64) -> Mono {
    Mono(0).plus(Duration::from_millis(ms))
}

fn with(rates: Rates) -> BreakerSettings {
    BreakerSettings {
        timeout: 5 * SECOND,
        max_requests: 3,
        trip: Trip::Rates(rates),
        ..BreakerSettings::default()
    }
}

/// Only the share of failures counts.
fn share(window: Window, failure_share: f64) -> Rates {
    Rates { window, failure_share, slow_share: 2.0, consecutive: 0, ..Rates::default() }
}

fn call(breaker: &Breaker, ok: bool, now: Mono) -> bool {
    let Ok(pass) = breaker.enter(now) else { return false };
    pass.report(if ok { Outcome::Success } else { Outcome::FAILURE }, now);
    true
}

fn phase(breaker: &Breaker, now: Mono) -> Phase {
    breaker.status(now).phase
}

#[test]
fn a_window_of_calls_slides() {
    let breaker = Breaker::new(with(share(Window::Calls(100), 0.5)));
    for n in 0..100_000 {
        assert!(call(&breaker, true, at(n)));
    }
    for n in 0..49 {
        assert!(call(&breaker, false, at(100_000 + n)));
    }
    assert_eq!(phase(&breaker, at(100_050)), Phase::Closed);
    assert!(call(&breaker, false, at(100_050)));
    assert_eq!(phase(&breaker, at(100_050)), Phase::Open);
}

#[test]
fn thirty_percent_never_opens_and_sixty_opens_within_two_seconds() {
    let breaker = Breaker::new(with(share(Window::Time(10 * SECOND), 0.5)));
    let mut now = 0;
    for n in 0..864_000_u64 {
        // 24 hours at ten calls a second, three of ten failed, evenly spread
        now = n * 100;
        assert!(call(&breaker, n * 3 % 10 >= 3, at(now)), "at {now} ms");
    }
    let turned = now + 200_000;
    let opened = (0..).find(|n| !call(&breaker, n % 5 >= 3, at(turned + n * 50))).unwrap();
    assert!(opened * 50 <= 2_000, "after {} ms", opened * 50);
}

#[test]
fn a_burst_and_a_trickle_get_the_same_verdict() {
    for spread_us in [100, 90_000] {
        for (failures, expected) in [(49, Phase::Closed), (50, Phase::Open)] {
            let mut rates = share(Window::Time(10 * SECOND), 0.5);
            rates.calls_min = 100;
            let breaker = Breaker::new(with(rates));
            let when = |n: u64| Mono(0).plus(Duration::from_micros(n * spread_us));
            for n in 0..100 {
                call(&breaker, n < 100 - failures, when(n));
            }
            assert_eq!(phase(&breaker, when(100)), expected, "{failures} in {spread_us} us each");
        }
    }
}

#[test]
fn below_the_minimum_the_shares_say_nothing() {
    let breaker = Breaker::new(with(share(Window::Time(10 * SECOND), 0.5)));
    for _ in 0..19 {
        assert!(call(&breaker, false, at(0)));
    }
    assert_eq!(phase(&breaker, at(0)), Phase::Closed);
    call(&breaker, false, at(1));
    assert_eq!(phase(&breaker, at(1)), Phase::Open);
}

#[test]
fn slow_answers_open_it_and_so_do_slow_cancellations() {
    for window in [Window::Calls(50), Window::Time(10 * SECOND)] {
        for cancels in [false, true] {
            let breaker = Breaker::new(with(Rates { window, consecutive: 0, ..Rates::default() }));
            for n in 0..25 {
                let begun = at(n * 10);
                let Ok(pass) = breaker.enter(begun) else { panic!("call {n} was refused") };
                if n < 5 {
                    pass.report(Outcome::Success, begun.plus(MS));
                } else if cancels {
                    pass.cancel(begun.plus(2 * SECOND));
                } else {
                    pass.report(Outcome::Success, begun.plus(2 * SECOND));
                }
                if cancels && phase(&breaker, begun) == Phase::Open {
                    break;
                }
            }
            assert_eq!(phase(&breaker, at(2_300)), Phase::Open, "{window:?} {cancels}");
        }
    }
    let breaker = Breaker::new(with(Rates::default()));
    for n in 0..1_000 {
        breaker.enter(at(n)).unwrap().cancel(at(n + 5));
    }
    assert_eq!(phase(&breaker, at(1_000)), Phase::Closed, "quick cancellations say nothing");
    breaker.set_slow_after(5 * MS);
    for n in 1_000..1_005 {
        breaker.enter(at(n)).unwrap().cancel(at(n + 5));
    }
    assert_eq!(phase(&breaker, at(1_010)), Phase::Open);
}

#[test]
fn refusals_count_for_the_share_and_fail_a_probe() {
    let breaker = Breaker::new(with(Rates::default()));
    let refused = Outcome::Refused { retry_after: Some(20 * SECOND) };
    for _ in 0..19 {
        breaker.enter(at(0)).unwrap().report(refused, at(0));
    }
    assert_eq!(phase(&breaker, at(0)), Phase::Closed, "none of them is a failure in a row");
    breaker.enter(at(0)).unwrap().report(refused, at(0));
    assert_eq!(breaker.status(at(0)).wait, 20 * SECOND, "not before it may come back");
    assert_eq!(breaker.admit(at(19_999)).unwrap_err(), Open::Tripped { wait: MS });
    let probe = breaker.admit(at(20_000)).unwrap();
    probe.report(Outcome::Refused { retry_after: None }, at(20_001));
    assert_eq!(phase(&breaker, at(20_001)), Phase::Open);
}

#[test]
fn an_absurd_retry_after_is_bounded() {
    let breaker = Breaker::new(BreakerSettings {
        trip: Trip::ConsecutiveFailures(0),
        ..with(Rates::default())
    });
    let outcome = Outcome::Failure { retry_after: Some(Duration::MAX) };
    breaker.admit(at(0)).unwrap().report(outcome, at(0));
    assert_eq!(breaker.status(at(0)).wait, 300 * SECOND);
}

#[test]
fn the_open_time_grows_within_its_band_and_starts_over_after_a_good_while() {
    let settings = BreakerSettings { ramp: Duration::ZERO, ..BreakerSettings::recommended() };
    let breaker = Breaker::seeded(settings, 42);
    let mut now = at(0);
    for _ in 0..5 {
        call(&breaker, false, now);
    }
    let mut waits = Vec::new();
    for _ in 0..9 {
        let wait = breaker.status(now).wait;
        waits.push(wait.as_secs_f64());
        now = now.plus(wait);
        call(&breaker, false, now);
    }
    for (wait, nominal) in waits.iter().zip([5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]) {
        assert!((nominal / 2.0..=nominal).contains(wait), "{waits:?}");
    }
    assert_ne!(waits[6], waits[7], "each is drawn anew");
    now = now.plus(breaker.status(now).wait);
    for _ in 0..3 {
        assert!(call(&breaker, true, now));
    }
    assert_eq!(phase(&breaker, now), Phase::Closed);
    now = now.plus(600 * SECOND);
    for _ in 0..5 {
        call(&breaker, false, now);
    }
    assert!(breaker.status(now).wait <= 5 * SECOND);
}

#[test]
fn seeds_spread_the_probes() {
    let wait = |seed| {
        let breaker = Breaker::seeded(BreakerSettings::recommended(), seed);
        for _ in 0..5 {
            call(&breaker, false, at(0));
        }
        breaker.status(at(0)).wait
    };
    let waits: std::collections::BTreeSet<Duration> = (0..100).map(wait).collect();
    assert!(waits.len() > 95);
}

#[test]
fn it_ramps_up_after_closing() {
    let settings = BreakerSettings { ramp: 9 * SECOND, ..with(Rates::default()) };
    let breaker = Breaker::new(settings);
    for _ in 0..5 {
        call(&breaker, false, at(0));
    }
    for _ in 0..3 {
        assert!(call(&breaker, true, at(5_000)));
    }
    let mut admitted = [0; 4];
    for n in 0..12_000_u64 {
        let third = usize::try_from(n / 3_000).unwrap();
        admitted[third] += u32::from(call(&breaker, true, at(5_000 + n)));
    }
    for (admitted, expected) in admitted.iter().zip([300_u32, 750, 1_500, 3_000]) {
        assert!(admitted.abs_diff(expected) <= 2, "{admitted} instead of {expected}");
    }
    assert_eq!(breaker.status(at(17_000)).ramping, None);
}

#[test]
fn a_relapse_within_the_ramp_opens_again() {
    let breaker = Breaker::new(BreakerSettings { ramp: 9 * SECOND, ..with(Rates::default()) });
    for _ in 0..5 {
        call(&breaker, false, at(0));
    }
    for _ in 0..3 {
        call(&breaker, true, at(5_000));
    }
    let failed = (0..1_000).filter(|n| call(&breaker, false, at(5_001 + n))).count();
    assert_eq!(failed, 5);
    assert_eq!(breaker.status(at(6_001)).opened, 2);
}

#[test]
fn an_operator_has_the_last_word() {
    let breaker = Breaker::new(with(Rates::default()));
    breaker.force(Some(Forced::Closed), at(0));
    for n in 0..100 {
        assert!(call(&breaker, false, at(n)), "counted, but never opened");
    }
    let status = breaker.status(at(100));
    assert_eq!((status.phase, status.counts.total_failures), (Phase::Closed, 100));
    breaker.force(Some(Forced::Disabled), at(100));
    for n in 100..200 {
        assert!(call(&breaker, false, at(n)));
    }
    assert_eq!(breaker.status(at(200)).counts.total_failures, 0);
    let before = breaker.admit(at(200)).unwrap();
    breaker.force(Some(Forced::Open), at(200));
    assert_eq!(breaker.enter(at(1_000_000)).unwrap_err(), Open::Forced);
    breaker.force(None, at(1_000_000));
    assert!(call(&breaker, true, at(1_000_000)));
    before.record(false, at(1_000_000));
    assert_eq!(breaker.status(at(1_000_000)).counts.total_failures, 0, "of another generation");
    for n in 0..5 {
        call(&breaker, false, at(1_000_001 + n));
    }
    assert_eq!(phase(&breaker, at(1_000_010)), Phase::Open, "it decides by itself again");
}

#[test]
fn it_is_small() {
    let bytes = std::mem::size_of::<super::Core>();
    assert!(bytes <= 512, "{bytes} bytes");
}

#[test]
fn many_threads_lose_nothing() {
    let breaker = Breaker::new(BreakerSettings {
        trip: Trip::Custom { condition: "never".into(), says: std::sync::Arc::new(|_| false) },
        ..BreakerSettings::default()
    });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let breaker = &breaker;
            scope.spawn(move || {
                for n in 0..10_000 {
                    match (n + thread) % 3 {
                        0 => breaker.admit(at(1)).unwrap().record(true, at(1)),
                        1 => breaker.enter(at(1)).unwrap().report(Outcome::FAILURE, at(1)),
                        _ => drop(breaker.enter(at(1))),
                    }
                }
            });
        }
    });
    let counts = breaker.status(at(1)).counts;
    assert_eq!(counts.requests, counts.total_successes + counts.total_failures);
    assert!((26_660..=26_670).contains(&counts.requests), "{counts:?}");
}

proptest! {
    /// The share over the last N calls decides and nothing else: a naive model agrees call by call.
    #[test]
    fn agrees_with_a_naive_window(size in 1_u32..30, min in 1_u32..10, percent in 1_u32..100, calls in proptest::collection::vec(any::<bool>(), 0..300)) {
        let mut rates = share(Window::Calls(size), f64::from(percent) / 100.0);
        rates.calls_min = min;
        let breaker = Breaker::new(with(rates));
        let mut model: Vec<bool> = Vec::new();
        for ok in calls {
            prop_assert!(call(&breaker, ok, at(0)));
            model.push(ok);
            let last = &model[model.len().saturating_sub(size as usize)..];
            let failed = last.iter().filter(|ok| !**ok).count();
            let opens = !ok && last.len() >= min as usize && failed as f64 >= last.len() as f64 * (f64::from(percent) / 100.0);
            prop_assert_eq!(phase(&breaker, at(0)) == Phase::Open, opens);
            if opens {
                break;
            }
        }
    }
}
