//! One app's side of the node: its ports, its host, the way to it.

use super::{
    Node, Notice, access,
    components::{self, Workshop},
    sources::{self, Loaded},
};
use crate::{
    failure::{Exit, Failure},
    ports::{Bound, Ours, WhenTaken, bind},
    settings::app::{AppSettings, ChannelSettings, Port},
    supervise::AppPort,
    telemetry,
};
use outrigger_api::{
    AppConnection, AppHealthCheck, Host, HostParts, Listener, Settings, Surface, serve_grpc,
    serve_http, serve_metrics, watch_app,
};
use outrigger_calls::{
    AppChannel, AppHealth, AppProtocol, AppTarget, Directory, Forwarding, HttpEndpoint,
    Registration,
};
use outrigger_kernel::{Deadline, World, within};
use outrigger_resources::{Configuration, Severity, Subscription};
use std::{
    fmt,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long an app may take to say what it subscribes to before it counts as up without.
const SUBSCRIBING_MAX: Duration = Duration::from_secs(5);

/// Where an app's APIs are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// The HTTP API.
    pub http: u16,
    /// The gRPC API.
    pub grpc: u16,
    /// Metrics.
    pub metrics: Option<u16>,
    /// What to tell about ports that were taken.
    pub moved: Vec<String>,
}

/// One app's side of the node.
pub struct Side {
    settings: AppSettings,
    host: Arc<Host>,
    ports: Ports,
    channel: Option<Arc<AppChannel>>,
    world: Arc<dyn World>,
    /// Stops the listeners.
    stop: CancellationToken,
    serving: TaskTracker,
    ready: watch::Sender<bool>,
    state: Mutex<State>,
}

/// What changes while it runs.
struct State {
    registration: Option<Registration>,
    health: Option<AppHealth>,
    /// Whether the app is there.
    attached: bool,
    declared: Vec<Subscription>,
    endpoints: Vec<HttpEndpoint>,
    default_resources: bool,
    /// Whether a drain has begun: from then on nothing is attached any more.
    leaving: bool,
}

impl Side {
    pub(super) fn serve(
        node: &Arc<Node>,
        settings: AppSettings,
        when_taken: WhenTaken,
    ) -> Result<Arc<Self>, Failure> {
        let configuration = configuration(node, &settings)?;
        let loaded = node.shelf.read(&settings.resources);
        let built = components::build(&workshop(node), &settings, &configuration, &loaded)?;
        let sockets = Sockets::open(&settings, when_taken, &node.ports)?;
        let ports = sockets.ports();
        let channel = settings
            .channel
            .as_ref()
            .map(|channel| new_channel(channel, &node.world))
            .transpose()?;
        if let Some(channel) = &channel {
            channel.set_access(access::list(&configuration.access_control));
        }
        let host = Host::new(HostParts {
            app_id: settings.id.clone(),
            namespace: settings.namespace.clone(),
            world: Arc::clone(&node.world),
            directory: Arc::clone(&node.directory),
            invoker: Arc::clone(&node.invoker),
            forwarding: forwarding(node, &settings),
            app: channel.clone(),
            settings: host_settings(node, &settings, &configuration),
            telemetry: node.telemetry(&configuration.tracing)?,
            metrics: node.metrics(&configuration).for_app(&settings.id, &settings.namespace),
            configuration,
            on_shutdown: {
                let on_shutdown = Arc::clone(&node.on_shutdown);
                Box::new(move |how| on_shutdown(how))
            },
        });
        host.components.store(Arc::new(built.components));
        node.notice(built.notices.into_iter().map(Notice::plain));
        node.notice(warnings(&loaded));
        let state = State {
            registration: Some(register(&node.directory, &settings, channel.as_ref())),
            health: None,
            attached: false,
            declared: built.subscriptions,
            endpoints: built.endpoints,
            default_resources: loaded.defaults,
            leaving: false,
        };
        let side = Arc::new(Self {
            settings,
            host,
            ports,
            channel,
            world: Arc::clone(&node.world),
            stop: CancellationToken::new(),
            serving: TaskTracker::new(),
            ready: watch::Sender::new(false),
            state: Mutex::new(state),
        });
        side.listen(node, sockets)?;
        side.host.health.set_outbound_ready(true);
        // An app on a port that was named is part of being ready; one that may never listen is not.
        if side.settings.channel.as_ref().is_none_or(|channel| channel.port.is_none()) {
            side.become_ready();
        }
        Ok(side)
    }

    fn listen(self: &Arc<Self>, node: &Node, sockets: Sockets) -> Result<(), Failure> {
        let app_id = self.app_id();
        for listener in sockets.http {
            let serve =
                serve_http(Arc::clone(&self.host), Surface::Full, listener, self.stop.clone());
            self.spawn("http server", serve);
        }
        tracing::info!(
            scope = "dapr.runtime.http",
            app_id,
            "HTTP server is running on port {}",
            self.ports.http
        );
        for listener in sockets.grpc {
            let serve = serve_grpc(Arc::clone(&self.host), listener, self.stop.clone());
            self.spawn("grpc server", serve);
        }
        tracing::info!(
            scope = "dapr.runtime.grpc.api",
            app_id,
            "API gRPC server is running on port {}",
            self.ports.grpc
        );
        if let Some(public) = sockets.public {
            for listener in public {
                let serve = serve_http(
                    Arc::clone(&self.host),
                    Surface::Public,
                    listener,
                    self.stop.clone(),
                );
                self.spawn("public http server", serve);
            }
        }
        if let Some(bound) = sockets.metrics {
            let metrics = Arc::clone(self.host.metrics.node());
            for socket in bound.sockets {
                let listener = to_tokio(socket)?;
                let (metrics, world) = (Arc::clone(&metrics), Arc::clone(&node.world));
                let serve = serve_metrics(metrics, world, listener, self.stop.clone());
                self.spawn("metrics server", serve);
            }
        }
        Ok(())
    }

    fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let tracked = self.serving.track_future(work);
        drop(self.world.spawn(name, Box::pin(tracked)));
    }

    /// The app's id.
    #[must_use]
    pub fn app_id(&self) -> &str {
        &self.settings.id
    }

    /// Where its APIs are served.
    #[must_use]
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// How the app is to be reached.
    #[must_use]
    pub fn channel_settings(&self) -> Option<&ChannelSettings> {
        self.settings.channel.as_ref()
    }

    /// The app's port, once it is known.
    #[must_use]
    pub fn app_port(&self) -> Option<u16> {
        let port = self.channel.as_ref()?.target().port;
        (port != 0).then_some(port)
    }

    /// What to wait for before the app is reachable, when its process is `root`.
    #[must_use]
    pub fn wanted_port(&self, root: i32) -> AppPort {
        match &self.settings.channel {
            Some(ChannelSettings { port: Some(port), host, .. }) => {
                AppPort::Known { host: host.clone(), port: *port }
            }
            _ => AppPort::Found { root, except: Vec::new() },
        }
    }

    /// The app listens on `port`: from now on it can be called and gets its events.
    pub fn attach(self: &Arc<Self>, port: u16) {
        let Some(channel) = &self.channel else { return };
        let mut state = self.state();
        if state.leaving {
            return;
        }
        channel.set_port(port);
        let node = &self.host.directory;
        state.registration =
            Some(node.register(&self.settings.id, &self.settings.namespace, Arc::clone(channel)));
        if state.health.is_none() {
            state.health = watch_app(&self.host);
        }
        state.attached = true;
        let verdicts = state.health.as_ref().map(AppHealth::subscribe);
        let declared = state.declared.clone();
        drop(state);
        let found_by_itself =
            self.settings.channel.as_ref().is_some_and(|channel| channel.port.is_none());
        if found_by_itself {
            tracing::info!(target: crate::logging::NOTICE, "{} listens on {port}", self.app_id());
        }
        let side = Arc::clone(self);
        let start = async move {
            let components = side.host.components.load_full();
            let settled = side.host.subscriptions.start(declared, components, verdicts);
            // An app that does not answer what it wants to hear is up all the same.
            let patience = Deadline::after(&*side.world, SUBSCRIBING_MAX);
            let _ = within(&*side.world, patience, settled).await;
            side.become_ready();
        };
        drop(self.world.spawn("app attached", Box::pin(start)));
    }

    /// The app is gone: it gets no events until it is attached again, and calls to it fail.
    pub fn detach(self: &Arc<Self>) {
        let mut state = self.state();
        if state.leaving || !std::mem::take(&mut state.attached) {
            return;
        }
        let channel = self.channel.as_ref();
        state.registration = Some(register(&self.host.directory, &self.settings, channel));
        drop(state);
        let side = Arc::clone(self);
        let detach = async move { side.host.subscriptions.detach().await };
        drop(self.world.spawn("app detached", Box::pin(detach)));
    }

    /// Waits until everything that was asked for is up.
    pub async fn until_ready(&self) {
        let mut ready = self.ready.subscribe();
        // The sender is ours, so waiting ends only with the value.
        drop(ready.wait_for(|ready| *ready).await.map(drop));
    }

    fn become_ready(&self) {
        if !self.state().leaving {
            self.host.health.set_ready(true);
            self.ready.send_replace(true);
        }
    }

    /// Whether the app, as far as anybody watches, is well.
    #[must_use]
    pub fn is_app_healthy(&self) -> bool {
        let state = self.state();
        state.health.as_ref().is_none_or(|health| health.now() == outrigger_calls::Health::Healthy)
    }

    /// Whether it lives on the default resources.
    #[must_use]
    pub fn has_default_resources(&self) -> bool {
        self.state().default_resources
    }

    /// Its API.
    #[must_use]
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    pub(super) fn endpoints(&self) -> Vec<HttpEndpoint> {
        self.state().endpoints.clone()
    }

    pub(super) fn settings(&self) -> &AppSettings {
        &self.settings
    }

    /// Takes new resources into force. What did not change is not touched.
    pub(super) async fn refresh(
        &self,
        built: components::Built,
        configuration: Configuration,
        loaded: &Loaded,
    ) {
        let components = Arc::new(built.components);
        self.host.components.store(Arc::clone(&components));
        if let Some(channel) = &self.channel {
            channel.set_access(access::list(&configuration.access_control));
        }
        self.host.configuration.store(Arc::new(configuration));
        let attached = {
            let mut state = self.state();
            state.declared.clone_from(&built.subscriptions);
            state.endpoints = built.endpoints;
            state.default_resources = loaded.defaults;
            state.attached && !state.leaving
        };
        if attached {
            self.host.subscriptions.reconcile(built.subscriptions, components).await;
        }
    }

    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.leaving = true;
        state.registration = None;
        self.host.health.set_ready(false);
    }

    pub(super) async fn stop_intake(&self, grace: Duration) {
        self.host.subscriptions.stop(grace).await;
    }

    pub(super) async fn close(&self) {
        self.state().health = None;
        self.host.health.set_outbound_ready(false);
        self.stop.cancel();
        self.serving.close();
        self.serving.wait().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Side({} {:?})", self.settings.id, self.ports)
    }
}

/// Makes an app known. With a port that was named it can be called at once: whether it listens yet is for the call to
/// find out. A port that is still to be found is as good as none.
fn register(
    directory: &Arc<Directory>,
    settings: &AppSettings,
    channel: Option<&Arc<AppChannel>>,
) -> Registration {
    let named = settings.channel.as_ref().is_some_and(|channel| channel.port.is_some());
    match channel.filter(|_| named) {
        Some(channel) => directory.register(&settings.id, &settings.namespace, Arc::clone(channel)),
        None => directory.register_without_port(&settings.id, &settings.namespace),
    }
}

/// What `Forwarded` headers say of this machine: the address that others know it by, else the one the API listens on.
fn forwarding(node: &Node, settings: &AppSettings) -> Option<Forwarding> {
    let told = node.environment.get("DAPR_HOST_IP").and_then(|text| text.parse().ok());
    let address = told.or_else(|| settings.ports.addresses.first().copied())?;
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    Some(Forwarding::new(address, name.as_deref().unwrap_or_default()))
}

pub(super) fn workshop(node: &Node) -> Workshop<'_> {
    Workshop {
        engines: &node.engines,
        environment: &node.environment,
        mode: node.settings.components,
        world: &node.world,
    }
}

pub(super) fn configuration(node: &Node, settings: &AppSettings) -> Result<Configuration, Failure> {
    let env = |name: &str| node.environment.get(name).map(ToOwned::to_owned);
    let (configuration, issues) =
        outrigger_resources::load_configuration(&settings.configuration, &env);
    match issues.iter().find(|issue| issue.severity == Severity::Error) {
        Some(error) => Err(sources::failure(error)),
        None => Ok(configuration),
    }
}

pub(super) fn warnings(loaded: &Loaded) -> Vec<Notice> {
    let milder = loaded.issues.iter().filter(|issue| issue.severity != Severity::Error);
    milder.map(|issue| Notice { code: Some(issue.code), text: issue.to_string() }).collect()
}

fn new_channel(
    settings: &ChannelSettings,
    world: &Arc<dyn World>,
) -> Result<Arc<AppChannel>, Failure> {
    let protocol: AppProtocol = settings.protocol.parse().map_err(|error| {
        Failure::new("OUTR-0001", Exit::Usage, "the app's protocol is unknown").why(error)
    })?;
    let target = AppTarget {
        protocol,
        host: settings.host.clone(),
        port: settings.port.unwrap_or_default(),
        socket: None,
    };
    let mut headers = Vec::new();
    if let Some(token) = &settings.api_token {
        let value = http::HeaderValue::try_from(token).map_err(|_| {
            Failure::new("OUTR-0001", Exit::Usage, "APP_API_TOKEN cannot be sent in a header")
        })?;
        headers.push((http::HeaderName::from_static("dapr-api-token"), value));
    }
    let channel = outrigger_calls::ChannelSettings {
        max_concurrency: settings.max_concurrency,
        headers,
        ..Default::default()
    };
    Ok(AppChannel::new(target, channel, Arc::clone(world)))
}

fn host_settings(node: &Node, app: &AppSettings, configuration: &Configuration) -> Settings {
    let logging = &configuration.api_logging;
    let connection = app.channel.as_ref().map(|channel| AppConnection {
        port: channel.port,
        address: channel.host.clone(),
        protocol: channel.protocol.clone(),
        max_concurrency: channel.max_concurrency,
        health: channel.health.as_ref().map(|health| AppHealthCheck {
            path: health.path.clone(),
            interval: health.interval,
            timeout: health.timeout,
            threshold: health.threshold,
        }),
    });
    let origins = app.allowed_origins.split(',').map(str::trim).filter(|origin| !origin.is_empty());
    let features = configuration.features.iter().flatten().filter(|feature| feature.enabled);
    Settings {
        api_token: app.api_token.clone(),
        max_body_bytes: app.body_bytes_max,
        // The reference's bound of 4 KiB is one line of its buffer; ours is the whole head, so it is never below this.
        max_header_bytes: app.header_bytes_max.max(64 * 1024),
        drain: node.settings.grace,
        sampling_rate: telemetry::sampling_rate(&node.environment, &configuration.tracing),
        allowed_origins: origins.map(ToOwned::to_owned).collect(),
        log_requests: app.api_logging || logging.enabled.unwrap_or_default(),
        log_routes_only: logging.obfuscate_urls.unwrap_or_default(),
        log_omit_probes: logging.omit_health_checks.unwrap_or_default(),
        app: connection.unwrap_or_default(),
        ask_for_subscriptions: !app.disable_init_endpoints.iter().any(|name| name == "subscribe"),
        features: features.map(|feature| feature.name.clone()).collect(),
        ..Settings::default()
    }
}

/// Everything an app listens on, bound before anything is served, so that a taken port stops the start cleanly.
struct Sockets {
    http: Vec<Listener>,
    grpc: Vec<Listener>,
    public: Option<Vec<Listener>>,
    metrics: Option<Bound>,
    http_port: u16,
    grpc_port: u16,
    moved: Vec<String>,
}

impl Sockets {
    fn open(settings: &AppSettings, when_taken: WhenTaken, ours: &Ours) -> Result<Self, Failure> {
        let ports = &settings.ports;
        let mut moved = Vec::new();
        let metrics = match &ports.metrics {
            Some(port) => Some(note(
                bind(&[ports.metrics_address], port, when_taken, ours)?,
                port,
                &mut moved,
            )),
            None => None,
        };
        let public = match &ports.public {
            Some(port) => {
                Some(listeners(bind(&[ports.public_address], port, when_taken, ours)?.sockets)?)
            }
            None => None,
        };
        if let Some(folder) = &ports.sockets {
            let http = unix(folder, &format!("dapr-{}-http.socket", settings.id))?;
            let grpc = unix(folder, &format!("dapr-{}-grpc.socket", settings.id))?;
            let (http, grpc) = (vec![http], vec![grpc]);
            return Ok(Self { http, grpc, public, metrics, http_port: 0, grpc_port: 0, moved });
        }
        let http =
            note(bind(&ports.addresses, &ports.http, when_taken, ours)?, &ports.http, &mut moved);
        let grpc =
            note(bind(&ports.addresses, &ports.grpc, when_taken, ours)?, &ports.grpc, &mut moved);
        Ok(Self {
            http_port: http.port,
            grpc_port: grpc.port,
            http: listeners(http.sockets)?,
            grpc: listeners(grpc.sockets)?,
            public,
            metrics,
            moved,
        })
    }

    fn ports(&self) -> Ports {
        Ports {
            http: self.http_port,
            grpc: self.grpc_port,
            metrics: self.metrics.as_ref().map(|bound| bound.port),
            moved: self.moved.clone(),
        }
    }
}

fn note(bound: Bound, port: &Port, moved: &mut Vec<String>) -> Bound {
    if let Some((from, holder)) = &bound.moved_from {
        let who = holder.as_ref().map_or_else(|| "another process".to_owned(), ToString::to_string);
        moved.push(format!(
            "port {from} is held by {who}; using {} instead (--{} chooses)",
            bound.port, port.flag
        ));
    }
    bound
}

fn listeners(sockets: Vec<TcpListener>) -> Result<Vec<Listener>, Failure> {
    sockets.into_iter().map(|socket| to_tokio(socket).map(Listener::Tcp)).collect()
}

fn to_tokio(socket: TcpListener) -> Result<tokio::net::TcpListener, Failure> {
    tokio::net::TcpListener::from_std(socket).map_err(|error| {
        Failure::new("OUTR-0005", Exit::Failed, "a port cannot be listened on").why(error)
    })
}

fn unix(folder: &Path, name: &str) -> Result<Listener, Failure> {
    let path = folder.join(name);
    let failed = |error: std::io::Error| {
        Failure::new("OUTR-0005", Exit::Failed, format!("cannot listen on {}", path.display()))
            .at("--unix-domain-socket")
            .why(error)
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    // A socket file left by a runtime that was killed answers nobody; one that answers belongs to somebody.
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(failed(std::io::Error::from(std::io::ErrorKind::AddrInUse)));
        }
        std::fs::remove_file(&path).map_err(failed)?;
    }
    let listener = tokio::net::UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(Listener::Unix(listener))
}
