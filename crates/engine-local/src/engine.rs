//! The engine as a whole: the desk, the two hands that work at it, and the checkpointer.
//!
//! ```text
//!            +-- hand ---------- decide > write > publish ----------------+
//!   desk <---+                                                            +--> answers
//!            +-- hand ------------------- decide > write > publish -------+
//! ```
//!
//! A hand takes whatever waits and carries it through all three stations as one batch; the other one begins the next batch
//! as soon as there is something for it. The tests drive the same stations by hand ([`Hands`]), without any thread.
//!
//! [`Hands`]: crate::Hands

use crate::{
    Figures,
    batch::{Batch, Chore, Flush, Orders},
    checkpointer::Checkpointer,
    desk::{Call, Desk, Next, Tools},
    log,
    shared::Shared,
    store,
};
use outrigger_kernel::{World, disk::Disk};
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

pub(crate) struct Engine {
    pub(crate) desk: Desk,
    pub(crate) shared: Arc<Shared>,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) world: Arc<dyn World>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) place: PathBuf,
    pub(crate) history: Arc<log::History>,
    pub(crate) log_counters: Arc<log::Counters>,
    pub(crate) index_bytes_written: Arc<AtomicU64>,
}

impl Engine {
    /// Starts the threads that serve until the engine is closed.
    pub(crate) fn start(self: &Arc<Self>) -> io::Result<()> {
        type Work = fn(&Engine);
        let works: [(&str, Work); 3] = [
            ("committer", Self::serve),
            ("committer", Self::serve),
            ("checkpointer", |engine| engine.checkpointer.run(engine)),
        ];
        for (name, work) in works {
            let engine = self.clone();
            // Threads of their own, not tasks: they spend their lives waiting for the disk.
            let started = thread::Builder::new().name(name.to_owned()).spawn(move || {
                let _guard = StopGuard(&engine);
                work(&engine);
            });
            if let Err(error) = started {
                self.end();
                return Err(error);
            }
        }
        Ok(())
    }

    /// What a hand does until the engine is closed.
    fn serve(&self) {
        let mut orders = Orders::default();
        loop {
            let mut batch = Batch::default();
            let mut committer = match self.desk.begin(&mut batch.load, &mut orders) {
                Call::Work(committer) => committer,
                Call::Close(tools) => return self.shut(tools),
                Call::Over => return,
            };
            committer.begin(&mut batch, &mut orders);
            let mut writer = loop {
                match self.desk.next(&mut batch.load, &mut orders) {
                    Next::More => committer.take(&mut batch, &mut orders),
                    Next::Write(writer) => break writer,
                    Next::Over => return,
                }
            };
            committer.finish(&mut batch);
            self.desk.return_committer(committer);
            writer.write(&mut batch);
            let Some(mut publisher) = self.desk.exchange(writer, batch.answers.len()) else {
                return;
            };
            publisher.publish(batch, self);
            self.desk.return_publisher(publisher);
        }
    }

    /// Writes what is in memory into the index and closes the store.
    pub(crate) fn shut(&self, mut tools: Tools) {
        // What is under way, and then what is left.
        self.checkpointer.finish(self);
        self.last_batch(&mut tools, Some(Chore::Seal));
        self.checkpointer.finish(self);
        self.last_batch(&mut tools, None);
        let Tools { committer, writer, publisher } = tools;
        drop(committer);
        if self.shared.failure.happened() {
            drop(writer);
        } else {
            writer.close();
        }
        self.end();
        // With it goes the lock, unless somebody still reads.
        drop(publisher);
        self.desk.tell_closed();
    }

    /// A batch without commits, through all stations.
    fn last_batch(&self, tools: &mut Tools, chore: Option<Chore>) {
        // Steps of time included: what is shown to nobody else any more may have been shown to somebody.
        let mut batch = Batch { flush: Flush::Yes, ..Batch::default() };
        let landed = self.desk.take_landed();
        let mut orders = Orders { landed, chore, ..Orders::default() };
        tools.committer.begin(&mut batch, &mut orders);
        tools.committer.finish(&mut batch);
        tools.writer.write(&mut batch);
        tools.publisher.publish(batch, self);
    }

    /// Stops the engine for good: commits are refused from now on.
    pub(crate) fn fail(&self, reason: String) {
        self.shared.failure.note(reason);
        self.desk.release();
    }

    /// Nobody serves any more, and nothing is held of the store but what readers hold.
    fn end(&self) {
        self.desk.end();
        self.checkpointer.end();
        self.shared.view.send_replace(None);
    }

    pub(crate) fn figures(&self) -> Figures {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            log_bytes_written: load(&self.log_counters.bytes_written),
            log_bytes_prepared: load(&self.log_counters.bytes_prepared),
            index_bytes_written: load(&self.index_bytes_written),
            log_bytes: store::bytes(&*self.disk, |name| name.starts_with("log-")),
            index_bytes: store::bytes(&*self.disk, |name| !name.starts_with("log-")),
            queued_bytes: self.desk.bytes() as u64,
            ..self.shared.tally.figures(self.world.mono())
        }
    }
}

/// Tells everybody when a thread of the engine ends by a panic: nobody must wait for answers that never come.
struct StopGuard<'a>(&'a Engine);

impl Drop for StopGuard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail("a thread of the engine ended by a panic".to_owned());
            self.0.desk.end();
            self.0.desk.tell_closed();
        }
    }
}
