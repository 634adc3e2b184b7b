//! The events a stream was sent and has not settled yet, by the id that the app knows them by.
//!
//! The id is the publisher's choice, so two events under way may have the same. Each verdict then settles the one that
//! has waited longest; which of the two does not matter, as both need one.

use outrigger_events::Verdict;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::oneshot;

/// What is waited for.
#[derive(Debug, Default)]
pub(super) struct Window {
    waiting: Mutex<HashMap<Arc<str>, VecDeque<Waiter>>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    tell: oneshot::Sender<Verdict>,
}

/// Names one wait.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    id: Arc<str>,
    number: u64,
}

/// One event's wait for its verdict; dropping it ends it.
#[derive(Debug)]
pub(super) struct Wait {
    window: Arc<Window>,
    ticket: Ticket,
    verdict: oneshot::Receiver<Verdict>,
}

impl Window {
    /// Begins to wait for the verdict on `id`.
    pub(super) fn wait_for(self: &Arc<Self>, id: &str) -> Wait {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket { id: id.into(), number };
        let (tell, verdict) = oneshot::channel();
        self.waiting()
            .entry(Arc::clone(&ticket.id))
            .or_default()
            .push_back(Waiter { number, tell });
        Wait { window: Arc::clone(self), ticket, verdict }
    }

    /// Whether the wait goes on.
    pub(super) fn is_waiting(&self, ticket: &Ticket) -> bool {
        let waiting = self.waiting();
        waiting.get(&ticket.id).is_some_and(|queue| queue.iter().any(|w| w.number == ticket.number))
    }

    /// Hands `verdict` to whoever has waited longest for `id`.
    pub(super) fn settle(&self, id: &str, verdict: Verdict) -> bool {
        let waiter = {
            let mut waiting = self.waiting();
            let Some(queue) = waiting.get_mut(id) else { return false };
            let waiter = queue.pop_front();
            if queue.is_empty() {
                waiting.remove(id);
            }
            waiter
        };
        waiter.is_some_and(|waiter| waiter.tell.send(verdict).is_ok())
    }

    fn forget(&self, ticket: &Ticket) {
        let mut waiting = self.waiting();
        let Some(queue) = waiting.get_mut(&ticket.id) else { return };
        queue.retain(|waiter| waiter.number != ticket.number);
        if queue.is_empty() {
            waiting.remove(&ticket.id);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Arc<str>, VecDeque<Waiter>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wait {
    pub(super) fn ticket(&self) -> Ticket {
        self.ticket.clone()
    }

    /// The verdict, once it is there.
    pub(super) async fn verdict(&mut self) -> Option<Verdict> {
        (&mut self.verdict).await.ok()
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.window.forget(&self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::Window;
    use outrigger_events::Verdict;
    use std::sync::Arc;

    #[tokio::test]
    async fn verdicts_find_their_events() {
        let window = Arc::<Window>::default();
        let (mut first, mut second) = (window.wait_for("a"), window.wait_for("a"));
        assert!(window.settle("a", Verdict::Ack));
        assert_eq!(first.verdict().await, Some(Verdict::Ack));
        assert!(!window.is_waiting(&first.ticket()) && window.is_waiting(&second.ticket()));
        assert!(window.settle("a", Verdict::drop("no")));
        assert_eq!(second.verdict().await, Some(Verdict::drop("no")));
        assert!(!window.settle("a", Verdict::Ack) && !window.settle("b", Verdict::Ack));

        let third = window.wait_for("c");
        let ticket = third.ticket();
        drop(third);
        assert!(!window.is_waiting(&ticket) && !window.settle("c", Verdict::Ack));
        assert!(window.waiting().is_empty());
    }
}
