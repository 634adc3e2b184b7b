//! Numbers, byte strings and frames.

use super::FRAME_BYTES_MAX;
use bytes::{Buf, Bytes, BytesMut};
use outrigger_kernel::Wall;
use outrigger_keyspace::KeyRange;

/// Bytes that mean nothing, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

const LENGTH_BYTES: usize = 4;

/// Appends a frame whose contents `fill` writes.
pub(crate) fn frame(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    fill(out);
    let length = out.len() - start - LENGTH_BYTES;
    // What is written here was bounded before; the other side would refuse what was not.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
}

/// The next frame in `inbox`, if it has come as a whole. Where it has not, there is room for more of it.
pub(crate) fn take_frame(inbox: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
    let Some(length) = inbox.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(Malformed("a frame is longer than any can be"));
    }
    if inbox.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    inbox.advance(LENGTH_BYTES);
    Ok(Some(inbox.split_to(length).freeze()))
}

pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn put_length(out: &mut Vec<u8>, length: usize) {
    put_number(out, u64::try_from(length).unwrap_or(u64::MAX));
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Cuts what is too long for an error's text.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let end = text.floor_char_boundary(crate::bounds::TEXT_BYTES_MAX);
    put_bytes(out, &text.as_bytes()[..end]);
}

pub(super) fn put_expiry(out: &mut Vec<u8>, expires_at: Option<Wall>) {
    match expires_at {
        None => out.push(0),
        Some(at) => {
            out.push(1);
            put_number(out, at.0);
        }
    }
}

pub(super) fn put_range(out: &mut Vec<u8>, range: &KeyRange) {
    put_bytes(out, &range.start);
    match &range.end {
        None => out.push(0),
        Some(end) => {
            out.push(1);
            put_bytes(out, end);
        }
    }
}

/// What is left to read of a frame.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed("a frame ends too early"))?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed("a number has more than 64 bits"))
    }

    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, rest) =
            self.0.split_first_chunk::<N>().ok_or(Malformed("a frame ends too early"))?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn slice(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if length > self.0.len() {
            return Err(Malformed("a byte string is longer than its frame"));
        }
        let (slice, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(slice)
    }

    /// A copy of its own: a slice would keep the whole frame for as long as one key of it is kept.
    pub(super) fn bytes(&mut self) -> Result<Bytes, Malformed> {
        self.slice().map(Bytes::copy_from_slice)
    }

    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        self.slice().map(|text| String::from_utf8_lossy(text).into_owned())
    }

    pub(super) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("a flag is neither 0 nor 1")),
        }
    }

    pub(super) fn expiry(&mut self) -> Result<Option<Wall>, Malformed> {
        if self.flag()? { self.number().map(|at| Some(Wall(at))) } else { Ok(None) }
    }

    pub(super) fn range(&mut self) -> Result<KeyRange, Malformed> {
        let start = self.bytes()?;
        let end = if self.flag()? { Some(self.bytes()?) } else { None };
        Ok(KeyRange { start, end })
    }

    /// A list of at most `max` items. Room is made only for what the frame can hold.
    pub(super) fn list<T>(
        &mut self,
        max: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if count > max || count > self.0.len() {
            return Err(Malformed("a list is longer than it can be"));
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("a frame goes on after its end")) }
    }
}
