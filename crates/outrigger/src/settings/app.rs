//! What one app wants of its side of the runtime.

use super::{Layers, Origin};
use crate::failure::{Exit, Failure};
use std::{net::IpAddr, path::PathBuf, time::Duration};

/// The settings of one app. Data only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSettings {
    /// Name under which other apps reach it.
    pub id: String,
    /// Its namespace; empty for none.
    pub namespace: String,
    /// How to reach the app; `None` when it only calls and is never called.
    pub channel: Option<ChannelSettings>,
    /// Start-up probes not to make: `config`, `subscribe`.
    pub disable_init_endpoints: Vec<String>,
    /// Where its APIs are served.
    pub ports: PortSettings,
    /// Token that callers of the API must send.
    pub api_token: Option<String>,
    /// Whether to log every API call.
    pub api_logging: bool,
    /// Origins that browsers may call from.
    pub allowed_origins: String,
    /// Largest request body.
    pub body_bytes_max: usize,
    /// Largest request head.
    pub header_bytes_max: usize,
    /// Time a call may wait for its answer when nobody names one.
    pub call_timeout: Duration,
    /// Time a call that may be a stream of messages may be silent.
    pub call_stream_silence: Duration,
    /// Resource folders and files.
    pub resources: Vec<PathBuf>,
    /// Files of kind Configuration; later ones win.
    pub configuration: Vec<PathBuf>,
}

/// How to reach the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelSettings {
    /// `http`, `https`, `h2c`, `grpc` or `grpcs`.
    pub protocol: String,
    /// Address of the app.
    pub host: String,
    /// Port of the app; `None` when it is still to be found.
    pub port: Option<u16>,
    /// Most calls at one time.
    pub max_concurrency: Option<u32>,
    /// Token sent with every call.
    pub api_token: Option<String>,
    /// Probing, when on.
    pub health: Option<HealthSettings>,
}

/// How to probe the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// Path of the HTTP probe.
    pub path: String,
    /// Time between probes.
    pub interval: Duration,
    /// Time a probe may take.
    pub timeout: Duration,
    /// Failures in a row that make the app unhealthy.
    pub threshold: u32,
}

/// A port and how much it matters which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The number; 0 lets the system choose.
    pub number: u16,
    /// Whether somebody asked for exactly this one.
    pub asked_for: bool,
    /// The flag that changes it.
    pub flag: &'static str,
}

/// Where the APIs of an app are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSettings {
    /// The HTTP API.
    pub http: Port,
    /// The gRPC API.
    pub grpc: Port,
    /// Health and metadata only, when on.
    pub public: Option<Port>,
    /// Metrics, when on.
    pub metrics: Option<Port>,
    /// Addresses of the APIs.
    pub addresses: Vec<IpAddr>,
    /// Address of the public port.
    pub public_address: IpAddr,
    /// Address of the metrics port.
    pub metrics_address: IpAddr,
    /// Folder for Unix sockets, instead of ports.
    pub sockets: Option<PathBuf>,
}

impl AppSettings {
    /// The typed view of `layers`. `id` is used when nobody set one.
    ///
    /// # Errors
    /// When a value is out of range; the failure names who set it.
    pub fn read(layers: &Layers, id: &str) -> Result<Self, Failure> {
        Ok(Self {
            id: app_id(layers, id)?,
            namespace: layers.text("namespace").unwrap_or_default().to_owned(),
            channel: layers.port("app.port").map(|port| channel(layers, Some(port))),
            disable_init_endpoints: layers.list("app.disable-init-endpoints"),
            ports: ports(layers)?,
            api_token: layers.text("api.token").map(ToOwned::to_owned),
            api_logging: layers.switch("api.logging"),
            allowed_origins: layers.text("api.allowed-origins").unwrap_or("*").to_owned(),
            body_bytes_max: size(layers, "limits.body-size", "limits.body-size-mb", 1 << 20),
            header_bytes_max: size(layers, "limits.header-size", "limits.header-size-kb", 1 << 10),
            call_timeout: some_time(layers, "calls.timeout")?,
            call_stream_silence: some_time(layers, "calls.stream-silence")?,
            resources: layers.list("resources.paths").into_iter().map(PathBuf::from).collect(),
            configuration: layers.list("config.paths").into_iter().map(PathBuf::from).collect(),
        })
    }

    /// The same settings for an app that will be called, on a port that may still have to be found.
    #[must_use]
    pub fn with_channel(mut self, layers: &Layers) -> Self {
        self.channel.get_or_insert_with(|| channel(layers, None));
        self
    }
}

fn app_id(layers: &Layers, fallback: &str) -> Result<String, Failure> {
    let id = layers.text("app.id").unwrap_or(fallback);
    // The id ends up in keys (`app||key`), in header values and in host names.
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !id.is_empty() && id.len() <= 253 && id.chars().all(fits) {
        return Ok(id.to_owned());
    }
    Err(Failure::new("OUTR-0001", Exit::Usage, format!("{id:?} cannot be an app id"))
        .at(layers.origin("app.id"))
        .help("use letters, digits, '-', '_' and '.', at most 253 of them"))
}

fn channel(layers: &Layers, port: Option<u16>) -> ChannelSettings {
    let protocol = layers.text("app.protocol").unwrap_or("http");
    let protocol = match (protocol, layers.switch("app.ssl")) {
        ("http", true) => "https",
        ("grpc", true) => "grpcs",
        (protocol, _) => protocol,
    };
    let health = layers.switch("app.health.enabled").then(|| HealthSettings {
        path: layers.text("app.health.path").unwrap_or("/healthz").to_owned(),
        interval: layers.duration("app.health.interval").unwrap_or(Duration::from_secs(5)),
        timeout: layers.duration("app.health.timeout").unwrap_or(Duration::from_millis(500)),
        threshold: positive(layers, "app.health.threshold").unwrap_or(3),
    });
    ChannelSettings {
        protocol: protocol.to_owned(),
        host: layers.text("app.channel-address").unwrap_or("127.0.0.1").to_owned(),
        port,
        max_concurrency: positive(layers, "app.max-concurrency"),
        api_token: layers.text("app.api-token").map(ToOwned::to_owned),
        health,
    }
}

/// A time that is never nothing and never endless.
fn some_time(layers: &Layers, key: &str) -> Result<Duration, Failure> {
    const MOST: Duration = Duration::from_secs(30 * 24 * 3600);
    let time = layers.duration(key).unwrap_or_default();
    if !time.is_zero() && time <= MOST {
        return Ok(time);
    }
    Err(Failure::new("OUTR-0001", Exit::Usage, format!("{key} is {time:?}; every call has an end"))
        .at(layers.origin(key))
        .help("use a duration above zero and up to 30 days (720h)"))
}

fn positive(layers: &Layers, key: &str) -> Option<u32> {
    u32::try_from(layers.number(key)?).ok().filter(|number| *number > 0)
}

/// A size; the old spelling counts only when the new one was left alone.
fn size(layers: &Layers, key: &str, old: &str, unit: u64) -> usize {
    let old = layers.number(old).and_then(|count| u64::try_from(count).ok());
    let bytes = match old.filter(|_| !layers.is_set(key)) {
        Some(count) => count.saturating_mul(unit),
        None => layers.bytes(key).unwrap_or(unit * 4),
    };
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn ports(layers: &Layers) -> Result<PortSettings, Failure> {
    let port = |key, flag| {
        let asked_for = layers.is_set(key);
        Port { number: layers.port(key).unwrap_or_default(), asked_for, flag }
    };
    let addresses = layers.list("listen-addresses");
    let addresses = addresses.iter().map(|text| address(layers, "listen-addresses", text));
    let one = |key: &str| address(layers, key, layers.text(key).unwrap_or("127.0.0.1"));
    let metrics = layers.switch("metrics.enabled").then(|| port("metrics.port", "metrics-port"));
    Ok(PortSettings {
        http: port("http.port", "dapr-http-port"),
        grpc: port("grpc.port", "dapr-grpc-port"),
        public: layers
            .port("http.public-port")
            .map(|_| port("http.public-port", "dapr-public-port")),
        metrics,
        addresses: addresses.collect::<Result<_, _>>()?,
        public_address: one("http.public-listen-address")?,
        metrics_address: one("metrics.listen-address")?,
        sockets: layers.text("unix-domain-socket").map(PathBuf::from),
    })
}

pub(super) fn address(layers: &Layers, key: &str, text: &str) -> Result<IpAddr, Failure> {
    let text = if text == "localhost" { "127.0.0.1" } else { text };
    text.trim_matches(['[', ']']).parse().map_err(|_| {
        Failure::new("OUTR-0001", Exit::Usage, format!("{text:?} is not an IP address"))
            .at(layers.origin(key))
            .help("use an address such as 127.0.0.1 or ::1")
    })
}

impl Port {
    /// A port that nobody cares about.
    #[must_use]
    pub fn any(flag: &'static str) -> Self {
        Self { number: 0, asked_for: false, flag }
    }
}

/// Marks a value as decided at start, so that `config` and messages can say why.
///
/// # Errors
/// When the value does not fit the setting, which would be a bug of the caller.
pub fn choose(
    layers: &mut Layers,
    key: &str,
    value: impl Into<String>,
    why: &str,
) -> Result<(), Failure> {
    layers.put(key, value, Origin::Chosen(why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::AppSettings;
    use crate::settings::{Layers, Origin};

    fn with(pairs: &[(&str, &str)]) -> Layers {
        let mut layers = Layers::default();
        for (key, value) in pairs {
            layers.put(key, *value, Origin::Flag("test".into())).unwrap();
        }
        layers
    }

    #[test]
    fn defaults() {
        let app = AppSettings::read(&Layers::default(), "here").unwrap();
        assert_eq!(app.id, "here");
        assert_eq!(app.channel, None);
        assert_eq!((app.ports.http.number, app.ports.grpc.number), (3500, 50001));
        assert!(!app.ports.http.asked_for);
        assert_eq!(app.body_bytes_max, 4 << 20);
        assert_eq!(app.header_bytes_max, 4 << 10);
    }

    #[test]
    fn old_spellings_count_until_the_new_one_is_used() {
        let old = with(&[("limits.body-size-mb", "16"), ("app.ssl", "true"), ("app.port", "1")]);
        let app = AppSettings::read(&old, "a").unwrap();
        assert_eq!(app.body_bytes_max, 16 << 20);
        assert_eq!(app.channel.unwrap().protocol, "https");
        let both = with(&[("limits.body-size-mb", "16"), ("limits.body-size", "1Mi")]);
        assert_eq!(AppSettings::read(&both, "a").unwrap().body_bytes_max, 1 << 20);
    }

    #[test]
    fn every_call_has_an_end() {
        let app = AppSettings::read(&Layers::default(), "a").unwrap();
        let times = (app.call_timeout.as_secs(), app.call_stream_silence.as_secs());
        assert_eq!(times, (60, 600));
        let app = AppSettings::read(&with(&[("calls.timeout", "1500ms")]), "a").unwrap();
        assert_eq!(app.call_timeout.as_millis(), 1500);
        for endless in [("calls.timeout", "0"), ("calls.stream-silence", "721h")] {
            assert_eq!(AppSettings::read(&with(&[endless]), "a").unwrap_err().code(), "OUTR-0001");
        }
    }

    #[test]
    fn ids_that_would_break_keys_are_refused() {
        for bad in ["", "a||b", "a b", "\u{e4}"] {
            assert_eq!(AppSettings::read(&Layers::default(), bad).unwrap_err().code(), "OUTR-0001");
        }
    }
}
