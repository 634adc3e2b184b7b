//! The one thread that decides and writes.
//!
//! It takes whatever has queued up, sequences it, writes it as one batch with one sync, publishes the new state, wakes the
//! watchers and answers everybody at once, in that order. No timer: while it syncs, the next group gathers.

use crate::{Options, group::Group, headroom::Headroom, tables::Tables, time::Time, view::View};
use outrigger_kernel::{Mono, Wall, World};
use outrigger_keyspace::{
    CommitError, Committed, ReadError, Transaction, Write,
    sequencer::{Plan, Sequencer},
    watch::Registry,
};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

/// Steps of time that may be visible before they are on disk. They can be derived again after a crash, but the revisions
/// they took must not be given out a second time: an opened store skips as many.
pub(crate) const UNWRITTEN_STEPS_MAX: u64 = 1_024;

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
    pub(crate) time: Time,
    /// Groups that were written with a sync.
    pub(crate) syncs: AtomicU64,
}

pub(crate) struct Committer {
    tables: Arc<Tables>,
    sequencer: Sequencer,
    world: Arc<dyn World>,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Request>,
    headroom: Headroom,
    group_bytes_max: usize,
    /// What is decided and not written yet.
    group: Group,
    unwritten_steps: u64,
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
            group: Group::default(),
            unwritten_steps: 0,
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
            self.shared.time.end_turn();
        }
        self.shut(closing);
    }

    /// One group: from the queue to the disk to the answers.
    fn turn(&mut self, gathered: Vec<Queued>) {
        let (wall, mono) = (self.world.wall(), self.world.mono());
        let now = self.shared.time.begin_turn(wall, |now| {
            let each = gathered.iter().map(|queued| &queued.transaction);
            each.filter_map(|transaction| self.sequencer.rests_until(transaction, now)).min()
        });
        if self.shared.failed.get().is_some() || self.advance(now, mono).is_err() {
            self.refuse(gathered);
            return;
        }
        let stepped = self.sequencer.revision();
        let mut answers: Vec<(Answer, Result<Committed, CommitError>)> = Vec::new();
        for queued in gathered {
            let decided = self.decide(mono, queued.transaction, queued.bytes);
            answers.push(((queued.answer, queued.permit), decided));
        }
        let committed = self.sequencer.revision() > stepped;
        let written = match self.shared.failed.get() {
            Some(reason) => Err(reason.clone()),
            None if committed => self.write(),
            None => Ok(()),
        };
        match &written {
            // Watchers first: whoever begins to watch after an answer is not woken by what was answered.
            Ok(()) => self.publish(),
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
        if committed {
            self.group = Group::default();
        }
    }

    /// Lets time reach `now`: what is due becomes absent. That can be derived again after a crash, so it is visible at
    /// once and waits in the group for the next write; but neither for long nor in great numbers.
    fn advance(&mut self, now: Wall, mono: Mono) -> Result<(), String> {
        loop {
            let newest = self.group.over(&self.tables);
            let stepped = self.sequencer.advance(now, mono, &newest);
            let Some(plan) = stepped.map_err(|error| self.fail(&error))? else { return Ok(()) };
            self.unwritten_steps += 1;
            self.apply(plan)?;
            let many = self.unwritten_steps >= UNWRITTEN_STEPS_MAX;
            if many || self.group.bytes() >= self.group_bytes_max {
                self.write()?;
                self.publish();
                self.group = Group::default();
            }
        }
    }

    /// A plan that is made must be applied: when the store cannot be read for that, the engine ends.
    fn apply(&mut self, plan: Plan) -> Result<(), String> {
        let tables = self.tables.clone();
        self.group.apply(plan, &tables).map_err(|error| self.fail(&error))
    }

    fn fail(&self, error: &ReadError) -> String {
        let reason = format!("reading the store failed: {error}");
        tracing::error!(reason, "the local engine has stopped; restart to see what is stored");
        self.shared.failed.get_or_init(|| reason).clone()
    }

    fn decide(
        &mut self,
        mono: Mono,
        transaction: Transaction,
        bytes: usize,
    ) -> Result<Committed, CommitError> {
        let frees =
            |write: &Write| matches!(write, Write::Delete { .. } | Write::DeleteRange { .. });
        if !transaction.writes.iter().all(frees)
            && let Some(reason) = self.headroom.refuses(bytes, transaction.makes_room, mono)
        {
            return Err(CommitError::Full(reason));
        }
        let newest = self.group.over(&self.tables);
        let plan = self.sequencer.sequence(mono, transaction, &newest)?;
        let committed = plan.committed;
        // Without writes there is nothing to write down, but the answer still waits for what it rests on.
        if !plan.is_empty() {
            self.apply(plan).map_err(CommitError::Unknown)?;
        }
        Ok(committed)
    }

    /// Writes the group; it is on disk when this returns. A failure ends the engine.
    fn write(&mut self) -> Result<(), String> {
        let tables = &self.tables;
        let caught_up = tables.catch_up();
        let written = caught_up.and_then(|()| self.group.write(tables));
        match written.and_then(|()| tables.rotate_full()) {
            Ok(()) => {
                self.shared.syncs.fetch_add(1, Ordering::Relaxed);
                self.unwritten_steps = 0;
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

    /// Shows readers the newest state (what is written, without what has fallen due since) and wakes those who watch what
    /// is new in it.
    fn publish(&mut self) {
        let shown = self.shared.view.borrow().as_ref().map(|v| (v.last.revision, v.next_due));
        if shown == Some((self.sequencer.revision(), self.sequencer.next_due())) {
            return;
        }
        let view = View::new(self.tables.clone(), &self.sequencer);
        self.shared.view.send_replace(Some(Arc::new(view)));
        let news = self.group.take_news();
        let cleared = self.group.take_cleared();
        self.shared.registry.notify(
            news.iter().map(|(revision, key)| (*revision, key)),
            cleared.iter().map(|(revision, range)| (*revision, range)),
        );
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
