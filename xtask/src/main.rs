//! # xtask: every chore of the project, one verb each
//!
//! `cargo xtask VERB` runs this program. There are no shell scripts beside it, so that a chore is read, reviewed and
//! type-checked like the rest. A verb either checks and never writes to the tree (`tidy`, `ci`, `test`,
//! `bench --check`, `examples`) or writes and says what it wrote (`docs`).
//!
//! The order of steps is by cost: what fails in seconds runs before what takes minutes.

mod bench;
mod docs;
mod examples;
mod shell;
mod test;
mod tidy;
mod tools;
mod torture;

use anyhow::{Result, bail};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask VERB

  tidy            rules that need no compiler: layers, names, file heads, sizes
  test            everything a change must pass, cheapest first; installs what the tests need
  test --fast     the same without the official clients, the figures and the release build
  ci              another name for `test`, with the environment made as strict as it gets
  docs            write the generated reference pages
  docs --check    fail when a generated page is not what the code says
  examples        run every example and compare what it says with what it promises
  bench [NAME..]  measure, side by side with the rivals that are installed
  bench --check   compare the steady figures (memory, threads, size) with benches/ranges.json
  torture         crash the store: simulated disks (--seeds N), kill -9 (--rounds N), power cuts (--cuts N)
  torture --seed S  play one seed of the simulation again
  tools           install what the tests need, and say what cannot be installed";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::say(&format!("\nerror: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let verb = arguments.first().map_or("", String::as_str);
    let rest = arguments.get(1..).unwrap_or_default();
    let flag = |name: &str| rest.iter().any(|argument| argument == name);
    shell::enter_root()?;
    match verb {
        "tidy" => tidy::run(),
        "test" | "ci" => test::run(flag("--fast")),
        "docs" => docs::run(flag("--check")),
        "examples" => examples::run(rest),
        "bench" => bench::run(rest),
        "torture" => torture::run(rest),
        "tools" => tools::install(),
        "" | "help" | "--help" | "-h" => {
            shell::say(USAGE);
            Ok(())
        }
        other => bail!("there is no verb '{other}'\n\n{USAGE}"),
    }
}
