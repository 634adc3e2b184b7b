//! `outrigger sidecar`: the runtime alone. Its flags, log lines and manners are those of `daprd`.

use super::{Context, Name, Outcome, output};
use crate::{
    logging::{self, LogSettings, Shape, Sink},
    plan,
    session::{self, Manner},
    settings::{Layers, flags::Flags},
    world::RealWorld,
};
use std::{process::ExitCode, sync::Arc};

/// Run the runtime alone, next to an app that somebody else starts.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SidecarArgs {
    #[command(flatten)]
    flags: Flags,
    /// Print the version and end.
    #[arg(long)]
    version: bool,
    /// Print the version and what it was built from, and end.
    #[arg(long)]
    build_info: bool,
    /// Wait until the runtime at --dapr-http-port is ready, and end.
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(args: SidecarArgs, context: Context, world: Arc<RealWorld>) -> Outcome {
    if args.version || args.build_info {
        let version = env!("CARGO_PKG_VERSION");
        output::line(&if args.build_info {
            format!("Version: {version}")
        } else {
            version.to_owned()
        });
        return Ok(ExitCode::SUCCESS);
    }
    let (layers, _) = args.flags.layers(context.settings.as_deref(), &context.environment)?;
    if args.wait {
        return session::wait_until_ready(layers.port("http.port").unwrap_or(3500), &*world).await;
    }
    let plan = plan::sidecar(&layers, &context.environment)?;
    let app_id = plan.apps.first().map(|app| app.settings.id.clone()).unwrap_or_default();
    let text = if context.name == Name::Daprd { "text" } else { "auto" };
    let log = log_settings(&layers, &context, text, Shape::Logfmt, Sink::Stdout, app_id)?;
    logging::install(&log, Arc::clone(&world) as _)?;
    warn_of_flags_without_effect(&layers);
    session::run(plan, Manner::sidecar(context.line.clone(), context.environment.clone()), world)
        .await
}

/// What the log settings in `layers` amount to; `format`, `shape` and `sink` are the command's own defaults.
pub(super) fn log_settings(
    layers: &Layers,
    context: &Context,
    format: &str,
    shape: Shape,
    sink: Sink,
    app_id: String,
) -> Result<LogSettings, crate::failure::Failure> {
    let format = layers.text("log.format").unwrap_or(format);
    let instance = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    Ok(LogSettings {
        level: layers.text("log.level").unwrap_or("info").to_owned(),
        filter: context.environment.get("OUTRIGGER_LOG").map(ToOwned::to_owned),
        shape: logging::shape(format, layers.switch("log.as-json"), shape, sink)?,
        sink,
        app_id,
        instance: instance.unwrap_or_else(|| "localhost".to_owned()),
    })
}

pub(super) fn warn_of_flags_without_effect(layers: &Layers) {
    for (setting, entry) in layers.without_effect() {
        tracing::debug!("{} ({}) has no effect in this build", setting.key, entry.origin);
    }
}
