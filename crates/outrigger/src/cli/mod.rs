//! The command line: one file per command, its flags, help, work and errors together.
//!
//! The binary answers to three names: its own, `daprd` (then it is `sidecar`) and `dapr` (then its own commands, printed
//! the way tools that drive the reference's CLI expect). Data goes to stdout, everything else to stderr, and the exit
//! code says what to do next ([`crate::failure::Exit`]).

mod argv;
mod backup;
mod ca;
mod client;
mod completion;
mod config;
mod doctor;
mod explain;
mod init;
mod invoke;
mod list;
mod metadata;
mod output;
mod policy;
mod publish;
mod run;
mod sidecar;
mod state;
mod stop;
mod topic;
mod version;

pub use argv::Name;

use crate::{
    demo,
    failure::{Exit, Failure},
    settings::Environment,
    supervise,
    world::RealWorld,
};
use clap::{CommandFactory, Parser, Subcommand};
use std::{ffi::OsString, future::Future, path::PathBuf, process::ExitCode, sync::Arc};

/// A float beside your services: calls, state and events over the Dapr API, from one binary with nothing else to install.
#[derive(Debug, Parser)]
#[command(
    name = "outrigger",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
struct Line {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What every command can be told.
#[derive(Clone, Debug, clap::Args)]
struct Global {
    /// Settings file [default: outrigger.yaml here, in ~/.config/outrigger or in /etc/outrigger].
    #[arg(long = "settings", global = true, value_name = "FILE", env = "OUTRIGGER_SETTINGS")]
    settings: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run an app, or all apps of a run file, with the runtime beside them.
    Run(Box<run::RunArgs>),
    /// Run the runtime alone, next to an app that somebody else starts.
    #[command(alias = "daprd")]
    Sidecar(Box<sidecar::SidecarArgs>),
    /// See an order system survive kill -9, and audit it.
    Demo(demo::DemoArgs),
    /// Call a method of an app.
    Invoke(invoke::InvokeArgs),
    /// Read, write or delete state.
    State(state::StateArgs),
    /// Publish an event.
    Publish(publish::PublishArgs),
    /// Look into topics.
    Topic(topic::TopicArgs),
    /// List running apps.
    #[command(visible_alias = "status")]
    List(list::ListArgs),
    /// Stop running apps.
    Stop(stop::StopArgs),
    /// Show what a runtime says about itself.
    Metadata(metadata::MetadataArgs),
    /// Take a backup of everything, while runtimes go on.
    Backup(backup::BackupArgs),
    /// Make a data folder of a backup.
    Restore(backup::RestoreArgs),
    /// Read every byte of a data folder or backup, and compare it with its checksum.
    Verify(backup::VerifyArgs),
    /// Keep the certificate authority of the data folder, or join one on another host.
    Ca(ca::CaArgs),
    /// Check this machine, with a hint for whatever is wrong.
    Doctor(doctor::DoctorArgs),
    /// Show the effective settings and where each comes from.
    Config(Box<config::ConfigArgs>),
    /// See what stands between calls and their targets.
    Policy(Box<policy::PolicyArgs>),
    /// Explain an error code.
    Explain(explain::ExplainArgs),
    /// Print a completion script.
    Completion(completion::CompletionArgs),
    /// Print the version.
    Version(version::VersionArgs),
    /// Says that there is nothing to initialise.
    #[command(hide = true)]
    Init(init::InitArgs),
    /// One service of the demo.
    #[command(hide = true)]
    DemoService {
        /// Which.
        name: String,
    },
}

/// What a command gets to work with.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The name we were started under.
    name: Name,
    /// The variables of the process.
    environment: Environment,
    /// The settings file asked for.
    settings: Option<PathBuf>,
    /// The command line as given.
    line: String,
}

type Outcome = Result<ExitCode, Failure>;

/// Runs the command line `arguments`, program name first.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    if arguments.get(1).is_some_and(|first| first == supervise::SHIM) {
        return ExitCode::from(supervise::exec(arguments.get(2..).unwrap_or_default()));
    }
    // Huge pages make an idle runtime several times as large. Where the kernel hands them out unasked, decline.
    let _ = nix::sys::prctl::set_thp_disable(true);
    let name = Name::of(arguments.first());
    let shown: Vec<_> = arguments.iter().skip(1).map(|word| word.to_string_lossy()).collect();
    let shown = shown.join(" ");
    let line = match Line::try_parse_from(argv::normalise(name, arguments)) {
        Ok(line) => line,
        Err(error) => {
            // Help and version are answers, not errors: clap knows which stream and code each takes.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let environment = Environment::of_process();
    let context = Context { name, environment, settings: line.global.settings, line: shown };
    match dispatch(line.verb, context) {
        Ok(code) => code,
        Err(failure) => {
            output::report(&failure);
            failure.exit().into()
        }
    }
}

fn dispatch(verb: Verb, context: Context) -> Outcome {
    match verb {
        Verb::Run(args) => on_all_cores(|world| run::run(*args, context, world)),
        Verb::Sidecar(args) => on_all_cores(|world| sidecar::run(*args, context, world)),
        Verb::Demo(args) => on_all_cores(|world| async move { told(demo::run(args, world).await) }),
        Verb::DemoService { name } => on_one_core(|world| async move {
            told(demo::service(&name, world).await.map(|()| ExitCode::SUCCESS))
        }),
        Verb::Invoke(args) => on_one_core(|world| invoke::run(args, context, world)),
        Verb::State(args) => on_one_core(|world| state::run(args, context, world)),
        Verb::Publish(args) => on_one_core(|world| publish::run(args, context, world)),
        Verb::Topic(args) => on_one_core(|world| topic::run(args, context, world)),
        Verb::Metadata(args) => on_one_core(|world| metadata::run(args, context, world)),
        Verb::Stop(args) => on_one_core(|world| stop::run(args, context, world)),
        Verb::Backup(args) => on_one_core(|world| backup::backup(args, context, world)),
        Verb::Restore(args) => {
            on_one_core(|world| async move { backup::restore(&args, &context, &*world) })
        }
        Verb::Verify(args) => backup::verify(&args, &context),
        Verb::Ca(args) => on_one_core(|world| ca::run(args, context, world)),
        Verb::List(args) => list::run(&args, &context),
        Verb::Doctor(args) => on_one_core(|world| doctor::run(args, context, world)),
        Verb::Config(args) => config::run(&args, &context),
        Verb::Policy(args) => on_one_core(|world| policy::run(*args, context, world)),
        Verb::Explain(args) => explain::run(&args),
        Verb::Completion(args) => completion::run(&args, Line::command()),
        Verb::Version(args) => version::run(&args),
        Verb::Init(args) => init::run(&args),
    }
}

/// An error without a code of its own, from code that is not ours to give codes to.
fn told(outcome: anyhow::Result<ExitCode>) -> Outcome {
    outcome.map_err(|error| {
        let failure = Failure::new("OUTR-0030", Exit::Failed, error.to_string());
        error.chain().skip(1).fold(failure, |failure, cause| failure.why(cause))
    })
}

/// Runs work that serves: two to four threads, so that an idle runtime is small and a busy one still uses a laptop.
fn on_all_cores<F: Future<Output = Outcome>>(work: impl FnOnce(Arc<RealWorld>) -> F) -> Outcome {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(cores.clamp(2, 4)).thread_name("outrigger");
    on(builder, work)
}

/// Runs work that makes a few calls and ends.
fn on_one_core<F: Future<Output = Outcome>>(work: impl FnOnce(Arc<RealWorld>) -> F) -> Outcome {
    on(tokio::runtime::Builder::new_current_thread(), work)
}

fn on<F: Future<Output = Outcome>>(
    mut builder: tokio::runtime::Builder,
    work: impl FnOnce(Arc<RealWorld>) -> F,
) -> Outcome {
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Failure::internal("the runtime could not start").why(error))?;
    let outcome = runtime.block_on(async { work(RealWorld::new()).await });
    // Whatever still runs has been asked to end; a blocking call that does not return must not keep us.
    runtime.shutdown_background();
    outcome
}
