//! The key space of another process.

use super::{Core, View, Way};
use crate::{
    shared::{Keeper, ShareError},
    wire::{Answer, Request},
};
use outrigger_kernel::{BoxFuture, Wall, World};
use outrigger_keyspace::{
    CommitError, Committed, KeyRange, KeySpace, Level, ReadError, Snapshot, Status, Transaction,
    Watch,
};
use std::{fmt, os::unix::ffi::OsStrExt, path::Path, sync::Arc, time::Duration};

/// A key space that another process serves in a folder. It follows whoever serves there, one after the other, and never
/// opens the folder itself.
pub struct Remote {
    pub(crate) core: Arc<Core>,
    pub(crate) keeper: Keeper,
}

impl Remote {
    /// Connects to the process that serves `folder`.
    ///
    /// # Errors
    /// When nobody does, or nobody that this process can talk to.
    pub async fn connect(folder: &Path, world: Arc<dyn World>) -> Result<Arc<Self>, ShareError> {
        let (core, keeper) = Keeper::start(folder, world, None).await?;
        Ok(Arc::new(Self { core, keeper }))
    }

    /// Ends the connection. What is under way is answered as unknown or unavailable.
    pub async fn close(&self) {
        self.keeper.close(Duration::ZERO).await;
    }

    async fn copy(&self, target: &Path) -> Result<u64, ReadError> {
        let failed = |error: &dyn fmt::Display| ReadError::Unavailable(error.to_string());
        // The other process stands elsewhere.
        let target = std::path::absolute(target).map_err(|error| failed(&error))?;
        let path = target.as_os_str().as_bytes();
        let line =
            match self.core.way(self.core.patience()).await.map_err(ReadError::Unavailable)? {
                Way::Line(line) => line,
                Way::Own(engine) => return engine.checkpoint(&target).await,
            };
        let write =
            |out: &mut Vec<u8>, id| Request::Checkpoint { id, path: path.to_vec() }.put(out);
        // However long it takes: as long as the connection stands, it goes on.
        let frame = line.call(0, None, false, write).await;
        let frame = frame.map_err(|_| {
            let why =
                "the process that holds the data folder has left before the copy was complete";
            ReadError::Unavailable(why.to_owned())
        })?;
        match Answer::take(&frame) {
            Ok(Answer::Copied { revision, .. }) => Ok(revision),
            Ok(Answer::ReadFailed { error, .. }) => Err(error),
            Ok(_) => Err(failed(&"the answer is one to another question")),
            Err(malformed) => Err(failed(&malformed)),
        }
    }
}

impl KeySpace for Remote {
    fn snapshot(&self, level: Level) -> BoxFuture<'_, Result<Arc<dyn Snapshot>, ReadError>> {
        Box::pin(async move {
            let view = View::take(self.core.clone(), level).await?;
            Ok(view as Arc<dyn Snapshot>)
        })
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(self.core.commit(transaction))
    }

    fn watch(&self, range: KeyRange) -> Watch {
        self.core.watch(range)
    }

    /// The machine's clock is the same here and there; where the engine is ahead of it, every answer says how far it is.
    fn now(&self) -> Wall {
        self.core.world.wall().max(self.core.known.time())
    }

    fn status(&self) -> Status {
        let known = self.core.known.status();
        Status {
            engine: "remote",
            revision: self.core.known.revision(),
            durable: known.durable,
            disk_bytes: known.disk_bytes,
            failed: known.failed,
        }
    }

    fn checkpoint<'a>(&'a self, target: &'a Path) -> BoxFuture<'a, Result<u64, ReadError>> {
        Box::pin(self.copy(target))
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote(at {})", self.core.known.revision())
    }
}
