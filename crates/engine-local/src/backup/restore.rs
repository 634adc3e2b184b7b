//! Making a store of a backup, as it was after any commit that the backup holds.

use super::{
    BackupError,
    manifest::{Manifest, Part, PartKind},
    part::PartReader,
};
use crate::{
    OpenError, Options,
    disk::FolderDisk,
    error::{from_index, from_io},
    folder,
    index::{Checkpoint, Index},
    layer::Layer,
    log::{Position, Preparation},
    record::{decode_plan, decode_value},
    store::{self, Place},
};
use bytes::Bytes;
use outrigger_kernel::{Wall, World, disk::Disk};
use outrigger_keyspace::{
    Committed, Value,
    sequencer::{Change, Plan},
};
use std::{fs, io, path::Path, sync::Arc};

/// Up to where a store is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Everything that the backup holds.
    Latest,
    /// The last commit up to this revision.
    Revision(u64),
    /// The last commit up to this time.
    Time(Wall),
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The last commit in the new store.
    pub last: Committed,
    /// How many commits were applied to the rows the backup began with.
    pub commits: u64,
}

/// How much is put into the index at once.
const PIECE_BYTES: usize = 24 * 1024 * 1024;

/// Makes a store in the empty or absent folder `to` from the backup in the folder `from`. The new store is another one than
/// that which was backed up: it goes on by itself, and wants a backup folder of its own.
///
/// # Errors
/// Why it cannot be restored. No store is there then.
pub fn restore(
    from: &Path,
    to: &Path,
    goal: Goal,
    world: &dyn World,
    options: &Options,
) -> Result<Restored, BackupError> {
    let backup = open(from)?;
    let manifest = Manifest::read(&backup)?;
    let manifest = manifest.ok_or_else(|| BackupError::Absent { path: from.to_owned() })?;
    let chain = choose(&manifest.parts, goal)?;
    // All of it once before anything is made of it.
    for part in chain {
        read(&backup, part, &mut |_| Ok(()))?;
    }
    if fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        let reason = "a store is restored into an empty folder".to_owned();
        return Err(OpenError::Occupied { path: to.to_owned(), reason }.into());
    }
    let (disk, _lock) = folder::open(to)?;
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let restored = restore_on(&backup, chain, goal, &disk, to, world, options);
    if restored.is_err() {
        store::remove(&*disk);
    }
    restored
}

pub(super) fn open(folder: &Path) -> Result<FolderDisk, BackupError> {
    FolderDisk::open(folder).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => BackupError::Absent { path: folder.to_owned() },
        _ => from_io(folder, error).into(),
    })
}

pub(super) fn restore_on(
    backup: &dyn Disk,
    chain: &[Part],
    goal: Goal,
    disk: &Arc<dyn Disk>,
    path: &Path,
    world: &dyn World,
    options: &Options,
) -> Result<Restored, BackupError> {
    let place = Place { disk, index_disk: disk, path };
    let nothing = Committed { revision: 0, time: Wall::default() };
    let mut restored = Restored { last: nothing, commits: 0 };
    let mut unreadable = None;
    let fill = |index: &mut Index, log: Position| {
        let mut filling = Filling { index, log, path, layer: Layer::default(), last: nothing };
        let filled = filling.fill(backup, chain, goal, &mut restored.commits);
        restored.last = filling.last;
        match filled {
            Ok(()) => Ok(()),
            Err(BackupError::Folder(error)) => Err(error),
            Err(error) => {
                let reason = error.to_string();
                unreadable = Some(error);
                Err(OpenError::Occupied { path: path.to_owned(), reason })
            }
        }
    };
    match (store::create(&place, world, options, Preparation::Inline, fill), unreadable) {
        (_, Some(error)) => Err(error),
        (Err(error), None) => Err(error.into()),
        (Ok((log, _index)), None) => {
            log.close().map_err(|error| from_io(path, error))?;
            Ok(restored)
        }
    }
}

/// The parts that lead to `goal`: rows, and the plans after them.
pub(super) fn choose(parts: &[Part], goal: Goal) -> Result<&[Part], BackupError> {
    let starts = |part: &Part| part.kind == PartKind::Rows;
    let first = parts.iter().rposition(|part| {
        starts(part)
            && match goal {
                Goal::Latest => true,
                Goal::Revision(revision) => part.last.revision <= revision,
                Goal::Time(time) => part.last.time <= time,
            }
    });
    let Some(first) = first else { return Err(not_held(parts, goal)) };
    let length = 1 + parts[first + 1..].iter().take_while(|part| !starts(part)).count();
    let (chain, later) = parts[first..].split_at(length);
    let end = chain.last().map_or(0, |part| part.last.revision);
    let reached = match goal {
        Goal::Latest => true,
        Goal::Revision(revision) => revision <= end,
        // Between two chains nobody knows what was committed.
        Goal::Time(time) => {
            later.is_empty() || chain.last().is_some_and(|part| time <= part.last.time)
        }
    };
    if reached { Ok(chain) } else { Err(not_held(parts, goal)) }
}

fn not_held(parts: &[Part], goal: Goal) -> BackupError {
    let mut held: Vec<String> = Vec::new();
    for chain in parts.chunk_by(|_, next| next.kind == PartKind::Plans) {
        let [first, ..] = chain else { continue };
        let last = chain.last().unwrap_or(first).last;
        held.push(format!(
            "revisions {} ({} ms) to {} ({} ms)",
            first.last.revision, first.last.time.0, last.revision, last.time.0
        ));
    }
    let held = if held.is_empty() { "nothing".to_owned() } else { held.join(", and ") };
    let goal = match goal {
        Goal::Latest => "the latest commit".to_owned(),
        Goal::Revision(revision) => format!("revision {revision}"),
        Goal::Time(time) => format!("what was there at {} ms", time.0),
    };
    BackupError::NotHeld { goal, held }
}

/// Reads a part and shows what it holds: each row as a plan that puts it.
pub(super) fn read(
    backup: &dyn Disk,
    part: &Part,
    visit: &mut dyn FnMut(Plan) -> Result<(), BackupError>,
) -> Result<u64, BackupError> {
    let mut reader = PartReader::open(backup, &part.name, part.seal)?;
    let mut count = 0;
    while let Some(record) = reader.next()? {
        let plan = match part.kind {
            PartKind::Rows => decode_row(record, part.last.time),
            PartKind::Plans => decode_plan(record).ok(),
        };
        visit(plan.ok_or_else(|| reader.damaged("a record cannot be read"))?)?;
        count += 1;
    }
    Ok(count)
}

fn decode_row(record: &[u8], time: Wall) -> Option<Plan> {
    let (length, rest) = record.split_first_chunk::<2>()?;
    let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    let value: Value = decode_value(rest).ok()?;
    let committed = Committed { revision: value.revision, time };
    let changes = vec![Change { key: Bytes::copy_from_slice(key), value: Some(value) }];
    Some(Plan { committed, id: None, clears: Vec::new(), changes })
}

/// A store that is being filled.
struct Filling<'a> {
    index: &'a mut Index,
    log: Position,
    path: &'a Path,
    layer: Layer,
    last: Committed,
}

impl Filling<'_> {
    fn fill(
        &mut self,
        backup: &dyn Disk,
        chain: &[Part],
        goal: Goal,
        commits: &mut u64,
    ) -> Result<(), BackupError> {
        for part in chain {
            match part.kind {
                PartKind::Rows => {
                    read(backup, part, &mut |row| self.put(&row))?;
                    self.last = part.last;
                }
                PartKind::Plans => {
                    read(backup, part, &mut |plan| {
                        if !is_within(plan.committed, goal) {
                            return Ok(());
                        }
                        self.last = plan.committed;
                        *commits += 1;
                        self.put(&plan)
                    })?;
                }
            }
        }
        self.write()
    }

    fn put(&mut self, plan: &Plan) -> Result<(), BackupError> {
        self.layer.apply(plan);
        if self.layer.bytes() >= PIECE_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), BackupError> {
        let layer = std::mem::take(&mut self.layer);
        let checkpoint = Checkpoint { committed: self.last, log: self.log, ids: Vec::new() };
        let applied = self.index.apply(layer.iter(), checkpoint, &mut |_bytes| ());
        applied.map(drop).map_err(|error| from_index(self.path, error).into())
    }
}

fn is_within(committed: Committed, goal: Goal) -> bool {
    match goal {
        Goal::Latest => true,
        Goal::Revision(revision) => committed.revision <= revision,
        Goal::Time(time) => committed.time <= time,
    }
}
