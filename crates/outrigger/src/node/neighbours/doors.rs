//! The doors of the processes that share a data folder: two Unix sockets each, in the folder's own `peers`.
//!
//! | file | who comes through |
//! |---|---|
//! | `<process>.sock` | calls to the apps of the process |
//! | `<process>-events.sock` | processes that want events of a group that this one dispatches to |
//!
//! The folder is its user's alone, and so are the sockets. A process is there exactly as long as its doors are answered:
//! the kernel refuses a connection to a socket whose process is gone, at once and without fail, which no file and no
//! timer could say so well.

use outrigger_engine_remote::Place;
use outrigger_events::{Line, Neighbours};
use outrigger_kernel::{BoxFuture, World};
use std::{
    fs::{self, File, Permissions},
    io,
    os::{
        fd::AsRawFd,
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, PermissionsExt},
        },
    },
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::net::{UnixListener, UnixStream};

/// The longest name of a socket.
const NAME_BYTES_MAX: usize = 107;
/// How a door's file ends.
const CALLS: &str = ".sock";
const EVENTS: &str = "-events.sock";

/// The doors of this process, and the way to the others'.
#[derive(Debug)]
pub(super) struct Doors {
    own: String,
    folder: PathBuf,
    opened: AtomicBool,
    /// Keeps a short name of a folder good whose own name is too long.
    handle: OnceLock<File>,
}

/// What this process listens on.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) calls: UnixListener,
    pub(super) events: UnixListener,
}

impl Doors {
    /// The doors of a process called `own` in the data folder `data`. Opens nothing yet.
    pub(super) fn new(data: &Path, own: String) -> Self {
        let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
        Self {
            own,
            folder: data.join("peers"),
            opened: AtomicBool::new(false),
            handle: OnceLock::new(),
        }
    }

    /// Listens from now on; in place of the doors from before, where there are some.
    pub(super) fn open(&self) -> io::Result<Open> {
        // The data folder too, where it is new: its user's alone from the first moment on.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        fs::set_permissions(&self.folder, Permissions::from_mode(0o700))?;
        let [calls, events] = self.places().map(|place| place.listen());
        let open = Open { calls: calls?, events: events? };
        self.opened.store(true, Ordering::Release);
        Ok(open)
    }

    /// Whether this process can be reached.
    pub(super) fn are_open(&self) -> bool {
        self.opened.load(Ordering::Acquire)
    }

    /// Waits until a door is gone that this process has opened.
    pub(super) async fn lost(&self, world: &dyn World) {
        let [calls, events] = self.places();
        Place::lost(&[&calls, &events], world).await;
    }

    fn places(&self) -> [Place; 2] {
        [CALLS, EVENTS].map(|ending| Place::new(&self.folder.join(format!("{}{ending}", self.own))))
    }

    /// Removes the names of this process.
    pub(super) fn close(&self) {
        self.remove(&self.own);
    }

    /// Removes the names of a process that is gone.
    pub(super) fn remove(&self, process: &str) {
        for ending in [CALLS, EVENTS] {
            // What stays behind is removed by whoever looks next.
            drop(fs::remove_file(self.folder.join(format!("{process}{ending}"))));
        }
    }

    /// The processes that have doors, answered or not.
    pub(super) fn all(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let processes = names.filter_map(|name| {
            let process = name.strip_suffix(EVENTS).or_else(|| name.strip_suffix(CALLS))?;
            Some(process.to_owned())
        });
        let mut processes: Vec<String> = processes.collect();
        processes.sort();
        processes.dedup();
        processes
    }

    /// Whether a process is gone for certain: nobody answers its door.
    pub(super) async fn is_gone(&self, process: &str) -> bool {
        let knocked = async { UnixStream::connect(self.calls_of(process)?).await };
        knocked.await.is_err_and(|error| proves_absence(&error))
    }

    /// Where calls to the apps of `process` go.
    pub(super) fn calls_of(&self, process: &str) -> io::Result<PathBuf> {
        self.reach(&format!("{process}{CALLS}"))
    }

    /// A name of the file `name` that is short enough for a socket.
    fn reach(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.folder.join(name);
        if path.as_os_str().as_bytes().len() <= NAME_BYTES_MAX {
            return Ok(path);
        }
        let handle = match self.handle.get() {
            Some(handle) => handle,
            None => {
                let opened = File::open(&self.folder)?;
                self.handle.get_or_init(|| opened)
            }
        };
        Ok(PathBuf::from(format!("/proc/self/fd/{}/{name}", handle.as_raw_fd())))
    }
}

/// No door, or one that nobody answers. Anything else (no descriptors left, a queue that is full) proves nothing.
fn proves_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

impl Neighbours for Doors {
    fn own(&self) -> &str {
        &self.own
    }

    fn dial<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Line>>> {
        Box::pin(async move {
            let path = self.reach(&format!("{name}{EVENTS}"))?;
            let stream = UnixStream::connect(path).await?;
            Ok(Box::new(stream) as Box<dyn Line>)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Doors;
    use outrigger_events::Neighbours;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn a_process_is_there_while_its_doors_are_answered() {
        for depth in [0, 20] {
            let data = crate::testing::folder();
            let mut folder = data.path().to_owned();
            folder.extend(std::iter::repeat_n("a-deep-folder", depth));
            let (one, other) =
                (Doors::new(&folder, "one".to_owned()), Doors::new(&folder, "other".to_owned()));
            assert!(other.is_gone("one").await);
            let open = one.open().unwrap();
            assert!(!other.is_gone("one").await);
            assert!(other.dial("one").await.is_ok());
            assert_eq!(other.all(), ["one"]);
            let mode = |name: &str| {
                let path = folder.join("peers").join(name);
                path.metadata().unwrap().permissions().mode() & 0o777
            };
            assert_eq!(
                [mode(""), mode("one.sock"), mode("one-events.sock")],
                [0o700, 0o600, 0o600]
            );
            drop(open);
            assert!(other.is_gone("one").await, "its files are there, but nobody listens");
            assert_eq!(other.all(), ["one"]);
            other.remove("one");
            assert!(other.all().is_empty());
        }
    }
}
