//! What a durable store asks of a disk: one flat folder of files with positional reads and writes, and two ways to make
//! things last.
//!
//! The contract is the weak one that real file systems keep, and no stronger, so that a simulated disk may break
//! everything else:
//!
//! - bytes written are visible to reads at once, and survive the end of the process; they survive a power cut only after
//!   [`DiskFile::sync`] has answered. Until then any part of them may last, in any order, torn at any sector;
//! - a file's new length, a created, renamed or removed name lasts after [`Disk::sync_folder`] (for names) or
//!   [`DiskFile::sync`] (for the length);
//! - a sync that fails says nothing about what is on the disk, now or later: it must not be tried again and believed.

use std::{fmt, io, sync::Arc};

/// A folder that a store owns alone. Names are plain file names without separators.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens the file `name`, which must exist.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::NotFound`] when there is no such file.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates the empty file `name`, which must not exist.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::AlreadyExists`] when there is such a file.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames `from` to `to`, which must not exist or is replaced. Handles stay valid.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes the file `name`. Handles stay valid until they are dropped.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files, sorted.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes created, renamed and removed names last.
    ///
    /// # Errors
    /// What the system says; see the module's head about trying again.
    fn sync_folder(&self) -> io::Result<()>;

    /// How much room there is.
    ///
    /// # Errors
    /// When the system does not say.
    fn room(&self) -> io::Result<Room>;
}

/// An open file. Clones of the handle are the same file; calls may come from several threads.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Fills `buffer` from byte `at` on.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::UnexpectedEof`] when the file ends before the buffer is full.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;

    /// Writes all of `bytes` from byte `at` on; the file grows when need be.
    ///
    /// # Errors
    /// What the system says; part of the bytes may have been written then.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Makes everything written so far, and the length, last (`fdatasync`).
    ///
    /// # Errors
    /// What the system says; see the module's head about trying again.
    fn sync(&self) -> io::Result<()>;

    /// How long the file is, in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn length(&self) -> io::Result<u64>;

    /// Cuts the file, or lets it grow with zeros, to `bytes`.
    ///
    /// # Errors
    /// What the system says.
    fn set_length(&self, bytes: u64) -> io::Result<()>;
}

/// The room of a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What may still be written.
    pub free_bytes: u64,
    /// Its whole size.
    pub total_bytes: u64,
}
