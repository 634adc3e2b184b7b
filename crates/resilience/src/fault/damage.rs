//! What is done to the bytes of an answer: flipped bits, and a slower pace.

use crate::dice::Dice;
use outrigger_kernel::Mono;
use std::time::Duration;

/// Damages a stream of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corruption {
    every: u32,
    dice: Dice,
    /// How many bytes pass before the next one that is damaged.
    next: u64,
}

impl Corruption {
    pub(super) fn new(every: u32, seed: u64) -> Self {
        let mut new = Self { every: every.max(1), dice: Dice(seed), next: 0 };
        new.next = new.gap();
        new
    }

    /// Evenly up to twice the mean, so that damage does not come in step with anything.
    fn gap(&mut self) -> u64 {
        self.dice.next() % (2 * u64::from(self.every)).saturating_sub(1).max(1)
    }

    /// Damages the next bytes of the stream. Answers how many bits were flipped.
    pub fn apply(&mut self, bytes: &mut [u8]) -> usize {
        let (mut at, mut flipped) = (0_usize, 0);
        while let Some(byte) = usize::try_from(self.next).ok().and_then(|n| bytes.get_mut(at + n)) {
            *byte ^= 1 << (self.dice.next() % 8);
            at += self.next as usize + 1;
            flipped += 1;
            self.next = self.gap();
        }
        self.next -= (bytes.len() - at) as u64;
        flipped
    }
}

/// Slows a stream of bytes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub(super) bytes_per_s: u64,
    /// When all that has passed would have passed at this pace.
    due: Mono,
}

impl Pace {
    pub(super) fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), due: Mono(0) }
    }

    /// How long the next `bytes` are to be held back.
    pub fn hold(&mut self, bytes: usize, now: Mono) -> Duration {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_s);
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.due = self.due.max(now).plus(takes);
        self.due.since(now)
    }
}
