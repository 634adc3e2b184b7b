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

use bytes::Bytes;
use imbl::OrdMap;
use outrigger_keyspace::{KeyRange, Value, sequencer::Plan};
use std::{ops::Bound, sync::Arc};

/// A key as layers keep it. Nodes of the map are copied with every group of commits, and so are handles to keys and values:
/// these are the cheapest there are, where [`Bytes`] would allocate for each.
pub(crate) type Key = Arc<[u8]>;

/// What a layer says about a key, or about all keys from one on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// The key has this value.
    Live(Arc<Value>),
    /// Every key from this one up to `end` (excluded) is absent; no `end` means to the end of the map.
    Gone { end: Option<Key> },
}

impl Cell {
    fn is_extent(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }
}

/// What a cell costs in memory beside its key and value: its place in a node of the map, about half full, and an
/// allocation.
const CELL_OVERHEAD_BYTES: usize = 160;

#[derive(Clone, Debug, Default)]
pub(crate) struct Layer {
    cells: OrdMap<Key, Cell>,
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

    /// Roughly the memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// All cells, ordered by where they start.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Cell)> + Clone {
        self.cells.iter()
    }

    /// What the layer says about `key`; `None` when it says nothing.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<&Arc<Value>>> {
        let (start, cell) = self.cells.get_prev(key)?;
        match cell {
            Cell::Live(value) if start[..] == *key => Some(Some(value)),
            Cell::Gone { end } if before_end(key, end.as_deref()) => Some(None),
            _ => None,
        }
    }

    /// The cells that say something about keys in `range`, ordered by where they start. The first may start before the
    /// range and reach into it.
    pub(crate) fn range(&self, range: &KeyRange) -> Cells<'_> {
        let start = match self.cells.get_prev(&range.start[..]) {
            Some((start, Cell::Gone { end })) if before_end(&range.start, end.as_deref()) => {
                &start[..]
            }
            _ => &range.start[..],
        };
        if range.is_empty() {
            // A range that ends before it begins is no range at all to the map.
            let nothing = (Bound::Included(start), Bound::Excluded(start));
            return self.cells.range::<_, [u8]>(nothing);
        }
        let end = range.end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..]));
        self.cells.range::<_, [u8]>((Bound::Included(start), end))
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
        let key = Key::from(&key[..]);
        let value = Value { bytes: Bytes::copy_from_slice(&value.bytes), ..*value };
        self.split_extent_at(&key);
        self.set(key, Cell::Live(Arc::new(value)));
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
                start = start.min(reached);
                end = match (end, its_end) {
                    (Some(end), Some(its_end)) => Some(end.max(its_end)),
                    _ => None,
                };
            }
        }
        self.set(start, Cell::Gone { end });
    }

    /// Lets no extent reach over `key`: what it hid before and after the key stays hidden.
    fn split_extent_at(&mut self, key: &Key) {
        if self.extents == 0 {
            return;
        }
        let Some((start, Cell::Gone { end })) = self.cells.get_prev(&key[..]) else { return };
        if !before_end(key, end.as_deref()) {
            return;
        }
        let (start, end) = (start.clone(), end.clone());
        if start == *key {
            self.unset(&start);
        } else {
            self.set(start, Cell::Gone { end: Some(key.clone()) });
        }
        let after = successor(key);
        if before_end(&after, end.as_deref()) {
            self.set(after, Cell::Gone { end });
        }
    }

    fn set(&mut self, key: Key, cell: Cell) {
        let length = key.len();
        self.bytes += cost(length, &cell);
        self.extents += usize::from(cell.is_extent());
        if let Some(before) = self.cells.insert(key, cell) {
            self.forget(length, &before);
        }
    }

    fn unset(&mut self, key: &Key) -> Option<Cell> {
        let before = self.cells.remove(key)?;
        self.forget(key.len(), &before);
        Some(before)
    }

    fn forget(&mut self, key_bytes: usize, cell: &Cell) {
        self.bytes -= cost(key_bytes, cell);
        self.extents -= usize::from(cell.is_extent());
    }
}

/// Cells of a layer, from either end.
pub(crate) type Cells<'a> =
    imbl::ordmap::RangedIter<'a, Key, Cell, imbl::shared_ptr::DefaultSharedPtr>;

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
