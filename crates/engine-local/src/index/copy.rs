//! A copy of the index in another folder. Files never change, so a copy that is brought up to date takes only new ones.

use super::{
    FILE_NEW, IndexError, IndexView, Pace,
    apply::Paced,
    manifest::Manifest,
    put_manifest, read_manifest, sweep,
    table::{Table, TableInfo, file_name},
};
use outrigger_kernel::disk::Disk;
use std::{collections::BTreeMap, sync::Arc};

/// So much is written between two syncs.
const SYNC_BYTES: usize = 4 << 20;

/// What a copy took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    /// The bytes of files that were copied.
    pub(crate) copied_bytes: u64,
    /// The bytes of files that the folder had.
    pub(crate) kept_bytes: u64,
    pub(crate) files: u64,
}

impl IndexView {
    /// Makes the index in `target` show what this view shows. The folder has no index, or an earlier copy of this one: of
    /// that it keeps the files that are still part of it. Until the copy is complete it stays what it was. Every block's
    /// checksum is looked at before it is copied.
    pub(crate) fn copy_to(
        &self,
        target: &dyn Disk,
        pace: &mut Pace<'_>,
    ) -> Result<Copied, IndexError> {
        let manifest = self.manifest();
        let mut earlier: BTreeMap<u64, TableInfo> = match read_manifest(target) {
            Err(IndexError::Missing) => BTreeMap::new(),
            earlier => tables(earlier?).collect(),
        };
        let present = target.list()?;
        let mut copied = Copied::default();
        let mut seen = BTreeMap::new();
        for table in self.runs().iter().flat_map(|run| &run.tables) {
            // A file may be part of two runs: of the one being merged and of the base.
            if seen.insert(table.info.id, ()).is_some() {
                continue;
            }
            copied.files += 1;
            match earlier.remove(&table.info.id) {
                Some(info) if info == table.info => copied.kept_bytes += info.bytes,
                Some(_) => {
                    let what = "the folder holds the index of another store, or of another life of this one";
                    return Err(IndexError::Failed(what.to_owned()));
                }
                None => {
                    let name = file_name(table.info.id);
                    if present.contains(&name) {
                        target.remove(&name)?;
                    }
                    copy_table(table, target, &mut Paced::new(pace))?;
                    copied.copied_bytes += table.info.bytes;
                }
            }
        }
        if present.iter().any(|name| name == FILE_NEW) {
            target.remove(FILE_NEW)?;
        }
        put_manifest(target, &manifest)?;
        sweep(target, &manifest)?;
        Ok(copied)
    }
}

fn tables(manifest: Manifest) -> impl Iterator<Item = (u64, TableInfo)> {
    manifest.runs.into_iter().flat_map(|run| run.tables).map(|info| (info.id, info))
}

fn copy_table(
    table: &Arc<Table>,
    target: &dyn Disk,
    pace: &mut Paced<'_, '_>,
) -> Result<(), IndexError> {
    let file = target.create(&table.file_name())?;
    let (mut at, mut unsynced) = (0, 0);
    table.pieces(&mut |piece| {
        file.write_at(piece, at)?;
        at += piece.len() as u64;
        unsynced += piece.len();
        if unsynced >= SYNC_BYTES {
            file.sync()?;
            unsynced = 0;
        }
        pace.did(piece.len());
        Ok(())
    })?;
    file.sync()?;
    Ok(())
}
