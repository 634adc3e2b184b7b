//! The layers of a whole policy and of a deadline around a service.

use super::{DeadlineLayer, PolicyLayer, Refusal};
use crate::{CallContext, Class, GaveUp, Idempotency, Policy, PolicyState};
use outrigger_kernel::{BoxFuture, Deadline, Elapsed, Mono, World};
use outrigger_sim::SimWorld;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tower_layer::Layer;
use tower_service::Service;

const SECOND: Duration = Duration::from_secs(1);

/// Answers what it is asked for, 500 the first `fails` times, after `takes`.
#[derive(Clone)]
struct Echo {
    world: Arc<SimWorld>,
    asked: Arc<AtomicU32>,
    fails: u32,
    takes: Duration,
}

#[derive(Debug, PartialEq, Eq)]
struct Late;

impl From<Elapsed> for Late {
    fn from(_: Elapsed) -> Self {
        Self
    }
}

impl Service<u16> for Echo {
    type Response = u16;
    type Error = Late;
    type Future = BoxFuture<'static, Result<u16, Late>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Late>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, status: u16) -> Self::Future {
        let failed = self.asked.fetch_add(1, Relaxed) < self.fails;
        let sleep = self.world.sleep(self.takes);
        Box::pin(async move {
            sleep.await;
            Ok(if failed { 500 } else { status })
        })
    }
}

fn echo(world: &Arc<SimWorld>, fails: u32, takes: Duration) -> Echo {
    Echo { world: world.clone(), asked: Arc::default(), fails, takes }
}

fn class(answer: &Result<u16, Late>) -> Class {
    match answer {
        Ok(200) => Class::Success,
        Ok(status) => Class::Http(*status),
        Err(_) => Class::Failure,
    }
}

fn within(idempotency: Idempotency) -> impl Fn(&u16, Mono) -> CallContext + Clone {
    move |_, now| CallContext::until(Deadline(now.plus(5 * SECOND))).idempotent(idempotency)
}

#[tokio::test(start_paused = true)]
async fn a_service_under_a_policy_is_asked_again_where_that_is_safe() {
    let world = SimWorld::new(1);
    for (idempotency, answer, asked) in
        [(Idempotency::Method, 200, 2), (Idempotency::Unknown, 500, 1)]
    {
        let policy = Policy::recommended();
        let state = PolicyState::new(&policy);
        let layer = PolicyLayer::new(world.clone(), policy, within(idempotency), class);
        let echo = echo(&world, 1, Duration::from_millis(1));
        let counter = echo.asked.clone();
        let mut service = layer.remembering(state).layer(echo);
        assert_eq!(service.call(200).await, Ok(answer));
        assert_eq!(counter.load(Relaxed), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_is_given_up_and_all_clones_know() {
    let world = SimWorld::new(1);
    let policy = Policy { retry: None, timeout: Some(SECOND), ..Policy::recommended() };
    let layer = PolicyLayer::new(world.clone(), policy, within(Idempotency::Method), class);
    let mut one = layer.layer(echo(&world, 0, 60 * SECOND));
    let mut two = layer.clone().layer(echo(&world, 0, 60 * SECOND));
    let mut ends = Vec::new();
    for _ in 0..10 {
        ends.push(one.call(200).await.unwrap_err());
        ends.push(two.call(200).await.unwrap_err());
    }
    assert_eq!(ends[0], Refusal::GaveUp(GaveUp::TimedOut { after: SECOND, attempts: 1 }));
    // The breaker they share has opened after five in a row.
    assert!(matches!(ends[19], Refusal::GaveUp(GaveUp::Open(_))), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_late_never_reaches_the_service() {
    let world = SimWorld::new(1);
    let until = Mono(0).plus(SECOND);
    let layer =
        DeadlineLayer::new(world.clone(), move |_: &u16, _| CallContext::until(Deadline(until)));
    let echo = echo(&world, 0, Duration::from_millis(700));
    let asked = echo.asked.clone();
    let mut service = layer.layer(echo);
    assert_eq!(service.call(200).await, Ok(200));
    assert_eq!(service.call(200).await, Err(Late));
    assert_eq!(world.mono(), until);
    assert_eq!(service.call(200).await, Err(Late));
    assert_eq!(asked.load(Relaxed), 2, "the third one was not made");
}
