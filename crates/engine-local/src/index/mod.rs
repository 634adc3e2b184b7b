//! The index: the map on disk, for what the layers in memory do not hold.
//!
//! ```text
//!   layer --apply--> run   newest          each run: cells in order, in immutable files with filters
//!                    run                   a reader looks from the newest down
//!                    base  oldest          rows only, large, in many files
//!   maintain: runs are merged into each other and into the base, a piece at a time
//!   values    large ones stand apart, in files that merges refer to and do not copy
//!   `index`: which files these are, and up to where in the log they hold everything (the checkpoint)
//! ```
//!
//! The log carries durability, so the index may lag behind and is brought up to date in large sorted batches: a layer
//! becomes a run in one sequential write, and no row is looked up to be replaced. Files are never changed, only written,
//! referred to by the next manifest, and removed when no view reads them any more. Whatever a power cut leaves, the
//! manifest that lasts is whole and so are all files it names.
//!
//! The invariants: everything committed up to the checkpoint is in the index; the newest cell for a key decides; the base
//! has no extents; a byte that is not what was written is an error, never an answer (the manifest knows the checksum of
//! each file's map, the map those of the blocks, and a block's is looked at on every read).
//!
//! [`apply`] writes layers, [`maintain`] merges, [`view`] reads, [`verify`](mod@verify) checks.

mod apply;
mod block;
mod bottom;
mod cell;
mod error;
mod filter;
mod maintain;
mod manifest;
mod merge;
mod run;
mod shelf;
mod table;
mod values;
mod verify;
mod view;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use error::IndexError;
pub(crate) use verify::verify;
pub(crate) use view::IndexView;

use crate::{
    log::Position,
    planted::{self, Bug},
};
use manifest::{FORMAT, Manifest, RunInfo, Unreadable};
use outrigger_kernel::disk::Disk;
use outrigger_keyspace::{CommitId, Committed, ReadError};
use run::Run;
use shelf::Shelf;
use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use table::{FILE_PREFIX, Table};
use values::{Refs, Values};

/// The manifest's file.
const FILE: &str = "index";
/// The next manifest, before it is put in place.
const FILE_NEW: &str = "index.new";
/// A manifest is not larger, whatever its length claims.
const MANIFEST_BYTES_MAX: u64 = 1 << 30;

/// Whether a file of this name is the index's.
pub(crate) fn owns(name: &str) -> bool {
    let prefixes = [FILE_PREFIX, values::FILE_PREFIX];
    name == FILE || name == FILE_NEW || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Up to where everything is in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The last commit in it.
    pub(crate) committed: Committed,
    /// Where the log goes on.
    pub(crate) log: Position,
    /// Named commits that may still be asked about.
    pub(crate) ids: Vec<(CommitId, Committed)>,
}

/// How an index is kept.
#[derive(Clone, Debug)]
pub(crate) struct IndexOptions {
    /// How much memory the maps and filters of its files may take: about 1 % of the data makes every read quick.
    pub(crate) cache_bytes: usize,
    /// How large the layers become that are written into it; when something is merged follows from that.
    pub(crate) layer_bytes: u64,
}

/// The sizes that decide when something is merged.
#[derive(Clone, Debug)]
struct Sizes {
    /// How large a block becomes: what a lookup reads.
    block_bytes: usize,
    /// How large a file becomes.
    table_bytes: u64,
    /// From which size on a value stands apart.
    apart_bytes: usize,
    /// So much of such values stays with the rows of a layer: not every layer is worth a file of values.
    inline_bytes: usize,
    /// How much one step of a merge writes, about.
    step_bytes: u64,
    /// How much more than its share may be dead.
    slack_bytes: u64,
    /// How many runs may lie above the base.
    runs_max: usize,
}

impl Sizes {
    fn for_layers_of(layer_bytes: u64) -> Self {
        let table_bytes = layer_bytes.saturating_mul(8) / 3;
        Self {
            block_bytes: 8 << 10,
            table_bytes,
            apart_bytes: 16 << 10,
            inline_bytes: 256 << 10,
            step_bytes: table_bytes,
            slack_bytes: layer_bytes.saturating_mul(2),
            runs_max: 32,
        }
    }
}

/// Called every few hundred KB of work with the bytes done since the last call: the place to yield or to wait.
pub(crate) type Pace<'a> = dyn FnMut(usize) + 'a;

#[derive(Debug)]
pub(crate) struct Index {
    disk: Arc<dyn Disk>,
    sizes: Sizes,
    shelf: Arc<Shelf>,
    view: Mutex<Arc<IndexView>>,
    state: Mutex<State>,
    /// The bytes of the store beside the index while it is at rest; [`BUSY`] while it is written to.
    rest: AtomicU64,
}

/// The store is being written to: merging does what it must and no more.
const BUSY: u64 = u64::MAX;

/// What the next manifest is made from.
#[derive(Debug)]
struct State {
    checkpoint: Checkpoint,
    next_id: u64,
    /// Newest first; the last is the base.
    runs: Vec<Run>,
    draining: u32,
    /// The files of values that stand apart, by their ids.
    values: Vec<Arc<Values>>,
    /// Those that are written and of no manifest yet.
    written: Vec<Arc<Values>>,
    /// Files of no manifest that somebody may still read.
    doomed: Vec<Arc<Table>>,
    doomed_values: Vec<Arc<Values>>,
    /// The first failure: nothing is changed after it.
    failed: Option<IndexError>,
}

impl Index {
    /// Creates an empty index that holds everything up to `checkpoint`, in place of any that is there.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        options: IndexOptions,
        checkpoint: Checkpoint,
    ) -> Result<Self, IndexError> {
        let manifest = Manifest {
            checkpoint,
            next_id: 1,
            runs: vec![RunInfo::default()],
            draining: 0,
            values: Vec::new(),
        };
        // In this order: until the new manifest is in place, the old one and its files are whole.
        if disk.list()?.iter().any(|name| name == FILE_NEW) {
            disk.remove(FILE_NEW)?;
        }
        put_manifest(&*disk, &manifest)?;
        sweep(&*disk, &manifest)?;
        Ok(Self::with(disk, &options, manifest))
    }

    /// Opens the index. What a crash left behind is removed.
    pub(crate) fn open(disk: Arc<dyn Disk>, options: IndexOptions) -> Result<Self, IndexError> {
        let manifest = read_manifest(&*disk)?;
        sweep(&*disk, &manifest)?;
        Ok(Self::with(disk, &options, manifest))
    }

    fn with(disk: Arc<dyn Disk>, options: &IndexOptions, manifest: Manifest) -> Self {
        let shelf = Shelf::new(options.cache_bytes);
        let Manifest { checkpoint, next_id, runs, draining, values } = manifest;
        let mut values: Vec<_> =
            values.into_iter().map(|info| Values::new(info, disk.clone())).collect();
        values.sort_unstable_by_key(|values| values.info.id);
        let table = |info| Table::new(info, disk.clone(), shelf.clone());
        let runs: Vec<Run> = runs
            .into_iter()
            .map(|RunInfo { from, tables }| Run {
                from,
                tables: tables.into_iter().map(table).collect(),
            })
            .collect();
        let view = Arc::new(IndexView::new(
            checkpoint.clone(),
            runs.clone(),
            values.clone(),
            shelf.clone(),
        ));
        let state = State {
            checkpoint,
            next_id,
            runs,
            draining,
            values,
            written: Vec::new(),
            doomed: Vec::new(),
            doomed_values: Vec::new(),
            failed: None,
        };
        let (view, state) = (Mutex::new(view), Mutex::new(state));
        let (sizes, rest) = (Sizes::for_layers_of(options.layer_bytes), AtomicU64::new(BUSY));
        Self { disk, sizes, shelf, view, state, rest }
    }

    /// Says that nothing is written to the store, which has `beside` bytes beside the index: there is time to give space
    /// back that is not worth it otherwise. Or that it is written to again.
    pub(crate) fn set_rest(&self, beside: Option<u64>) {
        self.rest.store(beside.unwrap_or(BUSY), Ordering::Relaxed);
    }

    /// What is in it now.
    pub(crate) fn view(&self) -> Arc<IndexView> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs `change` unless one has failed before. A change that fails is the last, but for one that found no room, or
    /// something that it could not read: of that nothing is left.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        let mut state: MutexGuard<'_, State> =
            self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failed) = &state.failed {
            return Err(failed.clone());
        }
        let first_id = state.next_id;
        let mut result = change(&mut state);
        state.written.clear();
        let leaves_all =
            |error: &IndexError| matches!(error, IndexError::Full(_) | IndexError::Damaged(_));
        if result.as_ref().is_err_and(leaves_all)
            && let Err(error) = self.clean(&state, first_id)
        {
            result = Err(error);
        }
        if let Err(error) = &result
            && !leaves_all(error)
        {
            state.failed = Some(error.clone());
        }
        result
    }

    /// Removes the files from `first_id` on that are part of nothing.
    fn clean(&self, state: &State, first_id: u64) -> Result<(), IndexError> {
        let named = |id| {
            let mut tables = state.runs.iter().flat_map(|run| &run.tables).chain(&state.doomed);
            let mut values = state.values.iter().chain(&state.doomed_values);
            tables.any(|table| table.info.id == id) || values.any(|values| values.info.id == id)
        };
        let files = (first_id..state.next_id).filter(|id| !named(*id));
        let files = files.flat_map(|id| [table::file_name(id), values::file_name(id)]);
        for name in files.chain([FILE_NEW.to_owned()]) {
            match self.disk.remove(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(IndexError::failed(&error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes `runs` the index, durably, and lets go of what they replace.
    fn publish(
        &self,
        state: &mut State,
        runs: Vec<Run>,
        draining: u32,
        checkpoint: Checkpoint,
    ) -> Result<Arc<IndexView>, IndexError> {
        // What nothing refers to any more goes.
        let refs = refs(&runs);
        let known = state.values.iter().chain(&state.written);
        let (values, unused): (Vec<_>, Vec<_>) =
            known.cloned().partition(|values| refs.contains_key(&values.info.id));
        put_manifest(
            &*self.disk,
            &Manifest {
                checkpoint: checkpoint.clone(),
                next_id: state.next_id,
                runs: runs.iter().map(Run::info).collect(),
                draining,
                values: values.iter().map(|values| values.info).collect(),
            },
        )?;
        let shelf = self.shelf.clone();
        let view =
            Arc::new(IndexView::new(checkpoint.clone(), runs.clone(), values.clone(), shelf));
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = view.clone();
        let before = std::mem::replace(&mut state.runs, runs);
        let kept: Vec<u64> =
            state.runs.iter().flat_map(|run| &run.tables).map(|table| table.info.id).collect();
        for table in before.iter().flat_map(|run| &run.tables) {
            if !kept.contains(&table.info.id)
                && !state.doomed.iter().any(|doomed| Arc::ptr_eq(doomed, table))
            {
                state.doomed.push(table.clone());
            }
        }
        drop(before);
        state.values = values;
        state.written.clear();
        state.doomed_values.extend(unused);
        (state.draining, state.checkpoint) = (draining, checkpoint);
        self.bury(state)?;
        Ok(view)
    }

    /// Removes files that nobody reads any more.
    fn bury(&self, state: &mut State) -> Result<(), IndexError> {
        let (gone, read): (Vec<_>, Vec<_>) =
            state.doomed.drain(..).partition(|table| Arc::strong_count(table) == 1);
        state.doomed = read;
        let gone = gone.iter().map(|table| table.file_name());
        let (gone_values, read): (Vec<_>, Vec<_>) =
            state.doomed_values.drain(..).partition(|values| Arc::strong_count(values) == 1);
        state.doomed_values = read;
        for name in gone.chain(gone_values.iter().map(|values| values.file_name())) {
            self.disk.remove(&name).map_err(|error| IndexError::failed(&error))?;
        }
        Ok(())
    }

    /// Whether files wait to be removed until nobody reads them any more.
    pub(crate) fn has_doomed(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        !state.doomed.is_empty() || !state.doomed_values.is_empty()
    }

    /// The id of the next file.
    fn next_id(state: &mut State) -> u64 {
        let id = state.next_id;
        state.next_id += 1;
        id
    }

    fn table(&self, info: table::TableInfo) -> Arc<Table> {
        Table::new(info, self.disk.clone(), self.shelf.clone())
    }
}

/// How many bytes of which files of values the rows of `runs` refer to.
fn refs(runs: &[Run]) -> Refs {
    let (mut refs, mut seen) = (Refs::new(), BTreeSet::new());
    for table in runs.iter().flat_map(|run| &run.tables) {
        // While a run is being drained, a file of it may be part of the base already.
        if seen.insert(table.info.id) {
            for (file, bytes) in &table.info.refs {
                *refs.entry(*file).or_default() += bytes;
            }
        }
    }
    refs
}

fn read_manifest(disk: &dyn Disk) -> Result<Manifest, IndexError> {
    Manifest::decode(&read_manifest_file(disk)?).map_err(unreadable)
}

fn read_manifest_file(disk: &dyn Disk) -> Result<Vec<u8>, IndexError> {
    let reading = |error: io::Error| IndexError::Failed(format!("reading the index: {error}"));
    let file = match disk.open(FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(IndexError::Missing),
        file => file.map_err(reading)?,
    };
    let length = file.length().map_err(reading)?;
    let length = Some(length).filter(|length| *length <= MANIFEST_BYTES_MAX);
    let length = length.and_then(|length| usize::try_from(length).ok());
    let mut bytes = vec![0; length.ok_or_else(|| unreadable(Unreadable::Damaged))?];
    file.read_at(&mut bytes, 0).map_err(reading)?;
    Ok(bytes)
}

fn unreadable(unreadable: Unreadable) -> IndexError {
    match unreadable {
        Unreadable::Newer(found) => IndexError::Newer { found, known: FORMAT },
        Unreadable::Damaged => IndexError::Damaged(format!(
            "file {FILE} holds other bytes than were written: restore the folder from a backup"
        )),
    }
}

/// Writes `manifest` aside and puts it in place. The files it names must last already, but for their names.
fn put_manifest(disk: &dyn Disk, manifest: &Manifest) -> Result<(), IndexError> {
    let file = disk.create(FILE_NEW)?;
    file.write_at(&manifest.encode(), 0)?;
    file.sync()?;
    // First the names of what it refers to, then its own.
    disk.sync_folder()?;
    // From here on it is not known which of the two a crash would leave.
    disk.rename(FILE_NEW, FILE).map_err(|error| IndexError::failed(&error))?;
    if !planted::is(Bug::ForgetManifestName) {
        disk.sync_folder().map_err(|error| IndexError::failed(&error))?;
    }
    Ok(())
}

/// Removes what no manifest names, and refuses when something it names is missing.
fn sweep(disk: &dyn Disk, manifest: &Manifest) -> Result<(), IndexError> {
    let mut named: Vec<String> = manifest
        .runs
        .iter()
        .flat_map(|run| &run.tables)
        .map(|info| table::file_name(info.id))
        .chain(manifest.values.iter().map(|info| values::file_name(info.id)))
        .collect();
    named.sort_unstable();
    let mut found = 0;
    let mut left = Vec::new();
    for name in disk.list()? {
        if named.binary_search(&name).is_ok() {
            found += 1;
        } else if name != FILE && owns(&name) {
            left.push(name);
        }
    }
    named.dedup();
    if found < named.len() {
        let missing = named.len() - found;
        return Err(ReadError::Damaged(format!("{missing} files of the index are missing")).into());
    }
    if !left.is_empty() {
        // Whoever wrote the manifest that was read may have ended before its name was there to stay; what the one before
        // names must not go first.
        disk.sync_folder()?;
    }
    for name in left {
        disk.remove(&name)?;
    }
    Ok(())
}
