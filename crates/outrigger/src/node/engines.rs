//! The engines of a node, opened when first needed, and the brokers on them.
//!
//! A runtime whose components keep nothing (or keep it in memory) never opens the data folder, and so never fights over
//! it with another one.

use super::serving::Serving;
use crate::{
    control,
    failure::{Exit, Failure},
    settings::node::DataPlace,
};
use outrigger_engine_local::{Local, OpenError, Options};
use outrigger_events::{Broker, BrokerSettings};
use outrigger_kernel::World;
use outrigger_keyspace::{KeySpace, Space, memory::Memory};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The engines of a node.
pub struct Engines {
    place: DataPlace,
    world: Arc<dyn World>,
    opened: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    local: Option<Arc<Local>>,
    durable: Option<Space>,
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
        Self { place, world, opened: Mutex::default() }
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
        let broker = Broker::open(space, name, BrokerSettings::default());
        let swept = Arc::clone(&broker);
        let sweep = async move { control::forget_tails(&swept).await };
        drop(self.world.spawn("forgotten tails", Box::pin(sweep)));
        opened.brokers.insert(key, Arc::clone(&broker));
        Ok(broker)
    }

    /// Whether the data folder is open.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).local.is_some()
    }

    /// Writes what is still to be written and lets go of the folder.
    pub(crate) async fn close(&self, grace: Duration) {
        let opened =
            std::mem::take(&mut *self.opened.lock().unwrap_or_else(PoisonError::into_inner));
        for broker in opened.brokers.values() {
            broker.close(grace).await;
        }
        drop((opened.brokers, opened.durable, opened.memory));
        if let Some(local) = opened.local {
            local.close().await;
        }
    }

    /// Why the durable engine has stopped for good, if it has.
    #[must_use]
    pub fn failed(&self) -> Option<String> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.local.as_ref().and_then(|local| local.failed())
    }

    fn space_in(&self, opened: &mut Opened, medium: Medium) -> Result<Space, Failure> {
        match (&self.place, medium) {
            (DataPlace::Folder(folder), Medium::Durable) => {
                if let Some(space) = &opened.durable {
                    return Ok(space.clone());
                }
                let local = Local::open(folder, Arc::clone(&self.world), Options::default())
                    .map_err(|error| refused(folder, &error))?;
                let space =
                    Space::new(Arc::clone(&local) as Arc<dyn KeySpace>, Arc::clone(&self.world));
                opened.local = Some(local);
                opened.durable = Some(space.clone());
                Ok(space)
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

fn refused(folder: &Path, error: &OpenError) -> Failure {
    let folder = folder.display();
    let elsewhere = "use another folder with --data-dir, or keep nothing with --ephemeral";
    let of = |code, what: String| {
        Failure::new(code, Exit::Failed, what).at(format!("--data-dir {folder}"))
    };
    match error {
        OpenError::InUse { .. } => of("OUTR-0006", format!("the data folder {folder} is in use"))
            .why(error)
            .help("stop the runtime that uses it (`outrigger list`, `outrigger stop`), or run its apps together with `run -f`")
            .help(elsewhere),
        OpenError::NewerFormat { .. } => of("OUTR-0007", format!("the data folder {folder} belongs to a newer version"))
            .why(error)
            .help("use that version or a later one")
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
        OpenError::Io { .. } => of("OUTR-0011", format!("the data folder {folder} cannot be opened")).why(error).help(elsewhere),
    }
}
