//! A caller that takes no more of its answer.
//!
//! Over HTTP/1.1 a peer that does not read stalls its socket, which [`super::patience`] sees. HTTP/2 has a window per
//! stream: the socket stays busy with other streams, or with pings, while one answer waits for room. Whoever makes that
//! answer is not even asked for more, so no timer of its own can end it. What sees it is the task that hyper gives every
//! stream: it is wrapped here, and dropped when its answer was ready for too long and nobody took it.

use outrigger_kernel::{BoxFuture, Mono, World};
use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

tokio::task_local! {
    /// The answer of the stream whose task this is.
    static ANSWER: Arc<Taken>;
}

/// How far the caller of one stream has taken its answer.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pieces: AtomicU64,
    /// Whether a piece was made and the next one is not asked for.
    waits: AtomicBool,
}

impl Taken {
    /// The one of the stream whose task this is; `None` where streams have no task of their own.
    pub(super) fn of_this_stream() -> Option<Arc<Self>> {
        ANSWER.try_with(Arc::clone).ok()
    }

    /// The answer was asked for a piece, and had one or not.
    pub(super) fn asked(&self, had_one: bool) {
        self.pieces.fetch_add(1, Ordering::Relaxed);
        self.waits.store(had_one, Ordering::Relaxed);
    }
}

/// Runs the task of a stream until its end, or until nothing of its answer is taken for `limit`.
pub(super) async fn unless_unread(
    world: Arc<dyn World>,
    limit: Duration,
    task: impl Future<Output = ()>,
) {
    let taken = Arc::<Taken>::default();
    let mut task = pin!(ANSWER.scope(Arc::clone(&taken), task));
    let mut timer: Option<BoxFuture<'static, ()>> = None;
    let mut seen = (u64::MAX, Mono(0));
    std::future::poll_fn(|cx| {
        if task.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !taken.waits.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let pieces = taken.pieces.load(Ordering::Relaxed);
        if seen.0 != pieces {
            seen = (pieces, world.mono());
        }
        // As elsewhere, a timer that runs is not moved: it looks how long it has really been.
        loop {
            let left = limit.saturating_sub(world.mono().since(seen.1));
            if left.is_zero() {
                tracing::debug!(?limit, "a caller took nothing of its answer and is given up");
                return Poll::Ready(());
            }
            let running = timer.get_or_insert_with(|| world.sleep(left));
            if Pin::new(running).poll(cx).is_pending() {
                return Poll::Pending;
            }
            timer = None;
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::{Taken, unless_unread};
    use outrigger_kernel::World;
    use outrigger_sim::SimWorld;
    use std::{future::pending, time::Duration};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn only_what_is_ready_and_not_taken_is_given_up() {
        let world = SimWorld::new(1);
        let clock = world.clone();
        unless_unread(world.clone(), SECOND, async move {
            let taken = Taken::of_this_stream().unwrap();
            // Whoever makes the answer takes its time, and so may the caller.
            clock.sleep(SECOND * 5).await;
            for had_one in [true, true, false] {
                taken.asked(had_one);
                clock.sleep(SECOND * 9 / 10).await;
            }
            clock.sleep(SECOND * 5).await;
            taken.asked(true);
            pending().await
        })
        .await;
        let took = world.mono().0 / 1_000_000;
        assert!((13_600..13_900).contains(&took), "12.7 s of work, 1 s of nothing: {took} ms");
        assert!(Taken::of_this_stream().is_none());
    }
}
