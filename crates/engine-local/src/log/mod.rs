//! # The write-ahead log: what is in it is committed
//!
//! One thread appends *frames*, each with the plans of one group of commits, to preallocated *segments*, and syncs them. What
//! a sync has confirmed is what the store has promised; everything else on disk can be derived from it.
//!
//! ```text
//!   log-0..7        log-0..8                             log-0..9
//!   |head|F|F|F|F|  |head|F|F|F|F <- end   zeros ....|   |head| zeros ............|
//!    released: used    begun                              ready, made ahead of need
//!    again as 10
//!
//!   frame = header (checksum, place, kind, length, durable, revision, previous) + plans + padding
//! ```
//!
//! Invariants:
//!
//! - every frame holds the checksum of the frame before it and is checked with the identity of its store, its segment and
//!   its place: nothing else on the disk can pass for it, not even itself from an earlier life of the file;
//! - a segment ends with a frame that says so and is synced before the next one is written to, so only the last one can
//!   be torn, and none can be lost unnoticed;
//! - a write or a sync that fails poisons the log for good. Only reading it again tells what is on the disk;
//! - whatever is on the disk, reading it ends with what was written or with an error that says where it is not.
//!
//! | module | |
//! |---|---|
//! | `frame` | the bytes of one write, and its builder |
//! | `segment` | the bytes of a file's header, how a file is made, the window it is read through |
//! | `supply` | making segments ahead of need, using old ones again |
//! | `rations` | what may still be decided on when the disk is full |
//! | `walk` | along the chain, and through the bytes behind its end |
//! | `recover` | opening: what is torn, what is damaged |
//! | `history` | what others read of it: backups, point in time, verification |
//!
//! What it is not: an archive (segments are used again once the index holds what is in them, but for what is asked to be
//! kept), or safe to write to from two processes (the folder's lock is somebody else's).

mod error;
mod frame;
mod history;
mod rations;
mod recover;
mod segment;
mod supply;
mod walk;

#[cfg(test)]
mod tests;

pub(crate) use error::LogError;
pub(crate) use frame::Frame;
pub(crate) use history::History;
pub(crate) use rations::Rations;
pub(crate) use recover::verify;

use crate::planted::{self, Bug};
use frame::{ALIGNMENT, HEADER_BYTES, Kind, PAYLOAD_BYTES_MAX};
use outrigger_kernel::disk::{Disk, DiskFile};
use outrigger_keyspace::{Committed, sequencer::Plan};
use segment::FRAMES_START;
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use supply::Supply;

/// Room that only the frame that closes the log and the one that turns to the next segment may take.
const RESERVED_BYTES: u64 = 2 * HEADER_BYTES as u64;
/// The next segment is asked for when a quarter of this one is written.
const AHEAD_PART: u64 = 4;

/// Whether a file of the store's folder is one of the log's.
pub(crate) fn owns(name: &str) -> bool {
    segment::number_of(name).is_some() || segment::is_unfinished(name)
}

/// Where the next frame goes, and what it chains on: enough to go on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The number of the segment.
    pub(crate) segment: u64,
    /// The byte in it.
    pub(crate) offset: u64,
    /// The checksum of the frame before.
    pub(crate) chain: u64,
}

impl Position {
    /// Where the first frame of every log goes.
    pub(crate) const START: Self = Self { segment: 1, offset: FRAMES_START, chain: 0 };

    /// Its three numbers, little-endian.
    pub(crate) fn encode(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.segment.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..].copy_from_slice(&self.chain.to_le_bytes());
        bytes
    }

    /// What [`Position::encode`] wrote.
    pub(crate) fn decode(bytes: [u8; 24]) -> Self {
        let number = |at: usize| {
            bytes[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        Self { segment: number(0), offset: number(8), chain: number(16) }
    }
}

/// Who makes segments ahead of need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preparation {
    /// A thread of the log's own.
    Thread,
    /// The call that finds it is time; for simulations, where everything happens in one thread.
    Inline,
}

/// Sizes of segments, and who makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Size of the first segment: small, because the store cannot be used before it is filled.
    pub(crate) first_bytes: u64,
    /// Each segment is twice as large as the one before, up to this; larger only for a frame that needs it.
    pub(crate) max_bytes: u64,
    /// Who makes segments ahead of need.
    pub(crate) preparation: Preparation,
}

impl Default for Options {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self { first_bytes: MIB, max_bytes: 16 * MIB, preparation: Preparation::Thread }
    }
}

/// What was found when a log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Whether it had been closed, and nothing was torn.
    pub(crate) clean: bool,
    /// How many plans were read.
    pub(crate) plans: u64,
    /// How many bytes they took.
    pub(crate) bytes: u64,
    /// How many bytes were cut off: written before a crash, confirmed by no sync.
    pub(crate) torn_bytes: u64,
    /// The last plan's revision and time.
    pub(crate) last: Option<Committed>,
    /// How many segments hold something, those that are kept for history included.
    pub(crate) segments: usize,
}

/// What a log has done since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Bytes of frames.
    pub(crate) bytes_written: AtomicU64,
    /// Bytes written to make segments.
    pub(crate) bytes_prepared: AtomicU64,
    /// Syncs of frames: what commits have waited for.
    pub(crate) syncs: AtomicU64,
}

/// The writing end of the log. See the module's head.
#[derive(Debug)]
pub(crate) struct Log {
    file: Arc<dyn DiskFile>,
    /// The size of the file, its salt and the offset up to which it is on disk.
    size: u64,
    salt: u64,
    durable: u64,
    /// What the last frame said was on disk.
    told: u64,
    end: Position,
    last_revision: u64,
    poisoned: Option<String>,
    /// The last segment that was asked for ahead of need.
    asked: u64,
    supply: Arc<Supply>,
    history: Arc<History>,
    rations: Arc<Rations>,
}

impl Log {
    /// Begins a log in a folder that has none.
    ///
    /// # Errors
    /// When the disk refuses. What is there by then is of no use; begin in an empty folder.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        store_id: [u8; 16],
        options: Options,
    ) -> Result<Self, LogError> {
        let bytes = options.first_bytes;
        let supply = Supply::new(disk, store_id, options, BTreeMap::new(), BTreeMap::new());
        let number = Position::START.segment;
        let begun = supply.begin(number, FRAMES_START + RESERVED_BYTES, bytes);
        let (file, size) = begun.map_err(LogError::io(segment::name(number)))?;
        Self::over(supply, file, size, Position::START, 0)
    }

    /// Opens a log and shows `visit` the plans from `from` on, which is where the index says it has everything before. When
    /// this returns, all of them are on disk. `nonce` is a random number, another one each time.
    ///
    /// # Errors
    /// When the log is not what was written, or ends before `from`; see [`recover`]. What `visit` refuses comes back as it
    /// is. Nothing was changed then.
    pub(crate) fn open<E: From<LogError>>(
        disk: Arc<dyn Disk>,
        store_id: [u8; 16],
        from: Position,
        nonce: u64,
        options: Options,
        visit: &mut dyn FnMut(Plan) -> Result<(), E>,
    ) -> Result<(Self, Opened), E> {
        let recovered = recover::recover(&disk, store_id, from, visit)?;
        let (opened, end, found) = (recovered.opened, recovered.end, recovered.segment);
        let supply = Supply::new(disk, store_id, options, recovered.begun, recovered.ready);
        supply.note_indexed(from.segment);
        let last_revision = opened.last.map_or(0, |last| last.revision);
        let (file, size) = (Arc::clone(&found.file), found.header.bytes);
        let mut log = Self::over(supply, file, size, end, last_revision)?;
        let begun = log.write(Kind::Opening, &mut Frame::note(&nonce.to_le_bytes()));
        begun.map_err(LogError::io(found.name))?;
        Ok((log, opened))
    }

    fn over(
        supply: Supply,
        file: Arc<dyn DiskFile>,
        size: u64,
        end: Position,
        last_revision: u64,
    ) -> Result<Self, LogError> {
        let supply = Arc::new(supply);
        let rations = Arc::new(Rations::new(Arc::clone(&supply)));
        rations.note(end.segment, size, end.offset);
        Ok(Self {
            file,
            size,
            salt: segment::salt(supply.store_id, end.segment),
            durable: end.offset,
            told: end.offset,
            end,
            last_revision,
            poisoned: None,
            asked: end.segment,
            history: Arc::new(History { supply: Arc::clone(&supply) }),
            supply,
            rations,
        })
    }

    /// Writes `frame` with one write, and empties it. Answers where the next one goes. It is on disk after [`Log::sync`].
    ///
    /// # Errors
    /// When the disk refuses. Whether the frame will be there when the log is opened again is unknown, and nothing is
    /// taken any more.
    pub(crate) fn append(&mut self, frame: &mut Frame) -> io::Result<Position> {
        let written = self.guarded(|log| {
            if frame.is_empty() {
                return Ok(());
            }
            let last_revision = frame.rises_from(log.last_revision).ok_or_else(|| {
                let after = log.last_revision;
                io::Error::other(format!("a frame's revisions do not rise from {after}"))
            })?;
            log.last_revision = last_revision;
            let bytes = frame.len();
            log.write(Kind::Plans, frame)?;
            log.rations.keep(bytes);
            Ok(())
        });
        frame.clear();
        written.map(|()| self.end)
    }

    /// Makes everything appended so far last, with one `fdatasync`, unless it does already.
    ///
    /// # Errors
    /// When the disk refuses: as with [`Log::append`].
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.guarded(Self::flush)
    }

    /// Tells whoever reads the log later that everything synced so far was on disk, unless a frame says so already: so that
    /// damage to the last frame is told from a torn write. Costs a write and no sync. Answers whether it was needed.
    ///
    /// # Errors
    /// When the disk refuses: as with [`Log::append`].
    pub(crate) fn mark(&mut self) -> io::Result<bool> {
        self.guarded(|log| {
            let fits = log.end.offset + HEADER_BYTES as u64 + RESERVED_BYTES <= log.size;
            if !fits || log.told == log.durable {
                return Ok(false);
            }
            log.write(Kind::Mark, &mut Frame::note(&[]))?;
            Ok(true)
        })
    }

    /// Ends the log: everything is on disk, and whoever opens it knows.
    ///
    /// # Errors
    /// When the disk refuses: as with [`Log::append`].
    pub(crate) fn close(mut self) -> io::Result<()> {
        self.guarded(|log| {
            log.flush()?;
            log.put(Kind::Close, &mut Frame::note(&[]))?;
            log.flush()
        })
    }

    /// Where the next frame goes.
    pub(crate) fn end(&self) -> Position {
        self.end
    }

    /// The log as others read it.
    pub(crate) fn history(&self) -> Arc<History> {
        Arc::clone(&self.history)
    }

    /// What may be decided on, given the room there is.
    pub(crate) fn rations(&self) -> Arc<Rations> {
        Arc::clone(&self.rations)
    }

    /// What was done since it was opened.
    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.supply.counters)
    }

    /// Does something after whose failure nothing is known any more.
    fn guarded<T>(&mut self, act: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        if let Some(reason) = &self.poisoned {
            return Err(io::Error::other(format!(
                "the log takes nothing after an error: {reason}"
            )));
        }
        act(self).inspect_err(|error| self.poisoned = Some(error.to_string()))
    }

    /// Puts a frame where there is room for it.
    fn write(&mut self, kind: Kind, frame: &mut Frame) -> io::Result<()> {
        if frame.len() > PAYLOAD_BYTES_MAX {
            return Err(io::Error::other("a frame is larger than any transaction"));
        }
        let need = frame.len() as u64 + RESERVED_BYTES;
        if self.end.offset + need > self.size {
            self.turn(need)?;
        }
        self.put(kind, frame)?;
        self.rations.note(self.end.segment, self.size, self.end.offset);
        self.ask_ahead();
        Ok(())
    }

    fn put(&mut self, kind: Kind, frame: &mut Frame) -> io::Result<()> {
        let boasts = planted::is(Bug::ClaimTooMuch);
        let durable = if boasts { self.end.offset } else { self.durable };
        let (bytes, chain) = frame.seal(kind, self.end, self.salt, durable);
        let written = self.file.write_at(bytes, self.end.offset);
        if !planted::is(Bug::BelieveShortWrite) {
            written?;
        }
        let length = bytes.len() as u64;
        debug_assert_eq!(length % ALIGNMENT as u64, 0, "frames are padded");
        self.supply.counters.bytes_written.fetch_add(length, Ordering::Relaxed);
        self.told = self.durable;
        self.end = Position { offset: self.end.offset + length, chain, ..self.end };
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.durable < self.end.offset {
            let synced = self.file.sync();
            if planted::is(Bug::RetrySync) && synced.is_err() {
                self.file.sync()?;
            } else {
                synced?;
            }
            self.supply.counters.syncs.fetch_add(1, Ordering::Relaxed);
            self.durable = self.end.offset;
        }
        Ok(())
    }

    /// Goes on in the next segment, with room for `need` bytes.
    fn turn(&mut self, need: u64) -> io::Result<()> {
        let number = self.end.segment + 1;
        let bytes_min = (FRAMES_START + need).next_multiple_of(FRAMES_START);
        let (file, size) =
            self.supply.begin(number, bytes_min, self.supply.size_after(self.size))?;
        self.put(Kind::Turn, &mut Frame::note(&[]))?;
        self.flush()?;
        self.file = file;
        self.size = size;
        self.salt = segment::salt(self.supply.store_id, number);
        self.end = Position { segment: number, offset: FRAMES_START, ..self.end };
        self.durable = FRAMES_START;
        self.told = FRAMES_START;
        self.rations.note(number, size, FRAMES_START);
        Ok(())
    }

    fn ask_ahead(&mut self) {
        let next = self.end.segment + 1;
        if self.asked < next && self.end.offset >= self.size / AHEAD_PART {
            self.asked = next;
            self.supply.want(next, self.supply.size_after(self.size));
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.supply.stop();
    }
}
