//! Everything gets twice as slow at 80 % load. Hedging must not finish it off.
//!
//! A fixed delay that was right before is too short now for half of the calls; each of them gets a copy, and the copies
//! are more than there is room for. With the percentile as the delay and a budget, hedging adds 5 % and no more.

use crate::{
    load::{Second, Tally, offer},
    server::Server,
};
use outrigger_kernel::{Deadline, Mono, World};
use outrigger_resilience::{
    BalanceSettings, Balanced, Balancer, CallContext, Class, Endpoint, HedgeSettings, Idempotency,
    Percentiles, Policy, PolicyState, Stack,
};
use outrigger_sim::SimWorld;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

const WORKERS: usize = 4;
const MS: Duration = Duration::from_millis(1);

/// When it gets slower, and when it ends.
const SLOWER: u64 = 10;
const ENDS: u64 = 25;

/// Replicas of four workers at 20 ms, and what becomes of some of them.
struct Fleet {
    replicas: usize,
    calls_per_second: u64,
    slowed: usize,
    to: Duration,
}

/// 2000 calls a second, 1000 when slower, of which 800 come.
const ALL_SLOWER: Fleet =
    Fleet { replicas: 10, calls_per_second: 800, slowed: 10, to: Duration::from_millis(40) };

/// One in five ten times as slow, at half of what the fleet manages.
const ONE_SLOW: Fleet =
    Fleet { replicas: 5, calls_per_second: 500, slowed: 1, to: Duration::from_millis(200) };

struct Outcome {
    /// Requests at the servers for each call.
    asked: f64,
    healthy: Second,
    slower: Second,
    /// Of what calls took, from the instant they were meant for; before and after.
    p99: [Duration; 2],
}

async fn run(policy: Policy, idempotency: Idempotency, fleet: Fleet) -> Outcome {
    let world = SimWorld::new(3);
    let servers: Vec<_> =
        (0..fleet.replicas).map(|_| Server::new(&world, WORKERS, 20 * MS)).collect();
    let balancer = Balancer::new(BalanceSettings::default());
    let named = servers.iter().enumerate();
    balancer.update(
        named.map(|(name, server)| Endpoint::new(name.to_string(), server.clone())),
        world.mono(),
    );
    let state = PolicyState::new(&policy);
    let (policy, tally) = (Arc::new(policy), Tally::default());
    let long = || Percentiles::new(Duration::from_secs(100), 2);
    let took = Arc::new([long(), long()]);
    let slower_from = Duration::from_secs(SLOWER);
    let call = |at: Mono| {
        let (world, tally, balancer) = (world.clone(), tally.clone(), balancer.clone());
        let (policy, state, took) = (policy.clone(), state.clone(), took.clone());
        async move {
            let deadline = Deadline(at.plus(500 * MS));
            let context = CallContext::until(deadline).idempotent(idempotency);
            let stack = Stack::new(&*world, &policy, &state);
            let target = Balanced { balancer: &balancer, key: None };
            let class = |_: &u16| Class::Success;
            let called = stack.call(context, &target, class, |_, place| place.value().ask()).await;
            tally.note(at, called.result == Ok(200), called.attempts);
            let since = at.since(Mono(0));
            // Two seconds to notice.
            if since < slower_from || since > slower_from + Duration::from_secs(2) {
                let now = world.mono();
                took[usize::from(since > slower_from)].record(now.since(at), now);
            }
        }
    };
    let slowing = async {
        world.sleep(slower_from).await;
        for server in &servers[..fleet.slowed] {
            server.serves_in(fleet.to);
        }
    };
    tokio::join!(offer(&world, ENDS, |_| fleet.calls_per_second, call), slowing);
    world.sleep(Duration::from_secs(2)).await;
    let all = tally.between(0, 30);
    let asked: u64 = servers.iter().map(|server| server.asked.load(Relaxed)).sum();
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let asked = asked as f64 / f64::from(all.calls);
    let (slower, ends) = (usize::try_from(SLOWER).unwrap(), usize::try_from(ENDS).unwrap());
    let p99 = [0, 1].map(|at: usize| took[at].percentile(0.99, world.mono()).unwrap());
    let (healthy, slower) = (tally.between(1, slower), tally.between(slower + 2, ends));
    eprintln!(
        "{asked:.4} requests a call; good {:.4}, then {:.4}; p99 {p99:?}",
        healthy.goodput(),
        slower.goodput(),
    );
    Outcome { asked, healthy, slower, p99 }
}

fn hedging() -> Policy {
    Policy { hedge: Some(HedgeSettings::default()), ..Policy::default() }
}

#[tokio::test(start_paused = true)]
async fn hedges_add_a_twentieth_and_lose_nothing() {
    let without = run(Policy::default(), Idempotency::Method, ALL_SLOWER).await;
    let with = run(hedging(), Idempotency::Method, ALL_SLOWER).await;
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
    let outcome = run(policy, Idempotency::Method, ALL_SLOWER).await;
    assert!(outcome.healthy.goodput() > 0.99, "fine before: {}", outcome.healthy.goodput());
    assert!(outcome.slower.goodput() < 0.5, "{}", outcome.slower.goodput());
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_repeated_is_not_hedged() {
    let outcome = run(hedging(), Idempotency::Unknown, ALL_SLOWER).await;
    assert!((outcome.asked - 1.0).abs() < f64::EPSILON, "{}", outcome.asked);
}

#[tokio::test(start_paused = true)]
async fn one_slow_replica_is_hidden_for_a_twentieth_more_load() {
    let outcome = run(hedging(), Idempotency::Method, ONE_SLOW).await;
    assert!(outcome.asked <= 1.055, "{}", outcome.asked);
    assert!(outcome.slower.goodput() > 0.999, "{}", outcome.slower.goodput());
    let [healthy, slower] = outcome.p99;
    assert!(slower.as_secs_f64() <= 1.5 * healthy.as_secs_f64(), "{healthy:?} -> {slower:?}");
}
