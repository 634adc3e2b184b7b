//! Runs the examples and compares what they say with what their README promises.
//!
//! Every folder `examples/NN-name` has a README with one `console` block: a `$ command` line and the output it promises.
//! The promised lines must appear in what the command writes, in that order, each within a line. A command that ends by
//! itself must end well; one that serves for ever is interrupted once it has said everything.

use crate::shell;
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    time::Duration,
};

/// How long one example may take.
const SECONDS_MAX: u32 = 60;

const TICK: Duration = Duration::from_millis(100);

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
    let (line, promise) = session(&readme).context("the README has no `console` block")?;
    let release = shell::target()?.join("release");
    let path = std::env::var("PATH").unwrap_or_default();
    let log = shell::target()?.join("example.log");
    let file = fs::File::create(&log)?;
    let mut command = shell::command("bash", &["-c", &format!("exec {line}")]);
    command.current_dir(folder).env("PATH", format!("{}:{path}", release.display()));
    let child = command.stdout(file.try_clone()?).stderr(file).spawn()?;
    let mut program = Program(child);
    let ended = program.watch(&log, &promise)?;
    let said = fs::read_to_string(&log)?;
    compare(&promise, &said)?;
    match ended {
        Some(status) => ensure!(status.success(), "ended with {status}\n{said}"),
        None => program.interrupt().with_context(|| format!("it said:\n{said}"))?,
    }
    Ok(())
}

/// A program that does not outlive its example.
struct Program(Child);

impl Program {
    /// Waits until it has ended or has said everything, at most a minute.
    fn watch(&mut self, log: &Path, promise: &str) -> Result<Option<ExitStatus>> {
        for _ in 0..SECONDS_MAX * 10 {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            if compare(promise, &fs::read_to_string(log)?).is_ok() {
                // It may be about to end by itself; only one that stays is interrupted.
                return self.wait(20);
            }
            std::thread::sleep(TICK);
        }
        bail!("not done after {SECONDS_MAX} s; it said:\n{}", fs::read_to_string(log)?)
    }

    fn wait(&mut self, ticks: u32) -> Result<Option<ExitStatus>> {
        for _ in 0..ticks {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(TICK);
        }
        Ok(None)
    }

    fn interrupt(&mut self) -> Result<()> {
        let pid = self.0.id().to_string();
        shell::output(&mut shell::command("bash", &["-c", &format!("kill -INT {pid}")]))?;
        let ended = self.wait(SECONDS_MAX * 2)?;
        ensure!(ended.is_some(), "it did not end when interrupted");
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}

/// The command and the promised output of the first `console` block.
fn session(text: &str) -> Option<(String, String)> {
    let opening = "```console\n$ ";
    let start = text.find(opening)? + opening.len();
    let length = text[start..].find("\n```")?;
    let (command, promise) = text[start..start + length].split_once('\n')?;
    Some((command.to_owned(), promise.to_owned()))
}

/// Whether the promised lines appear in order, each within a line.
fn compare(promise: &str, said: &str) -> Result<()> {
    let mut lines = said.lines();
    for wanted in promise.lines().map(str::trim_end) {
        if !lines.any(|line| line.contains(wanted)) {
            bail!("promised `{wanted}`, which does not follow in:\n{said}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{compare, session};

    #[test]
    fn promised_lines_appear_in_order() {
        assert!(compare("a\nc", "a\nb\napp | c\n").is_ok());
        assert!(compare("c\na", "a\nb\nc\n").is_err());
        assert!(compare("a\nz", "a\nb\nc\n").is_err());
    }

    #[test]
    fn finds_the_session() {
        let readme = "x\n```console\n$ echo hi\nhi\n```\n";
        assert_eq!(session(readme), Some(("echo hi".to_owned(), "hi".to_owned())));
        assert_eq!(session("nothing"), None);
    }
}
