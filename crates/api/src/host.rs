//! One app's side of the runtime: everything its two ports serve from.
//!
//! Built by the binary from [`HostParts`], then only read, apart from what is swapped whole (components, configuration)
//! and three small registers (health, extended metadata, subscriptions). A process that runs ten apps has ten hosts.

use crate::{
    components::Components,
    deliver::{Outlet, Subscriptions},
    health::Health,
    metrics::{AppMetrics, policies::Direction},
    names,
    trace::TelemetrySink,
};
use arc_swap::ArcSwap;
use http::HeaderValue;
use outrigger_calls::{AppChannel, CallPolicy, Caller, Directory, Forwarding, Invoker};
use outrigger_kernel::World;
use outrigger_resources::Configuration;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// What a host is built from.
pub struct HostParts {
    /// The app's id.
    pub app_id: String,
    /// Its namespace; empty where there is none.
    pub namespace: String,
    /// The world.
    pub world: Arc<dyn World>,
    /// Who else can be called.
    pub directory: Arc<Directory>,
    /// Makes the calls.
    pub invoker: Arc<Invoker>,
    /// What `Forwarded` headers say of this machine; `None` leaves them out.
    pub forwarding: Option<Forwarding>,
    /// The way to the app; `None` for an app that only calls.
    pub app: Option<Arc<AppChannel>>,
    /// Settings that do not change while it runs.
    pub settings: Settings,
    /// The configuration in force.
    pub configuration: Configuration,
    /// Where numbers go.
    pub metrics: AppMetrics,
    /// Where spans go.
    pub telemetry: Arc<dyn TelemetrySink>,
    /// Called when the app asks for the runtime to end.
    pub on_shutdown: Box<dyn Fn(Shutdown) + Send + Sync>,
}

/// How the runtime is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Finish what is under way first.
    Graceful,
    /// Answer, then end at once with a failure.
    Force,
}

/// What does not change while a host runs. Plain data.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The token that requests must carry.
    pub api_token: Option<String>,
    /// Largest body that is read into memory. Invocations stream and have no such bound.
    pub max_body_bytes: usize,
    /// Largest request head over HTTP/1.1, and largest header list over HTTP/2.
    pub max_header_bytes: usize,
    /// Most connections at once; further ones wait to be accepted.
    pub max_connections: usize,
    /// Most streams at once on one HTTP/2 connection.
    pub max_streams: u32,
    /// How long a request may take that says nothing about it.
    pub request_timeout: Duration,
    /// How long an invocation that says nothing about its time may wait for an answer, and for the next piece of it.
    pub call_timeout: Duration,
    /// How long calls that may be streams of messages (gRPC, server-sent events) may be silent.
    pub stream_silence: Duration,
    /// How long open connections may finish what they are at when the servers stop.
    pub drain: Duration,
    /// The share of new traces that is recorded, 0 to 1.
    pub sampling_rate: f64,
    /// Origins whose scripts may call: empty for none, `*` for any.
    pub allowed_origins: Vec<String>,
    /// One event per request at info instead of debug.
    pub log_requests: bool,
    /// Log the route instead of the path.
    pub log_routes_only: bool,
    /// Do not log probes.
    pub log_omit_probes: bool,
    /// How the app is reached, as `metadata` shows it and as deliveries need it.
    pub app: AppConnection,
    /// Whether the app is asked for its subscriptions when it starts.
    pub ask_for_subscriptions: bool,
    /// Names of the features switched on, for `metadata`.
    pub features: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            api_token: None,
            max_body_bytes: 4 * 1024 * 1024,
            max_header_bytes: 64 * 1024,
            max_connections: 10_000,
            max_streams: 1_000,
            request_timeout: Duration::from_secs(60),
            call_timeout: outrigger_calls::STALL_DEFAULT,
            stream_silence: outrigger_calls::QUIET_DEFAULT,
            drain: Duration::from_secs(5),
            sampling_rate: 0.0001,
            allowed_origins: Vec::new(),
            log_requests: false,
            log_routes_only: false,
            log_omit_probes: false,
            app: AppConnection::default(),
            ask_for_subscriptions: true,
            features: Vec::new(),
        }
    }
}

/// How the app is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppConnection {
    /// Its port; `None` for an app that only calls.
    pub port: Option<u16>,
    /// Its address.
    pub address: String,
    /// `http`, `https`, `h2c`, `grpc` or `grpcs`.
    pub protocol: String,
    /// How many calls it takes at once; `None` for any number.
    pub max_concurrency: Option<u32>,
    /// How its health is watched; `None` when it is not.
    pub health: Option<AppHealthCheck>,
}

impl AppConnection {
    /// Whether the app speaks gRPC.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        matches!(self.protocol.as_str(), "grpc" | "grpcs")
    }
}

/// How the app's health is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppHealthCheck {
    /// The path asked, for apps that speak HTTP.
    pub path: String,
    /// How often.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How many failures in a row make it unhealthy.
    pub threshold: u32,
}

impl Default for AppHealthCheck {
    fn default() -> Self {
        Self {
            path: "/healthz".to_owned(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_millis(500),
            threshold: 3,
        }
    }
}

/// Most entries of the extended metadata, and the largest value: any app may add to it.
const EXTENDED_ENTRIES_MAX: usize = 256;
/// See [`EXTENDED_ENTRIES_MAX`].
const EXTENDED_BYTES_MAX: usize = 64 * 1024;

/// One app's side of the runtime.
pub struct Host {
    /// The app's id.
    pub app_id: Arc<str>,
    /// Its namespace; empty where there is none.
    pub namespace: Arc<str>,
    /// The world.
    pub world: Arc<dyn World>,
    /// Who else can be called.
    pub directory: Arc<Directory>,
    /// Makes the calls.
    pub invoker: Arc<Invoker>,
    /// The way to the app.
    pub app: Option<Arc<AppChannel>>,
    /// Settings that do not change while it runs.
    pub settings: Settings,
    /// The components in force; swapped whole on reload.
    pub components: ArcSwap<Components>,
    /// The configuration in force; swapped whole on reload.
    pub configuration: ArcSwap<Configuration>,
    /// Where numbers go.
    pub metrics: AppMetrics,
    /// Where spans go.
    pub telemetry: Arc<dyn TelemetrySink>,
    /// What the probes answer.
    pub health: Health,
    /// The subscriptions of the app.
    pub subscriptions: Subscriptions,
    pub(crate) forwarding: Option<Forwarding>,
    /// Who this app is to the apps it calls.
    pub(crate) caller: Caller,
    /// What stands in the envelopes of its events.
    pub(crate) envelope_names: outrigger_events::envelope::Names,
    /// Id and namespace as header values, made once.
    pub(crate) caller_headers: [HeaderValue; 2],
    extended: Mutex<BTreeMap<String, String>>,
    on_shutdown: Box<dyn Fn(Shutdown) + Send + Sync>,
}

impl Host {
    /// Counts what stands before the app itself.
    pub fn watch_inbound(&self, policy: &CallPolicy) {
        policy.watch_with(|| {
            let names = &self.components.load().resiliencies;
            self.metrics.policy_watch(names, format!("app_{}", self.app_id), Direction::Inbound)
        });
    }

    /// A host without components, not ready yet.
    #[must_use]
    pub fn new(parts: HostParts) -> Arc<Self> {
        let trust_domain = parts.configuration.access_control.trust_domain.clone();
        // Who says nothing is in the namespace that access lists call "default".
        let namespace =
            if parts.namespace.is_empty() { "default" } else { parts.namespace.as_str() };
        let caller = Caller {
            app_id: parts.app_id.clone(),
            namespace: namespace.to_owned(),
            trust_domain: trust_domain.unwrap_or_else(|| "public".to_owned()),
        };
        // Ids come from the command line and are plain; what cannot be a header value is left empty.
        let value = |text: &str| {
            HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
        };
        let caller_headers = [value(&parts.app_id), value(namespace)];
        let app_id: Arc<str> = parts.app_id.as_str().into();
        let subscriptions = Subscriptions::new(Outlet {
            app_id: Arc::clone(&app_id),
            world: Arc::clone(&parts.world),
            app: parts.app.clone(),
            metrics: parts.metrics.clone(),
            telemetry: Arc::clone(&parts.telemetry),
            sampling_rate: parts.settings.sampling_rate,
            ask_for_subscriptions: parts.settings.ask_for_subscriptions,
        });
        let envelope_names = outrigger_events::envelope::Names {
            event_type: names::EVENT_TYPE.to_owned(),
            source: parts.app_id.clone(),
        };
        Arc::new(Self {
            caller,
            envelope_names,
            caller_headers,
            forwarding: parts.forwarding,
            invoker: parts.invoker,
            app_id,
            namespace: parts.namespace.into(),
            world: parts.world,
            directory: parts.directory,
            app: parts.app,
            settings: parts.settings,
            components: ArcSwap::from_pointee(Components::default()),
            configuration: ArcSwap::from_pointee(parts.configuration),
            metrics: parts.metrics,
            telemetry: parts.telemetry,
            health: Health::default(),
            subscriptions,
            extended: Mutex::default(),
            on_shutdown: parts.on_shutdown,
        })
    }

    /// Puts other components in force, and counts those that are new.
    pub fn use_components(&self, components: Arc<Components>) {
        let before = self.components.swap(Arc::clone(&components));
        for component in &components.registered {
            if !before.registered.contains(component) {
                self.metrics.component_ready(&component.name);
            }
        }
        for name in &components.resiliencies {
            if !before.resiliencies.contains(name) {
                self.metrics.policy_loaded(name);
            }
        }
    }

    /// Sets an entry of what `metadata` shows as `extended`. Returns whether there was room for it.
    pub fn set_extended(&self, key: &str, value: &str) -> bool {
        let mut extended = self.extended.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = extended.len() < EXTENDED_ENTRIES_MAX || extended.contains_key(key);
        let accepted = fits && key.len() + value.len() <= EXTENDED_BYTES_MAX;
        if accepted {
            extended.insert(key.to_owned(), value.to_owned());
        }
        accepted
    }

    pub(crate) fn extended(&self) -> BTreeMap<String, String> {
        self.extended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn shut_down(&self, how: Shutdown) {
        (self.on_shutdown)(how);
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({})", self.app_id)
    }
}
