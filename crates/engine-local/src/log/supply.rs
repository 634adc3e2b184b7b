//! The supply of segments: which there are, which are ready to be written to, which may be used again, and who makes the
//! next one.
//!
//! Zero-filling 32 MiB takes longer than a hundred commits, so it is done ahead of need, by a thread of its own or, for a
//! simulator, in the call that finds it is time. Segments before the last checkpoint become new ones: their blocks are
//! written already, so a write to them changes no metadata and a sync of them writes no journal.
//!
//! Invariants:
//!
//! - a name is given last, to a file that is whole and synced, and lasts before anything is written to it;
//! - segments go oldest first and one at a time, each gone from the disk before the next is touched, so the numbers on a
//!   disk never have a gap, whenever it stops;
//! - a pinned segment and those after it stay.

use super::{
    Counters, Options, Preparation,
    segment::{self, Pace, SegmentHeader, Unprepared},
};
use outrigger_kernel::disk::{Disk, DiskFile};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Most segments kept for being used again, beside those that are kept for what is in them.
const SPARE_MAX: usize = 2;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Supply {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) store_id: [u8; 16],
    pub(crate) options: Options,
    pub(crate) counters: Arc<Counters>,
    state: Mutex<State>,
    /// Held while files are made or unmade.
    work: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
    /// Whether the writer waits.
    hurry: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Segments that were begun, and their sizes.
    begun: BTreeMap<u64, u64>,
    /// Segments that can be begun.
    ready: BTreeMap<u64, u64>,
    /// How many readers need this segment and those after it.
    pins: BTreeMap<u64, usize>,
    /// Segments before this one may be used again, ..
    released_below: u64,
    /// .. and those before this one are being used: nobody may read them any more.
    taken_below: u64,
    wanted: Option<Wanted>,
    /// Whether segments were released since somebody looked.
    trim: bool,
    /// Why nothing more is made: a sync has failed.
    broken: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    number: u64,
    bytes: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Supply {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        store_id: [u8; 16],
        options: Options,
        begun: BTreeMap<u64, u64>,
        ready: BTreeMap<u64, u64>,
    ) -> Self {
        let state = State { begun, ready, ..State::default() };
        Self {
            disk,
            store_id,
            options,
            counters: Arc::default(),
            state: Mutex::new(state),
            work: Mutex::default(),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            hurry: AtomicBool::new(false),
        }
    }

    /// Asks for segment `number` ahead of need. Unless it is made by then, the writer makes it.
    pub(crate) fn want(&self, number: u64, bytes: u64) {
        lock(&self.state).wanted = Some(Wanted { number, bytes });
        self.kick();
    }

    fn kick(&self) {
        match self.options.preparation {
            Preparation::Thread => self.wake.notify_one(),
            Preparation::Inline => self.work(),
        }
    }

    /// Works until [`Supply::stop`].
    pub(crate) fn serve(&self) {
        while self.wait() {
            self.work();
        }
    }

    /// Ends the work, in the middle if need be: what is half made is removed when the log is opened.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        // Whoever has just seen that it was not set is waiting once this lock is had.
        drop(lock(&self.state));
        self.wake.notify_all();
    }

    /// Lets segments before `before` be used again, but for the newest of them that fit in `keep_bytes`.
    pub(crate) fn release(&self, before: u64, keep_bytes: u64) {
        let mut state = lock(&self.state);
        let mut kept_bytes = 0_u64;
        let mut released_below = state.released_below;
        for (number, bytes) in state.begun.range(..before).rev() {
            kept_bytes = kept_bytes.saturating_add(*bytes);
            if kept_bytes > keep_bytes {
                released_below = released_below.max(number + 1);
                break;
            }
        }
        let more = released_below > state.released_below;
        state.released_below = released_below;
        state.trim |= more;
        drop(state);
        if more {
            self.kick();
        }
    }

    /// The segments that can be read, and their sizes.
    #[cfg(test)]
    pub(crate) fn readable(&self) -> Vec<(u64, u64)> {
        let state = lock(&self.state);
        let readable = state.begun.range(state.taken_below..);
        readable.map(|(number, bytes)| (*number, *bytes)).collect()
    }

    /// Keeps segment `number` and those after it until [`Supply::unpin`]; false when it is too late.
    pub(crate) fn pin(&self, number: u64) -> bool {
        let mut state = lock(&self.state);
        let there = number >= state.taken_below && state.begun.contains_key(&number);
        if there {
            *state.pins.entry(number).or_default() += 1;
        }
        there
    }

    pub(crate) fn unpin(&self, number: u64) {
        let mut state = lock(&self.state);
        if let Some(count) = state.pins.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                state.pins.remove(&number);
            }
        }
        let waits = state.begun.range(..state.released_below).count() > SPARE_MAX;
        state.trim |= waits;
        drop(state);
        if waits {
            self.kick();
        }
    }

    /// Segment `number`, of `bytes_min` at least, to be written to now. It is made here when it is not ready.
    pub(crate) fn begin(
        &self,
        number: u64,
        bytes_min: u64,
        bytes: u64,
    ) -> io::Result<(Arc<dyn DiskFile>, u64)> {
        // Whoever is at work on it finishes first.
        self.hurry.store(true, Ordering::SeqCst);
        let _work = lock(&self.work);
        let begun = self.begin_at_work(number, bytes_min, bytes);
        self.hurry.store(false, Ordering::SeqCst);
        begun
    }

    fn begin_at_work(
        &self,
        number: u64,
        bytes_min: u64,
        bytes: u64,
    ) -> io::Result<(Arc<dyn DiskFile>, u64)> {
        let mut state = lock(&self.state);
        if let Some(reason) = &state.broken {
            return Err(io::Error::other(reason.clone()));
        }
        state.wanted = None;
        let ready = state.ready.remove(&number).filter(|ready| *ready >= bytes_min);
        drop(state);
        let bytes = match ready {
            Some(bytes) => bytes,
            None => {
                let bytes = bytes.max(bytes_min);
                self.make(Wanted { number, bytes }).map_err(|error| self.note(error))?
            }
        };
        let file = self.disk.open(&segment::name(number))?;
        lock(&self.state).begun.insert(number, bytes);
        Ok((file, bytes))
    }

    /// Does what there is to do: makes the wanted segment, removes what is too much.
    pub(crate) fn work(&self) {
        let _work = lock(&self.work);
        let mut state = lock(&self.state);
        // A log that was closed leaves the folder to whoever opens it next.
        if state.broken.is_some() || self.stop.load(Ordering::SeqCst) {
            return;
        }
        state.trim = false;
        let wanted = state.wanted.take().filter(|wanted| !state.ready.contains_key(&wanted.number));
        drop(state);
        let done = wanted.map_or(Ok(()), |wanted| {
            self.make(wanted).map(|bytes| {
                lock(&self.state).ready.insert(wanted.number, bytes);
            })
        });
        if let Err(error) = done.and_then(|()| self.trim()) {
            let error = self.note(error);
            tracing::warn!(%error, "the next segment of the log could not be prepared");
        }
    }

    /// Waits until there is something to do; false when it is time to end.
    fn wait(&self) -> bool {
        let idle = |state: &mut State| {
            state.wanted.is_none() && !state.trim && !self.stop.load(Ordering::SeqCst)
        };
        let waited = self.wake.wait_while(lock(&self.state), idle);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        !self.stop.load(Ordering::SeqCst)
    }

    /// Makes a segment. Answers its size.
    fn make(&self, wanted: Wanted) -> Result<u64, Unprepared> {
        let unfinished = segment::name(wanted.number) + segment::UNFINISHED;
        let made = self.make_from_some_file(&unfinished, wanted);
        if let Err(Unprepared::Other(_)) = &made {
            // A disk that is full needs the room; what cannot be removed now is when the log is opened.
            let _left = self.disk.remove(&unfinished);
        }
        made
    }

    /// Makes a segment out of an old one, or a new one.
    fn make_from_some_file(&self, unfinished: &str, wanted: Wanted) -> Result<u64, Unprepared> {
        let mut header = SegmentHeader {
            store_id: self.store_id,
            number: wanted.number,
            bytes: wanted.bytes,
            used_before: true,
        };
        let count = |bytes| self.counters.bytes_prepared.fetch_add(bytes, Ordering::Relaxed);
        loop {
            let Some((old, bytes)) = self.oldest(0) else {
                header.used_before = false;
                segment::fill(&*self.disk, unfinished, &header, &|| self.pace())?;
                count(header.bytes);
                break;
            };
            if bytes >= wanted.bytes && bytes <= self.options.max_bytes.max(wanted.bytes) {
                header.bytes = bytes;
                segment::reuse(&*self.disk, &segment::name(old), unfinished, &header)?;
                self.forget(old);
                count(segment::FRAMES_START);
                break;
            }
            self.remove(old)?;
        }
        segment::finish(&*self.disk, unfinished, wanted.number)?;
        Ok(header.bytes)
    }

    fn pace(&self) -> Pace {
        if self.stop.load(Ordering::SeqCst) {
            Pace::Stop
        } else if self.hurry.load(Ordering::SeqCst) {
            Pace::Fast
        } else {
            Pace::Gentle
        }
    }

    /// Removes segments that may be used again but are more than will be.
    fn trim(&self) -> Result<(), Unprepared> {
        while let Some((old, _)) = self.oldest(SPARE_MAX) {
            self.remove(old)?;
        }
        Ok(())
    }

    fn remove(&self, old: u64) -> Result<(), Unprepared> {
        self.disk.remove(&segment::name(old))?;
        self.disk.sync_folder().map_err(Unprepared::Sync)?;
        self.forget(old);
        Ok(())
    }

    /// The oldest segment, if it may be used again and more than `but` may. From here on nobody reads it.
    fn oldest(&self, but: usize) -> Option<(u64, u64)> {
        let mut state = lock(&self.state);
        let pinned = state.pins.keys().next().copied().unwrap_or(u64::MAX);
        let free_below = state.released_below.min(pinned);
        if state.begun.range(..free_below).count() <= but {
            return None;
        }
        let oldest = state.begun.iter().next().map(|(number, bytes)| (*number, *bytes));
        state.taken_below = oldest.map_or(state.taken_below, |(number, _)| number + 1);
        oldest
    }

    fn forget(&self, old: u64) {
        lock(&self.state).begun.remove(&old);
    }

    /// Takes note of why something was not made.
    fn note(&self, error: Unprepared) -> io::Error {
        if let Unprepared::Sync(error) = &error {
            let reason = format!("a sync failed while a segment was prepared: {error}");
            lock(&self.state).broken = Some(reason);
        }
        error.into_io()
    }
}
