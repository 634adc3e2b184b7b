//! The one thread that decides and writes.
//!
//! It takes whatever has queued up, sequences it, writes it as one batch with one sync, publishes the new state, answers
//! everybody at once and wakes the watchers, in that order. No timer: while it syncs, the next group gathers.

use crate::{Options, group::Group, headroom::Headroom, tables::Tables, view::View};
use fjall::PersistMode;
use outrigger_kernel::{Mono, Wall, World};
use outrigger_keyspace::{
    CommitError, Committed, Transaction, Write, sequencer::Sequencer, watch::Registry,
};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

/// Steps of time that may be visible before they are on disk. They can be derived again after a crash, but the revisions
/// they took must not be given out a second time: an opened store skips as many.
pub(crate) const UNSYNCED_STEPS_MAX: u64 = 1_024;

pub(crate) enum Request {
    Commit(Queued),
    /// Time has reached the expiry of some key: let it become absent.
    Step(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

pub(crate) struct Queued {
    pub(crate) transaction: Transaction,
    pub(crate) bytes: usize,
    pub(crate) answer: oneshot::Sender<Result<Committed, CommitError>>,
    /// Its place in the queue, given back when it is answered.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// What the committer shares with everybody else.
pub(crate) struct Shared {
    /// The last state on disk; `None` once closed.
    pub(crate) view: watch::Sender<Option<Arc<View>>>,
    /// Why no more commits are accepted.
    pub(crate) failed: OnceLock<String>,
    pub(crate) registry: Registry,
    /// Groups that were written with a sync.
    pub(crate) syncs: AtomicU64,
}

pub(crate) struct Committer {
    pub(crate) tables: Arc<Tables>,
    pub(crate) sequencer: Sequencer,
    pub(crate) world: Arc<dyn World>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: mpsc::Receiver<Request>,
    pub(crate) headroom: Headroom,
    pub(crate) group_bytes_max: usize,
    pub(crate) unsynced_steps: u64,
}

type Answer = (oneshot::Sender<Result<Committed, CommitError>>, OwnedSemaphorePermit);

impl Committer {
    pub(crate) fn new(
        tables: Arc<Tables>,
        sequencer: Sequencer,
        world: Arc<dyn World>,
        shared: Arc<Shared>,
        queue: mpsc::Receiver<Request>,
        headroom: Headroom,
        options: &Options,
    ) -> Self {
        let group_bytes_max = options.group_bytes_max;
        Self {
            tables,
            sequencer,
            world,
            shared,
            queue,
            headroom,
            group_bytes_max,
            unsynced_steps: 0,
        }
    }

    /// Serves until told to close, or until nobody is left to ask.
    pub(crate) fn run(mut self) {
        let _guard = StopGuard(self.shared.clone());
        let mut closing = None;
        while closing.is_none() {
            let Some(first) = self.queue.blocking_recv() else { break };
            let mut gathered = Vec::new();
            let mut steps = Vec::new();
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    Request::Commit(queued) => {
                        bytes += queued.bytes;
                        gathered.push(queued);
                    }
                    Request::Step(done) => steps.push(done),
                    Request::Close(done) => {
                        closing = Some(done);
                        break;
                    }
                }
                let full = bytes >= self.group_bytes_max;
                next = if full { None } else { self.queue.try_recv().ok() };
            }
            self.turn(gathered);
            for done in steps {
                let _gone: Result<(), ()> = done.send(());
            }
        }
        self.shut(closing);
    }

    /// One group: from the queue to the disk to the answers.
    fn turn(&mut self, gathered: Vec<Queued>) {
        let (now, mono) = (self.world.wall(), self.world.mono());
        if self.shared.failed.get().is_some() {
            self.refuse(gathered);
            return;
        }
        let mut group = Group::default();
        if !self.advance(&mut group, now, mono) {
            self.refuse(gathered);
            return;
        }
        let stepped = group.last().map(|last| last.revision);
        let mut answers: Vec<(Answer, Result<Committed, CommitError>)> = Vec::new();
        for queued in gathered {
            let decided = self.decide(&mut group, mono, queued.transaction, queued.bytes);
            answers.push(((queued.answer, queued.permit), decided));
        }
        let committed = group.last().map(|last| last.revision) != stepped;
        let written = self.write(&group, committed);
        match &written {
            Ok(()) => self.publish(&group),
            Err(reason) => {
                for (_, decided) in answers.iter_mut().filter(|(_, decided)| decided.is_ok()) {
                    *decided = Err(CommitError::Unknown(reason.clone()));
                }
            }
        }
        for ((answer, permit), decided) in answers {
            // Whoever asked may have given up; the commit stands.
            let _gone: Result<(), _> = answer.send(decided);
            drop(permit);
        }
        if written.is_ok() {
            self.shared.registry.notify(group.changed());
        }
    }

    /// Lets time reach `now`; what is due becomes absent. Answers whether the engine still works.
    fn advance(&mut self, group: &mut Group, now: Wall, mono: Mono) -> bool {
        while let Some(plan) = self.sequencer.advance(now, mono) {
            self.unsynced_steps += 1;
            group.apply(plan);
            // A great many keys due at once must not make a great batch.
            if group.bytes() >= self.group_bytes_max {
                if self.write(group, false).is_err() {
                    return false;
                }
                self.publish(group);
                self.shared.registry.notify(group.changed());
                *group = Group::default();
            }
        }
        true
    }

    fn decide(
        &mut self,
        group: &mut Group,
        mono: Mono,
        transaction: Transaction,
        bytes: usize,
    ) -> Result<Committed, CommitError> {
        let frees =
            |write: &Write| matches!(write, Write::Delete { .. } | Write::DeleteRange { .. });
        if !transaction.writes.iter().all(frees)
            && let Some(reason) = self.headroom.refuses(bytes, mono)
        {
            return Err(CommitError::Full(reason));
        }
        let before = self.sequencer.revision();
        let plan = self.sequencer.sequence(mono, transaction, &group.over(&self.tables))?;
        let committed = plan.committed;
        // Without writes there is nothing to write down, but the answer still waits for what it rests on.
        if committed.revision > before {
            group.apply(plan);
        }
        Ok(committed)
    }

    /// Writes the group, with a sync when somebody waits for an answer. A failure ends the engine.
    fn write(&mut self, group: &Group, committed: bool) -> Result<(), String> {
        let sync = committed || self.unsynced_steps >= UNSYNCED_STEPS_MAX;
        let mode = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        match self.tables.catch_up().and_then(|()| group.write(&self.tables, mode)) {
            Ok(()) => {
                if sync {
                    self.shared.syncs.fetch_add(1, Ordering::Relaxed);
                    self.unsynced_steps = 0;
                }
                Ok(())
            }
            Err(error) => {
                let reason = format!("writing the log failed: {error:?}");
                tracing::error!(
                    reason,
                    "the local engine has stopped; restart to see what is stored"
                );
                Err(self.shared.failed.get_or_init(|| reason).clone())
            }
        }
    }

    fn publish(&self, group: &Group) {
        if let Some(last) = group.last() {
            let view = Arc::new(View::new(self.tables.clone(), &self.sequencer, last));
            self.shared.view.send_replace(Some(view));
        }
    }

    fn refuse(&self, gathered: Vec<Queued>) {
        let reason = self.shared.failed.get().map_or("the engine has stopped", String::as_str);
        for queued in gathered {
            let refusal = CommitError::Unavailable(format!("{reason}; restart the process"));
            let _gone: Result<(), _> = queued.answer.send(Err(refusal));
        }
    }

    /// Lets go of the store, and only then says so: by then the folder can be opened again.
    fn shut(self, closing: Option<oneshot::Sender<()>>) {
        let Self { tables, shared, mut queue, .. } = self;
        queue.close();
        while let Ok(request) = queue.try_recv() {
            if let Request::Commit(queued) = request {
                let refusal = CommitError::Unavailable("the engine is closed".to_owned());
                let _gone: Result<(), _> = queued.answer.send(Err(refusal));
            }
        }
        shared.view.send_replace(None);
        drop(tables);
        if let Some(done) = closing {
            let _gone: Result<(), ()> = done.send(());
        }
    }
}

/// Tells the world when the committer ends by a panic: nobody must wait for answers that never come.
struct StopGuard(Arc<Shared>);

impl Drop for StopGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = "the committer ended by a panic".to_owned();
            tracing::error!(reason, "the local engine has stopped; restart to see what is stored");
            self.0.failed.get_or_init(|| reason);
        }
    }
}
