//! Going along the chain of frames, and searching the bytes behind its end for frames that are not part of it.

use super::{
    LogError, Position,
    frame::{self, Header},
    segment::{FRAMES_START, PIECE_BYTES, SegmentReader},
};
use outrigger_kernel::disk::Disk;
use std::sync::Arc;

const BLOCK_BYTES: usize = 4096;
static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// The sound frame at `offset` of a segment, whatever it chains on.
pub(crate) fn frame_at(
    segment: &mut SegmentReader,
    offset: u64,
) -> Result<Option<Header>, LogError> {
    let room = segment.header.bytes.saturating_sub(offset);
    let salt = segment.salt;
    match claim_at(segment, offset)? {
        Some(length) if frame::frame_bytes(length) as u64 <= room => {
            let bytes = segment.bytes(offset, frame::frame_bytes(length))?;
            Ok(frame::verify(bytes, salt))
        }
        _ => Ok(None),
    }
}

/// The payload length claimed at `offset`, if the bytes there look like a frame of this segment, sound or not.
pub(crate) fn claim_at(
    segment: &mut SegmentReader,
    offset: u64,
) -> Result<Option<usize>, LogError> {
    if segment.header.bytes.saturating_sub(offset) < frame::HEADER_BYTES as u64 {
        return Ok(None);
    }
    let salt = segment.salt;
    let header = segment.bytes(offset, frame::HEADER_BYTES)?.first_chunk();
    Ok(header.and_then(|header| frame::claimed_length(header, salt, offset)))
}

/// Goes from frame to frame.
#[derive(Debug)]
pub(crate) struct Walker {
    disk: Arc<dyn Disk>,
    store_id: [u8; 16],
    pub(crate) segment: SegmentReader,
    /// Where the next frame should stand.
    pub(crate) at: Position,
}

impl Walker {
    /// A walker whose next frame is the one at `at`.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        store_id: [u8; 16],
        at: Position,
    ) -> Result<Self, LogError> {
        let segment = SegmentReader::open(&*disk, store_id, at.segment)?;
        Ok(Self { disk, store_id, segment, at })
    }

    /// The frame that goes on here, if it is sound and chains on the one before.
    pub(crate) fn look(&mut self) -> Result<Option<Header>, LogError> {
        let found = frame_at(&mut self.segment, self.at.offset)?;
        Ok(found.filter(|header| header.previous == self.at.chain))
    }

    /// The payload of the frame that was seen here.
    pub(crate) fn payload(&mut self, header: &Header) -> Result<&[u8], LogError> {
        self.segment.bytes(self.at.offset + frame::HEADER_BYTES as u64, header.length)
    }

    /// Goes behind the frame that was seen here.
    pub(crate) fn pass(&mut self, header: &Header) {
        self.at.offset += header.frame_bytes() as u64;
        self.at.chain = header.checksum;
    }

    /// Opens another segment of the same log.
    pub(crate) fn segment_at(&self, number: u64) -> Result<SegmentReader, LogError> {
        SegmentReader::open(&*self.disk, self.store_id, number)
    }

    /// Goes on in the next segment, behind a frame that says so. Nothing but what an earlier life has left may follow it.
    pub(crate) fn turn(&mut self) -> Result<(), LogError> {
        let next = self.segment_at(self.at.segment + 1)?;
        if remains(&mut self.segment, self.at.offset)?.is_some() {
            let what = "the segment ends here, yet something follows";
            return Err(LogError::damaged(&self.segment.name, self.at.offset, what));
        }
        self.at = Position { segment: self.at.segment + 1, offset: FRAMES_START, ..self.at };
        self.segment = next;
        Ok(())
    }
}

/// Where what was written to a segment from `from` on ends, if anything was.
///
/// In a file that was used before only what looks like a frame right at `from` can be told from what an earlier life left.
pub(crate) fn remains(segment: &mut SegmentReader, from: u64) -> Result<Option<u64>, LogError> {
    if segment.header.used_before {
        let claim = claim_at(segment, from)?;
        let end = claim.map(|length| from + frame::frame_bytes(length) as u64);
        return Ok(end.map(|end| end.min(segment.header.bytes)));
    }
    let mut end = None;
    let mut at = from;
    while at < segment.header.bytes {
        let piece = (segment.header.bytes - at).min(PIECE_BYTES as u64) as usize;
        let bytes = segment.bytes(at, piece)?;
        for (index, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            if block != &ZEROS[..block.len()] {
                let last = block.iter().rposition(|byte| *byte != 0).unwrap_or(0);
                let after = (index * BLOCK_BYTES + last + 1).next_multiple_of(frame::ALIGNMENT);
                end = Some(at + after as u64);
            }
        }
        at += piece as u64;
    }
    Ok(end)
}

/// Shows the sound frames of a segment from `from` on, whatever they chain on.
pub(crate) fn search(
    segment: &mut SegmentReader,
    from: u64,
    visit: &mut dyn FnMut(Header),
) -> Result<(), LogError> {
    let mut at = from;
    while let Some(candidate) = next_candidate(segment, at)? {
        at = candidate + frame::ALIGNMENT as u64;
        if let Some(header) = frame_at(segment, candidate)? {
            at = candidate + header.frame_bytes() as u64;
            visit(header);
        }
    }
    Ok(())
}

/// Shows the offsets of whatever looks like a frame of this segment from `from` on, sound or not.
pub(crate) fn search_claims(
    segment: &mut SegmentReader,
    from: u64,
    visit: &mut dyn FnMut(u64),
) -> Result<(), LogError> {
    let mut at = from;
    while let Some(candidate) = next_candidate(segment, at)? {
        at = candidate + frame::ALIGNMENT as u64;
        if claim_at(segment, candidate)?.is_some() {
            visit(candidate);
        }
    }
    Ok(())
}

/// The first offset from `from` on at which something looks like a frame.
fn next_candidate(segment: &mut SegmentReader, from: u64) -> Result<Option<u64>, LogError> {
    let (salt, size) = (segment.salt, segment.header.bytes);
    // A frame is known by its place, in the second word of its header. That word is never zero: the kind stands in it too.
    let mut at = from + frame::PLACE_AT as u64;
    while at < size {
        let piece = (size - at).min(PIECE_BYTES as u64) as usize;
        let bytes = segment.bytes(at, piece)?;
        for (index, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            if block == &ZEROS[..block.len()] {
                continue;
            }
            let block_at = at + (index * BLOCK_BYTES) as u64;
            if let Some(found) = frame::find_place(block, salt, block_at) {
                return Ok(Some(found - frame::PLACE_AT as u64));
            }
        }
        at += piece as u64;
    }
    Ok(None)
}
