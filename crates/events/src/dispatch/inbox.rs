//! What reaches a dispatcher from outside: orders of subscribers, and the outcomes of deliveries.
//!
//! Bounded without a capacity: an outcome answers a delivery, deliveries are bounded by the credits of the seats; an
//! order comes from somebody who subscribes or leaves. So nobody who brings something ever waits.

use super::seat::Seat;
use crate::{error::SubscribeError, message::Verdict, subscription::Left};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, oneshot};

/// A dispatcher's letter box.
#[derive(Default)]
pub(crate) struct Inbox {
    post: Mutex<Post>,
    bell: Notify,
}

/// What lay in the box.
#[derive(Default)]
pub(crate) struct Post {
    pub(crate) orders: Vec<Order>,
    pub(crate) outcomes: Vec<Outcome>,
    /// The dispatcher is gone; orders are refused by dropping them, which closes their replies.
    closed: bool,
}

/// What a subscriber wants.
pub(crate) enum Order {
    /// To be handed messages. Answered once the group is durably registered.
    Join { seat: Arc<Seat>, reply: oneshot::Sender<Result<(), SubscribeError>> },
    /// To be handed nothing new. Answered once the seat holds nothing and its verdicts are committed.
    Leave { seat: Arc<Seat>, reply: Option<oneshot::Sender<Left>> },
    /// To have taken back what the seat still holds.
    Abandon { seat: Arc<Seat> },
    /// All seats leave. Answered (by dropping `done`) once the dispatcher is gone.
    Close { done: oneshot::Sender<()> },
    /// To have taken back whatever is still held.
    AbandonAll,
}

/// What became of one delivery.
pub(crate) struct Outcome {
    pub(crate) delivery: u64,
    pub(crate) end: End,
}

/// How a delivery ended.
pub(crate) enum End {
    /// The consumer answered.
    Judged(Vec<Verdict>),
    /// The consumer panicked, or stayed silent for too long; all messages are to be tried again.
    Failed(String),
    /// The delivery was cut short by us, which is nobody's fault.
    Cut,
}

impl Inbox {
    /// Leaves an order. Answers whether there is somebody to read it.
    pub(crate) fn order(&self, order: Order) -> bool {
        let mut post = self.post();
        if post.closed {
            return false;
        }
        post.orders.push(order);
        drop(post);
        self.ring();
        true
    }

    /// Leaves an outcome.
    pub(crate) fn outcome(&self, outcome: Outcome) {
        self.post().outcomes.push(outcome);
        self.ring();
    }

    /// Makes the dispatcher look around.
    pub(crate) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Waits for the bell. Rung before the wait, it is heard too.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Empties the box.
    pub(crate) fn take(&self) -> Post {
        let mut post = self.post();
        let closed = post.closed;
        std::mem::replace(&mut *post, Post { closed, ..Post::default() })
    }

    /// Refuses orders from now on, unless some lie in the box. Answers whether it is closed.
    pub(crate) fn close(&self) -> bool {
        let mut post = self.post();
        post.closed = post.orders.is_empty();
        post.closed
    }

    fn post(&self) -> MutexGuard<'_, Post> {
        self.post.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}
