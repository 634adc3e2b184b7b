//! How much may still be decided on without the log meeting a full disk.
//!
//! A log that needs a segment and finds no room for it has to end: what was decided rests on what cannot be written. So
//! whoever decides asks first. What is *promised* is decided and not in the log yet; it and what is about to be decided
//! must fit into the rest of this segment, or else into the next one, which is there already.
//!
//! ```text
//!   segment 7            left      segment 8, made
//!   |head|F|F|F|F|       .....|    |head| ....................... |
//!                 promised ^ fits here, or as a whole here ^
//! ```
//!
//! What frees room is decided on as long as there is any. Everything else stops while half a segment is left, or the next
//! one is there whole: that is what deletes are written to until the index has them, which lets go of older segments.

use super::{
    FRAMES_START, HEADER_BYTES, RESERVED_BYTES,
    supply::{Next, Supply},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Marks and padding that come between what was promised.
const SLACK_BYTES: u64 = 8 * HEADER_BYTES as u64;
/// After so many refusals it is tried again, whatever the system says about room.
const TRY_AGAIN_AFTER: u32 = 256;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Rations {
    supply: Arc<Supply>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The segment that is written to, its size and what is left of it.
    segment: u64,
    size: u64,
    left: u64,
    /// Bytes of frames that were decided on and are not in the log yet.
    promised: u64,
    /// The last time that no segment could be made.
    starved: Option<Starved>,
}

#[derive(Debug)]
struct Starved {
    /// How large it should have been at least, and what was free.
    bytes: u64,
    free_bytes: u64,
    /// How often that was the answer since.
    refused: u32,
}

impl Rations {
    pub(super) fn new(supply: Arc<Supply>) -> Self {
        Self { supply, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame of `bytes` is on its way.
    pub(crate) fn promise(&self, bytes: usize) {
        self.state().promised += bytes as u64;
    }

    /// It has come.
    pub(super) fn keep(&self, bytes: usize) {
        let mut state = self.state();
        state.promised = state.promised.saturating_sub(bytes as u64);
    }

    /// The log has gone on.
    pub(super) fn note(&self, segment: u64, size: u64, offset: u64) {
        let mut state = self.state();
        (state.segment, state.size) = (segment, size);
        state.left = size.saturating_sub(offset + RESERVED_BYTES + SLACK_BYTES);
    }

    /// Gives up what the log keeps to look back, and nothing needs any more.
    pub(crate) fn release_kept(&self) {
        self.supply.release_kept();
    }

    /// Whether the log has no room for `bytes` beside what is promised. It makes a segment if it must and can.
    pub(crate) fn are_short(&self, bytes: usize, frees: bool) -> bool {
        // The log may turn while this is found out, but not often: what is decided on next waits for the answer.
        for _ in 0..4 {
            let state = self.state();
            let total = state.promised + bytes as u64;
            let fits = total <= state.left;
            if fits && (frees || state.left - total >= state.size / 2) {
                return false;
            }
            let number = state.segment + 1;
            drop(state);
            let bytes_min = FRAMES_START + total + RESERVED_BYTES + SLACK_BYTES;
            let bytes_min = bytes_min.next_multiple_of(FRAMES_START);
            match self.supply.next(number) {
                Next::Ready(size) if fits || size >= bytes_min => return false,
                // The log is about to note that it has turned.
                Next::Begun(size) if size >= bytes_min => return false,
                Next::Begun(_) => continue,
                Next::Coming if fits => return false,
                Next::Broken => return false,
                Next::Ready(_) | Next::Coming | Next::Absent => {}
            }
            if fits && !self.supply.lacks_room() {
                // Whoever writes asks for it in time, unless that has failed before.
                self.supply.want(number, self.next_size());
                if self.supply.next(number) != Next::Absent {
                    return false;
                }
            }
            let bytes_min = if fits { self.supply.options.first_bytes } else { bytes_min };
            if self.is_still_starved(bytes_min) {
                return true;
            }
            if self.supply.prepare(number, bytes_min, self.next_size()).is_err() {
                if !self.supply.lacks_room() {
                    // Whatever it is, the next write meets it too, and tells.
                    return false;
                }
                let free_bytes = self.free_bytes();
                let starved = Starved { bytes: bytes_min, free_bytes, refused: 0 };
                self.state().starved = Some(starved);
                return true;
            }
            self.state().starved = None;
        }
        false
    }

    fn next_size(&self) -> u64 {
        self.supply.size_after(self.state().size)
    }

    fn free_bytes(&self) -> u64 {
        self.supply.disk.room().map_or(0, |room| room.free_bytes)
    }

    /// Whether trying to make a segment would only find again that there is no room.
    fn is_still_starved(&self, bytes_min: u64) -> bool {
        let free_bytes = self.free_bytes();
        let can_reuse = self.supply.has_spare();
        let mut state = self.state();
        let Some(starved) = &mut state.starved else { return false };
        starved.refused += 1;
        let changed = free_bytes != starved.free_bytes && free_bytes >= bytes_min;
        let less = bytes_min < starved.bytes;
        !(changed || less || can_reuse || starved.refused.is_multiple_of(TRY_AGAIN_AFTER))
    }
}
