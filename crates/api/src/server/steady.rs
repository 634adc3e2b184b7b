//! A connection's task, polled no more often than there is something to do.
//!
//! hyper takes the two ends of a request's body for two tasks. They are one here, so a connection wakes *itself* when it
//! takes the body of a request: its task would be queued, another thread be called to help with the queue, and the whole
//! connection polled a second time for nothing. Two things are done about it:
//!
//! - what wakes a connection while it is polled is noted, and answered by polling it again on the spot ([`Steady`]);
//! - what wakes it only to say that there is room for more of a body that is at its end is dropped ([`taking`]).
//!
//! Nothing else is dropped: a wake-up of another thread, or for another reason, always leads to a poll that begins after it.

use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// The connection is being polled.
const POLLED: u8 = 1;
/// It was woken since that began.
const WOKEN: u8 = 2;

/// How often it is polled on the spot before others have their turn.
const TURNS_MAX: u32 = 4;

/// Polls what is one task, whatever wakes it.
pub(super) struct Steady {
    bell: Arc<Bell>,
    /// The same as what is polled is given.
    waker: Waker,
}

/// What rings when the connection is to be polled.
struct Bell {
    state: AtomicU8,
    /// Whom to wake while the connection is not being polled.
    task: Mutex<Waker>,
}

impl Steady {
    pub(super) fn new() -> Self {
        let bell =
            Arc::new(Bell { state: AtomicU8::new(0), task: Mutex::new(Waker::noop().clone()) });
        let waker = Waker::from(Arc::clone(&bell));
        Self { bell, waker }
    }

    pub(super) fn poll<T>(
        &self,
        cx: &Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.bell.belongs_to(cx.waker());
        for _ in 0..TURNS_MAX {
            self.bell.state.swap(POLLED, Ordering::AcqRel);
            let polled = poll(&mut Context::from_waker(&self.waker));
            // From here on whoever rings wakes the task, unless somebody has rung already.
            if polled.is_ready() || self.bell.state.swap(0, Ordering::AcqRel) & WOKEN == 0 {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Bell {
    fn belongs_to(&self, waker: &Waker) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !task.will_wake(waker) {
            task.clone_from(waker);
        }
    }

    fn ring(&self) {
        let before = self.state.fetch_or(WOKEN, Ordering::AcqRel);
        // Whoever polls sees it; and who rang before has woken the task.
        if before == 0 {
            self.task.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let taken = TAKING.with(|taking| match &mut *taking.borrow_mut() {
            Some(held @ None) => {
                *held = Some(Arc::clone(self));
                true
            }
            Some(Some(held)) => Arc::ptr_eq(held, self),
            None => false,
        });
        if !taken {
            self.ring();
        }
    }
}

thread_local! {
    /// Whether a piece of a body is being taken on this thread, and whom that has woken.
    static TAKING: RefCell<Option<Option<Arc<Bell>>>> = const { RefCell::new(None) };
}

/// Ends the taking, and rings for whom it has woken.
struct Taking;

impl Taking {
    fn end() -> Option<Arc<Bell>> {
        TAKING.with(|taking| taking.borrow_mut().take()).flatten()
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        if let Some(bell) = Self::end() {
            bell.ring();
        }
    }
}

/// Takes a piece of a body that comes over HTTP/1 by `take`, which says whether that was the last one: then nobody waits for
/// room, and nobody is woken for it.
pub(crate) fn taking<T>(take: impl FnOnce() -> (T, bool)) -> T {
    TAKING.with(|taking| *taking.borrow_mut() = Some(None));
    let until = Taking;
    let (taken, last) = take();
    if last {
        drop(Taking::end());
    }
    drop(until);
    taken
}

#[cfg(test)]
mod tests {
    use super::{Steady, TURNS_MAX, taking};
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        task::{Context, Poll, Wake, Waker},
    };

    #[derive(Default)]
    struct Task(AtomicU32);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Polls a connection once whose poll does `work`. How often that was done, and how often its task was woken.
    fn polled(mut work: impl FnMut(&Waker, u32) -> Poll<()>) -> (u32, u32) {
        let (task, mut turns) = (Arc::<Task>::default(), 0);
        let waker = Waker::from(Arc::clone(&task));
        let _polled = Steady::new().poll(&Context::from_waker(&waker), |cx| {
            turns += 1;
            work(cx.waker(), turns)
        });
        (turns, task.0.load(Ordering::Relaxed))
    }

    fn pending(act: impl FnOnce()) -> Poll<()> {
        act();
        Poll::Pending
    }

    fn wake_elsewhere(waker: &Waker) {
        std::thread::scope(|scope| scope.spawn(|| waker.wake_by_ref()).join().unwrap());
    }

    #[test]
    fn what_wakes_itself_is_polled_again_and_its_task_is_not_woken() {
        let once = |waker: &Waker, turn| match turn {
            1 => pending(|| waker.wake_by_ref()),
            _ => Poll::Pending,
        };
        assert_eq!(polled(once), (2, 0));
        assert_eq!(polled(|_, _| Poll::Pending), (1, 0));
        // One that never has enough gives way.
        assert_eq!(polled(|waker, _| pending(|| waker.wake_by_ref())), (TURNS_MAX, 1));
    }

    #[test]
    fn a_wake_up_of_another_thread_is_never_lost() {
        let meanwhile = |waker: &Waker, turn| {
            pending(|| {
                if turn == 1 {
                    wake_elsewhere(waker);
                }
            })
        };
        assert_eq!(polled(meanwhile), (2, 0));

        let task = Arc::<Task>::default();
        let waker = Waker::from(Arc::clone(&task));
        let mut kept = None;
        let _polled = Steady::new().poll(&Context::from_waker(&waker), |cx| {
            kept = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        let kept = kept.unwrap();
        kept.wake_by_ref();
        kept.wake_by_ref();
        assert_eq!(task.0.load(Ordering::Relaxed), 1, "once until it is polled");
    }

    #[test]
    fn only_the_end_of_a_body_wakes_nobody() {
        for last in [false, true] {
            let once = |waker: &Waker, turn| {
                pending(|| {
                    if turn == 1 {
                        taking(|| (waker.wake_by_ref(), last));
                    }
                })
            };
            assert_eq!(polled(once), (if last { 1 } else { 2 }, 0));
        }
        // Nor is what another thread has to say meanwhile taken for that.
        let beside = |waker: &Waker, turn| {
            pending(|| {
                if turn == 1 {
                    taking(|| (wake_elsewhere(waker), true));
                }
            })
        };
        assert_eq!(polled(beside), (2, 0));
        // And it ends with a panic of whoever takes.
        let panicked = |waker: &Waker, turn| {
            if turn == 1 {
                let broken = || -> ((), bool) {
                    waker.wake_by_ref();
                    panic!("broken")
                };
                let caught =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| taking(broken)));
                assert!(caught.is_err());
            }
            Poll::Pending
        };
        assert_eq!(polled(panicked), (2, 0));
    }
}
