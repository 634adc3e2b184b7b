//! From a command line or a run file to what is to be started: the node, its apps, their processes. Data only.

use crate::{
    failure::{Exit, Failure},
    node::{self, sources},
    settings::{
        Environment, Layers, Origin,
        app::{AppSettings, ChannelSettings},
        node::{ComponentsMode, NodeSettings},
    },
    supervise::Command,
};
use outrigger_resources::multi_app::{self, App, LogDestination, RunFile};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// What is to be started.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What all apps share.
    pub node: NodeSettings,
    /// The apps, in the order they are started.
    pub apps: Vec<AppPlan>,
    /// The run file, if the apps come from one.
    pub run_file: Option<PathBuf>,
}

/// One app.
#[derive(Clone, Debug)]
pub struct AppPlan {
    /// What it wants of the runtime.
    pub settings: AppSettings,
    /// Its process; `None` when somebody else starts it.
    pub command: Option<Command>,
    /// Where its output goes.
    pub output: LogDestination,
    /// Where its log files go.
    pub logs_dir: PathBuf,
}

/// Keys that belong to one app and so cannot be given on the command line together with a run file.
const OF_ONE_APP: [&str; 10] = [
    "app.id",
    "app.port",
    "app.protocol",
    "app.channel-address",
    "app.max-concurrency",
    "http.port",
    "grpc.port",
    "http.public-port",
    "metrics.port",
    "unix-domain-socket",
];

/// The plan of `sidecar`: one app that somebody else starts.
///
/// # Errors
/// When a setting is out of range.
pub fn sidecar(layers: &Layers, environment: &Environment) -> Result<Plan, Failure> {
    let settings = AppSettings::read(layers, &default_id())?;
    let app = AppPlan {
        settings,
        command: None,
        output: LogDestination::Console,
        logs_dir: PathBuf::new(),
    };
    let node = NodeSettings::read(layers, environment, ComponentsMode::Real)?;
    Ok(Plan { node, apps: vec![app], run_file: None })
}

/// The plan of `run -- command`: one app, ours to start when there is a command.
///
/// # Errors
/// When a setting is out of range.
pub fn one_app(
    layers: &Layers,
    environment: &Environment,
    command: &[String],
) -> Result<Plan, Failure> {
    let mut settings = AppSettings::read(layers, &default_id())?;
    settings.resources = node::resource_paths(&settings.resources);
    let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    let process = (!command.is_empty()).then(|| Command {
        line: command.to_vec(),
        folder: folder.clone(),
        env: BTreeMap::new(),
    });
    if process.is_some() && settings.channel.is_none() {
        settings = settings.with_channel(layers);
    }
    let app = AppPlan {
        settings,
        command: process,
        output: LogDestination::Console,
        logs_dir: folder.join(".dapr").join("logs"),
    };
    let node = NodeSettings::read(layers, environment, ComponentsMode::Auto)?;
    Ok(Plan { node, apps: vec![app], run_file: None })
}

/// The plan of `run -f file`.
///
/// # Errors
/// When the file has errors, an app's settings are out of range, or two apps have one id.
pub fn run_file(layers: &Layers, environment: &Environment, path: &Path) -> Result<Plan, Failure> {
    let given = OF_ONE_APP.iter().filter_map(|key| layers.entry(key));
    if let Some(flag) =
        given.map(|entry| &entry.origin).find(|origin| matches!(origin, Origin::Flag(_)))
    {
        return Err(Failure::new(
            "OUTR-0025",
            Exit::Usage,
            format!("{flag} does not go with a run file"),
        )
        .help("a run file sets it per app: move it there"));
    }
    let path = if path.is_dir() { path.join("dapr.yaml") } else { path.to_owned() };
    let (file, issues) = multi_app::load(&path);
    sources::all_at_once(&issues, |count| {
        let what = format!("the run file cannot be used: {count} mistakes");
        Failure::new("OUTR-0024", Exit::Usage, what).at(path.display())
    })?;
    let file = file.ok_or_else(|| {
        Failure::new("OUTR-0024", Exit::Usage, "the run file cannot be used").at(path.display())
    })?;
    let mut ids = BTreeSet::new();
    let mut apps = Vec::with_capacity(file.apps.len());
    for app in &file.apps {
        if !ids.insert(&app.app_id) {
            return Err(Failure::new(
                "OUTR-0027",
                Exit::Usage,
                format!("two apps have the id {}", app.app_id),
            )
            .at(&app.origin)
            .help("give each app its own appID"));
        }
        apps.push(planned(layers, &file, app)?);
    }
    let node = NodeSettings::read(layers, environment, ComponentsMode::Auto)?;
    Ok(Plan { node, apps, run_file: Some(path.canonicalize().unwrap_or(path)) })
}

fn planned(layers: &Layers, file: &RunFile, app: &App) -> Result<AppPlan, Failure> {
    let layers = over(layers, app)?;
    let mut settings = AppSettings::read(&layers, &app.app_id)?;
    if settings.resources.is_empty() {
        let beside = file.origin.file.parent().unwrap_or(Path::new("."));
        let beside = ["resources", "components"].map(|name| beside.join(name));
        settings.resources = beside.into_iter().find(|path| path.is_dir()).into_iter().collect();
    }
    let command = (!app.command.is_empty()).then(|| Command {
        line: app.command.clone(),
        folder: app.app_dir.clone(),
        env: app.env.clone(),
    });
    if command.is_some() && settings.channel.is_none() {
        settings = settings.with_channel(&layers);
    }
    Ok(AppPlan { settings, command, output: app.app_log, logs_dir: app.logs_dir() })
}

/// The app's own values over the common ones.
fn over(layers: &Layers, app: &App) -> Result<Layers, Failure> {
    let text = |value: &dyn std::fmt::Display| value.to_string();
    let port = |port: Option<u16>| port.map(|port| port.to_string());
    let health = &app.health;
    let values: [(&str, Option<String>); 19] = [
        ("app.id", Some(app.app_id.clone())),
        ("app.port", port(app.app_port)),
        ("app.protocol", Some(protocol(app).to_owned())),
        ("app.channel-address", app.app_channel_address.clone()),
        ("app.max-concurrency", app.app_max_concurrency.as_ref().map(|n| text(n))),
        ("http.port", port(app.http_port)),
        ("grpc.port", port(app.grpc_port)),
        ("metrics.port", port(app.metrics_port)),
        ("unix-domain-socket", app.unix_domain_socket.as_ref().map(|path| text(&path.display()))),
        ("log.level", app.log_level.clone()),
        ("api.logging", app.enable_api_logging.map(|on| text(&on))),
        ("app.health.enabled", health.enabled.then(|| text(&true))),
        ("app.health.path", health.path.clone()),
        ("app.health.interval", health.interval_secs.map(|n| text(&n))),
        ("app.health.timeout", health.timeout_ms.map(|n| text(&n))),
        ("app.health.threshold", health.threshold.map(|n| text(&n))),
        ("limits.body-size", app.max_body_size.map(|n| text(&n))),
        ("limits.header-size", app.read_buffer_size.map(|n| text(&n))),
        ("config.paths", app.config_file.as_ref().map(|path| text(&path.display()))),
    ];
    let mut layers = layers.clone();
    let origin = || Origin::RunFile(format!("{} (app {})", app.origin, app.app_id));
    for (key, value) in values {
        if let Some(value) = value {
            layers.put(key, value, origin())?;
        }
    }
    if !app.api_listen_addresses.is_empty() {
        layers.put_list("listen-addresses", app.api_listen_addresses.clone(), origin())?;
    }
    if !app.resources_paths.is_empty() {
        let paths = app.resources_paths.iter().map(|path| path.display().to_string()).collect();
        layers.put_list("resources.paths", paths, origin())?;
    }
    Ok(layers)
}

fn protocol(app: &App) -> &'static str {
    match app.app_protocol {
        multi_app::AppProtocol::Http => "http",
        multi_app::AppProtocol::Https => "https",
        multi_app::AppProtocol::H2c => "h2c",
        multi_app::AppProtocol::Grpc => "grpc",
        multi_app::AppProtocol::Grpcs => "grpcs",
    }
}

/// The id of an app that nobody named: its folder's name, as far as an id can be made of it.
fn default_id() -> String {
    let folder = std::env::current_dir().ok();
    let name =
        folder.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or("app");
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let id: String = name.chars().map(|c| if fits(c) { c } else { '-' }).collect();
    let id = id.trim_matches('-');
    if id.is_empty() { "app".to_owned() } else { id.to_owned() }
}

impl AppPlan {
    /// How its app is reached, when it is.
    #[must_use]
    pub fn channel(&self) -> Option<&ChannelSettings> {
        self.settings.channel.as_ref()
    }
}
