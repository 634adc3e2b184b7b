//! A limit for each of many keys: per app, route, caller, API key.
//!
//! Keys come from outside, so whoever calls decides how many there are, and the memory must not grow with them. This is a
//! table of a fixed size, made of sets of eight places, like a processor's cache. A key's hash says which set; within it
//! the places are looked through.
//!
//! * A key with nothing held against it equals an absent one. Its place is free without anybody freeing it.
//! * When all eight places of a set are in use, the key with the *least* held against it is forgotten. So whoever floods
//!   the table with keys forgets his own, each used once, long before the one that was at its limit; that one keeps its debt.
//! * Keys are kept as 64-bit hashes with a seed. Two keys share a limit with probability n/2^64 for n keys in use.
//!
//! Twice as many places are kept as keys asked for; then, with as many keys in use as asked for, about one key in a hundred
//! finds its set full. 48 bytes per key, reserved at the start, touched when used; no allocation afterwards. 16 shards, each with a short
//! lock.

use super::{Algorithm, Decision, Quota, gcra, window::Counters};
use crate::shard::hash;
use outrigger_kernel::Mono;
use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Most keys a limiter can be asked to remember.
pub const KEYS_MAX: usize = 16 * 1024 * 1024;

const SHARDS: usize = 16;
const SET: usize = 8;

/// A limit for each of many keys.
///
/// ```
/// use outrigger_kernel::Mono;
/// use outrigger_resilience::{Algorithm, KeyedRateLimiter, Quota};
/// use std::time::Duration;
///
/// let quota = Quota::new(1, Duration::from_secs(1));
/// let limiter = KeyedRateLimiter::new(Algorithm::Gcra, quota, 1_000, 42);
/// assert!(limiter.decide(&["orders", "alice"], 1, Mono(0)).allowed);
/// assert!(!limiter.decide(&["orders", "alice"], 1, Mono(0)).allowed);
/// assert!(limiter.decide(&["orders", "bob"], 1, Mono(0)).allowed);
/// ```
pub struct KeyedRateLimiter {
    algorithm: Algorithm,
    quota: Quota,
    seed: u64,
    sets: usize,
    shards: Box<[Mutex<Vec<Place>>]>,
    forgotten: AtomicU64,
}

/// The key's hash, never 0, and the words of its state.
type Place = [u64; 3];

impl KeyedRateLimiter {
    /// For about `keys` keys at a time (held within 128 and [`KEYS_MAX`]). The seed should be random, so that nobody outside
    /// can choose keys that meet in one set.
    #[must_use]
    pub fn new(algorithm: Algorithm, quota: Quota, keys: usize, seed: u64) -> Self {
        let sets = (keys.clamp(128, KEYS_MAX) * 2).div_ceil(SHARDS * SET);
        let shards = (0..SHARDS).map(|_| Mutex::new(vec![[0; 3]; sets * SET])).collect();
        Self { algorithm, quota, seed, sets, shards, forgotten: AtomicU64::new(0) }
    }

    /// What holds for each key.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// Whether a call worth `cost` ordinary ones may be made for this key; counts it if so. The key may have several parts,
    /// say route and caller; the same bytes cut elsewhere are another key.
    pub fn decide(&self, key: &[&str], cost: u32, now: Mono) -> Decision {
        self.with(self.hashed(key), now, |algorithm, quota, place| match algorithm {
            Algorithm::Gcra => {
                let (next, decision) = gcra(place[1], quota, cost, now);
                place[1] = next.unwrap_or(place[1]);
                decision
            }
            Algorithm::SlidingWindow => {
                let mut counters = Counters::from_words(place[1], place[2]);
                let decision = counters.decide(quota, cost, now);
                (place[1], place[2]) = counters.words();
                decision
            }
        })
    }

    /// Takes back what an allowed call was counted for.
    pub fn refund(&self, key: &[&str], cost: u32, now: Mono) {
        self.with(self.hashed(key), now, |algorithm, quota, place| match algorithm {
            Algorithm::Gcra => {
                let back = quota.step_ns().saturating_mul(cost.into());
                place[1] = place[1].saturating_sub(back).max(now.0.min(place[1]));
            }
            Algorithm::SlidingWindow => {
                let mut counters = Counters::from_words(place[1], place[2]);
                counters.refund(cost);
                (place[1], place[2]) = counters.words();
            }
        });
    }

    /// How many keys were forgotten although something was held against them: a sign that there are more than it was made
    /// for.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Relaxed)
    }

    /// How many places the table has; it never has more.
    #[must_use]
    pub fn places(&self) -> usize {
        self.sets * SET * SHARDS
    }

    fn hashed(&self, key: &[&str]) -> u64 {
        let seed = self.seed ^ key.len() as u64;
        // The lowest bit is given up so that no key looks like an empty place.
        key.iter().fold(seed, |state, part| hash(state, part.as_bytes())) | 1
    }

    fn with<R>(
        &self,
        key: u64,
        now: Mono,
        work: impl FnOnce(Algorithm, Quota, &mut Place) -> R,
    ) -> R {
        let mut other = [0; 3];
        let shard = usize::try_from(key >> 60).unwrap_or_default();
        let Some(shard) = self.shards.get(shard) else {
            return work(self.algorithm, self.quota, &mut other);
        };
        // The bits below the shard's, scaled to the number of sets.
        let set = (u128::from(key << 4) * self.sets as u128) >> 64;
        let first = usize::try_from(set).unwrap_or_default() * SET;
        let mut places = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(set) = places.get_mut(first..first + SET) else {
            return work(self.algorithm, self.quota, &mut other);
        };
        let known = set.iter().position(|place| place[0] == key);
        let index = known.unwrap_or_else(|| self.vacate(set, key, now));
        work(self.algorithm, self.quota, set.get_mut(index).unwrap_or(&mut other))
    }

    /// Gives the key a place of the set: a free one, or that of the least debt.
    fn vacate(&self, set: &mut [Place], key: u64, now: Mono) -> usize {
        let debts = set.iter().map(|place| self.debt(place, now)).enumerate();
        let Some((index, debt)) = debts.min_by_key(|(_, debt)| *debt) else { return 0 };
        if debt > 0 {
            self.forgotten.fetch_add(1, Relaxed);
        }
        if let Some(place) = set.get_mut(index) {
            *place = [key, 0, 0];
        }
        index
    }

    fn debt(&self, place: &Place, now: Mono) -> u64 {
        match self.algorithm {
            _ if place[0] == 0 => 0,
            Algorithm::Gcra => place[1].saturating_sub(now.0),
            Algorithm::SlidingWindow => {
                Counters::from_words(place[1], place[2]).debt(self.quota, now)
            }
        }
    }
}

impl fmt::Debug for KeyedRateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyedRateLimiter({:?}, {} places)", self.quota, self.places())
    }
}
