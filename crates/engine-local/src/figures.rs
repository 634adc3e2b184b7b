//! What the engine counts, and the figures it shows of that.

use crate::stack::Stack;
use outrigger_kernel::Mono;
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// How an engine fares, in numbers. Those that count do so since the engine was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Commits that changed something.
    pub commits: u64,
    /// Batches they were written in.
    pub batches: u64,
    /// Flushes of the log that somebody waited for: commits by this is how many share one.
    pub flushes: u64,
    /// Bytes written into the log.
    pub log_bytes_written: u64,
    /// Bytes written to have segments of the log ready.
    pub log_bytes_prepared: u64,
    /// Bytes written into the index.
    pub index_bytes_written: u64,
    /// What the log takes on the disk.
    pub log_bytes: u64,
    /// What the index takes on the disk.
    pub index_bytes: u64,
    /// Recent changes in memory, about.
    pub layer_bytes: u64,
    /// Recent changes on their way from memory into the index, about.
    pub sealed_bytes: u64,
    /// Bytes of commits that wait for their turn.
    pub queued_bytes: u64,
    /// Times that recent changes went into the index.
    pub checkpoints: u64,
    /// How long ago that was last; since the engine was opened, if never.
    pub checkpoint_age: Duration,
}

/// Counters behind [`Figures`], for whoever does the work.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    commits: AtomicU64,
    batches: AtomicU64,
    flushes: AtomicU64,
    layer_bytes: AtomicU64,
    sealed_bytes: AtomicU64,
    checkpoints: AtomicU64,
    checkpoint_at: AtomicU64,
}

impl Tally {
    pub(crate) fn begun_at(now: Mono) -> Self {
        Self { checkpoint_at: AtomicU64::new(now.0), ..Self::default() }
    }

    pub(crate) fn note_batch(&self, commits: u64) {
        if commits > 0 {
            self.commits.fetch_add(commits, Relaxed);
            self.batches.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn note_flush(&self) {
        self.flushes.fetch_add(1, Relaxed);
    }

    pub(crate) fn note_memory(&self, stack: &Stack) {
        let sealed = stack.sealed.as_ref().map_or(0, |layer| layer.bytes());
        self.layer_bytes.store(stack.active.bytes() as u64, Relaxed);
        self.sealed_bytes.store(sealed as u64, Relaxed);
    }

    pub(crate) fn note_checkpoint(&self, now: Mono) {
        self.checkpoints.fetch_add(1, Relaxed);
        self.checkpoint_at.store(now.0, Relaxed);
    }

    pub(crate) fn flushes(&self) -> u64 {
        self.flushes.load(Relaxed)
    }

    /// The figures, but for what only the parts know.
    pub(crate) fn figures(&self, now: Mono) -> Figures {
        Figures {
            commits: self.commits.load(Relaxed),
            batches: self.batches.load(Relaxed),
            flushes: self.flushes(),
            layer_bytes: self.layer_bytes.load(Relaxed),
            sealed_bytes: self.sealed_bytes.load(Relaxed),
            checkpoints: self.checkpoints.load(Relaxed),
            checkpoint_age: now.since(Mono(self.checkpoint_at.load(Relaxed))),
            ..Figures::default()
        }
    }
}
