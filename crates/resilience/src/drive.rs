//! The driver: puts the machines around a call and does the waiting for them.
//!
//! One attempt is: ask the breaker, run the call under the attempt's timeout, tell the breaker how it ended. What decides
//! between two attempts:
//!
//! 1. the retry policy says no, or there is none: the last outcome is handed back as it is;
//! 2. the wait would end at or past the deadline: handed back, at once, instead of waiting for nothing;
//! 3. the breaker would refuse the next attempt: handed back;
//! 4. otherwise the outcome is dropped (a connection is not kept while waiting), and the next attempt begins.
//!
//! An attempt whose future is dropped half-way, because its caller went away or ran out of time, is recorded as a
//! failure: of a target that hangs, nothing else is ever heard.

use crate::{BreakerWatch, Class, Open, Part, Permit, Policy, PolicyState, watch};
use outrigger_kernel::{Deadline, World, within};
use std::{future::Future, time::Duration};

/// The shortest wait between two attempts. A policy without a delay must not turn into a busy loop.
pub const RETRY_DELAY_MIN: Duration = Duration::from_millis(1);

/// An attempt about to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which one, from 1.
    pub number: u32,
    /// When it is given up: the caller's deadline or the attempt's timeout, whichever is earlier.
    pub deadline: Deadline,
}

/// There is no outcome to hand back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GaveUp {
    /// The breaker did not admit the attempt.
    #[error(transparent)]
    Open(#[from] Open),
    /// The last attempt was not done within the policy's timeout.
    #[error("not done within {after:?} (attempts: {attempts})")]
    TimedOut {
        /// The timeout.
        after: Duration,
        /// How many attempts were made.
        attempts: u32,
    },
    /// The caller's deadline passed.
    #[error("the deadline passed (attempts: {attempts})")]
    DeadlinePassed {
        /// How many attempts were made; with 0, nothing was tried.
        attempts: u32,
    },
}

/// Runs `op` under `policy`: retry( breaker( timeout( op ))), all of it before `deadline`.
///
/// `state` is what is remembered about the target; `class` says what an outcome means. The last outcome is handed back
/// whatever its class: an answer is an answer.
///
/// # Errors
/// [`GaveUp`] when there is no outcome: not admitted, or out of time.
pub async fn run<O, C, F, Fut>(
    world: &dyn World,
    policy: &Policy,
    state: &PolicyState,
    deadline: Deadline,
    class: C,
    mut op: F,
) -> Result<O, GaveUp>
where
    C: Fn(&O) -> Class,
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = O>,
{
    let mut number = 1_u32;
    let watch = state.watch();
    watch::begin(watch, policy);
    loop {
        let attempt = begin(world, policy, deadline, number)?;
        let watched = watch.map(|watch| &**watch);
        let breaker = BreakerWatch::begin(watched, state.breaker(), world.mono());
        let running = Running::admitted(world, state)?;
        let ended = within(world, attempt.deadline, op(attempt)).await;
        let class = ended.as_ref().map_or(Class::Failure, &class);
        running.settle(verdict(policy, class));
        if let Some(watch) = watch {
            if ended.is_err() && attempt.deadline < deadline {
                watch.activated(Part::Timeout);
            }
            breaker.end(world.mono());
        }
        let Some(wait) = wait_before_next(world, policy, state, deadline, number, class) else {
            return ended.map_err(|_| out_of_time(policy, attempt, deadline));
        };
        drop(ended);
        if let Some(watch) = watch {
            watch.activated(Part::Retry);
        }
        world.sleep(wait).await;
        number = number.saturating_add(1);
    }
}

fn begin(
    world: &dyn World,
    policy: &Policy,
    deadline: Deadline,
    number: u32,
) -> Result<Attempt, GaveUp> {
    let now = world.mono();
    if deadline.expired(now) {
        return Err(GaveUp::DeadlinePassed { attempts: number - 1 });
    }
    let limit = timeout(policy).map_or(deadline, |t| deadline.earliest(Deadline(now.plus(t))));
    Ok(Attempt { number, deadline: limit })
}

/// What the breaker is told; `None` for nothing.
fn verdict(policy: &Policy, class: Class) -> Option<bool> {
    match class {
        Class::Success => Some(true),
        Class::Failure | Class::Permanent => Some(false),
        // A status that the user does not count among the failures is an answer like any other.
        Class::Http(_) | Class::Grpc(_) => {
            Some(policy.retry.as_ref().is_some_and(|retry| !retry.matching.has(class)))
        }
        Class::Ignored => None,
    }
}

fn wait_before_next(
    world: &dyn World,
    policy: &Policy,
    state: &PolicyState,
    deadline: Deadline,
    number: u32,
    class: Class,
) -> Option<Duration> {
    let retry = policy.retry.as_ref()?;
    let wait = retry.next(number, class, world.random())?.max(RETRY_DELAY_MIN);
    let now = world.mono();
    let in_time = deadline.remaining(now) > wait;
    let admitted = state.breaker().is_none_or(|breaker| breaker.peek(now.plus(wait)).is_ok());
    (in_time && admitted).then_some(wait)
}

fn out_of_time(policy: &Policy, attempt: Attempt, deadline: Deadline) -> GaveUp {
    match timeout(policy) {
        Some(after) if attempt.deadline < deadline => {
            GaveUp::TimedOut { after, attempts: attempt.number }
        }
        _ => GaveUp::DeadlinePassed { attempts: attempt.number },
    }
}

fn timeout(policy: &Policy) -> Option<Duration> {
    policy.timeout.filter(|timeout| !timeout.is_zero())
}

/// An admitted attempt. Dropped without a verdict, it was cancelled, which is recorded as a failure.
struct Running<'a> {
    world: &'a dyn World,
    permit: Option<Permit>,
}

impl<'a> Running<'a> {
    fn admitted(world: &'a dyn World, state: &PolicyState) -> Result<Self, Open> {
        let permit = state.breaker().map(|breaker| breaker.admit(world.mono())).transpose()?;
        Ok(Self { world, permit })
    }

    fn settle(mut self, verdict: Option<bool>) {
        // Taken either way: a permit dropped here, with no verdict, is given back.
        let permit = self.permit.take();
        if let (Some(permit), Some(ok)) = (permit, verdict) {
            permit.record(ok, self.world.mono());
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            permit.record(false, self.world.mono());
        }
    }
}

#[cfg(test)]
mod tests;
