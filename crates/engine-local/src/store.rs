//! The files of a store: made whole or not at all, and opened to where the last commit on disk left them.
//!
//! While a store is being made it has the file `NEW`, and when everything else is on disk this is renamed to `FORMAT`. So
//! a crash at any instant leaves one of three things:
//!
//! | there are | it is |
//! |---|---|
//! | no files of a store, or some beside `NEW` | no store yet: what there is, is removed, and the store is made |
//! | `FORMAT` and others | a store |
//! | some, but neither `NEW` nor `FORMAT` | a store that has lost a part: refused, never made anew |
//!
//! `FORMAT` says `outrigger-local 2 <id>`: the version of the layout, and what tells this store from all others. The id
//! stands in every part of the log too, so that files of two stores cannot be mixed up.

use crate::{
    OpenError, Options,
    error::{damaged, from_index, from_io, from_log},
    index::{self, Checkpoint, Index, IndexOptions, IndexView},
    layer::Layer,
    log::{self, Log, LogError, Position, Preparation},
    planted::{self, Bug},
    stack::Stack,
    upcoming::{self, EXPIRIES_MAX, Nearest},
};
use bytes::Bytes;
use outrigger_kernel::{Wall, World, disk::Disk};
use outrigger_keyspace::{
    Committed, KeyRange, ReadError,
    sequencer::{Plan, Sequencer},
};
use std::{io, ops::ControlFlow, path::Path, sync::Arc};

/// The newest layout this release reads and writes.
pub(crate) const FORMAT: u32 = 2;
pub(crate) const FORMAT_FILE: &str = "FORMAT";
const FORMAT_NAME: &str = "outrigger-local";
const UNFINISHED_FILE: &str = "NEW";
/// How much of the file is looked at: more than it ever holds.
const FORMAT_BYTES_MAX: u64 = 256;

/// Revisions that may be visible before they are on disk: steps of time, and commits that did not ask for a flush. The
/// former are derived again after a crash and the latter may be lost, but what they were called must not be given out a
/// second time: whoever opens a store skips as many.
pub(crate) const UNWRITTEN_REVISIONS_MAX: u64 = 16_384;

/// An open store and the state it is in.
pub(crate) struct Store {
    pub(crate) log: Log,
    pub(crate) index: Index,
    pub(crate) stack: Stack,
    pub(crate) sequencer: Sequencer,
}

/// Where a store is kept, and how it is called in messages.
pub(crate) struct Place<'a> {
    pub(crate) disk: &'a Arc<dyn Disk>,
    /// The same, but for the index.
    pub(crate) index_disk: &'a Arc<dyn Disk>,
    pub(crate) path: &'a Path,
}

/// Opens the store, making it if there is none.
pub(crate) fn open(
    place: &Place<'_>,
    world: &dyn World,
    options: &Options,
    preparation: Preparation,
) -> Result<Store, OpenError> {
    match find(place)? {
        Some(id) => recover(place, id, world, options, preparation),
        None => {
            let (log, index) = create(place, world, options, preparation, |_, _| Ok(()))?;
            let (active, sealed) = (Layer::default(), None);
            let stack = Stack { active, sealed, index: index.view() };
            Ok(Store { log, index, stack, sequencer: Sequencer::new(0, Wall::default()) })
        }
    }
}

fn log_options(options: &Options, preparation: Preparation) -> log::Options {
    let (first_bytes, max_bytes) = (options.log_first_bytes, options.log_max_bytes);
    log::Options { first_bytes, max_bytes, preparation }
}

fn index_options(options: &Options) -> IndexOptions {
    IndexOptions { cache_bytes: options.cache_bytes, layer_bytes: options.layer_bytes_max as u64 }
}

/// What there is in a folder.
enum Found {
    /// A store of this id.
    Store([u8; 16]),
    /// A store that could not be made whole.
    Unfinished,
    Nothing,
}

/// Looks, and touches nothing.
fn look(place: &Place<'_>) -> Result<Found, OpenError> {
    let names = place.disk.list().map_err(|error| from_io(place.path, error))?;
    let has = |name: &str| names.iter().any(|listed| listed == name);
    if has(FORMAT_FILE) {
        read_format(place).map(Found::Store)
    } else if has(UNFINISHED_FILE) {
        Ok(Found::Unfinished)
    } else if names.iter().any(|name| is_part(name)) {
        Err(damaged(place.path, format!("the file {FORMAT_FILE} is missing")))
    } else {
        Ok(Found::Nothing)
    }
}

/// The id of the store that is there. What is left of one that could not be made whole is removed.
fn find(place: &Place<'_>) -> Result<Option<[u8; 16]>, OpenError> {
    match look(place)? {
        Found::Store(id) => return Ok(Some(id)),
        Found::Nothing => return Ok(None),
        Found::Unfinished => {}
    }
    let failed = |error| from_io(place.path, error);
    for name in place.disk.list().map_err(failed)?.iter().filter(|name| is_part(name)) {
        place.disk.remove(name).map_err(failed)?;
    }
    // It goes last, and everything else from the disk before it.
    place.disk.sync_folder().map_err(failed)?;
    place.disk.remove(UNFINISHED_FILE).map_err(failed)?;
    Ok(None)
}

fn is_part(name: &str) -> bool {
    log::owns(name) || index::owns(name)
}

fn read_format(place: &Place<'_>) -> Result<[u8; 16], OpenError> {
    let failed = |error| from_io(place.path, error);
    let file = place.disk.open(FORMAT_FILE).map_err(failed)?;
    let length = file.length().map_err(failed)?.min(FORMAT_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_at(&mut bytes, 0).map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes);
    let unreadable = || damaged(place.path, format!("the file {FORMAT_FILE} says {text:?}"));
    let mut words = text.split_whitespace();
    let (name, version, id) = (words.next(), words.next(), words.next());
    let version = version.filter(|_| name == Some(FORMAT_NAME)).and_then(|text| text.parse().ok());
    let path = place.path.to_owned();
    match version.ok_or_else(unreadable)? {
        FORMAT => {
            let id = id.filter(|id| id.len() == 32);
            let id = id.and_then(|id| u128::from_str_radix(id, 16).ok()).ok_or_else(unreadable)?;
            Ok(id.to_be_bytes())
        }
        found if found > FORMAT => Err(OpenError::NewerFormat { path, found, known: FORMAT }),
        found => Err(OpenError::EarlyFormat { path, found }),
    }
}

/// Makes a store where there is none, with what `fill` puts into its index. Answers its parts, which are on disk.
pub(crate) fn create(
    place: &Place<'_>,
    world: &dyn World,
    options: &Options,
    preparation: Preparation,
    fill: impl FnOnce(&mut Index, Position) -> Result<(), OpenError>,
) -> Result<(Log, Index), OpenError> {
    let failed = |error| from_io(place.path, error);
    let id = u128::from(world.random()) << 64 | u128::from(world.random());
    let format = place.disk.create(UNFINISHED_FILE).map_err(failed)?;
    let text = format!("{FORMAT_NAME} {FORMAT} {id:032x}\n");
    format.write_at(text.as_bytes(), 0).map_err(failed)?;
    format.sync().map_err(failed)?;
    place.disk.sync_folder().map_err(failed)?;
    let log_options = log_options(options, preparation);
    let log = Log::create(place.disk.clone(), id.to_be_bytes(), log_options)
        .map_err(|error| from_log(place.path, error))?;
    let nothing = Committed { revision: 0, time: Wall::default() };
    let first = Checkpoint { committed: nothing, log: log.end(), ids: Vec::new() };
    let mut index = Index::create(place.index_disk.clone(), index_options(options), first)
        .map_err(|error| from_index(place.path, error))?;
    fill(&mut index, log.end())?;
    place.disk.sync_folder().map_err(failed)?;
    place.disk.rename(UNFINISHED_FILE, FORMAT_FILE).map_err(failed)?;
    place.disk.sync_folder().map_err(failed)?;
    Ok((log, index))
}

/// Goes from the last checkpoint of the index over the rest of the log.
fn recover(
    place: &Place<'_>,
    id: [u8; 16],
    world: &dyn World,
    options: &Options,
    preparation: Preparation,
) -> Result<Store, OpenError> {
    let index = Index::open(place.index_disk.clone(), index_options(options))
        .map_err(|error| from_index(place.path, error))?;
    let view = index.view();
    let checkpoint = view.checkpoint().clone();
    let mut stack = Stack { active: Layer::default(), sealed: None, index: view.clone() };
    let mut last = checkpoint.committed;
    let mut named = checkpoint.ids;
    let mut expiring = Vec::new();
    let mut visit = |mut plan: Plan| {
        if planted::is(Bug::ForgetClearsAtReplay) {
            plan.clears.clear();
        }
        if planted::is(Bug::ForgetIdsAtReplay) {
            plan.id = None;
        }
        last = plan.committed;
        stack.active.apply(&plan);
        named.extend(plan.id.map(|id| (id, plan.committed)));
        let changes = plan.changes.into_iter();
        expiring.extend(changes.filter_map(|change| Some((change.value?.expires_at?, change.key))));
        Ok::<(), LogError>(())
    };
    let log_options = log_options(options, preparation);
    let from = checkpoint.log;
    let opened = Log::open(place.disk.clone(), id, from, world.random(), log_options, &mut visit);
    let (mut log, opened) = opened.map_err(|error| from_log(place.path, error))?;
    if opened.torn_bytes > 0 {
        tracing::info!(
            folder = %place.path.display(),
            bytes = opened.torn_bytes,
            "the end of the log was cut off: a write that was never finished"
        );
    }
    if !opened.clean && !planted::is(Bug::ReuseRevisions) {
        last.revision += UNWRITTEN_REVISIONS_MAX;
        skip(&mut log, last).map_err(|error| from_io(place.path, error))?;
    }
    // From here on it is not a store that was closed, whatever happens.
    log.sync().map_err(|error| from_io(place.path, error))?;
    let mut sequencer = Sequencer::new(last.revision, last.time);
    restore(&mut sequencer, &view, expiring)
        .map_err(|error| damaged(place.path, error.to_string()))?;
    for (id, committed) in named {
        sequencer.remember(id, committed, world.mono());
    }
    Ok(Store { log, index, stack, sequencer })
}

/// Writes down that the revisions before `last` are taken.
fn skip(log: &mut Log, last: Committed) -> io::Result<()> {
    let mut frame = log::Frame::default();
    frame.push(&Plan { committed: last, id: None, clears: Vec::new(), changes: Vec::new() });
    log.append(&mut frame).map(drop)
}

/// What was put to expire. Some of it has been put again or removed since: the sequencer looks before it acts.
fn restore(
    sequencer: &mut Sequencer,
    view: &IndexView,
    expiring: Vec<(Wall, Bytes)>,
) -> Result<(), ReadError> {
    let mut nearest = Nearest::new(None, EXPIRIES_MAX);
    view.expiries(&KeyRange::all(), &mut |at, key| {
        nearest.offer(at, key);
        ControlFlow::Continue(())
    })?;
    for (at, key) in expiring.into_iter().filter(|_| !planted::is(Bug::ForgetExpiryAtReplay)) {
        nearest.offer(at, &key);
    }
    let upcoming::Found { expiries, horizon } = nearest.found();
    for (at, key) in expiries {
        sequencer.restore_expiry(&key, at);
    }
    sequencer.end_filling(horizon);
    Ok(())
}

/// What was read of a store, and found as it was written.
pub(crate) struct Checked {
    pub(crate) rows: u64,
    /// In what is kept of the log.
    pub(crate) commits: u64,
    pub(crate) bytes: u64,
    pub(crate) revision: u64,
}

/// Reads every byte of a store that nobody has open, and changes nothing.
pub(crate) fn verify(place: &Place<'_>) -> Result<Checked, OpenError> {
    let id = match look(place)? {
        Found::Store(id) => id,
        Found::Unfinished => {
            let reason = format!("it was never finished: it has the file {UNFINISHED_FILE}");
            return Err(damaged(place.path, reason));
        }
        Found::Nothing => {
            return Err(damaged(place.path, format!("the file {FORMAT_FILE} is missing")));
        }
    };
    let (checkpoint, rows) =
        index::verify(place.index_disk).map_err(|error| from_index(place.path, error))?;
    let log =
        log::verify(place.disk, id, checkpoint.log).map_err(|error| from_log(place.path, error))?;
    let last = log.last.unwrap_or(checkpoint.committed).revision;
    Ok(Checked {
        rows: rows.rows,
        commits: log.plans,
        bytes: rows.bytes + log.bytes,
        revision: last.max(checkpoint.committed.revision),
    })
}

/// Removes what there is of a store that could not be made whole.
pub(crate) fn remove(disk: &dyn Disk) {
    let names = disk.list().unwrap_or_default();
    let ours =
        |name: &&String| is_part(name) || [FORMAT_FILE, UNFINISHED_FILE].contains(&name.as_str());
    for name in names.iter().filter(ours) {
        // What stays is taken for an unfinished store, as it is.
        let _removed: io::Result<()> = disk.remove(name);
    }
}

/// The bytes of everything the store has on the disk.
pub(crate) fn bytes(disk: &dyn Disk, is_counted: impl Fn(&str) -> bool) -> u64 {
    let names = disk.list().unwrap_or_default();
    let files = names.iter().filter(|name| is_part(name) && is_counted(name));
    // Files come and go meanwhile; what cannot be seen is not counted.
    files.filter_map(|name| disk.open(name).and_then(|file| file.length()).ok()).sum()
}
