//! Large values stand apart: in files of their own, which merges refer to and do not copy.
//!
//! ```text
//!   head (32 bytes) | value .. value          each as it was put, one right after the other
//! ```
//!
//! A row whose value stands apart says where it lies and what its checksum is ([`Place`]); the manifest says which files
//! there are, and of each table how much of which file its rows refer to. So it is known without reading how much of a file
//! is dead: a file that nothing refers to goes with the next manifest, and out of those that are mostly dead the rest is
//! written anew ([`super::maintain`]).

use super::{
    block::checksum,
    error,
    table::{HEAD_BYTES, head_of},
};
use crate::record::Place;
use bytes::Bytes;
use outrigger_kernel::disk::{Disk, DiskFile};
use outrigger_keyspace::ReadError;
use std::{collections::BTreeMap, io, sync::Arc};

/// What the file begins with.
const MAGIC: [u8; 8] = *b"outr.val";
/// What the names of such files begin with.
pub(super) const FILE_PREFIX: &str = "values-";
/// So much is written at once, and between two syncs.
const WRITE_BYTES: usize = 256 << 10;
const SYNC_BYTES: u64 = 4 << 20;

pub(super) fn file_name(id: u64) -> String {
    format!("{FILE_PREFIX}{id:020}")
}

/// What the manifest says about a file of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ValuesInfo {
    /// Names the file; from the same numbers as those of tables.
    pub(super) id: u64,
    /// Its length.
    pub(super) bytes: u64,
}

/// How many bytes of which files of values the rows of a table refer to.
pub(super) type Refs = BTreeMap<u64, u64>;

/// A file of values.
#[derive(Debug)]
pub(super) struct Values {
    pub(super) info: ValuesInfo,
    disk: Arc<dyn Disk>,
}

impl Values {
    pub(super) fn new(info: ValuesInfo, disk: Arc<dyn Disk>) -> Arc<Self> {
        Arc::new(Self { info, disk })
    }

    pub(super) fn file_name(&self) -> String {
        file_name(self.info.id)
    }

    /// The value at `place`, which is in this file.
    pub(super) fn get(&self, place: &Place) -> Result<Bytes, ReadError> {
        // A place lies within the file: a damaged length must not ask for all memory.
        let end = place.at.checked_add(place.bytes).filter(|end| *end <= self.info.bytes);
        let length = end.and_then(|_| usize::try_from(place.bytes).ok());
        let mut bytes = vec![0; length.ok_or_else(|| self.damaged(place.at))?];
        let file = self.file()?;
        file.read_at(&mut bytes, place.at).map_err(|error| self.unreadable(&error))?;
        if checksum(&bytes, place.file, place.at) != place.checksum {
            return Err(self.damaged(place.at));
        }
        Ok(bytes.into())
    }

    /// Reads all of it, also what nothing refers to any more and nobody knows a checksum of.
    pub(super) fn read_through(&self) -> Result<(), ReadError> {
        let file = self.file()?;
        let mut piece = vec![0; WRITE_BYTES];
        let mut at = 0;
        while at < self.info.bytes {
            let left = usize::try_from(self.info.bytes - at).unwrap_or(usize::MAX);
            let part = &mut piece[..left.min(WRITE_BYTES)];
            file.read_at(part, at).map_err(|error| self.unreadable(&error))?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Opened for each value: that takes little beside reading one, and there may be many files.
    fn file(&self) -> Result<Arc<dyn DiskFile>, ReadError> {
        let file = self.disk.open(&self.file_name()).map_err(|error| self.unreadable(&error))?;
        let mut head = [0; HEAD_BYTES];
        file.read_at(&mut head, 0).map_err(|error| self.unreadable(&error))?;
        if head != head_of(MAGIC, self.info.id) {
            return Err(self.damaged(0));
        }
        Ok(file)
    }

    fn damaged(&self, at: u64) -> ReadError {
        error::damaged(&self.file_name(), at)
    }

    fn unreadable(&self, error: &io::Error) -> ReadError {
        error::unreadable(&self.file_name(), error)
    }
}

/// The value at `place`, which is in one of `files`, ordered by id.
pub(super) fn get(files: &[Arc<Values>], place: &Place) -> Result<Bytes, ReadError> {
    let found = files.binary_search_by_key(&place.file, |values| values.info.id);
    match found.ok().and_then(|at| files.get(at)) {
        Some(values) => values.get(place),
        None => Err(ReadError::Damaged(format!(
            "file {} of the index is missing",
            file_name(place.file)
        ))),
    }
}

/// Writes a file of values. Like a table it may be torn in any way until it is finished.
#[derive(Debug)]
pub(super) struct ValuesWriter {
    file: Arc<dyn DiskFile>,
    id: u64,
    pending: Vec<u8>,
    pending_at: u64,
    synced_to: u64,
}

impl ValuesWriter {
    pub(super) fn new(disk: &dyn Disk, id: u64) -> io::Result<Self> {
        let pending = head_of(MAGIC, id).to_vec();
        Ok(Self { file: disk.create(&file_name(id))?, id, pending, pending_at: 0, synced_to: 0 })
    }

    /// How long the file is so far.
    pub(super) fn bytes(&self) -> u64 {
        self.pending_at + self.pending.len() as u64
    }

    /// Adds a value; answers where it lies.
    pub(super) fn push(&mut self, value: &[u8]) -> io::Result<Place> {
        let at = self.bytes();
        let checksum = checksum(value, self.id, at);
        self.pending.extend_from_slice(value);
        self.write(WRITE_BYTES)?;
        Ok(Place { file: self.id, at, bytes: value.len() as u64, checksum })
    }

    fn write(&mut self, least: usize) -> io::Result<()> {
        if self.pending.len() < least {
            return Ok(());
        }
        self.file.write_at(&self.pending, self.pending_at)?;
        self.pending_at += self.pending.len() as u64;
        self.pending.clear();
        if self.pending_at - self.synced_to >= SYNC_BYTES {
            self.file.sync()?;
            self.synced_to = self.pending_at;
        }
        Ok(())
    }

    /// Ends the file. It lasts; its name does once the folder has been synced.
    pub(super) fn finish(mut self) -> io::Result<ValuesInfo> {
        self.write(0)?;
        self.file.sync()?;
        Ok(ValuesInfo { id: self.id, bytes: self.pending_at })
    }
}
