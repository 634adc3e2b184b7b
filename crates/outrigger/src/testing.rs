//! What several unit tests of this crate need.

use std::path::Path;

/// A folder that is removed when dropped.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A new empty folder.
pub(crate) fn folder() -> Folder {
    Folder(tempfile::tempdir().expect("the folder for temporary files is writable"))
}
