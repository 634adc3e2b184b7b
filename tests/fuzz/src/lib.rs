//! # Fuzzing on stable Rust: one target per parser that sees bytes from outside
//!
//! A target is a function from bytes to nothing that must not panic, must not take long, and asserts what its parser
//! promises. [`run`] feeds it the files of its corpus first (every input that ever broke it stays there), then mutations
//! of them for [`seconds`] seconds. The mutator knows no coverage; it knows the dictionary of the format, which for
//! grammars this small finds nearly as much and needs no other compiler.
//!
//! A failing input is written to `target/fuzz/` and named in the message: move it into the corpus, then mend the parser.
//! `FUZZ_SECONDS=600 cargo test -p outrigger-fuzz` runs longer; `FUZZ_SEED` repeats a run.
#![forbid(unsafe_code)]

mod targets;

use anyhow::{Context, Result, ensure};
use outrigger_tests::mutate::{Mutator, fingerprint};
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// An input may take this long, unoptimised and on a busy machine.
const PATIENCE: Duration = Duration::from_secs(2);
const BYTES_MAX: usize = 64 * 1024;

/// How long each target runs.
#[must_use]
pub fn seconds() -> u64 {
    variable("FUZZ_SECONDS").unwrap_or(3)
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a target on its corpus and on mutations of it; answers how many inputs it saw.
///
/// # Errors
/// When an input breaks it; the error names the file that holds it.
#[expect(clippy::disallowed_methods, reason = "fuzzing is bounded by real time")]
pub fn run(name: &str, target: fn(&[u8]), dictionary: &[&str]) -> Result<usize> {
    let corpus = corpus(name)?;
    for (path, input) in &corpus {
        attempt(target, input).with_context(|| format!("{}", path.display()))?;
    }
    let seed = variable("FUZZ_SEED").unwrap_or(0x0047_2199);
    let inputs: Vec<Vec<u8>> = corpus.into_iter().map(|(_, input)| input).collect();
    let mut mutator = Mutator::new(seed, inputs, dictionary);
    let end = Instant::now() + Duration::from_secs(seconds());
    let mut seen = 0;
    while Instant::now() < end {
        let mut input = mutator.mutate();
        input.truncate(BYTES_MAX);
        if let Err(error) = attempt(target, &input) {
            let path = keep(name, &input)?;
            return Err(error.context(format!("seed {seed}, input {}", path.display())));
        }
        seen += 1;
    }
    Ok(seen)
}

#[expect(clippy::disallowed_methods, reason = "an input that takes too long is a finding")]
fn attempt(target: fn(&[u8]), input: &[u8]) -> Result<()> {
    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
    ensure!(outcome.is_ok(), "the target panicked");
    let took = started.elapsed();
    ensure!(took < PATIENCE, "the target took {took:?} for {} bytes", input.len());
    Ok(())
}

fn corpus(name: &str) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("no corpus {}", folder.display()))? {
        let path = entry?.path();
        let input = fs::read(&path)?;
        files.push((path, input));
    }
    files.sort();
    ensure!(!files.is_empty(), "an empty corpus: {}", folder.display());
    Ok(files)
}

fn keep(name: &str, input: &[u8]) -> Result<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzz");
    fs::create_dir_all(&target)?;
    let path = target.join(format!("{name}-{:016x}", fingerprint(input)));
    fs::write(&path, input)?;
    Ok(path)
}
