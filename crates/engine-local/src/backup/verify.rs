//! Reading everything that a folder holds, store or backup, and comparing it with every checksum.

use super::{
    BackupError,
    manifest::{FILE, Manifest, PartKind},
    restore::{open, read},
};
use crate::{OpenError, folder, store};
use outrigger_kernel::disk::Disk;
use std::{path::Path, sync::Arc};

/// What was read, and found as it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Whether it was a backup rather than a store.
    pub is_backup: bool,
    /// How many bytes were read.
    pub bytes: u64,
    /// How many rows, those included that newer ones hide.
    pub rows: u64,
    /// How many commits in the log, or in the parts of the backup that follow its rows.
    pub commits: u64,
    /// The last revision.
    pub revision: u64,
}

/// Reads every byte of the store or backup in `folder` and compares it with its checksum. A store must not be in use.
///
/// # Errors
/// The first damage, with its file; or why the folder cannot be read.
pub fn verify(folder: &Path) -> Result<Verified, BackupError> {
    let disk = open(folder)?;
    match Manifest::read(&disk)? {
        Some(manifest) => verify_backup(&disk, &manifest),
        None if folder.join(store::FORMAT_FILE).exists() => verify_store(folder),
        None => Err(BackupError::Absent { path: folder.to_owned() }),
    }
}

fn verify_backup(disk: &dyn Disk, manifest: &Manifest) -> Result<Verified, BackupError> {
    let mut verified = Verified { is_backup: true, ..Verified::default() };
    for part in &manifest.parts {
        let count = read(disk, part, &mut |_| Ok(()))?;
        match part.kind {
            PartKind::Rows => verified.rows += count,
            PartKind::Plans => verified.commits += count,
        }
        verified.bytes += part.seal.bytes;
        verified.revision = part.last.revision;
    }
    if manifest.parts.is_empty() {
        return Err(BackupError::damaged(FILE, "it names no part"));
    }
    Ok(verified)
}

fn verify_store(folder: &Path) -> Result<Verified, BackupError> {
    let (disk, _lock) = folder::open(folder)?;
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let place = store::Place { disk: &disk, index_disk: &disk, path: folder };
    let store::Checked { rows, commits, bytes, revision } =
        store::verify(&place).map_err(|error: OpenError| BackupError::from(error))?;
    Ok(Verified { is_backup: false, bytes, rows, commits, revision })
}
