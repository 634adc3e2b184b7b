//! `outrigger explain OUTR-nnnn`: the page of an error code, offline.

use super::{Outcome, output};
use crate::failure::{Exit, Failure, pages};
use std::process::ExitCode;

/// Explain an error code.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// The code, such as OUTR-0004 or 4; all codes when left out.
    code: Option<String>,
}

pub(super) fn run(args: &ExplainArgs) -> Outcome {
    let Some(asked) = &args.code else {
        for page in pages::all() {
            output::line(&format!("{}  {}", page.code, page.title));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let number = asked.to_ascii_uppercase();
    let number = number.strip_prefix("OUTR-").unwrap_or(&number);
    let code = format!("OUTR-{number:0>4}");
    let page = pages::all().into_iter().find(|page| page.code == code).ok_or_else(|| {
        Failure::new("OUTR-0022", Exit::NotFound, format!("there is no code {asked}"))
            .help("`outrigger explain` lists all of them")
    })?;
    output::line(&format!(
        "{}: {}\n\nCause\n  {}\n\nRemedy\n  {}",
        page.code, page.title, page.cause, page.remedy
    ));
    Ok(ExitCode::SUCCESS)
}
