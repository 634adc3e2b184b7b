//! Gets files and names onto the disk, many at once: a disk takes about as long for ten syncs side by side as for one.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
};

/// More than a disk can make use of.
const SYNCERS_MAX: usize = 16;

/// Syncs everything in `dir`, files and names, and each of `others`.
pub(crate) fn tree(dir: &Path, others: Vec<PathBuf>) -> io::Result<()> {
    let mut paths = others;
    gather(dir, &mut paths)?;
    let syncers = SYNCERS_MAX.min(paths.len());
    let left = Mutex::new(paths.into_iter());
    let next = || left.lock().ok().and_then(|mut left| left.next());
    let work = || std::iter::from_fn(next).try_for_each(|path| one(&path));
    thread::scope(|scope| {
        // What threads cannot be had for is done here.
        let helpers: Vec<_> = (1..syncers)
            .filter_map(|_| thread::Builder::new().spawn_scoped(scope, work).ok())
            .collect();
        let own = work();
        let panicked = || Err(io::Error::other("a thread that syncs files has panicked"));
        let theirs = helpers.into_iter().map(|helper| helper.join().unwrap_or_else(|_| panicked()));
        theirs.fold(own, Result::and)
    })
}

/// Syncs one file, or the names in one folder. A folder that may be written to but not looked at cannot be synced.
pub(crate) fn one(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        opened => opened?.sync_all(),
    }
}

fn gather(dir: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            gather(&entry.path(), paths)?;
        } else {
            paths.push(entry.path());
        }
    }
    paths.push(dir.to_owned());
    Ok(())
}
