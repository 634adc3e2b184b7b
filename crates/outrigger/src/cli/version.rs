//! `outrigger version`.

use super::{
    Outcome,
    output::{self, Form, OutputArgs},
};
use std::process::ExitCode;

/// Print the version.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct VersionArgs {
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &VersionArgs) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    match args.output.form {
        Form::Table => output::line(&format!("outrigger {version}")),
        Form::Name => output::line(version),
        Form::Env => output::line(&format!("OUTRIGGER_VERSION={version}")),
        form => output::document(form, &serde_json::json!({ "version": version })),
    }
    Ok(ExitCode::SUCCESS)
}
