//! The watches in their files. One cell per watched range; see the head of [`super`].

use super::slot::Slot;
use crate::{KeyRange, hashing::Hashing};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    ops::Bound,
    sync::Arc,
};

/// Which cell.
pub(super) type Place = usize;

#[derive(Default)]
pub(super) struct Filed {
    /// Cells by place; the free ones are listed in `free`.
    cells: Vec<Option<Cell>>,
    free: Vec<Place>,
    by_prefix: HashMap<Bytes, Vec<Place>, Hashing>,
    /// The prefixes in order.
    prefixes: BTreeSet<Bytes>,
    /// How many prefixes are filed, by their length.
    lengths: BTreeMap<usize, usize>,
    /// Cells that the call under way touches. Kept for its room.
    touched: Vec<Place>,
}

struct Cell {
    range: KeyRange,
    watches: Vec<Arc<Slot>>,
    /// The last revision of the call under way that touches it; 0 otherwise.
    touched: u64,
}

impl Filed {
    pub(super) fn is_empty(&self) -> bool {
        self.by_prefix.is_empty()
    }

    /// How many things it holds room for: cells, watches, prefixes, and what a call under way may note.
    #[cfg(test)]
    pub(super) fn room(&self) -> [usize; 4] {
        let watches = self.cells.iter().flatten().map(|cell| cell.watches.capacity()).sum();
        [self.cells.capacity(), watches, self.prefixes.len(), self.touched.capacity()]
    }

    pub(super) fn file(&mut self, range: KeyRange, slot: Arc<Slot>) -> Place {
        let prefix = common_prefix(&range);
        let Self { cells, by_prefix, .. } = self;
        let same = |place: &&Place| cells[**place].as_ref().is_some_and(|c| c.range == range);
        let found = by_prefix.get(&prefix).and_then(|places| places.iter().find(same)).copied();
        let place = found.unwrap_or_else(|| self.add(prefix, range));
        if let Some(cell) = &mut self.cells[place] {
            cell.watches.push(slot);
        }
        place
    }

    fn add(&mut self, prefix: Bytes, range: KeyRange) -> Place {
        let cell = Some(Cell { range, watches: Vec::with_capacity(1), touched: 0 });
        let place = match self.free.pop() {
            Some(place) => {
                self.cells[place] = cell;
                place
            }
            None => {
                self.cells.push(cell);
                self.cells.len() - 1
            }
        };
        if self.prefixes.insert(prefix.clone()) {
            *self.lengths.entry(prefix.len()).or_default() += 1;
        }
        self.by_prefix.entry(prefix).or_insert_with(|| Vec::with_capacity(1)).push(place);
        place
    }

    /// Forgets a watch, and its cell with the last one.
    pub(super) fn remove(&mut self, place: Place, slot: &Arc<Slot>) {
        let Some(Some(cell)) = self.cells.get_mut(place) else { return };
        cell.watches.retain(|watch| !Arc::ptr_eq(watch, slot));
        if !cell.watches.is_empty() {
            return;
        }
        let prefix = common_prefix(&cell.range);
        self.cells[place] = None;
        self.free.push(place);
        let Some(places) = self.by_prefix.get_mut(&prefix) else { return };
        places.retain(|filed| *filed != place);
        if !places.is_empty() {
            return;
        }
        self.by_prefix.remove(&prefix);
        self.prefixes.remove(&prefix);
        if let Some(count) = self.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    pub(super) fn touch_key(&mut self, revision: u64, key: &[u8]) {
        let Self { cells, by_prefix, lengths, touched, .. } = self;
        for (&length, _) in lengths.range(..=key.len()) {
            for &place in by_prefix.get(&key[..length]).into_iter().flatten() {
                touch(cells, touched, place, revision, |range| range.contains(key));
            }
        }
    }

    /// A range reaches into a prefix when it begins with it or when the prefix lies in it.
    pub(super) fn touch_range(&mut self, revision: u64, cleared: &KeyRange) {
        if cleared.is_empty() {
            return;
        }
        let Self { cells, by_prefix, prefixes, lengths, touched, .. } = self;
        let start = &cleared.start[..];
        let above =
            lengths.range(..start.len()).filter_map(|(&length, _)| by_prefix.get(&start[..length]));
        let end = cleared.end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..]));
        let inside = prefixes.range::<[u8], _>((Bound::Included(start), end));
        let inside = inside.filter_map(|prefix| by_prefix.get(prefix));
        for &place in above.chain(inside).flatten() {
            touch(cells, touched, place, revision, |range| {
                !range.is_empty() && range.intersects(cleared)
            });
        }
    }

    pub(super) fn wake_touched(&mut self) {
        for place in self.touched.drain(..) {
            let Some(Some(cell)) = self.cells.get_mut(place) else { continue };
            let revision = std::mem::take(&mut cell.touched);
            for watch in &cell.watches {
                watch.raise(revision);
            }
        }
    }
}

fn touch(
    cells: &mut [Option<Cell>],
    touched: &mut Vec<Place>,
    place: Place,
    revision: u64,
    is_hit: impl Fn(&KeyRange) -> bool,
) {
    let Some(Some(cell)) = cells.get_mut(place) else { return };
    if cell.touched < revision && is_hit(&cell.range) {
        if cell.touched == 0 {
            touched.push(place);
        }
        cell.touched = revision;
    }
}

impl fmt::Debug for Filed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = self.cells.len() - self.free.len();
        write!(f, "Registry({cells} ranges, {} prefix lengths)", self.lengths.len())
    }
}

/// The longest prefix that every key in `range` begins with.
pub(super) fn common_prefix(range: &KeyRange) -> Bytes {
    let start = &range.start;
    let Some(end) = &range.end else {
        // Without an end only a run of ff at the start is common to all: nothing sorts after it.
        let run = start.iter().take_while(|byte| **byte == 0xff).count();
        return start.slice(..run);
    };
    let mut length = start.iter().zip(end.iter()).take_while(|(a, b)| a == b).count();
    // An end that is the successor of a prefix (`ab`..`ac`) excludes exactly what does not begin with that prefix; ff
    // has no successor of its own, so it belongs to the prefix too (`a ff`..`b`).
    let successor = end.len() == length + 1
        && start.get(length).is_some_and(|byte| byte.checked_add(1) == Some(end[length]));
    if successor {
        length += 1;
        length += start[length..].iter().take_while(|byte| **byte == 0xff).count();
    }
    start.slice(..length)
}
