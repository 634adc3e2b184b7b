//! Which folder keeps everything: the one named, else one per user, so that two terminals anywhere are one system.

use super::Environment;
use crate::failure::{Exit, Failure};
use std::path::{Path, PathBuf};

/// The data folder: `asked`, else `$XDG_DATA_HOME/outrigger`, else `~/.local/share/outrigger`.
///
/// # Errors
/// When there is neither a name nor a home.
pub fn choose(asked: Option<&str>, environment: &Environment) -> Result<PathBuf, Failure> {
    if let Some(asked) = asked {
        return Ok(expand(asked, environment));
    }
    let home = || environment.get("HOME").map(|home| Path::new(home).join(".local/share"));
    let base = environment.get("XDG_DATA_HOME").map(PathBuf::from).or_else(home);
    base.map(|base| base.join("outrigger")).ok_or_else(|| {
        Failure::new("OUTR-0011", Exit::Usage, "there is no folder to keep data in")
            .why("neither XDG_DATA_HOME nor HOME is set")
            .help(
                "name one with --data-dir or OUTRIGGER_DATA_DIR, or keep nothing with --ephemeral",
            )
    })
}

/// A leading `~` is the home folder also where no shell has replaced it, as in files.
fn expand(path: &str, environment: &Environment) -> PathBuf {
    match (path.strip_prefix("~/"), environment.get("HOME")) {
        (Some(rest), Some(home)) => Path::new(home).join(rest),
        _ => PathBuf::from(path),
    }
}

/// The path as people write it, with `~` for their home.
#[must_use]
pub fn show(path: &Path, environment: &Environment) -> String {
    let home = environment.get("HOME").filter(|home| *home != "/");
    match home.and_then(|home| path.strip_prefix(home).ok()) {
        Some(rest) => format!("~/{}", rest.display()),
        None => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{choose, show};
    use crate::settings::Environment;
    use std::path::Path;

    #[test]
    fn named_then_xdg_then_home_then_nothing() {
        let home = Environment::of(&[("HOME", "/home/ada")]);
        let both = Environment::of(&[("HOME", "/home/ada"), ("XDG_DATA_HOME", "/data")]);
        assert_eq!(choose(Some("/x"), &both).unwrap(), Path::new("/x"));
        assert_eq!(choose(Some("~/x"), &home).unwrap(), Path::new("/home/ada/x"));
        assert_eq!(choose(None, &both).unwrap(), Path::new("/data/outrigger"));
        assert_eq!(choose(None, &home).unwrap(), Path::new("/home/ada/.local/share/outrigger"));
        assert_eq!(choose(None, &Environment::default()).unwrap_err().code(), "OUTR-0011");
        assert_eq!(show(Path::new("/home/ada/x"), &home), "~/x");
    }
}
