//! A disk that a test owns: it keeps the weak promises of [`outrigger_kernel::disk`] and breaks everything else.
//!
//! ```text
//!   SimDisk --write, sync, rename ..--> State  current: what reads see          durable: what a power cut leaves
//!      |  \                                    pending: changes since the sync, each may last, be lost or be torn
//!      |   \--every step--> Tape --moment(n)--> Moment --crash(Survivors)--> SimDisk   power cut after step n
//!      |                                               \--kill()-----------> SimDisk   process killed after step n
//!      \--Trouble: a sync fails or lies, a write stops half-way, a read fails, the disk is full
//! ```
//!
//! One run of a workload is enough to try every crash in it: the [`Tape`] holds each step, so the state after any of
//! them can be had again, and from it any image that a power cut may leave.
//!
//! The invariants: the same steps, survivors and seed give the same bytes; a change that was synced honestly is in
//! every image; within one sector (and within the length of one file) a change never lasts without the one before it,
//! because a page cache writes whole sectors.

mod content;
mod handles;
mod state;
mod survivors;
mod tape;
mod trouble;

#[cfg(test)]
mod tests;

pub use handles::SimDisk;
pub use survivors::Survivors;
pub use tape::{Moment, Step, Tape};
pub use trouble::{Kind, Trouble};

/// What a disk writes whole, in bytes: the smallest piece of a torn write.
pub const SECTOR_BYTES: usize = 512;

/// What a page cache writes whole, in bytes: the usual piece of a torn write.
pub const PAGE_BYTES: usize = 4_096;

/// SplitMix64 (Steele, Lea, Flood 2014): the next number of the stream at `state`.
pub(super) fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    crate::mix(*state)
}
