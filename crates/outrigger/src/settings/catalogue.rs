//! Every setting once: its key in files, its flag, its variables, its default and its meaning.
//!
//! From this one table come the flags of `run` and `sidecar`, the keys of `outrigger.yaml`, the variables
//! `OUTRIGGER__SECTION__NAME`, the output of `outrigger config` and the reference page. Adding a setting is adding a row.

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Any text.
    Text,
    /// A path of a file or folder.
    Path,
    /// `true` or `false`; as a flag, its bare presence means `true`.
    Switch,
    /// 0 to 65535; 0 or less means "choose" or "none".
    Port,
    /// A whole number.
    Number,
    /// A duration; a plain number counts seconds.
    Seconds,
    /// A duration; a plain number counts milliseconds.
    Millis,
    /// A size such as `4Mi` or `65536`.
    Bytes,
    /// Several values: the flag repeats, a variable separates with commas.
    List,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The key in `outrigger.yaml`, dots between sections.
    pub key: &'static str,
    /// The flag, without dashes.
    pub flag: &'static str,
    /// The one-letter flag.
    pub short: Option<char>,
    /// Other spellings of the flag.
    pub aliases: &'static [&'static str],
    /// Variables that set it besides `OUTRIGGER__...`, weakest first.
    pub env: &'static [&'static str],
    /// The value when nobody says otherwise; `None` for unset.
    pub default: Option<&'static str>,
    /// What a value must look like.
    pub shape: Shape,
    /// What it is for, in one sentence.
    pub help: &'static str,
    /// Whether the value must not be shown.
    pub secret: bool,
    /// Whether it is understood but has nothing to act on in this build.
    pub inert: bool,
}

impl Setting {
    const fn new(key: &'static str, flag: &'static str, shape: Shape, help: &'static str) -> Self {
        Self {
            key,
            flag,
            short: None,
            aliases: &[],
            env: &[],
            default: None,
            shape,
            help,
            secret: false,
            inert: false,
        }
    }

    /// A row for a flag that tools of the reference pass and that this build accepts without acting on it.
    const fn inert(key: &'static str, flag: &'static str, shape: Shape) -> Self {
        let help = "Accepted so that existing command lines work; has no effect here.";
        Self { inert: true, ..Self::new(key, flag, shape, help) }
    }

    const fn short(self, letter: char) -> Self {
        Self { short: Some(letter), ..self }
    }

    const fn alias(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    const fn env(self, env: &'static [&'static str]) -> Self {
        Self { env, ..self }
    }

    const fn default(self, value: &'static str) -> Self {
        Self { default: Some(value), ..self }
    }

    const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// The variable `OUTRIGGER__SECTION__NAME`.
    #[must_use]
    pub fn variable(&self) -> String {
        let name = self.key.replace('.', "__").replace('-', "_").to_ascii_uppercase();
        format!("OUTRIGGER__{name}")
    }
}

/// The row of `key`.
#[must_use]
pub fn find(key: &str) -> Option<&'static Setting> {
    CATALOGUE.iter().find(|setting| setting.key == key)
}

const PROTOCOLS: &[&str] = &["http", "https", "h2c", "grpc", "grpcs"];

/// All settings, in the order they are shown.
pub static CATALOGUE: &[Setting] = &[
    // The app.
    Setting::new("app.id", "app-id", Shape::Text, "Name under which other apps reach this one.")
        .short('a')
        .env(&["APP_ID"]),
    Setting::new("app.port", "app-port", Shape::Port, "Port the app listens on.")
        .short('p')
        .env(&["APP_PORT"]),
    Setting::new(
        "app.protocol",
        "app-protocol",
        Shape::OneOf(PROTOCOLS),
        "How to talk to the app.",
    )
    .short('P')
    .default("http")
    .env(&["APP_PROTOCOL"]),
    Setting::new(
        "app.channel-address",
        "app-channel-address",
        Shape::Text,
        "Address the app listens on.",
    )
    .default("127.0.0.1")
    .env(&["APP_CHANNEL_ADDRESS"]),
    Setting::new(
        "app.max-concurrency",
        "app-max-concurrency",
        Shape::Number,
        "Most calls to the app at one time; -1 for no limit.",
    )
    .default("-1"),
    Setting::new(
        "app.api-token",
        "app-api-token",
        Shape::Text,
        "Token sent to the app with every call.",
    )
    .env(&["APP_API_TOKEN"])
    .secret(),
    Setting::new(
        "app.ssl",
        "app-ssl",
        Shape::Switch,
        "Old spelling of --app-protocol https or grpcs.",
    ),
    Setting::new(
        "app.health.enabled",
        "enable-app-health-check",
        Shape::Switch,
        "Probe the app, and hold back work while it is not healthy.",
    )
    .default("false"),
    Setting::new(
        "app.health.path",
        "app-health-check-path",
        Shape::Text,
        "Path of the HTTP probe.",
    )
    .default("/healthz"),
    Setting::new(
        "app.health.interval",
        "app-health-probe-interval",
        Shape::Seconds,
        "Time between probes; a plain number counts seconds.",
    )
    .default("5"),
    Setting::new(
        "app.health.timeout",
        "app-health-probe-timeout",
        Shape::Millis,
        "Time a probe may take; a plain number counts milliseconds.",
    )
    .default("500"),
    Setting::new(
        "app.health.threshold",
        "app-health-threshold",
        Shape::Number,
        "Failed probes in a row that make the app unhealthy.",
    )
    .default("3"),
    Setting::new(
        "app.disable-init-endpoints",
        "disable-init-endpoints",
        Shape::List,
        "Start-up probes not to make: config, subscribe.",
    ),
    // Ports.
    Setting::new("http.port", "dapr-http-port", Shape::Port, "Port of the HTTP API.")
        .short('H')
        .alias(&["http-port"])
        .default("3500"),
    Setting::new("grpc.port", "dapr-grpc-port", Shape::Port, "Port of the gRPC API.")
        .short('G')
        .alias(&["grpc-port"])
        .default("50001"),
    Setting::new(
        "http.public-port",
        "dapr-public-port",
        Shape::Port,
        "Port that serves health and metadata only; off when unset.",
    ),
    Setting::new(
        "http.public-listen-address",
        "dapr-public-listen-address",
        Shape::Text,
        "Address of the public port.",
    )
    .default("127.0.0.1"),
    Setting::new(
        "listen-addresses",
        "dapr-listen-addresses",
        Shape::List,
        "Addresses the APIs listen on.",
    )
    .default("127.0.0.1"),
    Setting::new(
        "unix-domain-socket",
        "unix-domain-socket",
        Shape::Path,
        "Folder for Unix sockets to serve the APIs on, instead of ports.",
    )
    .short('u'),
    Setting::new("metrics.enabled", "enable-metrics", Shape::Switch, "Serve metrics.")
        .default("true"),
    Setting::new("metrics.port", "metrics-port", Shape::Port, "Port of the metrics.")
        .short('M')
        .default("9090"),
    Setting::new(
        "metrics.listen-address",
        "metrics-listen-address",
        Shape::Text,
        "Address of the metrics port.",
    )
    .default("127.0.0.1"),
    // The API.
    Setting::new(
        "api.token",
        "dapr-api-token",
        Shape::Text,
        "Token that callers of the API must send.",
    )
    .env(&["DAPR_API_TOKEN"])
    .secret(),
    Setting::new("api.logging", "enable-api-logging", Shape::Switch, "Log every API call.")
        .default("false"),
    Setting::new(
        "api.allowed-origins",
        "allowed-origins",
        Shape::Text,
        "Origins that browsers may call from.",
    )
    .default("*"),
    Setting::new("limits.body-size", "max-body-size", Shape::Bytes, "Largest request body.")
        .default("4Mi"),
    Setting::new(
        "limits.header-size",
        "read-buffer-size",
        Shape::Bytes,
        "Largest request head; less than 64Ki counts as 64Ki.",
    )
    .default("4Ki"),
    Setting::new(
        "limits.body-size-mb",
        "dapr-http-max-request-size",
        Shape::Number,
        "Old spelling of --max-body-size, in MB.",
    ),
    Setting::new(
        "limits.header-size-kb",
        "dapr-http-read-buffer-size",
        Shape::Number,
        "Old spelling of --read-buffer-size, in KB.",
    ),
    // How long calls may take.
    Setting::new(
        "calls.timeout",
        "call-timeout",
        Shape::Seconds,
        "Time a call to another app may wait for its answer, and for the next piece of it, when neither its caller nor a policy names one.",
    )
    .default("60"),
    Setting::new(
        "calls.stream-silence",
        "call-stream-silence",
        Shape::Seconds,
        "Time a gRPC call without a deadline, or an answer of server-sent events, may be silent.",
    )
    .default("600"),
    // Other hosts, and who the apps are to them.
    Setting::new(
        "mtls.enabled",
        "enable-mtls",
        Shape::Switch,
        "Give the apps identities, and serve calls of other hosts over mutual TLS; on when any of the identity settings is used.",
    ),
    Setting::new(
        "identity.ca",
        "ca",
        Shape::Text,
        "Where certificates come from: `local` for the authority in this data folder, or the https://host:port of the runtime that has it.",
    ),
    Setting::new(
        "identity.join-token",
        "join-token",
        Shape::Text,
        "Token of `outrigger ca token`, for the first start on a host that joins.",
    )
    .env(&["OUTRIGGER_JOIN_TOKEN"])
    .secret(),
    Setting::new(
        "identity.dir",
        "identity-dir",
        Shape::Path,
        "Folder with tls.crt, tls.key and ca.crt from somebody else's authority, or one such folder for each app id in it; followed when they change.",
    ),
    Setting::new(
        "identity.trust-domain",
        "trust-domain",
        Shape::Text,
        "Trust domain of an authority that is made at this start.",
    )
    .default("public"),
    Setting::new(
        "identity.certificate-ttl",
        "certificate-ttl",
        Shape::Seconds,
        "Life of the certificates that the authority here gives; they are renewed after two thirds of it.",
    )
    .default("24h"),
    Setting::new(
        "identity.clock-skew",
        "clock-skew",
        Shape::Seconds,
        "How much the clocks of two hosts may differ.",
    )
    .default("15m"),
    Setting::new(
        "peer.port",
        "dapr-internal-grpc-port",
        Shape::Port,
        "Port for runtimes of other hosts; used only with an identity.",
    )
    .alias(&["internal-grpc-port", "peer-port"])
    .default("50002"),
    Setting::new(
        "peer.listen-address",
        "dapr-internal-grpc-listen-address",
        Shape::Text,
        "Address of the port for runtimes of other hosts.",
    )
    .alias(&["peer-listen-address"])
    .default("127.0.0.1"),
    // What is served.
    Setting::new("namespace", "namespace", Shape::Text, "Namespace of the apps.")
        .env(&["NAMESPACE"]),
    Setting::new(
        "resources.paths",
        "resources-path",
        Shape::List,
        "Folders or files of resources; repeatable.",
    )
    .short('d')
    .alias(&["components-path"]),
    Setting::new(
        "config.paths",
        "config",
        Shape::List,
        "Files of kind Configuration; later ones win.",
    )
    .short('c'),
    Setting::new(
        "components.mode",
        "components",
        Shape::OneOf(&["auto", "real", "embedded"]),
        "Where outside component types are served from: the real system, the embedded store, or (auto) the embedded store when nothing listens at a loopback address.",
    ),
    Setting::new(
        "reload.enabled",
        "hot-reload",
        Shape::Switch,
        "Follow changes of resource files without a restart.",
    )
    .default("true"),
    Setting::new(
        "reload.interval",
        "hot-reload-reconcile-interval",
        Shape::Seconds,
        "Time between full comparisons of resources, besides file events.",
    )
    .default("60"),
    // The data.
    Setting::new("data.dir", "data-dir", Shape::Path, "Folder that keeps everything.")
        .env(&["OUTRIGGER_DATA_DIR"]),
    Setting::new(
        "data.ephemeral",
        "ephemeral",
        Shape::Switch,
        "Keep everything in memory and nothing afterwards.",
    )
    .default("false"),
    // The process.
    Setting::new("log.level", "log-level", Shape::Text, "debug, info, warn, error, or a filter."),
    Setting::new(
        "log.format",
        "log-format",
        Shape::OneOf(&["auto", "text", "json"]),
        "Shape of log lines; auto is text on a terminal and JSON elsewhere.",
    ),
    Setting::new("log.as-json", "log-as-json", Shape::Switch, "Short for --log-format json.")
        .default("false"),
    Setting::new(
        "shutdown.grace",
        "dapr-graceful-shutdown-seconds",
        Shape::Seconds,
        "Time that work in flight gets at shutdown.",
    )
    .default("5"),
    Setting::new(
        "shutdown.block",
        "dapr-block-shutdown-duration",
        Shape::Seconds,
        "Time to go on serving after the first signal, or until the app is unhealthy.",
    ),
    // Accepted, without effect.
    Setting::inert("profiling.enabled", "enable-profiling", Shape::Switch),
    Setting::inert("profiling.port", "profile-port", Shape::Port),
    Setting::inert("mode", "mode", Shape::Text),
    Setting::inert("placement.address", "placement-host-address", Shape::Text),
    Setting::inert("scheduler.address", "scheduler-host-address", Shape::Text),
    Setting::inert("scheduler.job-streams", "scheduler-job-streams", Shape::Number),
    Setting::inert("actors.disseminate-timeout", "actors-disseminate-timeout", Shape::Text),
    Setting::inert("actors.service", "actors-service", Shape::Text),
    Setting::inert("reminders.service", "reminders-service", Shape::Text),
    Setting::inert("control-plane.address", "control-plane-address", Shape::Text),
    Setting::inert("control-plane.namespace", "control-plane-namespace", Shape::Text),
    Setting::inert("control-plane.trust-domain", "control-plane-trust-domain", Shape::Text),
    Setting::inert("sentry.address", "sentry-address", Shape::Text),
    Setting::inert("bindings.options-timeout", "app-binding-options-timeout", Shape::Seconds),
    Setting::inert(
        "secrets.disable-builtin-k8s",
        "disable-builtin-k8s-secret-store",
        Shape::Switch,
    ),
];

#[cfg(test)]
mod tests {
    use super::CATALOGUE;
    use std::collections::BTreeSet;

    #[test]
    fn no_key_flag_or_letter_twice() {
        let mut names = BTreeSet::new();
        for setting in CATALOGUE {
            assert!(names.insert(setting.key.to_owned()), "{}", setting.key);
            for flag in setting.aliases.iter().chain([&setting.flag]) {
                assert!(names.insert(format!("--{flag}")), "{flag}");
            }
            if let Some(letter) = setting.short {
                assert!(names.insert(format!("-{letter}")), "{letter}");
            }
        }
    }
}
