//! A consistent copy of the store, taken while commits go on: everything a published view shows is written into a new
//! store, which has its name when it is complete.

use crate::{
    OpenError, Options,
    error::{damaged, from_index},
    folder,
    index::{Checkpoint, Index},
    layer::{Cell, Key},
    log::{Position, Preparation},
    store::{self, Place},
    view::View,
};
use outrigger_kernel::{World, disk::Disk};
use outrigger_keyspace::{Direction, KeyRange, ReadError};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};
use tokio::sync::oneshot;

/// How much is written into the copy at once.
const PIECE_BYTES: usize = 8 * 1024 * 1024;

/// Copies `view` into the empty or absent folder `target`; answers its revision.
pub(crate) async fn write(
    view: Arc<View>,
    target: PathBuf,
    world: Arc<dyn World>,
    options: Options,
) -> Result<u64, ReadError> {
    let (done, written) = oneshot::channel();
    // A thread of its own: copying a store takes as long as reading all of it.
    let copy = move || {
        let _gone: Result<(), _> = done.send(write_now(&view, &target, &*world, &options));
    };
    let started = thread::Builder::new().name("copy".to_owned()).spawn(copy);
    started.map_err(|error| ReadError::Unavailable(error.to_string()))?;
    let gone = |_| ReadError::Unavailable("the thread that copies has ended".to_owned());
    written.await.map_err(gone)?
}

fn write_now(
    view: &View,
    target: &Path,
    world: &dyn World,
    options: &Options,
) -> Result<u64, ReadError> {
    let mut unreadable = None;
    let copied = copy(view, target, world, options, &mut unreadable);
    match (copied, unreadable) {
        (Ok(()), _) => Ok(view.last.revision),
        (Err(_), Some(error)) => Err(error),
        (Err(error), None) => Err(ReadError::Unavailable(error.to_string())),
    }
}

fn copy(
    view: &View,
    target: &Path,
    world: &dyn World,
    options: &Options,
    unreadable: &mut Option<ReadError>,
) -> Result<(), OpenError> {
    if fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some()) {
        let reason = "a copy needs an empty folder".to_owned();
        return Err(OpenError::Occupied { path: target.to_owned(), reason });
    }
    let (disk, lock) = folder::open(target)?;
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let place = Place { disk: &disk, index_disk: &disk, path: target };
    let fill = |index: &mut Index, position| fill(view, index, position, target, unreadable);
    let (log, _index) = store::create(&place, world, options, Preparation::Inline, fill)?;
    let closed = log.close();
    drop(lock);
    closed.map_err(|error| crate::error::from_io(target, error))
}

fn fill(
    view: &View,
    index: &mut Index,
    log: Position,
    target: &Path,
    unreadable: &mut Option<ReadError>,
) -> Result<(), OpenError> {
    let (mut cells, mut bytes) = (Vec::<(Key, Cell)>::new(), 0);
    let write = |cells: &mut Vec<(Key, Cell)>| {
        let checkpoint = Checkpoint { committed: view.last, log, ids: Vec::new() };
        let each = cells.iter().map(|(key, cell)| (key, cell));
        let applied = index.apply(each, checkpoint, &mut |_bytes| ());
        cells.clear();
        applied.map(drop).map_err(|error| from_index(target, error))
    };
    for seen in view.stack.entries(&KeyRange::all(), Direction::Forward) {
        let (key, value) = seen.map_err(|error| {
            let reason = error.to_string();
            *unreadable = Some(error);
            damaged(target, reason)
        })?;
        bytes += key.len() + value.bytes.len();
        cells.push((Key::from(&key[..]), Cell::Live(Arc::new(value))));
        if bytes >= PIECE_BYTES {
            bytes = 0;
            write(&mut cells)?;
        }
    }
    write(&mut cells)
}
