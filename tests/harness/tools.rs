//! Where the things are that tests run: the binary, the interpreters with the official clients.
//!
//! A missing tool fails the test that needs it, with the command that installs it. Nothing is skipped in silence.

use anyhow::{Context, Result, ensure};
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The root of the tree.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The binary under test: `OUTRIGGER_BIN`, or the debug build, brought up to date once per run.
///
/// # Errors
/// When it cannot be built.
pub fn binary() -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn build() -> Result<PathBuf> {
    if let Some(path) = env::var_os("OUTRIGGER_BIN") {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "OUTRIGGER_BIN={} does not exist", path.display());
        return Ok(path);
    }
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let built = Command::new(cargo)
        .current_dir(root())
        .args(["build", "--quiet", "--package", "outrigger", "--bin", "outrigger"])
        .status()?;
    ensure!(built.success(), "the binary under test does not build");
    // target/debug/deps/it-... -> target/debug/outrigger
    let test = env::current_exe()?;
    let debug = test.parent().and_then(Path::parent).context("no target folder")?;
    Ok(debug.join("outrigger"))
}

/// The Python that has the official client.
///
/// # Errors
/// When it is not installed.
pub fn python() -> Result<PathBuf> {
    installed(".tools/python/bin/python")
}

/// Node, and the folder with the official client.
///
/// # Errors
/// When it is not installed.
pub fn node() -> Result<(PathBuf, PathBuf)> {
    let modules = installed(".tools/node/node_modules")?;
    let bundled = root().join(".tools/python/bin/node");
    let node = if bundled.is_file() { bundled } else { PathBuf::from("node") };
    Ok((node, modules))
}

fn installed(path: &str) -> Result<PathBuf> {
    let path = root().join(path);
    ensure!(path.exists(), "{} is missing; run `cargo xtask tools`", path.display());
    Ok(path)
}

/// Whether the test runs as root; mounting a small or read-only file system needs it.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}
