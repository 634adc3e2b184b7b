//! The stack in simulated time: what hedges, budgets, marks and deadlines do to calls.

use super::Stack;
use crate::{
    AdaptiveTimeout, Attempt, Backoff, BalanceSettings, Balanced, Balancer, BreakerSettings,
    BudgetSettings, BulkheadSettings, CallContext, Called, Class, Endpoint, GaveUp, HedgeSettings,
    Idempotency, Matching, Phase, Policy, PolicyState, Pushback, Report, Restraint, Retry, Seats,
    Trip, reason,
};
use outrigger_kernel::{Deadline, Mono, World, within};
use outrigger_sim::SimWorld;
use proptest::prelude::*;
use std::{
    cell::{Cell, RefCell},
    sync::{Arc, Mutex},
    time::Duration,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn http(status: &u16) -> Class {
    if (200..400).contains(status) { Class::Success } else { Class::Http(*status) }
}

fn get(world: &dyn World) -> CallContext {
    CallContext::until(Deadline::after(world, 60 * SECOND)).idempotent(Idempotency::Method)
}

fn retry(max_retries: u32, delay: Duration) -> Option<Retry> {
    let backoff = Backoff::Constant { delay };
    let matching = Matching::parse("500-599", "").unwrap();
    Some(Retry { backoff, max_retries: Some(max_retries), matching })
}

fn hedging(after: Duration) -> Policy {
    Policy {
        hedge: Some(HedgeSettings {
            fixed_delay: Some(after),
            max_extra: 0.5,
            ..HedgeSettings::default()
        }),
        ..Policy::default()
    }
}

/// A state whose hedge budget has something in it.
fn filled(world: &dyn World, policy: &Policy) -> PolicyState {
    let state = PolicyState::new(policy);
    for _ in 0..20 {
        state.hedges().unwrap().deposit(world.mono());
    }
    state
}

/// Makes one call; attempt n takes and answers what the n-th line says, the last one for all that follow.
async fn scripted(
    world: &Arc<SimWorld>,
    (policy, state): (&Policy, &PolicyState),
    context: CallContext,
    script: &[(Duration, u16)],
) -> (Called<u16>, Vec<Attempt>) {
    let made = Mutex::new(Vec::new());
    let stack = Stack::new(&**world, policy, state);
    let called = stack.call(context, &(), http, |attempt, ()| {
        made.lock().unwrap().push(attempt);
        let (takes, answer) = script[(attempt.number as usize - 1).min(script.len() - 1)];
        let sleep = world.sleep(takes);
        async move {
            if !takes.is_zero() {
                sleep.await;
            }
            answer
        }
    });
    let called = called.await;
    (called, made.into_inner().unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_companion_of_a_slow_attempt_wins() {
    let world = SimWorld::new(1);
    let policy = Policy { breaker: Some(BreakerSettings::default()), ..hedging(20 * MS) };
    let state = filled(&*world, &policy);
    world.sleep(SECOND).await;
    let begun = world.mono();
    let script = [(10 * SECOND, 200), (5 * MS, 201)];
    let (called, made) = scripted(&world, (&policy, &state), get(&*world), &script).await;
    assert_eq!((called.result, called.attempts, called.hedged), (Ok(201), 2, true));
    assert_eq!(world.mono().since(begun), 25 * MS);
    assert!(!made[0].hedge && made[1].hedge);
    let counts = state.breaker().unwrap().status(world.mono()).counts;
    // The loser's place is given back: it says nothing about the target.
    assert_eq!((counts.total_successes, counts.total_failures), (1, 0));
    assert_eq!(state.latencies().unwrap().seen().count(world.mono()), 2, "the loser's time counts");
}

#[tokio::test(start_paused = true)]
async fn the_first_attempt_can_win_all_the_same() {
    let world = SimWorld::new(1);
    let policy = hedging(20 * MS);
    let state = filled(&*world, &policy);
    world.sleep(SECOND).await;
    let script = [(30 * MS, 200), (SECOND, 201)];
    let (called, _) = scripted(&world, (&policy, &state), get(&*world), &script).await;
    assert_eq!((called.result, called.attempts), (Ok(200), 2));
}

#[tokio::test(start_paused = true)]
async fn a_failed_copy_is_no_reason_to_give_the_other_one_up() {
    let world = SimWorld::new(1);
    let cases = [
        // The first fails while the second is under way, and the other way round.
        ([(30 * MS, 503), (50 * MS, 201)], Ok(201)),
        ([(90 * MS, 200), (5 * MS, 503)], Ok(200)),
        // Both fail: the later word counts.
        ([(30 * MS, 503), (50 * MS, 500)], Ok(500)),
    ];
    for retry in [None, retry(1, 10 * MS)] {
        let policy = Policy { retry, ..hedging(20 * MS) };
        let state = filled(&*world, &policy);
        world.sleep(SECOND).await;
        for (script, expected) in cases {
            let (called, _) = scripted(&world, (&policy, &state), get(&*world), &script).await;
            assert_eq!((called.result, called.attempts), (expected, 2));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_hangs_does_not_hide_the_answer_of_the_other() {
    let world = SimWorld::new(1);
    let policy = Policy { timeout: Some(100 * MS), ..hedging(20 * MS) };
    let state = filled(&*world, &policy);
    world.sleep(SECOND).await;
    // The first fails, its companion never answers.
    let script = [(30 * MS, 503), (SECOND, 200)];
    let (called, _) = scripted(&world, (&policy, &state), get(&*world), &script).await;
    assert_eq!(called.result, Ok(503));
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_repeated_has_no_companion() {
    let world = SimWorld::new(1);
    let policy = hedging(20 * MS);
    let state = filled(&*world, &policy);
    world.sleep(SECOND).await;
    let order = get(&*world).idempotent(Idempotency::Unknown);
    let (called, _) = scripted(&world, (&policy, &state), order, &[(SECOND, 200)]).await;
    assert_eq!((called.result, called.attempts), (Ok(200), 1));
}

#[tokio::test(start_paused = true)]
async fn without_a_token_the_first_attempt_goes_on_undisturbed() {
    let world = SimWorld::new(1);
    let policy = hedging(20 * MS);
    let state = PolicyState::new(&policy);
    let (called, _) =
        scripted(&world, (&policy, &state), get(&*world), &[(SECOND, 200), (MS, 201)]).await;
    assert_eq!((called.result, called.attempts), (Ok(200), 1));
}

#[tokio::test(start_paused = true)]
async fn no_hedge_for_a_breaker_that_is_not_closed_nor_without_a_seat() {
    let world = SimWorld::new(1);
    let one = BulkheadSettings { seats: Seats::Fixed(1), ..BulkheadSettings::default() };
    let policy = Policy { bulkhead: Some(one), ..hedging(20 * MS) };
    let state = filled(&*world, &policy);
    world.sleep(SECOND).await;
    let before = state.hedges().unwrap().tokens(world.mono());
    let (called, _) =
        scripted(&world, (&policy, &state), get(&*world), &[(SECOND, 200), (MS, 201)]).await;
    assert_eq!((called.result, called.attempts), (Ok(200), 1));
    assert!(before > 5 && state.hedges().unwrap().tokens(world.mono()) >= before - 2, "put back");
}

#[tokio::test(start_paused = true)]
async fn a_hedge_and_a_retry_go_elsewhere() {
    let world = SimWorld::new(1);
    let policy = Policy { retry: retry(2, 10 * MS), ..hedging(20 * MS) };
    let state = filled(&*world, &policy);
    world.sleep(SECOND).await;
    let balancer = Balancer::new(BalanceSettings { outliers: None, ..BalanceSettings::default() });
    balancer.update(["a", "b", "c"].map(|name| Endpoint::new(name, name)), world.mono());
    for _ in 0..20 {
        let went = RefCell::new(Vec::new());
        let stack = Stack::new(&*world, &policy, &state);
        let balanced = Balanced { balancer: &balancer, key: None };
        let called = stack.call(get(&*world), &balanced, http, |attempt, place| {
            went.borrow_mut().push(*place.value());
            let sleep = world.sleep(if attempt.hedge { 5 * MS } else { 30 * MS });
            async move {
                sleep.await;
                503
            }
        });
        let called = called.await;
        let mut went = went.into_inner();
        went.sort_unstable();
        if called.attempts == 3 {
            assert_eq!(went, ["a", "b", "c"]);
        } else {
            // The budget for hedges may be used up; then it is retries alone.
            assert!(went.windows(2).all(|two| two[0] != two[1]), "{went:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_target_costs_a_tenth_more_and_not_twice_as_much() {
    let world = SimWorld::new(1);
    let mut policy = Policy { breaker: None, ..Policy::recommended() };
    for (budget, most) in [(policy.budget, 1.12), (None, 3.0)] {
        policy.budget = budget;
        let state = PolicyState::new(&policy);
        let mut attempts = 0;
        for _ in 0..5_000 {
            let (called, _) = scripted(&world, (&policy, &state), get(&*world), &[(MS, 500)]).await;
            attempts += called.attempts;
            assert_eq!(called.pushback, Pushback::No);
        }
        let each = f64::from(attempts) / 5_000.0;
        assert!(each <= most && each > most - 0.05, "{each}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_failed_for_good_says_so_and_is_believed() {
    let world = SimWorld::new(1);
    let policy = Policy { restraint: Some(Restraint::default()), ..Policy::default() };
    let policy = Policy { retry: retry(3, MS), ..policy };
    let state = PolicyState::new(&policy);
    let refused = |_: &u16| Report { pushback: Pushback::No, ..Class::Http(503).into() };
    let stack = Stack::new(&*world, &policy, &state);
    let called = stack.call(get(&*world), &(), refused, |_, ()| async { 503 }).await;
    assert_eq!((called.attempts, called.reason), (1, Some(reason::RETRY_REFUSED)));
    assert_eq!(called.pushback, Pushback::No, "and passed on");
    for (status, pushback) in [(200, Pushback::None), (404, Pushback::None), (500, Pushback::No)] {
        let (called, _) = scripted(&world, (&policy, &state), get(&*world), &[(MS, status)]).await;
        assert_eq!(called.pushback, pushback, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_call_ends_at_its_own_limit() {
    let world = SimWorld::new(1);
    let policy = Policy { overall: Some(SECOND), ..Policy::default() };
    let state = PolicyState::new(&policy);
    let (called, _) = scripted(&world, (&policy, &state), get(&*world), &[(9 * SECOND, 200)]).await;
    assert_eq!(called.result, Err(GaveUp::DeadlinePassed { attempts: 1 }));
    assert_eq!(world.mono(), Mono(0).plus(SECOND));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_gets_its_part_of_the_time_and_no_more() {
    let world = SimWorld::new(1);
    let policy = Policy {
        overall: Some(9 * SECOND),
        progressive: true,
        retry: retry(2, MS),
        ..Policy::default()
    };
    let state = PolicyState::new(&policy);
    let (called, made) =
        scripted(&world, (&policy, &state), get(&*world), &[(60 * SECOND, 200)]).await;
    assert_eq!(called.attempts, 3);
    let limits: Vec<u64> = made.iter().map(|attempt| attempt.limit.as_secs()).collect();
    assert_eq!(limits, [3, 2, 2], "a third of nine seconds, and then of what the waits leave");
    assert!(world.mono().since(Mono(0)) <= 9 * SECOND + MS);
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_that_usually_could_not_end() {
    let world = SimWorld::new(1);
    let policy = Policy { adaptive: Some(AdaptiveTimeout::default()), ..Policy::default() };
    let state = PolicyState::new(&policy);
    for _ in 0..30 {
        state.latencies().unwrap().seen().record(100 * MS, world.mono());
    }
    let context = CallContext { deadline: Deadline::after(&*world, 50 * MS), ..get(&*world) };
    let (called, made) = scripted(&world, (&policy, &state), context, &[(MS, 200)]).await;
    assert_eq!(called.result, Err(GaveUp::DeadlinePassed { attempts: 0 }));
    assert!(made.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_timeout_follows_what_attempts_take() {
    let world = SimWorld::new(1);
    let adaptive = AdaptiveTimeout { max: 10 * SECOND, ..AdaptiveTimeout::default() };
    let policy =
        Policy { adaptive: Some(adaptive), timeout: Some(5 * SECOND), ..Policy::default() };
    let state = PolicyState::new(&policy);
    let call = |takes| {
        let (world, policy, state) = (world.clone(), policy.clone(), state.clone());
        async move { scripted(&world, (&policy, &state), get(&*world), &[(takes, 200)]).await.0 }
    };
    assert_eq!(call(SECOND).await.result, Ok(200), "not warm: the fixed timeout holds");
    for _ in 0..1_000 {
        call(20 * MS).await;
    }
    let hung = call(SECOND).await.result;
    let Err(GaveUp::TimedOut { after, .. }) = hung else { panic!("{hung:?}") };
    assert!(after >= 40 * MS && after <= 2_200 * MS, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_is_a_failure_only_without_restraint() {
    let world = SimWorld::new(1);
    let trip = Trip::ConsecutiveFailures(0);
    let breaker = Some(BreakerSettings { trip, ..BreakerSettings::default() });
    for (restraint, phase) in [(None, Phase::Open), (Some(Restraint::default()), Phase::Closed)] {
        let policy = Policy { breaker: breaker.clone(), restraint, ..Policy::default() };
        let state = PolicyState::new(&policy);
        let soon = Deadline::after(&*world, 5 * MS);
        let hang = scripted(&world, (&policy, &state), get(&*world), &[(SECOND, 200)]);
        assert!(within(&*world, soon, hang).await.is_err());
        assert_eq!(state.breaker().unwrap().status(world.mono()).phase, phase);
    }
}

#[tokio::test(start_paused = true)]
async fn a_seat_is_held_on_the_wire_and_not_while_waiting() {
    let world = SimWorld::new(1);
    let one =
        BulkheadSettings { seats: Seats::Fixed(1), queue_max: 0, ..BulkheadSettings::default() };
    let policy = Policy { bulkhead: Some(one), retry: retry(1, 100 * MS), ..Policy::default() };
    let state = PolicyState::new(&policy);
    let done = Arc::new(Mutex::new(Vec::new()));
    // The second call comes while the first one waits for its retry, the third while the second is on the wire.
    for (name, comes) in [("first", 0), ("second", 50), ("third", 60)] {
        let (world, done) = (world.clone(), done.clone());
        let (policy, state) = (policy.clone(), state.clone());
        let _task = world.clone().spawn(
            "call",
            Box::pin(async move {
                world.sleep(comes * MS).await;
                let script = [(10 * MS, if name == "first" { 503 } else { 200 }), (20 * MS, 200)];
                let takes = if name == "second" { [(30 * MS, 200); 2] } else { script };
                let (called, _) = scripted(&world, (&policy, &state), get(&*world), &takes).await;
                done.lock().unwrap().push((name, called.result));
            }),
        );
    }
    world.sleep(SECOND).await;
    let full = |result: &Result<u16, GaveUp>| {
        matches!(result, Err(GaveUp::NotAdmitted { reason: reason::BULKHEAD_FULL, .. }))
    };
    let done = std::mem::take(&mut *done.lock().unwrap());
    let find = |name| done.iter().find(|(known, _)| *known == name).unwrap().1;
    assert_eq!((find("first"), find("second")), (Ok(200), Ok(200)));
    assert!(full(&find("third")), "{done:?}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_finds_no_seat_is_not_paid_for() {
    let world = SimWorld::new(1);
    let policy = Policy {
        retry: retry(1, 100 * MS),
        budget: Some(BudgetSettings::default()),
        bulkhead: Some(BulkheadSettings {
            seats: Seats::Fixed(1),
            queue_max: 0,
            ..BulkheadSettings::default()
        }),
        ..Policy::default()
    };
    let state = PolicyState::new(&policy);
    let stack = Stack::new(&*world, &policy, &state);
    let taken = Cell::new(None);
    let before = state.budget().unwrap().tokens(world.mono());
    let call = stack.call(get(&*world), &(), http, |_, ()| async { 503 });
    let somebody_else = async {
        world.sleep(50 * MS).await;
        taken.set(state.bulkhead().unwrap().try_seat());
    };
    let (called, ()) = tokio::join!(call, somebody_else);
    let full = GaveUp::NotAdmitted { reason: reason::BULKHEAD_FULL, retry_after: Some(SECOND) };
    assert_eq!((called.result, called.attempts), (Err(full), 1));
    assert_eq!(state.budget().unwrap().tokens(world.mono()), before);
}

#[tokio::test(start_paused = true)]
async fn a_call_can_be_spawned() {
    fn spawnable<T: Send>(future: T) -> T {
        future
    }
    let world = SimWorld::new(1);
    let (policy, state) = (Policy::recommended(), PolicyState::default());
    let stack = Stack::new(&*world, &policy, &state);
    let call = stack.call(get(&*world), &(), |_| Class::Success, |_, ()| async { Cell::new(1) });
    assert_eq!(spawnable(call).await.result, Ok(Cell::new(1)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever the target does, a call ends by its deadline, no attempt begins at or past it, there are no more of them
    /// than allowed, never more than two under way, and everything taken is given back.
    #[test]
    fn a_call_keeps_its_bounds(
        script in proptest::collection::vec((0_u32..400, prop_oneof![Just(200_u16), Just(503), Just(404)]), 1..6),
        overall_ms in 1_u32..2_000,
        timeout_ms in proptest::option::of(1_u32..300),
        hedge_ms in proptest::option::of(1_u32..200),
        max_retries in 0_u32..4,
        budget: bool,
        seed: u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = SimWorld::new(seed);
            let hedge = hedge_ms.map(|ms| hedging(ms * MS).hedge.unwrap());
            let bulkhead = BulkheadSettings { seats: Seats::Fixed(2), ..BulkheadSettings::default() };
            let policy = Policy {
                timeout: timeout_ms.map(|ms| ms * MS),
                overall: Some(overall_ms * MS),
                retry: retry(max_retries, 20 * MS),
                hedge,
                budget: budget.then(BudgetSettings::default),
                bulkhead: Some(bulkhead),
                progressive: seed.is_multiple_of(2),
                ..Policy::default()
            };
            let state = if hedge.is_some() { filled(&*world, &policy) } else { PolicyState::new(&policy) };
            world.sleep(SECOND).await;
            let end = world.mono().plus(overall_ms * MS);
            let script: Vec<_> = script.into_iter().map(|(ms, answer)| (ms * MS, answer)).collect();
            let running = Arc::new(());
            let starts = RefCell::new(Vec::new());
            let most = Cell::new(0);
            let stack = Stack::new(&*world, &policy, &state);
            let called = stack.call(get(&*world), &(), http, |attempt, ()| {
                starts.borrow_mut().push(world.mono());
                let held = Arc::clone(&running);
                most.set(most.get().max(Arc::strong_count(&running) - 1));
                let (takes, answer) = script[(attempt.number as usize - 1) % script.len()];
                let sleep = world.sleep(takes);
                async move { sleep.await; drop(held); answer }
            }).await;
            prop_assert!(starts.borrow().iter().all(|start| *start < end));
            prop_assert!(world.mono().since(end) <= MS, "{:?} too late", world.mono().since(end));
            prop_assert!(starts.borrow().len() <= max_retries as usize + 1);
            prop_assert_eq!(called.attempts as usize, starts.borrow().len());
            prop_assert!(most.get() <= 2);
            prop_assert_eq!(Arc::strong_count(&running), 1, "nothing runs on");
            let bulkhead = state.bulkhead().unwrap();
            let seats = (bulkhead.try_seat(), bulkhead.try_seat());
            prop_assert!(seats.0.is_some() && seats.1.is_some(), "all seats are free");
            drop(seats);
            if let Some(budget) = state.budget() {
                let under_way = format!("{budget:?}");
                prop_assert_eq!(under_way, "Budget(0 of 0 under way are extra)");
            }
            Ok(())
        })?;
    }
}
