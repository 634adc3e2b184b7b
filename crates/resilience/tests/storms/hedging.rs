//! Everything gets twice as slow at 80 % load. Hedging must not finish it off.
//!
//! A fixed delay that was right before is too short now for half of the calls; each of them gets a copy, and the copies
//! are more than there is room for. With the percentile as the delay and a budget, hedging adds 5 % and no more.

use crate::{
    load::{Tally, offer},
    server::Server,
};
use outrigger_kernel::{Deadline, Mono, World};
use outrigger_resilience::{
    BalanceSettings, Balanced, Balancer, CallContext, Class, Endpoint, HedgeSettings, Idempotency,
    Policy, PolicyState, Stack,
};
use outrigger_sim::SimWorld;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

const REPLICAS: usize = 10;
const WORKERS: usize = 4;
const MS: Duration = Duration::from_millis(1);

/// When everything gets slower, and when it ends.
const SLOWER: u64 = 10;
const ENDS: u64 = 25;

struct Outcome {
    /// Requests at the servers for each call.
    asked: f64,
    healthy: crate::load::Second,
    slower: crate::load::Second,
}

/// Ten replicas of four workers at 20 ms, later 40 ms: 1000 calls a second at the end, of which 800 come.
async fn run(policy: Policy, idempotency: Idempotency, one_slow: bool) -> Outcome {
    let world = SimWorld::new(3);
    let servers: Vec<_> = (0..REPLICAS).map(|_| Server::new(&world, WORKERS, 20 * MS)).collect();
    let balancer = Balancer::new(BalanceSettings::default());
    let named = servers.iter().enumerate();
    balancer.update(
        named.map(|(name, server)| Endpoint::new(name.to_string(), server.clone())),
        world.mono(),
    );
    let state = PolicyState::new(&policy);
    let (policy, tally) = (Arc::new(policy), Tally::default());
    let call = |at: Mono| {
        let (world, tally, balancer) = (world.clone(), tally.clone(), balancer.clone());
        let (policy, state) = (policy.clone(), state.clone());
        async move {
            let deadline = Deadline(at.plus(500 * MS));
            let context = CallContext::until(deadline).idempotent(idempotency);
            let stack = Stack::new(&*world, &policy, &state);
            let target = Balanced { balancer: &balancer, key: None };
            let class = |_: &u16| Class::Success;
            let called = stack.call(context, &target, class, |_, place| place.value().ask()).await;
            tally.note(at, called.result == Ok(200), called.attempts);
        }
    };
    let slowing = async {
        world.sleep(Duration::from_secs(SLOWER)).await;
        let slow = if one_slow { 1 } else { REPLICAS };
        for server in &servers[..slow] {
            server.serves_in(if one_slow { 200 * MS } else { 40 * MS });
        }
    };
    tokio::join!(offer(&world, ENDS, |_| 800, call), slowing);
    world.sleep(Duration::from_secs(2)).await;
    let all = tally.between(0, 30);
    let asked: u64 = servers.iter().map(|server| server.asked.load(Relaxed)).sum();
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let asked = asked as f64 / f64::from(all.calls);
    let (slower, ends) = (usize::try_from(SLOWER).unwrap(), usize::try_from(ENDS).unwrap());
    Outcome { asked, healthy: tally.between(1, slower), slower: tally.between(slower + 2, ends) }
}

fn hedging() -> Policy {
    Policy { hedge: Some(HedgeSettings::default()), ..Policy::default() }
}

#[tokio::test(start_paused = true)]
async fn hedges_add_a_twentieth_and_lose_nothing() {
    let without = run(Policy::default(), Idempotency::Method, false).await;
    let with = run(hedging(), Idempotency::Method, false).await;
    assert!(with.asked <= 1.055, "{}", with.asked);
    assert!(with.asked > 1.01, "there are hedges: {}", with.asked);
    let (with, without) = (with.slower.goodput(), without.slower.goodput());
    assert!(with >= without - 0.005, "{with} where it was {without}");
}

#[tokio::test(start_paused = true)]
async fn a_fixed_delay_with_next_to_no_budget_is_an_outage() {
    let fixed =
        HedgeSettings { fixed_delay: Some(30 * MS), max_extra: 0.5, ..HedgeSettings::default() };
    let policy = Policy { hedge: Some(fixed), ..Policy::default() };
    let outcome = run(policy, Idempotency::Method, false).await;
    assert!(outcome.healthy.goodput() > 0.99, "fine before: {}", outcome.healthy.goodput());
    assert!(outcome.slower.goodput() < 0.5, "{}", outcome.slower.goodput());
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_repeated_is_not_hedged() {
    let outcome = run(hedging(), Idempotency::Unknown, false).await;
    assert!((outcome.asked - 1.0).abs() < f64::EPSILON, "{}", outcome.asked);
}

#[tokio::test(start_paused = true)]
async fn one_slow_replica_is_no_reason_for_more_than_a_twentieth() {
    let outcome = run(hedging(), Idempotency::Method, true).await;
    assert!(outcome.asked <= 1.055, "{}", outcome.asked);
    assert!(outcome.slower.goodput() > 0.995, "{}", outcome.slower.goodput());
}
