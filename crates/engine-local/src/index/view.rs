//! The index at one instant: immutable, read by any number of threads, valid for as long as somebody holds it.

use super::{
    Checkpoint,
    cell::{Family, Item, decode_expiry, decode_row, decode_row_expiry},
    filter,
    merge::Merged,
    run::Run,
    shelf::Shelf,
    values::Values,
};
use bytes::Bytes;
use outrigger_kernel::Wall;
use outrigger_keyspace::{Direction, KeyRange, ReadError, Value};
use std::{ops::ControlFlow, sync::Arc};

#[derive(Debug)]
pub(crate) struct IndexView {
    checkpoint: Checkpoint,
    /// Newest first.
    runs: Vec<Run>,
    /// The files of values that stand apart, by their ids.
    values: Vec<Arc<Values>>,
    shelf: Arc<Shelf>,
}

impl IndexView {
    pub(super) fn new(
        checkpoint: Checkpoint,
        runs: Vec<Run>,
        values: Vec<Arc<Values>>,
        shelf: Arc<Shelf>,
    ) -> Self {
        Self { checkpoint, runs, values, shelf }
    }

    /// Up to where everything is in it.
    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The value at `key`, due or not.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Value>, ReadError> {
        self.row(key)?.map(|payload| decode_row(&payload, &self.values)).transpose()
    }

    /// When the value at `key` expires, if there is one and it does. One that stands apart is not read.
    pub(crate) fn expiry(&self, key: &[u8]) -> Result<Option<Wall>, ReadError> {
        self.row(key)?.map_or(Ok(None), |payload| decode_row_expiry(&payload))
    }

    fn row(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let key = Family::Rows.key(key);
        let hash = filter::hash(&key);
        for run in &self.runs {
            if let Some(entry) = run.get(&key, hash)? {
                return Ok(match entry.item {
                    Item::Put(payload) => Some(payload),
                    Item::Gone(_) => None,
                });
            }
        }
        Ok(None)
    }

    /// The entries of `range`, due or not, in `direction`. Nothing is read before the first is asked for; after an error
    /// there are no more.
    pub(crate) fn range(&self, range: &KeyRange, direction: Direction) -> Rows<'_> {
        let (start, end) = Family::Rows.range(range);
        Rows { view: self, state: State::New { start, end, direction } }
    }

    /// Visits when keys in `range` expire, each key at most once, ordered by key. It may be out of date: the key may have been
    /// put to stay since.
    pub(crate) fn expiries(
        &self,
        range: &KeyRange,
        visit: &mut dyn FnMut(Wall, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let (start, end) = Family::Expiries.range(range);
        let mut merged = Merged::new(&self.runs, start, end, Direction::Forward)?;
        while let Some((key, payload)) = merged.next_row()? {
            let due = decode_expiry(&payload)?;
            if visit(due, key.get(1..).unwrap_or_default()).is_break() {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub(super) fn values(&self) -> &[Arc<Values>] {
        &self.values
    }

    /// The length of all its files.
    pub(crate) fn bytes(&self) -> u64 {
        let values = self.values.iter().map(|values| values.info.bytes);
        self.runs.iter().map(Run::bytes).chain(values).sum()
    }
}

/// Entries of a view.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    view: &'a IndexView,
    state: State,
}

#[derive(Debug)]
enum State {
    New { start: Bytes, end: Bytes, direction: Direction },
    Open(Merged),
    Done,
}

impl Rows<'_> {
    fn read(&mut self) -> Result<Option<(Bytes, Value)>, ReadError> {
        if let State::New { start, end, direction } = &mut self.state {
            self.view.shelf.note_scan(self.view.runs.len());
            let (start, end) = (std::mem::take(start), std::mem::take(end));
            self.state = State::Open(Merged::new(&self.view.runs, start, end, *direction)?);
        }
        let State::Open(merged) = &mut self.state else { return Ok(None) };
        match merged.next_row()? {
            Some((key, payload)) => {
                let key = Bytes::copy_from_slice(key.get(1..).unwrap_or_default());
                Ok(Some((key, decode_row(&payload, &self.view.values)?)))
            }
            None => Ok(None),
        }
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<(Bytes, Value), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.read().transpose();
        if !matches!(row, Some(Ok(_))) {
            self.state = State::Done;
        }
        row
    }
}
