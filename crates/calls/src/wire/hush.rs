//! A waker that does not disturb whoever is at work already.
//!
//! The parts of an HTTP/1.1 connection wake one another: the body wakes the connection when it is read or dropped, the
//! connection wakes the body when it has something. Here one task polls them all, so while it does, being woken is no
//! news; passed on, it would send the task round the scheduler once more for nothing and stir another thread to help.
//! That costs more than all the rest of a proxied call. So a wake that comes while the parts are being polled is only
//! noted, and whoever polls looks again before it goes to sleep.

use futures_util::task::AtomicWaker;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Nobody polls: a wake goes to the task.
const ASLEEP: u8 = 0;
/// Somebody polls.
const AT_WORK: u8 = 1;
/// Somebody polls and was told something meanwhile.
const TOLD: u8 = 2;

/// How often to look again before letting other tasks run.
const ROUNDS_MAX: u8 = 8;

/// Lets a task poll parts that wake one another.
#[derive(Debug)]
pub(super) struct Hush {
    noted: Arc<Noted>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Noted {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Hush {
    pub(super) fn new() -> Self {
        let noted = Arc::<Noted>::default();
        Self { waker: Waker::from(Arc::clone(&noted)), noted }
    }

    /// Polls `parts` on behalf of the task of `cx` until they are ready or have nothing more to tell one another.
    pub(super) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut parts: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.noted.task.register(cx.waker());
        for _ in 0..ROUNDS_MAX {
            self.noted.state.store(AT_WORK, Ordering::Release);
            let polled = parts(&mut Context::from_waker(&self.waker));
            let told = self.noted.state.swap(ASLEEP, Ordering::AcqRel) == TOLD;
            if polled.is_ready() {
                // Nobody waits any more: what the parts still have to tell one another is their business.
                self.forget_task();
                return polled;
            }
            if !told {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// From here on, wakes go nowhere until the next poll.
    pub(super) fn forget_task(&self) {
        drop(self.noted.task.take());
    }
}

impl Wake for Noted {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let told = self.state.compare_exchange(AT_WORK, TOLD, Ordering::AcqRel, Ordering::Acquire);
        if told == Err(ASLEEP) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Hush, ROUNDS_MAX};
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Poll, Wake, Waker},
    };

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn wakes_within_a_poll_are_seen_and_not_passed_on() {
        let count = Arc::<Count>::default();
        let woken = || count.0.load(Ordering::SeqCst);
        let waker = Waker::from(count.clone());
        let cx = &mut Context::from_waker(&waker);
        let hush = Hush::new();

        let mut kept = None;
        let mut polls = 0;
        let polled = hush.poll(cx, |inner| {
            polls += 1;
            kept = Some(inner.waker().clone());
            if polls < 3 {
                inner.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert_eq!((polled, polls, woken()), (Poll::Pending, 3, 0));

        let kept = kept.unwrap();
        kept.wake_by_ref();
        assert_eq!(woken(), 1, "asleep, so the task is told");
        kept.wake_by_ref();
        assert_eq!(woken(), 1, "once is enough");

        assert_eq!(hush.poll(cx, |_| Poll::Ready(7)), Poll::Ready(7));
        kept.wake();
        assert_eq!(woken(), 1, "nobody waits");
    }

    #[test]
    fn parts_that_never_rest_let_others_run() {
        let count = Arc::<Count>::default();
        let waker = Waker::from(count.clone());
        let mut polls = 0;
        let polled = Hush::new().poll(&mut Context::from_waker(&waker), |inner| {
            polls += 1;
            inner.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!((polled, polls), (Poll::Pending, ROUNDS_MAX));
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }
}
