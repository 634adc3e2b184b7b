//! Where the processes of one folder meet: a socket in the folder itself, so that whoever has the folder has the socket, and
//! who may not look into the one cannot reach the other.
//!
//! The name of a socket has at most 107 bytes on Linux, and data folders lie as deep as people put them. A longer name is
//! reached through `/proc/self/fd/<folder>`, which names the folder by a handle.
//!
//! A name can be removed under whoever listens, by a person who tidies up or a tool that does: see [`Place::lost`].

mod lookout;

use nix::unistd::geteuid;
use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Permissions},
    io,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};
use tokio::net::{UnixListener, UnixStream};

const NAME: &str = "socket";
const NAME_BYTES_MAX: usize = 107;

/// A socket with a name in a folder.
#[derive(Clone, Debug)]
pub struct Place {
    folder: PathBuf,
    name: OsString,
}

/// A name short enough for a socket; good for as long as the handle is held.
struct Reachable {
    path: PathBuf,
    _folder: Option<File>,
}

impl Place {
    /// Where the processes that share the data folder `folder` meet.
    pub(crate) fn of_folder(folder: &Path) -> Self {
        Self::new(&folder.join(NAME))
    }

    /// The socket `path`, however long that is. It may be relative to where the process is now.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        Self { folder, name: path.file_name().unwrap_or_default().to_owned() }
    }

    /// Listens, in place of whatever stands there from a process that is gone; only this user may connect. Whoever calls
    /// this must be the only one who listens there: the holder of the folder's lock, or the owner of the name.
    ///
    /// # Errors
    /// When the folder is not there or cannot be written.
    pub fn listen(&self) -> io::Result<UnixListener> {
        let unfinished = self.unfinished();
        forget(&self.folder.join(&unfinished))?;
        let reachable = self.reach(&unfinished)?;
        let listener = UnixListener::bind(&reachable.path)?;
        fs::set_permissions(&reachable.path, Permissions::from_mode(0o600))?;
        // Under its own name only now: nobody finds one that does not listen yet, or that others could reach.
        fs::rename(self.folder.join(unfinished), self.path())?;
        Ok(listener)
    }

    /// Whether the name is still there.
    fn stands(&self) -> bool {
        fs::symlink_metadata(self.path()).is_ok()
    }

    /// Removes the name; the same holds as for [`Place::listen`].
    pub fn leave(&self) {
        if let Err(error) = forget(&self.path()) {
            // Whoever comes next finds that nobody listens.
            tracing::debug!(%error, "a socket was not removed");
        }
    }

    /// A connection to whoever listens.
    ///
    /// # Errors
    /// When nobody does.
    pub async fn connect(&self) -> io::Result<UnixStream> {
        let socket = self.reach(&self.name)?;
        UnixStream::connect(&socket.path).await
    }

    fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    fn unfinished(&self) -> OsString {
        let mut name = self.name.clone();
        name.push(".new");
        name
    }

    fn reach(&self, name: &OsStr) -> io::Result<Reachable> {
        let path = self.folder.join(name);
        if path.as_os_str().len() <= NAME_BYTES_MAX {
            return Ok(Reachable { path, _folder: None });
        }
        let folder = File::open(&self.folder)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Reachable { path, _folder: Some(folder) })
    }
}

fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whose process is at the other end, if that is another user's: who accepts a connection asks this first.
///
/// # Errors
/// When the system does not say.
pub fn stranger(stream: &UnixStream) -> io::Result<Option<u32>> {
    let uid = stream.peer_cred()?.uid();
    Ok((uid != geteuid().as_raw()).then_some(uid))
}

#[cfg(test)]
mod tests {
    use super::{NAME, Place, stranger};
    use std::{
        fs,
        os::unix::{ffi::OsStrExt, fs::PermissionsExt},
        path::PathBuf,
    };
    use tokio::net::UnixStream;

    async fn meets_in(folder: PathBuf) {
        fs::create_dir_all(&folder).unwrap();
        let place = Place::of_folder(&folder);
        assert!(place.connect().await.is_err(), "nobody is there");
        let listener = place.listen().unwrap();
        let mode = fs::metadata(folder.join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!folder.join("socket.new").exists());
        let (one, other) = tokio::join!(place.connect(), listener.accept());
        let ends: [UnixStream; 2] = [one.unwrap(), other.unwrap().0];
        for end in &ends {
            assert_eq!(stranger(end).unwrap(), None);
        }
        drop(listener);
        assert!(place.stands(), "who dies leaves the name behind");
        assert!(place.connect().await.is_err(), "and nobody listens there");
        let again = place.listen().unwrap();
        let (one, other) = tokio::join!(place.connect(), again.accept());
        drop((one.unwrap(), other.unwrap()));
        place.leave();
        assert!(!place.stands());
    }

    #[tokio::test]
    async fn processes_meet_in_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        meets_in(folder.path().join("data")).await;
    }

    #[tokio::test]
    async fn processes_meet_in_a_deep_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut deep = folder.path().to_owned();
        while deep.as_os_str().as_bytes().len() < 600 {
            deep.push("a-folder-with-a-long-name");
        }
        meets_in(deep).await;
    }

    #[tokio::test]
    async fn the_length_at_which_names_get_too_long() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().as_os_str().as_bytes().len();
        for length in 90..=112 {
            let padding = length - base - 1 - "/socket.new".len();
            meets_in(folder.path().join("x".repeat(padding))).await;
        }
    }
}
