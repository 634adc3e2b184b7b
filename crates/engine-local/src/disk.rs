//! The real disk: one folder of the file system.
//!
//! Everything else of the engine speaks to [`Disk`], so that a simulated one can stand in. What this one adds to the
//! system's calls is little, and all of it about safety:
//!
//! - files belong to the user alone (mode 0600) and are never reached through a symbolic link;
//! - a name is a plain file name, so nothing outside of the folder can be meant;
//! - [`DiskFile::sync`] is `fdatasync`, and the folder's own sync is an `fsync` of the open folder.

use nix::{
    fcntl::OFlag,
    sys::statvfs::{Statvfs, fstatvfs},
};
use outrigger_kernel::disk::{Disk, DiskFile, Room};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A folder of the file system that exists already.
#[derive(Debug)]
pub(crate) struct FolderDisk {
    path: PathBuf,
    /// Open, so that its names can be synced.
    folder: File,
}

impl FolderDisk {
    /// The folder `path`, which must exist.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_DIRECTORY.bits();
        let folder = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        Ok(Self { path: path.to_owned(), folder })
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
        options
    }

    fn file(&self, name: &str) -> io::Result<PathBuf> {
        let plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
        if !plain {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file name"));
        }
        Ok(self.path.join(name))
    }
}

impl Disk for FolderDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(FolderFile(Self::options().open(self.file(name)?)?)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(FolderFile(Self::options().create_new(true).open(self.file(name)?)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.file(from)?, self.file(to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.file(name)?)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            // A name that is not text is none of ours.
            if let (true, Ok(name)) =
                (entry.file_type()?.is_file(), entry.file_name().into_string())
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.folder.sync_all()
    }

    fn room(&self) -> io::Result<Room> {
        let system: Statvfs = fstatvfs(&self.folder)?;
        let in_bytes = |blocks: u64| blocks.saturating_mul(system.fragment_size());
        Ok(Room {
            free_bytes: in_bytes(system.blocks_available()),
            total_bytes: in_bytes(system.blocks()),
        })
    }
}

#[derive(Debug)]
struct FolderFile(File);

impl DiskFile for FolderFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::FolderDisk;
    use outrigger_kernel::disk::Disk;
    use std::{io::ErrorKind, os::unix::fs::MetadataExt};

    #[test]
    fn a_file_is_private_and_stays_inside_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let disk = FolderDisk::open(folder.path()).unwrap();
        disk.create("a").unwrap().write_at(b"text", 2).unwrap();
        let told = std::fs::metadata(folder.path().join("a")).unwrap();
        assert_eq!((told.mode() & 0o777, told.len()), (0o600, 6));
        for name in ["", ".", "..", "../a", "b/c", "/etc/passwd"] {
            assert_eq!(disk.open(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
            assert_eq!(disk.create(name).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
        }
        std::os::unix::fs::symlink("a", folder.path().join("link")).unwrap();
        assert!(disk.open("link").is_err());
        assert_eq!(disk.list().unwrap(), ["a"], "links and folders are no files of the store");
    }

    #[test]
    fn what_is_missing_or_there_already_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let disk = FolderDisk::open(folder.path()).unwrap();
        assert_eq!(disk.open("a").unwrap_err().kind(), ErrorKind::NotFound);
        let file = disk.create("a").unwrap();
        assert_eq!(disk.create("a").unwrap_err().kind(), ErrorKind::AlreadyExists);
        file.write_at(b"0123", 0).unwrap();
        let mut bytes = [0; 5];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        file.set_length(2).unwrap();
        assert_eq!(file.length().unwrap(), 2);
        disk.rename("a", "b").unwrap();
        file.write_at(b"xy", 0).unwrap();
        file.sync().unwrap();
        disk.sync_folder().unwrap();
        let mut bytes = [0; 2];
        disk.open("b").unwrap().read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"xy");
        disk.remove("b").unwrap();
        assert!(disk.list().unwrap().is_empty());
        assert!(disk.room().unwrap().free_bytes > 0);
        assert!(FolderDisk::open(&folder.path().join("absent")).is_err());
    }
}
