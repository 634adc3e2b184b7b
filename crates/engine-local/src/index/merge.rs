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
    /// Those that stand at a cell, as a heap: the one whose cell comes first is on top, of several at the same place the
    /// newest run's.
    heap: Vec<usize>,
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
        let cursors = runs.iter().map(|run| Cursor::new(run, direction)).collect();
        Self::at(cursors, start, end, direction)
    }

    /// The same for somebody who reads to the end: several blocks are read at once.
    pub(super) fn through(runs: &[Run], start: Bytes, end: Bytes) -> Result<Self, ReadError> {
        Self::at(runs.iter().map(Cursor::through).collect(), start, end, Direction::Forward)
    }

    fn at(
        mut cursors: Vec<Cursor>,
        start: Bytes,
        end: Bytes,
        direction: Direction,
    ) -> Result<Self, ReadError> {
        for cursor in &mut cursors {
            match direction {
                _ if start >= end => {}
                Direction::Forward => cursor.seek(&start)?,
                Direction::Backward => cursor.seek_back(&end)?,
            }
        }
        let mut merged = Self { cursors, heap: Vec::new(), direction, start, end };
        merged.heap_up();
        Ok(merged)
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
        let Some(&at) = self.heap.first() else { return Ok(None) };
        let Some(cursor) = self.cursors.get_mut(at) else { return Ok(None) };
        let inside = cursor.current().is_some_and(|entry| match (self.direction, &entry.item) {
            (Direction::Forward, _) => entry.key < self.end,
            (Direction::Backward, Item::Put(_)) => entry.key >= self.start,
            (Direction::Backward, Item::Gone(end)) => *end > self.start,
        });
        let Some(entry) = cursor.take().filter(|_| inside) else {
            self.heap.clear();
            return Ok(None);
        };
        cursor.step()?;
        self.sink(0);
        match &entry.item {
            Item::Put(_) => self.pass_key(&entry.key)?,
            Item::Gone(_) => {
                let mut moved = false;
                for older in self.cursors.iter_mut().skip(at + 1) {
                    moved |= pass(older, &entry, self.direction)?;
                }
                if moved {
                    self.heap_up();
                }
            }
        }
        Ok(Some(entry))
    }

    /// Moves past the rows of older runs that have `key`, too.
    fn pass_key(&mut self, key: &Bytes) -> Result<(), ReadError> {
        while let Some(cursor) = self.heap.first().and_then(|top| self.cursors.get_mut(*top)) {
            match cursor.current() {
                Some(Entry { key: its_key, item: Item::Put(_) }) if its_key == key => {
                    cursor.step()?;
                }
                _ => break,
            }
            self.sink(0);
        }
        Ok(())
    }

    /// Whether the cell of cursor `a` comes before that of `b`.
    fn is_before(&self, a: usize, b: usize) -> bool {
        let current = |at: usize| self.cursors.get(at).and_then(Cursor::current);
        let (Some(first), Some(second)) = (current(a), current(b)) else {
            return current(a).is_some();
        };
        let order = match self.direction {
            Direction::Forward => first.key.cmp(&second.key),
            Direction::Backward => compare_ends(second, first),
        };
        let newer_first = match planted::is(Bug::PreferOldRows) {
            true => b.cmp(&a),
            false => a.cmp(&b),
        };
        order.then(newer_first) == Ordering::Less
    }

    /// Puts all cursors in order.
    fn heap_up(&mut self) {
        self.heap.clear();
        let standing = self.cursors.iter().enumerate().filter(|(_, c)| c.current().is_some());
        self.heap.extend(standing.map(|(at, _)| at));
        for at in (0..self.heap.len() / 2).rev() {
            self.sink(at);
        }
    }

    /// Puts the cursor at `at` of the heap, which has moved on, where it belongs; at its end it leaves.
    fn sink(&mut self, mut at: usize) {
        let ended =
            |cursor: &usize| self.cursors.get(*cursor).is_none_or(|c| c.current().is_none());
        if self.heap.get(at).is_some_and(ended) {
            self.heap.swap_remove(at);
        }
        loop {
            let mut first = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heap.len() && self.is_before(self.heap[child], self.heap[first]) {
                    first = child;
                }
            }
            if first == at {
                return;
            }
            self.heap.swap(at, first);
            at = first;
        }
    }
}

/// Moves the cursor of an older run past the keys that `entry` says are gone. Whether it had to be moved.
fn pass(cursor: &mut Cursor, entry: &Entry, direction: Direction) -> Result<bool, ReadError> {
    let (Some(current), Item::Gone(end)) = (cursor.current(), &entry.item) else {
        return Ok(false);
    };
    match direction {
        Direction::Forward if current.key < *end => cursor.seek(end)?,
        Direction::Forward => return Ok(false),
        Direction::Backward => {
            let reaches_in = match &current.item {
                Item::Put(_) => current.key >= entry.key,
                Item::Gone(end) => *end > entry.key,
            };
            if !reaches_in {
                return Ok(false);
            }
            cursor.seek_back(&entry.key)?;
        }
    }
    Ok(true)
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
    /// Extents before this key have been dealt with, and the key itself when it is a row's.
    done: Bytes,
    is_past: bool,
}

impl Folding {
    /// What `runs`, newest first, say about keys from `start` to `end` (excluded).
    pub(super) fn new(runs: &[Run], start: Bytes, end: Bytes) -> Result<Self, ReadError> {
        let done = start.clone();
        let merged = Merged::through(runs, start, end)?;
        Ok(Self { merged, open: None, ready: None, done, is_past: false })
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
                    let start = entry.key.max(self.done_up_to());
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
                    (self.done, self.is_past) = (entry.key.clone(), true);
                    let Some((start, end)) = self.open.take() else { return Ok(Some(entry)) };
                    let done = self.done_up_to();
                    if end > done {
                        self.open = Some((done, end.clone()));
                    }
                    let before = extent((start, end.min(entry.key.clone())));
                    let Some(before) = before else { return Ok(Some(entry)) };
                    self.ready = Some(entry);
                    return Ok(Some(before));
                }
            }
        }
    }

    fn done_up_to(&self) -> Bytes {
        if self.is_past { after(&self.done) } else { self.done.clone() }
    }

    fn close(&mut self) -> Option<Entry> {
        self.open.take().and_then(extent)
    }
}

fn extent((start, end): (Bytes, Bytes)) -> Option<Entry> {
    (start < end).then_some(Entry { key: start, item: Item::Gone(end) })
}
