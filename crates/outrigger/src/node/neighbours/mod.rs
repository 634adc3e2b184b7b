//! The other runtimes of this machine that share the data folder: they find each other's apps, and call each other.
//!
//! ```text
//!   start -> doors open -> announced in the registry -> apps of all callable everywhere
//!            watch of the registry, a call that finds nobody --> one look: who is there, who is gone
//!            somebody leaves the data folder --> its holder knocks at every door
//!   drain -> withdrawn -> calls under way end -> doors closed
//! ```
//!
//! The registry says who was there. Whether he still is, his door says, and who finds it unanswered takes the row away.
//! Nothing is written or asked while nothing happens. A door that somebody has removed is put back.

mod doors;
mod roll;

use super::Node;
use doors::{Doors, Open};
use outrigger_api::{Listener, serve_peers};
use outrigger_calls::Relay;
use outrigger_coordination::{App, Instance, Registry};
use outrigger_events::Neighbours;
use outrigger_kernel::{Deadline, World, within};
use outrigger_keyspace::Space;
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    net::UnixListener,
    sync::{Notify, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long the registry may keep the start waiting. It is announced later then.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(2);
/// How long leaving the registry may take. Others find out by themselves.
const WITHDRAWN_WITHIN: Duration = Duration::from_secs(1);
/// The pause after doors that could not be put back.
const REOPEN_PAUSE: Duration = Duration::from_secs(2);
/// Members of groups of this process, at once. More than a machine can have processes and subscriptions.
const MEMBERS_MAX: usize = 4_096;

/// The way to the other processes of a data folder.
pub(crate) struct Neighbourhood {
    doors: Arc<Doors>,
    /// Listening since the engine was opened; served once the node is there.
    open: Mutex<Option<Open>>,
    /// Rung when this process hosts something else than before.
    changed: Arc<Notify>,
    stop: CancellationToken,
    serving: TaskTracker,
    registry: Mutex<Option<Registry>>,
    world: Arc<dyn World>,
}

impl Neighbourhood {
    pub(super) fn new(data: &Path, world: Arc<dyn World>) -> Arc<Self> {
        let own = format!("{:016x}", world.random());
        Arc::new(Self {
            doors: Arc::new(Doors::new(data, own)),
            open: Mutex::default(),
            changed: Arc::default(),
            stop: CancellationToken::new(),
            serving: TaskTracker::new(),
            registry: Mutex::default(),
            world,
        })
    }

    /// Opens the doors. Before anything in the store names this process: a name whose door is closed is a dead man's.
    ///
    /// Where no socket can be made (some file systems of other machines have none), this process is alone, and so is
    /// everybody else with this folder.
    pub(super) fn open_doors(&self) {
        let opened = self.doors.open();
        if let Err(error) = &opened {
            tracing::debug!(%error, "no sockets in the data folder: other runtimes are not found");
        }
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = opened.ok();
    }

    /// How brokers reach those of other processes; `None` where nobody could reach this one.
    pub(super) fn for_brokers(&self) -> Option<Arc<dyn Neighbours>> {
        self.doors.are_open().then(|| Arc::clone(&self.doors) as _)
    }

    /// The name of this process.
    pub(crate) fn own(&self) -> &str {
        self.doors.own()
    }

    /// Whether the process `name` is gone for certain.
    pub(crate) async fn is_gone(&self, name: &str) -> bool {
        name != self.doors.own() && self.doors.is_gone(name).await
    }

    /// Rung when an app comes, goes, or becomes callable.
    pub(super) fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// Lets others in, announces the apps of `node`, and follows the others from now on.
    pub(super) async fn begin(self: &Arc<Self>, node: &Arc<Node>, space: Space) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Open { calls, events }) = open else { return };
        let relay = Relay::new(Arc::clone(&node.directory), Arc::clone(&node.invoker));
        let porter = Porter {
            doors: Arc::clone(&self.doors),
            relay: Arc::new(relay),
            node: Arc::downgrade(node),
            drain: node.settings.grace,
            world: Arc::clone(&self.world),
            serving: self.serving.clone(),
            stop: self.stop.clone(),
        };
        let first = porter.serve(Open { calls, events });
        self.spawn("porter", porter.watch(first));
        let registry = Registry::new(space);
        *self.registry.lock().unwrap_or_else(PoisonError::into_inner) = Some(registry.clone());
        let mut roll = roll::Roll::new(self, registry, Arc::downgrade(node));
        let deadline = Deadline::after(&*self.world, ANNOUNCED_WITHIN);
        if within(&*self.world, deadline, roll.look()).await.is_err() {
            tracing::warn!("the registry of this machine's apps does not answer yet");
        }
        self.spawn("neighbours", roll.follow(self.stop.clone()));
    }

    fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.world.spawn(name, Box::pin(self.serving.track_future(work))));
    }

    /// Takes this process out of the registry; the store is still open.
    pub(super) async fn withdraw(&self) {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(registry) = registry else { return };
        let deadline = Deadline::after(&*self.world, WITHDRAWN_WITHIN);
        match within(&*self.world, deadline, registry.withdraw(self.doors.own())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "not taken out of the registry"),
            Err(_) => tracing::debug!("not taken out of the registry in time"),
        }
    }

    /// Lets nobody in any more, and waits for those who are.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.doors.close();
        drop(self.open.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.serving.close();
        self.serving.wait().await;
    }
}

/// Sees to it that the doors of this process are open.
struct Porter {
    doors: Arc<Doors>,
    relay: Arc<Relay>,
    node: Weak<Node>,
    drain: Duration,
    world: Arc<dyn World>,
    serving: TaskTracker,
    stop: CancellationToken,
}

impl Porter {
    /// Serves who comes through `open`, until the answer is cancelled or everything stops.
    fn serve(&self, Open { calls, events }: Open) -> CancellationToken {
        let stop = self.stop.child_token();
        let (relay, world) = (Arc::clone(&self.relay), Arc::clone(&self.world));
        let calls = serve_peers(relay, world, Listener::Unix(calls), stop.clone(), self.drain);
        let events = members(self.node.clone(), events, stop.clone(), self.stop.clone());
        let spawn = |name, work| drop(self.world.spawn(name, work));
        spawn("peer server", Box::pin(self.serving.track_future(calls)));
        spawn("event members", Box::pin(self.serving.track_future(events)));
        stop
    }

    /// Puts doors back that are gone. Nobody finds the old ones any more; who came through them goes on.
    async fn watch(self, mut open: CancellationToken) {
        let mut told = false;
        loop {
            tokio::select! {
                // First: whoever stops this closes the doors next, and they are to stay closed.
                biased;
                () = self.stop.cancelled() => return,
                () = self.doors.lost(&*self.world) => {}
            }
            match self.doors.open() {
                Ok(again) => {
                    tracing::info!("a socket in the data folder was removed, and put back");
                    std::mem::replace(&mut open, self.serve(again)).cancel();
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(%error, "other runtimes cannot reach this one any more");
                    }
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = self.world.sleep(REOPEN_PAUSE) => {}
                    }
                }
            }
        }
    }
}

impl Drop for Neighbourhood {
    fn drop(&mut self) {
        self.doors.close();
    }
}

impl std::fmt::Debug for Neighbourhood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Neighbourhood({:?})", self.doors)
    }
}

/// Serves processes that want events of groups this one dispatches to: lets them in until `closed`, and keeps them until
/// `stop`.
async fn members(
    node: Weak<Node>,
    listener: UnixListener,
    closed: CancellationToken,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MEMBERS_MAX));
    let Some(world) = node.upgrade().map(|node| Arc::clone(&node.world)) else { return };
    let own = nix::unistd::geteuid().as_raw();
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = tokio::select! {
            () = closed.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    world.sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == own) {
            tracing::warn!("a process of another user was turned away");
            continue;
        }
        let (node, clock, stop) = (node.clone(), Arc::clone(&world), stop.clone());
        let serve = async move {
            let _place = place;
            let find = |name: &str| node.upgrade()?.engines.shared_broker(name);
            tokio::select! {
                () = outrigger_events::host(Box::new(stream), clock, find) => {}
                () = stop.cancelled() => {}
            }
        };
        drop(world.spawn("event member", Box::pin(serve)));
    }
}
