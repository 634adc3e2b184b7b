//! The writer: the second of a batch's three stations. What is decided gets into the log, and onto the disk.
//!
//! One write for the batch and, if anybody in it asked for that, one flush for everything written so far. A write or flush
//! that fails ends the engine: it is not known what the disk has, and a flush that is tried again proves nothing.

use crate::{
    batch::{Batch, Flush},
    log::Log,
    planted::{self, Bug},
    shared::Shared,
    store::UNWRITTEN_REVISIONS_MAX,
};
use outrigger_kernel::{Mono, World};
use std::{io, sync::Arc, time::Duration};

/// How long a commit that did not ask for a flush may be without one while others keep coming. As long again may pass
/// until the next one comes, or it is noticed that none does.
const UNFLUSHED_MAX: Duration = Duration::from_millis(50);
/// As many revisions may be given to commits that are not flushed; half of what whoever opens the store skips.
const UNFLUSHED_REVISIONS_MAX: u64 = UNWRITTEN_REVISIONS_MAX / 2;

pub(crate) struct Writer {
    log: Log,
    world: Arc<dyn World>,
    shared: Arc<Shared>,
    /// The last revision that is on disk.
    flushed: u64,
    /// The last revision that is in the log, and since when there is something in it that is not flushed.
    written: u64,
    unflushed_since: Option<Mono>,
    /// Why the log cannot be written any more.
    broken: Option<String>,
}

impl Writer {
    /// For a log that is on disk up to `revision`.
    pub(crate) fn new(log: Log, world: Arc<dyn World>, shared: Arc<Shared>, revision: u64) -> Self {
        Self {
            log,
            world,
            shared,
            flushed: revision,
            written: revision,
            unflushed_since: None,
            broken: None,
        }
    }

    /// Writes the batch. It may be shown and answered afterwards, unless it says that it failed.
    pub(crate) fn write(&mut self, batch: &mut Batch) {
        if self.broken.is_none()
            && let Err(error) = self.try_write(batch)
        {
            let reason = format!("writing the log failed: {error}");
            self.broken = Some(self.shared.failure.note(reason));
        }
        batch.failed.clone_from(&self.broken);
        if planted::is(Bug::ShowWhatFailed) {
            batch.position = Some(self.log.end());
        }
    }

    fn try_write(&mut self, batch: &mut Batch) -> io::Result<()> {
        if !batch.frame.is_empty() {
            self.written = batch.last;
            self.unflushed_since.get_or_insert_with(|| self.world.mono());
            self.log.append(&mut batch.frame)?;
        }
        let waited_for = match batch.flush {
            Flush::Yes => true,
            Flush::Before => self.unflushed_since.is_some(),
            Flush::No => false,
        };
        let waited_for = waited_for && !planted::is(Bug::AnswerBeforeFlush);
        if waited_for || batch.rest || self.is_overdue() {
            self.flush(waited_for)?;
        }
        if batch.sealed.is_some() && !planted::is(Bug::CheckpointAheadOfLog) {
            // The index will say that the log is on disk up to here, marks included.
            self.log.sync()?;
        }
        batch.position = Some(self.log.end());
        if batch.rest {
            self.log.mark()?;
        }
        Ok(())
    }

    fn is_overdue(&self) -> bool {
        let many = self.written - self.flushed >= UNFLUSHED_REVISIONS_MAX;
        let long = |since| self.world.mono().since(since) >= UNFLUSHED_MAX;
        self.unflushed_since.is_some_and(|since| many || long(since))
    }

    fn flush(&mut self, counts: bool) -> io::Result<()> {
        if self.unflushed_since.is_none() {
            return Ok(());
        }
        self.log.sync()?;
        if counts {
            self.shared.tally.note_flush();
        }
        self.unflushed_since = None;
        self.flushed = self.written;
        Ok(())
    }

    /// Closes the log, so that whoever opens it knows that nothing is missing at its end.
    pub(crate) fn close(self) {
        let Self { log, shared, broken, .. } = self;
        if broken.is_none()
            && let Err(error) = log.close()
        {
            shared.failure.note(format!("closing the log failed: {error}"));
        }
    }
}
