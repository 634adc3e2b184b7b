//! Where answers are kept: a map with a bound on entries and bytes that keeps what is asked for again.
//!
//! ```text
//!   new ---> SMALL (a tenth) --- asked for again ---> MAIN --- asked for lately ---> back to its end
//!               |                                      |
//!               | never asked for                      | not
//!               v                                      v
//!             GHOST: only its hash; comes back straight into MAIN
//! ```
//!
//! Most new entries are never asked for a second time; they leave by the small queue and cannot push out what is. That
//! is S3-FIFO (Yang and others, SOSP 2023): three queues, two bits per entry, no list to reorder on a hit, and hit rates
//! of the best. An entry heavier than the small queue may be goes in all the same, but not beyond the whole.
//!
//! Spread over up to sixteen locks by key, each with its share of the bounds.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What a store may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreBounds {
    /// How many entries; at least 1.
    pub entries_max: usize,
    /// How many bytes, as the entries' weights say.
    pub bytes_max: usize,
}

impl Default for StoreBounds {
    fn default() -> Self {
        Self { entries_max: 10_000, bytes_max: 64 << 20 }
    }
}

/// What an entry weighs beside its own bytes: its places in map and queue.
const ENTRY_BYTES: usize = 128;

/// A bounded map.
///
/// ```
/// use outrigger_resilience::cache::{Store, StoreBounds};
///
/// let store = Store::new(StoreBounds { entries_max: 2, bytes_max: 1 << 20 });
/// store.put("a", 1, 10);
/// store.put("b", 2, 10);
/// assert_eq!(store.get("a"), Some(1));
/// store.put("c", 3, 10);
/// assert_eq!((store.get("a"), store.get("b"), store.len()), (Some(1), None, 2));
/// ```
pub struct Store<K, V> {
    hasher: RandomState,
    shards: Box<[Mutex<Shard<K, V>>]>,
}

struct Shard<K, V> {
    bounds: StoreBounds,
    entries: HashMap<K, Entry<V>>,
    small: Queue<K>,
    main: Queue<K>,
    /// Hashes of what left by the small queue.
    ghost: VecDeque<u64>,
    next: u64,
}

struct Entry<V> {
    value: V,
    bytes: usize,
    /// How often it was asked for lately, up to 3.
    asked: u8,
    is_main: bool,
    /// Its place in the queue, which goes void when the entry is removed.
    place: u64,
}

struct Queue<K> {
    places: VecDeque<(u64, K)>,
    entries: usize,
    bytes: usize,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { places: VecDeque::new(), entries: 0, bytes: 0 }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Store<K, V> {
    /// An empty store.
    #[must_use]
    pub fn new(bounds: StoreBounds) -> Self {
        // Few entries in many shards would be evicted by chance.
        let count = (bounds.entries_max / 512).clamp(1, 16);
        let shard = |_| {
            Mutex::new(Shard {
                bounds: StoreBounds {
                    entries_max: (bounds.entries_max / count).max(1),
                    bytes_max: bounds.bytes_max / count,
                },
                entries: HashMap::new(),
                small: Queue::default(),
                main: Queue::default(),
                ghost: VecDeque::new(),
                next: 0,
            })
        };
        Self { hasher: RandomState::new(), shards: (0..count).map(shard).collect() }
    }

    /// The value of `key`.
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let mut shard = self.shard(self.hasher.hash_one(key));
        let entry = shard.entries.get_mut(key)?;
        entry.asked = (entry.asked + 1).min(3);
        Some(entry.value.clone())
    }

    /// Keeps a value of `bytes`. Answers whether it is kept: one heavier than the bound is not, nor what it would replace.
    pub fn put(&self, key: K, value: V, bytes: usize) -> bool {
        self.put_if(key, value, bytes, || true)
    }

    /// The same if `wanted` says so, which is asked in the same step: no removal comes between.
    pub fn put_if(&self, key: K, value: V, bytes: usize, wanted: impl FnOnce() -> bool) -> bool {
        let hash = self.hasher.hash_one(&key);
        let bytes = bytes.saturating_add(ENTRY_BYTES);
        let mut shard = self.shard(hash);
        if !wanted() {
            return false;
        }
        if bytes > shard.bounds.bytes_max {
            shard.remove(&key);
            return false;
        }
        shard.put(key, hash, value, bytes);
        shard.evict(|key| self.hasher.hash_one(key));
        true
    }

    /// Removes the value of `key`.
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.shard(self.hasher.hash_one(key)).remove(key)
    }

    /// Removes everything.
    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.entries.clear();
            (shard.small, shard.main) = (Queue::default(), Queue::default());
        }
    }

    /// How many entries it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sum(|shard| shard.entries.len())
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes it holds, with what entries cost by themselves.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.sum(|shard| shard.small.bytes + shard.main.bytes)
    }

    fn sum(&self, of: impl Fn(&Shard<K, V>) -> usize) -> usize {
        let shards = self.shards.iter();
        shards.map(|shard| of(&shard.lock().unwrap_or_else(PoisonError::into_inner))).sum()
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard<K, V>> {
        // The map inside uses the low bits, so that shards go by the high ones.
        let shard = &self.shards[(hash >> 48) as usize % self.shards.len()];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash, V> Shard<K, V> {
    fn queue(&mut self, is_main: bool) -> &mut Queue<K> {
        if is_main { &mut self.main } else { &mut self.small }
    }

    fn put(&mut self, key: K, hash: u64, value: V, bytes: usize) {
        if let Some(entry) = self.entries.get_mut(&key) {
            let (is_main, before) = (entry.is_main, entry.bytes);
            (entry.value, entry.bytes) = (value, bytes);
            let queue = self.queue(is_main);
            queue.bytes = queue.bytes - before + bytes;
            return;
        }
        let is_main = self.ghost.contains_recent(hash);
        self.next += 1;
        let place = self.next;
        self.entries.insert(key.clone(), Entry { value, bytes, asked: 0, is_main, place });
        let queue = self.queue(is_main);
        queue.places.push_back((place, key));
        queue.entries += 1;
        queue.bytes += bytes;
    }

    fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let entry = self.entries.remove(key)?;
        let queue = self.queue(entry.is_main);
        queue.entries -= 1;
        queue.bytes -= entry.bytes;
        // Void places are passed over when their turn comes; not more than half may be.
        if queue.places.len() > 2 * queue.entries + 16 {
            let mut places = std::mem::take(&mut queue.places);
            places.retain(|(place, key)| {
                self.entries.get(key.borrow()).is_some_and(|entry| entry.place == *place)
            });
            self.queue(entry.is_main).places = places;
        }
        Some(entry.value)
    }

    fn is_over(&self) -> bool {
        self.entries.len() > self.bounds.entries_max
            || self.small.bytes + self.main.bytes > self.bounds.bytes_max
    }

    fn evict(&mut self, hash: impl Fn(&K) -> u64) {
        while self.is_over() {
            let small_is_full = self.small.entries * 10 >= self.bounds.entries_max
                || self.small.bytes * 10 >= self.bounds.bytes_max;
            let from_small = self.main.entries == 0 || (small_is_full && self.small.entries > 0);
            let Some((place, key)) = self.queue(!from_small).places.pop_front() else { return };
            let current = self.entries.get_mut(&key).filter(|entry| entry.place == place);
            let Some(entry) = current else { continue };
            let bytes = entry.bytes;
            if entry.asked == 0 {
                if from_small {
                    self.ghost.remember(hash(&key), self.bounds.entries_max);
                }
                self.entries.remove(&key);
            } else {
                entry.asked = if from_small { 0 } else { entry.asked - 1 };
                entry.is_main = true;
                self.main.places.push_back((place, key));
                self.main.entries += 1;
                self.main.bytes += bytes;
            }
            let queue = self.queue(!from_small);
            queue.entries -= 1;
            queue.bytes -= bytes;
        }
    }
}

/// The queue of what was there before.
trait Ghosts {
    fn contains_recent(&self, hash: u64) -> bool;
    fn remember(&mut self, hash: u64, most: usize);
}

impl Ghosts for VecDeque<u64> {
    fn contains_recent(&self, hash: u64) -> bool {
        // The latest first; beyond a few hundred the look costs more than the place is worth.
        self.iter().rev().take(256).any(|other| *other == hash)
    }

    fn remember(&mut self, hash: u64, most: usize) {
        while self.len() >= most.clamp(1, 256) {
            self.pop_front();
        }
        self.push_back(hash);
    }
}

impl<K, V> fmt::Debug for Store<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({} shards)", self.shards.len())
    }
}

#[cfg(test)]
mod tests {
    use super::{ENTRY_BYTES, Store, StoreBounds};
    use proptest::prelude::*;

    fn store(entries_max: usize, bytes_max: usize) -> Store<u64, u64> {
        Store::new(StoreBounds { entries_max, bytes_max })
    }

    #[test]
    fn a_scan_does_not_push_out_what_is_used() {
        let store = store(100, 1 << 20);
        for key in 0..50 {
            store.put(key, key, 0);
            store.get(&key);
        }
        (1_000..3_000).for_each(|key| assert!(store.put(key, key, 0)));
        let kept = (0..50).filter(|key| store.get(key).is_some()).count();
        assert_eq!(kept, 50);
        assert!(store.len() <= 100);
    }

    #[test]
    fn what_is_no_longer_used_goes_in_the_end() {
        let store = store(100, 1 << 20);
        for key in 0..1_000 {
            store.put(key, key, 0);
            store.get(&key);
        }
        assert!((0..800).all(|key| store.get(&key).is_none()));
    }

    #[test]
    fn bytes_are_bounded_and_giants_refused() {
        let store = store(100, 10_000);
        assert!(!store.put(1, 1, 10_001));
        assert!(store.put(1, 1, 9_000));
        assert!(store.put(2, 2, 9_000));
        assert_eq!((store.get(&1), store.get(&2)), (None, Some(2)));
        assert!(store.put(2, 3, 100));
        assert_eq!(store.bytes(), 100 + ENTRY_BYTES);
        assert!(!store.put(2, 4, 10_001), "a value too heavy must not leave the old one behind");
        assert_eq!((store.get(&2), store.bytes()), (None, 0));
    }

    #[test]
    fn putting_and_removing_leaves_nothing_behind() {
        let store = store(100, 1 << 20);
        for key in 0..100_000 {
            store.put(key % 50, key, 10);
            store.remove(&(key % 50));
        }
        let shard = store.shards[0].lock().unwrap();
        assert!(shard.small.places.len() + shard.main.places.len() < 64);
        assert_eq!((shard.small.bytes, shard.main.bytes), (0, 0));
    }

    proptest! {
        #[test]
        fn bounds_hold_and_values_are_the_last_put(
            steps in proptest::collection::vec((0_u8..4, 0_u64..40, 0_usize..2_000), 1..400),
        ) {
            let store = store(16, 8_000);
            let mut model = std::collections::HashMap::new();
            for (n, (what, key, bytes)) in (0_u64..).zip(steps) {
                match what {
                    0 => { store.remove(&key); model.remove(&key); }
                    1 => prop_assert!(store.get(&key).is_none_or(|value| model.get(&key) == Some(&value))),
                    _ => { store.put(key, n, bytes); model.insert(key, n); }
                }
                prop_assert!(store.len() <= 16 && store.bytes() <= 8_000);
            }
            let shard = store.shards[0].lock().unwrap();
            let bytes: usize = shard.entries.values().map(|entry| entry.bytes).sum();
            prop_assert_eq!(bytes, shard.small.bytes + shard.main.bytes);
            prop_assert_eq!(shard.entries.len(), shard.small.entries + shard.main.entries);
        }
    }
}
