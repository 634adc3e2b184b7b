//! The supply of segments: which there are, which are ready to be written to, which may be used again, and who makes the
//! next one.
//!
//! Zero-filling 16 MiB takes longer than a hundred commits, so it is done ahead of need, by a thread that is there only
//! meanwhile or, for a simulator, in the call that finds it is time. Segments before the last checkpoint become new ones: their blocks are
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
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
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
    /// The thread that does it, or did.
    worker: Mutex<Option<JoinHandle<()>>>,
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
    /// The index has everything before this one: what of it is not released is kept to look back.
    indexed_below: u64,
    wanted: Option<Wanted>,
    /// The segment that is being made ahead of need.
    coming: Option<u64>,
    /// Whether segments were released since somebody looked.
    trim: bool,
    /// Whether a thread is at it, and will look again before it ends.
    at_work: bool,
    /// Whether the last segment could not be made for lack of room.
    lacks_room: bool,
    /// Why nothing more is made: a sync has failed.
    broken: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    number: u64,
    bytes: u64,
}

/// How it stands with a segment that will be needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is there, of so many bytes.
    Ready(u64),
    /// It is being made.
    Coming,
    /// Nobody makes it, or it could not be made.
    Absent,
    /// It is written to already, and has so many bytes.
    Begun(u64),
    /// Nothing is made any more.
    Broken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somebody waits, for as long as this is held.
struct Hurry<'a>(&'a AtomicBool);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl State {
    /// Segments before this one may be used again.
    fn free_below(&self) -> u64 {
        let pinned = self.pins.keys().next().copied().unwrap_or(u64::MAX);
        self.released_below.min(pinned)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
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
            worker: Mutex::default(),
            stop: AtomicBool::new(false),
            hurry: AtomicBool::new(false),
        }
    }

    /// How large the segment after one of `bytes` becomes.
    pub(crate) fn size_after(&self, bytes: u64) -> u64 {
        bytes.saturating_mul(2).min(self.options.max_bytes)
    }

    /// Asks for segment `number` ahead of need. Unless it is made by then, the writer makes it.
    pub(crate) fn want(self: &Arc<Self>, number: u64, bytes: u64) {
        let mut state = lock(&self.state);
        if state.begun.contains_key(&number) || state.ready.contains_key(&number) {
            return;
        }
        state.wanted = Some(Wanted { number, bytes });
        drop(state);
        self.kick();
    }

    /// How it stands with segment `number`.
    pub(crate) fn next(&self, number: u64) -> Next {
        let state = lock(&self.state);
        let is_coming = state.coming == Some(number)
            || state.wanted.is_some_and(|wanted| wanted.number == number);
        match (state.begun.get(&number), state.ready.get(&number)) {
            _ if state.broken.is_some() => Next::Broken,
            (Some(bytes), _) => Next::Begun(*bytes),
            (None, Some(bytes)) => Next::Ready(*bytes),
            (None, None) if is_coming => Next::Coming,
            (None, None) => Next::Absent,
        }
    }

    /// Whether the last segment could not be made for lack of room, and nothing has made room since.
    pub(crate) fn lacks_room(&self) -> bool {
        lock(&self.state).lacks_room
    }

    /// Whether there is a segment that may be used again.
    pub(crate) fn has_spare(&self) -> bool {
        let state = lock(&self.state);
        let below = state.free_below();
        state.begun.range(..below).next().is_some()
    }

    /// Makes segment `number` now, of `bytes` if there is room and of `bytes_min` at least, unless it is ready or begun.
    pub(crate) fn prepare(&self, number: u64, bytes_min: u64, bytes: u64) -> io::Result<()> {
        let _work = self.hurried();
        let mut state = lock(&self.state);
        if let Some(reason) = &state.broken {
            return Err(io::Error::other(reason.clone()));
        }
        let is_there = state.ready.get(&number).is_some_and(|ready| *ready >= bytes_min);
        if is_there || state.begun.contains_key(&number) {
            return Ok(());
        }
        state.wanted = None;
        drop(state);
        let made = self.make_some(number, bytes_min, bytes).map_err(|error| self.note(error))?;
        lock(&self.state).ready.insert(number, made);
        Ok(())
    }

    /// Lets whoever makes segments look at what there is to do: a thread that is there only meanwhile.
    fn kick(self: &Arc<Self>) {
        if self.options.preparation == Preparation::Inline {
            self.work();
            return;
        }
        let mut worker = lock(&self.worker);
        let mut state = lock(&self.state);
        if state.at_work || self.stop.load(Ordering::SeqCst) {
            return;
        }
        state.at_work = true;
        drop(state);
        let supply = Arc::clone(self);
        let builder = std::thread::Builder::new().name("log-segments".to_owned());
        match builder.spawn(move || supply.serve()) {
            // The thread before has nothing left to do.
            Ok(spawned) => drop(worker.replace(spawned)),
            Err(error) => {
                lock(&self.state).at_work = false;
                tracing::warn!(%error, "no thread for the next segment of the log; the writer makes it");
            }
        }
    }

    /// Works until there is nothing to do, or it is time to end.
    fn serve(&self) {
        loop {
            self.work();
            let mut state = lock(&self.state);
            let idle = state.broken.is_some() || (state.wanted.is_none() && !state.trim);
            if idle || self.stop.load(Ordering::SeqCst) {
                state.at_work = false;
                return;
            }
        }
    }

    /// Ends the work, in the middle if need be: what is half made is removed when the log is opened.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        let worker = lock(&self.worker).take();
        if let Some(worker) = worker {
            // It has told its troubles already.
            let _ended = worker.join();
        }
    }

    /// The right to make files, for somebody who waits: whoever is at work on one finishes it first, fast.
    fn hurried(&self) -> (MutexGuard<'_, ()>, Hurry<'_>) {
        self.hurry.store(true, Ordering::SeqCst);
        let work = lock(&self.work);
        self.hurry.store(true, Ordering::SeqCst);
        (work, Hurry(&self.hurry))
    }

    /// Lets segments before `before` be used again, but for the newest of them that fit in `keep_bytes`.
    pub(crate) fn release(self: &Arc<Self>, before: u64, keep_bytes: u64) {
        let mut state = lock(&self.state);
        let mut kept_bytes = 0_u64;
        let mut released_below = state.released_below;
        state.indexed_below = state.indexed_below.max(before);
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
        state.lacks_room &= !more;
        drop(state);
        if more {
            self.kick();
        }
    }

    /// The index has everything before segment `number`.
    pub(crate) fn note_indexed(&self, number: u64) {
        lock(&self.state).indexed_below = number;
    }

    /// Lets everything be used again that the index has: what is kept to look back is the first to go.
    pub(crate) fn release_kept(self: &Arc<Self>) {
        let indexed_below = lock(&self.state).indexed_below;
        self.release(indexed_below, 0);
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

    pub(crate) fn unpin(self: &Arc<Self>, number: u64) {
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
        let _work = self.hurried();
        let mut state = lock(&self.state);
        if let Some(reason) = &state.broken {
            return Err(io::Error::other(reason.clone()));
        }
        state.wanted = None;
        let ready = state.ready.remove(&number).filter(|ready| *ready >= bytes_min);
        drop(state);
        let bytes = match ready {
            Some(bytes) => bytes,
            None => self.make_some(number, bytes_min, bytes).map_err(|error| self.note(error))?,
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
        let wanted = state.wanted.take().filter(|wanted| {
            !state.ready.contains_key(&wanted.number) && !state.begun.contains_key(&wanted.number)
        });
        state.coming = wanted.map(|wanted| wanted.number);
        drop(state);
        let done = wanted.map_or(Ok(()), |wanted| {
            self.make(wanted).map(|bytes| {
                lock(&self.state).ready.insert(wanted.number, bytes);
            })
        });
        lock(&self.state).coming = None;
        if let Err(error) = done.and_then(|()| self.trim()) {
            let error = self.note(error);
            tracing::warn!(%error, "the next segment of the log could not be prepared");
        }
    }

    /// Makes segment `number`, of `bytes` if there is room and of `bytes_min` at least. Answers its size.
    fn make_some(&self, number: u64, bytes_min: u64, bytes: u64) -> Result<u64, Unprepared> {
        let sizes = [bytes, self.options.first_bytes, bytes_min].map(|bytes| bytes.max(bytes_min));
        let mut made = self.make(Wanted { number, bytes: sizes[0] });
        for pair in sizes.windows(2) {
            match &made {
                Err(Unprepared::Other(error)) if is_full(error) && pair[1] < pair[0] => {
                    made = self.make(Wanted { number, bytes: pair[1] });
                }
                _ => {}
            }
        }
        made
    }

    /// Makes a segment. Answers its size.
    fn make(&self, wanted: Wanted) -> Result<u64, Unprepared> {
        let unfinished = segment::name(wanted.number) + segment::UNFINISHED;
        let made = self.make_from_some_file(&unfinished, wanted);
        lock(&self.state).lacks_room =
            matches!(&made, Err(Unprepared::Other(error)) if is_full(error));
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
        let free_below = state.free_below();
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
