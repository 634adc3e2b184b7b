//! The breaker against its table of transitions, against a naive model, and against late and lost outcomes.

use super::{
    Breaker, BreakerSettings, Core, Counts, Forced, Open, Outcome, Permit, Phase, Trip,
    machine::GENERATION_MAX,
};
use outrigger_kernel::Mono;
use proptest::prelude::*;
use std::{sync::Arc, time::Duration};

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Mono {
    Mono(0).plus(Duration::from_secs(seconds))
}

fn breaker(max_requests: u32, interval_s: u64, more_than: u64) -> Breaker {
    Breaker::new(BreakerSettings {
        max_requests,
        interval: Duration::from_secs(interval_s),
        timeout: 60 * SECOND,
        trip: Trip::ConsecutiveFailures(more_than),
        ..BreakerSettings::default()
    })
}

fn fail(breaker: &Breaker, times: usize, now: Mono) {
    for _ in 0..times {
        breaker.admit(now).unwrap().record(false, now);
    }
}

#[test]
fn defaults_open_on_the_sixth_failure_in_a_row() {
    let breaker = Breaker::new(BreakerSettings::default());
    fail(&breaker, 5, at(0));
    breaker.admit(at(0)).unwrap().record(true, at(0));
    fail(&breaker, 5, at(0));
    assert_eq!(breaker.status(at(0)).phase, Phase::Closed);
    fail(&breaker, 1, at(1));
    assert_eq!(breaker.status(at(1)).phase, Phase::Open);
    assert_eq!(breaker.admit(at(31)).unwrap_err(), Open::Tripped { wait: 30 * SECOND });
    assert_eq!(breaker.status(at(61)).phase, Phase::HalfOpen);
}

#[test]
fn a_long_healthy_life_does_not_slow_the_opening() {
    let breaker = breaker(1, 0, 4);
    for second in 0..100_000 {
        breaker.admit(at(second)).unwrap().record(true, at(second));
    }
    fail(&breaker, 5, at(100_000));
    assert_eq!(breaker.status(at(100_000)).phase, Phase::Open);
}

#[test]
fn half_open_admits_exactly_its_probes_and_takes_a_cancelled_one_back() {
    let breaker = breaker(3, 0, 0);
    fail(&breaker, 1, at(0));
    let mut probes: Vec<Permit> = (0..1_000).filter_map(|_| breaker.admit(at(60)).ok()).collect();
    assert_eq!(probes.len(), 3);
    assert_eq!(breaker.admit(at(60)).unwrap_err(), Open::Probing);
    probes.pop();
    probes.push(breaker.admit(at(61)).unwrap());
    assert_eq!(breaker.admit(at(61)).unwrap_err(), Open::Probing);
    for probe in probes {
        assert_eq!(breaker.status(at(62)).phase, Phase::HalfOpen);
        probe.record(true, at(62));
    }
    assert_eq!(breaker.status(at(62)).phase, Phase::Closed);
}

#[test]
fn one_failed_probe_opens_again_for_the_whole_timeout() {
    let breaker = breaker(2, 0, 0);
    fail(&breaker, 1, at(0));
    let (good, bad) = (breaker.admit(at(60)).unwrap(), breaker.admit(at(60)).unwrap());
    good.record(true, at(60));
    bad.record(false, at(70));
    assert_eq!(breaker.admit(at(129)).unwrap_err(), Open::Tripped { wait: SECOND });
    let status = breaker.status(at(130));
    assert_eq!((status.phase, status.opened), (Phase::HalfOpen, 2));
}

#[test]
fn outcomes_of_an_earlier_generation_are_dropped() {
    for (late_ok, probe_ok, expected) in [(true, false, Phase::Open), (false, true, Phase::Closed)]
    {
        let breaker = breaker(1, 0, 0);
        let late = breaker.admit(at(0)).unwrap();
        fail(&breaker, 1, at(0));
        let probe = breaker.admit(at(60)).unwrap();
        late.record(late_ok, at(60));
        assert_eq!(breaker.status(at(60)).phase, Phase::HalfOpen, "the probe is still running");
        probe.record(probe_ok, at(60));
        assert_eq!(breaker.status(at(60)).phase, expected);
    }
}

#[test]
fn a_permit_of_an_earlier_generation_is_not_given_back_to_a_later_one() {
    let breaker = breaker(1, 0, 0);
    let late = breaker.admit(at(0)).unwrap();
    fail(&breaker, 1, at(0));
    let probe = breaker.admit(at(60)).unwrap();
    drop(late);
    assert_eq!(breaker.admit(at(60)).unwrap_err(), Open::Probing);
    probe.record(true, at(60));
}

#[test]
fn an_interval_forgets() {
    let breaker = breaker(1, 10, 2);
    fail(&breaker, 2, at(0));
    fail(&breaker, 2, at(10));
    assert_eq!(breaker.status(at(10)).phase, Phase::Closed);
    assert_eq!(breaker.status(at(19)).counts.consecutive_failures, 2);
    assert_eq!(breaker.status(at(20)).counts, Counts::default());
    let without = self::breaker(1, 0, 2);
    fail(&without, 2, at(0));
    fail(&without, 1, at(1_000_000));
    assert_eq!(without.status(at(1_000_000)).phase, Phase::Open);
}

#[test]
fn a_custom_trip_sees_all_counts() {
    let half =
        |counts: &Counts| counts.requests >= 10 && counts.total_failures * 2 >= counts.requests;
    let settings = BreakerSettings {
        trip: Trip::Custom { condition: "half".into(), says: Arc::new(half) },
        ..BreakerSettings::default()
    };
    let breaker = Breaker::new(settings);
    for call in 0..10 {
        assert_eq!(breaker.status(at(0)).phase, Phase::Closed, "call {call}");
        breaker.admit(at(0)).unwrap().record(call % 2 == 0, at(0));
    }
    assert_eq!(breaker.status(at(0)).phase, Phase::Open);
}

#[test]
fn a_panicking_trip_does_not_take_the_breaker_with_it() {
    let settings = BreakerSettings {
        trip: Trip::Custom { condition: "panics".into(), says: Arc::new(|_| panic!("planted")) },
        ..BreakerSettings::default()
    };
    let breaker = Breaker::new(settings);
    let permit = breaker.admit(at(0)).unwrap();
    let record = std::panic::AssertUnwindSafe(|| permit.record(false, at(0)));
    assert!(std::panic::catch_unwind(record).is_err());
    assert!(breaker.admit(at(0)).is_ok());
}

#[test]
fn peeking_ahead_changes_nothing() {
    let breaker = breaker(1, 0, 0);
    fail(&breaker, 1, at(0));
    assert_eq!(breaker.peek(at(60)), Ok(()));
    assert_eq!(breaker.peek(at(59)), Err(Open::Tripped { wait: SECOND }));
    assert_eq!(breaker.status(at(59)).phase, Phase::Open);
}

/// A step of a random history. Outcomes and cancels pick one of the calls under way.
#[derive(Clone, Copy, Debug)]
enum Step {
    Admit,
    Record { which: usize, ok: bool },
    Cancel { which: usize },
    Wait { seconds: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Admit),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(which, ok)| Step::Record { which, ok }),
        1 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        2 => (0..40_u64).prop_map(|seconds| Step::Wait { seconds }),
    ];
    proptest::collection::vec(step, 0..200)
}

/// Millions of generations are some weeks of short intervals.
#[test]
fn an_open_breaker_stays_open_when_generations_begin_anew() {
    let trip = Trip::ConsecutiveFailures(0);
    let core = Core::new(BreakerSettings { trip, ..BreakerSettings::default() }, 0);
    let _begun = core.admit(Mono(0)).unwrap();
    core.state().generation = GENERATION_MAX - 1;
    core.force(Some(Forced::Closed), Mono(0));
    core.state().forced = None;
    assert_eq!(core.shown(), (Phase::Closed, GENERATION_MAX));
    let ticket = core.admit(Mono(1)).unwrap();
    core.settle(ticket, Outcome::FAILURE, Mono(1));
    assert!(core.admit(Mono(2)).is_err());
    assert_eq!(core.status(Mono(2)).phase, Phase::Open);
}

proptest! {
    /// Whatever happens: probes stay within their number, an open breaker admits nothing, and once everything under way
    /// has ended and the timeout has passed, the breaker admits again. Nothing can wedge it.
    #[test]
    fn never_wedged_never_too_many_probes(max_requests in 0_u32..4, interval_s in 0_u64..30, more_than in 0_u64..3, steps in steps()) {
        let breaker = breaker(max_requests, interval_s, more_than);
        let probes_max = u64::from(max_requests.max(1));
        let mut now = at(0);
        let mut under_way: Vec<Permit> = Vec::new();
        for step in steps {
            let before = breaker.status(now);
            match step {
                Step::Admit => {
                    let admitted = breaker.admit(now);
                    prop_assert_eq!(admitted.is_ok(), match before.phase {
                        Phase::Closed => true,
                        Phase::Open => false,
                        Phase::HalfOpen => before.counts.requests < probes_max,
                    });
                    under_way.extend(admitted);
                }
                Step::Record { which, ok } if !under_way.is_empty() => {
                    let index = which % under_way.len();
                    under_way.swap_remove(index).record(ok, now);
                }
                Step::Cancel { which } if !under_way.is_empty() => {
                    let index = which % under_way.len();
                    drop(under_way.swap_remove(index));
                }
                Step::Wait { seconds } => now = now.plus(Duration::from_secs(seconds)),
                Step::Record { .. } | Step::Cancel { .. } => {}
            }
            let after = breaker.status(now);
            let counts = after.counts;
            prop_assert!(counts.total_successes + counts.total_failures <= counts.requests);
            prop_assert!(counts.consecutive_successes == 0 || counts.consecutive_failures == 0);
            if after.phase == Phase::HalfOpen {
                prop_assert!(counts.requests <= probes_max);
            }
        }
        under_way.clear();
        now = now.plus(60 * SECOND);
        for _ in 0..probes_max {
            breaker.admit(now).unwrap().record(true, now);
        }
        prop_assert_eq!(breaker.status(now).phase, Phase::Closed);
    }
}
