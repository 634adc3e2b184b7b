//! What is made of random bits. They come in as an argument, as the time does; nothing here is a source of them.

/// Every bit of the result depends on every bit of the argument: the finalizer of `SplitMix64`.
pub(crate) const fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 64 random bits as a number in `[0, 1)`.
pub(crate) fn unit(random: u64) -> f64 {
    // 53 bits are what an f64 holds exactly, so no draw rounds up to 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let bits = (random >> 11) as f64;
    bits / 9_007_199_254_740_992.0
}

/// More random numbers out of one (`SplitMix64`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        // The high half of the product: as even as a remainder is, and no division.
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    pub(crate) fn unit(&mut self) -> f64 {
        unit(self.next())
    }
}
