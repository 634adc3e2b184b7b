//! Writing a table: cells in order, streamed into a new file.
//!
//! Nothing refers to the file before the manifest does, so it may be torn in any way until [`Writer::finish`] has synced
//! it. It is synced now and then on the way: otherwise the last sync would have to write everything at once, and the log's
//! own syncs would wait behind it.

use super::{
    block::{Filling, checksum},
    cell::{Says, Written, is_point},
    filter,
    table::{MAGIC, Section, TableInfo, add_to_map, file_name, head_of},
    values::Refs,
};
use crate::planted::{self, Bug};
use bytes::Bytes;
use outrigger_kernel::disk::{Disk, DiskFile};
use std::{io, sync::Arc};

/// The lengths of a key and of a cell are written in 2 and 4 bytes.
const KEY_BYTES_MAX: usize = u16::MAX as usize;
const ENTRY_BYTES_MAX: usize = 1 << 30;
/// So much is written at once.
const WRITE_BYTES: usize = 256 << 10;
/// So much is written between two syncs.
const SYNC_BYTES: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct Writer {
    file: Arc<dyn DiskFile>,
    /// A block is closed before it has more. A larger value has a block of its own.
    block_bytes: usize,
    info: TableInfo,
    block: Filling,
    /// What was not written yet, and where it goes.
    pending: Vec<u8>,
    pending_at: u64,
    unsynced: usize,
    map: Vec<u8>,
    hashes: Vec<u64>,
    /// The last key so far.
    last: Vec<u8>,
}

impl Writer {
    /// Begins the table `id`, in a new file.
    pub(super) fn new(disk: &dyn Disk, id: u64, block_bytes: usize) -> io::Result<Self> {
        let empty = Section { at: 0, bytes: 0, checksum: 0 };
        Ok(Self {
            file: disk.create(&file_name(id))?,
            block_bytes,
            info: TableInfo {
                id,
                bytes: 0,
                first: Bytes::new(),
                last: Bytes::new(),
                hull: None,
                puts: 0,
                put_bytes: 0,
                extents: 0,
                hidden_bytes: 0,
                refs: Refs::new(),
                map: empty,
                filter: empty,
            },
            block: Filling::default(),
            pending: head_of(MAGIC, id).to_vec(),
            pending_at: 0,
            unsynced: 0,
            map: Vec::new(),
            hashes: Vec::new(),
            last: Vec::new(),
        })
    }

    /// How long the file is so far.
    pub(super) fn bytes(&self) -> u64 {
        self.pending_at + self.pending.len() as u64
    }

    /// The same, with the values that stand apart.
    pub(super) fn all_bytes(&self) -> u64 {
        self.bytes() + self.info.refs.values().sum::<u64>()
    }

    /// Notes that what was written hides so many bytes more in older runs.
    pub(super) fn hides(&mut self, bytes: u64) {
        self.info.hidden_bytes += bytes;
    }

    /// Adds a cell, which must come after those added before.
    pub(super) fn push(&mut self, cell: &Written<'_>) -> io::Result<()> {
        let (key, bytes) = (cell.key, cell.bytes());
        let end = match cell.says {
            Says::Put(..) => 0,
            Says::Gone(end) => end.len(),
        };
        if key.len().max(end) > KEY_BYTES_MAX || bytes > ENTRY_BYTES_MAX {
            let what = "a key or row is longer than a file of the index can say";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        if self.block.bytes() + bytes > self.block_bytes {
            self.end_block()?;
        }
        if self.info.first.is_empty() {
            self.info.first = Bytes::copy_from_slice(key);
        }
        self.hashes.push(filter::hash(key));
        self.block.push(cell, &mut self.pending);
        match cell.says {
            Says::Put(head, _) => {
                self.info.puts += 1;
                self.info.put_bytes += bytes as u64;
                if let Some(place) = cell.place(head) {
                    *self.info.refs.entry(place.file).or_default() += place.bytes;
                }
            }
            Says::Gone(end) if is_point(key, end) => self.info.extents += 1,
            Says::Gone(end) => {
                self.info.extents += 1;
                let end = Bytes::copy_from_slice(end);
                self.info.hull = Some(match self.info.hull.take() {
                    None => (Bytes::copy_from_slice(key), end),
                    Some((start, _)) => (start, end),
                });
            }
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let length = self.block.finish(&mut self.pending);
        let begin = self.pending.len() - length;
        let at = self.pending_at + begin as u64;
        let checksum = checksum(&self.pending[begin..], self.info.id, at);
        let section = Section { at, bytes: length as u64, checksum };
        add_to_map(&mut self.map, self.block.first(), section);
        self.write(WRITE_BYTES)
    }

    /// Writes what is pending, once it is at least `least` bytes.
    fn write(&mut self, least: usize) -> io::Result<()> {
        if self.pending.len() < least {
            return Ok(());
        }
        self.file.write_at(&self.pending, self.pending_at)?;
        self.pending_at += self.pending.len() as u64;
        self.unsynced += self.pending.len();
        self.pending.clear();
        if self.unsynced >= SYNC_BYTES {
            self.file.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Ends the table. The file lasts; its name does once the folder has been synced.
    pub(super) fn finish(mut self) -> io::Result<TableInfo> {
        self.end_block()?;
        self.info.last = Bytes::copy_from_slice(&self.last);
        self.info.map = self.end_section(|this| std::mem::take(&mut this.map));
        self.info.filter = self.end_section(|this| filter::build(&this.hashes));
        self.info.bytes = self.bytes();
        self.write(0)?;
        if !planted::is(Bug::ForgetTableSync) {
            self.file.sync()?;
        }
        Ok(self.info)
    }

    fn end_section(&mut self, bytes: impl FnOnce(&mut Self) -> Vec<u8>) -> Section {
        let at = self.bytes();
        let bytes = bytes(self);
        self.pending.extend_from_slice(&bytes);
        Section { at, bytes: bytes.len() as u64, checksum: checksum(&bytes, self.info.id, at) }
    }
}
