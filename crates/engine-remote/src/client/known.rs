//! What a follower knows of its engine without asking: the newest revision and time it has heard of, the last status, and
//! the watches that somebody waits on.
//!
//! Every number here is a lower bound that only grows, across holders too, since revisions and times do.

use super::line::Line;
use crate::{
    bounds::WATCHES_MAX,
    wire::{self, Pulse, PulseStatus, Request},
};
use outrigger_kernel::Wall;
use outrigger_keyspace::KeyRange;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::watch;

#[derive(Default)]
pub(crate) struct Known {
    revision: AtomicU64,
    time: AtomicU64,
    status: Mutex<PulseStatus>,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    cells: HashMap<u64, Cell>,
    /// Where they are registered.
    line: Option<Arc<Line>>,
}

/// A watch: its range, and the last revision that touched it.
struct Cell {
    range: KeyRange,
    latest: watch::Sender<u64>,
    /// Whether the other side knows of it. Those that are too many for a connection are woken whenever anything changes.
    told: bool,
}

impl Known {
    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    pub(crate) fn saw_revision(&self, revision: u64) {
        self.revision.fetch_max(revision, Ordering::AcqRel);
    }

    pub(crate) fn time(&self) -> Wall {
        Wall(self.time.load(Ordering::Acquire))
    }

    pub(crate) fn saw_time(&self, time: Wall) {
        self.time.fetch_max(time.0, Ordering::AcqRel);
    }

    pub(crate) fn status(&self) -> PulseStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn saw_pulse(&self, pulse: Pulse) {
        let Pulse { now, revision, status } = pulse;
        self.saw_time(now);
        self.saw_revision(revision);
        if let Some(status) = status {
            *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
        }
        for cell in self.watched().cells.values().filter(|cell| !cell.told) {
            cell.saw(revision);
        }
    }

    pub(super) fn saw_change(&self, watch: u64, revision: u64) {
        self.saw_revision(revision);
        if let Some(cell) = self.watched().cells.get(&watch) {
            cell.saw(revision);
        }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A standing watch under the name `watch`.
    pub(super) fn watch(&self, watch: u64, range: KeyRange) -> watch::Receiver<u64> {
        let (latest, receiver) = watch::channel(0);
        let mut watched = self.watched();
        let told = watched.cells.len() < WATCHES_MAX;
        if let Some(line) = watched.line.as_ref().filter(|_| told) {
            line.send(|out| wire::watch(out, watch, false, &range));
        }
        watched.cells.insert(watch, Cell { range, latest, told });
        receiver
    }

    pub(super) fn unwatch(&self, watch: u64) {
        let mut watched = self.watched();
        let told = watched.cells.remove(&watch).is_some_and(|cell| cell.told);
        if let Some(line) = watched.line.as_ref().filter(|_| told) {
            line.send_lazily(&Request::Unwatch { watch });
        }
    }

    /// Registers all watches with `line`. What they missed meanwhile they are told at once.
    pub(super) fn attach(&self, line: &Arc<Line>) {
        let mut watched = self.watched();
        let mut room = WATCHES_MAX;
        for (watch, cell) in &mut watched.cells {
            cell.told = room > 0;
            if cell.told {
                room -= 1;
                line.send(|out| wire::watch(out, *watch, true, &cell.range));
            }
        }
        watched.line = Some(line.clone());
    }

    /// Whether somebody watches whom the other side does not tell, and who goes by its beats.
    pub(super) fn is_guessing(&self) -> bool {
        self.watched().cells.values().any(|cell| !cell.told)
    }

    /// There will be no line any more. Where the engine is here, each watch looks after itself.
    pub(super) fn detach(&self) {
        self.watched().line = None;
    }
}

impl Cell {
    fn saw(&self, revision: u64) {
        self.latest.send_if_modified(|latest| {
            let newer = *latest < revision;
            *latest = revision.max(*latest);
            newer
        });
    }
}
