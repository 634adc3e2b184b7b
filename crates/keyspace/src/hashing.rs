//! A fast hash for tables whose keys are keys of the map: xxh3, seeded anew for each table, so that nobody outside can
//! aim for a crowded place.

use std::hash::{BuildHasher, Hasher, RandomState};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Makes hashers of one seed.
#[derive(Clone, Debug)]
pub(crate) struct Hashing(u64);

impl Default for Hashing {
    fn default() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }
}

impl Hashing {
    /// The hash of `key` alone.
    pub(crate) fn of(&self, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.0)
    }
}

impl BuildHasher for Hashing {
    type Hasher = Hashed;

    fn build_hasher(&self) -> Hashed {
        Hashed(self.0)
    }
}

/// What was hashed so far is the seed of what comes next.
#[derive(Debug)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }
    fn write_usize(&mut self, length: usize) {
        self.0 = self.0.wrapping_add(length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
