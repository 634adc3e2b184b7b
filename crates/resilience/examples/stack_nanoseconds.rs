//! What a call pays for its policy when its first attempt is answered at once, in nanoseconds.
//!
//! ```text
//! cargo run --release -p outrigger-resilience --example stack_nanoseconds [part of a name]
//! ```
//!
//! Measured as `measure/` says. The clock is the one of the operating system unless
//! a case says "time given".

mod measure;

use measure::{Bench, instant};
use outrigger_kernel::{BoxFuture, Deadline, Mono, TaskHandle, Wall, World};
use outrigger_resilience::{
    AdaptiveTimeout, BalanceSettings, Balanced, Balancer, BreakerSettings, Budget, BudgetSettings,
    CallContext, Class, Endpoint, GrpcTimeout, HedgeSettings, Idempotency, Incoming, Percentiles,
    Policy, PolicyState, Quota, Retry, Stack, parse_grpc_timeout, run,
};
use std::{
    future::{Future, ready},
    hint::black_box,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// A world that is read and never waited for.
struct Clock {
    started: Instant,
    /// In place of the clock, if above 0: the time so far, which goes on by a microsecond a reading.
    given: AtomicU64,
    drawn: AtomicU64,
}

impl World for Clock {
    fn wall(&self) -> Wall {
        Wall(0)
    }

    fn mono(&self) -> Mono {
        let given = self.given.load(Relaxed);
        if given > 0 {
            self.given.store(given + 1_000, Relaxed);
            return Mono(given);
        }
        Mono(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn random(&self) -> u64 {
        let drawn = self.drawn.load(Relaxed).wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.drawn.store(drawn, Relaxed);
        (drawn ^ (drawn >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9)
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn spawn(&self, _: &'static str, _: BoxFuture<'static, ()>) -> TaskHandle {
        TaskHandle::new(|| {})
    }
}

/// Polls what is ready at once.
fn once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("all that is called here answers at once"),
    }
}

fn class(_: &u16) -> Class {
    Class::Success
}

fn policies() -> [(&'static str, Policy); 6] {
    let recommended = Policy::recommended();
    [
        ("no policy", Policy::default()),
        ("retry", Policy { retry: Some(Retry::default()), ..Policy::default() }),
        (
            "timeout, retry, breaker (as in the resource format)",
            Policy {
                timeout: Some(Duration::from_secs(1)),
                retry: Some(Retry::default()),
                breaker: Some(BreakerSettings::default()),
                ..Policy::default()
            },
        ),
        (
            "hedge and budget",
            Policy {
                hedge: Some(HedgeSettings::default()),
                budget: Some(BudgetSettings::default()),
                ..Policy::default()
            },
        ),
        ("recommended", recommended.clone()),
        (
            "recommended, rate limit, hedge, adaptive timeout",
            Policy {
                rate: Some(Quota::new(1_000_000_000, Duration::from_secs(1))),
                hedge: Some(HedgeSettings::default()),
                adaptive: Some(AdaptiveTimeout::default()),
                ..recommended
            },
        ),
    ]
}

fn main() {
    let bench = Bench::new();
    let clock = Clock { started: instant(), given: AtomicU64::new(0), drawn: AtomicU64::new(1) };
    let world: &dyn World = &clock;
    let far = Deadline(Mono(u64::MAX / 2));
    let context = CallContext::until(far).idempotent(Idempotency::Method);

    for given in [0, 1 << 40] {
        let how = if given > 0 { "time given" } else { "own clock" };
        for (name, policy) in policies() {
            clock.given.store(given, Relaxed);
            let state = PolicyState::new(&policy);
            let stack = Stack::new(world, &policy, &state);
            bench.case(&format!("stack: {name}, {how}"), |_| {
                let called = once(stack.call(context, &(), class, |_, ()| ready(200_u16)));
                black_box(called.result.is_ok());
            });
        }
    }
    clock.given.store(0, Relaxed);
    let policy = Policy::recommended();
    let state = PolicyState::new(&policy);
    bench.case("run: recommended, own clock", |_| {
        let _ = black_box(once(run(world, &policy, &state, far, class, |_| ready(200_u16))));
    });
    let balancer = Balancer::new(BalanceSettings::default());
    balancer.update((0..10).map(|at| Endpoint::new(format!("e{at}"), ())), world.mono());
    let stack = Stack::new(world, &policy, &state);
    bench.case("stack: recommended, 10 endpoints, own clock", |_| {
        let target = Balanced { balancer: &balancer, key: None };
        let called = once(stack.call(context, &target, class, |_, _| ready(200_u16)));
        black_box(called.result.is_ok());
    });
    parts(&bench, world);
}

fn parts(bench: &Bench, world: &dyn World) {
    bench.case("clock: one reading", |_| {
        black_box(world.mono());
    });
    let budget = Budget::new(BudgetSettings::default());
    bench.case("budget: pay in, time given", |_| budget.deposit(black_box(Mono(1))));
    bench.case("budget: call begins and ends, time given", |_| {
        drop(black_box(budget.begin(black_box(Mono(1)))));
    });
    let seen = Percentiles::new(Duration::from_secs(30), 6);
    bench.case("percentiles: record, time given", |n| {
        seen.record(Duration::from_nanos(n << 10), black_box(Mono(1)));
    });
    bench.case("percentiles: ask, time given", |_| {
        black_box(seen.percentile(black_box(0.95), Mono(1)));
    });
    bench.case("context: grpc-timeout read and printed", |n| {
        let left = parse_grpc_timeout(black_box("1500m")).unwrap_or_default();
        black_box(GrpcTimeout::new(left + Duration::from_millis(n & 1)));
    });
    let headers = [("grpc-timeout", "1500m"), ("outrigger-criticality", "sheddable")];
    let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, v)| *v);
    let incoming = Incoming { method: "GET", limit: Duration::from_secs(10), trusted: true };
    bench.case("context: read from two headers", |_| {
        black_box(CallContext::read(black_box(&incoming), header, Mono(1)));
    });
}
