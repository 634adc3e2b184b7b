//! Which keys a table may hold: a Bloom filter whose bits for one key lie in one line of the processor's cache.
//!
//! It answers "certainly not" for all but about one in a hundred of the keys that are not there, so that a lookup reads
//! from the runs that hold the key and hardly from any other.

/// Bits per key.
const BITS_PER_KEY: usize = 12;
/// A line is so many words of 32 bits; a key sets one bit in each.
const LINE_WORDS: usize = 8;
pub(super) const LINE_BYTES: usize = LINE_WORDS * 4;
/// Odd numbers that spread a hash over the words of a line.
const SALTS: [u32; LINE_WORDS] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// What a filter remembers of a key.
pub(super) fn hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// The filter of the keys with these hashes.
pub(super) fn build(hashes: &[u64]) -> Vec<u8> {
    let lines = (hashes.len() * BITS_PER_KEY).div_ceil(LINE_BYTES * 8).max(1);
    let mut filter = vec![0; lines * LINE_BYTES];
    for &hash in hashes {
        let line = line_of(hash, lines);
        for (word, mask) in masks(hash).enumerate() {
            let at = line * LINE_BYTES + word * 4;
            for (byte, bits) in filter[at..at + 4].iter_mut().zip(mask.to_le_bytes()) {
                *byte |= bits;
            }
        }
    }
    filter
}

/// Whether a key with this hash may be among those of `filter`.
pub(super) fn may_hold(filter: &[u8], hash: u64) -> bool {
    let lines = filter.len() / LINE_BYTES;
    let at = line_of(hash, lines) * LINE_BYTES;
    let Some(line) = filter.get(at..at + LINE_BYTES) else { return true };
    line.chunks_exact(4).zip(masks(hash)).all(|(word, mask)| {
        let word = word.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        word & mask == mask
    })
}

/// The upper half chooses the line, without a division.
fn line_of(hash: u64, lines: usize) -> usize {
    usize::try_from(((hash >> 32) * lines as u64) >> 32).unwrap_or(0)
}

/// The lower half chooses a bit in each word.
fn masks(hash: u64) -> impl Iterator<Item = u32> {
    let low = u32::try_from(hash & u64::from(u32::MAX)).unwrap_or(0);
    SALTS.into_iter().map(move |salt| 1 << (low.wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_knows_its_keys_and_few_others() {
        let hashes: Vec<u64> = (0..10_000_u32).map(|n| hash(&n.to_be_bytes())).collect();
        let filter = build(&hashes);
        assert!(hashes.iter().all(|&hash| may_hold(&filter, hash)));
        let others = (10_000..110_000_u32).filter(|n| may_hold(&filter, hash(&n.to_be_bytes())));
        let wrong = others.count();
        assert!(wrong < 1_500, "{wrong} of 100,000 were wrong");
    }

    #[test]
    fn an_empty_filter_knows_nothing() {
        assert!(!may_hold(&build(&[]), hash(b"a")));
    }
}
