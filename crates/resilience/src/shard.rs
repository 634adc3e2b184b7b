//! Shuffle sharding: every tenant gets a few cells of many, so that no two tenants share all of theirs.
//!
//! With 16 cells and 4 for each tenant there are 1820 hands of cells. A tenant that ruins its own four shares *all* of
//! them with one other tenant in 1820 (0.055 %); everybody else has at least one healthy cell left and needs only to try
//! it. Cutting the same 16 cells into four fixed shards hurts 25 % of the tenants instead.
//!
//! The hand is a rendezvous draw: every cell has a weight, the hash of tenant and cell, and the k heaviest are dealt. It
//! needs no table, is the same on every node with the same seed, and a cell that goes or comes moves only the tenants
//! that had it or get it.
//!
//! Sources: MacCarthaigh, "Workload isolation using shuffle-sharding" (Amazon Builders' Library); Thaler and
//! Ravishankar, "Using name-based mappings to increase hit rates", 1998.

use crate::dice::mixed;

/// Most cells one tenant can have.
pub const HAND_MAX: usize = 16;

/// How hands are dealt.
///
/// ```
/// use outrigger_resilience::ShuffleShard;
/// let dealt = ShuffleShard::new(4, 7).deal(b"tenant-1", 16);
/// assert_eq!(dealt.as_slice().len(), 4);
/// assert_eq!(dealt, ShuffleShard::new(4, 7).deal(b"tenant-1", 16), "the same everywhere");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShuffleShard {
    size: usize,
    seed: u64,
}

/// The cells of one tenant, the preferred one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hand {
    cells: [u32; HAND_MAX],
    len: usize,
}

impl Hand {
    /// The cells, the preferred one first.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        self.cells.get(..self.len).unwrap_or_default()
    }

    /// How many cells two hands have in common.
    #[must_use]
    pub fn shared_with(&self, other: &Self) -> usize {
        self.as_slice().iter().filter(|cell| other.as_slice().contains(cell)).count()
    }
}

impl ShuffleShard {
    /// Hands of `size` cells (held within 1 and [`HAND_MAX`]). Nodes that must agree use the same seed.
    #[must_use]
    pub fn new(size: usize, seed: u64) -> Self {
        Self { size: size.clamp(1, HAND_MAX), seed }
    }

    /// The hand of `tenant` out of the cells `0..cells`; all of them when there are no more than the hand has.
    #[must_use]
    pub fn deal(&self, tenant: &[u8], cells: u32) -> Hand {
        let tenant = hash(self.seed, tenant);
        let mut weights = [0_u64; HAND_MAX];
        let mut hand = Hand { cells: [0; HAND_MAX], len: 0 };
        for cell in 0..cells {
            // Never 0, so that an empty place always loses.
            let weight = mixed(tenant ^ mixed(u64::from(cell) + 1)) | 1;
            let place = weights.iter().take(hand.len).take_while(|other| **other >= weight).count();
            if place >= self.size {
                continue;
            }
            hand.len = (hand.len + 1).min(self.size);
            // The last one falls out; the others move down by one.
            weights[place..hand.len].rotate_right(1);
            hand.cells[place..hand.len].rotate_right(1);
            weights[place] = weight;
            hand.cells[place] = cell;
        }
        hand
    }
}

/// 64 bits that depend on every bit of `bytes` and `seed`. Not for secrets: whoever knows the seed can make collisions.
///
/// Multiply and fold, as in the wyhash family; bytes are taken eight at a time and the length goes in at the end, so that
/// trailing zeros count.
#[must_use]
pub(crate) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    for word in words {
        state = folded(state ^ u64::from_le_bytes(*word), 0xa076_1d64_78bd_642f);
    }
    let mut last = [0_u8; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    state = folded(state ^ u64::from_le_bytes(last), 0xe703_7ed1_a0b4_28db);
    mixed(state ^ bytes.len() as u64)
}

/// The two halves of the product, laid over each other.
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
    let low = product as u64;
    low ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::{HAND_MAX, ShuffleShard, hash};
    use proptest::prelude::*;

    #[test]
    fn few_share_a_whole_hand() {
        let shard = ShuffleShard::new(4, 11);
        let hands: Vec<_> =
            (0..2_000_u32).map(|tenant| shard.deal(&tenant.to_be_bytes(), 16)).collect();
        let (mut pairs, mut whole) = (0_u32, 0_u32);
        for (index, own) in hands.iter().enumerate() {
            for other in &hands[..index] {
                pairs += 1;
                whole += u32::from(own.shared_with(other) == 4);
            }
        }
        let share = f64::from(whole) / f64::from(pairs);
        assert!((0.0004..0.0007).contains(&share), "expected 0.00055, found {share}");
    }

    #[test]
    fn cells_are_dealt_evenly() {
        let shard = ShuffleShard::new(4, 3);
        let mut dealt = [0_u32; 16];
        for tenant in 0..16_000_u32 {
            for cell in shard.deal(&tenant.to_be_bytes(), 16).as_slice() {
                dealt[*cell as usize] += 1;
            }
        }
        assert!(dealt.iter().all(|times| (3_800..4_200).contains(times)), "{dealt:?}");
    }

    #[test]
    fn trailing_zeros_and_lengths_count() {
        let hashes: std::collections::HashSet<u64> =
            (0..64_usize).map(|len| hash(1, &vec![0; len])).collect();
        assert_eq!(hashes.len(), 64);
    }

    proptest! {
        #[test]
        fn a_hand_is_distinct_and_a_new_cell_moves_at_most_one(tenant: u64, size in 1_usize..=HAND_MAX, cells in 0_u32..64, seed: u64) {
            let shard = ShuffleShard::new(size, seed);
            let before = shard.deal(&tenant.to_be_bytes(), cells);
            prop_assert_eq!(before.as_slice().len(), size.min(cells as usize));
            for (index, cell) in before.as_slice().iter().enumerate() {
                prop_assert!(*cell < cells);
                prop_assert!(!before.as_slice()[..index].contains(cell));
            }
            let after = shard.deal(&tenant.to_be_bytes(), cells + 1);
            prop_assert!(before.shared_with(&after) + 1 >= before.as_slice().len());
        }
    }
}
