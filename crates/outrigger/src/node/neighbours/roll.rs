//! Who is there: the registry, compared with what this process knows, whenever there is a reason to.

use super::{App, Doors, Instance, Neighbourhood, Node, Registry};
use crate::node::Hold;
use outrigger_calls::{AppChannel, Directory, Neighbour};
use outrigger_coordination::{RegistryError, Resident};
use outrigger_engine_remote::{Change, Changes};
use outrigger_events::Neighbours;
use outrigger_kernel::{BoxFuture, World};
use std::{
    collections::{BTreeSet, HashMap},
    future::pending,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The pauses after a registry that could not be read: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Processes whose door was found unanswered by a call.
#[derive(Debug, Default)]
struct Suspects {
    processes: Mutex<BTreeSet<String>>,
    bell: Notify,
}

impl Suspects {
    fn add(&self, process: &str) {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).insert(process.to_owned());
        self.bell.notify_one();
    }

    fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.processes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Process, namespace, app, protocol.
type Known = (String, String, String, String);

/// What this process knows of the others.
pub(super) struct Roll {
    doors: Arc<Doors>,
    registry: Registry,
    node: Weak<Node>,
    directory: Arc<Directory>,
    world: Arc<dyn World>,
    changed: Arc<Notify>,
    suspects: Arc<Suspects>,
    own: Instance,
    channels: HashMap<Known, Arc<AppChannel>>,
    /// Whether everybody's door is to be tried: at the start, when nothing is known, and when somebody is gone.
    everybody: bool,
}

/// A process that is ending has lost the store before it closes its door, perhaps: everybody is asked again after this.
const ENDED_BY: Duration = Duration::from_secs(1);

impl Roll {
    pub(super) fn new(hood: &Neighbourhood, registry: Registry, node: Weak<Node>) -> Self {
        let own = Instance {
            id: hood.doors.own().to_owned(),
            pid: std::process::id(),
            address: format!("peers/{}.sock", hood.doors.own()),
            since_ms: hood.world.wall().0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let directory = node.upgrade().map(|node| Arc::clone(&node.directory)).unwrap_or_default();
        Self {
            doors: Arc::clone(&hood.doors),
            registry,
            node,
            directory,
            world: Arc::clone(&hood.world),
            changed: hood.bell(),
            suspects: Arc::default(),
            own,
            channels: HashMap::new(),
            everybody: true,
        }
    }

    /// Looks again whenever there is a reason to, until `stop`.
    pub(super) async fn follow(mut self, stop: CancellationToken) {
        let mut watch = self.registry.watch();
        let (changed, suspects) = (Arc::clone(&self.changed), Arc::clone(&self.suspects));
        let mut pause = PAUSES.0;
        let mut changes = self.node.upgrade().and_then(|node| node.engines.changes());
        let mut once_more: Option<BoxFuture<'static, ()>> = None;
        // What changed between the first look and the watch.
        let mut looked = self.look().await;
        loop {
            let again = async {
                match &looked {
                    Ok(()) => std::future::pending().await,
                    Err(_) => self.world.sleep(pause).await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                _ = watch.changed() => {}
                () = changed.notified() => {}
                () = suspects.bell.notified() => {}
                change = next(&mut changes) => {
                    if !self.is_for_us(change) {
                        continue;
                    }
                    self.everybody = true;
                    once_more = Some(self.world.sleep(ENDED_BY));
                }
                () = finished(&mut once_more) => self.everybody = true,
                () = again => pause = (pause * 2).min(PAUSES.1),
            }
            looked = tokio::select! {
                () = stop.cancelled() => return,
                looked = self.look() => looked,
            };
            match &looked {
                Ok(()) => pause = PAUSES.0,
                Err(error) => tracing::debug!(%error, "the registry could not be read or written"),
            }
        }
    }

    /// Whether it is for this process to find out who is gone: whoever holds the folder does, for all.
    fn is_for_us(&self, change: Change) -> bool {
        let holds = || self.node.upgrade().is_some_and(|node| node.hold() == Some(Hold::Holds));
        match change {
            Change::Departure => true,
            // The one before is gone, whose departure nobody was told of.
            Change::Holder => holds(),
        }
    }

    /// Says what this process hosts, learns what the others do, and takes out who is gone.
    pub(super) async fn look(&mut self) -> Result<(), RegistryError> {
        let Some(apps) = self.node.upgrade().map(|node| node.hosted_apps()) else { return Ok(()) };
        self.registry.announce(&self.own, &apps).await?;
        let mut residents = self.registry.residents().await?;
        residents.retain(|resident| resident.instance.id != self.own.id);
        let mut suspects = self.suspects.take();
        // A way that was found closed and is open again is a new way.
        self.channels.retain(|(process, ..), _| !suspects.contains(process));
        if self.everybody {
            suspects.extend(residents.iter().map(|resident| resident.instance.id.clone()));
            suspects.extend(self.doors.all());
            suspects.remove(&self.own.id);
        }
        let mut gone = BTreeSet::new();
        for process in suspects {
            if self.doors.is_gone(&process).await {
                gone.insert(process);
            }
        }
        residents.retain(|resident| !gone.contains(&resident.instance.id));
        self.publish(&residents);
        self.bury(gone).await?;
        self.everybody = false;
        Ok(())
    }

    /// Takes those out whose doors nobody answers.
    async fn bury(&self, gone: BTreeSet<String>) -> Result<(), RegistryError> {
        if gone.is_empty() {
            return Ok(());
        }
        for resident in self.registry.residents().await? {
            let Instance { id, pid, .. } = &resident.instance;
            if gone.contains(id) && self.registry.bury(&resident).await? {
                tracing::info!(pid, "a runtime that shared the data folder is gone");
            }
        }
        gone.iter().for_each(|process| self.doors.remove(process));
        Ok(())
    }

    /// Makes the apps of the others callable here.
    fn publish(&mut self, residents: &[Resident]) {
        let mut channels = HashMap::new();
        let mut apps = Vec::new();
        for Resident { instance, apps: hosted, .. } in residents {
            for App { id, namespace, protocol } in hosted {
                let channel = protocol.as_ref().and_then(|protocol| {
                    let known =
                        (instance.id.clone(), namespace.clone(), id.clone(), protocol.clone());
                    let channel = match self.channels.get(&known) {
                        Some(channel) => Arc::clone(channel),
                        None => self.lead_to(&known)?,
                    };
                    channels.insert(known, Arc::clone(&channel));
                    Some(channel)
                });
                apps.push((id.clone(), namespace.clone(), channel));
            }
        }
        self.channels = channels;
        self.directory.set_neighbours(apps);
    }

    fn lead_to(&self, (process, namespace, app, protocol): &Known) -> Option<Arc<AppChannel>> {
        let protocol = protocol.parse().ok()?;
        let socket = self.doors.calls_of(process).ok()?;
        let (suspects, suspect) = (Arc::clone(&self.suspects), process.clone());
        let neighbour = Neighbour::new(app, namespace, move || suspects.add(&suspect));
        Some(AppChannel::to_neighbour(protocol, socket, neighbour, Arc::clone(&self.world)))
    }
}

async fn next(changes: &mut Option<Changes>) -> Change {
    match changes {
        Some(changes) => changes.next().await,
        None => pending().await,
    }
}

/// The end of `timer`, which is taken away then; never, where there is none.
async fn finished(timer: &mut Option<BoxFuture<'static, ()>>) {
    match timer {
        Some(running) => running.await,
        None => return pending().await,
    }
    *timer = None;
}
