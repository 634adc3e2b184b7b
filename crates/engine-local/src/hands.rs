//! An engine without threads: a test does the work of its hands, step by step, and decides what happens between two steps.
//!
//! Not for anything else: an engine that is driven by hand answers nobody while the hands rest.

use crate::{
    batch::{Batch, Chore, Orders},
    engine::Engine,
};
use std::sync::Arc;

/// The hands of an engine without threads. Dropping them without [`Hands::close`] is like `kill -9`.
pub struct Hands {
    engine: Arc<Engine>,
}

/// A batch on its way. Batches must be written in their order, and published in their order.
pub struct InFlight {
    engine: Arc<Engine>,
    batch: Batch,
}

impl Hands {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// One batch: decide, write, publish. `false` when there is nothing to do.
    pub fn turn(&mut self) -> bool {
        let Some(mut batch) = self.sequence() else { return false };
        batch.write();
        batch.publish();
        true
    }

    /// Decides on what waits; `None` when nothing does.
    pub fn sequence(&mut self) -> Option<InFlight> {
        let (mut batch, mut orders) = (Batch::default(), Orders::default());
        let mut committer = self.engine.desk.try_begin(&mut batch.load, &mut orders)?;
        committer.begin(&mut batch, &mut orders);
        committer.finish(&mut batch);
        self.engine.desk.return_committer(committer);
        Some(InFlight { engine: self.engine.clone(), batch })
    }

    /// Puts the layer in memory on its way into the index, with the next batch.
    pub fn seal(&mut self) {
        self.engine.desk.order(Chore::Seal);
    }

    /// What happens when nothing was committed for a moment: what is not flushed is, and the log is told so. With the next
    /// batch.
    pub fn rest(&mut self) {
        self.engine.desk.order(Chore::Rest);
    }

    /// Writes a sealed layer into the index; `false` when there is none. The next batch takes note of it.
    pub fn checkpoint(&mut self) -> bool {
        self.engine.checkpointer.write(&self.engine, &mut |_bytes| ())
    }

    /// Lets the index put itself in order a bit; `false` when there was nothing to do.
    pub fn tidy(&mut self) -> bool {
        self.engine.checkpointer.tidy(&self.engine, &mut |_bytes| ())
    }

    /// Serves what waits, and closes the store.
    pub fn close(&mut self) {
        self.engine.desk.close();
        while self.turn() || self.checkpoint() {}
        if let Some(tools) = self.engine.desk.try_close() {
            self.engine.shut(tools);
        }
    }
}

impl InFlight {
    /// Writes and flushes it, after all batches before it.
    pub fn write(&mut self) {
        if let Some(mut writer) = self.engine.desk.try_writer() {
            writer.write(&mut self.batch);
            self.engine.desk.return_writer(writer);
        }
    }

    /// Shows and answers it, after all batches before it.
    pub fn publish(self) {
        if let Some(mut publisher) = self.engine.desk.try_publisher() {
            publisher.publish(self.batch, &self.engine);
            self.engine.desk.return_publisher(publisher);
        }
    }
}

impl std::fmt::Debug for Hands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hands")
    }
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InFlight")
    }
}
