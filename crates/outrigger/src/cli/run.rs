//! `outrigger run`: an app, or all apps of a run file, with the runtime beside them in this one process.

use super::{
    Context, Name, Outcome,
    sidecar::{log_settings, warn_of_flags_without_effect},
};
use crate::{
    failure::{Exit, Failure},
    logging::{self, Shape, Sink},
    plan,
    session::{self, Manner},
    settings::flags::Flags,
    world::RealWorld,
};
use std::{path::PathBuf, sync::Arc};

/// Run an app, or all apps of a run file, with the runtime beside them.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct RunArgs {
    /// Run all apps of this file (dapr.yaml).
    #[arg(short = 'f', long = "run-file", value_name = "FILE", conflicts_with = "command")]
    run_file: Option<PathBuf>,
    /// Start an app again when it ends unexpectedly.
    #[arg(long)]
    restart: bool,
    #[command(flatten)]
    flags: Flags,
    /// The app's command line.
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(super) async fn run(args: RunArgs, context: Context, world: Arc<RealWorld>) -> Outcome {
    // Everything from the first stray word on is the app's; a flag there is a misspelt one of ours.
    if let Some(flag) = args.command.first().filter(|word| word.starts_with('-')) {
        return Err(Failure::new("OUTR-0001", Exit::Usage, format!("there is no flag {flag}"))
            .help(
                "`outrigger run --help` lists the flags; the app's command line comes after `--`",
            ));
    }
    let (layers, _) = args.flags.layers(context.settings.as_deref(), &context.environment)?;
    let plan = match &args.run_file {
        Some(path) => plan::run_file(&layers, &context.environment, path)?,
        None => plan::one_app(&layers, &context.environment, &args.command)?,
    };
    if plan.apps.is_empty() {
        return Err(Failure::new("OUTR-0024", Exit::Usage, "the run file names no apps"));
    }
    let app_id = match &plan.apps[..] {
        [only] => only.settings.id.clone(),
        _ => String::new(),
    };
    let mut log = log_settings(&layers, &context, "text", Shape::Short, Sink::Stderr, app_id)?;
    if !layers.is_set("log.level") && log.shape == Shape::Short {
        // The screen belongs to the apps; what the person must see is told as notices.
        "warn".clone_into(&mut log.level);
        if plan.apps.iter().any(|app| app.settings.api_logging) {
            log.level.push_str(",outrigger::api=info");
        }
    }
    logging::install(&log, Arc::clone(&world) as _)?;
    warn_of_flags_without_effect(&layers);
    let manner =
        Manner::run(context.line, context.environment, context.name == Name::Dapr, args.restart);
    session::run(plan, manner, world).await
}
