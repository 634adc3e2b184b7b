//! A table: one immutable file of a run, and how it is read.
//!
//! ```text
//!   head (32 bytes) | block .. block | map of the blocks | filter
//! ```
//!
//! What lies where, and the checksums of map and filter, stand in the manifest ([`TableInfo`]); the checksums of blocks
//! stand in the map. Map and filter are read when first needed and kept while they are used ([`super::shelf`]); blocks
//! are read each time, from the memory in which the system keeps files, and their checksum is looked at each time.

use super::{
    block::{Block, checksum},
    cell::Entry,
    error, filter,
    shelf::Shelf,
    values::Refs,
};
use crate::planted::{self, Bug};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use outrigger_kernel::disk::{Disk, DiskFile};
use outrigger_keyspace::ReadError;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// What a table's file begins with.
pub(super) const MAGIC: [u8; 8] = *b"outr.run";
pub(super) const HEAD_BYTES: usize = 32;

/// What the manifest says about a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableInfo {
    /// Names the file; never used twice.
    pub(super) id: u64,
    /// Its length.
    pub(super) bytes: u64,
    /// The first key.
    pub(super) first: Bytes,
    /// The last key; the last cell may be an extent that reaches further.
    pub(super) last: Bytes,
    /// From the first start to the last end of extents wider than one key.
    pub(super) hull: Option<(Bytes, Bytes)>,
    /// How many rows, and their bytes.
    pub(super) puts: u64,
    pub(super) put_bytes: u64,
    /// How many extents.
    pub(super) extents: u64,
    /// Roughly the bytes in older runs that its cells hide.
    pub(super) hidden_bytes: u64,
    /// Where the values of its rows are that stand apart.
    pub(super) refs: Refs,
    pub(super) map: Section,
    pub(super) filter: Section,
}

/// A piece of a file, and its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) at: u64,
    pub(super) bytes: u64,
    pub(super) checksum: u64,
}

impl TableInfo {
    /// Its length, and that of the values that stand apart from its rows.
    pub(super) fn all_bytes(&self) -> u64 {
        self.bytes + self.refs.values().sum::<u64>()
    }

    /// Whether it says nothing about keys from `key` on.
    pub(super) fn is_before(&self, key: &[u8]) -> bool {
        self.last < key && self.hull.as_ref().is_none_or(|(_, end)| end <= key)
    }

    /// Whether an extent wider than one key may say something about `key`.
    fn is_in_hull(&self, key: &[u8]) -> bool {
        self.hull.as_ref().is_some_and(|(start, end)| &start[..] <= key && key < &end[..])
    }
}

/// The name of the file of table `id`.
pub(super) fn file_name(id: u64) -> String {
    format!("{FILE_PREFIX}{id:020}")
}

/// What the names of tables begin with.
pub(super) const FILE_PREFIX: &str = "run-";

#[derive(Debug)]
pub(super) struct Table {
    pub(super) info: TableInfo,
    disk: Arc<dyn Disk>,
    shelf: Arc<Shelf>,
    guide: ArcSwapOption<Guide>,
    /// When it was last used, in the shelf's ticks.
    used: AtomicU64,
}

/// What must be in memory to read from a table.
#[derive(Debug)]
pub(super) struct Guide {
    file: Arc<dyn DiskFile>,
    map: Bytes,
    /// Where in the map each block's entry begins.
    spots: Vec<u32>,
    filter: Bytes,
}

/// Several blocks of a table as they were read, not checked yet.
#[derive(Debug)]
pub(super) struct Piece {
    table: u64,
    at: u64,
    bytes: Bytes,
}

impl Piece {
    /// The bytes of a block, if it lies in here.
    fn get(&self, table: u64, section: Section) -> Option<Bytes> {
        let begin = usize::try_from(section.at.checked_sub(self.at)?).ok()?;
        let end = begin.checked_add(usize::try_from(section.bytes).ok()?)?;
        (table == self.table && end <= self.bytes.len()).then(|| self.bytes.slice(begin..end))
    }
}

/// What stands before the key in a map's entry.
const ENTRY_HEAD_BYTES: usize = 22;

/// An entry of a map: the block, its first key, and what follows.
fn entry(map: &[u8]) -> Option<(Section, &[u8], &[u8])> {
    let (key_bytes, rest) = map.split_first_chunk()?;
    let (at, rest) = rest.split_first_chunk()?;
    let (bytes, rest) = rest.split_first_chunk()?;
    let (checksum, rest) = rest.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*key_bytes)))?;
    let section = Section {
        at: u64::from_le_bytes(*at),
        bytes: u64::from(u32::from_le_bytes(*bytes)),
        checksum: u64::from_le_bytes(*checksum),
    };
    Some((section, key, rest))
}

impl Guide {
    fn bytes(&self) -> usize {
        self.map.len() + self.spots.len() * size_of::<u32>() + self.filter.len() + 512
    }

    pub(super) fn blocks(&self) -> usize {
        self.spots.len()
    }

    /// Whether a key with this hash may be in the table.
    pub(super) fn may_hold(&self, hash: u64) -> bool {
        filter::may_hold(&self.filter, hash)
    }

    /// Where the block `index` lies, and its first key.
    fn spot(&self, index: usize) -> Option<(Section, &[u8])> {
        let begin = *self.spots.get(index)? as usize;
        entry(self.map.get(begin..)?).map(|(section, key, _)| (section, key))
    }

    /// The block in which the last cell that starts before `key` lies, or at it when `or_at`; the first block when there
    /// is no such cell.
    pub(super) fn block_before(&self, key: &[u8], or_at: bool) -> usize {
        let (mut low, mut high) = (0, self.spots.len());
        while low < high {
            let middle = low.midpoint(high);
            let first = self.spot(middle).map_or(&[][..], |(_, first)| first);
            if first < key || (or_at && first == key) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.saturating_sub(1)
    }
}

impl Table {
    pub(super) fn new(info: TableInfo, disk: Arc<dyn Disk>, shelf: Arc<Shelf>) -> Arc<Self> {
        let (guide, used) = (ArcSwapOption::empty(), AtomicU64::new(0));
        Arc::new(Self { info, disk, shelf, guide, used })
    }

    pub(super) fn file_name(&self) -> String {
        file_name(self.info.id)
    }

    /// When it was last used.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Lets go of the memory that reading from it needs; it is read again when need be.
    pub(super) fn forget(&self) {
        self.guide.store(None);
    }

    /// Whether what must be in memory to read from it is there.
    #[cfg(test)]
    pub(super) fn is_at_hand(&self) -> bool {
        self.guide.load().is_some()
    }

    pub(super) fn guide(self: &Arc<Self>) -> Result<Arc<Guide>, ReadError> {
        self.used.store(self.shelf.tick(), Ordering::Relaxed);
        if let Some(guide) = self.guide.load_full() {
            return Ok(guide);
        }
        let guide = Arc::new(self.read_guide()?);
        self.guide.store(Some(guide.clone()));
        self.shelf.put(self, guide.bytes());
        Ok(guide)
    }

    fn read_guide(&self) -> Result<Guide, ReadError> {
        let file = self.disk.open(&self.file_name()).map_err(|error| self.unreadable(&error))?;
        let mut head = [0; HEAD_BYTES];
        file.read_at(&mut head, 0).map_err(|error| self.unreadable(&error))?;
        if head != head_of(MAGIC, self.info.id) {
            return Err(self.damaged(0));
        }
        let map = self.section(&*file, self.info.map)?;
        let filter = self.section(&*file, self.info.filter)?;
        if filter.is_empty() || filter.len() % filter::LINE_BYTES != 0 {
            return Err(self.damaged(self.info.filter.at));
        }
        let spots = spots(&map).ok_or_else(|| self.damaged(self.info.map.at))?;
        Ok(Guide { file, map, spots, filter })
    }

    /// The block `index`.
    pub(super) fn block(&self, guide: &Guide, index: usize) -> Result<Block, ReadError> {
        let (section, _) = guide.spot(index).ok_or_else(|| self.damaged(self.info.map.at))?;
        Block::new(self.section(&*guide.file, section)?)
    }

    /// The same, out of `piece`; one that does not have it is read anew, with as many blocks as `bytes` hold.
    pub(super) fn block_ahead(
        &self,
        guide: &Guide,
        index: usize,
        bytes: usize,
        piece: &mut Option<Piece>,
    ) -> Result<Block, ReadError> {
        let (section, _) = guide.spot(index).ok_or_else(|| self.damaged(self.info.map.at))?;
        if let Some(found) = piece.as_ref().and_then(|piece| piece.get(self.info.id, section)) {
            self.check(&found, section)?;
            return Block::new(found);
        }
        let end = section.at.saturating_add(bytes as u64);
        let next = (index + 1..guide.blocks()).map_while(|index| guide.spot(index));
        let fits = |(next, _): &(Section, &[u8])| next.at.saturating_add(next.bytes) <= end;
        let whole = next.take_while(fits).last().map_or(section, |(last, _)| Section {
            bytes: (last.at + last.bytes).saturating_sub(section.at),
            ..section
        });
        let read =
            Piece { table: self.info.id, at: section.at, bytes: self.read(&*guide.file, whole)? };
        let found = read.get(self.info.id, section).ok_or_else(|| self.damaged(section.at))?;
        *piece = Some(read);
        self.check(&found, section)?;
        Block::new(found)
    }

    fn section(&self, file: &dyn DiskFile, section: Section) -> Result<Bytes, ReadError> {
        let bytes = self.read(file, section)?;
        self.check(&bytes, section)?;
        Ok(bytes)
    }

    fn read(&self, file: &dyn DiskFile, section: Section) -> Result<Bytes, ReadError> {
        // A section lies within the file: a damaged length must not ask for all memory.
        let end = section.at.checked_add(section.bytes).filter(|end| *end <= self.info.bytes);
        let length = end.and_then(|_| usize::try_from(section.bytes).ok());
        let mut bytes = vec![0; length.ok_or_else(|| self.damaged(section.at))?];
        file.read_at(&mut bytes, section.at).map_err(|error| self.unreadable(&error))?;
        Ok(bytes.into())
    }

    fn check(&self, bytes: &[u8], section: Section) -> Result<(), ReadError> {
        let holds = checksum(bytes, self.info.id, section.at) == section.checksum;
        if holds || planted::is(Bug::SkipBlockChecksum) {
            return Ok(());
        }
        Err(self.damaged(section.at))
    }

    /// What it says about `key`, whose filter hash is `hash`.
    pub(super) fn get(self: &Arc<Self>, key: &[u8], hash: u64) -> Result<Option<Entry>, ReadError> {
        let in_hull = self.info.is_in_hull(key);
        if key < &self.info.first[..] || (key > &self.info.last[..] && !in_hull) {
            return Ok(None);
        }
        let guide = self.guide()?;
        if !in_hull && !guide.may_hold(hash) {
            return Ok(None);
        }
        let block = self.block(&guide, guide.block_before(key, true))?;
        let Some(index) = block.before(key, true)?.checked_sub(1) else { return Ok(None) };
        let entry = block.entry(index)?;
        Ok(entry.reaches(key).then_some(entry))
    }

    /// Roughly how many bytes lie between two keys, values that stand apart included.
    pub(super) fn bytes_between(
        self: &Arc<Self>,
        start: &[u8],
        end: &[u8],
    ) -> Result<u64, ReadError> {
        if start <= &self.info.first[..] && end > &self.info.last[..] {
            return Ok(self.info.all_bytes());
        }
        if start > &self.info.last[..] || end <= &self.info.first[..] {
            return Ok(0);
        }
        let guide = self.guide()?;
        let spot = |key| guide.spot(guide.block_before(key, false));
        let at = |key| spot(key).map_or(0, |(section, _)| section.at);
        let bytes = at(end).saturating_sub(at(start));
        Ok(bytes.saturating_mul(self.info.all_bytes().div_ceil(self.info.bytes.max(1))))
    }

    fn damaged(&self, at: u64) -> ReadError {
        error::damaged(&self.file_name(), at)
    }

    fn unreadable(&self, error: &io::Error) -> ReadError {
        error::unreadable(&self.file_name(), error)
    }
}

/// The format of tables and files of values. The manifest refuses what is newer before anybody looks at one.
const FORMAT: u32 = 1;

/// What the file `id` begins with.
pub(super) fn head_of(magic: [u8; 8], id: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&magic);
    head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    head[16..24].copy_from_slice(&id.to_le_bytes());
    head
}

/// Adds a block to a map: the length of its first key (2 bytes), where it lies (8), its length (4), its checksum (8), the
/// key.
pub(super) fn add_to_map(map: &mut Vec<u8>, first: &[u8], section: Section) {
    map.extend_from_slice(&u16::try_from(first.len()).unwrap_or(u16::MAX).to_le_bytes());
    map.extend_from_slice(&section.at.to_le_bytes());
    map.extend_from_slice(&u32::try_from(section.bytes).unwrap_or(u32::MAX).to_le_bytes());
    map.extend_from_slice(&section.checksum.to_le_bytes());
    map.extend_from_slice(first);
}

/// Where the entries of a map begin; `None` when it is malformed.
fn spots(map: &[u8]) -> Option<Vec<u32>> {
    let mut spots = Vec::with_capacity(map.len() / (2 * ENTRY_HEAD_BYTES));
    let mut rest = map;
    while !rest.is_empty() {
        spots.push(u32::try_from(map.len() - rest.len()).ok()?);
        (_, _, rest) = entry(rest)?;
    }
    spots.shrink_to_fit();
    (!spots.is_empty()).then_some(spots)
}
