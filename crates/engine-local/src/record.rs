//! The bytes of a plan and of a value: what stands in the log's frames, in the rows of the index and in backups.
//!
//! Numbers are written seven bits a byte, low bits first ("varint"), with no needless byte at the end, so that every
//! record has exactly one form. What follows from something else is not written: a value's revision is its plan's, and
//! within one frame a plan's revision and time are told as the difference to the plan before.
//!
//! ```text
//!   plan    revision - base | time - base (zigzag) | flags | [id: 16 bytes] | [clears] | changes
//!   clears  count | each: length start | 0, or length + 1 and end
//!   changes count | each: key length * 4 + kind | key | [length, bytes] | [expiry - time (zigzag)]
//!   value   flags | revision | [expiry] | bytes to the end, or in the index: file | at | length | checksum
//! ```
//!
//! A put costs eleven bytes beside its key and value, the second in a frame six.
//!
//! Invariant: a decoder survives any bytes at all. What it takes is bounded by a multiple of its input, and it refuses what
//! an encoder would not have written: a checksum that holds is no reason to trust a length.

use bytes::Bytes;
use outrigger_kernel::Wall;
use outrigger_keyspace::{
    CommitId, Committed, KeyRange, Value,
    sequencer::{Change, Plan},
};

/// Bytes that no encoder has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record is malformed: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// The revision and time that the next plan of a frame is told relative to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Base {
    /// The revision of the plan before, or of the first plan for itself.
    pub(crate) revision: u64,
    /// The time of the plan before; zero for the first.
    pub(crate) time: Wall,
}

const PLAN_HAS_ID: u8 = 1;
const PLAN_HAS_CLEARS: u8 = 2;
const VALUE_HAS_EXPIRY: u8 = 1;
const VALUE_IS_APART: u8 = 2;

/// Most parts that room is reserved for before they are read: a part in memory is larger than its bytes.
const RESERVED_MAX: usize = 1024;

const CHANGE_GONE: u64 = 0;
const CHANGE_LIVE: u64 = 1;
const CHANGE_EXPIRING: u64 = 2;

/// Appends `plan` as it stands alone.
pub(crate) fn encode_plan(plan: &Plan, out: &mut Vec<u8>) {
    encode_plan_after(plan, &mut Base::default(), out);
}

/// Reads a plan that stands alone, to the last byte.
///
/// # Errors
/// When the bytes are not such a plan.
pub(crate) fn decode_plan(bytes: &[u8]) -> Result<Plan, Malformed> {
    let mut rest = bytes;
    let plan = decode_plan_after(&mut rest, &mut Base::default())?;
    if rest.is_empty() { Ok(plan) } else { Err(Malformed("bytes follow a plan that stands alone")) }
}

/// Appends `plan` relative to `base`, and makes it the next base.
pub(crate) fn encode_plan_after(plan: &Plan, base: &mut Base, out: &mut Vec<u8>) {
    let Committed { revision, time } = plan.committed;
    put_number(revision.wrapping_sub(base.revision), out);
    put_number(zigzag(time.0.wrapping_sub(base.time.0)), out);
    *base = Base { revision, time };
    let id_flag = if plan.id.is_some() { PLAN_HAS_ID } else { 0 };
    let clears_flag = if plan.clears.is_empty() { 0 } else { PLAN_HAS_CLEARS };
    out.push(id_flag | clears_flag);
    if let Some(CommitId(id)) = &plan.id {
        out.extend_from_slice(id);
    }
    if !plan.clears.is_empty() {
        put_length(plan.clears.len(), out);
        for KeyRange { start, end } in &plan.clears {
            put_bytes(start, out);
            match end {
                None => put_number(0, out),
                Some(end) => {
                    put_length(end.len() + 1, out);
                    out.extend_from_slice(end);
                }
            }
        }
    }
    put_length(plan.changes.len(), out);
    for Change { key, value } in &plan.changes {
        let kind = match value {
            None => CHANGE_GONE,
            Some(Value { expires_at: None, .. }) => CHANGE_LIVE,
            Some(Value { expires_at: Some(_), .. }) => CHANGE_EXPIRING,
        };
        put_number((key.len() as u64) << 2 | kind, out);
        out.extend_from_slice(key);
        let Some(value) = value else { continue };
        debug_assert_eq!(value.revision, revision, "a value's revision is its plan's");
        put_bytes(&value.bytes, out);
        if let Some(expires_at) = value.expires_at {
            put_number(zigzag(expires_at.0.wrapping_sub(time.0)), out);
        }
    }
}

/// Takes a plan off the front of `bytes`, and makes it the next base.
///
/// # Errors
/// When the bytes do not begin with a plan.
pub(crate) fn decode_plan_after(bytes: &mut &[u8], base: &mut Base) -> Result<Plan, Malformed> {
    let revision = base.revision.wrapping_add(take_number(bytes)?);
    let time = Wall(base.time.0.wrapping_add(unzigzag(take_number(bytes)?)));
    *base = Base { revision, time };
    let flags = take_flags(bytes, PLAN_HAS_ID | PLAN_HAS_CLEARS)?;
    let id = if flags & PLAN_HAS_ID == 0 { None } else { Some(CommitId(take_array(bytes)?)) };
    let clears = if flags & PLAN_HAS_CLEARS == 0 { Vec::new() } else { take_clears(bytes)? };
    let count = take_count(bytes, 1)?;
    let mut changes = Vec::with_capacity(count.min(RESERVED_MAX));
    for _ in 0..count {
        let head = take_number(bytes)?;
        let key = take_copy(bytes, head >> 2)?;
        let kind = head & 3;
        if kind > CHANGE_EXPIRING {
            return Err(Malformed("a change of no known kind"));
        }
        let value = if kind == CHANGE_GONE {
            None
        } else {
            let length = take_number(bytes)?;
            let value = take_copy(bytes, length)?;
            let expires_at = match kind {
                CHANGE_EXPIRING => Some(Wall(time.0.wrapping_add(unzigzag(take_number(bytes)?)))),
                _ => None,
            };
            Some(Value { bytes: value, revision, expires_at })
        };
        changes.push(Change { key, value });
    }
    Ok(Plan { committed: Committed { revision, time }, id, clears, changes })
}

fn take_clears(bytes: &mut &[u8]) -> Result<Vec<KeyRange>, Malformed> {
    let count = take_count(bytes, 2)?;
    if count == 0 {
        return Err(Malformed("a list of no clears"));
    }
    let mut clears = Vec::with_capacity(count.min(RESERVED_MAX));
    for _ in 0..count {
        let length = take_number(bytes)?;
        let start = take_copy(bytes, length)?;
        let end = match take_number(bytes)?.checked_sub(1) {
            None => None,
            Some(length) => Some(take_copy(bytes, length)?),
        };
        clears.push(KeyRange { start, end });
    }
    Ok(clears)
}

/// Appends `value`: its head, then its bytes.
pub(crate) fn encode_value(value: &Value, out: &mut Vec<u8>) {
    encode_head(value.revision, value.expires_at, false, out);
    out.extend_from_slice(&value.bytes);
}

/// Reads a value, whose bytes go to the end.
///
/// # Errors
/// When the bytes do not begin with a value's head.
pub(crate) fn decode_value(bytes: &[u8]) -> Result<Value, Malformed> {
    match decode_stored(bytes)? {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Malformed("a value that stands apart from its record")),
    }
}

/// Where the bytes of a value are that stands apart from its row: in a file of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: u64,
    pub(crate) at: u64,
    pub(crate) bytes: u64,
    pub(crate) checksum: u64,
}

/// Reads what a row of the index says: a value, or all of it but its bytes and where those are.
///
/// # Errors
/// When the bytes do not begin with a value's head.
pub(crate) fn decode_stored(bytes: &[u8]) -> Result<(Value, Option<Place>), Malformed> {
    let (Head { revision, expires_at, is_apart }, mut rest) = decode_head(bytes)?;
    if !is_apart {
        return Ok((Value { bytes: Bytes::copy_from_slice(rest), revision, expires_at }, None));
    }
    let place = Place {
        file: take_number(&mut rest)?,
        at: take_number(&mut rest)?,
        bytes: take_number(&mut rest)?,
        checksum: u64::from_le_bytes(take_array(&mut rest)?),
    };
    if !rest.is_empty() {
        return Err(Malformed("bytes follow a place"));
    }
    Ok((Value { bytes: Bytes::new(), revision, expires_at }, Some(place)))
}

/// Where the bytes of a row's value are, if they stand apart.
pub(crate) fn place_of(payload: &[u8]) -> Option<Place> {
    let is_apart = payload.first().is_some_and(|flags| flags & VALUE_IS_APART != 0);
    if is_apart { decode_stored(payload).ok().and_then(|(_, place)| place) } else { None }
}

/// Appends the row of a value that stands apart.
pub(crate) fn encode_apart(
    revision: u64,
    expires_at: Option<Wall>,
    place: &Place,
    out: &mut Vec<u8>,
) {
    encode_head(revision, expires_at, true, out);
    for number in [place.file, place.at, place.bytes] {
        put_number(number, out);
    }
    out.extend_from_slice(&place.checksum.to_le_bytes());
}

/// Appends what is known of a value beside its bytes.
pub(crate) fn encode_head(
    revision: u64,
    expires_at: Option<Wall>,
    is_apart: bool,
    out: &mut Vec<u8>,
) {
    let apart = if is_apart { VALUE_IS_APART } else { 0 };
    out.push(apart | if expires_at.is_some() { VALUE_HAS_EXPIRY } else { 0 });
    put_number(revision, out);
    if let Some(Wall(at)) = expires_at {
        put_number(at, out);
    }
}

/// What is known of a value beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) revision: u64,
    pub(crate) expires_at: Option<Wall>,
    pub(crate) is_apart: bool,
}

/// Reads what [`encode_head`] wrote, and what follows it.
///
/// # Errors
/// When the bytes do not begin with a value's head.
pub(crate) fn decode_head(bytes: &[u8]) -> Result<(Head, &[u8]), Malformed> {
    let mut rest = bytes;
    let flags = take_flags(&mut rest, VALUE_HAS_EXPIRY | VALUE_IS_APART)?;
    let revision = take_number(&mut rest)?;
    let expires_at = match flags & VALUE_HAS_EXPIRY {
        0 => None,
        _ => Some(Wall(take_number(&mut rest)?)),
    };
    let is_apart = flags & VALUE_IS_APART != 0;
    Ok((Head { revision, expires_at, is_apart }, rest))
}

/// Small differences either way become small numbers.
fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ (0_u64.wrapping_sub(difference >> 63))
}

fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ (0_u64.wrapping_sub(number & 1))
}

fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_length(length: usize, out: &mut Vec<u8>) {
    put_number(length as u64, out);
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn take_byte(bytes: &mut &[u8]) -> Result<u8, Malformed> {
    let (first, rest) = bytes.split_first().ok_or(Malformed("it ends early"))?;
    *bytes = rest;
    Ok(*first)
}

fn take_flags(bytes: &mut &[u8], known: u8) -> Result<u8, Malformed> {
    let flags = take_byte(bytes)?;
    if flags & !known == 0 { Ok(flags) } else { Err(Malformed("an unknown flag")) }
}

fn take_number(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(bytes)?;
        if shift == 63 && byte > 1 {
            break;
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            let needless = byte == 0 && shift > 0;
            return if needless {
                Err(Malformed("a number with a needless byte"))
            } else {
                Ok(number)
            };
        }
    }
    Err(Malformed("a number of more than 64 bits"))
}

/// A count of things that take `each` bytes at least, so that what is reserved for them is bounded by the input.
fn take_count(bytes: &mut &[u8], each: u64) -> Result<usize, Malformed> {
    let count = take_number(bytes)?;
    if count > bytes.len() as u64 / each {
        return Err(Malformed("more parts than bytes"));
    }
    Ok(count as usize)
}

fn take_slice<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(length).map_err(|_| Malformed("it ends early"))?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed("it ends early"))?;
    *bytes = rest;
    Ok(taken)
}

fn take_copy(bytes: &mut &[u8], length: u64) -> Result<Bytes, Malformed> {
    take_slice(bytes, length).map(Bytes::copy_from_slice)
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (taken, rest) = bytes.split_first_chunk::<N>().ok_or(Malformed("it ends early"))?;
    *bytes = rest;
    Ok(*taken)
}

#[cfg(test)]
mod tests;
