//! Three hops before a leaf that is dead: how many attempts at the leaf does one call of a client cost?
//!
//! Plain retries multiply: three attempts at each of three hops are 27. Here each hop retries within a budget, believes
//! a callee that says "do not", and has a breaker.

use crate::{
    load::{Tally, offer},
    server::Server,
};
use outrigger_kernel::{BoxFuture, Deadline, Mono, World};
use outrigger_resilience::{
    Backoff, CallContext, Class, Idempotency, Matching, Policy, PolicyState, Pushback, Report,
    Retry, Stack,
};
use outrigger_sim::SimWorld;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

const HOPS: usize = 3;

type Leaf = Box<dyn Fn(Arc<SimWorld>) -> BoxFuture<'static, u16> + Send + Sync>;

/// What a hop answers: a status, and what it says on trying again.
#[derive(Clone, Copy)]
struct Answer {
    status: u16,
    pushback: Pushback,
}

struct Chain {
    world: Arc<SimWorld>,
    policy: Policy,
    states: Vec<PolicyState>,
    leaf: Leaf,
    asked: AtomicU64,
    /// Whether what a hop says on trying again goes along.
    marks: bool,
}

impl Chain {
    fn hop(self: Arc<Self>, depth: usize, deadline: Deadline) -> BoxFuture<'static, (Answer, u32)> {
        Box::pin(async move {
            if depth == HOPS {
                self.asked.fetch_add(1, Relaxed);
                let status = (self.leaf)(self.world.clone()).await;
                return (Answer { status, pushback: Pushback::None }, 0);
            }
            let context = CallContext::until(deadline).idempotent(Idempotency::Method);
            let class = |(answer, _): &(Answer, u32)| Report {
                pushback: answer.pushback,
                ..match answer.status {
                    200 => Class::Success.into(),
                    status => Class::Http(status).into(),
                }
            };
            let stack = Stack::new(&*self.world, &self.policy, &self.states[depth]);
            let called = stack.call(context, &(), class, |attempt, ()| {
                Arc::clone(&self).hop(depth + 1, attempt.deadline)
            });
            let called = called.await;
            let status = called.result.map_or(503, |(answer, _)| answer.status);
            let pushback = if self.marks { called.pushback } else { Pushback::None };
            (Answer { status, pushback }, called.attempts)
        })
    }
}

/// Attempts at the leaf for each call of a client, and the share of them that ended well; so many calls a second for 30 s.
async fn leaf_calls(
    policy: Policy,
    marks: bool,
    rate: u64,
    leaf: impl FnOnce(&Arc<SimWorld>) -> Leaf,
) -> (f64, f64) {
    let world = SimWorld::new(5);
    let states = (0..HOPS).map(|_| PolicyState::new(&policy)).collect();
    let leaf = leaf(&world);
    let chain = Chain { world: world.clone(), policy, states, leaf, asked: 0.into(), marks };
    let (chain, tally) = (Arc::new(chain), Tally::default());
    let call = |at: Mono| {
        let (chain, tally, world) = (Arc::clone(&chain), tally.clone(), world.clone());
        async move {
            let deadline = Deadline::after(&*world, Duration::from_secs(10));
            let (answer, attempts) = chain.hop(0, deadline).await;
            tally.note(at, answer.status == 200, attempts);
        }
    };
    offer(&world, 30, |_| rate, call).await;
    world.sleep(Duration::from_secs(30)).await;
    let all = tally.between(0, 31);
    assert_eq!(u64::from(all.calls), 30 * rate, "every call has ended");
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let asked = chain.asked.load(Relaxed) as f64;
    let attempts = asked / f64::from(all.calls);
    eprintln!(
        "{rate}/s: {attempts:.3} attempts at the leaf a call, {:.4} of the calls good",
        all.goodput()
    );
    (attempts, all.goodput())
}

/// A leaf that takes 2 ms to answer what is drawn from a random number.
fn quick(answer: fn(u64) -> u16) -> impl FnOnce(&Arc<SimWorld>) -> Leaf {
    move |_| {
        Box::new(move |world| {
            Box::pin(async move {
                world.sleep(Duration::from_millis(2)).await;
                answer(world.random())
            })
        })
    }
}

fn dead() -> impl FnOnce(&Arc<SimWorld>) -> Leaf {
    quick(|_| 500)
}

fn plain() -> Policy {
    let backoff = Backoff::Constant { delay: Duration::from_millis(100) };
    let retry = Retry { backoff, max_retries: Some(2), matching: Matching::default() };
    Policy { retry: Some(retry), ..Policy::default() }
}

#[tokio::test(start_paused = true)]
async fn plain_retries_multiply() {
    let (attempts, _) = leaf_calls(plain(), false, 300, dead()).await;
    assert!((attempts - 27.0).abs() < 0.01, "{attempts}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_leaf_is_asked_hardly_more_often_than_there_are_calls() {
    let (attempts, _) = leaf_calls(Policy::recommended(), true, 300, dead()).await;
    assert!(attempts <= 1.1, "{attempts}");
    // The breaker is what keeps it far below one.
    assert!(attempts < 0.5, "{attempts}");
}

#[tokio::test(start_paused = true)]
async fn budget_and_marks_bound_it_without_a_breaker() {
    let policy = Policy { breaker: None, bulkhead: None, ..Policy::recommended() };
    let (attempts, _) = leaf_calls(policy.clone(), true, 300, dead()).await;
    assert!(attempts <= 1.1 + 30.0 / 9_000.0, "{attempts}");
    // A foreign middle that passes no marks on: budgets alone, at three hops.
    let (attempts, _) = leaf_calls(policy, false, 300, dead()).await;
    assert!(attempts <= 1.35, "{attempts}");
}

#[tokio::test(start_paused = true)]
async fn a_leaf_that_fails_now_and_then_is_hidden() {
    let one_in_50 = quick(|random| if random.is_multiple_of(50) { 500 } else { 200 });
    let (attempts, goodput) = leaf_calls(Policy::recommended(), true, 300, one_in_50).await;
    assert!(goodput >= 0.999, "{goodput}");
    assert!(attempts <= 1.03, "{attempts}");
}

/// Half as much again as it can do comes to a leaf that has a line of any length and knows no deadline.
#[tokio::test(start_paused = true)]
async fn a_leaf_with_too_much_to_do_goes_on_working_for_those_who_wait() {
    let (workers, takes) = (10, Duration::from_millis(20));
    let overloaded = |policy| {
        leaf_calls(policy, true, 750, |world: &Arc<SimWorld>| {
            let server = Server::new(world, workers, takes);
            Box::new(move |_| Box::pin(server.ask()))
        })
    };
    // 500 of 750 a second are what there is.
    let most = 500.0 / 750.0;
    let (attempts, goodput) = overloaded(Policy::recommended()).await;
    assert!(goodput >= 0.95 * most, "{goodput} of {most}");
    assert!(attempts <= 1.1, "{attempts}");
    let (_, plainly) =
        overloaded(Policy { timeout: Some(Duration::from_secs(1)), ..plain() }).await;
    assert!(plainly < 0.5 * most, "{plainly} of {most}");
}
