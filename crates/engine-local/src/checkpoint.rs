//! A consistent copy of the store, taken while commits go on.
//!
//! fjall cannot copy itself, so everything a published view holds is read and written into a new store, in batches. The
//! copy appears under its name when it is complete.

use crate::{
    OpenError, Options,
    error::{from_io, from_read, from_store},
    folder,
    tables::{LAST, Tables, encode_last},
    view::View,
};
use fjall::{Keyspace, OwnedWriteBatch, PersistMode, Readable};
use outrigger_keyspace::ReadError;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

const BATCH_BYTES: usize = 1024 * 1024;

/// Copies `view` into the empty or absent folder `target`; answers its revision.
pub(crate) fn write(view: &View, target: &Path, options: &Options) -> Result<u64, ReadError> {
    let refused = |error: OpenError| ReadError::Unavailable(error.to_string());
    let parents = make_empty(target).map_err(|error| refused(from_io(target, error)))?;
    let mut unreadable = None;
    let filled = folder::create_with(target, parents, |store| {
        let tables = Tables::create(store, options).map_err(|error| from_store(target, error))?;
        for (from, to) in [(&view.tables.data, &tables.data), (&view.tables.expiry, &tables.expiry)]
        {
            copy(view, from, &tables, to).map_err(|error| match error {
                Failure::Reading(error) => {
                    let reason = error.to_string();
                    unreadable = Some(error);
                    OpenError::Damaged { path: target.to_owned(), reason }
                }
                Failure::Writing(error) => from_store(target, error),
            })?;
        }
        tables.meta.insert(LAST, encode_last(view.last)).map_err(|e| from_store(target, e))?;
        tables.database.persist(PersistMode::SyncAll).map_err(|error| from_store(target, error))
    });
    match (filled, unreadable) {
        (Ok(()), _) => Ok(view.last.revision),
        (Err(_), Some(error)) => Err(error),
        (Err(error), None) => Err(refused(error)),
    }
}

fn make_empty(target: &Path) -> io::Result<Vec<PathBuf>> {
    let parents = folder::make_private(target)?;
    if fs::read_dir(target)?.next().is_some() {
        let reason = "a checkpoint needs an empty folder";
        return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, reason));
    }
    Ok(parents)
}

enum Failure {
    Reading(ReadError),
    Writing(fjall::Error),
}

fn copy(view: &View, from: &Keyspace, tables: &Tables, to: &Keyspace) -> Result<(), Failure> {
    let fresh = || OwnedWriteBatch::with_capacity(tables.database.clone(), 1_024);
    let (mut batch, mut bytes) = (fresh(), 0);
    for guard in view.snapshot.iter(from) {
        let (key, value) = guard.into_inner().map_err(|e| Failure::Reading(from_read(&e)))?;
        bytes += key.len() + value.len();
        batch.insert(to, key, value);
        if bytes >= BATCH_BYTES {
            batch.commit().map_err(Failure::Writing)?;
            (batch, bytes) = (fresh(), 0);
        }
    }
    batch.commit().map_err(Failure::Writing)
}
