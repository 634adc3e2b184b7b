//! The task that makes an app's subscriptions what they should be.
//!
//! ```text
//!   waiting for the app to listen, to be healthy --> asking it --> serving
//!                                                                  |  ^
//!              a wish, a change of health, something that failed --'  '-- compare, then change only the difference
//! ```
//!
//! Until the app has said what it wants nothing is served, because its answer may send a declared topic elsewhere. From
//! then on every turn compares what should be with what is: what is the same is left alone; a subscription that changed
//! is opened anew before the old one leaves, so that there is no gap, and the old one may finish what it is at.

use super::{
    discovery,
    grpc_app::GrpcApp,
    http_app::HttpApp,
    manager::{Done, Shared, Stage, Wish},
    outlet::{Lane, Watched},
    reading::Reading,
    subscription::{Key, Subscription, merge},
    terms,
};
use crate::components::PubsubComponent;
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use outrigger_calls::{AppChannel, Health};
use outrigger_events::{Consumer, Left, SubscribeError, SubscriptionHandle};
use outrigger_kernel::{BoxFuture, Deadline, Kind, Problem, within};
use std::{collections::BTreeMap, future::pending, sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a subscription that is replaced or removed may finish what it is at.
const CHANGE_GRACE: Duration = Duration::from_secs(30);
/// How long opening a subscription may take before it counts as failed.
const OPEN_WAIT: Duration = Duration::from_secs(10);
/// How long, beyond the time of grace, the last verdicts may take to be committed.
const SETTLING_MAX: Duration = Duration::from_secs(6);
/// How long to wait before a subscription that was lost is opened again.
const LOST_PAUSE: Duration = Duration::from_millis(100);
/// When to try again what failed.
const TRY_AGAIN: Duration = Duration::from_secs(2);

pub(crate) struct Keeper {
    shared: Arc<Shared>,
    app: App,
    serving: BTreeMap<Key, Served>,
    leaving: FuturesUnordered<BoxFuture<'static, Left>>,
    /// Why something is not served; remembered so that it is said once.
    complaints: BTreeMap<Key, String>,
    try_again: Option<BoxFuture<'static, ()>>,
}

/// What is known of the app.
#[derive(Default)]
struct App {
    listens: bool,
    /// Waiting for it to listen.
    knocking: Option<BoxFuture<'static, ()>>,
    was_healthy: bool,
    /// What it said it wants; `None` until it was asked.
    asked: Option<Vec<Arc<Subscription>>>,
    /// The question that is under way.
    asking: Option<BoxFuture<'static, Option<Vec<Subscription>>>>,
    /// The [`Wish::asking`] that was last acted upon.
    asked_for: u64,
}

/// One subscription that is served.
struct Served {
    subscription: Arc<Subscription>,
    component: Arc<PubsubComponent>,
    handle: SubscriptionHandle,
    leaving: CancellationToken,
}

/// Why a subscription is not served.
struct Complaint {
    problem: Problem,
    passing: bool,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            app: App::default(),
            serving: BTreeMap::new(),
            leaving: FuturesUnordered::new(),
            complaints: BTreeMap::new(),
            try_again: None,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut wishes = self.shared.wish.subscribe();
        loop {
            let mut wish = wishes.borrow_and_update().clone();
            let settled = match wish.stage {
                Stage::Gone => return,
                Stage::Rest(grace) => {
                    self.rest(grace).await;
                    true
                }
                Stage::Serve => self.turn(&mut wish).await,
            };
            self.shared.done.send_replace(Done { wish: wish.number, settled });
            tokio::select! {
                changed = wishes.changed() => if changed.is_err() { return },
                () = changed(&mut wish.health) => {}
                () = finished(&mut self.try_again) => {}
                () = finished(&mut self.app.knocking) => self.app.listens = true,
                wanted = finished(&mut self.app.asking) => self.app.said(wanted),
                Some(left) = self.leaving.next() => tell_of(left),
                key = first_ended(&self.serving) => self.lost(&key).await,
            }
        }
    }

    /// Does what can be done now. Whether nothing is left to do.
    async fn turn(&mut self, wish: &mut Wish) -> bool {
        let healthy = wish.health.as_mut().is_none_or(|verdict| {
            // Marked as seen, so that only what comes after it wakes us.
            *verdict.borrow_and_update() == Health::Healthy
        });
        let wish = &*wish;
        self.shared.streams.keep_only(|component| {
            let now = wish.components.pubsub.get(&*component.name);
            now.is_some_and(|now| terms::same(component, now))
        });
        let Some(channel) = self.shared.outlet.app.clone() else {
            self.complain_of_all(wish);
            return true;
        };
        self.approach(&channel, healthy, wish.asking);
        let Some(asked) = &self.app.asked else { return self.app.listens && !healthy };
        let wanted = merge(&wish.declared, asked);
        self.let_go_of_unwanted(&wanted, wish);
        let held_back = wish.paused || !healthy;
        for served in self.serving.values() {
            if held_back { served.handle.pause() } else { served.handle.resume() }
        }
        let failed = !held_back && self.serve(&wanted, wish, &channel).await;
        self.try_again = failed.then(|| self.shared.outlet.world.sleep(TRY_AGAIN));
        self.publish_list();
        !failed && (held_back || self.app.asking.is_none())
    }

    /// Sees to it that the app is asked: once it listens and is well, and again when it has recovered or somebody wishes.
    fn approach(&mut self, channel: &Arc<AppChannel>, healthy: bool, wished: u64) {
        let recovered = healthy && !self.app.was_healthy;
        if !self.app.listens {
            self.app.knocking.get_or_insert_with(|| {
                let channel = Arc::clone(channel);
                Box::pin(async move { discovery::listening(&channel).await })
            });
            return;
        }
        self.app.was_healthy = healthy;
        if !(recovered || healthy && wished > self.app.asked_for) {
            return;
        }
        self.app.asked_for = wished;
        let (channel, world) = (Arc::clone(channel), Arc::clone(&self.shared.outlet.world));
        if self.shared.outlet.ask_for_subscriptions {
            self.app.asking =
                Some(Box::pin(async move { discovery::ask(&channel, &*world).await }));
        } else {
            self.app.said(None);
        }
    }

    /// Lets go of what nobody wants any more, or what cannot be served any more.
    fn let_go_of_unwanted(&mut self, wanted: &BTreeMap<Key, Arc<Subscription>>, wish: &Wish) {
        let gone = |key: &Key, _: &mut Served| {
            !wanted.contains_key(key) || !wish.components.pubsub.contains_key(&*key.0)
        };
        let gone: Vec<Served> =
            self.serving.extract_if(.., gone).map(|(_, served)| served).collect();
        self.complaints.retain(|key, _| wanted.contains_key(key));
        for served in gone {
            tracing::info!(pubsub = %served.subscription.pubsub, topic = %served.subscription.topic, "unsubscribed");
            self.leave(served, CHANGE_GRACE);
        }
    }

    /// A subscription ended that nobody stopped: its group was forgotten, or its dispatcher died. What is still wanted is
    /// opened again by the next turn; the pause keeps one that ends at once from being opened in a circle.
    async fn lost(&mut self, key: &Key) {
        let (pubsub, topic) = key;
        tracing::warn!(%pubsub, %topic, "a subscription ended that nobody stopped; subscribing again");
        drop(self.serving.remove(key));
        self.shared.outlet.world.sleep(LOST_PAUSE).await;
    }

    fn leave(&self, served: Served, grace: Duration) {
        self.leaving.push(Box::pin(leave(served, grace)));
    }

    /// Serves what is wanted and not served as it should be. Whether something failed that may work later.
    async fn serve(
        &mut self,
        wanted: &BTreeMap<Key, Arc<Subscription>>,
        wish: &Wish,
        channel: &Arc<AppChannel>,
    ) -> bool {
        let mut opening = Vec::new();
        for (key, subscription) in wanted {
            let component = wish.components.pubsub.get(&*key.0);
            let same = self.serving.get(key).is_some_and(|served| {
                *served.subscription == **subscription
                    && component.is_some_and(|now| terms::same(&served.component, now))
            });
            if !same {
                opening.push(self.open(key, subscription, component, channel));
            }
        }
        let opened = join_all(opening).await;
        let mut failed = false;
        for (key, opened) in opened {
            match opened {
                Ok(served) => {
                    let (pubsub, topic) = (&served.subscription.pubsub, &served.subscription.topic);
                    tracing::info!(%pubsub, %topic, "subscribed");
                    self.complaints.remove(&key);
                    if let Some(old) = self.serving.insert(key, served) {
                        self.leave(old, CHANGE_GRACE);
                    }
                }
                Err(complaint) => {
                    failed |= complaint.passing;
                    // What is served by other terms than it should be is not served.
                    if !complaint.passing
                        && let Some(old) = self.serving.remove(&key)
                    {
                        self.leave(old, CHANGE_GRACE);
                    }
                    self.complain(&key, &complaint.problem);
                }
            }
        }
        failed
    }

    /// Opens a subscription. Nothing is changed here, so that many can be opened at once.
    fn open(
        &self,
        key: &Key,
        subscription: &Arc<Subscription>,
        component: Option<&Arc<PubsubComponent>>,
        channel: &Arc<AppChannel>,
    ) -> BoxFuture<'static, (Key, Result<Served, Complaint>)> {
        let key = key.clone();
        let (subscription, component) = (Arc::clone(subscription), component.cloned());
        let (channel, outlet) = (Arc::clone(channel), self.shared.outlet.clone());
        Box::pin(async move {
            let leaving = CancellationToken::new();
            let checked = check(&subscription, component, &outlet.app_id, &channel);
            let (component, reading) = match checked {
                Ok(checked) => checked,
                Err(problem) => return (key, Err(Complaint { problem, passing: false })),
            };
            let world = Arc::clone(&outlet.world);
            let watch = Watched::new(&outlet, &component);
            let lane = Lane {
                outlet,
                pubsub: Arc::clone(&component.name),
                topic: Arc::clone(&subscription.topic),
                reading,
                matching: terms::matching(&component),
                breaker: terms::breaker(&component),
                watch,
                leaving: leaving.clone(),
            };
            let bulk = subscription.bulk.is_some();
            let consumer: Arc<dyn Consumer> = if channel.target().protocol.is_grpc() {
                Arc::new(GrpcApp::new(lane, channel, bulk))
            } else {
                Arc::new(HttpApp { lane, channel, bulk })
            };
            let options = terms::options(&subscription, &component);
            let deadline = Deadline::after(&*world, OPEN_WAIT);
            let opened =
                within(&*world, deadline, component.broker.subscribe(options, consumer)).await;
            let opened = match opened {
                Ok(Ok(handle)) => Ok(Served { subscription, component, handle, leaving }),
                Ok(Err(error)) => Err(refused(&error)),
                Err(elapsed) => Err(Complaint {
                    problem: Problem::new("SUBSCRIBE", Kind::Timeout, elapsed.to_string()),
                    passing: true,
                }),
            };
            (key, opened)
        })
    }

    /// Says once why something is not served.
    fn complain(&mut self, key: &Key, problem: &Problem) {
        let text = problem.to_string();
        if self.complaints.get(key) != Some(&text) {
            let (pubsub, topic) = key;
            tracing::error!(%pubsub, %topic, reason = %text, "not subscribed");
            self.complaints.insert(key.clone(), text);
        }
    }

    fn complain_of_all(&mut self, wish: &Wish) {
        for key in merge(&wish.declared, &[]).into_keys() {
            let problem =
                Problem::new("NO_APP", Kind::NotConfigured, "the app has no port to deliver to")
                    .advise("start it with --app-port, or open a stream");
            self.complain(&key, &problem);
        }
    }

    fn publish_list(&self) {
        let list = self.serving.values().map(|served| Arc::clone(&served.subscription)).collect();
        self.shared.served.store(Arc::new(list));
    }

    /// Leaves everything, and forgets the app: the next one that listens may be another.
    async fn rest(&mut self, grace: Duration) {
        self.app = App::default();
        self.try_again = None;
        for served in std::mem::take(&mut self.serving).into_values() {
            self.leave(served, grace);
        }
        self.publish_list();
        // What left before has a grace of its own, which may be longer than there is time now.
        let world = Arc::clone(&self.shared.outlet.world);
        let deadline = Deadline::after(&*world, grace.saturating_add(SETTLING_MAX));
        let all = async {
            while let Some(left) = self.leaving.next().await {
                tell_of(left);
            }
        };
        if within(&*world, deadline, all).await.is_err() {
            self.leaving.clear();
        }
    }
}

/// The key of the first subscription that is served no more though nobody stopped it; waits for ever while there is none.
async fn first_ended(serving: &BTreeMap<Key, Served>) -> Key {
    let waits = serving.iter().map(|(key, served)| async move {
        served.handle.ended().await;
        key.clone()
    });
    match waits.collect::<FuturesUnordered<_>>().next().await {
        Some(key) => key,
        None => pending().await,
    }
}

impl App {
    /// The app was asked; an answer that says nothing changes nothing.
    fn said(&mut self, wanted: Option<Vec<Subscription>>) {
        match wanted {
            Some(wanted) => self.asked = Some(wanted.into_iter().map(Arc::new).collect()),
            None => drop(self.asked.get_or_insert_default()),
        }
    }
}

fn tell_of(left: Left) {
    if left.abandoned > 0 {
        let messages = left.abandoned;
        tracing::warn!(messages, "messages that the app did not finish will be delivered again");
    }
}

/// Leaves in the right order: the group first, so that what is given back does not count as failed; then whoever waits
/// for an app that is away stops waiting.
async fn leave(served: Served, grace: Duration) -> Left {
    let waiting = served.leaving;
    futures_util::join!(served.handle.stop(grace), async move { waiting.cancel() }).0
}

/// What has to be true before a broker is asked.
fn check(
    subscription: &Subscription,
    component: Option<Arc<PubsubComponent>>,
    app_id: &str,
    channel: &AppChannel,
) -> Result<(Arc<PubsubComponent>, Reading), Problem> {
    let (pubsub, topic) = (&subscription.pubsub, &subscription.topic);
    let Some(component) = component else {
        let message = format!("there is no broker named {pubsub}");
        let problem = Problem::new("PUBSUB_MISSING", Kind::NotConfigured, message);
        return Err(problem.advise("add a component of that name, or scope it to this app"));
    };
    if !component.scopes.can_subscribe(app_id, topic) {
        let message =
            format!("the app {app_id} may not subscribe to the topic {topic} of {pubsub}");
        let problem = Problem::new("PUBSUB_FORBIDDEN", Kind::Forbidden, message);
        return Err(problem
            .advise("see subscriptionScopes, allowedTopics and protectedTopics of the component"));
    }
    let http = !channel.target().protocol.is_grpc();
    match Reading::new(subscription, http) {
        Ok(reading) => Ok((component, reading)),
        Err(reason) => Err(Problem::new("SUBSCRIPTION_INVALID", Kind::Invalid, reason)),
    }
}

fn refused(error: &SubscribeError) -> Complaint {
    let passing = matches!(error, SubscribeError::Store(_) | SubscribeError::Closed);
    let kind = if passing { Kind::Unavailable } else { Kind::Invalid };
    Complaint { problem: Problem::new("SUBSCRIBE", kind, error.to_string()), passing }
}

/// The answer of what is under way in `slot`, which is empty then; never, where nothing is.
async fn finished<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(work) = slot else { return pending().await };
    let answer = work.await;
    *slot = None;
    answer
}

/// The next change of health; never, where it is not watched any more.
async fn changed(health: &mut Option<watch::Receiver<Health>>) {
    let Some(verdict) = health else { return pending().await };
    if verdict.changed().await.is_err() {
        pending::<()>().await;
    }
}
