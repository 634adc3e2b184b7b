//! Everything a change must pass, cheapest first.
//!
//! | step | stops |
//! |---|---|
//! | format, tidy | debates about style, drift of the structure |
//! | lints | footguns named in `clippy.toml` |
//! | unit, property and fuzz tests | regressions, at the lowest level that can fail for the right reason |
//! | documentation | dead links |
//! | release build, generated pages | stale reference, a build that only works unoptimised |
//! | proofs of the store | a store that forgets, lies or comes back as something it never was |
//! | end to end | a promise to a real client that does not hold |
//! | examples, steady figures | broken promises, slow growth |
//!
//! Tests are counted across all steps; the last line is the sum.

use crate::{
    bench, docs, examples,
    shell::{self, Tally, step},
    tidy, tools,
};
use anyhow::{Result, bail};

/// The package of the end-to-end tests. They run against the release build, so they come later than the rest.
const END_TO_END: &str = "outrigger-tests";

pub(crate) fn run(fast: bool) -> Result<()> {
    step("format", || shell::run(&mut shell::cargo(&["fmt", "--all", "--check"])))?;
    step("tidy", tidy::run)?;
    if !fast {
        step("tools", tools::install)?;
    }
    step("lints", lints)?;
    let mut tally = step("unit, property and fuzz tests", || unit(fast))?;
    step("documentation", documentation)?;
    if !fast {
        step("release build", release)?;
        step("generated pages", || docs::run(true))?;
        tally.add(step("proofs of the store", proofs)?);
        tally.add(step("end to end", end_to_end)?);
        step("examples", || examples::run(&[]))?;
        step("steady figures", bench::check)?;
    }
    shell::say(&format!("\n{} passed, {} failed", tally.passed, tally.failed));
    if tally.failed > 0 {
        bail!("{} tests failed", tally.failed);
    }
    Ok(())
}

fn lints() -> Result<()> {
    let arguments =
        ["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"];
    shell::run(&mut shell::cargo(&arguments))?;
    // What is behind a feature that nothing turns on.
    let planted = ["clippy", "--package", "outrigger-engine-local", "--features", "planted"];
    let rest = ["--all-targets", "--locked", "--quiet", "--", "-D", "warnings"];
    shell::run(&mut shell::cargo(&[&planted[..], &rest].concat()))
}

fn unit(fast: bool) -> Result<Tally> {
    let mut arguments = vec!["test", "--workspace", "--locked", "--no-fail-fast"];
    arguments.extend(["--exclude", END_TO_END]);
    if fast {
        arguments.push("--lib");
    }
    shell::tally(&mut shell::cargo(&arguments))
}

/// Crashes at every step, every fault, every flipped byte; and every planted bug must be found by them. Optimised, because
/// it is half a million recoveries.
fn proofs() -> Result<Tally> {
    let mut arguments = vec!["test", "--release", "--locked", "--no-fail-fast"];
    arguments.extend(["--package", "outrigger-engine-local", "--test", "proofs"]);
    arguments.extend(["--features", "planted"]);
    shell::tally(&mut shell::cargo(&arguments))
}

fn documentation() -> Result<()> {
    let arguments =
        ["doc", "--workspace", "--no-deps", "--document-private-items", "--locked", "--quiet"];
    // Private items are documented too, so links to them lead somewhere.
    let flags = "-D warnings -A rustdoc::private_intra_doc_links";
    shell::run(shell::cargo(&arguments).env("RUSTDOCFLAGS", flags))
}

fn release() -> Result<()> {
    shell::run(&mut shell::cargo(&["build", "--release", "--locked", "--package", "outrigger"]))
}

fn end_to_end() -> Result<Tally> {
    let binary = shell::target()?.join("release/outrigger");
    let arguments = ["test", "--locked", "--no-fail-fast", "--package", END_TO_END];
    shell::tally(shell::cargo(&arguments).env("OUTRIGGER_BIN", binary))
}
