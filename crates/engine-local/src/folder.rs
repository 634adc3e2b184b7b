//! The folder: made with care, locked, and never opened when a newer release wrote it.
//!
//! A new store is built in `store.new` and renamed when it is complete, so that a crash at any instant leaves either no
//! store or a whole one.

use crate::{
    OpenError, Options,
    error::{from_io, from_store},
    log_check,
    tables::Tables,
};
use nix::fcntl::{Flock, FlockArg};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The newest layout this release reads and writes.
const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_NAME: &str = "outrigger-local";

/// Held for as long as the store is open.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

/// Makes `dir` if need be, locks it, and opens the store in it.
pub(crate) fn open(dir: &Path, options: &Options) -> Result<Tables, OpenError> {
    make_private(dir).map_err(|error| from_io(dir, error))?;
    let lock = lock(dir)?;
    check_format(dir)?;
    let store = store_of(dir);
    if store.try_exists().map_err(|error| from_io(dir, error))? {
        log_check::check(dir, &store)?;
    } else {
        create(dir, options)?;
    }
    Tables::open(&store, options, Some(lock)).map_err(|error| from_store(dir, error))
}

/// Where the store is in a folder.
pub(crate) fn store_of(dir: &Path) -> PathBuf {
    dir.join("store")
}

/// Writes a store into the folder `dir`, which has none, by means of `fill`: whole or not at all.
pub(crate) fn create_with(
    dir: &Path,
    fill: impl FnOnce(&Path) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    let failed = |error| from_io(dir, error);
    let unfinished = dir.join("store.new");
    if unfinished.try_exists().map_err(failed)? {
        fs::remove_dir_all(&unfinished).map_err(failed)?;
    }
    make_private(&unfinished).map_err(failed)?;
    if let Err(error) = fill(&unfinished) {
        // What cannot be removed either is removed by the next attempt.
        let _kept: io::Result<()> = fs::remove_dir_all(&unfinished);
        return Err(error);
    }
    sync_tree(&unfinished).map_err(failed)?;
    write_format(dir).map_err(failed)?;
    fs::rename(&unfinished, store_of(dir)).map_err(failed)?;
    sync_folder(dir).map_err(failed)
}

fn create(dir: &Path, options: &Options) -> Result<(), OpenError> {
    create_with(dir, |store| {
        let tables = Tables::open(store, options, None);
        tables.map(drop).map_err(|error| from_store(dir, error))
    })
}

/// Only the owner may look: what is stored here is other people's data.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn lock(dir: &Path) -> Result<Lock, OpenError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join("lock"))
        .map_err(|error| from_io(dir, error))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) => {
            let noted = note_holder(&mut file).map_err(|error| from_io(dir, error));
            noted.map(|()| Lock { _file: file })
        }
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut noted = String::new();
            // Who holds it may not have written its id yet, or may have died while writing: then it stays unknown.
            let holder = file.read_to_string(&mut noted).ok();
            let holder = holder.and_then(|_| noted.trim().parse().ok());
            Err(OpenError::InUse { path: dir.to_owned(), holder })
        }
        Err((_, errno)) => Err(from_io(dir, errno.into())),
    }
}

fn note_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn check_format(dir: &Path) -> Result<(), OpenError> {
    let text = match fs::read_to_string(dir.join(FORMAT_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let store = store_of(dir).try_exists().map_err(|error| from_io(dir, error))?;
            let reason = format!("the file {FORMAT_FILE} is missing");
            return if store {
                Err(OpenError::Damaged { path: dir.to_owned(), reason })
            } else {
                Ok(())
            };
        }
        Err(error) => return Err(from_io(dir, error)),
    };
    let found = text.trim().strip_prefix(FORMAT_NAME).and_then(|rest| rest.trim().parse().ok());
    match found {
        Some(FORMAT) => Ok(()),
        Some(found) if found > FORMAT => {
            Err(OpenError::NewerFormat { path: dir.to_owned(), found, known: FORMAT })
        }
        _ => {
            let reason = format!("the file {FORMAT_FILE} says {text:?}");
            Err(OpenError::Damaged { path: dir.to_owned(), reason })
        }
    }
}

fn write_format(dir: &Path) -> io::Result<()> {
    let unfinished = dir.join("FORMAT.new");
    let mut file = File::create(&unfinished)?;
    writeln!(file, "{FORMAT_NAME} {FORMAT}")?;
    file.sync_all()?;
    fs::rename(&unfinished, dir.join(FORMAT_FILE))
}

/// Everything below `dir`, files and names: the rename that follows must not outlive what it names.
fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(dir)
}

fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Bytes that the files in `dir` take on disk. Files come and go while it looks; what cannot be seen is not counted.
pub(crate) fn bytes_on_disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_on_disk(&entry.path()),
        // In units of 512 bytes, whatever the file system's blocks; unlike the length, without holes.
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}
