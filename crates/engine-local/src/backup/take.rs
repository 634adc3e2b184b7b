//! Taking a backup: the first one whole, the next ones only what is new.

use super::{
    BackupError,
    manifest::{FILE, Manifest, Part, PartKind},
    part::PartWriter,
};
use crate::{
    OpenError,
    error::from_io,
    folder,
    log::{History, Position},
    record::{encode_plan, encode_value},
    view::View,
};
use bytes::BufMut;
use outrigger_kernel::disk::Disk;
use outrigger_keyspace::{Committed, Direction, KeyRange};
use std::{fs, io, path::Path, sync::Arc};

/// What a backup is taken of.
pub(crate) struct Source {
    pub(crate) view: Arc<View>,
    pub(crate) history: Arc<History>,
}

/// Brings the backup in the folder `target` up to `source`, beginning one if the folder is empty or absent. Answers the last
/// commit in it.
pub(crate) fn take(source: &Source, target: &Path) -> Result<Committed, BackupError> {
    refuse_other_uses(target)?;
    let (disk, _lock) = folder::open(target)?;
    take_on(source, &disk, target)
}

/// A backup is not put beside anything else: who removes it would remove that too.
fn refuse_other_uses(target: &Path) -> Result<(), BackupError> {
    let names = match fs::read_dir(target) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(from_io(target, error).into()),
    };
    for name in names {
        let name = name.map_err(|error| from_io(target, error))?.file_name();
        if !name.to_str().is_some_and(is_ours) {
            let reason = format!("{} is not part of a backup", name.display());
            return Err(OpenError::Occupied { path: target.to_owned(), reason }.into());
        }
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    let parts = [PartKind::Rows, PartKind::Plans].map(PartKind::word);
    name == "lock" || name.starts_with(FILE) || parts.iter().any(|word| name.starts_with(word))
}

pub(super) fn take_on(
    source: &Source,
    disk: &dyn Disk,
    target: &Path,
) -> Result<Committed, BackupError> {
    let store_id = u128::from_be_bytes(source.history.store_id());
    let mut manifest = Manifest::read(disk)?.unwrap_or(Manifest { store_id, parts: Vec::new() });
    if manifest.store_id != store_id {
        return Err(BackupError::Foreign { path: target.to_owned() });
    }
    let ordinal = manifest.parts.len() + 1;
    let news = match manifest.parts.last() {
        Some(last) => plans_since(last, source, disk, ordinal)?,
        None => None,
    };
    let part = match news {
        Some(News::Nothing(last)) => return Ok(last),
        Some(News::Part(part)) => part,
        // The first backup, or the log since the last one is gone.
        None => rows(source, disk, ordinal)?,
    };
    let last = part.last;
    manifest.parts.push(part);
    manifest.write(disk).map_err(|error| BackupError::io(FILE, error))?;
    Ok(last)
}

enum News {
    Nothing(Committed),
    Part(Part),
}

/// What was committed since `last`; `None` when that cannot be read from the log any more.
fn plans_since(
    last: &Part,
    source: &Source,
    disk: &dyn Disk,
    ordinal: usize,
) -> Result<Option<News>, BackupError> {
    let end = source.view.position;
    if last.position == end {
        return Ok(Some(News::Nothing(last.last)));
    }
    if is_before(&end, &last.position) {
        return Ok(None);
    }
    // Not kept any more, or another life of the store went on from somewhere before.
    let Ok(mut reader) = source.history.read(last.position, end) else { return Ok(None) };
    let Ok(first) = reader.next() else { return Ok(None) };
    let Some(mut plan) = first else { return Ok(Some(News::Nothing(last.last))) };
    let name = format!("{}-{ordinal:06}", PartKind::Plans.word());
    let failed = |error| BackupError::io(&name, error);
    let mut writer = PartWriter::create(disk, &name).map_err(failed)?;
    let committed = loop {
        writer.push(|out| encode_plan(&plan, out)).map_err(failed)?;
        match reader.next()? {
            Some(next) => plan = next,
            None => break plan.committed,
        }
    };
    let seal = writer.finish().map_err(failed)?;
    let (from, last) = (last.last.revision, committed);
    let part = Part { kind: PartKind::Plans, name, from, last, seal, position: end };
    Ok(Some(News::Part(part)))
}

fn is_before(a: &Position, b: &Position) -> bool {
    (a.segment, a.offset) < (b.segment, b.offset)
}

/// The whole map.
fn rows(source: &Source, disk: &dyn Disk, ordinal: usize) -> Result<Part, BackupError> {
    let name = format!("{}-{ordinal:06}", PartKind::Rows.word());
    let failed = |error| BackupError::io(&name, error);
    let mut writer = PartWriter::create(disk, &name).map_err(failed)?;
    for seen in source.view.stack.entries(&KeyRange::all(), Direction::Forward) {
        let (key, value) = seen?;
        let record = |out: &mut Vec<u8>| {
            // Keys are a few kilobytes at most.
            out.put_u16_le(u16::try_from(key.len()).unwrap_or(u16::MAX));
            out.extend_from_slice(&key);
            encode_value(&value, out);
        };
        writer.push(record).map_err(failed)?;
    }
    let seal = writer.finish().map_err(failed)?;
    let (last, position) = (source.view.last, source.view.position);
    Ok(Part { kind: PartKind::Rows, name, from: 0, last, seal, position })
}
