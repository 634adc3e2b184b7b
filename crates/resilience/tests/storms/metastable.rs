//! A system that runs well at 70 % of its capacity meets twice that for half a minute. Does it come back?
//!
//! With plain retries it does not: what timed out is asked again, the line grows longer than the timeout, all work goes
//! to callers that have left, and so everything times out. No load but none at all would end that (Bronson et al.,
//! "Metastable failures in distributed systems", 2021).

use crate::{
    load::{Tally, offer},
    server::Server,
};
use outrigger_kernel::{Deadline, Mono, World};
use outrigger_resilience::{
    Backoff, CallContext, Class, Idempotency, Matching, Policy, PolicyState, Retry, Stack,
};
use outrigger_sim::SimWorld;
use std::{sync::Arc, time::Duration};

/// When the trigger begins and ends, and for how long it is watched after that.
const BEGINS: u64 = 10;
const ENDS: u64 = 40;
const WATCHED: u64 = 70;

/// 10 workers at 10 ms are 1000 calls a second; 700 come, and 1400 during the trigger.
async fn run(policy: Policy, usual: u64, seed: u64) -> Tally {
    let world = SimWorld::new(seed);
    let server = Server::new(&world, 10, Duration::from_millis(10));
    let state = PolicyState::new(&policy);
    let (policy, tally) = (Arc::new(policy), Tally::default());
    let rate = |second| if (BEGINS..ENDS).contains(&second) { 2 * usual } else { usual };
    let call = |at: Mono| {
        let (world, server, tally) = (world.clone(), server.clone(), tally.clone());
        let (policy, state) = (policy.clone(), state.clone());
        async move {
            let deadline = Deadline(at.plus(Duration::from_secs(5)));
            let context = CallContext::until(deadline).idempotent(Idempotency::Method);
            let stack = Stack::new(&*world, &policy, &state);
            let class = |status: &u16| match status {
                200 => Class::Success,
                status => Class::Http(*status),
            };
            let called = stack.call(context, &(), class, |_, ()| server.ask()).await;
            tally.note(at, called.result == Ok(200), called.attempts);
        }
    };
    offer(&world, WATCHED, rate, call).await;
    world.sleep(Duration::from_secs(10)).await;
    tally
}

fn plain() -> Policy {
    let backoff = Backoff::Constant { delay: Duration::from_millis(100) };
    let retry = Retry { backoff, max_retries: Some(3), matching: Matching::default() };
    Policy { timeout: Some(Duration::from_secs(1)), retry: Some(retry), ..Policy::default() }
}

/// The first second after the trigger from which on five in a row see at least 95 % of their calls end well.
fn recovered(tally: &Tally) -> Option<u64> {
    (ENDS..WATCHED - 5).find(|second| {
        let second = usize::try_from(*second).unwrap();
        (second..second + 5).all(|second| tally.between(second, second + 1).goodput() >= 0.95)
    })
}

fn shown(tally: &Tally) -> Vec<u32> {
    (0..usize::try_from(WATCHED).unwrap()).map(|at| tally.between(at, at + 1).good).collect()
}

#[tokio::test(start_paused = true)]
async fn plain_retries_stay_down() {
    let tally = run(plain(), 700, 1).await;
    assert!(tally.between(2, 9).goodput() > 0.99, "fine before: {:?}", shown(&tally));
    assert_eq!(recovered(&tally), None, "{:?}", shown(&tally));
    let after = tally.between(60, 70);
    assert!(after.goodput() < 0.05, "{}: {:?}", after.goodput(), shown(&tally));
    assert!(after.attempts_each() > 3.0, "{}", after.attempts_each());
}

#[tokio::test(start_paused = true)]
async fn the_recommended_policy_is_back_within_seconds() {
    for (usual, seed) in [(500, 1), (700, 2), (900, 3)] {
        let policy = Policy { timeout: Some(Duration::from_secs(1)), ..Policy::recommended() };
        let tally = run(policy, usual, seed).await;
        let back = recovered(&tally);
        assert!(
            back.is_some_and(|back| back <= ENDS + 10),
            "{usual}: {back:?} {:?}",
            shown(&tally)
        );
        let all = tally.between(0, usize::try_from(WATCHED).unwrap());
        assert!(all.attempts_each() <= 1.12, "{}", all.attempts_each());
        let (during, after) = (tally.between(10, 40).goodput(), back.unwrap_or(0) - ENDS);
        let attempts = all.attempts_each();
        eprintln!(
            "{usual}/s: good during the trigger {during:.3}, back after {after} s, {attempts:.3} attempts a call"
        );
    }
}
