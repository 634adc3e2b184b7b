//! One write of the log: a header of 40 bytes, the payload, zeros up to the next multiple of eight.
//!
//! ```text
//!    0  checksum   8   xxh3-64 of everything after it, seeded with `previous` xor the segment's salt
//!    8  place      4   the salt's low half plus the frame's offset: this frame, here, in this segment of this store
//!   12  kind       1   1 opening, 2 plans, 3 mark, 4 turn, 5 close
//!   13  zeros      3
//!   16  length     4   of the payload
//!   20  durable    4   the offset in this segment before which everything was on disk when the frame was written
//!   24  revision   8   of the first plan
//!   32  previous   8   the checksum of the frame before, wherever that stands
//!   40  payload
//! ```
//!
//! Numbers are little-endian. `previous` makes a chain of all frames: one that is left out, or stands there from an
//! earlier life of the file, breaks it. `place` lets a search through the bytes of a damaged segment pass over all that
//! is no frame of this segment without computing a checksum, and keeps a frame that was stored as somebody's value from
//! being taken for one of the log. `durable` tells damage from a torn write: see [`super::recover`].

use super::Position;
use crate::{
    planted::{self, Bug},
    record::{Base, Malformed, decode_plan_after, encode_plan_after},
};
use outrigger_kernel::Wall;
use outrigger_keyspace::sequencer::Plan;
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(crate) const HEADER_BYTES: usize = 40;
/// Where in a header the frame's place stands.
pub(crate) const PLACE_AT: usize = 8;
/// Frames begin at multiples of this.
pub(crate) const ALIGNMENT: usize = 8;
/// Most bytes of one frame's payload, far beyond what one group of commits holds: a step of time that removes four thousand of
/// the longest keys, the largest transaction, and what fits beside them.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A buffer larger than this is given back after its frame is written.
const KEPT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Written when a log is opened; its payload is a random number, so that no two lives of a log share a chain.
    Opening = 1,
    /// Plans.
    Plans = 2,
    /// Says by its `durable` that what is before it is on disk.
    Mark = 3,
    /// The last frame of a segment: the log goes on in the next one.
    Turn = 4,
    /// A mark that was synced itself, before the log was closed.
    Close = 5,
}

/// What a valid frame says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) checksum: u64,
    pub(crate) kind: Kind,
    /// Of the payload.
    pub(crate) length: usize,
    pub(crate) durable: u64,
    pub(crate) revision: u64,
    pub(crate) previous: u64,
}

impl Header {
    /// What the frame takes in its file.
    pub(crate) fn frame_bytes(&self) -> usize {
        frame_bytes(self.length)
    }
}

/// What a frame with a payload of `length` bytes takes in its file.
pub(crate) fn frame_bytes(length: usize) -> usize {
    (HEADER_BYTES + length).next_multiple_of(ALIGNMENT)
}

fn place(salt: u64, offset: u64) -> u32 {
    (salt as u32).wrapping_add(offset as u32)
}

/// Where in `block`, which begins at `block_at` of its segment, the place of a frame stands that would begin
/// [`PLACE_AT`] before.
pub(crate) fn find_place(block: &[u8], salt: u64, block_at: u64) -> Option<u64> {
    let first = block_at - PLACE_AT as u64;
    let mut expected = place(salt, first);
    let words = block.as_chunks::<ALIGNMENT>().0.iter();
    let found = words.into_iter().position(|[a, b, c, d, ..]| {
        let matches = u32::from_le_bytes([*a, *b, *c, *d]) == expected;
        expected = expected.wrapping_add(ALIGNMENT as u32);
        matches
    })?;
    Some(block_at + (found * ALIGNMENT) as u64)
}

/// The length a frame at `offset` claims for its payload, if the bytes look like the header of a frame of this segment.
pub(crate) fn claimed_length(header: &[u8; HEADER_BYTES], salt: u64, offset: u64) -> Option<usize> {
    let looks = number32(header, PLACE_AT) == place(salt, offset)
        && (Kind::Opening as u8..=Kind::Close as u8).contains(&header[12])
        && header[13..16] == [0; 3];
    let length = number32(header, 16) as usize;
    (looks && length <= PAYLOAD_BYTES_MAX).then_some(length)
}

/// What the whole frame `bytes` says about itself, if its checksum holds.
pub(crate) fn verify(bytes: &[u8], salt: u64) -> Option<Header> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    let previous = number64(header, 32);
    let checksum = number64(header, 0);
    let holds = xxh3_64_with_seed(&bytes[8..], previous ^ salt) == checksum;
    if !holds && !planted::is(Bug::SkipFrameChecksum) {
        return None;
    }
    let kind = match header[12] {
        1 => Kind::Opening,
        2 => Kind::Plans,
        3 => Kind::Mark,
        4 => Kind::Turn,
        5 => Kind::Close,
        _ => return None,
    };
    Some(Header {
        checksum,
        kind,
        length: number32(header, 16) as usize,
        durable: u64::from(number32(header, 20)),
        revision: number64(header, 24),
        previous,
    })
}

fn number32(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

fn number64(header: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from(number32(header, at)) | u64::from(number32(header, at + 4)) << 32
}

/// Shows the plans of a payload to `visit`, whose first has `revision`.
pub(crate) fn decode_plans<E: From<Malformed>>(
    payload: &[u8],
    revision: u64,
    visit: &mut dyn FnMut(Plan) -> Result<(), E>,
) -> Result<(), E> {
    let mut rest = payload;
    let mut base = Base { revision, time: Wall(0) };
    while !rest.is_empty() {
        visit(decode_plan_after(&mut rest, &mut base)?)?;
    }
    Ok(())
}

/// The builder of one write. It keeps its buffer, so filling it again costs no allocation.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    /// Room for the header, then the payload.
    bytes: Vec<u8>,
    revision: u64,
    base: Base,
    /// Whether the revisions do not rise.
    unordered: bool,
}

impl Frame {
    /// Adds a plan, whose revision comes after that of the plan before.
    pub(crate) fn push(&mut self, plan: &Plan) {
        if self.is_empty() {
            self.revision = plan.committed.revision;
            self.base = Base { revision: self.revision, time: Wall(0) };
            self.unordered = false;
            self.bytes.resize(HEADER_BYTES, 0);
        } else {
            self.unordered |= plan.committed.revision <= self.base.revision;
        }
        encode_plan_after(plan, &mut self.base, &mut self.bytes);
    }

    /// Whether nothing was added since it was last written.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What it would take in the log.
    pub(crate) fn len(&self) -> usize {
        if self.is_empty() { 0 } else { self.bytes.len().next_multiple_of(ALIGNMENT) }
    }

    /// Forgets what was added.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
    }

    /// A frame of another kind than plans.
    pub(crate) fn note(payload: &[u8]) -> Self {
        let mut frame = Self::default();
        frame.bytes.resize(HEADER_BYTES, 0);
        frame.bytes.extend_from_slice(payload);
        frame
    }

    /// The last revision, if all of them rise and come after `before`.
    pub(crate) fn rises_from(&self, before: u64) -> Option<u64> {
        (!self.unordered && self.revision > before).then_some(self.base.revision)
    }

    /// Its bytes, ready for `at`, and the checksum that the next frame chains on.
    pub(crate) fn seal(
        &mut self,
        kind: Kind,
        at: Position,
        salt: u64,
        durable: u64,
    ) -> (&[u8], u64) {
        let length = self.bytes.len() - HEADER_BYTES;
        self.bytes.resize(frame_bytes(length), 0);
        let header = &mut self.bytes[..HEADER_BYTES];
        header[8..12].copy_from_slice(&place(salt, at.offset).to_le_bytes());
        header[12..16].copy_from_slice(&[kind as u8, 0, 0, 0]);
        header[16..20].copy_from_slice(&(length as u32).to_le_bytes());
        header[20..24].copy_from_slice(&(durable as u32).to_le_bytes());
        header[24..32].copy_from_slice(&self.revision.to_le_bytes());
        header[32..40].copy_from_slice(&at.chain.to_le_bytes());
        let checksum = xxh3_64_with_seed(&self.bytes[8..], at.chain ^ salt);
        self.bytes[..8].copy_from_slice(&checksum.to_le_bytes());
        (&self.bytes, checksum)
    }
}
