//! What a server says: answers, each with the number of its request, and news that nobody asked for.

use super::codec::{Malformed, Reader, put_bytes, put_expiry, put_length, put_number, put_text};
use crate::bounds::MANY_KEYS_MAX;
use outrigger_kernel::Wall;
use outrigger_keyspace::{CommitError, Committed, Entry, Page, ReadError, Value, limits};

/// What comes from a server. `revision` is the snapshot's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Pinned {
        id: u64,
        revision: u64,
    },
    Value {
        id: u64,
        revision: u64,
        value: Option<Value>,
    },
    /// Values of the first keys asked for; those that did not fit are to be asked for again.
    Values {
        id: u64,
        revision: u64,
        values: Vec<Option<Value>>,
    },
    Page {
        id: u64,
        revision: u64,
        page: Page,
    },
    /// The snapshot is not pinned here, or no longer.
    Gone {
        id: u64,
    },
    ReadFailed {
        id: u64,
        error: ReadError,
    },
    Committed {
        id: u64,
        committed: Committed,
    },
    CommitFailed {
        id: u64,
        error: CommitError,
    },
    Copied {
        id: u64,
        revision: u64,
    },
    Changed {
        watch: u64,
        revision: u64,
    },
    Pulse(Pulse),
    /// Instead of the first pulse: the connection is refused.
    Refused {
        why: String,
    },
    /// The server leaves. What it has read is answered, and it reads nothing more.
    Leaving,
}

/// What the engine has come to. The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pulse {
    pub(crate) now: Wall,
    pub(crate) revision: u64,
    pub(crate) status: Option<PulseStatus>,
}

/// The part of an engine's status that costs something to find out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PulseStatus {
    pub(crate) durable: bool,
    pub(crate) disk_bytes: u64,
    pub(crate) failed: Option<String>,
}

const PINNED: u8 = 1;
const VALUE: u8 = 2;
const VALUES: u8 = 3;
const PAGE: u8 = 4;
const GONE: u8 = 5;
const READ_FAILED: u8 = 6;
const COMMITTED: u8 = 7;
const COMMIT_FAILED: u8 = 8;
const COPIED: u8 = 9;
const CHANGED: u8 = 10;
const PULSE: u8 = 11;
const REFUSED: u8 = 12;
const LEAVING: u8 = 13;

impl Answer {
    /// Which request this answers, if any.
    pub(crate) fn id_of(frame: &[u8]) -> Result<Option<u64>, Malformed> {
        let mut reader = Reader(frame);
        match reader.byte()? {
            PINNED..=COPIED => reader.number().map(Some),
            _ => Ok(None),
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let mut head = |tag: u8, numbers: &[u64]| {
            out.push(tag);
            numbers.iter().for_each(|number| put_number(out, *number));
        };
        match self {
            Self::Pinned { id, revision } => head(PINNED, &[*id, *revision]),
            Self::Value { id, revision, value } => {
                head(VALUE, &[*id, *revision]);
                put_value(out, value.as_ref());
            }
            Self::Values { id, revision, values } => {
                head(VALUES, &[*id, *revision]);
                put_length(out, values.len());
                values.iter().for_each(|value| put_value(out, value.as_ref()));
            }
            Self::Page { id, revision, page } => {
                head(PAGE, &[*id, *revision]);
                put_length(out, page.entries.len());
                for Entry { key, value } in &page.entries {
                    put_bytes(out, key);
                    put_present(out, value);
                }
                out.push(u8::from(page.more));
            }
            Self::Gone { id } => head(GONE, &[*id]),
            Self::ReadFailed { id, error } => {
                head(READ_FAILED, &[*id]);
                put_read_error(out, error);
            }
            Self::Committed { id, committed } => {
                head(COMMITTED, &[*id, committed.revision, committed.time.0]);
            }
            Self::CommitFailed { id, error } => {
                head(COMMIT_FAILED, &[*id]);
                put_commit_error(out, error);
            }
            Self::Copied { id, revision } => head(COPIED, &[*id, *revision]),
            Self::Changed { watch, revision } => head(CHANGED, &[*watch, *revision]),
            Self::Pulse(pulse) => {
                head(PULSE, &[pulse.now.0, pulse.revision]);
                put_status(out, pulse.status.as_ref());
            }
            Self::Refused { why } => {
                head(REFUSED, &[]);
                put_text(out, why);
            }
            Self::Leaving => head(LEAVING, &[]),
        }
    }

    pub(crate) fn take(frame: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(frame);
        let tag = reader.byte()?;
        let answer = match tag {
            PULSE => Self::Pulse(Pulse {
                now: Wall(reader.number()?),
                revision: reader.number()?,
                status: take_status(&mut reader)?,
            }),
            REFUSED => Self::Refused { why: reader.text()? },
            LEAVING => Self::Leaving,
            CHANGED => Self::Changed { watch: reader.number()?, revision: reader.number()? },
            _ => {
                let id = reader.number()?;
                take_answer(tag, id, &mut reader)?
            }
        };
        reader.end()?;
        Ok(answer)
    }
}

fn take_answer(tag: u8, id: u64, reader: &mut Reader<'_>) -> Result<Answer, Malformed> {
    match tag {
        GONE => return Ok(Answer::Gone { id }),
        READ_FAILED => {
            return take_read_error(reader).map(|error| Answer::ReadFailed { id, error });
        }
        COMMIT_FAILED => {
            return take_commit_error(reader).map(|error| Answer::CommitFailed { id, error });
        }
        _ => {}
    }
    let revision = reader.number()?;
    Ok(match tag {
        PINNED => Answer::Pinned { id, revision },
        VALUE => Answer::Value { id, revision, value: take_value(reader)? },
        VALUES => {
            let values = reader.list(MANY_KEYS_MAX, take_value)?;
            Answer::Values { id, revision, values }
        }
        PAGE => {
            let entries = reader.list(limits::PAGE_ENTRIES_MAX, |reader| {
                Ok(Entry { key: reader.bytes()?, value: take_present(reader)? })
            })?;
            Answer::Page { id, revision, page: Page { entries, more: reader.flag()? } }
        }
        COMMITTED => {
            let committed = Committed { revision, time: Wall(reader.number()?) };
            Answer::Committed { id, committed }
        }
        COPIED => Answer::Copied { id, revision },
        _ => return Err(Malformed("there is no such answer")),
    })
}

fn put_value(out: &mut Vec<u8>, value: Option<&Value>) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            put_present(out, value);
        }
    }
}

fn put_present(out: &mut Vec<u8>, value: &Value) {
    put_number(out, value.revision);
    put_expiry(out, value.expires_at);
    put_bytes(out, &value.bytes);
}

fn take_value(reader: &mut Reader<'_>) -> Result<Option<Value>, Malformed> {
    if reader.flag()? { take_present(reader).map(Some) } else { Ok(None) }
}

fn take_present(reader: &mut Reader<'_>) -> Result<Value, Malformed> {
    let (revision, expires_at) = (reader.number()?, reader.expiry()?);
    Ok(Value { bytes: reader.bytes()?, revision, expires_at })
}

fn put_status(out: &mut Vec<u8>, status: Option<&PulseStatus>) {
    let Some(PulseStatus { durable, disk_bytes, failed }) = status else { return out.push(0) };
    out.push(1);
    out.push(u8::from(*durable));
    put_number(out, *disk_bytes);
    match failed {
        None => out.push(0),
        Some(why) => {
            out.push(1);
            put_text(out, why);
        }
    }
}

fn take_status(reader: &mut Reader<'_>) -> Result<Option<PulseStatus>, Malformed> {
    if !reader.flag()? {
        return Ok(None);
    }
    let (durable, disk_bytes) = (reader.flag()?, reader.number()?);
    let failed = if reader.flag()? { Some(reader.text()?) } else { None };
    Ok(Some(PulseStatus { durable, disk_bytes, failed }))
}

fn put_read_error(out: &mut Vec<u8>, error: &ReadError) {
    let (tag, text) = match error {
        ReadError::Damaged(text) => (0, text),
        ReadError::Unavailable(text) => (1, text),
    };
    out.push(tag);
    put_text(out, text);
}

fn take_read_error(reader: &mut Reader<'_>) -> Result<ReadError, Malformed> {
    match reader.byte()? {
        0 => reader.text().map(ReadError::Damaged),
        1 => reader.text().map(ReadError::Unavailable),
        _ => Err(Malformed("there is no such reason")),
    }
}

fn put_commit_error(out: &mut Vec<u8>, error: &CommitError) {
    let mut number = |tag: u8, number: u64| {
        out.push(tag);
        put_number(out, number);
    };
    let size = |bytes: &usize| u64::try_from(*bytes).unwrap_or(u64::MAX);
    let (tag, text) = match error {
        CommitError::Conflict => return number(0, 0),
        CommitError::TooOld { read } => return number(1, *read),
        CommitError::KeyEmpty => return number(2, 0),
        CommitError::KeyTooLong { bytes } => return number(3, size(bytes)),
        CommitError::ValueTooLarge { bytes } => return number(4, size(bytes)),
        CommitError::TransactionTooLarge { bytes } => return number(5, size(bytes)),
        CommitError::TooManyStamped { count } => return number(6, size(count)),
        CommitError::NotACounter => return number(7, 0),
        CommitError::Full(text) => (8, text),
        CommitError::Unavailable(text) => (9, text),
        CommitError::Unknown(text) => (10, text),
    };
    out.push(tag);
    put_text(out, text);
}

fn take_commit_error(reader: &mut Reader<'_>) -> Result<CommitError, Malformed> {
    let tag = reader.byte()?;
    match tag {
        8 => return reader.text().map(CommitError::Full),
        9 => return reader.text().map(CommitError::Unavailable),
        10 => return reader.text().map(CommitError::Unknown),
        _ => {}
    }
    let number = reader.number()?;
    let bytes = usize::try_from(number).unwrap_or(usize::MAX);
    Ok(match tag {
        0 => CommitError::Conflict,
        1 => CommitError::TooOld { read: number },
        2 => CommitError::KeyEmpty,
        3 => CommitError::KeyTooLong { bytes },
        4 => CommitError::ValueTooLarge { bytes },
        5 => CommitError::TransactionTooLarge { bytes },
        6 => CommitError::TooManyStamped { count: bytes },
        7 => CommitError::NotACounter,
        _ => return Err(Malformed("there is no such reason")),
    })
}
