//! The folder: made with care, private, and locked for as long as somebody reads or writes in it.
//!
//! What is in it, and how that comes to be whole, is the matter of the module `store`; this one sees to the folder itself,
//! which only a real disk has.

use crate::{OpenError, disk::FolderDisk, error::from_io};
use nix::fcntl::{Flock, FlockArg};
use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Held for as long as the store is open or somebody reads in it.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

/// Makes `dir` if need be, and locks it.
pub(crate) fn open(dir: &Path) -> Result<(FolderDisk, Lock), OpenError> {
    let failed = |error| from_io(dir, error);
    let mut parents = make_private(dir).map_err(failed)?;
    let lock = lock(dir)?;
    if parents.is_empty() && !dir.join(crate::store::FORMAT_FILE).exists() {
        // Who made the folder may have died before its name was on disk.
        parents.extend(dir.parent().map(Path::to_owned));
    }
    parents.iter().try_for_each(|parent| sync_names(parent)).map_err(failed)?;
    Ok((FolderDisk::open(dir).map_err(failed)?, lock))
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

/// Syncs the names in a folder. One that may be written to but not looked at cannot be synced; it may be older than
/// this store, too, and then nothing depends on it.
pub(crate) fn sync_names(folder: &Path) -> io::Result<()> {
    match File::open(if folder.as_os_str().is_empty() { Path::new(".") } else { folder }) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        opened => opened?.sync_all(),
    }
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

#[cfg(test)]
mod tests {
    use super::make_private;
    use std::path::PathBuf;

    #[test]
    fn every_folder_with_a_new_name_in_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (a, ab) = (folder.path().join("a"), folder.path().join("a/b"));
        assert_eq!(make_private(&ab).unwrap(), [a, folder.path().to_owned()]);
        assert_eq!(make_private(&ab).unwrap(), Vec::<PathBuf>::new());
    }
}
