//! The broker: topics of one name in one key space.

use crate::{
    dispatch::{self, Inbox, Order, Seat, Start},
    error::{PublishError, StoreError, SubscribeError},
    keys::GroupKeys,
    member::{self, Held, Neighbours, Refused},
    message::{Consumer, NewMessage},
    names, publish,
    stats::{Counters, TopicStats},
    subscription::{SubscribeOptions, SubscriptionHandle},
    survey,
    sweep::{self, Sweep},
};
use outrigger_kernel::{Deadline, TaskHandle, within};
use outrigger_keyspace::{Space, Stamp, Write};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::oneshot;

/// Beyond this many topics the broker forgets which of them it has announced, and announces again.
const ANNOUNCED_MAX: usize = 10_000;
/// The first and the longest pause before somebody who could not be joined is tried again.
const HELD_PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(640));

/// What can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerSettings {
    /// How long a consumer may stay silent before its messages are taken for failed. 60 s.
    pub delivery_timeout: Duration,
    /// How long messages of a topic without groups are kept. 7 days.
    pub retention: Duration,
    /// How many messages a dispatcher reads ahead; at most [`crate::limits::WINDOW_MAX`]. 2048.
    pub window_messages: usize,
    /// How many bytes of messages a dispatcher reads ahead, give or take a page. 8 MiB.
    pub window_bytes: usize,
    /// How many bytes of messages consumers of one group hold, give or take a message. 32 MiB.
    pub in_flight_bytes: usize,
    /// How many failed messages of one group may wait to be tried again; beyond, no new ones are read. 10,000.
    pub parked_max: usize,
    /// How long to gather work before the front of a log is deleted. 1 s.
    pub sweep_pause: Duration,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            delivery_timeout: Duration::from_secs(60),
            retention: Duration::from_secs(7 * 24 * 60 * 60),
            window_messages: 2_048,
            window_bytes: 8 * 1024 * 1024,
            in_flight_bytes: 32 * 1024 * 1024,
            parked_max: 10_000,
            sweep_pause: Duration::from_secs(1),
        }
    }
}

/// Durable topics under one name. Dropping it stops everything at once, as a crash does: nothing acknowledged is lost,
/// what is being handled is delivered again. [`Broker::close`] is the polite way.
pub struct Broker {
    shared: Arc<Shared>,
    sweeper: Option<TaskHandle>,
}

/// What the broker and its tasks share.
pub(crate) struct Shared {
    pub(crate) space: Space,
    pub(crate) name: Arc<str>,
    pub(crate) settings: BrokerSettings,
    pub(crate) sweep: Sweep,
    neighbours: Option<Arc<dyn Neighbours>>,
    groups: Mutex<HashMap<GroupName, Running>>,
    announced: Mutex<HashSet<Box<str>>>,
    /// Changed under the lock of `groups`.
    closed: AtomicBool,
}

/// Topic and group.
type GroupName = (Arc<str>, Arc<str>);

/// A dispatcher that was started.
struct Running {
    inbox: Arc<Inbox>,
    counters: Arc<Counters>,
    task: TaskHandle,
}

impl Broker {
    /// The broker `name` in `space`. There must be at most one of a name in one space at a time: of two dispatchers of
    /// one group, the later one makes the earlier one stop. Where several processes share the space, see
    /// [`Broker::open_among`].
    #[must_use]
    pub fn open(space: Space, name: &str, settings: BrokerSettings) -> Arc<Self> {
        Self::start(space, name, settings, None)
    }

    /// The broker `name` in a `space` that processes share, one broker of the name in each. A group that consumers of
    /// several processes are in is dispatched to by one of them, and the others are members at its table: every message
    /// goes to one consumer, wherever it is. When the dispatching process goes, another one takes over.
    #[must_use]
    pub fn open_among(
        space: Space,
        name: &str,
        settings: BrokerSettings,
        neighbours: Arc<dyn Neighbours>,
    ) -> Arc<Self> {
        Self::start(space, name, settings, Some(neighbours))
    }

    fn start(
        space: Space,
        name: &str,
        settings: BrokerSettings,
        neighbours: Option<Arc<dyn Neighbours>>,
    ) -> Arc<Self> {
        let shared = Arc::new(Shared {
            space,
            name: name.into(),
            settings,
            sweep: Sweep::default(),
            neighbours,
            groups: Mutex::default(),
            announced: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        let sweeper = Box::pin(sweep::run(Arc::clone(&shared)));
        let sweeper = shared.space.world().spawn("events sweeper", sweeper);
        Arc::new(Self { shared, sweeper: Some(sweeper) })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Publishes `messages` to `topic` in one commit: all of them, durably and in this order, or none. Answers their
    /// places in the topic.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(
        &self,
        topic: &str,
        messages: Vec<NewMessage>,
        deadline: Deadline,
    ) -> Result<Vec<Stamp>, PublishError> {
        let count = u16::try_from(messages.len()).unwrap_or(u16::MAX);
        let writes = self.plan(topic, messages)?;
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let world = &**self.shared.space.world();
        let commit = within(world, deadline, self.shared.space.write(writes)).await;
        let commit = commit.map_err(|elapsed| PublishError::Unknown(elapsed.to_string()))??;
        self.shared.announced(topic);
        Ok((0..count).map(|index| commit.stamp(index)).collect())
    }

    /// The writes of a publish, for a block that wants them in a commit of its own: the order and its event become
    /// durable together or not at all. Each message is one stamped write, in the order given.
    ///
    /// # Errors
    /// See [`PublishError`]; only those that say what is wrong with the messages.
    pub fn plan(&self, topic: &str, messages: Vec<NewMessage>) -> Result<Vec<Write>, PublishError> {
        names::check("broker", &self.shared.name)?;
        let announce = !self.shared.announced_topics().contains(topic);
        let now = self.shared.space.world().wall();
        publish::plan(&self.shared.name, topic, messages, now, announce)
    }

    /// Has `consumer` handed the messages of a topic, as one of a group. When this returns, the group is durably
    /// registered: it gets every message published from now on, and a group that is new gets first whatever the topic
    /// still holds.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub async fn subscribe(
        &self,
        options: SubscribeOptions,
        consumer: Arc<dyn Consumer>,
    ) -> Result<SubscriptionHandle, SubscribeError> {
        names::check("broker", &self.shared.name)?;
        names::check("topic", &options.topic)?;
        names::check("group", &options.group)?;
        if let Some(dead_letters) = &options.dead_letter_topic {
            names::check("topic", dead_letters)?;
            if *dead_letters == options.topic {
                return Err(SubscribeError::DeadLetterLoop(dead_letters.clone()));
            }
        }
        let Some(neighbours) = self.shared.neighbours.as_ref() else {
            return self.subscribe_here(options, consumer, None).await;
        };
        let world = self.shared.space.world();
        let mut pause = HELD_PAUSES.0;
        loop {
            let refused = match self.join_holder(&**neighbours, &options, &consumer).await? {
                Found::Member(handle) => return Ok(handle),
                Found::Unclear(why) => SubscribeError::Store(StoreError::Held(why)),
                Found::Free(over) => {
                    let here = self.subscribe_here(options.clone(), Arc::clone(&consumer), over);
                    match here.await {
                        Err(error @ SubscribeError::Store(StoreError::Held(_))) => error,
                        settled => return settled,
                    }
                }
            };
            if pause > HELD_PAUSES.1 {
                return Err(refused);
            }
            world.sleep(pause).await;
            pause *= 2;
        }
    }

    /// Looks whether another process dispatches to the group, and joins it if so.
    async fn join_holder(
        &self,
        neighbours: &dyn Neighbours,
        options: &SubscribeOptions,
        consumer: &Arc<dyn Consumer>,
    ) -> Result<Found, SubscribeError> {
        let shared = &self.shared;
        if shared.closed.load(Ordering::Relaxed) {
            return Err(SubscribeError::Closed);
        }
        if shared.counters(&options.topic, &options.group).is_some() {
            return Ok(Found::Free(None));
        }
        let keys = GroupKeys::new(&shared.name, &options.topic, &options.group);
        let held = member::holder(&shared.space, &keys, neighbours.own()).await?;
        let Some(held) = held else { return Ok(Found::Free(None)) };
        let wish = (options, shared.settings.delivery_timeout);
        let consumer = Arc::clone(consumer);
        let world = shared.space.world();
        match member::join(neighbours, &held, &shared.name, wish, consumer, world).await {
            Ok(membership) => Ok(Found::Member(SubscriptionHandle::elsewhere(membership))),
            Err(Refused::NotThere(reason)) => {
                tracing::debug!(group = options.group, %held, reason, "a claim is taken over");
                Ok(Found::Free(Some(held)))
            }
            Err(Refused::Unclear(why)) => Ok(Found::Unclear(why)),
        }
    }

    /// A seat for a consumer of another process, if this one dispatches to the group.
    pub(crate) async fn seat_member(
        &self,
        options: SubscribeOptions,
        consumer: Arc<dyn Consumer>,
    ) -> Result<SubscriptionHandle, SubscribeError> {
        if self.shared.counters(&options.topic, &options.group).is_none() {
            return Err(SubscribeError::Closed);
        }
        self.subscribe_here(options, consumer, None).await
    }

    /// Subscribes at the dispatcher of this process, which is started if need be.
    async fn subscribe_here(
        &self,
        options: SubscribeOptions,
        consumer: Arc<dyn Consumer>,
        over: Option<Held>,
    ) -> Result<SubscriptionHandle, SubscribeError> {
        let name = (Arc::from(&*options.topic), Arc::from(&*options.group));
        let timeout = self.shared.settings.delivery_timeout;
        let seat = Arc::new(Seat::new(&self.shared.name, options, consumer, timeout));
        let (reply, joined) = oneshot::channel();
        let order = Order::Join { seat: Arc::clone(&seat), reply };
        let inbox = join(&self.shared, name, order, over).ok_or(SubscribeError::Closed)?;
        // Made before the wait, so that a caller who gives up leaves the table again.
        let handle = SubscriptionHandle::new(seat, inbox, Arc::clone(self.shared.space.world()));
        joined.await.map_err(|_| SubscribeError::Closed)??;
        Ok(handle)
    }

    /// Ends all subscriptions, each as [`SubscriptionHandle::stop`] does, and takes no new ones. Publishing goes on.
    pub async fn close(&self, grace: Duration) {
        let inboxes: Vec<Arc<Inbox>> = {
            let groups = self.shared.groups();
            self.shared.closed.store(true, Ordering::Relaxed);
            groups.values().map(|running| Arc::clone(&running.inbox)).collect()
        };
        let (done, mut gone): (Vec<_>, Vec<_>) = inboxes.iter().map(|_| oneshot::channel()).unzip();
        for (inbox, done) in inboxes.iter().zip(done) {
            inbox.order(Order::Close { done });
        }
        let world = &**self.shared.space.world();
        let deadline = Deadline::after(world, grace);
        let mut all = futures_util::future::join_all(gone.iter_mut());
        if within(world, deadline, &mut all).await.is_ok() {
            return;
        }
        for inbox in &inboxes {
            inbox.order(Order::AbandonAll);
        }
        let deadline = Deadline::after(world, crate::subscription::SETTLING_MAX);
        if within(world, deadline, all).await.is_err() {
            tracing::warn!(
                broker = self.name(),
                "closed with verdicts that could not be committed"
            );
        }
    }

    /// How all topics fare.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn stats(&self) -> Result<Vec<TopicStats>, StoreError> {
        survey::topics(&self.shared).await
    }

    /// Forgets a group for good: what it has not handled is not kept for it any more. A subscription of the group that
    /// is open ends; see [`SubscriptionHandle::ended`]. Whoever subscribes while this goes on keeps the group.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn forget(&self, topic: &str, group: &str) -> Result<(), StoreError> {
        survey::forget(&self.shared, topic, group).await
    }
}

/// Leaves `order` with the dispatcher of `name`, starting it if there is none; not in a closed broker.
fn join(
    shared: &Arc<Shared>,
    name: GroupName,
    order: Order,
    over: Option<Held>,
) -> Option<Arc<Inbox>> {
    let mut groups = shared.groups();
    if shared.closed.load(Ordering::Relaxed) {
        return None;
    }
    // A dispatcher takes itself off this map when it closes its inbox, under this lock.
    if let Some(running) = groups.get(&name) {
        running.inbox.order(order);
        return Some(Arc::clone(&running.inbox));
    }
    let (inbox, counters) = (Arc::<Inbox>::default(), Arc::<Counters>::default());
    inbox.order(order);
    let (topic, group) = name.clone();
    let start = Start {
        shared: Arc::clone(shared),
        topic,
        group,
        inbox: Arc::clone(&inbox),
        counters: Arc::clone(&counters),
        over,
    };
    let task = shared.space.world().spawn("events dispatcher", Box::pin(dispatch::run(start)));
    groups.insert(name, Running { inbox: Arc::clone(&inbox), counters, task });
    Some(inbox)
}

/// Who dispatches to a group that somebody wants to subscribe to.
enum Found {
    /// Another process, and the consumer sits at its table now.
    Member(SubscriptionHandle),
    /// Nobody, this process, or one that is gone and whose claim this is.
    Free(Option<Held>),
    /// It cannot be said.
    Unclear(String),
}

impl Shared {
    /// The name of this process, where processes have names.
    pub(crate) fn own(&self) -> Option<&str> {
        self.neighbours.as_ref().map(|neighbours| neighbours.own())
    }

    /// Takes a dispatcher off the map and closes its inbox, unless orders lie there.
    pub(crate) fn retire(&self, topic: &Arc<str>, group: &Arc<str>, inbox: &Arc<Inbox>) -> bool {
        let mut groups = self.groups();
        let closed = inbox.close();
        let name = (Arc::clone(topic), Arc::clone(group));
        // Retired a second time, it must not take its successor off.
        if closed && groups.get(&name).is_some_and(|running| Arc::ptr_eq(&running.inbox, inbox)) {
            groups.remove(&name);
        }
        closed
    }

    /// The counters of the dispatcher of a group, if there is one.
    pub(crate) fn counters(&self, topic: &str, group: &str) -> Option<Arc<Counters>> {
        let name = (Arc::from(topic), Arc::from(group));
        self.groups().get(&name).map(|running| Arc::clone(&running.counters))
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<GroupName, Running>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announced_topics(&self) -> MutexGuard<'_, HashSet<Box<str>>> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record that says that `topic` exists is committed.
    fn announced(&self, topic: &str) {
        let mut topics = self.announced_topics();
        if topics.contains(topic) {
            return;
        }
        if topics.len() >= ANNOUNCED_MAX {
            topics.clear();
        }
        topics.insert(topic.into());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let groups = std::mem::take(&mut *self.shared.groups());
        for task in groups.into_values().map(|running| running.task).chain(self.sweeper.take()) {
            task.abort();
        }
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broker({})", self.shared.name)
    }
}
