//! All subscriptions of one app, behind one door.
//!
//! Callers say what should be ([`Wish`]); a task of its own (`keeper`) makes it so, and goes on trying where it cannot.
//! Wishes overwrite each other, so a burst of reloads is one change, and nobody who wishes waits for the app.

use super::{
    keeper::Keeper,
    outlet::Outlet,
    stream::{StreamOpening, StreamRefused, Streams, TopicStream},
    subscription::Subscription,
};
use crate::components::{Components, PubsubComponent};
use arc_swap::ArcSwap;
use outrigger_calls::Health;
use outrigger_kernel::{Deadline, within};
use outrigger_proto::runtime::v1 as pb;
use outrigger_resources as resources;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// How long, beyond the time of grace, the last verdicts may take to be committed.
const SETTLING_MAX: Duration = Duration::from_secs(10);

/// What should be.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Grows with every wish.
    pub(crate) number: u64,
    pub(crate) declared: Arc<[Arc<Subscription>]>,
    pub(crate) components: Arc<Components>,
    /// The app's health, where it is watched.
    pub(crate) health: Option<watch::Receiver<Health>>,
    /// Whether nothing new is to be delivered.
    pub(crate) paused: bool,
    /// Grows whenever the app is to be asked again.
    pub(crate) asking: u64,
    pub(crate) stage: Stage,
}

/// Whether the app is served at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It is not; what it has it may finish within this time.
    Rest(Duration),
    /// It is.
    Serve,
    /// Nobody is left who could wish anything.
    Gone,
}

/// How far it is so.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// The last wish that was acted upon.
    pub(crate) wish: u64,
    /// Whether nothing is left to do: the app has been asked and everything is served that can be; or it listens, but
    /// is not well.
    pub(crate) settled: bool,
}

/// What the door and the keeper share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) outlet: Outlet,
    pub(crate) wish: watch::Sender<Wish>,
    pub(crate) done: watch::Sender<Done>,
    /// What is served now, streams apart.
    pub(crate) served: ArcSwap<Vec<Arc<Subscription>>>,
    pub(crate) streams: Arc<Streams>,
    started: AtomicBool,
}

/// The subscriptions of one app.
pub struct Subscriptions {
    shared: Arc<Shared>,
}

impl Subscriptions {
    /// None yet; streams can be opened at once, the rest waits for [`Subscriptions::start`].
    #[must_use]
    pub fn new(outlet: Outlet) -> Self {
        let wish = Wish {
            number: 0,
            declared: Arc::new([]),
            components: Arc::default(),
            health: None,
            paused: false,
            asking: 0,
            stage: Stage::Rest(Duration::ZERO),
        };
        Self {
            shared: Arc::new(Shared {
                outlet,
                wish: watch::channel(wish).0,
                done: watch::channel(Done::default()).0,
                served: ArcSwap::default(),
                streams: Arc::default(),
                started: AtomicBool::new(false),
            }),
        }
    }

    /// Begins: waits until the app listens (and is healthy, where that is watched), asks it what it wants, and serves
    /// that together with what is `declared`. Later changes of health pause and resume; an app that has come back is
    /// asked again, as it may be a newer one.
    ///
    /// Returns once that is done, or once the app listens but is not well; false, if [`Subscriptions::detach`] or
    /// [`Subscriptions::stop`] came in between. Dropping the future stops nothing. May be called again after either of
    /// them. `declared` may contain what is scoped to other apps; that is left out.
    pub async fn start(
        &self,
        declared: Vec<resources::Subscription>,
        components: Arc<Components>,
        health: Option<watch::Receiver<Health>>,
    ) -> bool {
        self.shared.streams.reopen();
        let declared = self.ours(&declared);
        self.wish(|wish| {
            wish.declared = declared;
            wish.components = components;
            wish.health = health;
            wish.stage = Stage::Serve;
        });
        if !self.shared.started.swap(true, Ordering::AcqRel) {
            let keeper = Keeper::new(Arc::clone(&self.shared));
            let _task = self.shared.outlet.world.spawn("subscriptions", Box::pin(keeper.run()));
        }
        self.settled().await;
        self.shared.wish.borrow().stage == Stage::Serve
    }

    /// Changes what is declared and the components it runs on. What stays the same goes on undisturbed; what goes may
    /// finish what it is at. Returns once that is under way.
    pub async fn reconcile(
        &self,
        declared: Vec<resources::Subscription>,
        components: Arc<Components>,
    ) {
        let declared = self.ours(&declared);
        let wish = self.wish(|wish| {
            wish.declared = declared;
            wish.components = components;
        });
        self.acted_upon(wish).await;
    }

    /// Asks the app again what it wants, for instance because its process was started anew.
    pub async fn ask_again(&self) {
        let wish = self.wish(|wish| wish.asking += 1);
        self.acted_upon(wish).await;
    }

    /// Delivers nothing new until [`Subscriptions::resume`]. What is under way goes on, and so do streams, which end by
    /// themselves when the app is not well.
    pub async fn pause(&self) {
        let wish = self.wish(|wish| wish.paused = true);
        self.acted_upon(wish).await;
    }

    /// Ends a pause.
    pub async fn resume(&self) {
        let wish = self.wish(|wish| wish.paused = false);
        self.acted_upon(wish).await;
    }

    /// Waits until nothing is left to do, as [`Subscriptions::start`] does; for an app that never listens, for ever.
    pub async fn settled(&self) {
        let wish = self.shared.wish.borrow().number;
        let mut done = self.shared.done.subscribe();
        // The sender lives as long as this does.
        drop(done.wait_for(|done| done.wish >= wish && done.settled).await);
    }

    /// The app's process is gone: ends the deliveries to its port at once. What it had is delivered again, without the
    /// attempt being counted. Streams end by themselves when a process goes, and a new one may open some.
    pub async fn detach(&self) {
        let wish = self.wish(|wish| wish.stage = Stage::Rest(Duration::ZERO));
        self.acted_upon(wish).await;
    }

    /// Ends everything: hands out nothing new, gives the app `drain` to finish what it has, then takes the rest back, to
    /// be delivered after the next start. New streams are refused.
    pub async fn stop(&self, drain: Duration) {
        let wish = self.wish(|wish| wish.stage = Stage::Rest(drain));
        let world = &*self.shared.outlet.world;
        let all = async {
            tokio::join!(self.acted_upon(wish), self.shared.streams.close(drain));
        };
        let deadline = Deadline::after(world, drain.saturating_add(SETTLING_MAX));
        if within(world, deadline, all).await.is_err() {
            tracing::warn!(app = %self.shared.outlet.app_id, "subscriptions did not end in time");
        }
    }

    /// Everything that is served, as `metadata` shows it.
    pub(crate) fn list(&self) -> Vec<pb::PubsubSubscription> {
        let (served, streams) = (self.shared.served.load(), self.shared.streams.list());
        served.iter().chain(&streams).map(|one| one.listed()).collect()
    }

    /// Opens a stream of the events of one topic.
    ///
    /// # Errors
    /// See [`StreamRefused`].
    pub(crate) async fn open_stream(
        &self,
        component: Arc<PubsubComponent>,
        opening: StreamOpening,
    ) -> Result<TopicStream, StreamRefused> {
        self.shared.streams.open(&self.shared.outlet, component, opening).await
    }

    /// What of `declared` concerns this app. The namespace was looked at by whoever knows the process's.
    fn ours(&self, declared: &[resources::Subscription]) -> Arc<[Arc<Subscription>]> {
        let app_id = &*self.shared.outlet.app_id;
        let ours = declared.iter().filter(|one| one.head.applies_to(app_id, None));
        ours.map(|one| Arc::new(Subscription::declared(one))).collect()
    }

    fn wish(&self, change: impl FnOnce(&mut Wish)) -> u64 {
        let mut number = 0;
        self.shared.wish.send_modify(|wish| {
            change(wish);
            wish.number += 1;
            number = wish.number;
        });
        number
    }

    async fn acted_upon(&self, wish: u64) {
        if self.shared.started.load(Ordering::Acquire) {
            let mut done = self.shared.done.subscribe();
            // The sender lives as long as this does.
            drop(done.wait_for(|done| done.wish >= wish).await);
        }
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        self.wish(|wish| wish.stage = Stage::Gone);
    }
}

impl fmt::Debug for Subscriptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscriptions({})", self.shared.outlet.app_id)
    }
}
