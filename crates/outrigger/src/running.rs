//! Which runtimes run on this machine, for `list`, `stop` and commands that need a port.
//!
//! Every runtime keeps one small file with its apps and ports; whoever reads the folder removes files whose process is
//! gone. A file names the start time of its process beside the id, because ids are reused.

use crate::{procfs, settings::Environment};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// A running runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// Its process.
    pub pid: i32,
    /// When that process started, in clock ticks since boot.
    pub started: u64,
    /// Seconds since 1970 when it was ready.
    pub since: u64,
    /// The command line as given.
    pub command: String,
    /// The multi-app file, if any.
    pub run_file: Option<PathBuf>,
    /// Where its data is; `None` in memory.
    pub data_dir: Option<PathBuf>,
    /// Its apps.
    pub apps: Vec<RunningApp>,
}

/// An app of a running runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunningApp {
    /// Its id.
    pub app_id: String,
    /// Port of its HTTP API.
    pub http_port: u16,
    /// Port of its gRPC API.
    pub grpc_port: u16,
    /// Port of its metrics; 0 for none.
    pub metrics_port: u16,
    /// Port it listens on; 0 for none.
    pub app_port: u16,
    /// Its process; 0 when we did not start it, or it has ended.
    pub app_pid: i32,
    /// Its exit code, once it has ended.
    #[serde(default)]
    pub app_ended: Option<u8>,
    /// Its command line.
    pub command: String,
}

/// Where the files are: `$XDG_RUNTIME_DIR`, else the state folder of the user, else the folder for temporary files.
#[must_use]
pub fn folder(environment: &Environment) -> PathBuf {
    let own = environment.get("OUTRIGGER_RUN_DIR").map(PathBuf::from);
    let runtime =
        || environment.get("XDG_RUNTIME_DIR").map(|base| Path::new(base).join("outrigger"));
    let state =
        || environment.get("XDG_STATE_HOME").map(|base| Path::new(base).join("outrigger/run"));
    let home =
        || environment.get("HOME").map(|home| Path::new(home).join(".local/state/outrigger/run"));
    own.or_else(runtime)
        .or_else(state)
        .or_else(home)
        .unwrap_or_else(|| std::env::temp_dir().join("outrigger-run"))
}

/// The file of this process; removed when dropped.
#[derive(Debug)]
pub struct Announcement {
    folder: PathBuf,
    running: Mutex<Running>,
}

impl Announcement {
    /// Writes the file of this process.
    ///
    /// # Errors
    /// When the folder cannot be written. Nothing but `list` and its like suffers.
    pub fn write(folder: &Path, running: Running) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        write(folder, &running)?;
        Ok(Self { folder: folder.to_owned(), running: Mutex::new(running) })
    }

    /// Changes what the file says.
    pub fn update(&self, change: impl FnOnce(&mut Running)) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut running);
        // The file stays as it was when the disk refuses: a stale port in `list` stops nobody's work.
        drop(write(&self.folder, &running));
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        let pid = self.running.lock().unwrap_or_else(PoisonError::into_inner).pid;
        // A file that stays behind is removed by the next reader.
        drop(fs::remove_file(self.folder.join(format!("{pid}.json"))));
    }
}

/// Written aside and renamed, so that a reader never sees half of it.
fn write(folder: &Path, running: &Running) -> io::Result<()> {
    let unfinished = folder.join(format!("{}.tmp", running.pid));
    fs::write(&unfinished, serde_json::to_vec(running)?)?;
    fs::rename(&unfinished, folder.join(format!("{}.json", running.pid)))
}

/// All runtimes that run, oldest first.
#[must_use]
pub fn all(folder: &Path) -> Vec<Running> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let Some(running) =
            fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Running>(&text).ok())
        else {
            continue;
        };
        if procfs::started(running.pid) == Some(running.started) && procfs::is_alive(running.pid) {
            found.push(running);
        } else {
            drop(fs::remove_file(&path));
        }
    }
    found.sort_by_key(|running| (running.since, running.pid));
    found
}

#[cfg(test)]
mod tests {
    use super::{Announcement, Running, all};
    use crate::procfs;

    fn running(pid: i32, started: u64) -> Running {
        Running {
            pid,
            started,
            since: 1,
            command: "run".into(),
            run_file: None,
            data_dir: None,
            apps: Vec::new(),
        }
    }

    #[test]
    fn the_living_are_listed_and_the_dead_are_buried() {
        let folder = crate::testing::folder();
        let own = i32::try_from(std::process::id()).unwrap();
        let started = procfs::started(own).unwrap();
        let announcement = Announcement::write(folder.path(), running(own, started)).unwrap();
        // The same id with another start time is another process.
        std::mem::forget(Announcement::write(folder.path(), running(1, 0)).unwrap());
        assert_eq!(all(folder.path()), [running(own, started)]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(announcement);
        assert!(all(folder.path()).is_empty());
    }
}
