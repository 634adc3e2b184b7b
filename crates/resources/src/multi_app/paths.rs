//! Where the paths of a run file lead.

use std::path::{Component, Path, PathBuf};

/// What paths are relative to.
pub(super) struct Paths<'a> {
    /// The run file's folder, absolute.
    pub(super) base: PathBuf,
    exists: &'a dyn Fn(&Path) -> bool,
    home: Option<&'a Path>,
}

impl<'a> Paths<'a> {
    pub(super) fn new(
        file: &Path,
        exists: &'a dyn Fn(&Path) -> bool,
        home: Option<&'a Path>,
    ) -> Self {
        // Without a working directory there is nothing to be absolute to; then paths stay as they are.
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let base = file.parent().map_or_else(PathBuf::new, clean);
        Self { base, exists, home }
    }

    /// `path`, from `base` unless it is absolute or begins with `~`.
    pub(super) fn resolve(&self, base: &Path, path: &str) -> PathBuf {
        let from_home = match (path, self.home) {
            ("~", Some(home)) => Some(home.to_owned()),
            (_, Some(home)) => path.strip_prefix("~/").map(|rest| home.join(rest)),
            (_, None) => None,
        };
        clean(&from_home.unwrap_or_else(|| base.join(path)))
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        (self.exists)(path)
    }
}

/// Without `.` and `..`, as far as that is possible without looking at the disk.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if cleaned.file_name().is_some() => {
                cleaned.pop();
            }
            other => cleaned.push(other),
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::Paths;
    use std::path::{Path, PathBuf};

    #[test]
    fn relative_absolute_and_home() {
        let paths = Paths::new(Path::new("/w/run/dapr.yaml"), &|_| true, Some(Path::new("/h")));
        assert_eq!(paths.base, PathBuf::from("/w/run"));
        for (path, expected) in [
            ("./a/", "/w/run/a"),
            ("../b/./c", "/w/b/c"),
            ("/x/../../y", "/../y"),
            ("~/z", "/h/z"),
            ("~", "/h"),
            (".", "/w/run"),
        ] {
            assert_eq!(paths.resolve(&paths.base, path), PathBuf::from(expected), "{path}");
        }
    }
}
