//! The cases: each policy of ours as a layer, the same as tower-resilience and tower have it, and limits beside governor.
//!
//! Where a group has a case "in the stack", that is what the policy adds there, where the clock is read twice for all parts
//! together; the layers read it for themselves, as those of the others do.

use governor::{DefaultDirectRateLimiter, RateLimiter as Governor, clock::MonotonicClock};
use outrigger_kernel::{Deadline, Mono, World};
use outrigger_resilience::{
    Algorithm, BalanceSettings, Balanced, Balancer, Breaker, BreakerSettings, BudgetSettings,
    Bulkhead, BulkheadSettings, CallContext, Class, Ended, Endpoint, Entrant, FlightSettings,
    Flights, HedgeSettings, Idempotency, KeyedRateLimiter, Outcome, Policy, PolicyState, Quota,
    RateLimiter, Retry, Seats, Stack, Verdict,
    cache::{Store, StoreBounds},
    layers::{Balance, BreakerLayer, BulkheadLayer, FlightLayer, PolicyLayer, RateLimitLayer},
};
use std::{
    fmt,
    future::{Future, Ready, ready},
    hint::black_box,
    num::NonZeroU32,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tower::{Layer, Service, ServiceBuilder};
use tower_resilience::{
    adaptive::{AdaptiveLimiterLayer, Aimd},
    bulkhead::BulkheadLayer as TheirBulkhead,
    cache::CacheLayer,
    circuitbreaker::CircuitBreakerLayer,
    coalesce::CoalesceLayer,
    hedge::HedgeLayer,
    outlier::{OutlierDetectionLayer, OutlierDetector},
    ratelimiter::RateLimiterLayer,
    retry::{RetryBudgetBuilder, RetryLayer},
    timelimiter::TimeLimiterLayer,
};

type ByInstant = governor::middleware::NoOpMiddleware<std::time::Instant>;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) group: &'static str,
    pub(crate) who: &'static str,
    pub(crate) ours: bool,
}

/// Who measures.
pub(crate) trait Runner {
    fn case(&mut self, case: Case, work: Box<dyn FnMut(u64) + '_>);
}

const SECOND: Duration = Duration::from_secs(1);
const MILLION: u32 = 1_000_000;

#[derive(Clone, Debug)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

/// Answers at once.
#[derive(Clone)]
struct Prompt;

impl Service<u64> for Prompt {
    type Response = u16;
    type Error = Broken;
    type Future = Ready<Result<u16, Broken>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        black_box(request);
        ready(Ok(200))
    }
}

/// Polls what answers at once, or after being polled again.
fn finish<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    for _ in 0..100 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
    unreachable!("all that is called here answers at once")
}

fn call<S: Service<u64, Response = u16>>(service: &mut S, request: u64) {
    let ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(ready, Poll::Ready(Ok(()))), "not ready");
    assert!(matches!(finish(service.call(request)), Ok(200)), "not answered");
}

struct Bench<'a> {
    runner: &'a mut dyn Runner,
    world: Arc<dyn World>,
    group: &'static str,
}

impl Bench<'_> {
    fn ours(&mut self, who: &'static str, work: impl FnMut(u64)) {
        self.runner.case(Case { group: self.group, who, ours: true }, Box::new(work));
    }

    fn theirs(&mut self, who: &'static str, work: impl FnMut(u64)) {
        self.runner.case(Case { group: self.group, who, ours: false }, Box::new(work));
    }

    fn our_layer<S: Service<u64, Response = u16>>(&mut self, who: &'static str, mut service: S) {
        self.ours(who, |n| call(&mut service, n));
    }

    fn their_layer<S: Service<u64, Response = u16>>(&mut self, who: &'static str, mut service: S) {
        self.theirs(who, |n| call(&mut service, n));
    }

    /// A policy in the stack, as the runtime calls it.
    fn stack(&mut self, who: &'static str, policy: &Policy) {
        let (state, world) = (PolicyState::new(policy), Arc::clone(&self.world));
        let stack = Stack::new(&*world, policy, &state);
        let context = CallContext::until(far()).idempotent(Idempotency::Method);
        self.ours(who, |n| {
            let attempt = |_, (): &()| {
                black_box(n);
                ready(200_u16)
            };
            assert!(matches!(finish(stack.call(context, &(), class, attempt)).result, Ok(200)));
        });
    }

    /// The same as a layer, which has to box its future.
    fn policy_layer(&mut self, who: &'static str, policy: Policy) {
        let context = |_: &u64, _| CallContext::until(far()).idempotent(Idempotency::Method);
        let class = |_: &Result<u16, Broken>| Class::Success;
        let world = Arc::clone(&self.world);
        self.our_layer(who, PolicyLayer::new(world, policy, context, class).layer(Prompt));
    }
}

fn far() -> Deadline {
    Deadline(Mono(u64::MAX / 2))
}

fn class(_: &u16) -> Class {
    Class::Success
}

fn quota(per_second: u32) -> NonZeroU32 {
    NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN)
}

/// Runs all cases.
pub(crate) fn all(runner: &mut dyn Runner, world: &Arc<dyn World>) {
    let mut bench = Bench { runner, world: Arc::clone(world), group: "" };
    nothing(&mut bench);
    timeouts(&mut bench);
    retries(&mut bench);
    breakers(&mut bench);
    limits(&mut bench);
    bulkheads(&mut bench);
    hedges(&mut bench);
    sharing(&mut bench);
    balancing(&mut bench);
    stacks(&mut bench);
}

fn nothing(bench: &mut Bench<'_>) {
    bench.group = "nothing";
    bench.stack("the stack without a policy", &Policy::default());
    let world = Arc::clone(&bench.world);
    bench.theirs("one reading of the clock", |_| {
        black_box(world.mono());
    });
}

fn timeouts(bench: &mut Bench<'_>) {
    bench.group = "timeout";
    bench.stack("in the stack", &Policy { timeout: Some(SECOND), ..Policy::default() });
    let their = TimeLimiterLayer::builder().timeout_duration(SECOND).cancel_running_future(true);
    bench.their_layer("tower-resilience", their.build().layer(Prompt));
    let their = tower::timeout::TimeoutLayer::new(SECOND);
    bench.their_layer("tower", their.layer(Prompt));
}

fn retries(bench: &mut Bench<'_>) {
    bench.group = "retry";
    let retry = Policy { retry: Some(Retry::default()), ..Policy::default() };
    bench.stack("in the stack", &retry);
    let their = RetryLayer::<u64, u16, Broken>::builder().max_attempts(3);
    bench.their_layer("tower-resilience", their.build().layer(Prompt));
    bench.group = "retry with a budget";
    bench.stack("in the stack", &Policy { budget: Some(BudgetSettings::default()), ..retry });
    let budget = RetryBudgetBuilder::new().token_bucket().build().expect("a budget");
    let their = RetryLayer::<u64, u16, Broken>::builder().max_attempts(3).budget(budget);
    bench.their_layer("tower-resilience", their.build().layer(Prompt));
}

fn breakers(bench: &mut Bench<'_>) {
    let world = Arc::clone(&bench.world);
    let outcome = |answer: &Result<u16, Broken>| {
        Some(if answer.is_ok() { Outcome::Success } else { Outcome::FAILURE })
    };
    bench.group = "breaker";
    let breaker = Breaker::new(BreakerSettings::recommended());
    bench.our_layer("layer", BreakerLayer::new(world, breaker, outcome).layer(Prompt));
    bench.stack(
        "in the stack",
        &Policy { breaker: Some(BreakerSettings::recommended()), ..Policy::default() },
    );
    let their = CircuitBreakerLayer::builder().failure_rate_threshold(0.5).sliding_window_size(100);
    bench.their_layer("tower-resilience", their.build().expect("a breaker").layer(Prompt));
}

fn limits(bench: &mut Bench<'_>) {
    let free = Quota::new(MILLION, SECOND).with_burst(u32::MAX);
    let (clock, world) = (Arc::clone(&bench.world), Arc::clone(&bench.world));
    bench.group = "rate limit";
    let limiter = RateLimiter::new(Algorithm::Gcra, free);
    let decide = |_: &u64, now| limiter.decide(1, now);
    bench.our_layer("layer", RateLimitLayer::new(world, decide).layer(Prompt));
    let their = RateLimiterLayer::builder().limit_for_period(1 << 40).refresh_period(SECOND);
    bench.their_layer("tower-resilience", their.build().expect("a limit").layer(Prompt));

    let direct = governor::Quota::per_second(quota(MILLION)).allow_burst(quota(u32::MAX));
    bench.group = "rate limit, the decision, clock of the standard library";
    let limiter = RateLimiter::new(Algorithm::Gcra, free);
    bench.ours("decide", |_| {
        black_box(limiter.decide(1, clock.mono()).allowed);
    });
    let their: Governor<_, _, _, ByInstant> = Governor::direct_with_clock(direct, MonotonicClock);
    bench.theirs("governor", |_| {
        black_box(their.check().is_ok());
    });
    bench.group = "rate limit, the decision, as a stack asks: time given";
    bench.ours("decide", |n| {
        black_box(limiter.decide(1, Mono((1 << 50) + n * 1_000)).allowed);
    });
    let their: DefaultDirectRateLimiter = Governor::direct(direct);
    bench.theirs("governor, own clock (the processor's counter)", |_| {
        black_box(their.check().is_ok());
    });

    let names: Vec<String> = (0..1_000).map(|key| format!("caller-{key:09}")).collect();
    let name = |n: u64| {
        let key = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000;
        names[usize::try_from(key).unwrap_or_default()].as_str()
    };
    bench.group = "rate limit, one of 1,000 keys, clock of the standard library";
    let keyed = KeyedRateLimiter::new(Algorithm::Gcra, free, 1_000, 1);
    bench.ours("decide", |n| {
        black_box(keyed.decide(&[name(n)], 1, clock.mono()).allowed);
    });
    let store = governor::state::keyed::DashMapStateStore::<String>::default();
    let their: Governor<_, _, _, ByInstant> = Governor::new(direct, store, MonotonicClock);
    names.iter().for_each(|name| assert!(their.check_key(name).is_ok()));
    let by_name = |n: u64| {
        let key = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000;
        &names[usize::try_from(key).unwrap_or_default()]
    };
    bench.theirs("governor", |n| {
        black_box(their.check_key(by_name(n)).is_ok());
    });
}

fn bulkheads(bench: &mut Bench<'_>) {
    let world = Arc::clone(&bench.world);
    let fixed = BulkheadSettings { seats: Seats::Fixed(100), ..BulkheadSettings::default() };
    let entrant = |_: &u64| Entrant::default();
    let ended = |_: &Result<u16, Broken>| Ended::Answered;
    bench.group = "bulkhead";
    let layer = BulkheadLayer::new(Arc::clone(&world), Bulkhead::new(fixed), entrant, ended);
    bench.our_layer("layer", layer.layer(Prompt));
    bench.stack("in the stack", &Policy { bulkhead: Some(fixed), ..Policy::default() });
    let their = TheirBulkhead::builder().max_concurrent_calls(100);
    bench.their_layer("tower-resilience", their.build().expect("a bulkhead").layer(Prompt));
    bench.group = "adaptive limit";
    let adaptive = Bulkhead::new(BulkheadSettings::default());
    let layer = BulkheadLayer::new(world, adaptive, entrant, ended);
    bench.our_layer("layer", layer.layer(Prompt));
    let aimd = Aimd::builder()
        .initial_limit(100)
        .min_limit(10)
        .max_limit(1_000)
        .latency_threshold(SECOND)
        .build()
        .expect("a limit");
    bench.their_layer("tower-resilience", AdaptiveLimiterLayer::new(aimd).layer(Prompt));
}

fn hedges(bench: &mut Bench<'_>) {
    bench.group = "hedge";
    let hedge = Some(HedgeSettings::default());
    let budget = Some(BudgetSettings::default());
    bench.stack("in the stack, with its budget", &Policy { hedge, budget, ..Policy::default() });
    let their = HedgeLayer::builder().delay(SECOND).max_hedged_attempts(2).build();
    bench.their_layer("tower-resilience", their.layer(Prompt));
}

fn sharing(bench: &mut Bench<'_>) {
    let world = Arc::clone(&bench.world);
    bench.group = "coalescing, nobody else asks";
    let flights: Flights<u64, Result<u16, Broken>> = Flights::new(FlightSettings::default());
    let layer = FlightLayer::new(world, flights, |request: &u64| Some(*request & 1_023));
    bench.our_layer("layer", layer.layer(Prompt));
    let their = CoalesceLayer::new(|request: &u64| *request & 1_023);
    bench.their_layer("tower-resilience", their.layer(Prompt));

    bench.group = "cache hit";
    let store: Store<u64, u16> = Store::new(StoreBounds::default());
    (0..1_000).for_each(|key| assert!(store.put(key, 200, 100)));
    bench.ours("store", |n| {
        assert!(black_box(store.get(&(n % 1_000))).is_some());
    });
    let cache = CacheLayer::builder()
        .max_size(2_000)
        .ttl(Duration::from_secs(3_600))
        .key_extractor(|request: &u64| *request % 1_000)
        .build()
        .expect("a cache");
    bench.their_layer("tower-resilience", cache.layer(Prompt));
}

fn balancing(bench: &mut Bench<'_>) {
    let world = Arc::clone(&bench.world);
    bench.group = "one of ten endpoints, with outlier detection";
    let balancer = Balancer::new(BalanceSettings::default());
    balancer.update((0..10).map(|at| Endpoint::new(format!("e{at}"), Prompt)), world.mono());
    let verdict = |answer: &Result<u16, Broken>| {
        Some(if answer.is_ok() { Verdict::Success } else { Verdict::Failure })
    };
    bench.our_layer("layer", Balance::new(world, balancer, |_: &u64| None, verdict));
    let detector = OutlierDetector::new();
    detector.register("e0", 5);
    let their = OutlierDetectionLayer::builder().detector(detector).instance_name("e0");
    let their = their.build().expect("a detector");
    bench.their_layer("tower-resilience, the detection alone", their.layer(Prompt));
    bench.their_layer("tower, the choice alone", tower_balance());
}

fn tower_balance() -> impl Service<u64, Response = u16> {
    use tower::{
        balance::p2c::Balance,
        discover::ServiceList,
        load::{CompleteOnResponse, PeakEwma},
    };
    let load = || PeakEwma::new(Prompt, SECOND / 10, 1e6, CompleteOnResponse::default());
    Balance::<_, u64>::new(ServiceList::new((0..10).map(move |_| load())))
}

fn stacks(bench: &mut Bench<'_>) {
    let world = Arc::clone(&bench.world);
    bench.group = "timeout, bulkhead, breaker";
    let three = Policy {
        timeout: Some(SECOND),
        bulkhead: Some(BulkheadSettings {
            seats: Seats::Fixed(100),
            ..BulkheadSettings::default()
        }),
        breaker: Some(BreakerSettings::recommended()),
        ..Policy::default()
    };
    bench.stack("stack", &three);
    bench.policy_layer("layer", three);
    let limiter = TimeLimiterLayer::builder().timeout_duration(SECOND).cancel_running_future(true);
    let bulkhead = TheirBulkhead::builder().max_concurrent_calls(100).build().expect("a bulkhead");
    let breaker = CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .sliding_window_size(100)
        .build()
        .expect("a breaker");
    let their =
        ServiceBuilder::new().layer(limiter.build()).layer(bulkhead).layer(breaker).service(Prompt);
    bench.their_layer("tower-resilience", their);

    bench.group = "the full default stack";
    let recommended = Policy::recommended();
    bench.stack("stack", &recommended);
    let state = PolicyState::new(&recommended);
    let stack = Stack::new(&*world, &recommended, &state);
    let balancer = Balancer::new(BalanceSettings::default());
    balancer.update((0..10).map(|at| Endpoint::new(format!("e{at}"), ())), world.mono());
    let context = CallContext::until(far()).idempotent(Idempotency::Method);
    bench.ours("stack, one of ten endpoints", |_| {
        let target = Balanced { balancer: &balancer, key: None };
        let called = finish(stack.call(context, &target, class, |_, _| ready(200_u16)));
        assert!(matches!(called.result, Ok(200)));
    });
    bench.policy_layer("layer", recommended);
}
