//! A layer becomes the newest run: one sequential write, then a new manifest.
//!
//! Deleted keys that lie next to each other in the index become one extent on the way ([`Widening`]). Without that, whoever
//! reads the head of a queue would walk over everything that was ever taken from it and not merged yet.

use super::{
    Checkpoint, Index, IndexError, IndexView, Pace, State,
    cell::{END, Family, Item, Says, Written, cut, encode_expiry, is_point},
    filter,
    merge::Merged,
    run::Run,
    table::Table,
    values::{Values, ValuesWriter},
    writer::Writer,
};
use crate::{
    layer::{Cell, Key},
    planted::{self, Bug},
    record::{self, Place},
};
use bytes::{Bytes, BytesMut};
use outrigger_keyspace::{Direction, ReadError};
use std::sync::Arc;

/// So much work is done between two calls of the pace.
const PACE_BYTES: usize = 256 << 10;

impl Index {
    /// Takes over `cells`, a layer's in their order, and says that everything up to `checkpoint` is in the index now.
    /// Lasts when it answers. Readers do not wait for it; of those who change the index one comes after the other. After
    /// an error nothing can be changed any more until the index is opened again.
    pub(crate) fn apply<'a>(
        &self,
        cells: impl Iterator<Item = (&'a Key, &'a Cell)>,
        checkpoint: Checkpoint,
        pace: &mut Pace<'_>,
    ) -> Result<Arc<IndexView>, IndexError> {
        self.change(|state| {
            let pace = &mut Paced::new(pace);
            while state.runs.len() > 2 * self.sizes.runs_max + 1 {
                if !self.step(state, pace)? {
                    break;
                }
            }
            let run = self.write_run(state, cells, pace)?;
            let mut runs = Vec::with_capacity(state.runs.len() + 1);
            runs.extend((!run.tables.is_empty()).then_some(run));
            runs.extend(state.runs.iter().cloned());
            let draining = state.draining;
            self.publish(state, runs, draining, checkpoint)
        })
    }

    fn write_run<'a>(
        &self,
        state: &mut State,
        cells: impl Iterator<Item = (&'a Key, &'a Cell)>,
        pace: &mut Paced<'_, '_>,
    ) -> Result<Run, IndexError> {
        // Rows are always there; where nothing ever expired, deletions have nothing to hide among the expiries.
        let below = state.runs.iter().flat_map(|run| &run.tables);
        let hides = below.into_iter().any(|table| Family::Expiries.reaches(&table.info.first));
        let mut expiring = Vec::new();
        let cells = cells.inspect(|(key, cell)| {
            let concerns = match cell {
                Cell::Live(value) => value.expires_at.is_some(),
                Cell::Gone { .. } => hides,
            };
            if concerns {
                expiring.push((*key, *cell));
            }
        });
        let mut rows = Tables::new(self, self.sizes.table_bytes);
        rows.push_cells(state, Family::Rows, cells, pace)?;
        let rows = rows.finish(state)?;
        let mut tables = Tables::new(self, self.sizes.table_bytes);
        tables.push_cells(state, Family::Expiries, expiring.into_iter(), pace)?;
        let mut tables = tables.finish(state)?;
        tables.extend(rows);
        Ok(Run { tables, from: Bytes::new() })
    }
}

/// Copies of small pieces of bytes. They lie in large pieces of memory, many in each.
#[derive(Default)]
struct Copies(BytesMut);

const PIECE_BYTES: usize = 64 << 10;

impl Copies {
    fn keep(&mut self, bytes: &[u8]) -> Bytes {
        if self.0.capacity() < bytes.len() {
            self.0 = BytesMut::with_capacity(PIECE_BYTES.max(bytes.len()));
        }
        self.0.extend_from_slice(bytes);
        self.0.split().freeze()
    }
}

/// Counts work and calls the pace.
pub(super) struct Paced<'a, 'b> {
    pace: &'a mut Pace<'b>,
    bytes: usize,
}

impl<'a, 'b> Paced<'a, 'b> {
    pub(super) fn new(pace: &'a mut Pace<'b>) -> Self {
        Self { pace, bytes: 0 }
    }

    pub(super) fn did(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes >= PACE_BYTES {
            (self.pace)(self.bytes);
            self.bytes = 0;
        }
    }
}

/// The tables of a run being written.
pub(super) struct Tables<'a> {
    index: &'a Index,
    table_bytes: u64,
    writer: Option<Writer>,
    values: Option<ValuesWriter>,
    /// Bytes of large values that were left with their rows.
    inline: usize,
    done: Vec<Arc<Table>>,
    /// Roughly the bytes in older runs that what was added to this table hides.
    hidden: u64,
}

impl<'a> Tables<'a> {
    pub(super) fn new(index: &'a Index, table_bytes: u64) -> Self {
        Self {
            index,
            table_bytes,
            writer: None,
            values: None,
            inline: 0,
            done: Vec::new(),
            hidden: 0,
        }
    }

    /// How long all tables are so far, with the values that stand apart from them.
    pub(super) fn all_bytes(&self) -> u64 {
        let done = self.done.iter().map(|table| table.info.all_bytes());
        done.chain(self.writer.as_ref().map(Writer::all_bytes)).sum()
    }

    /// How long the table being written is so far.
    pub(super) fn open_bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, Writer::bytes)
    }

    /// Adds what a layer's cells say in `family`.
    fn push_cells<'c>(
        &mut self,
        state: &mut State,
        family: Family,
        cells: impl Iterator<Item = (&'c Key, &'c Cell)>,
        pace: &mut Paced<'_, '_>,
    ) -> Result<(), IndexError> {
        let below = state.runs.clone();
        let mut widening = Widening::new(&below);
        let mut sample = Sample::new(&below);
        let mut narrow = Narrow::new(&below);
        let (mut copies, mut name, mut head) = (Copies::default(), Vec::new(), Vec::new());
        for (key, cell) in cells {
            name.clear();
            name.push(family as u8);
            name.extend_from_slice(cut(key));
            let value = match cell {
                Cell::Live(value) => value,
                Cell::Gone { .. } if planted::is(Bug::ForgetRemovals) => continue,
                Cell::Gone { end } => {
                    let (start, end) = (copies.keep(&name), family.end(end.as_deref().map(cut)));
                    if start < end
                        && let Some(extent) = widening.push(start, end)?
                    {
                        self.push_extent(state, extent, &mut narrow, pace)?;
                    }
                    continue;
                }
            };
            head.clear();
            let rest = match (family, value.expires_at) {
                (Family::Rows, expires_at) if self.stands_apart(value.bytes.len()) => {
                    let place = self.push_value(state, &value.bytes, pace)?;
                    record::encode_apart(value.revision, expires_at, &place, &mut head);
                    &[]
                }
                (Family::Rows, expires_at) => {
                    record::encode_head(value.revision, expires_at, false, &mut head);
                    &value.bytes[..]
                }
                (Family::Expiries, Some(due)) => {
                    head.extend_from_slice(&encode_expiry(due));
                    &[]
                }
                (Family::Expiries, None) => continue,
            };
            if let Some(extent) = widening.take() {
                self.push_extent(state, extent, &mut narrow, pace)?;
            }
            let cell = Written { key: &name, says: Says::Put(&head, rest) };
            sample.look_at(&name, name.len() + value.bytes.len())?;
            self.push(state, &cell, pace)?;
        }
        if let Some(extent) = widening.take() {
            self.push_extent(state, extent, &mut narrow, pace)?;
        }
        self.hides(sample.hidden_bytes() + narrow.hidden_bytes());
        Ok(())
    }

    pub(super) fn push(
        &mut self,
        state: &mut State,
        cell: &Written<'_>,
        pace: &mut Paced<'_, '_>,
    ) -> Result<(), IndexError> {
        if self.open_bytes() >= self.table_bytes {
            self.end_table()?;
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let (disk, id) = (&*self.index.disk, Index::next_id(state));
                none.insert(Writer::new(disk, id, self.index.sizes.block_bytes)?)
            }
        };
        writer.push(cell)?;
        pace.did(cell.bytes());
        Ok(())
    }

    /// Whether the next value, of so many bytes, stands apart.
    fn stands_apart(&mut self, bytes: usize) -> bool {
        let sizes = &self.index.sizes;
        let large = bytes >= sizes.apart_bytes;
        if large && self.values.is_none() && self.inline + bytes <= sizes.inline_bytes {
            self.inline += bytes;
            return false;
        }
        large
    }

    /// Adds a value that stands apart.
    pub(super) fn push_value(
        &mut self,
        state: &mut State,
        value: &[u8],
        pace: &mut Paced<'_, '_>,
    ) -> Result<Place, IndexError> {
        if self.values.as_ref().is_some_and(|values| values.bytes() >= self.table_bytes) {
            self.end_values(state)?;
        }
        let values = match &mut self.values {
            Some(values) => values,
            none => none.insert(ValuesWriter::new(&*self.index.disk, Index::next_id(state))?),
        };
        let place = values.push(value)?;
        pace.did(value.len());
        Ok(place)
    }

    fn end_values(&mut self, state: &mut State) -> Result<(), IndexError> {
        if let Some(values) = self.values.take() {
            state.written.push(Values::new(values.finish()?, self.index.disk.clone()));
        }
        Ok(())
    }

    /// Adds an extent, and notes what it hides.
    fn push_extent(
        &mut self,
        state: &mut State,
        (start, end): (Bytes, Bytes),
        narrow: &mut Narrow<'_>,
        pace: &mut Paced<'_, '_>,
    ) -> Result<(), IndexError> {
        let mut hidden = 0;
        if !is_point(&start, &end) {
            for run in &state.runs {
                hidden += run.bytes_between(&start, &end)?;
            }
        }
        if hidden == 0 {
            narrow.look_at(&start, &end)?;
        }
        self.push(state, &Written { key: &start, says: Says::Gone(&end) }, pace)?;
        self.hides(hidden);
        Ok(())
    }

    /// Notes that what was added hides so many bytes more in older runs.
    pub(super) fn hides(&mut self, bytes: u64) {
        self.hidden += bytes;
    }

    /// Ends the table being written, if there is one.
    pub(super) fn end_table(&mut self) -> Result<(), IndexError> {
        if let Some(mut writer) = self.writer.take() {
            writer.hides(std::mem::take(&mut self.hidden));
            self.done.push(self.index.table(writer.finish()?));
        }
        Ok(())
    }

    /// Takes a table over as it is; it comes after all that was added before.
    pub(super) fn take_over(&mut self, table: Arc<Table>) -> Result<(), IndexError> {
        self.end_table()?;
        self.done.push(table);
        Ok(())
    }

    pub(super) fn finish(mut self, state: &mut State) -> Result<Vec<Arc<Table>>, IndexError> {
        self.end_values(state)?;
        self.end_table()?;
        Ok(self.done)
    }
}

/// About how long the row at `key` is in `below`, if it is there.
fn row_bytes(below: &[Run], key: &[u8]) -> Result<u64, ReadError> {
    let hash = filter::hash(key);
    for run in below {
        if let Some(entry) = run.get(key, hash)? {
            return Ok(match &entry.item {
                Item::Put(payload) => entry.bytes() as u64 + apart_bytes(&entry.key, payload),
                Item::Gone(_) => 0,
            });
        }
    }
    Ok(0)
}

/// How long the value of a row is that stands apart.
fn apart_bytes(key: &[u8], payload: &[u8]) -> u64 {
    let row = Written { key, says: Says::Put(payload, &[]) };
    row.place(payload).map_or(0, |place| place.bytes)
}

/// How much of what is put replaces rows below: a few keys are looked up, the rest is taken to be like them.
struct Sample<'a> {
    below: &'a [Run],
    rows: u64,
    bytes: u64,
    looked_at: u64,
    found: u64,
}

/// So many rows are all looked at; of the others one in [`SAMPLE_EACH`].
const SAMPLE_ALL: u64 = 128;
const SAMPLE_EACH: u64 = 128;

impl<'a> Sample<'a> {
    fn new(below: &'a [Run]) -> Self {
        Self { below, rows: 0, bytes: 0, looked_at: 0, found: 0 }
    }

    fn look_at(&mut self, key: &[u8], bytes: usize) -> Result<(), ReadError> {
        self.rows += 1;
        self.bytes += bytes as u64;
        if self.rows > SAMPLE_ALL && !self.rows.is_multiple_of(SAMPLE_EACH) {
            return Ok(());
        }
        self.looked_at += 1;
        self.found += u64::from(row_bytes(self.below, key)? > 0);
        Ok(())
    }

    fn hidden_bytes(&self) -> u64 {
        self.bytes / self.looked_at.max(1) * self.found
    }
}

/// How much is hidden by extents that lie within a block or so, of which the maps know nothing: the rows of a few are
/// counted, the rest is taken to be like them.
struct Narrow<'a> {
    below: &'a [Run],
    extents: u64,
    looked_at: u64,
    bytes: u64,
}

/// Of one extent so many rows are counted.
const NARROW_ROWS_MAX: usize = 64;

impl<'a> Narrow<'a> {
    fn new(below: &'a [Run]) -> Self {
        Self { below, extents: 0, looked_at: 0, bytes: 0 }
    }

    fn look_at(&mut self, start: &Bytes, end: &Bytes) -> Result<(), ReadError> {
        self.extents += 1;
        if self.extents > SAMPLE_ALL && !self.extents.is_multiple_of(SAMPLE_EACH) {
            return Ok(());
        }
        self.looked_at += 1;
        if is_point(start, end) {
            self.bytes += row_bytes(self.below, start)?;
            return Ok(());
        }
        let (start, end) = (start.clone(), end.clone());
        let mut rows = Merged::new(self.below, start, end, Direction::Forward)?;
        for _ in 0..NARROW_ROWS_MAX {
            let Some((key, payload)) = rows.next_row()? else { break };
            self.bytes += (key.len() + payload.len()) as u64 + apart_bytes(&key, &payload);
        }
        Ok(())
    }

    fn hidden_bytes(&self) -> u64 {
        self.bytes / self.looked_at.max(1) * self.extents
    }
}

/// Joins extents between which the index has no rows.
struct Widening<'a> {
    below: &'a [Run],
    open: Option<(Bytes, Bytes)>,
    probe: Option<Probe>,
    /// How often looking has paid lately: where keys are deleted here and there it never does.
    luck: u32,
    misses: u32,
    misses_max: u32,
}

/// Where the rows below are being looked at.
struct Probe {
    rows: Merged,
    next: Option<Bytes>,
}

const LUCK_MAX: u32 = 16;
/// Without luck every so many-th chance is still taken; each time that is in vain, half as many.
const MISSES_MAX: u32 = 64;
const MISSES_MOST: u32 = 2_048;
/// A probe steps over so many rows before it seeks.
const STEPS_MAX: usize = 16;

impl<'a> Widening<'a> {
    fn new(below: &'a [Run]) -> Self {
        Self { below, open: None, probe: None, luck: LUCK_MAX, misses: 0, misses_max: MISSES_MAX }
    }

    /// The extent that grows no more.
    fn take(&mut self) -> Option<(Bytes, Bytes)> {
        self.open.take()
    }

    /// Adds an extent, which must come after those added before; the one before it comes back if it grows no more.
    fn push(&mut self, start: Bytes, end: Bytes) -> Result<Option<(Bytes, Bytes)>, ReadError> {
        let Some((open_start, open_end)) = self.open.take() else {
            self.open = Some((start, end));
            return Ok(None);
        };
        if self.is_empty_between(&open_end, &start)? {
            self.open = Some((open_start, end));
            return Ok(None);
        }
        self.open = Some((start, end));
        Ok(Some((open_start, open_end)))
    }

    fn is_empty_between(&mut self, from: &Bytes, to: &Bytes) -> Result<bool, ReadError> {
        if from == to {
            return Ok(true);
        }
        if self.luck == 0 {
            self.misses += 1;
            if self.misses < self.misses_max {
                return Ok(false);
            }
            (self.misses, self.misses_max) = (0, MISSES_MOST.min(2 * self.misses_max));
        }
        let next = self.next_row_from(from)?;
        let empty = next.is_none_or(|next| next >= *to);
        if empty {
            (self.luck, self.misses_max) = (LUCK_MAX, MISSES_MAX);
        } else {
            self.luck = self.luck.saturating_sub(1);
        }
        Ok(empty)
    }

    /// The first row below from `from` on.
    fn next_row_from(&mut self, from: &Bytes) -> Result<Option<Bytes>, ReadError> {
        if let Some(Probe { rows, next }) = &mut self.probe {
            for _ in 0..STEPS_MAX {
                match next {
                    Some(key) if *key < *from => *next = rows.next_row()?.map(|(key, _)| key),
                    _ => return Ok(next.clone()),
                }
            }
        }
        let mut rows = Merged::new(self.below, from.clone(), END, Direction::Forward)?;
        let next = rows.next_row()?.map(|(key, _)| key);
        self.probe = Some(Probe { rows, next: next.clone() });
        Ok(next)
    }
}
