//! `outrigger completion SHELL`.

use super::Outcome;
use clap_complete::Shell;
use std::{io, process::ExitCode};

/// Print a completion script.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CompletionArgs {
    /// The shell.
    shell: Shell,
}

pub(super) fn run(args: &CompletionArgs, mut command: clap::Command) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "outrigger", &mut script);
    drop(io::Write::write_all(&mut io::stdout().lock(), &script));
    Ok(ExitCode::SUCCESS)
}
