//! The engine as its users see it: opens a folder, hands commits to the desk, and reads what was published.

use crate::{
    BackupError, Figures, Hands, OpenError, Options, backup,
    batch::{Picture, Queued},
    checkpointer::Checkpointer,
    committer::Committer,
    counted::Counted,
    desk::{Desk, Refused, Tools},
    engine::Engine,
    error::from_io,
    figures::Tally,
    folder::{self, Lock},
    headroom::Headroom,
    log::Preparation,
    publisher::Publisher,
    shared::{Failure, Frames, Hints, Shared},
    store::{self, Place, Store},
    time::Time,
    view::View,
    writer::Writer,
};
use outrigger_kernel::{BoxFuture, Deadline, Wall, World, disk::Disk, within};
use outrigger_keyspace::{
    CommitError, Committed, KeyRange, KeySpace, Level, ReadError, Snapshot, Status, Transaction,
    Watch, sequencer, watch::Registry,
};
use std::{fmt, path::Path, sync::Arc, thread, time::Duration};
use tokio::sync::{oneshot, watch};

/// A durable key space in a folder. See the crate's head.
pub struct Local {
    engine: Arc<Engine>,
}

/// How long a reader waits for the committer to take note of an expiry: longer than a flush usually takes, and much
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
        let (disk, lock) = folder::open(dir)?;
        let engine = Self::engine(
            dir,
            Arc::new(disk),
            Some(Arc::new(lock)),
            world,
            &options,
            Preparation::Thread,
        )?;
        engine.start().map_err(|error| from_io(dir, error))?;
        Ok(Arc::new(Self { engine }))
    }

    /// Opens the store on `disk` without starting a thread: whatever the engine does, is done by the hands.
    ///
    /// # Errors
    /// Why it cannot be opened, and what to do about it.
    #[doc(hidden)]
    pub fn open_by_hand(
        disk: Arc<dyn Disk>,
        world: Arc<dyn World>,
        options: Options,
    ) -> Result<(Arc<Self>, Hands), OpenError> {
        let place = Path::new("(by hand)");
        let engine = Self::engine(place, disk, None, world, &options, Preparation::Inline)?;
        let hands = Hands::new(engine.clone());
        Ok((Arc::new(Self { engine }), hands))
    }

    /// Opens the store on `disk` with all threads of an engine, for tests that own the disk.
    ///
    /// # Errors
    /// Why it cannot be opened, and what to do about it.
    #[doc(hidden)]
    pub fn open_on(
        disk: Arc<dyn Disk>,
        world: Arc<dyn World>,
        options: &Options,
    ) -> Result<Arc<Self>, OpenError> {
        let place = Path::new("(on a disk)");
        let engine = Self::engine(place, disk, None, world, options, Preparation::Thread)?;
        engine.start().map_err(|error| from_io(place, error))?;
        Ok(Arc::new(Self { engine }))
    }

    /// Reads every byte of the store on `disk`, which nobody has open; answers its newest revision.
    ///
    /// # Errors
    /// What is wrong with it.
    #[doc(hidden)]
    pub fn verify_by_hand(disk: Arc<dyn Disk>) -> Result<u64, OpenError> {
        let place = Place { disk: &disk, index_disk: &disk, path: Path::new("(by hand)") };
        store::verify(&place).map(|checked| checked.revision)
    }

    fn engine(
        path: &Path,
        disk: Arc<dyn Disk>,
        lock: Option<Arc<Lock>>,
        world: Arc<dyn World>,
        options: &Options,
        preparation: Preparation,
    ) -> Result<Arc<Engine>, OpenError> {
        let (index_disk, index_bytes_written) = Counted::over(disk.clone());
        let place = Place { disk: &disk, index_disk: &index_disk, path };
        let Store { log, index, stack, sequencer } =
            store::open(&place, &*world, options, preparation)?;
        warn_of_clock(path, sequencer.time(), world.wall());
        let last = Committed { revision: sequencer.revision(), time: sequencer.time() };
        let next_due = sequencer.next_due();
        let hints = Arc::new(Hints::default());
        let picture = Picture { last, next_due, stack: stack.clone(), generation: 0 };
        let view = View::new(picture, log.end(), hints.clone(), lock.clone());
        let shared = Arc::new(Shared {
            view: watch::channel(Some(Arc::new(view))).0,
            failure: Failure::none(),
            registry: Registry::default(),
            time: Time::new(last.time),
            hints,
            frames: Frames::default(),
            tally: Tally::begun_at(world.mono()),
        });
        let (history, log_counters) = (log.history(), log.counters());
        let (place, rations) = (path.to_owned(), log.rations());
        let headroom = Headroom::new(disk.clone(), place, options.reserve_bytes, rations);
        let committer =
            Committer::new(sequencer, stack, headroom, world.clone(), shared.clone(), options);
        let tools = Tools {
            committer: Box::new(committer),
            writer: Box::new(Writer::new(log, world.clone(), shared.clone(), last.revision)),
            publisher: Publisher::new(lock),
        };
        Ok(Arc::new(Engine {
            desk: Desk::new(tools, options),
            checkpointer: Checkpointer::new(index, history.clone(), options.log_bytes_kept),
            shared,
            world,
            disk,
            place: path.to_owned(),
            history,
            log_counters,
            index_bytes_written,
        }))
    }

    /// Finishes what is queued, closes the store and lets the folder go. Snapshots that are still held keep the folder
    /// until they are dropped. Closing twice is harmless.
    pub async fn close(&self) {
        self.engine.desk.close();
        let mut closed = self.engine.desk.closed();
        // An error would mean that nobody is left who could close it.
        let _closed: Result<_, _> = closed.wait_for(|closed| *closed).await.map(drop);
    }

    /// How many times the log was flushed for commits since the engine was opened; commits divided by this is how many
    /// share a flush.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.engine.shared.tally.flushes()
    }

    /// How the engine fares, in numbers. Looks at the sizes of its files.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.engine.figures()
    }

    /// Why the engine has stopped for good, if it has. Costs nothing, unlike [`KeySpace::status`], which looks at files.
    #[must_use]
    pub fn failed(&self) -> Option<String> {
        self.engine.shared.failure.reason()
    }

    /// Waits until the engine has stopped for good, and answers why. An engine that is closed never does.
    pub async fn failure(&self) -> String {
        let mut failure = self.engine.shared.failure.told();
        let told = failure.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match told {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    pub(crate) fn current(&self) -> Result<Arc<View>, ReadError> {
        self.engine.shared.view.borrow().clone().ok_or_else(closed)
    }

    /// The published view as of what readers have been shown: who saw a key absent never sees it again.
    fn shown(&self) -> Result<Arc<View>, ReadError> {
        let time = self.engine.shared.time.shown();
        Ok(self.current()?.without_due(time))
    }

    async fn linearizable(&self) -> Result<Arc<View>, ReadError> {
        let time = &self.engine.shared.time;
        let wall = self.engine.world.wall();
        self.until_known(wall).await?;
        let now = time.reachable(wall);
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
        while !time.pass(now) && !self.engine.shared.failure.happened() {
            self.until_known(now).await?;
            self.step().await;
        }
        Ok(self.current()?.without_due(now))
    }

    /// Waits until it is known what expires by `time`. It is perhaps being looked up: a reader waits rather than see what
    /// should be gone.
    async fn until_known(&self, time: Wall) -> Result<(), ReadError> {
        let shared = &self.engine.shared;
        if !shared.time.is_held(time) {
            return Ok(());
        }
        let mut raised = shared.time.raised();
        let (mut views, mut failed) = (shared.view.subscribe(), shared.failure.told());
        while shared.time.is_held(time) && !shared.failure.happened() {
            self.current()?;
            // With its step the committer asks for what is not known, unless it has already.
            self.step().await;
            tokio::select! {
                _ = raised.changed() => {}
                _ = views.wait_for(Option::is_none) => {}
                _ = failed.wait_for(Option::is_some) => {}
                // Perhaps it could not step: the disk may be full, or the clock has gone back.
                () = self.engine.world.sleep(STEP_PATIENCE) => {}
            }
        }
        Ok(())
    }

    /// Asks the committer to let time move, but waits for it only so long. Whether it did.
    async fn step_soon(&self) -> bool {
        if self.engine.shared.failure.happened() {
            return false;
        }
        let Ok(asked) = self.engine.desk.ask_step() else { return false };
        let mut stepped = self.engine.desk.stepped();
        let patience = Deadline::after(&*self.engine.world, STEP_PATIENCE);
        let reached = stepped.wait_for(|stepped| *stepped >= asked);
        if let Ok(reached) = within(&*self.engine.world, patience, reached).await {
            return reached.is_ok();
        }
        let time = &self.engine.shared.time;
        time.note_stall();
        // A committer that is there only now has perhaps ended its batch before the stall was noted.
        let stepped = *stepped.borrow() >= asked;
        if stepped {
            time.forget_stall();
        }
        stepped
    }

    async fn step(&self) {
        if let Ok(asked) = self.engine.desk.ask_step() {
            let mut stepped = self.engine.desk.stepped();
            let _stepped: Result<_, _> =
                stepped.wait_for(|stepped| *stepped >= asked).await.map(drop);
        }
    }

    async fn at_least(&self, revision: u64) -> Result<Arc<View>, ReadError> {
        let mut views = self.engine.shared.view.subscribe();
        let reached = |view: &Option<Arc<View>>| {
            view.as_ref().is_none_or(|view| view.last.revision >= revision)
        };
        views.wait_for(reached).await.map_err(|_| closed()).map(drop)?;
        self.shown()
    }

    async fn queue(&self, transaction: Transaction) -> Result<Committed, CommitError> {
        // Refused here rather than by the committer, whose time is everybody's.
        let bytes = sequencer::size(&transaction)?;
        self.engine.desk.room(bytes).await.map_err(refused)?;
        let (answer, answered) = oneshot::channel();
        self.engine.desk.push(bytes, Queued { transaction, answer }).map_err(refused)?;
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Err(CommitError::Unknown("the engine stopped meanwhile".to_owned())),
        }
    }
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

fn closed() -> ReadError {
    ReadError::Unavailable("the engine is closed".to_owned())
}

fn refused(_: Refused) -> CommitError {
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
        self.engine.shared.registry.watch(range)
    }

    fn now(&self) -> Wall {
        self.engine.shared.time.now(self.engine.world.wall())
    }

    fn status(&self) -> Status {
        let view = self.engine.shared.view.borrow();
        let revision = view.as_ref().map_or(0, |view| view.last.revision);
        drop(view);
        let disk_bytes = store::bytes(&*self.engine.disk, |_| true);
        Status { engine: "local", revision, durable: true, disk_bytes, failed: self.failed() }
    }

    fn checkpoint<'a>(&'a self, target: &'a Path) -> BoxFuture<'a, Result<u64, ReadError>> {
        Box::pin(async move {
            let source =
                backup::Source { view: self.current()?, history: self.engine.history.clone() };
            let target = target.to_owned();
            let (done, taken) = oneshot::channel();
            let take = move || {
                let _gone: Result<(), _> = done.send(backup::take(&source, &target));
            };
            // A thread of its own: it may take as long as reading everything.
            let started = thread::Builder::new().name("backup".to_owned()).spawn(take);
            started.map_err(|error| ReadError::Unavailable(error.to_string()))?;
            match taken.await {
                Ok(Ok(last)) => Ok(last.revision),
                Ok(Err(BackupError::Read(error))) => Err(error),
                Ok(Err(error)) => Err(ReadError::Unavailable(error.to_string())),
                Err(_) => {
                    let reason = "the thread that takes the backup has ended";
                    Err(ReadError::Unavailable(reason.to_owned()))
                }
            }
        })
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.engine.desk.close();
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Local({})", self.engine.place.display())
    }
}

#[cfg(test)]
mod tests;
