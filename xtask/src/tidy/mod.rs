//! Rules that need no compiler, checked in seconds. A rule without a tool is a wish.
//!
//! Each rule is a function from what it looks at to findings; a finding names the file, the line where it can, and what
//! to do. All rules run before the verdict, so that one run shows everything.

mod layers;
mod links;
mod modules;
mod text;

use crate::shell;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// A file of the tree as tidy sees it.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "rs")
    }

    fn shown(&self) -> String {
        self.path.display().to_string()
    }
}

pub(crate) fn run() -> Result<()> {
    let paths = listed()?;
    let mut findings = text::blobs(&paths);
    let sources: Vec<Source> = paths.into_iter().filter_map(read).collect();
    findings.extend(layers::check(&sources)?);
    findings.extend(modules::forgotten(&sources));
    findings.extend(links::broken(&sources));
    for source in &sources {
        findings.extend(text::check(source));
    }
    for line in text::size_report(&sources) {
        shell::say(&line);
    }
    if findings.is_empty() {
        shell::say(&format!("    tidy: {} files, nothing to complain about", sources.len()));
        return Ok(());
    }
    for finding in &findings {
        shell::say(&format!("    tidy: {finding}"));
    }
    bail!("{} findings", findings.len())
}

/// Every file that is or would be committed. Asking git keeps build products and tools out without a list of our own.
fn listed() -> Result<Vec<PathBuf>> {
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let text = shell::output(&mut shell::command("git", &arguments))
        .context("tidy asks git which files belong to the project")?;
    Ok(text.lines().map(PathBuf::from).filter(|path| path.is_file()).collect())
}

/// The text of a file, or nothing when it is not text.
fn read(path: PathBuf) -> Option<Source> {
    let text = std::fs::read_to_string(Path::new(&path)).ok()?;
    Some(Source { path, text })
}
