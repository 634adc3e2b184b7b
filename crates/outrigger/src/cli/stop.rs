//! `outrigger stop`: ask runtimes to drain and end.

use super::{Context, Outcome, output};
use crate::{
    failure::{Exit, Failure},
    procfs,
    running::{self, Running},
    world::RealWorld,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use outrigger_kernel::{Deadline, World};
use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

/// Stop running apps.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct StopArgs {
    /// The apps, by id. A runtime that serves several ends with all of them.
    #[arg(value_name = "APP", required_unless_present_any = ["all", "run_file", "apps"])]
    words: Vec<String>,
    /// The apps, as the reference's CLI names them.
    #[arg(short = 'a', long = "app-id", value_name = "APP", hide = true)]
    apps: Vec<String>,
    /// Everything that runs.
    #[arg(long)]
    all: bool,
    /// What was started from this run file.
    #[arg(short = 'f', long = "run-file", value_name = "FILE")]
    run_file: Option<PathBuf>,
    /// Wait at most so many seconds for the end.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

pub(super) async fn run(args: StopArgs, context: Context, world: Arc<RealWorld>) -> Outcome {
    let running = running::all(&running::folder(&context.environment));
    let names: Vec<&String> = args.words.iter().chain(&args.apps).collect();
    for name in &names {
        if !running.iter().any(|runtime| runtime.apps.iter().any(|app| app.app_id == **name)) {
            return Err(Failure::new(
                "OUTR-0022",
                Exit::NotFound,
                format!("no app called {name:?} is running here"),
            )
            .help("`outrigger list` shows what runs"));
        }
    }
    let file =
        args.run_file.as_ref().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone()));
    let chosen = |runtime: &&Running| {
        args.all
            || (file.is_some() && runtime.run_file == file)
            || runtime.apps.iter().any(|app| names.contains(&&app.app_id))
    };
    let chosen: Vec<&Running> = running.iter().filter(chosen).collect();
    if chosen.is_empty() && file.is_some() {
        return Err(Failure::new("OUTR-0022", Exit::NotFound, "nothing runs from that file"));
    }
    for runtime in &chosen {
        // It may have ended since the list was read.
        let _ = kill(Pid::from_raw(runtime.pid), Signal::SIGTERM);
    }
    let deadline = Deadline::after(&*world, Duration::from_secs(args.timeout));
    for runtime in chosen {
        while procfs::started(runtime.pid) == Some(runtime.started) && procfs::is_alive(runtime.pid)
        {
            if deadline.expired(world.mono()) {
                return Err(Failure::new(
                    "OUTR-0023",
                    Exit::Timeout,
                    format!("process {} has not ended yet", runtime.pid),
                )
                .help("it may still be draining; a second signal ends it at once"));
            }
            world.sleep(Duration::from_millis(20)).await;
        }
        let ids: Vec<&str> = runtime.apps.iter().map(|app| app.app_id.as_str()).collect();
        output::note(&format!("stopped {}", ids.join(", ")));
    }
    Ok(ExitCode::SUCCESS)
}
