//! The whole map at one instant: layers in memory over the index on disk, read as one.
//!
//! A point is looked up from the top down. A range is merged: [`Over`] lays one layer over whatever lies below it and yields
//! what is to be seen, and the layers nest (`active over (sealed over index)`). Where a layer has an extent of keys that
//! are gone, the sources below are moved past it in one step, so hiding a range costs a reader nothing.
//!
//! Single deletions are extents of one key each, and a reader that has walked over many of them says so ([`Desert`]): the
//! committer folds them into one extent, and the next reader takes one step. Without that, the head of a queue would be
//! found by walking over everything that was ever taken from it since the last checkpoint.

use crate::layer::{Cell, Cells, Key, Layer, before_end};
use bytes::Bytes;
use outrigger_kernel::Wall;
use outrigger_keyspace::{
    Direction, Entry, KeyRange, Page, ReadError, Value,
    limits::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX},
    sequencer::Latest,
};
use std::{iter::Peekable, ops::ControlFlow, sync::Arc};

/// What lies below the layers: the index at one instant.
pub(crate) trait Bottom: Send + Sync {
    /// The value at `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Value>, ReadError>;

    /// When the value at `key` expires, if there is one and it does.
    fn expiry(&self, key: &[u8]) -> Result<Option<Wall>, ReadError> {
        Ok(self.get(key)?.and_then(|value| value.expires_at))
    }

    /// The entries of `range`, in `direction`.
    fn range<'a>(&'a self, range: &KeyRange, direction: Direction) -> Entries<'a>;

    /// Visits when keys in `range` expire, ordered by key. It may be out of date: a key may have been put to stay since.
    fn expiries(
        &self,
        range: &KeyRange,
        visit: &mut dyn FnMut(Wall, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError>;
}

/// Entries in order, as they are read.
pub(crate) type Entries<'a> = Box<dyn Iterator<Item = Seen> + Send + 'a>;

/// An entry, or why it could not be read.
pub(crate) type Seen = Result<(Bytes, Value), ReadError>;

/// The map at one instant. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Stack {
    /// What changed since the last checkpoint was begun.
    pub(crate) active: Layer,
    /// What a checkpoint is writing into the index.
    pub(crate) sealed: Option<Layer>,
    pub(crate) index: Arc<dyn Bottom>,
}

/// A range in which a reader found nothing but keys that are gone: worth folding into one extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Desert(pub(crate) KeyRange);

/// So many dead cells in a row make a desert.
const DESERT_CELLS_MIN: usize = 64;

impl Stack {
    /// What is stored at `key`, due or not.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Value>, ReadError> {
        for layer in std::iter::once(&self.active).chain(&self.sealed) {
            if let Some(known) = layer.get(key) {
                return Ok(known.cloned());
            }
        }
        self.index.get(key)
    }

    /// When what is stored at `key` expires, if there is something and it does.
    fn expiry(&self, key: &[u8]) -> Result<Option<Wall>, ReadError> {
        for layer in std::iter::once(&self.active).chain(&self.sealed) {
            if let Some(known) = layer.get(key) {
                return Ok(known.and_then(|value| value.expires_at));
            }
        }
        self.index.expiry(key)
    }

    /// A page of `range` as it is at `time`: what is due by then is not shown. With it the widest desert crossed.
    pub(crate) fn page(
        &self,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
        time: Wall,
    ) -> Result<(Page, Option<Desert>), ReadError> {
        let limit = limit.min(PAGE_ENTRIES_MAX);
        let mut page = Page::default();
        let mut bytes = 0;
        let mut entries = self.entries(range, direction);
        let mut deserts = Deserts::new(range, direction);
        loop {
            let Some(seen) = entries.next() else {
                deserts.end(entries.take_crossed());
                break;
            };
            let (key, value) = seen?;
            deserts.step(&key, entries.take_crossed());
            if value.expires_at.is_some_and(|at| at <= time) {
                continue;
            }
            if page.entries.len() >= limit || bytes > PAGE_BYTES_MAX {
                page.more = true;
                break;
            }
            bytes += key.len() + value.bytes.len();
            page.entries.push(Entry { key, value });
        }
        Ok((page, deserts.widest))
    }

    /// Everything in `range`, due or not.
    pub(crate) fn entries(&self, range: &KeyRange, direction: Direction) -> Over<'_> {
        let below = self.below(Depth::Active, range, direction);
        Over::new(self, Depth::Active, &self.active, below, range, direction)
    }

    /// What lies below the layer at `depth`.
    fn below(&self, depth: Depth, range: &KeyRange, direction: Direction) -> Below<'_> {
        let bottom = Below::Index(self.index.range(range, direction));
        match (depth, &self.sealed) {
            (Depth::Active, Some(sealed)) => {
                let over = Over::new(self, Depth::Sealed, sealed, bottom, range, direction);
                Below::Layer(Box::new(over))
            }
            _ => bottom,
        }
    }
}

impl Latest for Stack {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, ReadError> {
        Stack::get(self, key)
    }

    fn expiry(&self, key: &[u8]) -> Result<Option<Wall>, ReadError> {
        Stack::expiry(self, key)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    Active,
    Sealed,
}

enum Below<'a> {
    Index(Entries<'a>),
    Layer(Box<Over<'a>>),
}

impl Iterator for Below<'_> {
    type Item = Seen;

    fn next(&mut self) -> Option<Seen> {
        match self {
            Self::Index(entries) => entries.next(),
            Self::Layer(over) => over.next(),
        }
    }
}

/// A layer laid over what is below it.
pub(crate) struct Over<'a> {
    stack: &'a Stack,
    depth: Depth,
    top: Peekable<Directed<'a>>,
    below: Below<'a>,
    /// The next entry from below, read ahead.
    ahead: Option<Option<Seen>>,
    range: KeyRange,
    direction: Direction,
    crossed: Crossed,
}

/// Dead cells that a scan has passed since somebody asked, and the keys from the first to the last of them.
#[derive(Default)]
pub(crate) struct Crossed {
    cells: usize,
    /// Where the first of them starts, and where the last of them ends.
    hull: Option<(Key, Option<Key>)>,
}

impl Crossed {
    fn add(&mut self, start: &Key, end: Option<&Key>) {
        self.merge(Self { cells: 1, hull: Some((start.clone(), end.cloned())) });
    }

    fn merge(&mut self, other: Self) {
        self.cells += other.cells;
        self.hull = match (self.hull.take(), other.hull) {
            (Some((a, a_end)), Some((b, b_end))) => {
                Some((a.min(b), a_end.zip(b_end).map(|(a, b)| a.max(b))))
            }
            (hull, None) | (None, hull) => hull,
        };
    }
}

/// Where an extent lies, seen from a key.
enum Place {
    /// The scan meets the key first.
    Later,
    /// The key is in it.
    Covers,
    /// The scan has passed it.
    Passed,
}

impl<'a> Over<'a> {
    fn new(
        stack: &'a Stack,
        depth: Depth,
        layer: &'a Layer,
        below: Below<'a>,
        range: &KeyRange,
        direction: Direction,
    ) -> Self {
        let top = Directed { cells: layer.range(range), direction }.peekable();
        let range = range.clone();
        Self {
            stack,
            depth,
            top,
            below,
            ahead: None,
            range,
            direction,
            crossed: Crossed::default(),
        }
    }

    /// The dead cells passed since the last call, in this layer or below it.
    fn take_crossed(&mut self) -> Crossed {
        let mut crossed = std::mem::take(&mut self.crossed);
        if let Below::Layer(over) = &mut self.below {
            crossed.merge(over.take_crossed());
        }
        crossed
    }

    fn ahead(&mut self) -> Option<&Seen> {
        let below = &mut self.below;
        self.ahead.get_or_insert_with(|| below.next()).as_ref()
    }

    fn take_ahead(&mut self) -> Option<Seen> {
        match self.ahead.take() {
            Some(ahead) => ahead,
            None => self.below.next(),
        }
    }

    /// Moves what is below past the extent from `start` to `end`.
    fn pass(&mut self, start: &[u8], end: Option<&[u8]>) {
        let copied = Bytes::copy_from_slice;
        let rest = match (self.direction, end) {
            (Direction::Forward, Some(end)) => {
                KeyRange { start: copied(end), end: self.range.end.clone() }
            }
            // Nothing lies beyond: an empty range.
            (Direction::Forward, None) => KeyRange::new(Bytes::new(), Bytes::new()),
            (Direction::Backward, _) => KeyRange::new(self.range.start.clone(), copied(start)),
        };
        self.ahead = None;
        self.below = self.stack.below(self.depth, &rest, self.direction);
    }

    fn place(&self, start: &[u8], end: Option<&[u8]>, key: &[u8]) -> Place {
        match (key < start, before_end(key, end)) {
            (false, true) => Place::Covers,
            (true, _) if self.direction == Direction::Forward => Place::Later,
            (false, false) if self.direction == Direction::Backward => Place::Later,
            _ => Place::Passed,
        }
    }
}

impl Iterator for Over<'_> {
    type Item = Seen;

    fn next(&mut self) -> Option<Seen> {
        loop {
            let Some(&(start, cell)) = self.top.peek() else { return self.take_ahead() };
            let lower = match self.ahead() {
                Some(Ok((key, _))) => Some(key.clone()),
                Some(Err(_)) => return self.take_ahead(),
                None => None,
            };
            match (cell, lower) {
                (Cell::Live(value), lower) => {
                    let first = match (&lower, self.direction) {
                        (None, _) => true,
                        (Some(lower), Direction::Forward) => start[..] <= lower[..],
                        (Some(lower), Direction::Backward) => start[..] >= lower[..],
                    };
                    if !first {
                        return self.take_ahead();
                    }
                    if lower.is_some_and(|lower| lower[..] == start[..]) {
                        self.ahead = None;
                    }
                    self.top.next();
                    let key = Bytes::copy_from_slice(start);
                    return Some(Ok((key, value.clone())));
                }
                (Cell::Gone { end }, None) => {
                    self.crossed.add(start, end.as_ref());
                    self.top.next();
                }
                (Cell::Gone { end }, Some(lower)) => {
                    match self.place(start, end.as_deref(), &lower) {
                        Place::Later => return self.take_ahead(),
                        Place::Passed => {
                            self.crossed.add(start, end.as_ref());
                            self.top.next();
                        }
                        // The extent of one key: what is below steps over it.
                        Place::Covers if is_point(start, end.as_deref()) => self.ahead = None,
                        Place::Covers => self.pass(start, end.as_deref()),
                    }
                }
            }
        }
    }
}

fn is_point(start: &[u8], end: Option<&[u8]>) -> bool {
    end.is_some_and(|end| end.len() == start.len() + 1 && end.starts_with(start))
}

/// Cells in one direction or the other.
struct Directed<'a> {
    cells: Cells<'a>,
    direction: Direction,
}

impl<'a> Iterator for Directed<'a> {
    type Item = (&'a Key, &'a Cell);

    fn next(&mut self) -> Option<Self::Item> {
        match self.direction {
            Direction::Forward => self.cells.next(),
            Direction::Backward => self.cells.next_back(),
        }
    }
}

/// Watches a scan for deserts.
struct Deserts {
    direction: Direction,
    /// What lies before the next entry, as far as it is known.
    gap: KeyRange,
    cells: usize,
    widest: Option<Desert>,
}

impl Deserts {
    fn new(range: &KeyRange, direction: Direction) -> Self {
        Self { direction, gap: range.clone(), cells: DESERT_CELLS_MIN - 1, widest: None }
    }

    /// The scan has come to `key`.
    fn step(&mut self, key: &Bytes, crossed: Crossed) {
        let after = KeyRange::all().after(key).start;
        let (gap, rest) = match self.direction {
            Direction::Forward => (
                KeyRange { start: self.gap.start.clone(), end: Some(key.clone()) },
                KeyRange { start: after, end: self.gap.end.clone() },
            ),
            Direction::Backward => (
                KeyRange { start: after, end: self.gap.end.clone() },
                KeyRange { start: self.gap.start.clone(), end: Some(key.clone()) },
            ),
        };
        self.gap = gap;
        self.end(crossed);
        self.gap = rest;
    }

    /// The scan has come to the end of the gap.
    fn end(&mut self, crossed: Crossed) {
        let Crossed { cells, hull: Some((start, end)) } = crossed else { return };
        if cells <= self.cells {
            return;
        }
        let start = self.gap.start.clone().max(Bytes::copy_from_slice(&start));
        let end = match (end.as_deref().map(Bytes::copy_from_slice), self.gap.end.clone()) {
            (Some(end), Some(gap)) => Some(end.min(gap)),
            (end, gap) => end.or(gap),
        };
        self.cells = cells;
        self.widest = Some(Desert(KeyRange { start, end }));
    }
}

#[cfg(test)]
pub(crate) mod tests;
