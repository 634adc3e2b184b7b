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
//!
//! [`run`] is the short form of [`crate::Stack::call`], for one target and a caller of which nothing is known.

use crate::{CallContext, Open, Policy, PolicyState, Report, Stack};
use outrigger_kernel::{Deadline, Mono, World};
use std::{future::Future, time::Duration};

/// An attempt about to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which one, from 1.
    pub number: u32,
    /// When it is given up: the caller's deadline or the attempt's timeout, whichever is earlier.
    pub deadline: Deadline,
    /// Whether it is the second copy of one under way.
    pub hedge: bool,
    /// How long it may take by itself.
    pub limit: Duration,
}

impl Default for Attempt {
    fn default() -> Self {
        let deadline = Deadline(Mono(u64::MAX));
        Self { number: 1, deadline, hedge: false, limit: Duration::MAX }
    }
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
    /// The caller's deadline passed, or what is left of it is not worth an attempt.
    #[error("the deadline passed (attempts: {attempts})")]
    DeadlinePassed {
        /// How many attempts were made; with 0, nothing was tried.
        attempts: u32,
    },
    /// There was no place for it.
    #[error("not admitted: {reason}")]
    NotAdmitted {
        /// Why; a word of [`crate::reason`].
        reason: &'static str,
        /// When to come back, if that is known.
        retry_after: Option<Duration>,
    },
}

/// Runs `op` under `policy`: retry( breaker( timeout( op ))), all of it before `deadline`.
///
/// `state` is what is remembered about the target; `class` says what an outcome means. The last outcome is handed back
/// whatever its class: an answer is an answer.
///
/// # Errors
/// [`GaveUp`] when there is no outcome: not admitted, or out of time.
pub async fn run<O, V, C, F, Fut>(
    world: &dyn World,
    policy: &Policy,
    state: &PolicyState,
    deadline: Deadline,
    class: C,
    mut op: F,
) -> Result<O, GaveUp>
where
    V: Into<Report>,
    C: Fn(&O) -> V,
    F: FnMut(Attempt) -> Fut,
    Fut: Future<Output = O>,
{
    let stack = Stack::new(world, policy, state);
    let context = CallContext::until(deadline);
    stack.call(context, &(), class, |attempt, ()| op(attempt)).await.result
}

#[cfg(test)]
mod plain;
#[cfg(test)]
mod tests;
