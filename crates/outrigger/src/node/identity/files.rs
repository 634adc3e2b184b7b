//! Identities from files, for those who have an authority of their own: SPIRE, cert-manager, `outrigger ca issue`.
//!
//! | file | what |
//! |---|---|
//! | `tls.crt` | the app's certificate, and what leads to a root |
//! | `tls.key` | its key, PKCS#8 or SEC1 |
//! | `ca.crt` | the roots to trust |
//!
//! A folder with the app's id in the folder counts before the folder itself.

use outrigger_identity::Credentials;
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// The largest of the files.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What the files of one app say.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Texts([Vec<u8>; 3]);

/// Where the files of the app `app_id` are.
pub(super) fn place(folder: &Path, app_id: &str) -> PathBuf {
    let own = folder.join(app_id);
    if own.is_dir() { own } else { folder.to_owned() }
}

pub(super) fn read(folder: &Path) -> Result<Texts, String> {
    let read = |name: &str| {
        let path = folder.join(name);
        let told = |error: io::Error| format!("{}: {error}", path.display());
        let length = fs::metadata(&path).map_err(told)?.len();
        if length > FILE_BYTES_MAX {
            return Err(format!("{} is larger than 1 MiB", path.display()));
        }
        fs::read(&path).map_err(told)
    };
    Ok(Texts([read("tls.key")?, read("tls.crt")?, read("ca.crt")?]))
}

impl Texts {
    pub(super) fn credentials(&self, skew: Duration) -> Result<Credentials, String> {
        let [key, chain, bundle] = &self.0;
        let read = Credentials::from_pem(key, chain, bundle, skew);
        read.map_err(|refused| format!("{refused} ({}); {}", refused.code(), refused.remedy()))
    }
}
