//! The registry: which processes share this key space, which apps they host, and how they are reached.
//!
//! Everything that a process says about itself changes in one commit, so a reader never sees a process without its apps
//! or apps without their process.

mod keys;
mod records;
#[cfg(test)]
mod tests;

use keys::{APPS, INSTANCES, everything};
use outrigger_kernel::Deadline;
use outrigger_keyspace::{
    CommitError, Corrupt, Direction, KeyRange, Level, Page, ReadError, Snapshot, Space,
    TransactError, Tx, Watch,
};
use records::{AppRow, InstanceRow};
use std::{collections::BTreeMap, time::Duration};

/// How long conflicting writers may keep a change of the registry from happening.
const COMMIT_WITHIN: Duration = Duration::from_secs(5);
/// Most processes and apps that are read. A machine has no room for more of them; a registry that holds more is damaged.
const ROWS_MAX: usize = 10_000;

/// A process that shares the key space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// Its name: random, and never used again.
    pub id: String,
    /// Its process id, for people.
    pub pid: u32,
    /// Where it is reached, in words that only the processes themselves understand.
    pub address: String,
    /// When it came, by its wall clock.
    pub since_ms: u64,
    /// Its version.
    pub version: String,
}

/// An app that a process hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct App {
    /// Its id.
    pub id: String,
    /// Its namespace.
    pub namespace: String,
    /// What it speaks; `None` where it cannot be called.
    pub protocol: Option<String>,
}

/// A process with its apps, as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resident {
    /// The process.
    pub instance: Instance,
    /// Its apps, by namespace and id.
    pub apps: Vec<App>,
    /// The revision of its row: what [`Registry::bury`] compares.
    pub revision: u64,
}

/// Why the registry could not be read or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// A read failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A commit failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Stored bytes are not what this crate writes.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// Conflicting writers, or a store too slow to answer.
    #[error("the store did not answer in time")]
    Elapsed,
    /// More rows than a machine can have processes and apps.
    #[error("the registry has more than {ROWS_MAX} rows")]
    TooMany,
}

impl From<TransactError<Self>> for RegistryError {
    fn from(error: TransactError<Self>) -> Self {
        match error {
            TransactError::Refused(error) => error,
            TransactError::Read(error) => Self::Read(error),
            TransactError::Corrupt(error) => Self::Corrupt(error),
            TransactError::Commit(error) => Self::Commit(error),
            TransactError::Contended | TransactError::Elapsed => Self::Elapsed,
        }
    }
}

/// The registry of one key space. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    space: Space,
}

impl Registry {
    /// The registry in `space`.
    #[must_use]
    pub fn new(space: Space) -> Self {
        Self { space }
    }

    /// Says that `instance` is there and hosts exactly `apps`; what it said before is replaced. Nothing is written where
    /// nothing changed.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn announce(&self, instance: &Instance, apps: &[App]) -> Result<(), RegistryError> {
        let wanted: BTreeMap<_, _> = apps
            .iter()
            .map(|app| {
                let key = (instance.id.clone(), app.namespace.clone(), app.id.clone());
                (key, AppRow { protocol: app.protocol.clone().unwrap_or_default() })
            })
            .collect();
        let body = async |tx: Tx| {
            // A store that is full is drained by processes that can find each other.
            tx.making_room();
            let key = (instance.id.clone(),);
            let row = InstanceRow {
                pid: instance.pid,
                address: instance.address.clone(),
                since_ms: instance.since_ms,
                version: instance.version.clone(),
            };
            let known = tx.get(&INSTANCES, &key).await?;
            if known.is_none_or(|(known, _)| known != row) {
                tx.put(&INSTANCES, &key, &row, None);
            }
            let mut hosted = apps_of(&tx, &instance.id).await?;
            for (key, row) in &wanted {
                if hosted.remove(key).as_ref() != Some(row) {
                    tx.put(&APPS, key, row, None);
                }
            }
            hosted.keys().for_each(|key| tx.delete(&APPS, key));
            Ok(())
        };
        self.transact(body).await
    }

    /// Takes `id` and its apps out: the process leaves.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn withdraw(&self, id: &str) -> Result<(), RegistryError> {
        self.transact(async |tx: Tx| remove(&tx, id).await).await
    }

    /// Takes a process out that was found dead, iff its row is still the one that was read. Answers whether it was.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn bury(&self, dead: &Resident) -> Result<bool, RegistryError> {
        let id = &dead.instance.id;
        let body = async |tx: Tx| {
            let row = tx.get(&INSTANCES, &(id.clone(),)).await?;
            let same = row.is_some_and(|(_, value)| value.revision == dead.revision);
            if same {
                remove(&tx, id).await?;
            }
            Ok(same)
        };
        self.transact(body).await
    }

    /// Every process with its apps, by the names of the processes.
    ///
    /// # Errors
    /// When the store cannot be read, or holds more than any machine could.
    pub async fn residents(&self) -> Result<Vec<Resident>, RegistryError> {
        let snapshot = self.space.snapshot(Level::Linearizable).await?;
        let mut residents = BTreeMap::new();
        for entry in rows(&*snapshot, INSTANCES.range(&())).await? {
            let (id,) = INSTANCES.decode_key(&entry.key)?;
            let row = INSTANCES.decode(entry.value.bytes)?;
            let InstanceRow { pid, address, since_ms, version } = row;
            let instance = Instance { id: id.clone(), pid, address, since_ms, version };
            let revision = entry.value.revision;
            residents.insert(id, Resident { instance, apps: Vec::new(), revision });
        }
        for entry in rows(&*snapshot, APPS.range(&())).await? {
            let (instance, namespace, id) = APPS.decode_key(&entry.key)?;
            let AppRow { protocol } = APPS.decode(entry.value.bytes)?;
            let protocol = (!protocol.is_empty()).then_some(protocol);
            if let Some(resident) = residents.get_mut(&instance) {
                resident.apps.push(App { id, namespace, protocol });
            }
        }
        Ok(residents.into_values().collect())
    }

    /// Tells when processes come, go, or change what they host.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.space.watch(everything())
    }

    async fn transact<T, F, Fut>(&self, body: F) -> Result<T, RegistryError>
    where
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, TransactError<RegistryError>>>,
    {
        let deadline = Deadline::after(&**self.space.world(), COMMIT_WITHIN);
        Ok(self.space.transact(deadline, body).await?.0)
    }
}

type Hosted = BTreeMap<(String, String, String), AppRow>;

async fn apps_of(tx: &Tx, id: &str) -> Result<Hosted, TransactError<RegistryError>> {
    let mut range = APPS.range(&(id.to_owned(),));
    let mut hosted = Hosted::new();
    loop {
        let page: Page = tx.scan(&range, ROWS_MAX, Direction::Forward).await?;
        if let Some(last) = page.entries.last() {
            range = range.after(&last.key);
        }
        for entry in page.entries {
            hosted.insert(APPS.decode_key(&entry.key)?, APPS.decode(entry.value.bytes)?);
        }
        if !page.more {
            return Ok(hosted);
        }
        if hosted.len() > ROWS_MAX {
            return Err(TransactError::Refused(RegistryError::TooMany));
        }
    }
}

async fn remove(tx: &Tx, id: &str) -> Result<(), TransactError<RegistryError>> {
    tx.making_room();
    for key in apps_of(tx, id).await?.keys() {
        tx.delete(&APPS, key);
    }
    tx.delete(&INSTANCES, &(id.to_owned(),));
    Ok(())
}

async fn rows(
    snapshot: &dyn Snapshot,
    mut range: KeyRange,
) -> Result<Vec<outrigger_keyspace::Entry>, RegistryError> {
    let mut rows = Vec::new();
    loop {
        let page = snapshot.scan(&range, ROWS_MAX, Direction::Forward).await?;
        rows.extend(page.entries);
        match rows.last() {
            _ if rows.len() > ROWS_MAX => return Err(RegistryError::TooMany),
            Some(last) if page.more => range = range.after(&last.key),
            _ => return Ok(rows),
        }
    }
}
