//! One file of the log: its name, its header, how it comes to be and how it is read.
//!
//! The header fills the first 4 KiB of the file, so that no write of a frame touches the sector it stands in:
//!
//! ```text
//!    0  magic      8   "OUTRLOG\n"
//!    8  version    4
//!   12  flags      4   1: the file was used before, what follows the last frame is not zeros
//!   16  store     16   the store's id
//!   32  number     8   of the segment; the file is named after it
//!   40  size       8   of the file
//!   48  zeros      8
//!   56  checksum   8   xxh3-64 of what is before it
//!   64  zeros  4,032
//! ```
//!
//! A segment gets its name last: what is called `log-<number>` was whole and on disk before. While it is made it is called
//! `log-<number>.new`, which nobody reads and whoever opens the log removes.

use super::LogError;
use crate::planted::{self, Bug};
use outrigger_kernel::disk::{Disk, DiskFile};
use std::{io, sync::Arc};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Version of the segment and frame layout.
pub(crate) const VERSION: u32 = 1;
/// Where the first frame of a segment begins.
pub(crate) const FRAMES_START: u64 = 4096;
/// Largest segment that can be read: offsets are written in four bytes.
const BYTES_MAX: u64 = 1 << 30;
const HEADER_BYTES: usize = FRAMES_START as usize;
const TOLD_BYTES: usize = 64;
const MAGIC: [u8; 8] = *b"OUTRLOG\n";
const FLAG_USED_BEFORE: u32 = 1;
/// How much is zeroed, read or searched at once.
pub(crate) const PIECE_BYTES: usize = 1024 * 1024;
/// How much is synced at once while a segment is made ahead of need. With 32 MiB instead, a commit that wants its 256 bytes
/// synced meanwhile was measured to take 11 ms instead of 0.3.
const GENTLE_BYTES: usize = 256 * 1024;
/// What the names of segments under construction end with.
pub(crate) const UNFINISHED: &str = ".new";

/// The name of segment `number`. Names sort like numbers.
pub(crate) fn name(number: u64) -> String {
    format!("log-{number:020}")
}

/// The number in a segment's name.
pub(crate) fn number_of(name_of_file: &str) -> Option<u64> {
    let digits = name_of_file.strip_prefix("log-")?;
    let number = digits.parse().ok()?;
    (name(number) == name_of_file).then_some(number)
}

/// Whether a file is a segment under construction.
pub(crate) fn is_unfinished(name_of_file: &str) -> bool {
    name_of_file.strip_suffix(UNFINISHED).and_then(number_of).is_some()
}

/// What makes frames of one segment of one store unlike all others.
pub(crate) fn salt(store_id: [u8; 16], number: u64) -> u64 {
    let number = if planted::is(Bug::IgnoreSalt) { 0 } else { number };
    xxh3_64_with_seed(&store_id, number)
}

/// What a segment's header tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) store_id: [u8; 16],
    pub(crate) number: u64,
    /// Of the file.
    pub(crate) bytes: u64,
    pub(crate) used_before: bool,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        let flags = if self.used_before { FLAG_USED_BEFORE } else { 0 };
        header.extend_from_slice(&flags.to_le_bytes());
        header.extend_from_slice(&self.store_id);
        header.extend_from_slice(&self.number.to_le_bytes());
        header.extend_from_slice(&self.bytes.to_le_bytes());
        header.extend_from_slice(&[0; 8]);
        let checksum = xxh3_64(&header);
        header.extend_from_slice(&checksum.to_le_bytes());
        header.resize(HEADER_BYTES, 0);
        header
    }

    fn decode(file: &str, header: &[u8]) -> Result<Self, LogError> {
        let damaged = |offset, what: &str| LogError::damaged(file, offset, what);
        let part = |at: usize, length: usize| &header[at..at + length];
        let number = |at, length: usize| {
            let digits = part(at, length).iter().rev();
            digits.fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        if part(0, 8) != MAGIC {
            return Err(damaged(0, "it does not begin like a segment of a log"));
        }
        if number(56, 8) != xxh3_64(part(0, 56)) {
            return Err(damaged(0, "the checksum of its header does not hold"));
        }
        // The checksum stands where it stands in every version, so a newer one is told from damage.
        let version = number(8, 4) as u32;
        if version > VERSION {
            return Err(LogError::Newer { file: file.to_owned(), found: version, known: VERSION });
        }
        if header[TOLD_BYTES..].iter().any(|byte| *byte != 0) {
            return Err(damaged(
                TOLD_BYTES as u64,
                "its header is followed by bytes that should be zero",
            ));
        }
        let mut store_id = [0; 16];
        store_id.copy_from_slice(part(16, 16));
        let used_before = number(12, 4) as u32 & FLAG_USED_BEFORE != 0;
        Ok(Self { store_id, number: number(32, 8), bytes: number(40, 8), used_before })
    }
}

/// How a file is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// In pieces that are synced each: somebody else's small syncs wait behind one of them, not behind a whole segment.
    Gentle,
    /// As fast as it goes: somebody waits for it.
    Fast,
    /// Not any further.
    Stop,
}

/// Makes the new file `unfinished` of `header.bytes` zeros behind a header, on disk but for its name.
pub(crate) fn fill(
    disk: &dyn Disk,
    unfinished: &str,
    header: &SegmentHeader,
    pace: &dyn Fn() -> Pace,
) -> Result<(), Unprepared> {
    match disk.remove(unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Unprepared::Other(error));
        }
        _ => {}
    }
    let file = disk.create(unfinished)?;
    let zeros = vec![0; PIECE_BYTES];
    let mut at = 0;
    while at < header.bytes {
        let pace = pace();
        let most = match pace {
            Pace::Gentle => GENTLE_BYTES,
            Pace::Fast => PIECE_BYTES,
            Pace::Stop => return Err(Unprepared::Stopped),
        };
        let piece = (header.bytes - at).min(most as u64);
        file.write_at(&zeros[..piece as usize], at)?;
        at += piece;
        if pace == Pace::Gentle {
            file.sync().map_err(Unprepared::Sync)?;
        }
    }
    file.write_at(&header.encode(), 0)?;
    if planted::is(Bug::ForgetSegmentHeader) {
        return Ok(());
    }
    file.sync().map_err(Unprepared::Sync)
}

/// Turns the segment `from`, which nobody needs any more, into the file `unfinished` with a new header, on disk but for its
/// name.
///
/// The old name must be gone from the disk before the header changes: a file called `log-7` says 7, after any crash.
pub(crate) fn reuse(
    disk: &dyn Disk,
    from: &str,
    unfinished: &str,
    header: &SegmentHeader,
) -> Result<(), Unprepared> {
    disk.rename(from, unfinished)?;
    if !planted::is(Bug::ForgetOldName) {
        disk.sync_folder().map_err(Unprepared::Sync)?;
    }
    let file = disk.open(unfinished)?;
    file.write_at(&header.encode(), 0)?;
    file.sync().map_err(Unprepared::Sync)
}

/// Gives a whole file its name, which lasts when this returns.
pub(crate) fn finish(
    disk: &dyn Disk,
    unfinished: &str,
    number: u64,
) -> Result<Arc<dyn DiskFile>, Unprepared> {
    disk.rename(unfinished, &name(number))?;
    if !planted::is(Bug::ForgetSegmentName) {
        disk.sync_folder().map_err(Unprepared::Sync)?;
    }
    Ok(disk.open(&name(number))?)
}

/// Why no segment was prepared.
#[derive(Debug)]
pub(crate) enum Unprepared {
    /// A sync failed: what is on the disk is unknown, and asking again would not tell.
    Sync(io::Error),
    /// Anything else, which may pass.
    Other(io::Error),
    /// The log is being closed.
    Stopped,
}

impl From<io::Error> for Unprepared {
    fn from(error: io::Error) -> Self {
        Self::Other(error)
    }
}

impl Unprepared {
    pub(crate) fn into_io(self) -> io::Error {
        match self {
            Self::Sync(error) | Self::Other(error) => error,
            Self::Stopped => io::Error::other("the log is being closed"),
        }
    }
}

/// A segment opened for reading, through a window of at least [`PIECE_BYTES`].
#[derive(Debug)]
pub(crate) struct SegmentReader {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) name: String,
    pub(crate) header: SegmentHeader,
    pub(crate) salt: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl SegmentReader {
    /// Opens segment `number`, whose header must be sound.
    pub(crate) fn open(disk: &dyn Disk, store_id: [u8; 16], number: u64) -> Result<Self, LogError> {
        let name = name(number);
        let file = match disk.open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LogError::Missing { file: name });
            }
            other => other.map_err(LogError::io(&name))?,
        };
        let length = file.length().map_err(LogError::io(&name))?;
        let mut bytes = vec![0; HEADER_BYTES];
        if length < FRAMES_START {
            return Err(LogError::damaged(&name, length, "it ends within its header"));
        }
        file.read_at(&mut bytes, 0).map_err(LogError::io(&name))?;
        let header = SegmentHeader::decode(&name, &bytes)?;
        if header.number != number {
            let what = format!("it says it is segment {}", header.number);
            return Err(LogError::damaged(name, 32, what));
        }
        if header.store_id != store_id {
            return Err(LogError::damaged(name, 16, "it belongs to another store"));
        }
        if header.bytes != length || length > BYTES_MAX {
            let what = format!("it should be {} bytes long", header.bytes);
            return Err(LogError::damaged(name, length, what));
        }
        let salt = salt(store_id, number);
        Ok(Self { file, name, header, salt, window: Vec::new(), window_at: 0 })
    }

    /// `length` bytes from `at` on; they must be inside of the file.
    pub(crate) fn bytes(&mut self, at: u64, length: usize) -> Result<&[u8], LogError> {
        let end = at + length as u64;
        debug_assert!(end <= self.header.bytes, "only what is inside of the file is asked for");
        if at < self.window_at || end > self.window_at + self.window.len() as u64 {
            let most = (self.header.bytes - at).min(length.max(PIECE_BYTES) as u64);
            self.window.resize(most as usize, 0);
            self.window_at = at;
            if let Err(error) = self.file.read_at(&mut self.window, at) {
                self.window.clear();
                return Err(LogError::io(&self.name)(error));
            }
        }
        let start = (at - self.window_at) as usize;
        Ok(&self.window[start..start + length])
    }
}
