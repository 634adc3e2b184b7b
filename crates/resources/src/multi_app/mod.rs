//! The run file (`dapr.yaml`): several apps started together.
//!
//! What all apps share stands once, under `common`; it is laid under each app here, so that callers see whole apps.
//! Paths are resolved here too, because what they are relative to is this format's business: those of `common` and
//! every `appDirPath` to the run file, the others of an app to its `appDirPath`.

mod clash;
mod paths;
mod read;

use crate::{
    fields::Report,
    issue::{Issue, Origin},
    load::{read_file, trees},
    yaml::Place,
};
use paths::Paths;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// A run file with its `common` section already laid under every app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFile {
    /// Where the file is.
    pub origin: Origin,
    /// `version`, which is 1.
    pub version: u32,
    /// `name`; the name of the file's folder unless set.
    pub name: String,
    /// `apps`, in file order.
    pub apps: Vec<App>,
}

/// One app. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// `appID`; the name of the app's folder unless set.
    pub app_id: String,
    /// `appDirPath`: where the command runs.
    pub app_dir: PathBuf,
    /// `command` and its arguments; empty starts no process.
    pub command: Vec<String>,
    /// `env`, the app's over the common ones.
    pub env: BTreeMap<String, String>,
    /// `appPort`.
    pub app_port: Option<u16>,
    /// `appProtocol`, lower-cased; `appSSL` already applied.
    pub app_protocol: AppProtocol,
    /// `appChannelAddress`.
    pub app_channel_address: Option<String>,
    /// `appMaxConcurrency`.
    pub app_max_concurrency: Option<u32>,
    /// `resourcesPaths` and `resourcesPath`: the app's own, else `.dapr/resources` in its folder when that exists, else
    /// the common ones; empty leaves the choice to the caller.
    pub resources_paths: Vec<PathBuf>,
    /// `configFilePath`: the app's own, else `.dapr/config.yaml` in its folder when that exists, else the common one.
    pub config_file: Option<PathBuf>,
    /// `daprHTTPPort`.
    pub http_port: Option<u16>,
    /// `daprGRPCPort`.
    pub grpc_port: Option<u16>,
    /// `daprInternalGRPCPort`.
    pub internal_grpc_port: Option<u16>,
    /// `metricsPort`.
    pub metrics_port: Option<u16>,
    /// `profilePort`.
    pub profile_port: Option<u16>,
    /// `enableProfiling`.
    pub enable_profiling: bool,
    /// `unixDomainSocket`: a folder.
    pub unix_domain_socket: Option<PathBuf>,
    /// `apiListenAddresses`, comma-separated in the file.
    pub api_listen_addresses: Vec<String>,
    /// `logLevel`.
    pub log_level: Option<String>,
    /// `enableApiLogging`.
    pub enable_api_logging: Option<bool>,
    /// `enableAppHealthCheck` and what belongs to it.
    pub health: AppHealthSettings,
    /// `maxBodySize`, or `daprHTTPMaxRequestSize` in MiB: bytes; [`u64::MAX`] for no limit.
    pub max_body_size: Option<u64>,
    /// `readBufferSize`, or `daprHTTPReadBufferSize` in KiB: bytes.
    pub read_buffer_size: Option<u64>,
    /// `placementHostAddress`; accepted, without effect.
    pub placement_host_address: Option<String>,
    /// `schedulerHostAddress`; accepted, without effect.
    pub scheduler_host_address: Option<String>,
    /// `appLogDestination`.
    pub app_log: LogDestination,
    /// `daprdLogDestination`.
    pub sidecar_log: LogDestination,
    /// Where the app's entry begins.
    pub origin: Origin,
}

impl App {
    /// The folder log files go to.
    #[must_use]
    pub fn logs_dir(&self) -> PathBuf {
        self.app_dir.join(".dapr").join("logs")
    }
}

/// How the sidecar talks to the app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppProtocol {
    /// `http`.
    #[default]
    Http,
    /// `https`.
    Https,
    /// `h2c`.
    H2c,
    /// `grpc`.
    Grpc,
    /// `grpcs`.
    Grpcs,
}

/// `appHealth*`; `None` stands for the sidecar's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppHealthSettings {
    /// `enableAppHealthCheck`.
    pub enabled: bool,
    /// `appHealthCheckPath`.
    pub path: Option<String>,
    /// `appHealthProbeInterval`, in seconds.
    pub interval_secs: Option<u32>,
    /// `appHealthProbeTimeout`, in milliseconds.
    pub timeout_ms: Option<u32>,
    /// `appHealthThreshold`.
    pub threshold: Option<u32>,
}

/// Where output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogDestination {
    /// `file`.
    File,
    /// `console`.
    Console,
    /// `fileAndConsole`.
    FileAndConsole,
}

/// The name of a run file when only its folder is given.
pub const FILE_NAME: &str = "dapr.yaml";

/// Reads a run file, or the one in a folder. Without a [`RunFile`] there is at least one error among the issues; with
/// one there may still be errors about single apps, and the caller should not start half of what was asked for.
#[must_use]
pub fn load(path: &Path) -> (Option<RunFile>, Vec<Issue>) {
    let file = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
    match read_file(&file) {
        Ok(source) => {
            let home = std::env::home_dir();
            parse(&file, &source, &Path::exists, home.as_deref())
        }
        Err(issue) => (None, vec![*issue]),
    }
}

/// As [`load`], for a file that is already in memory: `exists` looks paths up, `home` is what `~` stands for.
#[must_use]
pub fn parse(
    file: &Path,
    source: &[u8],
    exists: &dyn Fn(&Path) -> bool,
    home: Option<&Path>,
) -> (Option<RunFile>, Vec<Issue>) {
    let mut report = Report::new(file);
    let trees = trees(&mut report, source, None);
    let run_file = match trees.first() {
        Some(tree) => read::run_file(&mut report, &tree.root, &Paths::new(file, exists, home)),
        None => {
            if report.errors() == 0 {
                let message = "the run file is empty";
                report.error(crate::codes::NO_APPS, Place::default(), message);
            }
            None
        }
    };
    (run_file, report.into_issues())
}
