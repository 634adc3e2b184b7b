//! The engines of a node, and the brokers on them.
//!
//! The durable one belongs to the data folder and not to this process: whichever process holds the folder has the engine
//! open, the others reach it through that one, and when it goes the next takes over ([`Shared`]). A runtime whose
//! components keep nothing goes on without, should the folder not open.

use super::{neighbours::Neighbourhood, serving::Serving};
use crate::{
    control,
    failure::{Exit, Failure},
    settings::node::DataPlace,
};
use outrigger_api::metrics::{EngineReport, FolderReport};
use outrigger_coordination::SharedLimits;
use outrigger_engine_local::{Local, OpenError, Options};
use outrigger_engine_remote::{Changes, Opened as Engine, Refused, ShareError, Shared};
use outrigger_events::{Broker, BrokerSettings};
use outrigger_kernel::World;
use outrigger_keyspace::{KeySpace, Space, memory::Memory};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

/// The engines of a node.
pub struct Engines {
    place: DataPlace,
    world: Arc<dyn World>,
    opened: Mutex<Opened>,
    /// What came of opening the folder.
    durable: OnceLock<Result<Durable, ShareError>>,
    /// The other processes of the folder; none where there is no folder.
    hood: Option<Arc<Neighbourhood>>,
    limits: OnceLock<Arc<SharedLimits>>,
}

/// The engine of the data folder.
struct Durable {
    shared: Arc<Shared>,
    space: Space,
    /// The engine itself, once this process has it.
    local: Slot,
}

type Slot = Arc<Mutex<Weak<Local>>>;

/// How this process has the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It holds the folder; others come to it.
    Holds,
    /// It shares what another process holds, whose id this is, where it is known.
    Shares(Option<u32>),
}

#[derive(Default)]
struct Opened {
    memory: Option<Space>,
    brokers: BTreeMap<(Medium, String), Arc<Broker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Medium {
    Durable,
    Memory,
}

impl Engines {
    pub(crate) fn new(place: DataPlace, world: Arc<dyn World>) -> Self {
        let hood = match &place {
            DataPlace::Folder(folder) => Some(Neighbourhood::new(folder, Arc::clone(&world))),
            DataPlace::Memory => None,
        };
        let (durable, limits) = (OnceLock::new(), OnceLock::new());
        Self { place, world, opened: Mutex::default(), durable, hood, limits }
    }

    /// The other processes of the folder.
    pub(super) fn hood(&self) -> Option<&Arc<Neighbourhood>> {
        self.hood.as_ref()
    }

    /// Opens the data folder, or joins whoever holds it. What came of it is told to whoever needs the folder.
    pub(super) async fn prepare(&self) {
        let DataPlace::Folder(folder) = &self.place else { return };
        if let Some(hood) = &self.hood {
            // Before anything in the store names this process.
            hood.open_doors();
        }
        let (path, world) = (folder.clone(), Arc::clone(&self.world));
        let local = Slot::default();
        let slot = Arc::clone(&local);
        let open = move || open_local(&path, &world, &slot);
        let shared = Shared::open(folder, Arc::clone(&self.world), open).await;
        let durable = shared.map(|shared| {
            let space =
                Space::new(Arc::clone(&shared) as Arc<dyn KeySpace>, Arc::clone(&self.world));
            Durable { shared, space, local }
        });
        // A node is opened once; a second attempt would find the first one's answer.
        drop(self.durable.set(durable));
    }

    /// The durable key space, where there is a folder.
    pub(super) fn durable(&self) -> Result<Option<Space>, Failure> {
        let DataPlace::Folder(folder) = &self.place else { return Ok(None) };
        match self.durable.get() {
            Some(Ok(durable)) => Ok(Some(durable.space.clone())),
            Some(Err(error)) => Err(not_shared(folder, error)),
            None => Err(Failure::internal("the data folder was not opened")),
        }
    }

    /// Rate limits that are one for all processes of the folder. Without a folder, this process has them to itself.
    pub(super) fn limits(&self) -> Arc<SharedLimits> {
        let limits = self.limits.get_or_init(|| match self.durable() {
            Ok(Some(space)) => SharedLimits::over(space),
            // Whoever needs the folder fails; calls do not.
            Ok(None) | Err(_) => SharedLimits::alone(Arc::clone(&self.world)),
        });
        Arc::clone(limits)
    }

    /// How the data folder fares; `None` where there is none.
    pub(super) fn report(&self) -> Option<FolderReport> {
        let Some(Ok(durable)) = self.durable.get() else { return None };
        let shared = &durable.shared;
        let status = shared.status();
        Some(FolderReport {
            holds: shared.holds(),
            failed: status.failed.is_some(),
            disk_bytes: status.disk_bytes,
            engine: durable.local.lock().unwrap_or_else(PoisonError::into_inner).upgrade().map(
                |local| {
                    let figures = local.figures();
                    EngineReport {
                        commits: figures.commits,
                        flushes: figures.flushes,
                        log_bytes_written: figures.log_bytes_written,
                        log_bytes_prepared: figures.log_bytes_prepared,
                        index_bytes_written: figures.index_bytes_written,
                        checkpoints: figures.checkpoints,
                        log_bytes: figures.log_bytes,
                        index_bytes: figures.index_bytes,
                        recent_bytes: figures.layer_bytes + figures.sealed_bytes,
                        queued_bytes: figures.queued_bytes,
                        checkpoint_age: figures.checkpoint_age,
                    }
                },
            ),
        })
    }

    /// What an answered write to `space` has survived, in a word.
    pub(super) fn durability(&self, space: &Space) -> &'static str {
        let durable = self.durable.get().and_then(|durable| durable.as_ref().ok());
        match durable {
            Some(durable) if Arc::ptr_eq(durable.space.engine(), space.engine()) => {
                space.durability().name()
            }
            _ => "memory",
        }
    }

    /// How this process has the data folder; `None` where it has none.
    #[must_use]
    pub fn hold(&self) -> Option<Hold> {
        let Some(Ok(Durable { shared, .. })) = self.durable.get() else { return None };
        Some(if shared.holds() { Hold::Holds } else { Hold::Shares(shared.holder()) })
    }

    /// The broker that other processes know by `name`, if it is open here.
    pub(super) fn shared_broker(&self, name: &str) -> Option<Arc<Broker>> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.brokers.get(&(Medium::Durable, name.to_owned())).cloned()
    }

    /// The key space that serves a component.
    pub(crate) fn space(&self, serving: &Serving) -> Result<Space, Failure> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        self.space_in(&mut opened, medium(serving))
    }

    /// The broker called `name`; one per name, so that all apps of the process share its dispatchers.
    pub(crate) fn broker(&self, serving: &Serving, name: &str) -> Result<Arc<Broker>, Failure> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let medium = medium(serving);
        let key = (medium, name.to_owned());
        if let Some(broker) = opened.brokers.get(&key) {
            return Ok(Arc::clone(broker));
        }
        let space = self.space_in(&mut opened, medium)?;
        let settings = BrokerSettings::default();
        let neighbours = self.hood.as_ref().filter(|_| medium == Medium::Durable);
        let broker = match neighbours.and_then(|hood| hood.for_brokers()) {
            None => Broker::open(space, name, settings),
            Some(others) => Broker::open_among(space, name, settings, others),
        };
        let (swept, hood) = (Arc::clone(&broker), neighbours.cloned());
        let sweep = async move { control::forget_tails(&swept, hood.as_deref()).await };
        drop(self.world.spawn("forgotten tails", Box::pin(sweep)));
        opened.brokers.insert(key, Arc::clone(&broker));
        Ok(broker)
    }

    /// Writes what is still to be written and lets go of the folder.
    pub(crate) async fn close(&self, grace: Duration) {
        let opened =
            std::mem::take(&mut *self.opened.lock().unwrap_or_else(PoisonError::into_inner));
        for broker in opened.brokers.values() {
            broker.close(grace).await;
        }
        drop((opened.brokers, opened.memory));
        if let Some(limits) = self.limits.get() {
            limits.close().await;
        }
        if let Some(Ok(durable)) = self.durable.get() {
            durable.shared.close(grace).await;
        }
    }

    /// The data folder as the processes share it, where it is open.
    pub(super) fn shared(&self) -> Option<&Arc<Shared>> {
        let Some(Ok(durable)) = self.durable.get() else { return None };
        Some(&durable.shared)
    }

    /// What changes among the processes of the data folder.
    pub(super) fn changes(&self) -> Option<Changes> {
        self.shared().map(|shared| shared.changes())
    }

    fn space_in(&self, opened: &mut Opened, medium: Medium) -> Result<Space, Failure> {
        match (&self.place, medium) {
            (DataPlace::Folder(_), Medium::Durable) => {
                let none = || Failure::internal("a data folder without a store");
                self.durable()?.ok_or_else(none)
            }
            (DataPlace::Memory, _) | (_, Medium::Memory) => {
                let space = opened.memory.get_or_insert_with(|| {
                    Space::new(Memory::new(Arc::clone(&self.world)), Arc::clone(&self.world))
                });
                Ok(space.clone())
            }
        }
    }
}

fn medium(serving: &Serving) -> Medium {
    match serving {
        Serving::Memory => Medium::Memory,
        Serving::Engine | Serving::Local | Serving::Nobody => Medium::Durable,
    }
}

impl std::fmt::Debug for Engines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engines({:?})", self.place)
    }
}

/// Opens the engine of `folder` in this process.
fn open_local(folder: &Path, world: &Arc<dyn World>, slot: &Slot) -> Result<Engine, Refused> {
    let local = Local::open(folder, Arc::clone(world), Options::default()).map_err(|error| {
        if matches!(error, OpenError::InUse { .. }) {
            Refused::InUse(Box::new(error))
        } else {
            Refused::Failed(Box::new(error))
        }
    })?;
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&local);
    let (asked, closed) = (Arc::clone(&local), Arc::clone(&local));
    Ok(Engine {
        engine: local,
        failure: Box::pin(async move { asked.failure().await }),
        close: Box::new(move || Box::pin(async move { closed.close().await })),
    })
}

/// Opens the data folder, or joins whoever holds it, for work that needs nothing else of a node.
pub(crate) async fn share(folder: &Path, world: Arc<dyn World>) -> Result<Arc<Shared>, Failure> {
    let (path, given) = (folder.to_owned(), Arc::clone(&world));
    let open = move || open_local(&path, &given, &Slot::default());
    Shared::open(folder, world, open).await.map_err(|error| not_shared(folder, &error))
}

fn not_shared(folder: &Path, error: &ShareError) -> Failure {
    if let ShareError::InUse(source) | ShareError::Failed(source) = error
        && let Some(error) = source.downcast_ref::<OpenError>()
    {
        return refused(folder, error);
    }
    let what = format!("the data folder {} cannot be shared", folder.display());
    Failure::new("OUTR-0006", Exit::Failed, what)
        .at(format!("--data-dir {}", folder.display()))
        .why(error)
        .help("use another folder with --data-dir, or keep nothing with --ephemeral")
}

fn refused(folder: &Path, error: &OpenError) -> Failure {
    let folder = folder.display();
    let elsewhere = "use another folder with --data-dir, or keep nothing with --ephemeral";
    let of = |code, what: String| {
        Failure::new(code, Exit::Failed, what).at(format!("--data-dir {folder}"))
    };
    match error {
        OpenError::InUse { .. } => of("OUTR-0006", format!("the data folder {folder} is held by a process that does not answer"))
            .why(error)
            .help("runtimes share a folder as long as the one that holds it answers: if it is stopped, let it go on; if it hangs, end it")
            .help(elsewhere),
        OpenError::NewerFormat { .. } => of("OUTR-0007", format!("the data folder {folder} belongs to a newer version"))
            .why(error)
            .help("use that version or a later one")
            .help(elsewhere),
        OpenError::EarlyFormat { .. } => of("OUTR-0007", format!("the data folder {folder} has a layout that was never released"))
            .why(error)
            .help("move it away and begin with an empty one")
            .help(elsewhere),
        OpenError::ReadOnly { .. } => of("OUTR-0008", format!("the data folder {folder} cannot be written"))
            .why(error)
            .help("correct its permissions")
            .help(elsewhere),
        OpenError::Full { .. } => of("OUTR-0009", format!("there is no room for the data folder {folder}"))
            .why(error)
            .help("make room")
            .help(elsewhere),
        OpenError::Damaged { .. } => of("OUTR-0010", format!("the data in {folder} is damaged"))
            .why(error)
            .help("keep a copy of the folder, check the disk, restore a backup"),
        OpenError::Occupied { .. } | OpenError::Io { .. } => of("OUTR-0011", format!("the data folder {folder} cannot be opened")).why(error).help(elsewhere),
    }
}
