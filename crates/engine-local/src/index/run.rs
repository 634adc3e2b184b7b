//! A run: cells in order, in one table or several that lie side by side. Runs lie on top of each other; what a newer one
//! says about a key hides what older ones say.
//!
//! A run may begin at a key (`from`): what it says about keys before that has been taken over by an older run and is not
//! looked at any more. That is how a large merge goes forward in steps ([`super::merge`]).

use super::{
    block::Block,
    cell::{Entry, Item},
    manifest::RunInfo,
    table::{Guide, Piece, Table},
};
use bytes::Bytes;
use outrigger_keyspace::{Direction, ReadError};
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    /// Ordered by key.
    pub(super) tables: Vec<Arc<Table>>,
    /// Cells before this key do not count; an extent that reaches over it begins there.
    pub(super) from: Bytes,
}

impl Run {
    /// What the manifest says about it.
    pub(super) fn info(&self) -> RunInfo {
        let tables = self.tables.iter().map(|table| table.info.clone()).collect();
        RunInfo { from: self.from.clone(), tables }
    }

    /// The length of its files.
    pub(super) fn bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.info.bytes).sum()
    }

    /// The same, with the values that stand apart from its rows.
    pub(super) fn all_bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.info.all_bytes()).sum()
    }

    /// What it says about `key`, whose filter hash is `hash`.
    pub(super) fn get(&self, key: &[u8], hash: u64) -> Result<Option<Entry>, ReadError> {
        if key < &self.from[..] {
            return Ok(None);
        }
        match self.tables_before(key, true).checked_sub(1).and_then(|at| self.tables.get(at)) {
            Some(table) => table.get(key, hash),
            None => Ok(None),
        }
    }

    /// How many tables begin before `key`, or at it when `or_at`.
    pub(super) fn tables_before(&self, key: &[u8], or_at: bool) -> usize {
        self.tables.partition_point(|table| {
            let first = &table.info.first[..];
            first < key || (or_at && first == key)
        })
    }

    /// Roughly how many bytes lie between two keys.
    pub(super) fn bytes_between(&self, start: &[u8], end: &[u8]) -> Result<u64, ReadError> {
        let start = start.max(&self.from);
        let mut bytes = 0;
        for table in &self.tables {
            bytes += table.bytes_between(start, end)?;
        }
        Ok(bytes)
    }
}

/// A place in a run, moving in one direction. It holds the cell it stands at.
#[derive(Debug)]
pub(super) struct Cursor {
    run: Run,
    direction: Direction,
    table: usize,
    guide: Option<Arc<Guide>>,
    block_at: usize,
    block: Option<Block>,
    entry_at: usize,
    current: Option<Entry>,
    /// About so much is read at once; nothing: a block at a time.
    ahead_bytes: usize,
    piece: Option<Piece>,
}

/// What a reader that goes on to the end reads at once.
const AHEAD_BYTES: usize = 64 << 10;

impl Cursor {
    /// A cursor that stands nowhere yet.
    pub(super) fn new(run: &Run, direction: Direction) -> Self {
        Self {
            run: run.clone(),
            direction,
            table: 0,
            guide: None,
            block_at: 0,
            block: None,
            entry_at: 0,
            current: None,
            ahead_bytes: 0,
            piece: None,
        }
    }

    /// The same for somebody who reads forward to the end.
    pub(super) fn through(run: &Run) -> Self {
        Self { ahead_bytes: AHEAD_BYTES, ..Self::new(run, Direction::Forward) }
    }

    /// The cell it stands at; `None` past the last one.
    pub(super) fn current(&self) -> Option<&Entry> {
        self.current.as_ref()
    }

    /// Takes the cell it stands at; it must be moved next.
    pub(super) fn take(&mut self) -> Option<Entry> {
        self.current.take()
    }

    /// The table it is in.
    pub(super) fn table(&self) -> Option<Arc<Table>> {
        self.run.tables.get(self.table).cloned()
    }

    /// Moves to the first cell that says something about keys from `key` on. An extent that begins before is cut.
    pub(super) fn seek(&mut self, key: &[u8]) -> Result<(), ReadError> {
        let from = self.run.from.clone();
        let key = key.max(&from);
        self.find(key, true)?;
        let Some(entry) = self.entry()? else {
            self.current = None;
            return Ok(());
        };
        if &entry.key[..] >= key {
            self.current = Some(entry);
        } else if entry.reaches(key) {
            self.current = Some(Entry { key: Bytes::copy_from_slice(key), item: entry.item });
        } else {
            self.current = None;
            self.step_forward()?;
        }
        Ok(())
    }

    /// Moves to the last cell that says something about keys before `end`. An extent that reaches further is cut.
    pub(super) fn seek_back(&mut self, end: &[u8]) -> Result<(), ReadError> {
        self.find(end, false)?;
        let entry = self.entry()?.filter(|entry| &entry.key[..] < end);
        self.current = entry.map(|entry| match entry.item {
            Item::Gone(its_end) if &its_end[..] > end => {
                Entry { key: entry.key, item: Item::Gone(Bytes::copy_from_slice(end)) }
            }
            item => Entry { key: entry.key, item },
        });
        self.cut_back();
        Ok(())
    }

    /// Moves to the next cell in its direction.
    pub(super) fn step(&mut self) -> Result<(), ReadError> {
        match self.direction {
            Direction::Forward => self.step_forward(),
            Direction::Backward => self.step_back(),
        }
    }

    fn step_forward(&mut self) -> Result<(), ReadError> {
        self.current = None;
        self.entry_at += 1;
        loop {
            let at = self.entry_at;
            let Some(block) = self.load()? else { return Ok(()) };
            if at < block.count() {
                self.current = Some(block.entry(at)?);
                return Ok(());
            }
            (self.block, self.block_at, self.entry_at) = (None, self.block_at + 1, 0);
            if self.guide.as_ref().is_none_or(|guide| self.block_at >= guide.blocks()) {
                (self.guide, self.table, self.block_at) = (None, self.table + 1, 0);
            }
        }
    }

    fn step_back(&mut self) -> Result<(), ReadError> {
        self.current = None;
        if self.entry_at > 0 {
            self.entry_at -= 1;
        } else {
            self.block = None;
            if self.block_at > 0 {
                self.block_at -= 1;
            } else {
                let Some(table) = self.table.checked_sub(1) else {
                    // Past the first cell: nothing is loaded any more.
                    self.table = self.run.tables.len();
                    self.guide = None;
                    return Ok(());
                };
                (self.table, self.guide, self.block_at) = (table, None, usize::MAX);
            }
            let Some(block) = self.load()? else { return Ok(()) };
            self.entry_at = block.count() - 1;
        }
        self.current = self.entry()?;
        self.cut_back();
        Ok(())
    }

    /// Hides what lies before the run's beginning.
    fn cut_back(&mut self) {
        let from = &self.run.from;
        if let Some(entry) = self.current.take_if(|entry| entry.key < *from)
            && entry.reaches(from)
        {
            self.current = Some(Entry { key: from.clone(), item: entry.item });
        }
    }

    /// Places it at the last cell that starts before `key`, or at it when `or_at`; at the first one when there is none.
    fn find(&mut self, key: &[u8], or_at: bool) -> Result<(), ReadError> {
        let table = self.run.tables_before(key, or_at).saturating_sub(1);
        if table != self.table {
            (self.table, self.guide, self.block) = (table, None, None);
        }
        let Some(guide) = self.guide()? else { return Ok(()) };
        let block_at = guide.block_before(key, or_at);
        if block_at != self.block_at {
            (self.block_at, self.block) = (block_at, None);
        }
        let Some(block) = self.load()? else { return Ok(()) };
        self.entry_at = block.before(key, or_at)?.saturating_sub(1);
        Ok(())
    }

    fn entry(&mut self) -> Result<Option<Entry>, ReadError> {
        let at = self.entry_at;
        self.load()?.map(|block| block.entry(at)).transpose()
    }

    fn guide(&mut self) -> Result<Option<Arc<Guide>>, ReadError> {
        if self.guide.is_none() {
            let Some(table) = self.run.tables.get(self.table) else { return Ok(None) };
            self.guide = Some(table.guide()?);
        }
        Ok(self.guide.clone())
    }

    /// The block it is in; `None` past the last table.
    fn load(&mut self) -> Result<Option<&Block>, ReadError> {
        if self.block.is_none() {
            let Some(guide) = self.guide()? else { return Ok(None) };
            let Some(table) = self.run.tables.get(self.table) else { return Ok(None) };
            self.block_at = self.block_at.min(guide.blocks().saturating_sub(1));
            self.block = Some(match self.ahead_bytes {
                0 => table.block(&guide, self.block_at)?,
                bytes => table.block_ahead(&guide, self.block_at, bytes, &mut self.piece)?,
            });
        }
        Ok(self.block.as_ref())
    }
}
