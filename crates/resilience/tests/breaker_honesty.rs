//! What is asked of a breaker that says it protects somebody, in simulated time.
//!
//! (a) a long healthy life does not slow the opening; (b) calls that an outer timeout cancels open it; (c) of a thousand
//! waiting callers exactly three probe; (e) one bad replica of ten is left out, and the service is not; (f) what has
//! recovered is not knocked over by the calls that come back. (d), what it costs, is a matter of wall-clock time and
//! stands in `examples/guard_nanoseconds.rs`.

use outrigger_kernel::Mono;
use outrigger_resilience::{Breaker, BreakerSettings, Open, Outcome, Phase, Rates, Trip, Window};
use std::{collections::VecDeque, time::Duration};

fn at(ms: u64) -> Mono {
    Mono(0).plus(Duration::from_millis(ms))
}

fn recommended(seed: u64) -> Breaker {
    Breaker::seeded(BreakerSettings::recommended(), seed)
}

fn call(breaker: &Breaker, ok: bool, now: Mono) -> Result<(), Open> {
    let pass = breaker.enter(now)?;
    pass.report(if ok { Outcome::Success } else { Outcome::FAILURE }, now);
    Ok(())
}

#[test]
fn a_long_healthy_life_does_not_slow_the_opening() {
    let by_share = |window| {
        let trip = Trip::Rates(Rates { window, consecutive: 0, ..Rates::default() });
        Breaker::new(BreakerSettings { trip, ..BreakerSettings::recommended() })
    };
    for (breaker, most) in [
        (recommended(0), 5),
        (by_share(Window::Calls(100)), 50),
        // Half of the last ten seconds cannot be bad before five of them are.
        (by_share(Window::Time(Duration::from_secs(1))), 600),
    ] {
        for ms in 0..100_000 {
            call(&breaker, true, at(ms)).unwrap();
        }
        let until_open =
            (0..10_000).take_while(|n| call(&breaker, false, at(100_000 + n)).is_ok()).count();
        assert!(until_open <= most, "{until_open} of {most}");
    }
}

#[test]
fn calls_cancelled_by_an_outer_timeout_open_it() {
    let breaker = recommended(0);
    let mut opened_after = None;
    for n in 0..100_u64 {
        // The target hangs; whoever called gives up after two seconds, and nobody ever hears of an outcome.
        match breaker.enter(at(n * 10)) {
            Ok(pass) => pass.cancel(at(n * 10 + 2_000)),
            Err(_) => {
                opened_after = Some(n);
                break;
            }
        }
    }
    assert_eq!(opened_after, Some(5));
    // A target that is merely slower than impatient callers is not to blame.
    let breaker = recommended(0);
    for n in 0..1_000 {
        breaker.enter(at(n)).unwrap().cancel(at(n + 50));
    }
    assert_eq!(breaker.status(at(2_000)).phase, Phase::Closed);
}

#[test]
fn of_a_thousand_callers_exactly_three_probe() {
    let breaker = recommended(0);
    for _ in 0..5 {
        call(&breaker, false, at(0)).unwrap();
    }
    let opens = at(0).plus(breaker.status(at(0)).wait);
    let mut probes: Vec<_> = (0..1_000).filter_map(|_| breaker.admit(opens).ok()).collect();
    assert_eq!(probes.len(), 3);
    drop(probes.pop());
    probes.extend((0..1_000).filter_map(|_| breaker.admit(opens).ok()));
    assert_eq!(probes.len(), 3, "the one that was cancelled is given to another");
}

#[test]
fn one_bad_replica_of_ten_is_left_out_and_the_service_is_not() {
    let replicas: Vec<Breaker> = (0..10).map(recommended).collect();
    let service = recommended(99);
    let (mut errors, mut sent_to_bad, mut turn) = (0, 0, 0_usize);
    for n in 0..60_000_u64 {
        let now = at(n);
        let pass = service.enter(now).unwrap();
        let mut ok = false;
        // One more try elsewhere.
        for _ in 0..2 {
            let picked = (0..10).find_map(|_| {
                turn += 1;
                replicas[turn % 10].enter(now).ok().map(|pass| (turn % 10, pass))
            });
            let Some((replica, pass)) = picked else { break };
            ok = replica != 3;
            sent_to_bad += u32::from(!ok && n > 2_000);
            pass.report(if ok { Outcome::Success } else { Outcome::FAILURE }, now);
            if ok {
                break;
            }
        }
        errors += u32::from(!ok && n > 2_000);
        pass.report(if ok { Outcome::Success } else { Outcome::FAILURE }, now);
    }
    assert_eq!(errors, 0);
    assert_eq!(service.status(at(60_000)).opened, 0);
    assert!(replicas[3].status(at(60_000)).opened >= 2);
    assert!(sent_to_bad <= 20, "{sent_to_bad} calls to the bad one in a minute");
}

/// A server that is down for ten seconds and comes back cold: from a fifth of its capacity to all of it within eight
/// seconds. 900 calls a second want to go to a capacity of 1000; what waits longer than 100 ms has failed. How often the
/// breaker opened, and the share of good answers from 30 s after the recovery on.
fn heals(ramp: Duration) -> (u64, f64) {
    let breaker = Breaker::seeded(BreakerSettings { ramp, ..BreakerSettings::recommended() }, 5);
    let (down, up) = (5_000, 15_000);
    let mut queue: VecDeque<(u64, outrigger_resilience::Permit)> = VecDeque::new();
    let (mut credit, mut good, mut all) = (0.0_f64, 0, 0);
    for ms in 0..60_000_u64 {
        let arrivals = if ms % 10 == 0 { 0 } else { 1 };
        for _ in 0..arrivals {
            let late = ms >= up + 30_000;
            all += u32::from(late);
            let Ok(permit) = breaker.admit(at(ms)) else { continue };
            if (down..up).contains(&ms) {
                permit.report(Outcome::FAILURE, at(ms));
            } else {
                good += u32::from(late);
                queue.push_back((ms, permit));
            }
        }
        let warmth = if ms < up { 1.0 } else { (0.2 + 0.8 * (ms - up) as f64 / 8_000.0).min(1.0) };
        credit = (credit + warmth).min(2.0);
        while let Some((came, _)) = queue.front() {
            let late = ms - came > 100;
            if !late && credit < 1.0 {
                break;
            }
            let Some((_, permit)) = queue.pop_front() else { break };
            // One that has run out of time is answered by nobody, but has been worked on.
            credit -= 1.0;
            permit.report(if late { Outcome::FAILURE } else { Outcome::Success }, at(ms));
            if late {
                break;
            }
        }
    }
    (breaker.status(at(60_000)).opened, f64::from(good) / f64::from(all))
}

#[test]
fn what_has_recovered_is_not_knocked_over() {
    let (with_ramp, good) = heals(Duration::from_secs(10));
    let (without, _) = heals(Duration::ZERO);
    eprintln!("opened {with_ramp} times with a ramp, {without} without; {good:.3} good at the end");
    assert!(good > 0.999, "{good}");
    assert!(without > with_ramp, "the experiment proves nothing");
    // Once for the outage itself, and again for the probes that found it still down.
    assert!(with_ramp <= 3, "{with_ramp}");
}
