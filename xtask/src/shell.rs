//! Running programs and saying what is going on.
//!
//! Every program runs from the root of the tree, is shown before it runs, and fails the chore when it fails: no exit
//! code is ever thrown away.

use anyhow::{Context, Result, bail, ensure};
use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

/// What a test run counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Reads one line of a test harness' output: `test result: ok. 3 passed; 0 failed; ...`.
    fn count(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let words: Vec<&str> = result.split([' ', ';', '.']).filter(|w| !w.is_empty()).collect();
        for pair in words.windows(2) {
            let number = pair[0].parse().unwrap_or(0);
            match pair[1] {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                _ => {}
            }
        }
    }
}

/// Writes a line for the person who waits.
#[expect(clippy::print_stdout, reason = "this is the one place where chores speak")]
pub(crate) fn say(line: &str) {
    println!("{line}");
    // A chore piped into `head` has nobody left to tell.
    drop(std::io::stdout().flush());
}

/// Makes the root of the tree the working directory, wherever the chore was started.
pub(crate) fn enter_root() -> Result<()> {
    let root = root()?;
    std::env::set_current_dir(&root).with_context(|| format!("cannot enter {}", root.display()))
}

/// The root of the tree.
pub(crate) fn root() -> Result<PathBuf> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    Ok(manifest.parent().context("xtask has no parent folder")?.to_path_buf())
}

/// The folder cargo builds into.
pub(crate) fn target() -> Result<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => Ok(root()?.join("target")),
    }
}

/// A command that shows its output.
pub(crate) fn command<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Cargo, as the one who runs us is called.
pub(crate) fn cargo<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = command(&program, arguments);
    // Set by `cargo run` for us; a nested cargo must find out for itself.
    command.env_remove("CARGO_MANIFEST_DIR");
    command
}

/// Runs `command` and fails when it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    say(&format!("    $ {}", shown(command)));
    let status = command.status().with_context(|| format!("cannot run {}", shown(command)))?;
    ensure!(status.success(), "`{}` failed with {status}", shown(command));
    Ok(())
}

/// Runs `command` quietly and answers what it wrote to its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {}", shown(command)))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("`{}` failed with {}\n{complaint}", shown(command), output.status);
    }
    String::from_utf8(output.stdout).context("the output is not UTF-8")
}

/// Whether `program` can be run at all.
pub(crate) fn exists(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
}

/// Runs a test command, shows its output and counts its results. A failing test is counted, not an error; a command
/// that fails without a failing test (it did not compile, it crashed) is.
pub(crate) fn tally(command: &mut Command) -> Result<Tally> {
    say(&format!("    $ {}", shown(command)));
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut tally = Tally::default();
    let out = child.stdout.take().context("no standard output")?;
    for line in BufReader::new(out).lines() {
        let line = line?;
        tally.count(&line);
        say(&line);
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        bail!("`{}` failed with {status} before its tests ran to their end", shown(command));
    }
    Ok(tally)
}

/// Runs a step of a chore under a title, with the time it took.
#[expect(clippy::disallowed_methods, reason = "a chore has no world to ask for the time")]
pub(crate) fn step<T>(title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    say(&format!("\n==> {title}"));
    let started = Instant::now();
    let result = work().with_context(|| format!("step '{title}'"));
    let verdict = if result.is_ok() { "done" } else { "FAILED" };
    say(&format!("    {verdict}: {title} ({:.1} s)", started.elapsed().as_secs_f64()));
    result
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn counts_what_the_test_harness_says() {
        let mut tally = Tally::default();
        tally
            .count("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; finished in 0.1s");
        tally.count("test result: FAILED. 3 passed; 2 failed; 0 ignored");
        tally.count("12 passed somewhere else");
        assert_eq!(tally, Tally { passed: 15, failed: 2 });
    }
}
