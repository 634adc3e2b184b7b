//! Noticing that nothing happens any more, without a timer per byte.
//!
//! There is one timer per wait, made only when there is something to wait for, and moved only when it fires: it then
//! looks whether anything moved in between and, if so, sleeps again for the rest.

use crate::Patience;
use outrigger_kernel::{BoxFuture, Deadline, Mono, World};
use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Nothing moved for this long.
    Silent(Duration),
    /// The deadline passed.
    Deadline,
}

/// Watches for silence and for a deadline.
pub(super) struct Silence {
    limit: Option<Duration>,
    deadline: Option<Deadline>,
    heard: u64,
    since: Mono,
    timer: Option<BoxFuture<'static, ()>>,
}

impl Silence {
    /// For the wait for an answer.
    pub(super) fn before_answer(patience: Patience) -> Self {
        Self::new(patience.answer, patience.due())
    }

    /// For the body that follows.
    pub(super) fn after_answer(patience: Patience) -> Self {
        Self::new(Some(patience.stall), patience.whole)
    }

    fn new(limit: Option<Duration>, deadline: Option<Deadline>) -> Self {
        Self { limit, deadline, heard: 0, since: Mono(0), timer: None }
    }

    /// To be called when there is nothing to do but wait; `beat` changes whenever something moves.
    pub(super) fn poll(
        &mut self,
        world: &dyn World,
        beat: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Over> {
        if self.limit.is_none() && self.deadline.is_none() {
            return Poll::Pending;
        }
        if self.timer.is_none() || beat != self.heard {
            (self.heard, self.since) = (beat, world.mono());
        }
        loop {
            let timer = match &mut self.timer {
                Some(timer) => timer,
                empty => {
                    let now = world.mono();
                    if self.deadline.is_some_and(|deadline| deadline.expired(now)) {
                        return Poll::Ready(Over::Deadline);
                    }
                    let quiet = now.since(self.since);
                    let silent = self.limit.filter(|limit| quiet >= *limit);
                    if let Some(limit) = silent {
                        return Poll::Ready(Over::Silent(limit));
                    }
                    let rest = self.limit.map(|limit| limit.saturating_sub(quiet));
                    let left = self.deadline.map(|deadline| deadline.remaining(now));
                    let Some(wait) = rest.into_iter().chain(left).min() else {
                        return Poll::Pending;
                    };
                    empty.insert(world.sleep(wait))
                }
            };
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
        }
    }
}

/// Runs `work` until it is done or the wait is over.
pub(super) async fn unless_over<F: Future>(
    world: &dyn World,
    mut silence: Silence,
    beat: impl Fn() -> u64,
    work: F,
) -> Result<F::Output, Over> {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        silence.poll(world, beat(), cx).map(Err)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::{Over, Silence, unless_over};
    use crate::Patience;
    use outrigger_kernel::{Deadline, World};
    use outrigger_sim::SimWorld;
    use std::{
        future::pending,
        sync::atomic::{AtomicU64, Ordering},
        time::Duration,
    };

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_moves_may_take_its_time() {
        let world = SimWorld::new(1);
        let beat = AtomicU64::new(0);
        let patience = Patience::moving(SECOND);
        let watched = unless_over(
            &*world,
            Silence::before_answer(patience),
            || beat.load(Ordering::Relaxed),
            async {
                for _ in 0..20 {
                    world.sleep(SECOND * 9 / 10).await;
                    beat.fetch_add(1, Ordering::Relaxed);
                }
                pending::<()>().await;
            },
        );
        assert_eq!(watched.await, Err(Over::Silent(SECOND)));
        let after = world.mono().0 / 1_000_000;
        assert!((19_000..20_100).contains(&after), "18 s of moving and 1 s of silence: {after} ms");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_one_however_much_moves() {
        let world = SimWorld::new(1);
        let beat = AtomicU64::new(0);
        let patience = Patience::moving(SECOND).no_later_than(Deadline::after(&*world, SECOND * 3));
        let work = async {
            loop {
                world.sleep(SECOND / 2).await;
                beat.fetch_add(1, Ordering::Relaxed);
            }
        };
        let watched: Result<(), _> = unless_over(
            &*world,
            Silence::before_answer(patience),
            || beat.load(Ordering::Relaxed),
            work,
        )
        .await;
        assert_eq!(watched, Err(Over::Deadline));
        assert_eq!(world.mono().0 / 1_000_000_000, 3);
    }
}
