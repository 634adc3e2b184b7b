//! Plays the compatibility scenarios against any target on this machine:
//! `cargo run -p outrigger-tests --bin compat -- PORT [FILE...]`.

use anyhow::{Context, Result, ensure};
use outrigger_tests::scenario::{self, Names};
use std::path::PathBuf;

#[expect(clippy::print_stdout, reason = "a command line tool speaks")]
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().context("usage: compat PORT [FILE...]")?.parse()?;
    let files: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let mut failed = 0;
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        let mut names = Names::new();
        for exchange in scenario::parse(&text)? {
            if let Err(error) = scenario::play(&exchange, port, &mut names) {
                failed += 1;
                println!("{}: {error:#}", file.display());
            }
        }
    }
    ensure!(failed == 0, "{failed} exchanges differ");
    Ok(())
}
