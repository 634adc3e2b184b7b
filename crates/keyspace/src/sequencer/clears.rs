//! Ranges that a transaction clears, kept disjoint.

use crate::KeyRange;
use bytes::Bytes;
use std::{collections::BTreeMap, ops::Bound};

/// By where they begin: where they end, `None` for the end of the map.
#[derive(Debug, Default)]
pub(super) struct Clears(BTreeMap<Bytes, Option<Bytes>>);

impl Clears {
    /// Adds a range that is not empty, joined with those it meets.
    pub(super) fn add(&mut self, range: KeyRange) {
        let KeyRange { mut start, mut end } = range;
        if let Some((at, until)) = self.covering(&start) {
            (start, end) = (at.clone(), later(end, until.clone()));
        }
        while let Some((at, until)) = self.next_at(&start).filter(|(at, _)| reaches(&end, at)) {
            let at = at.clone();
            end = later(end, until.clone());
            self.0.remove(&at);
        }
        self.0.insert(start, end);
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.last_at(key).is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < &end[..]))
    }

    pub(super) fn into_ranges(self) -> Vec<KeyRange> {
        self.0.into_iter().map(|(start, end)| KeyRange { start, end }).collect()
    }

    /// The range that `start` lies in, or that ends there.
    fn covering(&self, start: &[u8]) -> Option<(&Bytes, &Option<Bytes>)> {
        self.last_at(start).filter(|(_, end)| reaches(end, start))
    }

    fn last_at(&self, key: &[u8]) -> Option<(&Bytes, &Option<Bytes>)> {
        self.0.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back()
    }

    fn next_at(&self, start: &[u8]) -> Option<(&Bytes, &Option<Bytes>)> {
        self.0.range::<[u8], _>((Bound::Included(start), Bound::Unbounded)).next()
    }
}

/// Whether a range that ends at `end` meets one that begins at `start`.
fn reaches(end: &Option<Bytes>, start: &[u8]) -> bool {
    end.as_ref().is_none_or(|end| start <= &end[..])
}

fn later(a: Option<Bytes>, b: Option<Bytes>) -> Option<Bytes> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
