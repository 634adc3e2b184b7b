//! `outrigger init`: a hand for people whose fingers type `dapr init`.

use super::{Outcome, output};
use std::process::ExitCode;

/// Says that there is nothing to initialise.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct InitArgs {
    /// Whatever was passed; nothing is done with it.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _rest: Vec<String>,
}

pub(super) fn run(_args: &InitArgs) -> Outcome {
    output::note(
        "There is nothing to initialise: no containers, no downloads. Start your app with\n\n  outrigger run -- your command\n",
    );
    Ok(ExitCode::SUCCESS)
}
