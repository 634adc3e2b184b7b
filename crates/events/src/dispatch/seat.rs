//! A consumer's seat at its group's table, shared by the subscriber's handle and the dispatcher.

use crate::{
    keys::TopicKeys,
    limits::WINDOW_MAX,
    message::Consumer,
    subscription::{Batch, SubscribeOptions},
};
use outrigger_resilience::Retry;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// Most messages one consumer may hold, whatever it asks for: each is kept in memory until judged.
const HELD_MAX: u32 = 10_000;
// Two batches of the largest size fit the window.
const _: () = assert!(2 * HELD_MAX as usize <= WINDOW_MAX);

/// What does not change while a consumer sits there, and whether it is paused.
pub(crate) struct Seat {
    pub(crate) consumer: Arc<dyn Consumer>,
    pub(crate) max_in_flight: u32,
    pub(crate) batch: Option<Batch>,
    pub(crate) retry: Retry,
    /// Where dead letters go.
    pub(crate) dead_letters: Option<TopicKeys>,
    pub(crate) delivery_timeout: Duration,
    paused: AtomicBool,
    over: watch::Sender<bool>,
}

impl Seat {
    pub(crate) fn new(
        broker: &str,
        options: SubscribeOptions,
        consumer: Arc<dyn Consumer>,
        delivery_timeout: Duration,
    ) -> Self {
        let batch = options
            .batch
            .map(|batch| Batch { max_messages: batch.max_messages.clamp(1, HELD_MAX), ..batch });
        let least = batch.map_or(1, |batch| batch.max_messages);
        Self {
            consumer,
            max_in_flight: options.max_in_flight.clamp(least, HELD_MAX),
            batch,
            retry: options.retry,
            dead_letters: options.dead_letter_topic.map(|topic| TopicKeys::new(broker, &topic)),
            delivery_timeout: options.delivery_timeout.unwrap_or(delivery_timeout),
            paused: AtomicBool::new(false),
            over: watch::channel(false).0,
        }
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }

    /// Nothing will be handed to this seat any more.
    pub(crate) fn end(&self) {
        self.over.send_replace(true);
    }

    /// Waits for [`Seat::end`].
    pub(crate) async fn ended(&self) {
        // The sender is in the seat, so that it cannot be gone.
        drop(self.over.subscribe().wait_for(|over| *over).await);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seat({} in flight at most", self.max_in_flight)?;
        if self.is_paused() {
            f.write_str(", paused")?;
        }
        f.write_str(")")
    }
}
