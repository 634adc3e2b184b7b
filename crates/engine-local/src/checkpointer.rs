//! The checkpointer: turns sealed layers into index, in the background, and lets go of the log that was kept for them.
//!
//! ```text
//!   sealed layer --> index (one durable step, with where the log goes on) --> the committer swaps --> the log is released
//! ```
//!
//! Commits go on meanwhile and see the layer until the index has it. A crash at any instant finds the index as it was before
//! or after, and the log from there on.
//!
//! It also looks up what expires next ([`crate::upcoming`]). That may take as long as reading everything, so what cannot wait
//! is done in between: a layer is written, and what is retired is taken apart. Merges wait.

use crate::{
    batch::{Landed, Sealed},
    engine::Engine,
    index::{Checkpoint, Index, IndexError},
    layer::Layer,
    log::{self, History, Position},
    planted::{self, Bug},
    store,
    upcoming::{self, Found, Wanted},
};
use outrigger_keyspace::ReadError;
use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Between two pieces of work on the index others get at the disk.
const PAUSE: Duration = Duration::from_millis(1);
/// Log that is kept to look back may take this part of the room there is.
const HISTORY_PART: u64 = 4;
/// Of the index's size so much log is kept to look back, or at least so many bytes: a small store has a short past.
const HISTORY_OF_INDEX: u64 = 4;
const HISTORY_BYTES_MIN: u64 = 8 << 20;
/// Files that were being read when they were replaced are looked after again so much later.
const LINGER: Duration = Duration::from_secs(1);
/// How long a layer waits that found the disk full.
const ROOM_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long it takes until expiries are asked for again that could not be read.
const EXPIRIES_AGAIN_AFTER: Duration = Duration::from_millis(200);

pub(crate) struct Checkpointer {
    index: Mutex<Option<Index>>,
    history: Arc<History>,
    log_bytes_kept: u64,
    tasks: Mutex<Tasks>,
    called: Condvar,
    is_hurried: AtomicBool,
    /// Held by whoever looks up expiries: the folder is not let go before.
    looking: Mutex<()>,
}

#[derive(Default)]
struct Tasks {
    /// At most one: the next layer is not sealed before the last one has landed.
    job: Option<(Sealed, Position)>,
    /// Expiries that should be looked up, or are being.
    wanted: Option<Arc<Wanted>>,
    /// Layers that nobody is shown any more. Taking them apart takes a while.
    retired: Vec<Layer>,
    /// Whether the index has asked for more work on itself.
    is_untidy: bool,
    /// Whether the last thing that was tried found the disk full.
    lacks_room: bool,
    /// Whether the last layer was not full: nothing was written for a while.
    at_rest: bool,
    /// Whether files wait to be removed until nobody reads them.
    lingers: bool,
    is_over: bool,
}

impl Tasks {
    fn is_idle(&self) -> bool {
        self.job.is_none()
            && self.wanted.is_none()
            && self.retired.is_empty()
            && !self.is_untidy
            && !self.is_over
    }
}

impl Checkpointer {
    pub(crate) fn new(index: Index, history: Arc<History>, log_bytes_kept: u64) -> Self {
        Self {
            index: Mutex::new(Some(index)),
            history,
            log_bytes_kept,
            tasks: Mutex::default(),
            called: Condvar::new(),
            is_hurried: AtomicBool::new(false),
            looking: Mutex::default(),
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over a layer whose frames end at `position` and are on disk. Whether nothing was written for a while.
    pub(crate) fn submit(&self, sealed: Sealed, position: Position, at_rest: bool) {
        let mut tasks = self.tasks();
        (tasks.job, tasks.at_rest) = (Some((sealed, position)), at_rest);
        drop(tasks);
        self.called.notify_one();
    }

    pub(crate) fn want(&self, wanted: Wanted) {
        self.tasks().wanted = Some(Arc::new(wanted));
        self.called.notify_one();
    }

    /// Looks up expiries, if they are wanted. Whether they were.
    fn look_up(&self, engine: &Engine) -> bool {
        let looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(wanted) = self.tasks().wanted.clone() else { return false };
        let found = match upcoming::find(&wanted, &mut || self.serve_between(engine)) {
            Ok(found) => found,
            Err(ReadError::Unavailable(reason)) => {
                tracing::warn!(reason, "when keys expire cannot be read now; it is tried again");
                let pauses = |tasks: &mut Tasks| tasks.job.is_none() && !tasks.is_over;
                drop(self.called.wait_timeout_while(self.tasks(), EXPIRIES_AGAIN_AFTER, pauses));
                Some(wanted.nothing())
            }
            Err(error @ ReadError::Damaged(_)) => {
                tracing::error!(
                    %error,
                    "when keys expire cannot be read; they become invisible in time, but are not removed"
                );
                Some(Found { expiries: Vec::new(), horizon: None })
            }
        };
        self.tasks().wanted = None;
        drop(looking);
        if let Some(found) = found {
            engine.desk.find(found);
        }
        true
    }

    /// Does what cannot wait until expiries are found; `false` when nobody waits for those any more.
    fn serve_between(&self, engine: &Engine) -> bool {
        let mut tasks = self.tasks();
        let retired = std::mem::take(&mut tasks.retired);
        let has_job = tasks.job.is_some() && !tasks.lacks_room;
        let is_over = tasks.is_over;
        drop(tasks);
        drop(retired);
        if has_job {
            self.write(engine, &mut |_bytes| self.pause(engine));
        }
        !is_over && !engine.desk.is_closing()
    }

    pub(crate) fn retire(&self, layer: Layer) {
        self.tasks().retired.push(layer);
        self.called.notify_one();
    }

    /// Works until told to end.
    pub(crate) fn run(&self, engine: &Engine) {
        loop {
            let mut tasks = self.tasks();
            while tasks.is_idle() {
                if !tasks.lingers {
                    tasks = self.called.wait(tasks).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                let waited = self.called.wait_timeout_while(tasks, LINGER, |tasks| tasks.is_idle());
                let timed_out;
                (tasks, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
                tasks.is_untidy |= timed_out.timed_out();
            }
            if std::mem::take(&mut tasks.lacks_room) {
                let over = |tasks: &mut Tasks| !tasks.is_over;
                (tasks, _) = self
                    .called
                    .wait_timeout_while(tasks, ROOM_AGAIN_AFTER, over)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if tasks.is_over {
                return;
            }
            let retired = std::mem::take(&mut tasks.retired);
            drop(tasks);
            drop(retired);
            let pace = &mut |_bytes| self.pause(engine);
            if !self.write(engine, pace) {
                self.tidy(engine, pace);
            }
        }
    }

    /// Writes the layer that waits, or waits for whoever does. Whether there was one, and room for it.
    pub(crate) fn write(&self, engine: &Engine, pace: &mut dyn FnMut(usize)) -> bool {
        let mut index = self.index();
        let job = self.tasks().job.take();
        match (&mut *index, job) {
            (Some(index), Some((sealed, position))) => {
                let left = self.checkpoint(index, sealed, position, engine, pace);
                let is_written = left.is_none();
                if let Some(sealed) = left {
                    // Otherwise the next layer may be here already.
                    let mut tasks = self.tasks();
                    (tasks.job, tasks.lacks_room) = (Some((sealed, position)), true);
                }
                is_written
            }
            _ => false,
        }
    }

    /// Writes the layer that waits, in a hurry, also if somebody else is about it.
    pub(crate) fn finish(&self, engine: &Engine) {
        self.is_hurried.store(true, Ordering::Relaxed);
        self.write(engine, &mut |_bytes| ());
    }

    /// Looks up expiries and lets the index put itself in order a bit, as far as somebody has asked for that. Whether somebody
    /// had.
    pub(crate) fn tidy(&self, engine: &Engine, pace: &mut dyn FnMut(usize)) -> bool {
        let looked_up = self.look_up(engine);
        let mut index = self.index();
        let asked = std::mem::take(&mut self.tasks().is_untidy);
        let Some(index) = index.as_mut().filter(|_| asked) else { return looked_up };
        let before = index.view();
        match index.maintain(pace) {
            Ok(more) => {
                let after = index.view();
                let mut tasks = self.tasks();
                tasks.is_untidy |= more;
                tasks.lingers = !more && index.has_doomed();
                drop(tasks);
                if !more {
                    self.release(index, engine);
                }
                if !Arc::ptr_eq(&before, &after) {
                    engine.desk.land(Landed { index: after, holds_sealed: false });
                }
            }
            // Deletes make room, and the next layer asks again.
            Err(IndexError::Full(_)) => {}
            Err(IndexError::Damaged(what)) => {
                tracing::error!(
                    what,
                    "the index cannot be merged: stored data is damaged; what is damaged cannot be read, everything else \
                     goes on; restore the store from a backup"
                );
            }
            Err(error) => engine.fail(format!("writing the index failed: {error}")),
        }
        true
    }

    /// Lets others at the disk, unless somebody waits for this.
    fn pause(&self, engine: &Engine) {
        let asked = |tasks: &Tasks| tasks.job.is_some() || tasks.wanted.is_some();
        let waits = || engine.desk.is_held() || asked(&self.tasks());
        if !self.is_hurried.load(Ordering::Relaxed) && !waits() {
            thread::sleep(PAUSE);
        }
    }

    fn index(&self) -> MutexGuard<'_, Option<Index>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a layer into the index. Answers it when there is no room for it.
    fn checkpoint(
        &self,
        index: &mut Index,
        sealed: Sealed,
        position: Position,
        engine: &Engine,
        pace: &mut dyn FnMut(usize),
    ) -> Option<Sealed> {
        let forgets = planted::is(Bug::ForgetIdsAtCheckpoint);
        let ids = if forgets { Vec::new() } else { sealed.ids.clone() };
        let checkpoint = Checkpoint { committed: sealed.committed, log: position, ids };
        if planted::is(Bug::ReleaseBeforeIndex) {
            self.history.release(&position, self.log_bytes_kept);
        }
        match index.apply(sealed.layer.iter(), checkpoint, pace) {
            Ok(view) => {
                self.release(index, engine);
                let beside = store::bytes(&*engine.disk, log::owns);
                index.set_rest(self.tasks().at_rest.then_some(beside));
                engine.shared.tally.note_checkpoint(engine.world.mono());
                self.tasks().is_untidy = true;
                engine.desk.land(Landed { index: view, holds_sealed: true });
            }
            Err(IndexError::Full(_)) => {
                tracing::warn!("there is no room to write the index; free some space");
                // What is kept to look back is the first to go.
                self.history.release(&index.view().checkpoint().log, 0);
                if engine.desk.is_closing() {
                    // Nobody waits for room then: what is in the log is read when the store is opened.
                    engine.desk.release();
                }
                return Some(sealed);
            }
            Err(IndexError::Damaged(what)) => engine.fail(format!(
                "the index cannot be written: stored data is damaged ({what}); restore the store from a backup"
            )),
            Err(error) => engine.fail(format!("writing the index failed: {error}")),
        }
        None
    }

    /// Lets go of the log that the index has, but for what is kept to look back: as much as was asked for, but little where
    /// there is little room, or where there is little that has a past.
    fn release(&self, index: &Index, engine: &Engine) {
        let view = index.view();
        let free_bytes = engine.disk.room().map_or(u64::MAX, |room| room.free_bytes);
        let worth = (view.bytes() / HISTORY_OF_INDEX).max(HISTORY_BYTES_MIN);
        let kept = self.log_bytes_kept.min(free_bytes / HISTORY_PART).min(worth);
        self.history.release(&view.checkpoint().log, kept);
    }

    /// Lets go of the index, once nobody reads in it any more to look something up.
    pub(crate) fn end(&self) {
        let mut tasks = self.tasks();
        (tasks.is_over, tasks.wanted) = (true, None);
        drop(tasks);
        self.called.notify_all();
        drop(self.looking.lock().unwrap_or_else(PoisonError::into_inner));
        drop(self.index().take());
    }
}
