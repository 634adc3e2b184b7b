//! Several runs read as one.
//!
//! [`Merged`] yields the rows to be seen, in either direction. Where a run has an extent of keys that are gone, older runs
//! are moved past it in one step, so hiding many rows costs a reader nothing. [`Folding`] yields the cells of one run that
//! says the same as all of them: what a merge writes.

use super::{
    cell::{Entry, Item, after},
    run::{Cursor, Run},
};
use crate::planted::{self, Bug};
use bytes::Bytes;
use outrigger_keyspace::{Direction, ReadError};
use std::cmp::Ordering;

/// The rows of several runs between two keys.
#[derive(Debug)]
pub(super) struct Merged {
    /// Newest first.
    cursors: Vec<Cursor>,
    direction: Direction,
    start: Bytes,
    end: Bytes,
}

impl Merged {
    /// What `runs`, newest first, say about keys from `start` to `end` (excluded).
    pub(super) fn new(
        runs: &[Run],
        start: Bytes,
        end: Bytes,
        direction: Direction,
    ) -> Result<Self, ReadError> {
        let mut cursors = Vec::with_capacity(runs.len());
        for run in runs {
            let mut cursor = Cursor::new(run, direction);
            match direction {
                _ if start >= end => {}
                Direction::Forward => cursor.seek(&start)?,
                Direction::Backward => cursor.seek_back(&end)?,
            }
            cursors.push(cursor);
        }
        Ok(Self { cursors, direction, start, end })
    }

    /// The next row to be seen: its key and payload.
    pub(super) fn next_row(&mut self) -> Result<Option<(Bytes, Bytes)>, ReadError> {
        while let Some(Entry { key, item }) = self.next_cell()? {
            if let Item::Put(payload) = item {
                return Ok(Some((key, payload)));
            }
        }
        Ok(None)
    }

    /// The next cell that no newer run hides. Extents of different runs may overlap, and may reach past the end.
    fn next_cell(&mut self) -> Result<Option<Entry>, ReadError> {
        let Some((at, entry)) = self.foremost() else { return Ok(None) };
        let entry = entry.clone();
        if !self.is_inside(&entry) {
            return Ok(None);
        }
        let (newer, older) = self.cursors.split_at_mut(at + 1);
        if let Some(cursor) = newer.last_mut() {
            cursor.step()?;
        }
        for cursor in older {
            pass(cursor, &entry, self.direction)?;
        }
        Ok(Some(entry))
    }

    /// The cell that comes first in the direction; of two at the same place the newer run's.
    fn foremost(&self) -> Option<(usize, &Entry)> {
        let mut best: Option<(usize, &Entry)> = None;
        for (at, cursor) in self.cursors.iter().enumerate() {
            let Some(entry) = cursor.current() else { continue };
            let comes_first = best.is_none_or(|(_, best)| match self.direction {
                Direction::Forward if planted::is(Bug::PreferOldRows) => entry.key <= best.key,
                Direction::Forward => entry.key < best.key,
                Direction::Backward => compare_ends(entry, best) == Ordering::Greater,
            });
            if comes_first {
                best = Some((at, entry));
            }
        }
        best
    }

    fn is_inside(&self, entry: &Entry) -> bool {
        match (self.direction, &entry.item) {
            (Direction::Forward, _) => entry.key < self.end,
            (Direction::Backward, Item::Put(_)) => entry.key >= self.start,
            (Direction::Backward, Item::Gone(end)) => *end > self.start,
        }
    }
}

/// Moves the cursor of an older run past what `entry` says.
fn pass(cursor: &mut Cursor, entry: &Entry, direction: Direction) -> Result<(), ReadError> {
    let Some(current) = cursor.current() else { return Ok(()) };
    match (&entry.item, direction) {
        (Item::Put(_), _) => {
            if current.key == entry.key && matches!(current.item, Item::Put(_)) {
                return cursor.step();
            }
        }
        (Item::Gone(end), Direction::Forward) => {
            if current.key < *end {
                return cursor.seek(end);
            }
        }
        (Item::Gone(_), Direction::Backward) => {
            let reaches_in = match &current.item {
                Item::Put(_) => current.key >= entry.key,
                Item::Gone(end) => *end > entry.key,
            };
            if reaches_in {
                return cursor.seek_back(&entry.key);
            }
        }
    }
    Ok(())
}

/// Compares where two cells end.
fn compare_ends(a: &Entry, b: &Entry) -> Ordering {
    match (&a.item, &b.item) {
        (Item::Put(_), Item::Put(_)) => a.key.cmp(&b.key),
        (Item::Gone(a), Item::Gone(b)) => a.cmp(b),
        (Item::Put(_), Item::Gone(end)) => compare_end_of(&a.key, end),
        (Item::Gone(end), Item::Put(_)) => compare_end_of(&b.key, end).reverse(),
    }
}

/// Compares the end of the single key `key` with `end`.
fn compare_end_of(key: &[u8], end: &[u8]) -> Ordering {
    match end.strip_prefix(key) {
        // `end` is the key itself, or the key and a zero, or beyond.
        Some([]) => Ordering::Greater,
        Some([0]) => Ordering::Equal,
        Some(_) => Ordering::Less,
        None => key.cmp(end),
    }
}

/// The cells of one run that says the same as several: extents joined, rows that are hidden left out.
#[derive(Debug)]
pub(super) struct Folding {
    merged: Merged,
    /// A joined extent whose end is not known yet.
    open: Option<(Bytes, Bytes)>,
    /// What comes after `open`.
    ready: Option<Entry>,
    /// Extents before this key have been dealt with.
    done: Bytes,
}

impl Folding {
    /// What `runs`, newest first, say about keys from `start` to `end` (excluded).
    pub(super) fn new(runs: &[Run], start: Bytes, end: Bytes) -> Result<Self, ReadError> {
        let done = start.clone();
        let merged = Merged::new(runs, start, end, Direction::Forward)?;
        Ok(Self { merged, open: None, ready: None, done })
    }

    /// The next cell.
    pub(super) fn next_cell(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            if let Some(ready) = self.ready.take() {
                return Ok(Some(ready));
            }
            let Some(entry) = self.merged.next_cell()? else { return Ok(self.close()) };
            match entry.item {
                Item::Gone(end) => {
                    let end = end.min(self.merged.end.clone());
                    let start = entry.key.max(self.done.clone());
                    if start >= end {
                        continue;
                    }
                    match &mut self.open {
                        Some((_, open_end)) if start <= *open_end => {
                            if *open_end < end {
                                *open_end = end;
                            }
                        }
                        _ => {
                            if let Some(closed) = self.open.replace((start, end)).and_then(extent) {
                                return Ok(Some(closed));
                            }
                        }
                    }
                }
                Item::Put(_) => {
                    self.done = after(&entry.key);
                    let Some((start, end)) = self.open.take() else { return Ok(Some(entry)) };
                    if end > self.done {
                        self.open = Some((self.done.clone(), end.clone()));
                    }
                    let before = extent((start, end.min(entry.key.clone())));
                    let Some(before) = before else { return Ok(Some(entry)) };
                    self.ready = Some(entry);
                    return Ok(Some(before));
                }
            }
        }
    }

    fn close(&mut self) -> Option<Entry> {
        self.open.take().and_then(extent)
    }
}

fn extent((start, end): (Bytes, Bytes)) -> Option<Entry> {
    (start < end).then_some(Entry { key: start, item: Item::Gone(end) })
}
