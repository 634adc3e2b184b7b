//! The key space of a folder, whoever holds it.

mod changes;
mod error;
mod hold;
mod keeper;

pub use changes::{Change, Changes};
pub use error::{BoxError, Refused, ShareError};
pub use hold::Opened;
pub(crate) use keeper::Keeper;

use crate::client::Remote;
use outrigger_kernel::{BoxFuture, Wall, World};
use outrigger_keyspace::{
    CommitError, Committed, KeyRange, KeySpace, Level, ReadError, Snapshot, Status, Transaction,
    Watch,
};
use std::{fmt, path::Path, sync::Arc, time::Duration};

/// Opens the engine of the folder, unless another process has it open. Blocking; called again whenever the holder is gone.
pub(crate) type Opener = dyn Fn() -> Result<Opened, Refused> + Send + Sync;

/// A key space that all processes with the same folder share. Either this process holds the folder: then it has the engine
/// and serves the others. Or it follows: then it asks the holder, and takes over when that one is gone.
pub struct Shared {
    remote: Remote,
}

impl Shared {
    /// Joins whoever shares `folder`; as its holder, if nobody holds it. `opener` opens the engine, whose lock on the folder
    /// is what decides who holds it.
    ///
    /// # Errors
    /// When the engine cannot be opened, or the process that holds it cannot be talked to.
    pub async fn open(
        folder: &Path,
        world: Arc<dyn World>,
        opener: impl Fn() -> Result<Opened, Refused> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, ShareError> {
        let (core, keeper) = Keeper::start(folder, world, Some(Arc::new(opener))).await?;
        Ok(Arc::new(Self { remote: Remote { core, keeper } }))
    }

    /// Whether this process holds the folder.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.own().is_some()
    }

    /// The process that holds the folder; nothing while there is none, or the system does not say.
    #[must_use]
    pub fn holder(&self) -> Option<u32> {
        self.remote.core.holder()
    }

    /// Why this process's engine has stopped for good, or could not be opened when the holder was gone. Costs nothing.
    #[must_use]
    pub fn failed(&self) -> Option<String> {
        self.remote.keeper.failed()
    }

    /// Waits for [`Shared::failed`] to be something.
    pub async fn failure(&self) -> String {
        self.remote.keeper.failure().await
    }

    /// Leaves: a holder answers what is under way, for at most `grace`, closes the engine and lets the others take over.
    /// Closing twice is harmless.
    pub async fn close(&self, grace: Duration) {
        self.remote.keeper.close(grace).await;
    }

    fn own(&self) -> Option<&Arc<dyn KeySpace>> {
        self.remote.core.own()
    }
}

impl KeySpace for Shared {
    fn snapshot(&self, level: Level) -> BoxFuture<'_, Result<Arc<dyn Snapshot>, ReadError>> {
        match self.own() {
            Some(engine) => engine.snapshot(level),
            None => self.remote.snapshot(level),
        }
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Committed, CommitError>> {
        match self.own() {
            Some(engine) => engine.commit(transaction),
            None => self.remote.commit(transaction),
        }
    }

    fn watch(&self, range: KeyRange) -> Watch {
        match self.own() {
            Some(engine) => engine.watch(range),
            None => self.remote.watch(range),
        }
    }

    fn now(&self) -> Wall {
        match self.own() {
            Some(engine) => engine.now(),
            None => self.remote.now(),
        }
    }

    fn status(&self) -> Status {
        match self.own() {
            Some(engine) => engine.status(),
            None => {
                let status = self.remote.status();
                Status { failed: self.failed().or(status.failed), ..status }
            }
        }
    }

    fn checkpoint<'a>(&'a self, target: &'a Path) -> BoxFuture<'a, Result<u64, ReadError>> {
        match self.own() {
            Some(engine) => engine.checkpoint(target),
            None => self.remote.checkpoint(target),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.holds() { "holds" } else { "follows" };
        write!(f, "Shared({role}, {:?})", self.remote)
    }
}
