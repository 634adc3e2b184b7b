//! The folder: made with care, locked, and never opened when a newer release wrote it.
//!
//! A new store is built in `store.new` and renamed when it is complete and on disk, so that a crash at any instant leaves
//! either no store or a whole one. fjall syncs a hundred times while it makes an empty store, one after the other, for a
//! result that nobody could miss before it is renamed. So an empty store is drafted in memory ([`DRAFTS`]), copied, and
//! what there is in the end (two dozen names) is synced once, at the same time.

use crate::{
    OpenError, Options,
    error::{from_io, from_store},
    log_check, syncing,
    tables::Tables,
};
use nix::fcntl::{Flock, FlockArg};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// The newest layout this release reads and writes.
const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_NAME: &str = "outrigger-local";
/// A file system in memory, on most systems. Where there is none, a store is made where it belongs, only slower.
const DRAFTS: &str = "/dev/shm";

/// Held for as long as the store is open.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

/// Makes `dir` if need be, locks it, and opens the store in it.
pub(crate) fn open(dir: &Path, options: &Options) -> Result<Tables, OpenError> {
    let parents = make_private(dir).map_err(|error| from_io(dir, error))?;
    let lock = lock(dir)?;
    check_format(dir)?;
    let store = store_of(dir);
    if store.try_exists().map_err(|error| from_io(dir, error))? {
        log_check::check(dir, &store)?;
    } else {
        if parents.is_empty() {
            // Who made the folder may have died before its name was on disk. It may be older, too, and in one that we may
            // not look at: nothing depends on this then.
            let _known: Option<io::Result<()>> = dir.parent().map(syncing::one);
        }
        create_with(dir, parents, |store| create(dir, store, options, Path::new(DRAFTS)))?;
    }
    Tables::open(dir, options, Some(lock))
}

/// Where the store is in a folder.
pub(crate) fn store_of(dir: &Path) -> PathBuf {
    dir.join("store")
}

/// Writes a store into the folder `dir`, which has none, by means of `fill`: whole or not at all. `parents` are folders
/// whose new names have to be on disk as well.
pub(crate) fn create_with(
    dir: &Path,
    mut parents: Vec<PathBuf>,
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
    let format = write_format(dir).map_err(failed)?;
    parents.push(format.clone());
    syncing::tree(&unfinished, parents).map_err(failed)?;
    fs::rename(format, dir.join(FORMAT_FILE)).map_err(failed)?;
    fs::rename(&unfinished, store_of(dir)).map_err(failed)?;
    syncing::one(dir).map_err(failed)
}

/// Makes an empty store in the empty folder `store`, by way of a draft in `drafts` if that is possible.
fn create(dir: &Path, store: &Path, options: &Options, drafts: &Path) -> Result<(), OpenError> {
    let failed = |error| from_io(dir, error);
    match draft(options, drafts) {
        Some(draft) => copy_tree(draft.path(), store).map_err(failed),
        None => {
            let made = Tables::create(store, options);
            made.map(drop).map_err(|error| from_store(dir, error))
        }
    }
}

/// An empty store in memory. Only the owner may look into it, and its name cannot be guessed. A process that is killed
/// meanwhile leaves it behind: some kilobytes, under its id.
fn draft(options: &Options, drafts: &Path) -> Option<TempDir> {
    let prefix = format!("outrigger-{}-", std::process::id());
    let draft = tempfile::Builder::new().prefix(&prefix).tempdir_in(drafts).ok()?;
    // Opened once more, fjall removes what it wrote on the way.
    for _ in 0..2 {
        Tables::create(draft.path(), options).ok()?;
    }
    Some(draft)
}

/// Copies small files and the folders they are in, and the length of those that are mostly hole.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            make_private(&target)?;
            copy_tree(&entry.path(), &target)?;
        } else {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
            file.write_all(&log_check::read_data(&entry.path())?)?;
            file.set_len(entry.metadata()?.len())?;
        }
    }
    Ok(())
}

/// Only the owner may look: what is stored here is other people's data. Answers the folders in which others were made:
/// their names are on disk only when those are synced.
pub(crate) fn make_private(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let absent = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let made = dir.ancestors().take_while(absent);
    let parents = made.filter_map(Path::parent).map(|parent| match parent.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => parent.to_owned(),
    });
    let parents = parents.collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    Ok(parents)
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

/// Writes the file that says the format, under another name; answers that name.
fn write_format(dir: &Path) -> io::Result<PathBuf> {
    let unfinished = dir.join("FORMAT.new");
    let mut file = File::create(&unfinished)?;
    writeln!(file, "{FORMAT_NAME} {FORMAT}")?;
    Ok(unfinished)
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

#[cfg(test)]
mod tests {
    use super::{FORMAT_FILE, create, create_with, make_private, store_of};
    use crate::{Options, tables::Tables};
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    #[test]
    fn a_store_is_made_with_and_without_a_draft() {
        let folder = tempfile::tempdir().unwrap();
        let drafts = tempfile::tempdir().unwrap();
        for (name, drafts) in [("a", drafts.path()), ("b", Path::new("/nonexistent"))] {
            let dir = folder.path().join(name);
            let parents = make_private(&dir).unwrap();
            assert_eq!(parents, [folder.path()]);
            let options = Options::default();
            create_with(&dir, parents, |store| create(&dir, store, &options, drafts)).unwrap();
            assert!(dir.join(FORMAT_FILE).exists());
            assert!(store_of(&dir).join("0.jnl").exists());
            let tables = Tables::open(&dir, &options, None).unwrap();
            tables.data.insert("k", "v").unwrap();
        }
        assert_eq!(fs::read_dir(drafts.path()).unwrap().count(), 0, "nothing is left of the draft");
    }

    #[test]
    fn every_folder_with_a_new_name_in_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (a, ab) = (folder.path().join("a"), folder.path().join("a/b"));
        assert_eq!(make_private(&ab).unwrap(), [a, folder.path().to_owned()]);
        assert_eq!(make_private(&ab).unwrap(), Vec::<PathBuf>::new());
    }
}
