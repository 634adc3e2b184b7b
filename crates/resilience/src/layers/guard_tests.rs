//! The layers around a service that can be told how to behave, in simulated time.

use super::{BreakerLayer, BulkheadLayer, Denied, RateLimitLayer, ThrottleLayer};
use crate::{
    Algorithm, Breaker, BreakerSettings, Bulkhead, BulkheadSettings, Decision, Ended, Entrant,
    KeyedRateLimiter, Open, Outcome, Phase, Quota, Rank, Refused, Seats, Throttle,
    ThrottleSettings, Throttled, Why,
};
use outrigger_kernel::{BoxFuture, Deadline, Mono, World, within};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};
use tower_layer::Layer;
use tower_service::Service;

/// A service that takes as many milliseconds as the request says and answers or fails with the status it says.
#[derive(Clone)]
struct Backend {
    world: Arc<dyn World>,
    calls: Arc<AtomicU32>,
}

#[derive(Clone, Copy)]
struct Ask {
    ms: u64,
    status: u16,
}

const GOOD: Ask = Ask { ms: 0, status: 200 };

impl Service<Ask> for Backend {
    type Response = u16;
    type Error = u16;
    type Future = BoxFuture<'static, Result<u16, u16>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), u16>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ask: Ask) -> Self::Future {
        self.calls.fetch_add(1, SeqCst);
        let world = self.world.clone();
        Box::pin(async move {
            if ask.ms > 0 {
                world.sleep(Duration::from_millis(ask.ms)).await;
            }
            if ask.status < 400 { Ok(ask.status) } else { Err(ask.status) }
        })
    }
}

fn backend() -> (Arc<dyn World>, Backend) {
    let world: Arc<dyn World> = outrigger_sim::SimWorld::new(5);
    (world.clone(), Backend { world, calls: Arc::default() })
}

fn outcome(answer: &Result<u16, u16>) -> Option<Outcome> {
    Some(if answer.is_ok() { Outcome::Success } else { Outcome::FAILURE })
}

#[tokio::test(start_paused = true)]
async fn a_breaker_opens_on_failures_and_on_calls_that_an_outer_timeout_cancels() {
    for hangs in [false, true] {
        let (world, backend) = backend();
        let breaker = Breaker::new(BreakerSettings::recommended());
        let layer = BreakerLayer::new(world.clone(), breaker.clone(), outcome);
        let mut service = layer.layer(backend.clone());
        assert_eq!(service.call(GOOD).await, Ok(200));
        let bad = if hangs { Ask { ms: 60_000, status: 200 } } else { Ask { ms: 0, status: 503 } };
        for _ in 0..5 {
            let until = Deadline::after(&*world, Duration::from_secs(2));
            let answer = within(&*world, until, service.call(bad)).await;
            assert_eq!(answer.is_err(), hangs);
        }
        assert_eq!(breaker.status(world.mono()).phase, Phase::Open);
        let before = backend.calls.load(SeqCst);
        let refused = service.call(GOOD).await;
        assert!(matches!(refused, Err(Denied::Refused(Open::Tripped { .. }))), "{refused:?}");
        assert_eq!(backend.calls.load(SeqCst), before, "the service never saw it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_queues_seats_and_refuses() {
    let (world, backend) = backend();
    let settings =
        BulkheadSettings { seats: Seats::Fixed(1), queue_max: 1, ..BulkheadSettings::default() };
    let bulkhead = Bulkhead::new(settings);
    let entrant = |_: &Ask| Entrant::default();
    let ended = |_: &Result<u16, u16>| Ended::Answered;
    let layer = BulkheadLayer::new(world.clone(), bulkhead.clone(), entrant, ended);
    let mut service = layer.layer(backend.clone());
    let slow = Ask { ms: 20, status: 200 };
    let (first, second, third) = (service.call(slow), service.call(slow), service.call(slow));
    let (first, second, third) = tokio::join!(first, second, third);
    assert_eq!((first, second), (Ok(200), Ok(200)));
    assert!(matches!(third, Err(Denied::Refused(Refused { why: Why::Full, .. }))));
    assert_eq!(backend.calls.load(SeqCst), 2);
    // One that waits in vain is told so when its time is up, and a dropped call frees its seat.
    let hanging = service.call(Ask { ms: 60_000, status: 200 });
    let waits = service.call(slow).await;
    assert!(matches!(waits, Err(Denied::Refused(Refused { why: Why::Waited, .. }))));
    drop(hanging);
    let status = bulkhead.status(world.mono());
    assert_eq!((status.seated, status.waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_refuses_with_what_the_headers_need() {
    let (world, backend) = backend();
    let quota = Quota::new(1, Duration::from_secs(10));
    let limiter = Arc::new(KeyedRateLimiter::new(Algorithm::Gcra, quota, 1_000, 1));
    let decide = move |ask: &Ask, now: Mono| -> Decision {
        limiter.decide(&[if ask.ms == 0 { "quick" } else { "slow" }], 1, now)
    };
    let mut service = RateLimitLayer::new(world.clone(), decide).layer(backend);
    assert_eq!(service.call(GOOD).await, Ok(200));
    let Err(Denied::Refused(decision)) = service.call(GOOD).await else { panic!("allowed") };
    assert_eq!(decision.retry_after_s(), Some(10));
    assert_eq!(service.call(Ask { ms: 1, status: 200 }).await, Ok(200), "another key");
}

#[tokio::test(start_paused = true)]
async fn a_throttle_holds_back_what_would_be_refused() {
    let (world, backend) = backend();
    let throttle = Arc::new(Throttle::new(ThrottleSettings::default()));
    let rank = |_: &Ask| Rank::default();
    let accepted = |answer: &Result<u16, u16>| Some(*answer != Err(503));
    let layer = ThrottleLayer::new(world.clone(), throttle, rank, accepted);
    let mut service = layer.layer(backend.clone());
    for _ in 0..1_000 {
        assert_ne!(service.call(Ask { ms: 0, status: 500 }).await, Ok(200));
    }
    assert_eq!(backend.calls.load(SeqCst), 1_000, "an error is an answer");
    let mut held_back = 0;
    for _ in 0..5_000 {
        let refused = service.call(Ask { ms: 0, status: 503 }).await;
        held_back += u32::from(refused == Err(Denied::Refused(Throttled::Overloaded)));
    }
    // The sum of (n - 1000) / (n + 1001) for n from 1000 to 5000.
    assert!((1_700..1_900).contains(&held_back), "{held_back}");
}
