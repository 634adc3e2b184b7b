//! Where one watch is told: a number that only grows, and whom to wake when it has.

use crate::planted::{self, Bug};
use futures_util::task::AtomicWaker;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};

#[derive(Default)]
pub(super) struct Slot {
    latest: AtomicU64,
    waiting: AtomicWaker,
}

impl Slot {
    /// Raises the number; an older one changes nothing and wakes nobody.
    pub(super) fn raise(&self, revision: u64) {
        let news = self.latest.fetch_max(revision, Ordering::SeqCst) < revision;
        if news && !planted::is(Bug::LoseTheLastWake) {
            self.waiting.wake();
        }
    }

    pub(super) fn poll_newer_than(&self, seen: u64, context: &Context<'_>) -> Poll<u64> {
        // Registered before it looks: whatever comes after the look wakes.
        self.waiting.register(context.waker());
        match self.latest.load(Ordering::SeqCst) {
            latest if latest > seen => {
                // Nobody waits any more, so the next change need not wake.
                drop(self.waiting.take());
                Poll::Ready(latest)
            }
            _ => Poll::Pending,
        }
    }
}
