//! The driver in simulated time: what is retried, what the breaker hears, and that no attempt starts too late.

use super::{GaveUp, run};
use crate::{
    Backoff, BreakerSettings, BreakerStatus, Class, Matching, Open, Part, Phase, Policy,
    PolicyState, Retry, Trip, Watch,
};
use outrigger_kernel::{Deadline, Mono, World, within};
use outrigger_sim::SimWorld;
use proptest::prelude::*;
use std::{
    cell::{Cell, RefCell},
    sync::{Arc, Mutex},
    time::Duration,
};

const SECOND: Duration = Duration::from_secs(1);

fn retry(max_retries: Option<u32>, delay: Duration, http: &str) -> Option<Retry> {
    let matching = Matching::parse(http, "").unwrap();
    Some(Retry { backoff: Backoff::Constant { delay }, max_retries, matching })
}

fn opens_after(failures: u64) -> Option<BreakerSettings> {
    let trip = Trip::ConsecutiveFailures(failures - 1);
    Some(BreakerSettings { trip, ..BreakerSettings::default() })
}

fn http(status: &u16) -> Class {
    if (200..400).contains(status) { Class::Success } else { Class::Http(*status) }
}

fn status(state: &PolicyState, world: &dyn World) -> BreakerStatus {
    state.breaker().unwrap().status(world.mono())
}

/// Runs a call that answers `answers` one after another, the last one for ever; what comes back, and after how many.
async fn answers(
    world: &dyn World,
    policy: &Policy,
    state: &PolicyState,
    answers: &[u16],
) -> (Result<u16, GaveUp>, usize) {
    let made = Cell::new(0);
    let deadline = Deadline::after(world, 60 * SECOND);
    let outcome = run(world, policy, state, deadline, http, |attempt| {
        made.set(made.get() + 1);
        assert_eq!(attempt.number as usize, made.get());
        std::future::ready(answers[(made.get() - 1).min(answers.len() - 1)])
    });
    (outcome.await, made.get())
}

#[tokio::test(start_paused = true)]
async fn retries_what_matches_and_hands_back_the_last_answer() {
    let world = SimWorld::new(1);
    let policy = Policy { retry: retry(Some(2), SECOND, "500-599"), ..Policy::default() };
    let state = PolicyState::new(&policy);
    let cases: [(&[u16], u16, usize); 4] =
        [(&[200], 200, 1), (&[503, 500, 201], 201, 3), (&[503], 503, 3), (&[503, 404], 404, 2)];
    for (given, expected, made) in cases {
        assert_eq!(answers(&*world, &policy, &state, given).await, (Ok(expected), made));
    }
    assert_eq!(world.mono(), Mono(0).plus(5 * SECOND), "five retries, a second each");
}

#[tokio::test(start_paused = true)]
async fn without_a_policy_a_call_is_a_call() {
    let world = SimWorld::new(1);
    let (policy, state) = (Policy::default(), PolicyState::default());
    assert_eq!(answers(&*world, &policy, &state, &[503]).await, (Ok(503), 1));
}

/// Notes what it is told.
#[derive(Debug, Default)]
pub(super) struct Notes(pub(super) Mutex<Vec<(bool, Part)>>);

impl Watch for Notes {
    fn applied(&self, part: Part) {
        self.0.lock().unwrap().push((false, part));
    }

    fn activated(&self, part: Part) {
        self.0.lock().unwrap().push((true, part));
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_watches_is_told_what_each_part_does() {
    let world = SimWorld::new(1);
    let policy = Policy {
        timeout: Some(SECOND),
        retry: retry(Some(3), SECOND, ""),
        breaker: opens_after(2),
        ..Policy::default()
    };
    let notes = Arc::<Notes>::default();
    let state = PolicyState::new(&policy).watched_by(notes.clone());
    let deadline = Deadline::after(&*world, 60 * SECOND);
    // The first attempt hangs, the second fails and opens the breaker, which ends it.
    let outcome = run(&*world, &policy, &state, deadline, http, |attempt| {
        let world = world.clone();
        async move {
            if attempt.number == 1 {
                world.sleep(9 * SECOND).await;
            }
            503
        }
    });
    assert_eq!(outcome.await, Ok(503));
    let refused = answers(&*world, &policy, &state, &[200]).await;
    assert!(matches!(refused, (Err(GaveUp::Open(_)), 0)), "{refused:?}");
    let told = std::mem::take(&mut *notes.0.lock().unwrap());
    let breaker = Part::Breaker;
    let first = [
        (false, Part::Timeout),
        (false, Part::Retry),
        (false, breaker(Phase::Closed)),
        (true, Part::Timeout),
        (true, Part::Retry),
        (false, breaker(Phase::Closed)),
        (true, breaker(Phase::Open)),
    ];
    let second = [(false, Part::Timeout), (false, Part::Retry), (false, breaker(Phase::Open))];
    assert_eq!(told, [&first[..], &second[..]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_not_matched_is_no_failure_for_the_breaker() {
    let world = SimWorld::new(1);
    let mut policy = Policy {
        retry: retry(Some(0), SECOND, "500-599"),
        breaker: opens_after(1),
        ..Policy::default()
    };
    let state = PolicyState::new(&policy);
    let (answer, _) = answers(&*world, &policy, &state, &[404]).await;
    assert_eq!((answer, status(&state, &*world).phase), (Ok(404), Phase::Closed));
    let (answer, _) = answers(&*world, &policy, &state, &[500]).await;
    assert_eq!((answer, status(&state, &*world).phase), (Ok(500), Phase::Open));

    policy.retry = None;
    let state = PolicyState::new(&policy);
    let (answer, _) = answers(&*world, &policy, &state, &[404]).await;
    assert_eq!((answer, status(&state, &*world).phase), (Ok(404), Phase::Open));
}

#[tokio::test(start_paused = true)]
async fn an_opening_breaker_ends_the_retries_with_the_last_answer() {
    let world = SimWorld::new(1);
    let policy =
        Policy { retry: retry(None, SECOND, ""), breaker: opens_after(3), ..Policy::default() };
    let state = PolicyState::new(&policy);
    assert_eq!(answers(&*world, &policy, &state, &[503]).await, (Ok(503), 3));
    let (refused, made) = answers(&*world, &policy, &state, &[200]).await;
    assert_eq!((refused, made), (Err(GaveUp::Open(Open::Tripped { wait: 60 * SECOND })), 0));
    world.sleep(60 * SECOND).await;
    assert_eq!(answers(&*world, &policy, &state, &[200]).await, (Ok(200), 1));
    assert_eq!(status(&state, &*world).phase, Phase::Closed);
}

#[tokio::test(start_paused = true)]
async fn permanent_and_ignored_are_not_retried() {
    let world = SimWorld::new(1);
    let policy =
        Policy { retry: retry(None, SECOND, ""), breaker: opens_after(9), ..Policy::default() };
    let state = PolicyState::new(&policy);
    let deadline = Deadline::after(&*world, 60 * SECOND);
    for (class, requests, failures) in [(Class::Ignored, 0, 0), (Class::Permanent, 1, 1)] {
        let call = |_| std::future::ready(());
        let outcome = run(&*world, &policy, &state, deadline, |()| class, call).await;
        let counts = status(&state, &*world).counts;
        assert_eq!((outcome, counts.requests, counts.total_failures), (Ok(()), requests, failures));
    }
    assert_eq!(world.mono(), Mono(0));
}

#[tokio::test(start_paused = true)]
async fn timed_out_attempts_are_failures_and_are_retried() {
    let world = SimWorld::new(1);
    let policy = Policy {
        timeout: Some(SECOND),
        retry: retry(Some(1), SECOND, "500"),
        breaker: opens_after(3),
        ..Policy::default()
    };
    let state = PolicyState::new(&policy);
    let deadline = Deadline::after(&*world, 60 * SECOND);
    let hang = |_| std::future::pending::<u16>();
    let outcome = run(&*world, &policy, &state, deadline, http, hang).await;
    assert_eq!(outcome, Err(GaveUp::TimedOut { after: SECOND, attempts: 2 }));
    assert_eq!(world.mono(), Mono(0).plus(3 * SECOND));
    let outcome = run(&*world, &policy, &state, deadline, http, hang).await;
    assert_eq!(outcome, Err(GaveUp::TimedOut { after: SECOND, attempts: 1 }));
    assert_eq!(status(&state, &*world).phase, Phase::Open);
}

#[tokio::test(start_paused = true)]
async fn cancelled_attempts_are_failures() {
    let world = SimWorld::new(1);
    let policy = Policy { breaker: opens_after(3), ..Policy::default() };
    let state = PolicyState::new(&policy);
    let far = Deadline::after(&*world, 60 * SECOND);
    for cancelled in 1..=3 {
        let near = Deadline::after(&*world, SECOND);
        let hang = |_| std::future::pending::<u16>();
        let outcome = within(&*world, near, run(&*world, &policy, &state, far, http, hang)).await;
        assert!(outcome.is_err());
        let opened = status(&state, &*world).phase == Phase::Open;
        assert_eq!(opened, cancelled == 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_passed_deadline_tries_nothing() {
    let world = SimWorld::new(1);
    let policy = Policy { breaker: opens_after(1), ..Policy::default() };
    let state = PolicyState::new(&policy);
    let passed = Deadline(world.mono());
    let call = |_| -> std::future::Ready<u16> { panic!("tried") };
    let outcome = run(&*world, &policy, &state, passed, http, call).await;
    assert_eq!(outcome, Err(GaveUp::DeadlinePassed { attempts: 0 }));
    assert_eq!(status(&state, &*world).counts.requests, 0);
}

#[tokio::test(start_paused = true)]
async fn no_delay_is_not_a_busy_loop() {
    let world = SimWorld::new(1);
    let policy = Policy { retry: retry(None, Duration::ZERO, ""), ..Policy::default() };
    let state = PolicyState::new(&policy);
    let deadline = Deadline::after(&*world, SECOND);
    let made = Cell::new(0_u32);
    let outcome = run(&*world, &policy, &state, deadline, http, |_| {
        made.set(made.get() + 1);
        std::future::ready(503)
    });
    assert_eq!(outcome.await, Ok(503));
    assert!((100..=1_000).contains(&made.get()), "{}", made.get());
}

#[tokio::test(start_paused = true)]
async fn a_run_can_be_spawned_even_if_its_outcome_cannot_be_shared() {
    fn spawnable<T: Send>(future: T) -> T {
        future
    }
    let world = SimWorld::new(1);
    let (policy, state) = (Policy::default(), PolicyState::default());
    let deadline = Deadline::after(&*world, SECOND);
    let call = |_| std::future::ready(Cell::new(1));
    let outcome = spawnable(run(&*world, &policy, &state, deadline, |_| Class::Success, call));
    assert_eq!(outcome.await, Ok(Cell::new(1)));
}

/// One attempt of a random call: how long it takes, and what it answers.
type Scripted = (u64, u16);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever the call does, no attempt starts at or past the deadline, the caller has its answer by then, and there
    /// are no more attempts than allowed.
    #[test]
    fn nothing_starts_past_the_deadline(
        script in proptest::collection::vec((0_u64..700, prop_oneof![Just(200_u16), Just(503)]), 1..8),
        budget_ms in 0_u64..3_000,
        timeout_ms in proptest::option::of(0_u64..600),
        max_retries in proptest::option::of(0_u32..5),
        delay_ms in 0_u64..400,
        seed: u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = SimWorld::new(seed);
            let backoff = Backoff::exponential(Duration::from_millis(delay_ms), SECOND);
            let policy = Policy {
                timeout: timeout_ms.map(Duration::from_millis),
                retry: Some(Retry { backoff, max_retries, matching: Matching::default() }),
                ..Policy::default()
            };
            let deadline = Deadline::after(&*world, Duration::from_millis(budget_ms));
            let starts: RefCell<Vec<Mono>> = RefCell::default();
            let state = PolicyState::new(&policy);
            let outcome = run(&*world, &policy, &state, deadline, http, |attempt| {
                starts.borrow_mut().push(world.mono());
                let (takes_ms, answer): Scripted = script[(attempt.number as usize - 1) % script.len()];
                let takes = world.sleep(Duration::from_millis(takes_ms));
                async move { takes.await; answer }
            }).await;
            let starts = starts.into_inner();
            prop_assert!(starts.iter().all(|start| *start < deadline.0));
            // The simulated timer has a resolution of a millisecond.
            prop_assert!(world.mono().since(deadline.0) <= Duration::from_millis(1));
            prop_assert!(max_retries.is_none_or(|max| starts.len() <= max as usize + 1));
            match outcome {
                Ok(status) => prop_assert!(status == 200 || !starts.is_empty()),
                Err(GaveUp::DeadlinePassed { attempts } | GaveUp::TimedOut { attempts, .. }) => {
                    prop_assert_eq!(attempts as usize, starts.len());
                }
                Err(refused) => prop_assert!(false, "nothing to refuse, yet {refused}"),
            }
            Ok(())
        })?;
    }
}
