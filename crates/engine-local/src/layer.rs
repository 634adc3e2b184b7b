//! A layer: recent changes in memory, as a persistent ordered map. Cloning it is O(1), so every published view holds one.
//!
//! ```text
//!   active layer    a=1      [c .. f) gone                 newest; the committer writes here
//!   sealed layer    a=0  b=2          d=4                  on its way into the index
//!   index           a=9           e=5          z=7         on disk
//!   what is seen    a=1  b=2                   z=7
//! ```
//!
//! A cell is a value, or an *extent* of keys that are gone: one deleted key is the extent of that key alone, a deleted
//! range is one extent however many keys it hides. That makes clearing a range one cell, and lets neighbouring deletions
//! be folded into one ([`Layer::fold`]), so that the head of a queue is not found by walking over its dead.
//!
//! Invariants: cells are ordered by where they start; extents do not overlap, and no cell starts inside another's extent.

mod tree;

use bytes::Bytes;
use outrigger_keyspace::{KeyRange, Value, sequencer::Plan};
use std::sync::Arc;
use tree::{Keys, Path, Tree};

/// A key as layers keep it: as small a handle as there is.
pub(crate) type Key = Arc<[u8]>;

/// What a layer says about a key, or about all keys from one on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// The key has this value.
    Live(Value),
    /// Every key from this one up to `end` (excluded) is absent; no `end` means to the end of the map.
    Gone { end: Option<Key> },
}

impl Cell {
    fn is_extent(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }
}

/// What a cell costs in memory beside its key and value: its slot, its place in a node about half full, and two
/// allocations.
const CELL_OVERHEAD_BYTES: usize = 128;

/// Cells in the order they came. A cell that is replaced stays as long as the layer does, for whoever sees an earlier state.
#[derive(Debug, Default)]
struct Arena(boxcar::Vec<(Key, Cell)>);

impl Arena {
    fn push(&self, key: Key, cell: Cell) -> u32 {
        // Memory is full long before the numbers are.
        u32::try_from(self.0.push((key, cell))).unwrap_or(u32::MAX)
    }

    fn at(&self, slot: u32) -> (&Key, &Cell) {
        let (key, cell) = &self.0[slot as usize];
        (key, cell)
    }
}

impl Keys for Arena {
    fn key(&self, slot: u32) -> &[u8] {
        self.at(slot).0
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Layer {
    arena: Arc<Arena>,
    tree: Tree,
    /// How many of the cells are extents: without any, a put has nothing to split.
    extents: usize,
    bytes: usize,
}

impl Layer {
    /// Takes over what `plan` changes.
    pub(crate) fn apply(&mut self, plan: &Plan) {
        for range in &plan.clears {
            self.clear(range);
        }
        for change in &plan.changes {
            match &change.value {
                Some(value) => self.put(&change.key, value),
                None => self.delete(&change.key),
            }
        }
    }

    /// Roughly the memory it takes, with what was replaced.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// All cells, ordered by where they start.
    pub(crate) fn iter(&self) -> Cells<'_> {
        self.cells(self.tree.begin(), self.tree.end())
    }

    /// What the layer says about `key`; `None` when it says nothing.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<&Value>> {
        if let Some(slot) = self.tree.find(&*self.arena, key) {
            return match self.arena.at(slot).1 {
                Cell::Live(value) => Some(Some(value)),
                Cell::Gone { .. } => Some(None),
            };
        }
        self.extent_over(key).map(|_| None)
    }

    /// The extent that `key` lies in.
    fn extent_over(&self, key: &[u8]) -> Option<(&Key, Option<&Key>)> {
        if self.extents == 0 {
            return None;
        }
        let mut path = self.tree.seek(&*self.arena, key);
        let is_it = |slot: &u32| self.arena.key(*slot) == key;
        if path.slot().filter(is_it).is_none() && !path.retreat() {
            return None;
        }
        match self.arena.at(path.slot()?) {
            (start, Cell::Gone { end }) if before_end(key, end.as_deref()) => {
                Some((start, end.as_ref()))
            }
            _ => None,
        }
    }

    /// The cells that say something about keys in `range`, ordered by where they start. The first may start before the
    /// range and reach into it.
    pub(crate) fn range(&self, range: &KeyRange) -> Cells<'_> {
        if range.is_empty() {
            return self.cells(self.tree.end(), self.tree.end());
        }
        let start =
            self.extent_over(&range.start).map_or(&range.start[..], |(start, _)| &start[..]);
        let end = range.end.as_ref().map(|end| self.tree.seek(&*self.arena, end));
        let front = self.tree.seek(&*self.arena, start);
        self.cells(front, end.unwrap_or_else(|| self.tree.end()))
    }

    fn cells<'a>(&'a self, front: Path<'a>, back: Path<'a>) -> Cells<'a> {
        Cells { arena: &self.arena, front, back }
    }

    /// Makes one extent of the cells in `range`, which must all be extents: somebody has looked, and between them nothing
    /// is to be seen either. Whether it did.
    pub(crate) fn fold(&mut self, range: &KeyRange) -> bool {
        let dead = self.range(range).all(|(_, cell)| cell.is_extent());
        if dead {
            self.clear(range);
        }
        dead
    }

    fn put(&mut self, key: &Bytes, value: &Value) {
        // Copies of their own: a key or value may be a slice that keeps a large request alive.
        let value = Value { bytes: Bytes::copy_from_slice(&value.bytes), ..*value };
        self.split_extent_at(key);
        self.set(Key::from(&key[..]), Cell::Live(value));
    }

    fn delete(&mut self, key: &Bytes) {
        if self.get(key) != Some(None) {
            let end = Some(successor(key));
            self.set(Key::from(&key[..]), Cell::Gone { end });
        }
    }

    fn clear(&mut self, range: &KeyRange) {
        if range.is_empty() {
            return;
        }
        let mut start = Key::from(&range.start[..]);
        let mut end = range.end.as_deref().map(Key::from);
        let reached: Vec<Key> = self.range(range).map(|(start, _)| start.clone()).collect();
        for reached in reached {
            if let Some(Cell::Gone { end: its_end }) = self.unset(&reached) {
                end = match (end, its_end) {
                    (Some(end), Some(its_end)) => Some(end.max(its_end.clone())),
                    _ => None,
                };
                start = start.min(reached);
            }
        }
        self.set(start, Cell::Gone { end });
    }

    /// Lets no extent reach over `key`: what it hid before and after the key stays hidden.
    fn split_extent_at(&mut self, key: &[u8]) {
        let Some((start, end)) = self.extent_over(key) else { return };
        let (start, end) = (start.clone(), end.cloned());
        if start[..] == *key {
            self.unset(&start);
        } else {
            self.set(start, Cell::Gone { end: Some(Key::from(key)) });
        }
        let after = successor(key);
        if before_end(&after, end.as_deref()) {
            self.set(after, Cell::Gone { end });
        }
    }

    fn set(&mut self, key: Key, cell: Cell) {
        self.bytes += cost(key.len(), &cell);
        self.extents += usize::from(cell.is_extent());
        let slot = self.arena.push(key, cell);
        if let Some(before) = self.tree.insert(&*self.arena, slot) {
            self.extents -= usize::from(self.arena.at(before).1.is_extent());
        }
    }

    fn unset(&mut self, key: &Key) -> Option<&Cell> {
        let before = self.tree.remove(&*self.arena, key)?;
        let (_, cell) = self.arena.at(before);
        self.extents -= usize::from(cell.is_extent());
        Some(cell)
    }
}

/// Cells of a layer, from either end.
#[derive(Clone)]
pub(crate) struct Cells<'a> {
    arena: &'a Arena,
    front: Path<'a>,
    back: Path<'a>,
}

impl<'a> Iterator for Cells<'a> {
    type Item = (&'a Key, &'a Cell);

    fn next(&mut self) -> Option<Self::Item> {
        if self.front.is_at(&self.back) {
            return None;
        }
        let slot = self.front.slot()?;
        self.front.advance();
        Some(self.arena.at(slot))
    }
}

impl DoubleEndedIterator for Cells<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front.is_at(&self.back) || !self.back.retreat() {
            return None;
        }
        self.back.slot().map(|slot| self.arena.at(slot))
    }
}

fn cost(key_bytes: usize, cell: &Cell) -> usize {
    let more = match cell {
        Cell::Live(value) => value.bytes.len(),
        Cell::Gone { end } => end.as_ref().map_or(0, |end| end.len()),
    };
    CELL_OVERHEAD_BYTES + key_bytes + more
}

/// Whether `key` lies before the end of an extent.
pub(crate) fn before_end(key: &[u8], end: Option<&[u8]>) -> bool {
    end.is_none_or(|end| key < end)
}

/// The key right after `key`: nothing sorts between them.
fn successor(key: &[u8]) -> Key {
    let mut after = Vec::with_capacity(key.len() + 1);
    after.extend_from_slice(key);
    after.push(0);
    after.into()
}

#[cfg(test)]
pub(crate) mod tests;
