//! The engine as its users see it: opens a folder, hands commits to the committer, and reads what it published.

use crate::{
    OpenError, Options, checkpoint,
    committer::{Committer, Queued, Request, Shared, UNWRITTEN_STEPS_MAX},
    error::{from_io, from_store},
    folder,
    group::Group,
    headroom::Headroom,
    tables::Tables,
    time::Time,
    view::View,
};
use outrigger_kernel::{BoxFuture, Deadline, Wall, World, within};
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
    time::Duration,
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
/// How long a reader waits for the committer to take note of an expiry: longer than a sync usually takes, and much
/// shorter than a disk can be away.
const STEP_PATIENCE: Duration = Duration::from_millis(100);
/// A stored time this far ahead of the clock is worth a warning.
const CLOCK_BEHIND_TOLERATED: Duration = Duration::from_secs(60);

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
        warn_of_clock(dir, sequencer.time(), world.wall());
        let shared = Arc::new(Shared {
            view: watch::channel(Some(Arc::new(View::new(tables.clone(), &sequencer)))).0,
            failed: OnceLock::new(),
            registry: Registry::default(),
            time: Time::new(sequencer.time()),
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

    /// Why the engine has stopped for good, if it has. Costs nothing, unlike [`KeySpace::status`], which walks the folder.
    #[must_use]
    pub fn failed(&self) -> Option<String> {
        self.shared.failed.get().cloned()
    }

    pub(crate) fn current(&self) -> Result<Arc<View>, ReadError> {
        self.shared.view.borrow().clone().ok_or_else(closed)
    }

    /// The published view as of what readers have been shown: who saw a key absent never sees it again.
    fn shown(&self) -> Result<Arc<View>, ReadError> {
        let time = self.shared.time.shown();
        Ok(self.current()?.without_due(time))
    }

    async fn linearizable(&self) -> Result<Arc<View>, ReadError> {
        let time = &self.shared.time;
        let now = time.now(self.world.wall());
        let view = self.current()?;
        if !view.is_due(now) {
            return Ok(view);
        }
        drop(view);
        if !time.is_stalled() && self.step_soon().await {
            let view = self.current()?;
            if !view.is_due(now) {
                return Ok(view);
            }
        }
        // The committer is held up, or has failed: time passes without it, if that contradicts nothing under way.
        while !time.pass(now) && self.shared.failed.get().is_none() {
            self.step().await;
        }
        Ok(self.current()?.without_due(now))
    }

    /// Asks the committer to let time move, but waits for it only so long. Whether it did.
    async fn step_soon(&self) -> bool {
        let (done, mut stepped) = oneshot::channel();
        if self.shared.failed.get().is_some()
            || self.requests.try_send(Request::Step(done)).is_err()
        {
            return false;
        }
        let patience = Deadline::after(&*self.world, STEP_PATIENCE);
        if let Ok(stepped) = within(&*self.world, patience, &mut stepped).await {
            return stepped.is_ok();
        }
        let time = &self.shared.time;
        time.note_stall();
        // A committer that answers only now has perhaps ended its turn before the stall was noted.
        let stepped = stepped.try_recv().is_ok();
        if stepped {
            time.forget_stall();
        }
        stepped
    }

    async fn step(&self) {
        let (done, stepped) = oneshot::channel();
        if self.requests.send(Request::Step(done)).await.is_ok() {
            let _stepped: Result<(), _> = stepped.await;
        }
    }

    async fn at_least(&self, revision: u64) -> Result<Arc<View>, ReadError> {
        let mut views = self.shared.view.subscribe();
        let reached = |view: &Option<Arc<View>>| {
            view.as_ref().is_none_or(|view| view.last.revision >= revision)
        };
        views.wait_for(reached).await.map_err(|_| closed()).map(drop)?;
        self.shown()
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
        let (clears, changes) = (Vec::new(), Vec::new());
        let skip = Plan { committed: last, id: None, clears, changes };
        first.apply(skip, tables).map_err(damaged)?;
        first.write(tables).map_err(|error| from_store(dir, error))?;
    }
    let mut sequencer = Sequencer::new(last.revision, last.time);
    tables.expiries(|at, key| sequencer.restore_expiry(&key, at)).map_err(damaged)?;
    Ok(sequencer)
}

/// Time never goes back in the store; while the clock is behind it, time stands still there and nothing expires.
fn warn_of_clock(dir: &Path, stored: Wall, clock: Wall) {
    if clock.plus(CLOCK_BEHIND_TOLERATED) < stored {
        tracing::warn!(
            folder = %dir.display(),
            behind_ms = stored.0 - clock.0,
            "the clock is behind the last commit in the data folder; keys expire late until it has caught up"
        );
    }
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
                Level::Local => self.shown()?,
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

    fn now(&self) -> Wall {
        self.shared.time.now(self.world.wall())
    }

    fn status(&self) -> Status {
        let revision = self.shared.view.borrow().as_ref().map_or(0, |view| view.last.revision);
        let failed = self.failed();
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
