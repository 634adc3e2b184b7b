//! A commit that its connection waits for alone.
//!
//! Its answer is written by the thread that brings it, an engine's own as a rule, and not by the connection's task, which
//! would have to be woken for that: on an idle machine a waking thread costs more than everything else here. What comes in
//! company is left to the task, which writes all of it at once.

use super::outlet::Outlet;
use crate::wire::Answer;
use outrigger_kernel::BoxFuture;
use std::{
    sync::{
        Arc, Mutex, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

pub(super) struct Errand {
    /// Gone once it is done.
    work: Mutex<Option<BoxFuture<'static, Answer>>>,
    /// Somebody has woken it since it was last looked after.
    woken: AtomicBool,
    done: AtomicBool,
    /// Whether the connection's task is to be told when it is done.
    awaited: AtomicBool,
    outlet: Arc<Outlet>,
}

impl Errand {
    /// Begins `work`, whose answer goes to `outlet`.
    pub(super) fn begin(work: BoxFuture<'static, Answer>, outlet: Arc<Outlet>) -> Arc<Self> {
        let errand = Arc::new(Self {
            work: Mutex::new(Some(work)),
            woken: AtomicBool::new(false),
            done: AtomicBool::new(false),
            awaited: AtomicBool::new(false),
            outlet,
        });
        errand.clone().wake();
        errand
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }

    /// Whether it is done; the connection's task is woken when it is.
    pub(super) fn await_end(&self) -> bool {
        self.awaited.store(true, Ordering::SeqCst);
        self.is_done()
    }

    /// Stops waiting for the answer.
    pub(super) fn drop_work(&self) {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(work);
    }

    fn look(self: &Arc<Self>, work: &mut Option<BoxFuture<'static, Answer>>) {
        let Some(running) = work else { return };
        let waker = Waker::from(self.clone());
        let Poll::Ready(answer) = running.as_mut().poll(&mut Context::from_waker(&waker)) else {
            return;
        };
        *work = None;
        self.outlet.say_now(&answer);
        self.done.store(true, Ordering::SeqCst);
        if self.awaited.load(Ordering::SeqCst) {
            self.outlet.call();
        }
    }
}

impl Wake for Errand {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        while self.woken.load(Ordering::SeqCst) {
            let mut work = match self.work.try_lock() {
                Ok(work) => work,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // Whoever looks after it sees that it was woken once more: before it lets go, or right after.
                Err(TryLockError::WouldBlock) => return,
            };
            if self.woken.swap(false, Ordering::SeqCst) {
                self.look(&mut work);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "threads play the engine's own")]
mod tests {
    use super::Errand;
    use crate::{
        server::outlet::Outlet,
        socket::split,
        wire::{self, Answer},
    };
    use bytes::BytesMut;
    use futures_util::{FutureExt, task::noop_waker_ref};
    use std::{
        future::poll_fn,
        io::Read,
        os::unix::net::UnixStream,
        sync::{Arc, Barrier},
        task::{Context, Wake},
        thread,
    };
    use tokio::sync::oneshot;

    fn answer(id: u64) -> Answer {
        Answer::Copied { id, revision: 7 }
    }

    /// An outlet, and the client's end of its socket.
    fn outlet() -> (Arc<Outlet>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (_, mouth) = split(tokio::net::UnixStream::from_std(ours).unwrap()).unwrap();
        (Arc::new(Outlet::new(mouth)), theirs)
    }

    fn read_one(socket: &mut UnixStream) -> Answer {
        let mut inbox = BytesMut::new();
        loop {
            if let Some(frame) = wire::take_frame(&mut inbox).unwrap() {
                assert!(inbox.is_empty());
                return Answer::take(&frame).unwrap();
            }
            let mut some = [0; 64];
            let count = socket.read(&mut some).unwrap();
            assert!(count > 0, "the connection ended");
            inbox.extend_from_slice(&some[..count]);
        }
    }

    /// The runtime has one thread, which does nothing but wait for the socket here: nobody could be woken.
    #[tokio::test]
    async fn the_answer_is_written_by_whoever_brings_it() {
        let (outlet, mut theirs) = outlet();
        let (bring, brought) = oneshot::channel::<u64>();
        let work = async move { answer(brought.await.unwrap()) };
        let errand = Errand::begin(work.boxed(), outlet);
        assert!(!errand.is_done());
        let engine = thread::spawn(move || bring.send(3).unwrap());
        assert_eq!(read_one(&mut theirs), answer(3));
        engine.join().unwrap();
        assert!(errand.await_end());
    }

    #[tokio::test]
    async fn what_is_dropped_is_not_answered() {
        let (outlet, mut theirs) = outlet();
        let (bring, brought) = oneshot::channel::<u64>();
        let errand = Errand::begin(async { answer(brought.await.unwrap()) }.boxed(), outlet);
        errand.drop_work();
        assert!(bring.is_closed());
        errand.clone().wake();
        // Whoever would have brought the answer knows the errand.
        drop((errand, bring));
        let mut rest = Vec::new();
        theirs.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, [0_u8; 0]);
    }

    /// Woken while it is looked after: whoever looks after it looks again.
    #[tokio::test]
    async fn no_wake_up_is_lost() {
        for round in 0..500 {
            let (outlet, mut theirs) = outlet();
            let (first, second) = (oneshot::channel::<u64>(), oneshot::channel::<u64>());
            let work = async move { answer(first.1.await.unwrap() + second.1.await.unwrap()) };
            let errand = Errand::begin(work.boxed(), outlet);
            let together = Arc::new(Barrier::new(2));
            let hands = [first.0, second.0].map(|bring| {
                let together = together.clone();
                thread::spawn(move || {
                    together.wait();
                    bring.send(round).unwrap();
                })
            });
            hands.into_iter().for_each(|hand| hand.join().unwrap());
            assert!(errand.is_done(), "round {round}");
            assert_eq!(read_one(&mut theirs), answer(2 * round));
        }
    }

    /// What the socket does not take at once is written by the connection's task.
    #[tokio::test]
    async fn a_full_socket_is_left_to_the_task() {
        let (outlet, mut theirs) = outlet();
        let mut said = 0;
        while outlet.unsent() == 0 {
            outlet.say_now(&answer(said));
            said += 1;
        }
        let reading = thread::spawn(move || {
            let mut inbox = Vec::new();
            theirs.read_to_end(&mut inbox).unwrap();
            let mut inbox = BytesMut::from(&inbox[..]);
            let mut heard = 0;
            while let Some(frame) = wire::take_frame(&mut inbox).unwrap() {
                assert_eq!(Answer::take(&frame).unwrap(), answer(heard));
                heard += 1;
            }
            heard
        });
        poll_fn(|cx| {
            outlet.register(cx);
            outlet.poll_write(cx).unwrap();
            if outlet.unsent() == 0 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        assert!(!outlet.poll_write(&mut Context::from_waker(noop_waker_ref())).unwrap());
        drop(outlet);
        assert_eq!(reading.join().unwrap(), said);
    }
}
