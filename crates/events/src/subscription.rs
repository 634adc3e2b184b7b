//! A consumer's place in a group: how it wants its messages, and the handle by which it pauses and leaves.

use crate::{
    dispatch::{Inbox, Order, Seat},
    member::Membership,
};
use outrigger_kernel::{BoxFuture, Deadline, World, within};
use outrigger_resilience::{Backoff, Matching, Retry};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// What a consumer asks for.
#[derive(Clone, Debug)]
pub struct SubscribeOptions {
    /// The topic.
    pub topic: String,
    /// The group. Consumers of one group share its messages; two groups each get every message.
    pub group: String,
    /// Most messages this consumer holds unjudged; at least 1, and at least a whole batch where batches are asked for.
    pub max_in_flight: u32,
    /// Several messages per delivery; `None` for one at a time.
    pub batch: Option<Batch>,
    /// How often and after which pauses a failed message is delivered again. Only the backoff and the number of
    /// retries count here: which answers are failures at all is for the consumer to judge.
    pub retry: Retry,
    /// Where messages go that were given up, in the same commit in which the group is done with them.
    pub dead_letter_topic: Option<String>,
    /// How long a consumer may stay silent; [`crate::BrokerSettings::delivery_timeout`] where absent.
    pub delivery_timeout: Option<Duration>,
}

impl SubscribeOptions {
    /// One message at a time, retried for ever with a growing pause (100 ms to 1 min), no dead letters.
    #[must_use]
    pub fn new(topic: impl Into<String>, group: impl Into<String>) -> Self {
        let backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(60));
        Self {
            topic: topic.into(),
            group: group.into(),
            max_in_flight: 1,
            batch: None,
            retry: Retry { backoff, max_retries: None, matching: Matching::default() },
            dead_letter_topic: None,
            delivery_timeout: None,
        }
    }
}

/// When a batch is handed over: as soon as it is full, or once its oldest message has waited long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Most messages in a batch; at least 1.
    pub max_messages: u32,
    /// Longest wait of the oldest message for company.
    pub max_wait: Duration,
}

/// How a consumer left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Messages it held when its time was up. They are delivered again, to others or after a restart, without the
    /// attempt being counted.
    pub abandoned: usize,
    /// Whether everything it judged is durably so.
    pub settled: bool,
}

/// How long [`SubscriptionHandle::stop`] waits, once its consumer holds nothing any more, for the last verdicts to be
/// committed. A store that takes longer has its verdicts lost: those messages are delivered again.
pub(crate) const SETTLING_MAX: Duration = Duration::from_secs(5);

/// A consumer's place in its group. Dropping it is leaving without waiting: nothing new is handed over, and what the
/// consumer holds it may still finish.
pub struct SubscriptionHandle(Place);

/// Where the consumer sits.
enum Place {
    /// At a table of this process.
    Here { seat: Arc<Seat>, inbox: Arc<Inbox>, world: Arc<dyn World> },
    /// At a table of another one.
    Elsewhere(Membership),
    /// Nowhere any more: it has left.
    Left,
}

impl SubscriptionHandle {
    pub(crate) fn new(seat: Arc<Seat>, inbox: Arc<Inbox>, world: Arc<dyn World>) -> Self {
        Self(Place::Here { seat, inbox, world })
    }

    pub(crate) fn elsewhere(membership: Membership) -> Self {
        Self(Place::Elsewhere(membership))
    }

    fn set_paused(&self, paused: bool) {
        match &self.0 {
            Place::Here { seat, inbox, .. } => {
                seat.pause(paused);
                inbox.ring();
            }
            Place::Elsewhere(membership) => membership.pause(paused),
            Place::Left => {}
        }
    }

    /// Hands over nothing new until [`SubscriptionHandle::resume`]; what the consumer holds goes on. The other consumers
    /// of the group take what comes meanwhile.
    pub fn pause(&self) {
        self.set_paused(true);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.set_paused(false);
    }

    /// Waits until this subscription is served no more, though nobody stopped it: the group was forgotten, another broker
    /// of the name took it over, the process that dispatched is gone, or this broker was closed. Whoever still wants
    /// messages subscribes again.
    pub async fn ended(&self) {
        self.end().await;
    }

    /// [`SubscriptionHandle::ended`], for whoever gives the handle away meanwhile.
    pub(crate) fn end(&self) -> BoxFuture<'static, ()> {
        match &self.0 {
            Place::Here { seat, .. } => {
                let seat = Arc::clone(seat);
                Box::pin(async move { seat.ended().await })
            }
            Place::Elsewhere(membership) => membership.ended(),
            Place::Left => Box::pin(std::future::ready(())),
        }
    }

    /// What takes this place away.
    pub(crate) fn eviction(&self) -> Eviction {
        match &self.0 {
            Place::Here { seat, inbox, .. } => {
                Eviction(Some((Arc::clone(seat), Arc::clone(inbox))))
            }
            Place::Elsewhere(_) | Place::Left => Eviction(None),
        }
    }

    /// Leaves the group: hands over nothing new, gives the consumer `grace` to finish what it holds, then takes the rest
    /// back and drops its futures. Verdicts are committed before this returns.
    ///
    /// A failure in the time of grace (an app that is going down fails a lot) neither counts as an attempt nor
    /// dead-letters a message; an explicit [`crate::Verdict::Drop`] does.
    pub async fn stop(mut self, grace: Duration) -> Left {
        match std::mem::replace(&mut self.0, Place::Left) {
            Place::Here { seat, inbox, world } => {
                let (reply, left) = oneshot::channel();
                inbox.order(Order::Leave { seat: Arc::clone(&seat), reply: Some(reply) });
                leave(&*world, &inbox, &seat, left, grace).await
            }
            Place::Elsewhere(membership) => membership.stop(grace).await,
            Place::Left => Left { abandoned: 0, settled: false },
        }
    }
}

/// Takes a consumer's place away when dropped, with whatever it holds, whoever has its handle: for one that cannot finish
/// anything any more.
pub(crate) struct Eviction(Option<(Arc<Seat>, Arc<Inbox>)>);

impl Drop for Eviction {
    fn drop(&mut self) {
        if let Some((seat, inbox)) = self.0.take() {
            // Who has left in order is not there any more, and nothing happens.
            inbox.order(Order::Leave { seat: Arc::clone(&seat), reply: None });
            inbox.order(Order::Abandon { seat });
        }
    }
}

/// Waits for a seat to be empty, as [`SubscriptionHandle::stop`] says.
async fn leave(
    world: &dyn World,
    inbox: &Inbox,
    seat: &Arc<Seat>,
    mut left: oneshot::Receiver<Left>,
    grace: Duration,
) -> Left {
    if let Ok(answer) = within(world, Deadline::after(world, grace), &mut left).await {
        return answer.unwrap_or(Left { abandoned: 0, settled: false });
    }
    inbox.order(Order::Abandon { seat: Arc::clone(seat) });
    match within(world, Deadline::after(world, SETTLING_MAX), left).await {
        Ok(Ok(answer)) => answer,
        _ => Left { abandoned: 0, settled: false },
    }
}

impl Drop for SubscriptionHandle {
    fn drop(&mut self) {
        if let Place::Here { seat, inbox, .. } = &self.0 {
            inbox.order(Order::Leave { seat: Arc::clone(seat), reply: None });
        }
    }
}

impl fmt::Debug for SubscriptionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Here { seat, .. } => write!(f, "SubscriptionHandle({seat:?})"),
            Place::Elsewhere(_) => f.write_str("SubscriptionHandle(elsewhere)"),
            Place::Left => f.write_str("SubscriptionHandle(left)"),
        }
    }
}
