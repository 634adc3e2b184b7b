//! The three keyspaces of the store and how things are written in them.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `data` | the key | format `01`, revision (8), expiry in ms or ff..ff (8), the bytes |
//! | `expiry` | expiry in ms (8), the key | empty |
//! | `meta` | `last` | revision (8), time in ms (8) of the last commit |
//!
//! Numbers are big-endian.

use crate::{
    OpenError, Options,
    error::{from_read, from_store},
    folder::{Lock, store_of},
};
use bytes::Bytes;
use fjall::{
    AbstractTree, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, UserKey,
    UserValue,
};
use outrigger_kernel::Wall;
use outrigger_keyspace::{Committed, KeyRange, ReadError, Value, limits::KEY_BYTES_MAX};
use std::{ops::Bound, path::Path, thread, time::Duration};

/// The open store. Fields are dropped in their order: the lock is let go when everything else is closed.
pub(crate) struct Tables {
    pub(crate) data: Keyspace,
    pub(crate) expiry: Keyspace,
    pub(crate) meta: Keyspace,
    pub(crate) database: Database,
    memtable_bytes: u64,
    /// The log is never longer: writes wait.
    log_bytes_bound: u64,
    _lock: Option<Lock>,
}

/// Where `meta` keeps the last commit.
pub(crate) const LAST: &[u8] = b"last";

const NAMES: [&str; 3] = ["data", "expiry", "meta"];
/// What fjall takes for the sign of a store.
const VERSION_FILE: &str = "version";
const HEADER_BYTES: usize = 17;
const VALUE_FORMAT: u8 = 1;
const NEVER: u64 = u64::MAX;
/// Memory waiting to become files, in memtables; fjall stops all writes at 4.
const SEALED_MAX: usize = 3;
/// Files waiting to be sorted into others; fjall stops all writes at 30.
const UNSORTED_RUNS_MAX: usize = 28;
/// Smallest log fjall accepts as its bound.
const LOG_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// fjall lets go of a log file when everything in it has become files, which takes a while after the log has reached its
/// bound; a log this many times as long means that something is stuck.
const LOG_BOUND_FACTOR: u64 = 4;
/// About ten seconds.
const WAITS_PER_WARNING: u32 = 10_000;
/// Few open files: the engine shares its process with everything else.
const OPEN_FILES_MAX: usize = 128;

impl Tables {
    /// Opens the store in the folder `dir`. fjall would make what is missing anew and leave out of the log what belonged
    /// to it: a store that has lost a part must not be opened as one that never had it.
    pub(crate) fn open(
        dir: &Path,
        options: &Options,
        lock: Option<Lock>,
    ) -> Result<Self, OpenError> {
        let store = store_of(dir);
        let lost = |part: &str| OpenError::Damaged {
            path: dir.to_owned(),
            reason: format!("its part {part:?} is missing"),
        };
        if !store.join(VERSION_FILE).exists() {
            return Err(lost(VERSION_FILE));
        }
        let failed = |error| from_store(dir, error);
        let database = Self::database(&store, options).map_err(failed)?;
        if let Some(absent) = NAMES.into_iter().find(|name| !database.keyspace_exists(name)) {
            return Err(lost(absent));
        }
        Self::of(database, options, lock).map_err(failed)
    }

    /// Makes a store in the folder `store` itself, or opens what was begun there.
    pub(crate) fn create(store: &Path, options: &Options) -> Result<Self, fjall::Error> {
        Self::of(Self::database(store, options)?, options, None)
    }

    fn database(store: &Path, options: &Options) -> Result<Database, fjall::Error> {
        Database::builder(store)
            .cache_size(options.cache_bytes)
            .max_journaling_size(options.log_bytes_max.max(LOG_BYTES_MIN))
            .max_cached_files(Some(OPEN_FILES_MAX))
            .worker_threads(1)
            .open()
    }

    fn of(database: Database, options: &Options, lock: Option<Lock>) -> Result<Self, fjall::Error> {
        let unsized_by_fjall = || KeyspaceCreateOptions::default().max_memtable_size(u64::MAX);
        Ok(Self {
            data: database.keyspace(NAMES[0], unsized_by_fjall)?,
            expiry: database.keyspace(NAMES[1], unsized_by_fjall)?,
            meta: database.keyspace(NAMES[2], unsized_by_fjall)?,
            database,
            memtable_bytes: options.memtable_bytes,
            log_bytes_bound: options.log_bytes_max.max(LOG_BYTES_MIN) * LOG_BOUND_FACTOR,
            _lock: lock,
        })
    }

    /// Waits until fjall has turned enough memory into files to take another batch, in steps small enough not to be
    /// noticed. fjall would wait by itself, but for ever if the thread that writes the files has died.
    pub(crate) fn catch_up(&self) -> Result<(), fjall::Error> {
        let mut waits = 0_u32;
        while self.is_behind()? {
            if waits == 0 && self.database.journal_disk_space()? > self.log_bytes_bound {
                // What keeps the oldest part of the log may lie in a memtable that nobody else would ever rotate.
                self.keyspaces().into_iter().try_for_each(rotate)?;
            }
            // Fails when that thread has failed; does nothing else, since every batch is flushed as it is written.
            self.database.persist(PersistMode::Buffer)?;
            waits = waits.saturating_add(1);
            if waits.is_multiple_of(WAITS_PER_WARNING) {
                tracing::warn!("writes wait for the disk to catch up with what was written before");
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn is_behind(&self) -> Result<bool, fjall::Error> {
        let behind = |keyspace: &Keyspace| {
            keyspace.sealed_memtable_count() >= SEALED_MAX
                || keyspace.tree.l0_run_count() >= UNSORTED_RUNS_MAX
        };
        Ok(self.keyspaces().into_iter().any(behind)
            || self.database.journal_disk_space()? > self.log_bytes_bound)
    }

    /// Lets memory that has grown past its bound become files. fjall would see to it as well, but by messages to a worker
    /// that is busy with the last one: memory grows meanwhile, and when the worker's queue is full, the worker waits for
    /// itself for ever.
    pub(crate) fn rotate_full(&self) -> Result<(), fjall::Error> {
        let full =
            |keyspace: &&Keyspace| keyspace.tree.active_memtable().size() > self.memtable_bytes;
        self.keyspaces().into_iter().filter(full).try_for_each(rotate)
    }

    fn keyspaces(&self) -> [&Keyspace; 3] {
        [&self.data, &self.expiry, &self.meta]
    }

    /// The last commit in the store; the zeroth one in a new store.
    pub(crate) fn last(&self) -> Result<Committed, ReadError> {
        let Some(stored) = self.meta.get(LAST).map_err(|error| from_read(&error))? else {
            return Ok(Committed { revision: 0, time: Wall::default() });
        };
        decode_last(&stored).ok_or_else(|| damaged("the last commit"))
    }

    /// Shows every stored expiry and its key to `visit`.
    pub(crate) fn expiries(&self, mut visit: impl FnMut(Wall, Bytes)) -> Result<(), ReadError> {
        for guard in self.database.snapshot().iter(&self.expiry) {
            let stored: Bytes = guard.key().map_err(|error| from_read(&error))?.into();
            let (at, key) = decode_expiry(&stored).ok_or_else(|| damaged("an expiry"))?;
            visit(at, Bytes::copy_from_slice(key));
        }
        Ok(())
    }
}

fn rotate(keyspace: &Keyspace) -> Result<(), fjall::Error> {
    keyspace.rotate_memtable().map(|_rotated| ())
}

fn damaged(what: &str) -> ReadError {
    ReadError::Damaged(format!("{what} is not as it was written"))
}

pub(crate) fn encode_last(last: Committed) -> UserValue {
    [last.revision.to_be_bytes(), last.time.0.to_be_bytes()].concat().into()
}

fn decode_last(stored: &[u8]) -> Option<Committed> {
    let (revision, rest) = take_number(stored)?;
    let (time, rest) = take_number(rest)?;
    rest.is_empty().then_some(Committed { revision, time: Wall(time) })
}

pub(crate) fn encode_expiry(at: Wall, key: &[u8]) -> UserKey {
    [&at.0.to_be_bytes()[..], key].concat().into()
}

fn decode_expiry(stored: &[u8]) -> Option<(Wall, &[u8])> {
    let (at, key) = take_number(stored)?;
    Some((Wall(at), key))
}

fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), rest))
}

pub(crate) fn encode_value(value: &Value) -> UserValue {
    let mut out = Vec::with_capacity(HEADER_BYTES + value.bytes.len());
    out.push(VALUE_FORMAT);
    out.extend_from_slice(&value.revision.to_be_bytes());
    out.extend_from_slice(&value.expires_at.map_or(NEVER, |at| at.0).to_be_bytes());
    out.extend_from_slice(&value.bytes);
    out.into()
}

/// Values up to this size are copied out of the block they were read in: holding on to a small value must not hold on
/// to a block.
const COPY_BYTES_MAX: usize = 1024;

pub(crate) fn decode_value(stored: UserValue) -> Result<Value, ReadError> {
    let stored = Bytes::from(stored);
    let header = stored.split_first().filter(|(format, _)| **format == VALUE_FORMAT);
    let numbers = header.and_then(|(_, rest)| {
        let (revision, rest) = take_number(rest)?;
        Some((revision, take_number(rest)?.0))
    });
    let (revision, expires_at) = numbers.ok_or_else(|| damaged("a value"))?;
    let bytes = if stored.len() <= COPY_BYTES_MAX {
        Bytes::copy_from_slice(&stored[HEADER_BYTES..])
    } else {
        stored.slice(HEADER_BYTES..)
    };
    let expires_at = (expires_at != NEVER).then_some(Wall(expires_at));
    Ok(Value { bytes, revision, expires_at })
}

/// Whether such a key could be stored; fjall must not be asked for others.
pub(crate) fn is_possible(key: &[u8]) -> bool {
    (1..=KEY_BYTES_MAX).contains(&key.len())
}

/// Where a range begins and ends, as fjall takes it.
type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The range as fjall takes it, or `None` when it is empty. An end longer than any key is cut to what it means: no key
/// lies between such an end and its first bytes.
pub(crate) fn bounds(range: &KeyRange) -> Option<Bounds<'_>> {
    if range.is_empty() {
        return None;
    }
    let start = match range.start.get(..KEY_BYTES_MAX) {
        Some(cut) if range.start.len() > KEY_BYTES_MAX => Bound::Excluded(cut),
        _ => Bound::Included(&range.start[..]),
    };
    let end = match &range.end {
        None => Bound::Unbounded,
        Some(end) => match end.get(..KEY_BYTES_MAX) {
            Some(cut) if end.len() > KEY_BYTES_MAX => Bound::Included(cut),
            _ => Bound::Excluded(&end[..]),
        },
    };
    // Two cut ends may meet in one point, of which a range cannot exclude one side and include the other.
    match (start, end) {
        (Bound::Excluded(a), Bound::Included(b)) if a >= b => None,
        bounds => Some(bounds),
    }
}
