//! A run of writes in the order they were made: one piece of the [`super::window::Window`].
//!
//! Keys lie end to end in one buffer, so that noting one costs a copy of its bytes and walking them is fast.

use crate::KeyRange;
use bytes::Bytes;
use std::collections::VecDeque;

/// A slice that has reached one of these is full; it may be past the second by a key or an end of a range. Tests see
/// many slices.
const ENTRIES_MAX: usize = if cfg!(test) { 8 } else { 4_096 };
const BYTES_MAX: usize = 1024 * 1024;
/// A full slice that was walked so often is sorted: by then walking has cost as much as sorting will.
const WALKS_MAX: u32 = 16;

#[derive(Debug, Default)]
pub(super) struct Slice {
    bytes: Vec<u8>,
    keys: Vec<Key>,
    clears: Vec<(u64, KeyRange)>,
    /// Whether each entry that is not forgotten yet is a clear.
    order: VecDeque<bool>,
    forgotten_keys: usize,
    last: u64,
    /// Of a full slice: its clears, disjoint and by their start.
    merged: Vec<KeyRange>,
    full: bool,
    walks: u32,
    sorted: Option<Box<[u32]>>,
}

#[derive(Debug)]
struct Key {
    end: usize,
    hash: u64,
    revision: u64,
}

impl Slice {
    pub(super) fn push_key(&mut self, revision: u64, hash: u64, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.keys.push(Key { end: self.bytes.len(), hash, revision });
        self.order.push_back(false);
        self.last = revision;
    }

    pub(super) fn push_clear(&mut self, revision: u64, clear: &KeyRange) {
        // Copies of their own: an end may be a slice that keeps a large request alive.
        let own = |end: &Bytes| Bytes::copy_from_slice(end);
        let clear = KeyRange { start: own(&clear.start), end: clear.end.as_ref().map(own) };
        self.clears.push((revision, clear));
        self.order.push_back(true);
        self.last = revision;
    }

    pub(super) fn is_full(&self) -> bool {
        self.keys.len() + self.clears.len() >= ENTRIES_MAX || self.bytes.len() >= BYTES_MAX
    }

    /// Called when it is full.
    pub(super) fn seal(&mut self) {
        self.full = true;
        let clears = self.clears.iter().map(|(_, clear)| clear.clone()).collect();
        self.merged = disjoint(clears);
    }

    /// The last revision in it; 0 when it is empty.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Whether all of its entries are forgotten.
    pub(super) fn is_spent(&self) -> bool {
        self.order.is_empty()
    }

    /// Forgets the oldest entry that is not forgotten yet; answers its hash if it is a key. What is forgotten may still
    /// be found: nobody is judged who read before it.
    pub(super) fn forget_first(&mut self) -> Option<u64> {
        if self.order.pop_front()? {
            return None;
        }
        let key = self.keys.get(self.forgotten_keys)?;
        self.forgotten_keys += 1;
        Some(key.hash)
    }

    /// Whether a clear newer than `since` took `key`.
    pub(super) fn has_cleared(&self, key: &[u8], since: u64) -> bool {
        if self.full && self.is_wholly_after(since) {
            let before = self.merged.partition_point(|clear| clear.start <= *key);
            return before.checked_sub(1).is_some_and(|i| self.merged[i].contains(key));
        }
        self.clears_after(since).iter().any(|(_, clear)| clear.contains(key))
    }

    /// Whether anything in `range`, which is not empty, was written after `since`.
    pub(super) fn has_changed(&mut self, range: &KeyRange, since: u64) -> bool {
        if self.full && self.is_wholly_after(since) {
            return self.has_cleared_in(range) || self.has_key_in(range);
        }
        self.clears_after(since).iter().any(|(_, clear)| clear.intersects(range))
            || self.walk(self.keys.partition_point(|key| key.revision <= since), range)
    }

    fn is_wholly_after(&self, since: u64) -> bool {
        self.keys.first().is_none_or(|key| key.revision > since)
            && self.clears.first().is_none_or(|(revision, _)| *revision > since)
    }

    fn clears_after(&self, since: u64) -> &[(u64, KeyRange)] {
        &self.clears[self.clears.partition_point(|(revision, _)| *revision <= since)..]
    }

    fn has_cleared_in(&self, range: &KeyRange) -> bool {
        // The first that ends after the range begins: if that one begins after the range ends, all others do too.
        let ends_before = |clear: &KeyRange| clear.end.as_ref().is_some_and(|e| *e <= range.start);
        let first = self.merged.partition_point(ends_before);
        self.merged.get(first).is_some_and(|clear| clear.intersects(range))
    }

    fn has_key_in(&mut self, range: &KeyRange) -> bool {
        self.walks = self.walks.saturating_add(1);
        if self.walks < WALKS_MAX {
            return self.walk(0, range);
        }
        if self.sorted.is_none() {
            let mut sorted: Box<[u32]> = (0_u32..).take(self.keys.len()).collect();
            sorted.sort_unstable_by(|a, b| self.at(*a).cmp(self.at(*b)));
            self.sorted = Some(sorted);
        }
        let sorted = self.sorted.as_deref().unwrap_or_default();
        let first = sorted.partition_point(|index| self.at(*index) < &range.start[..]);
        sorted.get(first).is_some_and(|index| range.contains(self.at(*index)))
    }

    fn walk(&self, from: usize, range: &KeyRange) -> bool {
        let mut start = self.start_of(from);
        self.keys[from..].iter().any(|key| {
            let bytes = &self.bytes[start..key.end];
            start = key.end;
            range.contains(bytes)
        })
    }

    fn at(&self, index: u32) -> &[u8] {
        let index = index as usize;
        &self.bytes[self.start_of(index)..self.keys[index].end]
    }

    fn start_of(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.keys[before].end)
    }
}

/// The same keys by ranges that do not touch, by their start.
fn disjoint(mut ranges: Vec<KeyRange>) -> Vec<KeyRange> {
    ranges.sort_unstable();
    let mut merged: Vec<KeyRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.end.as_ref().is_none_or(|end| range.start <= *end) => {
                let later = |end: &Bytes| last.end.as_ref().is_some_and(|last| end > last);
                if range.end.as_ref().is_none_or(later) && last.end.is_some() {
                    last.end = range.end;
                }
            }
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests;
