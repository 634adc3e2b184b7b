//! The engine as its users see it: opens a folder, hands commits to the committer, and reads what it published.

use crate::{
    OpenError, Options, checkpoint,
    committer::{Committer, Queued, Request, Shared, UNWRITTEN_STEPS_MAX},
    error::{from_io, from_store},
    folder,
    group::Group,
    headroom::Headroom,
    tables::Tables,
    view::View,
};
use outrigger_kernel::{BoxFuture, World};
use outrigger_keyspace::{
    CommitError, Committed, KeyRange, KeySpace, Level, ReadError, Snapshot, Status, Transaction,
    Watch,
    sequencer::{self, Plan, Sequencer},
    watch::Registry,
};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// A durable key space in a folder. See the crate's head.
pub struct Local {
    dir: PathBuf,
    world: Arc<dyn World>,
    options: Options,
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    /// Room in the queue, in units of [`ROOM_UNIT_BYTES`].
    room: Arc<Semaphore>,
    room_units: u32,
}

/// Most requests in the queue, however small.
const QUEUE_LENGTH: usize = 4_096;
const ROOM_UNIT_BYTES: usize = 1_024;

impl Local {
    /// Opens the store in `dir`, making both if need be. Commits are stamped with `world`'s time.
    ///
    /// # Errors
    /// Why it cannot be opened, and what to do about it.
    pub fn open(
        dir: &Path,
        world: Arc<dyn World>,
        options: Options,
    ) -> Result<Arc<Self>, OpenError> {
        let tables = Arc::new(folder::open(dir, &options)?);
        let sequencer = resume(dir, &tables)?;
        let shared = Arc::new(Shared {
            view: watch::channel(Some(Arc::new(View::new(tables.clone(), &sequencer)))).0,
            failed: OnceLock::new(),
            registry: Registry::default(),
            syncs: AtomicU64::new(0),
        });
        let (requests, queue) = mpsc::channel(QUEUE_LENGTH);
        let headroom = Headroom::new(dir.to_owned(), options.reserve_bytes);
        let (to_committer, its_world) = (shared.clone(), world.clone());
        let committer =
            Committer::new(tables, sequencer, its_world, to_committer, queue, headroom, &options);
        // A thread of its own, not a task: it spends its life waiting for the disk.
        thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || committer.run())
            .map_err(|error| from_io(dir, error))?;
        let room_units = units(options.queue_bytes_max).max(1);
        let room = Arc::new(Semaphore::new(usize::try_from(room_units).unwrap_or(1)));
        let dir = dir.to_owned();
        Ok(Arc::new(Self { dir, world, options, shared, requests, room, room_units }))
    }

    /// Finishes what is queued, closes the store and lets the folder go. Snapshots that are still held keep the folder
    /// until they are dropped. Closing twice is harmless.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.requests.send(Request::Close(done)).await.is_ok() {
            // An error means that somebody else's close was there first.
            let _closed: Result<(), _> = closed.await;
        }
    }

    /// How many times the log was synced since the engine was opened; commits divided by this is the size of a group.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.shared.syncs.load(Ordering::Relaxed)
    }

    fn current(&self) -> Result<Arc<View>, ReadError> {
        self.shared.view.borrow().clone().ok_or_else(closed)
    }

    async fn linearizable(&self) -> Result<Arc<View>, ReadError> {
        let now = self.world.wall();
        let view = self.current()?;
        if !view.is_due(now) {
            return Ok(view);
        }
        drop(view);
        if self.shared.failed.get().is_none() {
            let (done, stepped) = oneshot::channel();
            if self.requests.send(Request::Step(done)).await.is_ok() {
                let _stepped: Result<(), _> = stepped.await;
            }
        }
        let view = self.current()?;
        // The step may have failed just now.
        let failed = self.shared.failed.get().is_some();
        Ok(if failed { Arc::new(view.without_due(now)) } else { view })
    }

    async fn at_least(&self, revision: u64) -> Result<Arc<View>, ReadError> {
        let mut views = self.shared.view.subscribe();
        let reached = |view: &Option<Arc<View>>| {
            view.as_ref().is_none_or(|view| view.last.revision >= revision)
        };
        let view = views.wait_for(reached).await.map_err(|_| closed())?;
        view.clone().ok_or_else(closed)
    }

    async fn queue(&self, transaction: Transaction) -> Result<Committed, CommitError> {
        // Refused here rather than by the committer, whose time is everybody's.
        let bytes = sequencer::size(&transaction)?;
        let units = units(bytes).clamp(1, self.room_units);
        let permit = self.room.clone().acquire_many_owned(units).await.map_err(|_| refused())?;
        let (answer, answered) = oneshot::channel();
        let queued = Queued { transaction, bytes, answer, permit };
        self.requests.send(Request::Commit(queued)).await.map_err(|_| refused())?;
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Err(CommitError::Unknown("the engine stopped meanwhile".to_owned())),
        }
    }
}

/// The sequencer that goes on where the store ends.
fn resume(dir: &Path, tables: &Tables) -> Result<Sequencer, OpenError> {
    let damaged =
        |error: ReadError| OpenError::Damaged { path: dir.to_owned(), reason: error.to_string() };
    let mut last = tables.last().map_err(damaged)?;
    if last.revision > 0 {
        // Steps of time that were visible but not on disk may be lost: their revisions must not come again.
        last.revision += UNWRITTEN_STEPS_MAX;
        let mut first = Group::default();
        first.apply(Plan { committed: last, changes: Vec::new() });
        first.write(tables).map_err(|error| from_store(dir, error))?;
    }
    let mut sequencer = Sequencer::new(last.revision, last.time);
    tables.expiries(|at, key| sequencer.restore_expiry(key, at)).map_err(damaged)?;
    Ok(sequencer)
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(ROOM_UNIT_BYTES)).unwrap_or(u32::MAX)
}

fn closed() -> ReadError {
    ReadError::Unavailable("the engine is closed".to_owned())
}

fn refused() -> CommitError {
    CommitError::Unavailable("the engine is closed or has failed".to_owned())
}

impl KeySpace for Local {
    fn snapshot(&self, level: Level) -> BoxFuture<'_, Result<Arc<dyn Snapshot>, ReadError>> {
        Box::pin(async move {
            let view = match level {
                Level::Linearizable => self.linearizable().await?,
                Level::AtLeast(revision) => self.at_least(revision).await?,
                Level::Local => self.current()?,
            };
            Ok(view as Arc<dyn Snapshot>)
        })
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(self.queue(transaction))
    }

    fn watch(&self, range: KeyRange) -> Watch {
        self.shared.registry.watch(range)
    }

    fn status(&self) -> Status {
        let revision = self.shared.view.borrow().as_ref().map_or(0, |view| view.last.revision);
        let failed = self.shared.failed.get().cloned();
        let disk_bytes = folder::bytes_on_disk(&self.dir);
        Status { engine: "local", revision, durable: true, disk_bytes, failed }
    }

    fn checkpoint<'a>(&'a self, target: &'a Path) -> BoxFuture<'a, Result<u64, ReadError>> {
        Box::pin(async move {
            let (view, target) = (self.current()?, target.to_owned());
            let options = self.options.clone();
            let (done, written) = oneshot::channel();
            // A thread of its own: copying a store takes as long as reading all of it.
            thread::Builder::new()
                .name("checkpoint".to_owned())
                .spawn(move || {
                    let _gone: Result<(), _> =
                        done.send(checkpoint::write(&view, &target, &options));
                })
                .map_err(|error| ReadError::Unavailable(error.to_string()))?;
            written.await.map_err(|_| closed())?
        })
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Local({})", self.dir.display())
    }
}
