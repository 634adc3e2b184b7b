//! One app's side of the node: its ports, its host, the way to it.

use super::{
    Node, Notice, access,
    components::{self, Workshop},
    hosting,
    resolution::Resolution,
    sockets::{Sockets, to_tokio},
    sources::{self, Loaded},
};
use crate::{
    failure::Failure,
    ports::WhenTaken,
    settings::app::{AppSettings, ChannelSettings},
    supervise::AppPort,
};
use outrigger_api::{Host, HostParts, Surface, serve_grpc, serve_http, serve_metrics, watch_app};
use outrigger_calls::{AppChannel, AppHealth, Directory, HttpEndpoint, Inbound, Registration};
use outrigger_coordination::App;
use outrigger_kernel::{Deadline, World, within};
use outrigger_resources::{Configuration, Severity, Subscription};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Notify, watch};
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
    /// Rung when the app can be called, or cannot any more.
    changed: Option<Arc<Notify>>,
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
        // Whether it is this one that counts or not: a mistake in it is told before anything is served.
        Resolution::read(&configuration, &node.world)?;
        let loaded = node.shelf.read(&settings.resources);
        let built = components::build(&workshop(node), &settings, &configuration, &loaded)?;
        let sockets = Sockets::open(&settings, when_taken, &node.ports)?;
        let ports = sockets.ports();
        let channel = settings
            .channel
            .as_ref()
            .map(|channel| hosting::new_channel(channel, &node.world))
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
            forwarding: hosting::forwarding(node, &settings),
            app: channel.clone(),
            settings: hosting::host_settings(node, &settings, &configuration),
            telemetry: node.telemetry(&configuration.tracing)?,
            metrics: node.metrics(&configuration).for_app(&settings.id, &settings.namespace),
            configuration,
            on_shutdown: {
                let on_shutdown = Arc::clone(&node.on_shutdown);
                Box::new(move |how| on_shutdown(how))
            },
        });
        host.use_components(Arc::new(built.components));
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
            changed: node.engines.hood().map(|hood| hood.bell()),
        });
        if let Some(channel) = &side.channel {
            side.stand_before(channel, built.inbound);
        }
        side.listen(node, sockets)?;
        side.host.health.set_outbound_ready(true);
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
        self.tell_neighbours();
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
        self.tell_neighbours();
        let side = Arc::clone(self);
        let detach = async move { side.host.subscriptions.detach().await };
        drop(self.world.spawn("app detached", Box::pin(detach)));
    }

    /// What other runtimes are to know of the app; nothing once it is leaving.
    pub(super) fn listing(&self) -> Option<App> {
        let state = self.state();
        if state.leaving {
            return None;
        }
        let channel = self.settings.channel.as_ref();
        let callable = channel.filter(|channel| state.attached || channel.port.is_some());
        Some(App {
            id: self.settings.id.clone(),
            namespace: self.settings.namespace.clone(),
            protocol: callable.map(|channel| channel.protocol.clone()),
        })
    }

    fn tell_neighbours(&self) {
        if let Some(changed) = &self.changed {
            changed.notify_one();
        }
    }

    /// The runtime itself is up, and knows how to end in order.
    pub fn started(&self) {
        // An app on a port that was named is part of being ready; one that may never listen is not.
        if self.settings.channel.as_ref().is_none_or(|channel| channel.port.is_none()) {
            self.become_ready();
        }
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
        let components = Arc::new(built.components.keeping(&self.host.components.load()));
        self.host.use_components(Arc::clone(&components));
        if let Some(channel) = &self.channel {
            channel.set_access(access::list(&configuration.access_control));
            let before = channel.inbound();
            let inbound = built.inbound.map(|inbound| match &before {
                Some(before) => inbound.keeping(before),
                None => inbound,
            });
            self.stand_before(channel, inbound);
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

    /// Puts limits of its own before the app.
    fn stand_before(&self, channel: &AppChannel, inbound: Option<Inbound>) {
        if let Some(inbound) = &inbound {
            self.host.watch_inbound(inbound.policy());
        }
        channel.set_inbound(inbound.map(Arc::new));
    }

    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.leaving = true;
        let (app, namespace) = (&self.settings.id, &self.settings.namespace);
        state.registration = Some(self.host.directory.register_leaving(app, namespace));
        self.host.health.set_ready(false);
        drop(state);
        self.tell_neighbours();
    }

    /// How many calls the app has under way.
    pub(super) fn calls(&self) -> usize {
        self.channel.as_ref().map_or(0, |channel| channel.calls())
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

pub(super) fn workshop(node: &Node) -> Workshop<'_> {
    Workshop {
        engines: &node.engines,
        environment: &node.environment,
        mode: node.settings.components,
        world: &node.world,
        outbound: node.invoker.outbound(),
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
