//! What a client asks for. The larger requests are written from what the client lends; a server gets [`Request`].

use super::codec::{Malformed, Reader, put_bytes, put_expiry, put_length, put_number, put_range};
use crate::bounds::{ITEMS_MAX, MANY_KEYS_MAX, PATH_BYTES_MAX};
use bytes::Bytes;
use outrigger_keyspace::{
    CommitId, Direction, Durability, KeyRange, Level, Transaction, Write, limits,
};

/// A request as a server has it. `id` is repeated by the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Read { id: u64, snapshot: u64, at: At, ask: Ask },
    Commit { id: u64, resent: Option<u64>, transaction: Box<Transaction> },
    Watch { watch: u64, tell: bool, range: KeyRange },
    Unwatch { watch: u64 },
    Release { snapshot: u64 },
    Cancel { id: u64 },
    Pulse { status: bool },
    Checkpoint { id: u64, path: Vec<u8> },
}

/// Where a read takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// On the snapshot as it was pinned by an earlier read.
    Pinned,
    /// The same; where no earlier read has pinned it, this one does.
    Fresh(Level),
}

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Nothing: the snapshot is pinned, that is all.
    Pin,
    Get(Bytes),
    Many(Vec<Bytes>),
    Scan {
        range: KeyRange,
        limit: usize,
        direction: Direction,
    },
}

const READ: u8 = 1;
const COMMIT: u8 = 2;
const WATCH: u8 = 3;
const UNWATCH: u8 = 4;
const RELEASE: u8 = 5;
const CANCEL: u8 = 6;
const PULSE: u8 = 7;
const CHECKPOINT: u8 = 8;

/// Writes a read.
pub(crate) fn read(out: &mut Vec<u8>, id: u64, snapshot: u64, at: At, ask: &Ask) {
    out.push(READ);
    put_number(out, id);
    put_number(out, snapshot);
    match at {
        At::Pinned => out.push(0),
        At::Fresh(Level::Linearizable) => out.push(1),
        At::Fresh(Level::AtLeast(revision)) => {
            out.push(2);
            put_number(out, revision);
        }
        At::Fresh(Level::Local) => out.push(3),
    }
    match ask {
        Ask::Pin => out.push(0),
        Ask::Get(key) => {
            out.push(1);
            put_bytes(out, key);
        }
        Ask::Many(keys) => {
            out.push(2);
            put_length(out, keys.len());
            keys.iter().for_each(|key| put_bytes(out, key));
        }
        Ask::Scan { range, limit, direction } => {
            out.push(match direction {
                Direction::Forward => 3,
                Direction::Backward => 4,
            });
            put_range(out, range);
            put_length(out, *limit);
        }
    }
}

/// Writes a commit. One that may have been sent before says which revision its client knew of then.
pub(crate) fn commit(out: &mut Vec<u8>, id: u64, resent: Option<u64>, transaction: &Transaction) {
    // All fields by name: a new one must find its place here.
    let Transaction {
        read_revision,
        read_keys,
        read_ranges,
        writes,
        makes_room,
        id: name,
        durability,
    } = transaction;
    out.push(COMMIT);
    put_number(out, id);
    let relaxed = match durability {
        Durability::Flush => 0,
        Durability::Relaxed => 2,
    };
    let flags = u8::from(*makes_room) | relaxed | u8::from(name.is_some()) << 2;
    out.push(flags | u8::from(resent.is_some()) << 3);
    if let Some(name) = name {
        out.extend_from_slice(&name.0);
    }
    if let Some(known) = resent {
        put_number(out, known);
    }
    put_number(out, *read_revision);
    put_length(out, read_keys.len());
    read_keys.iter().for_each(|key| put_bytes(out, key));
    put_length(out, read_ranges.len());
    read_ranges.iter().for_each(|range| put_range(out, range));
    put_length(out, writes.len());
    writes.iter().for_each(|write| put_write(out, write));
}

/// Writes a watch; with `tell` it is answered at once with the revision reached.
pub(crate) fn watch(out: &mut Vec<u8>, watch: u64, tell: bool, range: &KeyRange) {
    out.push(WATCH);
    put_number(out, watch);
    out.push(u8::from(tell));
    put_range(out, range);
}

fn put_write(out: &mut Vec<u8>, write: &Write) {
    match write {
        Write::Put { key, value, expires_at } => {
            out.push(0);
            put_bytes(out, key);
            put_bytes(out, value);
            put_expiry(out, *expires_at);
        }
        Write::Delete { key } => {
            out.push(1);
            put_bytes(out, key);
        }
        Write::DeleteRange { range } => {
            out.push(2);
            put_range(out, range);
        }
        Write::Add { key, delta } => {
            out.push(3);
            put_bytes(out, key);
            out.extend_from_slice(&delta.to_le_bytes());
        }
        Write::PutStamped { prefix, suffix, value, expires_at } => {
            out.push(4);
            put_bytes(out, prefix);
            put_bytes(out, suffix);
            put_bytes(out, value);
            put_expiry(out, *expires_at);
        }
    }
}

fn take_write(reader: &mut Reader<'_>) -> Result<Write, Malformed> {
    Ok(match reader.byte()? {
        0 => Write::Put {
            key: reader.bytes()?,
            value: reader.bytes()?,
            expires_at: reader.expiry()?,
        },
        1 => Write::Delete { key: reader.bytes()? },
        2 => Write::DeleteRange { range: reader.range()? },
        3 => Write::Add { key: reader.bytes()?, delta: i64::from_le_bytes(reader.fixed()?) },
        4 => Write::PutStamped {
            prefix: reader.bytes()?,
            suffix: reader.bytes()?,
            value: reader.bytes()?,
            expires_at: reader.expiry()?,
        },
        _ => return Err(Malformed("there is no such write")),
    })
}

impl Request {
    /// Writes the small requests, and the others by means of the functions above.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Read { id, snapshot, at, ask } => read(out, *id, *snapshot, *at, ask),
            Self::Commit { id, resent, transaction } => commit(out, *id, *resent, transaction),
            Self::Watch { watch: id, tell, range } => watch(out, *id, *tell, range),
            Self::Unwatch { watch } => {
                out.push(UNWATCH);
                put_number(out, *watch);
            }
            Self::Release { snapshot } => {
                out.push(RELEASE);
                put_number(out, *snapshot);
            }
            Self::Cancel { id } => {
                out.push(CANCEL);
                put_number(out, *id);
            }
            Self::Pulse { status } => {
                out.push(PULSE);
                out.push(u8::from(*status));
            }
            Self::Checkpoint { id, path } => {
                out.push(CHECKPOINT);
                put_number(out, *id);
                put_bytes(out, path);
            }
        }
    }

    /// What a frame asks for.
    pub(crate) fn take(frame: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(frame);
        let request = match reader.byte()? {
            READ => Self::Read {
                id: reader.number()?,
                snapshot: reader.number()?,
                at: take_at(&mut reader)?,
                ask: take_ask(&mut reader)?,
            },
            COMMIT => take_commit(&mut reader)?,
            WATCH => Self::Watch {
                watch: reader.number()?,
                tell: reader.flag()?,
                range: reader.range()?,
            },
            UNWATCH => Self::Unwatch { watch: reader.number()? },
            RELEASE => Self::Release { snapshot: reader.number()? },
            CANCEL => Self::Cancel { id: reader.number()? },
            PULSE => Self::Pulse { status: reader.flag()? },
            CHECKPOINT => {
                let (id, path) = (reader.number()?, reader.slice()?);
                if path.len() > PATH_BYTES_MAX {
                    return Err(Malformed("a path is longer than any can be"));
                }
                Self::Checkpoint { id, path: path.to_vec() }
            }
            _ => return Err(Malformed("there is no such request")),
        };
        reader.end()?;
        Ok(request)
    }
}

fn take_at(reader: &mut Reader<'_>) -> Result<At, Malformed> {
    Ok(match reader.byte()? {
        0 => At::Pinned,
        1 => At::Fresh(Level::Linearizable),
        2 => At::Fresh(Level::AtLeast(reader.number()?)),
        3 => At::Fresh(Level::Local),
        _ => return Err(Malformed("there is no such level")),
    })
}

fn take_ask(reader: &mut Reader<'_>) -> Result<Ask, Malformed> {
    let ask = reader.byte()?;
    let direction = match ask {
        0 => return Ok(Ask::Pin),
        1 => return reader.bytes().map(Ask::Get),
        2 => return reader.list(MANY_KEYS_MAX, Reader::bytes).map(Ask::Many),
        3 => Direction::Forward,
        4 => Direction::Backward,
        _ => return Err(Malformed("there is no such read")),
    };
    let range = reader.range()?;
    // More than a page never comes, whatever is asked for.
    let limit = usize::try_from(reader.number()?).unwrap_or(usize::MAX);
    Ok(Ask::Scan { range, limit: limit.min(limits::PAGE_ENTRIES_MAX), direction })
}

fn take_commit(reader: &mut Reader<'_>) -> Result<Request, Malformed> {
    let id = reader.number()?;
    let flags = reader.byte()?;
    if flags > 0b1111 {
        return Err(Malformed("there is no such flag"));
    }
    let name = if flags & 4 != 0 { Some(CommitId(reader.fixed()?)) } else { None };
    let resent = if flags & 8 != 0 { Some(reader.number()?) } else { None };
    let transaction = Transaction {
        read_revision: reader.number()?,
        read_keys: reader.list(ITEMS_MAX, Reader::bytes)?,
        read_ranges: reader.list(ITEMS_MAX, Reader::range)?,
        writes: reader.list(ITEMS_MAX, take_write)?,
        makes_room: flags & 1 != 0,
        id: name,
        durability: if flags & 2 != 0 { Durability::Relaxed } else { Durability::Flush },
    };
    Ok(Request::Commit { id, resent, transaction: Box::new(transaction) })
}
