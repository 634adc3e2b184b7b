//! How many of one kind there may be at once, so that one of many cannot take the places of all.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

/// Those who are there, by what they have in common.
#[derive(Debug)]
pub(super) struct Crowd<K> {
    most: usize,
    there: Mutex<HashMap<K, usize>>,
}

/// One who is there, until it is dropped.
#[derive(Debug)]
pub(super) struct Member<K: Eq + Hash> {
    crowd: Arc<Crowd<K>>,
    kind: K,
}

impl<K: Eq + Hash + Clone> Crowd<K> {
    /// With at most `most` of one kind.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, there: Mutex::default() })
    }

    /// Lets one more of `kind` in, if there is room.
    pub(super) fn enter(self: &Arc<Self>, kind: K) -> Option<Member<K>> {
        let mut there = self.there.lock().unwrap_or_else(PoisonError::into_inner);
        let count = there.entry(kind.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(there);
        Some(Member { crowd: Arc::clone(self), kind })
    }
}

impl<K: Eq + Hash> Drop for Member<K> {
    fn drop(&mut self) {
        let mut there = self.crowd.there.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = there.get_mut(&self.kind) {
            *count -= 1;
            if *count == 0 {
                there.remove(&self.kind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Crowd;

    #[test]
    fn one_kind_does_not_take_the_places_of_another() {
        let crowd = Crowd::new(2);
        let own = [crowd.enter("a").unwrap(), crowd.enter("a").unwrap()];
        assert!(crowd.enter("a").is_none());
        assert!(crowd.enter("b").is_some());
        drop(own);
        assert!(crowd.enter("a").is_some());
        assert!(crowd.there.lock().unwrap().is_empty());
    }
}
