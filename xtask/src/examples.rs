//! Runs the examples and compares what they say with what their README promises.
//!
//! Every folder `examples/NN-name` has a README with one line in a `sh` block (the command) and one `text` block (the
//! output). A `...` line in the promised output stands for any number of lines; everything else must appear as written,
//! in order.

use crate::shell;
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
};

pub(crate) fn run(only: &[String]) -> Result<()> {
    let mut folders: Vec<PathBuf> = fs::read_dir("examples")
        .context("there is no examples folder")?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.join("README.md").is_file())
        .filter(|path| {
            only.is_empty() || only.iter().any(|name| path.to_string_lossy().contains(name))
        })
        .collect();
    folders.sort();
    ensure!(!folders.is_empty(), "no example matches {only:?}");
    for folder in &folders {
        check(folder).with_context(|| format!("example {}", folder.display()))?;
        shell::say(&format!("    example {}: as promised", folder.display()));
    }
    Ok(())
}

fn check(folder: &Path) -> Result<()> {
    let readme = fs::read_to_string(folder.join("README.md"))?;
    let line = block(&readme, "sh").context("the README has no `sh` block")?;
    let promise = block(&readme, "text").context("the README has no `text` block")?;
    let release = shell::target()?.join("release");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = shell::command("bash", &["-euo", "pipefail", "-c", &line]);
    command.current_dir(folder).env("PATH", format!("{}:{path}", release.display()));
    let said = shell::output(&mut command)?;
    compare(&promise, &said)
}

/// The first fenced block of a language.
fn block(text: &str, language: &str) -> Option<String> {
    let opening = format!("```{language}\n");
    let start = text.find(&opening)? + opening.len();
    let length = text[start..].find("\n```")?;
    Some(text[start..start + length].to_owned())
}

fn compare(promise: &str, said: &str) -> Result<()> {
    let mut lines = said.lines().map(str::trim_end);
    let mut skipping = false;
    for wanted in promise.lines().map(str::trim_end) {
        if wanted.trim() == "..." {
            skipping = true;
            continue;
        }
        let found =
            if skipping { lines.any(|line| line == wanted) } else { lines.next() == Some(wanted) };
        if !found {
            bail!("promised `{wanted}`, which does not follow in:\n{said}");
        }
        skipping = false;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{block, compare};

    #[test]
    fn compares_with_gaps() {
        assert!(compare("a\n...\nc", "a\nb\nb\nc\n").is_ok());
        assert!(compare("a\nc", "a\nb\nc\n").is_err());
        assert!(compare("a\n...\nz", "a\nb\nc\n").is_err());
    }

    #[test]
    fn finds_blocks() {
        let readme = "x\n```sh\necho hi\n```\n```text\nhi\n```\n";
        assert_eq!(block(readme, "sh").as_deref(), Some("echo hi"));
        assert_eq!(block(readme, "text").as_deref(), Some("hi"));
        assert_eq!(block(readme, "json"), None);
    }
}
