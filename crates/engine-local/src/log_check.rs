//! A look at the log before the store is opened: is its end a torn write, or is it damaged?
//!
//! fjall replays its log up to the first batch it cannot read and, when the framing of that batch is broken, drops
//! whatever follows without a word; when the framing is whole but the content is not, it refuses to open, even if the
//! batch was never acknowledged. Both are wrong for us, so every log file is read here first:
//!
//! | the first unreadable batch | means | so |
//! |---|---|---|
//! | has a readable batch behind it | damage: a batch is written only once the one before is on disk | refuse |
//! | is not in the newest file | damage: older files were synced whole | refuse |
//! | reaches the end of the data with its last bytes in place, and no sector of it is missing | damage | refuse |
//! | anything else | torn by a crash while it was written, never acknowledged | cut it off |
//!
//! A file as fjall 3.1 writes it: batches of `01 count:u32 number:u64`, items `02 ..` or `04 ..`, and `03 checksum:u64
//! "FJL" 03`, little-endian, followed by zeros or the end of the file. A test writes a log and reads it back with this
//! module, so that another format cannot arrive unnoticed.

use crate::OpenError;
use nix::unistd::{Whence, lseek};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    path::{Path, PathBuf},
};
use xxhash_rust::xxh3::xxh3_64;

const TRAILER: &[u8] = b"FJL\x03";
/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Checks the log files in `store` and cuts off what a crash tore.
pub(crate) fn check(dir: &Path, store: &Path) -> Result<(), OpenError> {
    let failed = |error| crate::error::from_io(dir, error);
    let files = log_files(store).map_err(failed)?;
    let mut last_number = None;
    for (position, path) in files.iter().enumerate() {
        let newest = position + 1 == files.len();
        let bytes = read_data(path).map_err(failed)?;
        match judge(&bytes, &mut last_number, newest) {
            Verdict::Whole => {}
            Verdict::Torn { at } => {
                let torn_bytes = data_end(&bytes) - at;
                tracing::warn!(
                    file = %path.display(),
                    torn_bytes,
                    "cut off a write that a crash interrupted; it was never acknowledged"
                );
                cut(path, at).map_err(failed)?;
            }
            Verdict::Damaged { at } => {
                let reason = format!("the log {} is unreadable at byte {at}", path.display());
                return Err(OpenError::Damaged { path: dir.to_owned(), reason });
            }
        }
    }
    Ok(())
}

fn log_files(store: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(store)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(number) = name.strip_suffix(".jnl").and_then(|n| n.parse::<u64>().ok()) {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

/// The file without the hole at its end: files are made 64 MiB long, and most of that is never written.
pub(crate) fn read_data(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut end = 0;
    // The only error is that no data follows; where holes are unknown, all of the file is data.
    while let Ok(data) = lseek(&file, end, Whence::SeekData) {
        end = lseek(&file, data, Whence::SeekHole)?;
    }
    lseek(&file, 0, Whence::SeekSet)?;
    let mut bytes = Vec::new();
    file.take(u64::try_from(end).map_err(io::Error::other)?).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn cut(path: &Path, at: usize) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(u64::try_from(at).map_err(io::Error::other)?)?;
    file.sync_all()
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Whole,
    Torn { at: usize },
    Damaged { at: usize },
}

fn judge(bytes: &[u8], last_number: &mut Option<u64>, newest: bool) -> Verdict {
    let end = data_end(bytes);
    let mut at = 0;
    while at < end {
        let Some((number, length)) = batch(&bytes[at..]).filter(|b| follows(*last_number, b.0))
        else {
            let damaged = !newest
                || readable_behind(&bytes[..end], at, *last_number)
                || written_whole(&bytes[..end], at);
            return if damaged { Verdict::Damaged { at } } else { Verdict::Torn { at } };
        };
        *last_number = Some(number);
        at += length;
    }
    Verdict::Whole
}

/// Where the zeros begin that the file was made with.
fn data_end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

fn follows(last: Option<u64>, number: u64) -> bool {
    last.is_none_or(|last| number > last)
}

/// Whether some later bytes are a batch that was written after the last readable one.
fn readable_behind(bytes: &[u8], at: usize, last: Option<u64>) -> bool {
    (at + 1..bytes.len())
        .filter(|start| bytes[*start] == 1)
        .any(|start| batch(&bytes[start..]).is_some_and(|(number, _)| follows(last, number)))
}

/// Whether all of the data from `at` on reached the disk: it ends as a batch ends, and no sector of it is missing.
fn written_whole(bytes: &[u8], at: usize) -> bool {
    let first_sector = at.next_multiple_of(SECTOR_BYTES);
    let sectors = bytes.get(first_sector..).unwrap_or_default().chunks_exact(SECTOR_BYTES);
    let mut missing = sectors.filter(|sector| sector.iter().all(|byte| *byte == 0));
    bytes.ends_with(TRAILER) && missing.next().is_none()
}

/// The number and length of the batch that `bytes` begin with, if it is whole and its checksum holds.
fn batch(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.number::<1>()? != 1 {
        return None;
    }
    let count = reader.number::<4>()?;
    let number = reader.number::<8>()?;
    let items_start = reader.at;
    for _ in 0..count {
        reader.item()?;
    }
    let items = &bytes[items_start..reader.at];
    if reader.number::<1>()? != 3 || reader.number::<8>()? != xxh3_64(items) {
        return None;
    }
    (reader.take(TRAILER.len())? == TRAILER).then_some((number, reader.at))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<u64> {
        let mut number = [0; 8];
        number[..N].copy_from_slice(self.take(N)?);
        Some(u64::from_le_bytes(number))
    }

    fn length<const N: usize>(&mut self) -> Option<usize> {
        usize::try_from(self.number::<N>()?).ok()
    }

    /// An item of a keyspace (kind, compression, keyspace, lengths, key, value) or the note that one was cleared.
    fn item(&mut self) -> Option<()> {
        match self.number::<1>()? {
            2 => {
                self.take(2 + 8)?;
                let key = self.length::<2>()?;
                self.take(4)?;
                let stored_value = self.length::<4>()?;
                self.take(key)?;
                self.take(stored_value).map(|_| ())
            }
            4 => self.take(8).map(|_| ()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
