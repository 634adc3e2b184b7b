//! The key of the seal: a file in the data folder, beside the store and never in it, so that a backup of the store alone
//! holds no usable key.

use crate::failure::{Exit, Failure};
use outrigger_identity::SealKey;
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Its name.
pub(crate) const NAME: &str = "identity.seal";

/// The seal of the data folder `folder`; made, if it has none.
pub(crate) fn of(folder: &Path) -> Result<SealKey, Failure> {
    let path = folder.join(NAME);
    let failed = |error: io::Error| {
        Failure::new("OUTR-0034", Exit::Failed, format!("{} cannot be used", path.display()))
            .why(error)
            .help("it must be a file of 64 hexadecimal digits that only its user reads; put back the one that belongs to this data")
    };
    let open = fs::metadata(&path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0);
    if open {
        return Err(failed(io::Error::other("others than its user can read it")));
    }
    match fs::read_to_string(&path) {
        Ok(text) => read(&text).ok_or_else(|| failed(io::ErrorKind::InvalidData.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(folder, &path).map_err(failed)?;
            let text = fs::read_to_string(&path).map_err(failed)?;
            read(&text).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))
        }
        Err(error) => Err(failed(error)),
    }
}

/// Written whole under a name of its own first: of several processes that make one at once, one wins, and all read that.
fn make(folder: &Path, path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let key = SealKey::new().map_err(io::Error::other)?;
    let text: String = key.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    // Two containers that share a folder may have the same process id.
    let own = folder.join(format!("{NAME}.{:016x}", getrandom::u64().map_err(io::Error::other)?));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&own)?;
    file.write_all(format!("{text}\n").as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&own, path);
    fs::remove_file(&own)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::File::open(folder)?.sync_all(),
    }
}

fn read(text: &str) -> Option<SealKey> {
    let text = text.trim();
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(SealKey::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::{NAME, of};
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn there_is_one_and_it_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let made = of(&data).unwrap();
        assert_eq!(of(&data).unwrap().bytes(), made.bytes());
        let mode = fs::metadata(data.join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
        fs::write(data.join(NAME), "short").unwrap();
        assert_eq!(of(&data).unwrap_err().code(), "OUTR-0034");
        fs::write(data.join(NAME), "0".repeat(64)).unwrap();
        assert!(of(&data).is_ok());
        fs::set_permissions(data.join(NAME), fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(of(&data).unwrap_err().code(), "OUTR-0034");
    }
}
