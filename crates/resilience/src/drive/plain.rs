//! The driver as it would be if a policy had no more than a timeout, a retry and a breaker: a loop. What [`crate::Stack`]
//! makes of such a policy must be the same, to the instant and to the word.

use super::tests::Notes;
use crate::{
    Backoff, BreakerSettings, BreakerWatch, Class, GaveUp, Matching, Part, Phase, Policy,
    PolicyState, RETRY_DELAY_MIN, Retry, Trip, Watch, run,
};
use outrigger_kernel::{Deadline, Mono, World, within};
use outrigger_sim::SimWorld;
use proptest::prelude::*;
use std::{cell::RefCell, future::Future, sync::Arc, time::Duration};

const MS: Duration = Duration::from_millis(1);

async fn plainly<Fut: Future<Output = u16>>(
    world: &dyn World,
    policy: &Policy,
    state: &PolicyState,
    (deadline, watch): (Deadline, &Notes),
    mut op: impl FnMut(u32) -> Fut,
) -> Result<u16, GaveUp> {
    if policy.timeout.is_some() {
        watch.applied(Part::Timeout);
    }
    if policy.retry.is_some() {
        watch.applied(Part::Retry);
    }
    for number in 1.. {
        let now = world.mono();
        if deadline.expired(now) {
            return Err(GaveUp::DeadlinePassed { attempts: number - 1 });
        }
        let own = policy.timeout.map(|timeout| Deadline(now.plus(timeout)));
        let until = own.map_or(deadline, |own| deadline.earliest(own));
        let watched = BreakerWatch::begin(Some(watch), state.breaker(), now);
        let permit = state.breaker().map(|breaker| breaker.admit(now)).transpose()?;
        let ended = within(world, until, op(number)).await;
        let class = ended.as_ref().map_or(Class::Failure, |status| http(*status));
        if let Some(permit) = permit {
            let matching = policy.retry.as_ref().map(|retry| &retry.matching);
            let failed = match class {
                Class::Success => false,
                Class::Http(_) => matching.is_none_or(|matching| matching.has(class)),
                _ => true,
            };
            permit.record(!failed, world.mono());
        }
        if ended.is_err() && until < deadline {
            watch.activated(Part::Timeout);
        }
        watched.end(world.mono());
        let retry = policy.retry.as_ref();
        let wait = retry.and_then(|retry| retry.next(number, class, world.random()));
        let wait = wait.map(|wait| wait.max(RETRY_DELAY_MIN)).filter(|wait| {
            let now = world.mono();
            deadline.remaining(now) > *wait
                && state.breaker().is_none_or(|breaker| breaker.peek(now.plus(*wait)).is_ok())
        });
        let Some(wait) = wait else {
            return ended.map_err(|_| match policy.timeout {
                Some(after) if until < deadline => GaveUp::TimedOut { after, attempts: number },
                _ => GaveUp::DeadlinePassed { attempts: number },
            });
        };
        watch.activated(Part::Retry);
        world.sleep(wait).await;
    }
    unreachable!("there are not that many attempts")
}

fn http(status: u16) -> Class {
    if status < 400 { Class::Success } else { Class::Http(status) }
}

/// Everything that can be seen of some calls made one after the other.
#[derive(Debug, PartialEq)]
struct Seen {
    results: Vec<Result<u16, GaveUp>>,
    starts: Vec<Mono>,
    ends: Vec<Mono>,
    told: Vec<(bool, Part)>,
    phase: Option<Phase>,
}

fn seen(policy: &Policy, script: &[(u64, u16)], budget: Duration, stacked: bool) -> Seen {
    let builder = &mut tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = SimWorld::new(3);
        let notes = Arc::<Notes>::default();
        let state = PolicyState::new(policy).watched_by(notes.clone());
        let (starts, mut results, mut ends) = (RefCell::new(Vec::new()), Vec::new(), Vec::new());
        for _ in 0..4 {
            let op = |_: u32| {
                let made = starts.borrow().len();
                starts.borrow_mut().push(world.mono());
                let (takes, answer) = script[made % script.len()];
                let sleep = world.sleep(Duration::from_millis(takes));
                async move {
                    if takes > 0 {
                        sleep.await;
                    }
                    answer
                }
            };
            let deadline = Deadline::after(&*world, budget);
            let result = if stacked {
                let class = |status: &u16| http(*status);
                run(&*world, policy, &state, deadline, class, |attempt| op(attempt.number)).await
            } else {
                plainly(&*world, policy, &state, (deadline, &notes), op).await
            };
            results.push(result);
            ends.push(world.mono());
            world.sleep(300 * MS).await;
        }
        let phase = state.breaker().map(|breaker| breaker.status(world.mono()).phase);
        let told = std::mem::take(&mut *notes.0.lock().unwrap());
        Seen { results, starts: starts.into_inner(), ends, told, phase }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_policy_of_the_resource_format_means_what_it_always_meant(
        script in proptest::collection::vec((0_u64..300, prop_oneof![Just(200_u16), Just(503), Just(429), Just(404)]), 1..9),
        budget_ms in 1_u32..1_500,
        timeout_ms in proptest::option::of(1_u32..250),
        retry in proptest::option::of((proptest::option::of(0_u32..4), 0_u32..200, any::<bool>(), any::<bool>())),
        failures in proptest::option::of(0_u64..4),
    ) {
        let retry = retry.map(|(max_retries, ms, exponential, all)| Retry {
            backoff: if exponential {
                Backoff::Exponential { initial: ms * MS, max: 200 * MS, factor: 1.5, randomization: 0.0 }
            } else {
                Backoff::Constant { delay: ms * MS }
            },
            max_retries,
            matching: Matching::parse(if all { "" } else { "429,500-599" }, "").unwrap(),
        });
        let breaker = failures.map(|most| BreakerSettings {
            trip: Trip::ConsecutiveFailures(most),
            timeout: 500 * MS,
            ..BreakerSettings::default()
        });
        let policy =
            Policy { timeout: timeout_ms.map(|ms| ms * MS), retry, breaker, ..Policy::default() };
        let [stacked, plain] = [true, false].map(|stacked| seen(&policy, &script, budget_ms * MS, stacked));
        prop_assert_eq!(stacked, plain);
    }
}
