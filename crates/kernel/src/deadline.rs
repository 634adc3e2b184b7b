//! A request's time budget, as an instant on the local monotonic clock.
//!
//! Budgets travel between machines as *remaining durations*, never as instants, because wall clocks differ; inside one
//! process they are instants, because a duration goes stale the moment it is read.

use crate::{Mono, World};
use std::{future::Future, pin::pin, task::Poll, time::Duration};

/// The instant after which an answer is of no use to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Mono);

impl Deadline {
    /// `budget` from now.
    #[must_use]
    pub fn after(world: &dyn World, budget: Duration) -> Self {
        Self(world.mono().plus(budget))
    }

    /// The budget left at `now`; zero once the deadline has passed.
    #[must_use]
    pub fn remaining(self, now: Mono) -> Duration {
        self.0.since(now)
    }

    /// Whether the deadline has passed at `now`.
    #[must_use]
    pub fn expired(self, now: Mono) -> bool {
        now >= self.0
    }

    /// The earlier of two deadlines: a local policy can shorten an inherited budget, never lengthen it.
    #[must_use]
    pub fn earliest(self, other: Self) -> Self {
        self.min(other)
    }
}

/// The deadline passed before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed")]
pub struct Elapsed;

/// Runs `work` until it is done or `deadline` passes, whichever is first. Work that has not finished is dropped.
///
/// # Errors
/// [`Elapsed`] when the deadline passed first.
pub async fn within<F: Future>(
    world: &dyn World,
    deadline: Deadline,
    work: F,
) -> Result<F::Output, Elapsed> {
    let mut work = pin!(work);
    let mut timer = None;
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        // The timer is made only for work that was not ready at once: most reads never pay for it.
        let timer = timer.get_or_insert_with(|| world.sleep(deadline.remaining(world.mono())));
        timer.as_mut().poll(cx).map(|()| Err(Elapsed))
    })
    .await
}
