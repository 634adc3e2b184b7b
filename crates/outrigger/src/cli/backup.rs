//! `outrigger backup`, `restore` and `verify`: the data folder as a whole.
//!
//! A backup is taken while runtimes go on. This process joins those that share the folder, as any other would, and asks
//! whoever holds it; without any, it holds the folder itself for that long.

use super::{
    Context, Outcome,
    output::{self, Form, OutputArgs},
};
use crate::{
    failure::{Exit, Failure},
    node,
    settings::{data_dir, flags::Flags},
    world::RealWorld,
};
use jiff::Timestamp;
use outrigger_engine_local::{self as store, BackupError, Goal, OpenError};
use outrigger_kernel::{Wall, World};
use outrigger_keyspace::KeySpace;
use serde_json::json;
use std::{
    path::{Path, PathBuf, absolute},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

/// How long a runtime that takes the folder over from this process waits for it.
const GRACE: Duration = Duration::from_secs(5);

/// The data folder a command is about.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct DataArgs {
    /// Folder that keeps everything [default: that of `outrigger run`].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
}

impl DataArgs {
    pub(super) fn folder(&self, context: &Context) -> Result<PathBuf, Failure> {
        let (layers, _) =
            Flags::default().layers(context.settings.as_deref(), &context.environment)?;
        let named = self.data_dir.as_deref().or_else(|| layers.text("data.dir"));
        data_dir::choose(named, &context.environment)
    }
}

/// Take a backup of everything, while runtimes go on; into the folder of an earlier one, only what is new.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct BackupArgs {
    /// Folder of the backup: empty, absent, or with an earlier backup of the same data.
    folder: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn backup(args: BackupArgs, context: Context, world: Arc<RealWorld>) -> Outcome {
    let data = args.data.folder(&context)?;
    if !data.join("FORMAT").exists() {
        let what = format!("there is no data in {}", data.display());
        return Err(Failure::new("OUTR-0022", Exit::NotFound, what)
            .help("name the folder that `outrigger run` keeps its data in, with --data-dir"));
    }
    let target =
        absolute(&args.folder).map_err(|error| failed(&args.folder, "backed up to").why(error))?;
    let shared = node::share(&data, world).await?;
    let taken = shared.checkpoint(&target).await;
    shared.close(GRACE).await;
    let revision = taken.map_err(|error| failed(&target, "backed up to").why(error))?;
    show(
        args.output.form,
        &format!("{} holds everything up to revision {revision}", target.display()),
        &json!({ "folder": target, "revision": revision }),
    );
    Ok(ExitCode::SUCCESS)
}

/// Make a data folder of a backup, as it was after any commit that the backup holds.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct RestoreArgs {
    /// Folder of the backup.
    folder: PathBuf,
    /// As it was after the last commit up to this revision.
    #[arg(long, value_name = "N", conflicts_with = "time")]
    revision: Option<u64>,
    /// As it was at this time, such as 2026-11-21T10:30:00Z.
    #[arg(long, value_name = "TIME")]
    time: Option<Timestamp>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn restore(args: &RestoreArgs, context: &Context, world: &dyn World) -> Outcome {
    let data = args.data.folder(context)?;
    let goal = match (args.revision, args.time) {
        (Some(revision), _) => Goal::Revision(revision),
        (None, Some(time)) => Goal::Time(Wall(u64::try_from(time.as_millisecond()).unwrap_or(0))),
        (None, None) => Goal::Latest,
    };
    let options = store::Options::default();
    let restored = store::restore(&args.folder, &data, goal, world, &options)
        .map_err(|error| refused(&args.folder, "restored from", &error))?;
    let (revision, time) = (restored.last.revision, at(restored.last.time));
    show(
        args.output.form,
        &format!("{} is as it was at revision {revision}, {time}", data.display()),
        &json!({ "dataDir": data, "revision": revision, "time": time, "commits": restored.commits }),
    );
    Ok(ExitCode::SUCCESS)
}

/// Read every byte of a data folder or backup, and compare it with its checksum.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// Data folder or backup [default: the data folder]. Data must not be in use; a backup may be.
    folder: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn verify(args: &VerifyArgs, context: &Context) -> Outcome {
    let folder = match &args.folder {
        Some(folder) => folder.clone(),
        None => args.data.folder(context)?,
    };
    let verified = store::verify(&folder).map_err(|error| refused(&folder, "verified", &error))?;
    let store::Verified { is_backup, bytes, rows, commits, revision } = verified;
    let kind = if is_backup { "backup" } else { "data" };
    show(
        args.output.form,
        &format!(
            "{}: {kind} up to revision {revision}; {bytes} bytes, {rows} rows and {commits} commits are as they were written",
            folder.display()
        ),
        &json!({
            "folder": folder, "kind": kind, "revision": revision, "bytes": bytes, "rows": rows, "commits": commits,
        }),
    );
    Ok(ExitCode::SUCCESS)
}

fn show(form: Form, told: &str, document: &serde_json::Value) {
    match form {
        Form::Table => output::line(told),
        Form::Name => output::line(&document["revision"].to_string()),
        Form::Env => output::line(&format!("REVISION={}", document["revision"])),
        form => output::document(form, document),
    }
}

fn at(time: Wall) -> String {
    let millis = i64::try_from(time.0).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |at| at.to_string())
}

fn failed(folder: &Path, what: &str) -> Failure {
    let told = format!("{} cannot be {what}", folder.display());
    Failure::new("OUTR-0031", Exit::Failed, told)
}

fn refused(folder: &Path, what: &str, error: &BackupError) -> Failure {
    match error {
        BackupError::Absent { .. } => Failure::new("OUTR-0022", Exit::NotFound, error.to_string())
            .help("a backup is a folder with a file BACKUP, data one with a file FORMAT"),
        BackupError::NotHeld { .. } => Failure::new("OUTR-0022", Exit::NotFound, error.to_string()),
        BackupError::Folder(OpenError::InUse { .. }) => failed(folder, what)
            .why(error)
            .help("take a backup (`outrigger backup`) and verify that, or stop the runtimes first"),
        _ => failed(folder, what).why(error),
    }
}
