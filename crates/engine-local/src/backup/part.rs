//! A part of a backup: records in checksummed chunks, written once and never changed.
//!
//! ```text
//!   chunk   length (4)  checksum (8)  records, each: length (4) bytes          numbers are little-endian
//!   part    chunk chunk .. chunk
//! ```
//!
//! A chunk's checksum is XXH3-64 of its length and records, seeded with the checksum of the chunk before (the first one with
//! 0), so that chunks cannot be lost, doubled or exchanged. How long a part is and which checksum it ends with stand in the
//! manifest: a part that was cut short is found out too.

use super::BackupError;
use outrigger_kernel::disk::{Disk, DiskFile};
use std::{io, sync::Arc};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// About how much is written at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// A chunk ends with the record that takes it over [`CHUNK_BYTES`], and no record is larger than the largest transaction
/// and what it takes to write it down.
const CHUNK_BYTES_MAX: usize = 32 * 1024 * 1024;
const HEADER_BYTES: usize = 12;
const LENGTH_BYTES: usize = 4;

/// What the manifest knows of a part's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) bytes: u64,
    pub(super) checksum: u64,
}

pub(super) struct PartWriter {
    file: Arc<dyn DiskFile>,
    chunk: Vec<u8>,
    seal: Seal,
}

impl PartWriter {
    /// Begins the part `name`, in place of what a backup that was cut short may have left there.
    pub(super) fn create(disk: &dyn Disk, name: &str) -> io::Result<Self> {
        match disk.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { file: disk.create(name)?, chunk: vec![0; HEADER_BYTES], seal: Seal::default() })
    }

    /// Appends the record that `encode` writes.
    pub(super) fn push(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let start = self.chunk.len();
        self.chunk.extend_from_slice(&[0; LENGTH_BYTES]);
        encode(&mut self.chunk);
        let length = length_of(self.chunk.len() - start - LENGTH_BYTES)?;
        self.chunk[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        if self.chunk.len() >= CHUNK_BYTES { self.write() } else { Ok(()) }
    }

    /// Writes the rest. The part is on disk when this returns, but for its name.
    pub(super) fn finish(mut self) -> io::Result<Seal> {
        if self.chunk.len() > HEADER_BYTES {
            self.write()?;
        }
        self.file.sync()?;
        Ok(self.seal)
    }

    fn write(&mut self) -> io::Result<()> {
        let length = length_of(self.chunk.len() - HEADER_BYTES)?.to_le_bytes();
        self.chunk[..LENGTH_BYTES].copy_from_slice(&length);
        let checksum = checksum(self.seal.checksum, length, &self.chunk[HEADER_BYTES..]);
        self.chunk[LENGTH_BYTES..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        self.file.write_at(&self.chunk, self.seal.bytes)?;
        self.seal.bytes += self.chunk.len() as u64;
        self.seal.checksum = checksum;
        self.chunk.truncate(HEADER_BYTES);
        Ok(())
    }
}

/// Reads a part and finds every byte that is not as it was written.
pub(super) struct PartReader {
    name: String,
    file: Arc<dyn DiskFile>,
    known: Seal,
    seal: Seal,
    chunk: Vec<u8>,
    /// Where the next record of the chunk begins.
    at: usize,
}

impl PartReader {
    pub(super) fn open(disk: &dyn Disk, name: &str, known: Seal) -> Result<Self, BackupError> {
        let file = disk.open(name).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BackupError::damaged(name, "the file is missing"),
            _ => BackupError::io(name, error),
        })?;
        let length = file.length().map_err(|error| BackupError::io(name, error))?;
        if length != known.bytes {
            let reason = format!("it has {length} bytes and was written with {}", known.bytes);
            return Err(BackupError::damaged(name, reason));
        }
        let (name, seal) = (name.to_owned(), Seal::default());
        Ok(Self { name, file, known, seal, chunk: Vec::new(), at: 0 })
    }

    /// The next record; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, BackupError> {
        if self.at == self.chunk.len() && !self.read()? {
            return Ok(None);
        }
        let record = take_record(&self.chunk[self.at..]);
        let Some(length) = record.map(<[u8]>::len) else {
            return Err(self.damaged("a record reaches over the end of its chunk"));
        };
        let start = self.at + LENGTH_BYTES;
        self.at = start + length;
        Ok(Some(&self.chunk[start..start + length]))
    }

    /// Reads the next chunk; whether there is one.
    fn read(&mut self) -> Result<bool, BackupError> {
        if self.seal.bytes == self.known.bytes {
            return match self.seal.checksum == self.known.checksum {
                true => Ok(false),
                false => Err(self.damaged("it ends with another checksum than the manifest says")),
            };
        }
        let mut header = [0; HEADER_BYTES];
        self.fill(&mut header, self.seal.bytes)?;
        let (length, stored) = header.split_at(LENGTH_BYTES);
        let (Ok(length), Ok(stored)) = (length.try_into(), stored.try_into()) else {
            return Err(self.damaged("a chunk has no header"));
        };
        let bytes = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if bytes == 0 || bytes > CHUNK_BYTES_MAX {
            return Err(self.damaged("a chunk cannot be that long"));
        }
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.resize(bytes, 0);
        self.fill(&mut chunk, self.seal.bytes + HEADER_BYTES as u64)?;
        let checksum = checksum(self.seal.checksum, length, &chunk);
        if checksum != u64::from_le_bytes(stored) {
            return Err(self.damaged("a chunk has another checksum than it was written with"));
        }
        self.seal = Seal { bytes: self.seal.bytes + (HEADER_BYTES + bytes) as u64, checksum };
        (self.chunk, self.at) = (chunk, 0);
        Ok(true)
    }

    fn fill(&self, buffer: &mut [u8], at: u64) -> Result<(), BackupError> {
        self.file.read_at(buffer, at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("a chunk reaches over its end"),
            _ => BackupError::io(&self.name, error),
        })
    }

    /// What is wrong with it, and where.
    pub(super) fn damaged(&self, reason: &str) -> BackupError {
        BackupError::damaged(&self.name, format!("at byte {}: {reason}", self.seal.bytes))
    }
}

fn take_record(rest: &[u8]) -> Option<&[u8]> {
    let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>()?;
    rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

fn checksum(before: u64, length: [u8; LENGTH_BYTES], records: &[u8]) -> u64 {
    let seed = before ^ u64::from(u32::from_le_bytes(length)).rotate_left(32);
    xxh3_64_with_seed(records, seed)
}

fn length_of(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))
}
