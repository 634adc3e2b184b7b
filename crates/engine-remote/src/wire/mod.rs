//! What goes over the socket.
//!
//! Both sides begin with eight letters and the version of the protocol, in 12 bytes that no version will ever change; a
//! server that speaks another version says so and hangs up. After that everything is a frame: its length in 4 bytes, little
//! endian, a tag, and what the tag calls for. Requests carry a number that their answer repeats, so answers come in any
//! order. Numbers are varints, byte strings have their length in front, counters and names have a fixed width.
//!
//! Both programs on a socket are the same binary or a neighbouring release of it, and of the same user. Nothing is taken on
//! trust all the same: whatever bytes come, decoding ends with a value within its bounds or an error.

mod answer;
mod codec;
mod request;
#[cfg(test)]
mod tests;

pub(crate) use answer::{Answer, Pulse, PulseStatus};
pub(crate) use codec::{Malformed, frame, take_frame};
pub(crate) use request::{Ask, At, Request, commit, read, watch};

use crate::bounds::FRAME_BYTES_MAX;

/// The version of all that follows the first 12 bytes.
pub(crate) const VERSION: u32 = 1;
/// Bytes of a greeting.
pub(crate) const GREETING_BYTES: usize = 12;

const MAGIC: [u8; 8] = *b"outrigKS";

/// The first bytes of either side.
pub(crate) fn greeting(version: u32) -> [u8; GREETING_BYTES] {
    let mut bytes = [0; GREETING_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..].copy_from_slice(&version.to_le_bytes());
    bytes
}

/// The version that the other side speaks, if it speaks this protocol at all.
pub(crate) fn greeted(bytes: [u8; GREETING_BYTES]) -> Result<u32, Malformed> {
    let [magic @ .., a, b, c, d] = bytes;
    if magic != MAGIC {
        return Err(Malformed("the other side does not speak this protocol"));
    }
    Ok(u32::from_le_bytes([a, b, c, d]))
}

/// Reads `bytes` as either side would: what each frame says, until one says nothing. For those who try all kinds of bytes.
#[doc(hidden)]
pub fn read_anything(bytes: &[u8]) {
    let mut inbox = bytes::BytesMut::from(bytes);
    while let Ok(Some(frame)) = take_frame(&mut inbox) {
        let again = |put: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            put(&mut out);
            out
        };
        if let Ok(request) = Request::take(&frame) {
            let written = again(&|out| request.put(out));
            assert_eq!(Request::take(&written), Ok(request), "read, written, and read differently");
        }
        if let Ok(answer) = Answer::take(&frame) {
            let written = again(&|out| answer.put(out));
            assert_eq!(Answer::take(&written), Ok(answer), "read, written, and read differently");
        }
    }
}
