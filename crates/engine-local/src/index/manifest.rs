//! The manifest: which tables make up the index, and up to where in the log it holds everything. It is the file `index`,
//! small, written anew for every change and put in place by a rename, so it is always whole: the old one or the new one.
//!
//! Format 2 is format 1 with values that stand apart; the former is read, too.
//!
//! ```text
//!   file: copy | copy                     the second is there for the day the first is damaged
//!   copy: magic (8) | format (4) | zero (4) | content length (8) | content | checksum (8)      integers little-endian
//! ```

use super::{
    Checkpoint,
    table::{Section, TableInfo},
    values::ValuesInfo,
};
use crate::log::Position;
use bytes::Bytes;
use outrigger_kernel::Wall;
use outrigger_keyspace::{CommitId, Committed};

/// The format of the manifest. A newer one is refused.
pub(super) const FORMAT: u32 = 2;
/// The one before, which knew no values that stand apart.
const FORMAT_WITHOUT_VALUES: u32 = 1;

const MAGIC: [u8; 8] = *b"outr.idx";
const HEAD_BYTES: usize = 24;
const CHECKSUM_BYTES: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) checkpoint: Checkpoint,
    /// The id of the next table.
    pub(super) next_id: u64,
    /// Newest first; the last is the base, which hides nothing and so has no extents.
    pub(super) runs: Vec<RunInfo>,
    /// So many runs right above the base are being merged into it. What is done lies before their `from`.
    pub(super) draining: u32,
    /// The files of values that stand apart, by their ids.
    pub(super) values: Vec<ValuesInfo>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RunInfo {
    pub(super) from: Bytes,
    pub(super) tables: Vec<TableInfo>,
}

/// Why a manifest cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    Newer(u32),
    Damaged,
}

impl Manifest {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut content = Vec::new();
        self.encode_content(&mut content);
        let mut copy = Vec::with_capacity(HEAD_BYTES + content.len() + CHECKSUM_BYTES);
        copy.extend_from_slice(&MAGIC);
        copy.extend_from_slice(&FORMAT.to_le_bytes());
        copy.extend_from_slice(&[0; 4]);
        put_u64(&mut copy, content.len() as u64);
        copy.extend_from_slice(&content);
        let checksum = xxhash_rust::xxh3::xxh3_64(&copy);
        put_u64(&mut copy, checksum);
        copy.extend_from_within(..);
        copy
    }

    pub(super) fn decode(file: &[u8]) -> Result<Self, Unreadable> {
        let (first, second) = file.split_at(file.len() / 2);
        match decode_copy(first) {
            Err(Unreadable::Damaged) => decode_copy(second),
            known => known,
        }
    }

    /// Reads it only if both copies are sound.
    pub(super) fn decode_both(file: &[u8]) -> Result<Self, Unreadable> {
        let (first, second) = file.split_at(file.len() / 2);
        let (first, second) = (decode_copy(first)?, decode_copy(second)?);
        if first == second { Ok(first) } else { Err(Unreadable::Damaged) }
    }

    fn encode_content(&self, into: &mut Vec<u8>) {
        put_u64(into, self.next_id);
        let Checkpoint { committed, log, ids } = &self.checkpoint;
        for number in [committed.revision, committed.time.0, log.segment, log.offset, log.chain] {
            put_u64(into, number);
        }
        put_u64(into, ids.len() as u64);
        for (id, committed) in ids {
            into.extend_from_slice(&id.0);
            put_u64(into, committed.revision);
            put_u64(into, committed.time.0);
        }
        put_u64(into, u64::from(self.draining));
        put_u64(into, self.runs.len() as u64);
        for run in &self.runs {
            put_slice(into, &run.from);
            put_u64(into, run.tables.len() as u64);
            for table in &run.tables {
                encode_table(table, into);
            }
        }
        put_u64(into, self.values.len() as u64);
        for ValuesInfo { id, bytes } in &self.values {
            put_u64(into, *id);
            put_u64(into, *bytes);
        }
    }
}

fn encode_table(table: &TableInfo, into: &mut Vec<u8>) {
    let TableInfo {
        id,
        bytes,
        first,
        last,
        hull,
        puts,
        put_bytes,
        extents,
        hidden_bytes,
        refs,
        map,
        filter,
    } = table;
    for number in [id, bytes, puts, put_bytes, extents, hidden_bytes] {
        put_u64(into, *number);
    }
    for section in [map, filter] {
        for number in [section.at, section.bytes, section.checksum] {
            put_u64(into, number);
        }
    }
    put_slice(into, first);
    put_slice(into, last);
    // No extent: an empty hull, which no real one is.
    let (start, end) = hull.clone().unwrap_or_default();
    put_slice(into, &start);
    put_slice(into, &end);
    put_u64(into, refs.len() as u64);
    for (file, bytes) in refs {
        put_u64(into, *file);
        put_u64(into, *bytes);
    }
}

fn put_u64(into: &mut Vec<u8>, number: u64) {
    into.extend_from_slice(&number.to_le_bytes());
}

fn put_slice(into: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(into, bytes.len() as u64);
    into.extend_from_slice(bytes);
}

fn decode_copy(copy: &[u8]) -> Result<Manifest, Unreadable> {
    let (rest, checksum) = copy.split_last_chunk().ok_or(Unreadable::Damaged)?;
    if xxhash_rust::xxh3::xxh3_64(rest) != u64::from_le_bytes(*checksum) {
        return Err(Unreadable::Damaged);
    }
    let mut reading = Reading { rest, has_values: true };
    let magic = reading.take(MAGIC.len()).ok_or(Unreadable::Damaged)?;
    let format = reading.u32().ok_or(Unreadable::Damaged)?;
    if magic != MAGIC {
        return Err(Unreadable::Damaged);
    }
    if format > FORMAT {
        return Err(Unreadable::Newer(format));
    }
    reading.has_values = format > FORMAT_WITHOUT_VALUES;
    let content = reading.take(12).and_then(|_| reading.manifest());
    content.filter(|_| reading.rest.is_empty()).ok_or(Unreadable::Damaged)
}

/// What was not read yet.
struct Reading<'a> {
    rest: &'a [u8],
    has_values: bool,
}

impl<'a> Reading<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.u64()?).ok()?;
        self.take(length).map(Bytes::copy_from_slice)
    }

    /// So many of what `one` reads.
    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u64()?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(one(self)?);
        }
        Some(list)
    }

    fn committed(&mut self) -> Option<Committed> {
        Some(Committed { revision: self.u64()?, time: Wall(self.u64()?) })
    }

    fn manifest(&mut self) -> Option<Manifest> {
        let next_id = self.u64()?;
        let committed = self.committed()?;
        let log = Position { segment: self.u64()?, offset: self.u64()?, chain: self.u64()? };
        let ids = self.list(|reading| {
            let id = CommitId(reading.take(16)?.try_into().ok()?);
            Some((id, reading.committed()?))
        })?;
        let draining = u32::try_from(self.u64()?).ok()?;
        let runs = self.list(|reading| {
            Some(RunInfo { from: reading.bytes()?, tables: reading.list(Reading::table)? })
        })?;
        // Without a base there is nothing to merge into.
        let sound = (draining as usize) < runs.len();
        let values = self.values(|id, bytes| ValuesInfo { id, bytes })?;
        let checkpoint = Checkpoint { committed, log, ids };
        sound.then_some(Manifest { checkpoint, next_id, runs, draining, values })
    }

    /// Pairs of a file of values and a number.
    fn values<T>(&mut self, one: impl Fn(u64, u64) -> T) -> Option<Vec<T>> {
        match self.has_values {
            true => self.list(|reading| Some(one(reading.u64()?, reading.u64()?))),
            false => Some(Vec::new()),
        }
    }

    fn table(&mut self) -> Option<TableInfo> {
        let (id, bytes, puts, put_bytes) = (self.u64()?, self.u64()?, self.u64()?, self.u64()?);
        let (extents, hidden_bytes) = (self.u64()?, self.u64()?);
        let (map, filter) = (self.section()?, self.section()?);
        let (first, last) = (self.bytes()?, self.bytes()?);
        let hull = (self.bytes()?, self.bytes()?);
        let hull = (hull.0 < hull.1).then_some(hull);
        let refs = self.values(|file, bytes| (file, bytes))?.into_iter().collect();
        Some(TableInfo {
            id,
            bytes,
            first,
            last,
            hull,
            puts,
            put_bytes,
            extents,
            hidden_bytes,
            refs,
            map,
            filter,
        })
    }

    fn section(&mut self) -> Option<Section> {
        Some(Section { at: self.u64()?, bytes: self.u64()?, checksum: self.u64()? })
    }
}
