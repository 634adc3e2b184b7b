//! Reading a run file.

use super::{App, AppHealthSettings, AppProtocol, LogDestination, RunFile, clash, paths::Paths};
use crate::{
    codes,
    fields::{Fields, Report},
    issue::Issue,
    quantity,
    yaml::{Node, Place, Value},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What `common` and every app may say.
#[derive(Default)]
struct Shared {
    resources_paths: Vec<PathBuf>,
    config_file: Option<PathBuf>,
    env: BTreeMap<String, String>,
    app_protocol: Option<AppProtocol>,
    app_ssl: Option<bool>,
    app_max_concurrency: Option<u32>,
    enable_profiling: Option<bool>,
    api_listen_addresses: Option<String>,
    log_level: Option<String>,
    enable_api_logging: Option<bool>,
    health_enabled: Option<bool>,
    health: AppHealthSettings,
    max_body_size: Option<u64>,
    read_buffer_size: Option<u64>,
    placement_host_address: Option<String>,
    scheduler_host_address: Option<String>,
    app_log: Option<LogDestination>,
    sidecar_log: Option<LogDestination>,
}

pub(super) fn run_file(report: &mut Report, root: &Node, paths: &Paths<'_>) -> Option<RunFile> {
    let mut fields = Fields::open(report, root, String::new())?;
    let version = match fields.get("version") {
        Some(_) => fields.integer(report, "version", 0..=u32::MAX),
        None => Some(0),
    };
    if let Some(version) = version.filter(|version| *version != 1) {
        let message = match version {
            0 => "the run file has no version".to_owned(),
            other => format!("there is no version {other} of run files"),
        };
        report.error(codes::RUN_FILE_VERSION, fields.place_of("version"), message);
    }
    let folder_name = |path: &Path| {
        path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let name = fields.string(report, "name").unwrap_or_else(|| folder_name(&paths.base));
    let common = fields.object(report, "common").map(|mut common| {
        let shared = read_shared(report, &mut common, paths, &paths.base);
        common.finish(report);
        shared
    });
    let common = common.unwrap_or_default();
    let entries = fields.objects(report, "apps").unwrap_or_default();
    if entries.is_empty() {
        report.error(codes::NO_APPS, fields.place_of("apps"), "the run file has no apps");
    }
    let apps: Vec<App> = entries
        .into_iter()
        .map(|mut entry| {
            let app = read_app(report, &mut entry, paths, &common);
            entry.finish(report);
            app
        })
        .collect();
    clash::check(report, &apps);
    fields.finish(report);
    let origin = report.origin(root.place);
    Some(RunFile { origin, version: version.unwrap_or_default(), name, apps })
}

fn read_app(
    report: &mut Report,
    fields: &mut Fields<'_>,
    paths: &Paths<'_>,
    common: &Shared,
) -> App {
    let dir = fields.required(report, "appDirPath");
    let app_dir = paths.resolve(&paths.base, &dir);
    if !dir.is_empty() {
        check_exists(report, fields.place_of("appDirPath"), paths, &app_dir);
    }
    let own = read_shared(report, fields, paths, &app_dir);
    let folder = app_dir.file_name().map(|name| name.to_string_lossy().into_owned());
    let app_id = fields.string(report, "appID").or(folder).unwrap_or_default();
    for name in ["containerImage", "containerImagePullPolicy", "createService"] {
        // For clusters only; known, so that a file made for both is not complained about.
        fields.get(name);
    }
    let mut port = |report: &mut Report, name| {
        let port = fields.integer(report, name, -1..=i64::from(u16::MAX));
        port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
    };
    let app = App {
        app_id,
        app_dir,
        command: Vec::new(),
        env: BTreeMap::new(),
        app_port: port(report, "appPort"),
        app_protocol: AppProtocol::Http,
        app_channel_address: None,
        app_max_concurrency: None,
        resources_paths: Vec::new(),
        config_file: None,
        http_port: port(report, "daprHTTPPort"),
        grpc_port: port(report, "daprGRPCPort"),
        internal_grpc_port: port(report, "daprInternalGRPCPort"),
        metrics_port: port(report, "metricsPort"),
        profile_port: port(report, "profilePort"),
        enable_profiling: false,
        unix_domain_socket: None,
        api_listen_addresses: Vec::new(),
        log_level: None,
        enable_api_logging: None,
        health: AppHealthSettings::default(),
        max_body_size: None,
        read_buffer_size: None,
        placement_host_address: None,
        scheduler_host_address: None,
        app_log: LogDestination::FileAndConsole,
        sidecar_log: LogDestination::File,
        origin: report.origin(fields.place()),
    };
    let socket = fields.text(report, "unixDomainSocket");
    let unix_domain_socket = socket.map(|path| paths.resolve(&app.app_dir, path));
    let app_channel_address = fields.string(report, "appChannelAddress");
    let command = read_command(report, fields);
    let app = App { command, app_channel_address, unix_domain_socket, ..app };
    with_shared(app, own, common, paths)
}

fn read_command(report: &mut Report, fields: &mut Fields<'_>) -> Vec<String> {
    let place = fields.place_of("command");
    let sentence = match fields.get("command").map(|node| &node.value) {
        Some(Value::Scalar(scalar)) => scalar.text.contains(char::is_whitespace),
        _ => false,
    };
    if sentence {
        let path = fields.path_of("command");
        let message = format!("{path} needs a list of words, not one text with blanks");
        let issue = Issue::error(codes::WRONG_TYPE, report.origin(place), message);
        report.push(issue.remedy("Write [\"python3\", \"app.py\"] instead of \"python3 app.py\"."));
    }
    fields.texts(report, "command").unwrap_or_default()
}

/// The app with what it and `common` share filled in, its own words first.
fn with_shared(app: App, own: Shared, common: &Shared, paths: &Paths<'_>) -> App {
    let dot_dapr = app.app_dir.join(".dapr");
    let beside = |name: &str| Some(dot_dapr.join(name)).filter(|path| paths.exists(path));
    let resources_paths = if own.resources_paths.is_empty() {
        let beside = beside("resources").map(|path| vec![path]);
        beside.unwrap_or_else(|| common.resources_paths.clone())
    } else {
        own.resources_paths
    };
    let config_file =
        own.config_file.or_else(|| beside("config.yaml")).or_else(|| common.config_file.clone());
    let mut env = common.env.clone();
    env.extend(own.env);
    let protocol = own.app_protocol.or(common.app_protocol).unwrap_or_default();
    let secure = own.app_ssl.or(common.app_ssl).unwrap_or(false);
    let addresses = own.api_listen_addresses.or_else(|| common.api_listen_addresses.clone());
    let addresses = addresses.as_deref().unwrap_or_default().split(',').map(str::trim);
    let health = AppHealthSettings {
        enabled: own.health_enabled.or(common.health_enabled).unwrap_or(false),
        path: own.health.path.or_else(|| common.health.path.clone()),
        interval_secs: own.health.interval_secs.or(common.health.interval_secs),
        timeout_ms: own.health.timeout_ms.or(common.health.timeout_ms),
        threshold: own.health.threshold.or(common.health.threshold),
    };
    let clone = Option::<String>::clone;
    App {
        env,
        app_protocol: match protocol {
            AppProtocol::Http if secure => AppProtocol::Https,
            AppProtocol::Grpc if secure => AppProtocol::Grpcs,
            other => other,
        },
        app_max_concurrency: own.app_max_concurrency.or(common.app_max_concurrency),
        resources_paths,
        config_file,
        enable_profiling: own.enable_profiling.or(common.enable_profiling).unwrap_or(false),
        api_listen_addresses: addresses.filter(|a| !a.is_empty()).map(str::to_owned).collect(),
        log_level: own.log_level.or_else(|| clone(&common.log_level)),
        enable_api_logging: own.enable_api_logging.or(common.enable_api_logging),
        health,
        max_body_size: own.max_body_size.or(common.max_body_size),
        read_buffer_size: own.read_buffer_size.or(common.read_buffer_size),
        placement_host_address: own
            .placement_host_address
            .or_else(|| clone(&common.placement_host_address)),
        scheduler_host_address: own
            .scheduler_host_address
            .or_else(|| clone(&common.scheduler_host_address)),
        app_log: own.app_log.or(common.app_log).unwrap_or(app.app_log),
        sidecar_log: own.sidecar_log.or(common.sidecar_log).unwrap_or(app.sidecar_log),
        ..app
    }
}

fn read_shared(
    report: &mut Report,
    fields: &mut Fields<'_>,
    paths: &Paths<'_>,
    base: &Path,
) -> Shared {
    fields.get("runtimePath");
    let mut resources_paths = Vec::new();
    for name in ["resourcesPaths", "resourcesPath"] {
        let texts = fields.texts(report, name).unwrap_or_default();
        for text in texts.iter().filter(|text| !text.is_empty()) {
            let path = paths.resolve(base, text);
            check_exists(report, fields.place_of(name), paths, &path);
            resources_paths.push(path);
        }
    }
    let config_file = fields.text(report, "configFilePath").map(|text| paths.resolve(base, text));
    if let Some(path) = &config_file {
        check_exists(report, fields.place_of("configFilePath"), paths, path);
    }
    let concurrency = fields.integer(report, "appMaxConcurrency", -1..=i64::from(i32::MAX));
    let counts = 0..=i32::MAX.unsigned_abs();
    let mut count = |report: &mut Report, name| {
        fields.integer(report, name, counts.clone()).filter(|count| *count > 0)
    };
    let interval_secs = count(report, "appHealthProbeInterval");
    let timeout_ms = count(report, "appHealthProbeTimeout");
    let threshold = count(report, "appHealthThreshold");
    let path = fields.string(report, "appHealthCheckPath");
    Shared {
        resources_paths,
        config_file,
        env: fields.text_map(report, "env").unwrap_or_default(),
        app_protocol: fields.choice(report, "appProtocol", &PROTOCOLS),
        app_ssl: fields.switch(report, "appSSL"),
        app_max_concurrency: concurrency.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0),
        enable_profiling: fields.switch(report, "enableProfiling"),
        api_listen_addresses: fields.string(report, "apiListenAddresses"),
        log_level: fields.string(report, "logLevel"),
        enable_api_logging: fields.switch(report, "enableApiLogging"),
        health_enabled: fields.switch(report, "enableAppHealthCheck"),
        health: AppHealthSettings { enabled: false, path, interval_secs, timeout_ms, threshold },
        max_body_size: size(report, fields, "maxBodySize", "daprHTTPMaxRequestSize", 1 << 20),
        read_buffer_size: size(report, fields, "readBufferSize", "daprHTTPReadBufferSize", 1 << 10),
        placement_host_address: fields.string(report, "placementHostAddress"),
        scheduler_host_address: fields.string(report, "schedulerHostAddress"),
        app_log: fields.choice(report, "appLogDestination", &DESTINATIONS),
        sidecar_log: fields.choice(report, "daprdLogDestination", &DESTINATIONS),
    }
}

const PROTOCOLS: [(&str, AppProtocol); 5] = [
    ("http", AppProtocol::Http),
    ("https", AppProtocol::Https),
    ("h2c", AppProtocol::H2c),
    ("grpc", AppProtocol::Grpc),
    ("grpcs", AppProtocol::Grpcs),
];

const DESTINATIONS: [(&str, LogDestination); 3] = [
    ("file", LogDestination::File),
    ("console", LogDestination::Console),
    ("fileAndConsole", LogDestination::FileAndConsole),
];

/// A size in bytes, or under its older name in larger units.
fn size(
    report: &mut Report,
    fields: &mut Fields<'_>,
    name: &'static str,
    older: &'static str,
    unit: u64,
) -> Option<u64> {
    let by_unit = fields.integer(report, older, -1..=i64::from(i32::MAX)).map(|count| {
        // A negative count lifts the limit, as it does in the newer form.
        u64::try_from(count).map_or(u64::MAX, |count| count.saturating_mul(unit))
    });
    let Some(text) = fields.text(report, name) else { return by_unit };
    quantity::parse(text)
        .map_err(|bad| {
            let message = format!("{}: {bad}", fields.path_of(name));
            report.error(codes::BAD_VALUE, fields.place_of(name), message);
        })
        .ok()
}

fn check_exists(report: &mut Report, place: Place, paths: &Paths<'_>, path: &Path) {
    if !paths.exists(path) {
        report.error(codes::NO_SUCH_PATH, place, format!("{} does not exist", path.display()));
    }
}
