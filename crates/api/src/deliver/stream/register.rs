//! The streams that are open: entering, ending, and looking after one until it has ended.

use super::{
    Events, Judge, StreamConsumer, StreamOpening, StreamRefused, TopicStream, window::Window,
};
use crate::{
    components::PubsubComponent,
    deliver::{
        outlet::{Lane, Outlet, Watched},
        reading::Reading,
        subscription::{Kind, Subscription},
        terms,
    },
};
use futures_util::future::{Either, select};
use outrigger_events::SubscriptionHandle;
use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Most streams of one app.
pub(super) const STREAMS_MAX: usize = 1_000;
/// Most events that wait for the app to read them.
const QUEUE_MAX: u32 = 1_024;
/// How long a stream may finish what it is at when its component changes.
const CHANGE_GRACE: Duration = Duration::from_secs(5);

/// The streams that are open.
#[derive(Debug)]
pub(crate) struct Streams {
    open: Mutex<Open>,
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    closed: bool,
    streams: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    subscription: Arc<Subscription>,
    component: Arc<PubsubComponent>,
    /// How long the stream may go on once it is told to end.
    stop: watch::Sender<Option<Duration>>,
}

/// One stream's place among the open ones.
struct Place {
    streams: Arc<Streams>,
    number: u64,
    stop: watch::Receiver<Option<Duration>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.change(|open| open.streams.remove(&self.number));
    }
}

impl Default for Streams {
    fn default() -> Self {
        Self { open: Mutex::default(), count: watch::channel(0).0 }
    }
}

impl Streams {
    /// Opens a stream.
    pub(crate) async fn open(
        self: &Arc<Self>,
        outlet: &Outlet,
        component: Arc<PubsubComponent>,
        opening: StreamOpening,
    ) -> Result<TopicStream, StreamRefused> {
        if opening.topic.is_empty() {
            return Err(StreamRefused::NoTopic);
        }
        if !component.scopes.can_subscribe(&outlet.app_id, &opening.topic) {
            let (app, pubsub) = (Arc::clone(&outlet.app_id), Arc::clone(&component.name));
            return Err(StreamRefused::Forbidden { app, pubsub, topic: opening.topic });
        }
        let subscription = Arc::new(Subscription {
            metadata: opening.metadata,
            dead_letter_topic: opening.dead_letter_topic.filter(|topic| !topic.is_empty()),
            ..Subscription::new(Kind::Streaming, &component.name, &opening.topic, "/")
        });
        let place = self.enter(&subscription, &component)?;
        // A stream has no rules, so there is nothing in it that could be refused.
        let reading = Reading::new(&subscription, false).map_err(|_| StreamRefused::NoTopic)?;
        let room = terms::in_flight(&component).min(QUEUE_MAX);
        let (queue, events) = mpsc::channel(usize::try_from(room).unwrap_or(1).max(1));
        let (window, let_go) = (Arc::<Window>::default(), CancellationToken::new());
        let lane = Lane {
            outlet: outlet.clone(),
            pubsub: Arc::clone(&component.name),
            topic: Arc::clone(&subscription.topic),
            reading,
            matching: None,
            breaker: terms::breaker(&component),
            watch: Watched::new(outlet, &component),
            leaving: let_go.clone(),
        };
        let consumer =
            StreamConsumer { lane, queue, window: Arc::clone(&window), let_go: let_go.clone() };
        let options = terms::options(&subscription, &component);
        let handle = component.broker.subscribe(options, Arc::new(consumer)).await?;
        let (hung_up, ended) = (CancellationToken::new(), CancellationToken::new());
        let keeper = keep(place, handle, hung_up.clone(), let_go, ended.clone());
        let _task = outlet.world.spawn("topic stream", Box::pin(keeper));
        Ok(TopicStream {
            events: Events {
                queue: events,
                window: Arc::clone(&window),
                ended: Box::pin(ended.cancelled_owned()),
                _hung_up: hung_up.clone().drop_guard(),
            },
            judge: Judge { window, _hung_up: hung_up.drop_guard() },
        })
    }

    fn enter(
        self: &Arc<Self>,
        subscription: &Arc<Subscription>,
        component: &Arc<PubsubComponent>,
    ) -> Result<Place, StreamRefused> {
        self.change(|open| {
            if open.closed {
                return Err(StreamRefused::Stopping);
            }
            if open.streams.len() >= STREAMS_MAX {
                return Err(StreamRefused::TooMany);
            }
            let number = open.next;
            open.next += 1;
            let (stop, told) = watch::channel(None);
            let (subscription, component) = (Arc::clone(subscription), Arc::clone(component));
            open.streams.insert(number, Entry { subscription, component, stop });
            Ok(Place { streams: Arc::clone(self), number, stop: told })
        })
    }

    /// What the streams listen to.
    pub(crate) fn list(&self) -> Vec<Arc<Subscription>> {
        self.table().streams.values().map(|entry| Arc::clone(&entry.subscription)).collect()
    }

    /// Ends the streams whose component is no longer as it was.
    pub(crate) fn keep_only(&self, still: impl Fn(&Arc<PubsubComponent>) -> bool) {
        for entry in self.table().streams.values().filter(|entry| !still(&entry.component)) {
            entry.stop.send_replace(Some(CHANGE_GRACE));
        }
    }

    /// Takes new streams again.
    pub(crate) fn reopen(&self) {
        self.table().closed = false;
    }

    /// Ends all streams and takes no new ones. Apps have `grace` to settle what they were sent.
    pub(crate) async fn close(&self, grace: Duration) {
        self.change(|open| open.closed = true);
        for entry in self.table().streams.values() {
            entry.stop.send_replace(Some(grace));
        }
        // The sender lives as long as this does.
        drop(self.count.subscribe().wait_for(|count| *count == 0).await);
    }

    fn table(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Open) -> T) -> T {
        let mut open = self.table();
        let answer = change(&mut open);
        self.count.send_replace(open.streams.len());
        answer
    }
}

/// Looks after a stream until it has ended.
async fn keep(
    mut place: Place,
    handle: SubscriptionHandle,
    hung_up: CancellationToken,
    let_go: CancellationToken,
    ended: CancellationToken,
) {
    let told = async {
        // Without whoever could tell, nobody does.
        match place.stop.wait_for(Option::is_some).await {
            Ok(grace) => grace.unwrap_or_default(),
            Err(_) => Duration::ZERO,
        }
    };
    let grace = tokio::select! {
        grace = told => grace,
        () = hung_up.cancelled() => Duration::ZERO,
        // The group was forgotten, or its dispatcher died: the app sees its stream end, and opens another.
        () = handle.ended() => Duration::ZERO,
    };
    let leave = pin!(handle.stop(grace));
    let gone = pin!(hung_up.cancelled());
    // `leave` is polled first: the group knows that we leave before any delivery is let go.
    match select(leave, gone).await {
        Either::Left(_) => {}
        Either::Right(((), leave)) => {
            let_go.cancel();
            leave.await;
        }
    }
    let_go.cancel();
    ended.cancel();
    drop(place);
}
