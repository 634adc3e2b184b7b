//! Subscriptions that an app opens itself: events go down a stream, verdicts come back up, matched by the event's id.
//!
//! ```text
//!   dispatcher --> StreamConsumer --[bounded channel]--> Events --> the app
//!                       |  waits in the Window                       |
//!                       '<------------- Judge::settle(id) <----------'
//! ```
//!
//! Several streams of one topic share its messages, as several consumers of one group do. Whatever ends a stream (the
//! app hung up, the component changed, the runtime stops), what was not settled goes to the others, or waits; it is not
//! counted as a failed attempt.
//!
//! The order in which a stream ends matters: first the group is left, then the deliveries that wait are let go. The
//! other way round each of them would count as failed.

mod register;
mod window;

pub(crate) use register::Streams;

use super::{
    grpc_wire::topic_event,
    hand_over::{Way, deliver},
    outlet::{Lane, Span},
    reading::Event,
};
use futures_util::Stream;
use outrigger_events::{Consumer, Delivery, SubscribeError, Verdict};
use outrigger_kernel::{BoxFuture, Deadline};
use outrigger_proto::runtime::v1 as pb;
use register::STREAMS_MAX;
use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use window::{Ticket, Window};

/// What a stream asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamOpening {
    /// The topic.
    pub(crate) topic: String,
    /// Wishes, such as `rawPayload`.
    pub(crate) metadata: BTreeMap<String, String>,
    /// Where events go that were given up.
    pub(crate) dead_letter_topic: Option<String>,
}

/// Why a stream was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamRefused {
    /// It names no topic.
    #[error("the topic is missing")]
    NoTopic,
    /// The component's scopes do not let the app hear the topic.
    #[error("the app {app} may not subscribe to the topic {topic:?} of {pubsub}")]
    Forbidden {
        /// The app.
        app: Arc<str>,
        /// The component.
        pubsub: Arc<str>,
        /// The topic.
        topic: String,
    },
    /// Too many streams.
    #[error("the app has {STREAMS_MAX} streams open, no more are accepted")]
    TooMany,
    /// The runtime is stopping.
    #[error("the runtime is stopping")]
    Stopping,
    /// The broker refused.
    #[error(transparent)]
    Broker(#[from] SubscribeError),
}

/// An open subscription.
#[derive(Debug)]
pub(crate) struct TopicStream {
    events: Events,
    judge: Judge,
}

impl TopicStream {
    /// Its two directions. Dropping either ends the stream.
    pub(crate) fn split(self) -> (Events, Judge) {
        (self.events, self.judge)
    }
}

/// Towards the app: a stream of events, which ends when the subscription does.
pub(crate) struct Events {
    queue: mpsc::Receiver<(Ticket, pb::TopicEventRequest)>,
    window: Arc<Window>,
    ended: BoxFuture<'static, ()>,
    _hung_up: DropGuard,
}

impl Stream for Events {
    type Item = pb::TopicEventRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.ended.as_mut().poll(cx).is_ready() {
                // Polled again after its end, a future may panic; this one never ends twice.
                self.ended = Box::pin(std::future::ready(()));
                return Poll::Ready(None);
            }
            match std::task::ready!(self.queue.poll_recv(cx)) {
                None => return Poll::Ready(None),
                // One that waited too long is being delivered elsewhere by now.
                Some((ticket, _)) if !self.window.is_waiting(&ticket) => {}
                Some((_, event)) => return Poll::Ready(Some(event)),
            }
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

/// From the app: what became of the events.
#[derive(Debug)]
pub(crate) struct Judge {
    window: Arc<Window>,
    _hung_up: DropGuard,
}

impl Judge {
    /// Settles the event `id` with a status as it comes by gRPC. Returns whether such an event was waited for; one that
    /// took too long is not any more.
    pub(crate) fn settle(&self, id: &str, status: i32) -> bool {
        self.window.settle(id, super::answer::of_grpc(status))
    }
}

/// The consumer's side of a stream.
#[derive(Debug)]
struct StreamConsumer {
    lane: Lane,
    queue: mpsc::Sender<(Ticket, pb::TopicEventRequest)>,
    window: Arc<Window>,
    /// Whoever waits for a verdict is to wait no longer.
    let_go: CancellationToken,
}

impl Consumer for StreamConsumer {
    fn deliver(&self, batch: Vec<Delivery>) -> BoxFuture<'_, Vec<Verdict>> {
        Box::pin(deliver(self, batch))
    }
}

impl Way for StreamConsumer {
    type Letter = pb::TopicEventRequest;

    fn lane(&self) -> &Lane {
        &self.lane
    }

    fn write(&self, event: &Event) -> Result<pb::TopicEventRequest, String> {
        topic_event(event, &self.lane.pubsub)
    }

    async fn hand(
        &self,
        event: &Event,
        message: pb::TopicEventRequest,
        _span: &Span,
        _due: Deadline,
    ) -> Verdict {
        let mut wait = self.window.wait_for(&event.id);
        let judged = async {
            self.queue.send((wait.ticket(), message)).await.ok()?;
            wait.verdict().await
        };
        let verdict = tokio::select! {
            biased;
            verdict = judged => verdict,
            () = self.let_go.cancelled() => None,
        };
        verdict.unwrap_or_else(|| Verdict::retry("the stream ended"))
    }
}
