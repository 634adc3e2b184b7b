//! A host on loopback ports, with everything in memory.

use outrigger_api::{
    AppConnection, Components, Host, HostParts, Listener, Policed, PubsubComponent, Registered,
    SecretComponent, Settings, Shutdown, StateComponent, Surface,
    metrics::Metrics,
    secrets::{EnvSecrets, FileSecrets},
    serve_grpc, serve_http,
    trace::{FinishedSpan, TelemetrySink},
};
use outrigger_calls::{
    AppChannel, AppProtocol, AppTarget, ChannelSettings, Directory, Invoker, OutboundClient,
    OutboundSettings, Registration,
};
use outrigger_events::{Broker, BrokerSettings};
use outrigger_kernel::{TaskHandle, World};
use outrigger_keyspace::{Space, memory::Memory};
use outrigger_resilience::Policy;
use outrigger_resources::{Configuration, TopicScopes};
use outrigger_sim::SimWorld;
use outrigger_state::{KeyPrefix, Store};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Keeps every span it is given.
#[derive(Default)]
pub(crate) struct Spans(pub(crate) Mutex<Vec<FinishedSpan>>);

impl TelemetrySink for Spans {
    fn span(&self, span: FinishedSpan) {
        self.0.lock().unwrap().push(span);
    }
}

/// A host that serves.
pub(crate) struct Node {
    pub(crate) host: Arc<Host>,
    pub(crate) world: Arc<dyn World>,
    pub(crate) http: u16,
    pub(crate) grpc: u16,
    pub(crate) spans: Arc<Spans>,
    pub(crate) shutdowns: Arc<Mutex<Vec<Shutdown>>>,
    pub(crate) stop: CancellationToken,
    _registration: Option<Registration>,
    tasks: Vec<TaskHandle>,
}

/// What a node is made of, apart from the defaults.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) configuration: Configuration,
    pub(crate) app: Option<(u16, AppProtocol)>,
    /// Token that the app wants to see.
    pub(crate) app_token: Option<&'static str>,
}

impl Node {
    /// A node called `compat`.
    pub(crate) async fn start(plan: Plan) -> Self {
        Self::start_as("compat", plan).await
    }

    pub(crate) async fn start_as(app_id: &str, plan: Plan) -> Self {
        let world = world();
        let directory = Directory::new();
        let mut settings = plan.settings;
        let app = plan.app.map(|(port, protocol)| channel(port, protocol, plan.app_token, &world));
        if let Some((port, protocol)) = plan.app {
            settings.app = AppConnection {
                port: Some(port),
                address: "127.0.0.1".to_owned(),
                protocol: protocol.as_str().to_owned(),
                ..settings.app
            };
        }
        let registration =
            app.as_ref().map(|channel| directory.register(app_id, "", Arc::clone(channel)));
        let metrics = Metrics::new(None, "0.0.0-test");
        let (spans, shutdowns) = (Arc::<Spans>::default(), Arc::<Mutex<Vec<_>>>::default());
        let outbound = OutboundClient::new(OutboundSettings::default(), Arc::clone(&world));
        let seen = Arc::clone(&shutdowns);
        let host = Host::new(HostParts {
            app_id: app_id.to_owned(),
            namespace: String::new(),
            world: Arc::clone(&world),
            directory,
            invoker: Invoker::new(outbound, Arc::clone(&world)),
            forwarding: None,
            app,
            settings,
            configuration: plan.configuration,
            metrics: metrics.for_app(app_id, ""),
            telemetry: Arc::clone(&spans) as Arc<dyn TelemetrySink>,
            on_shutdown: Box::new(move |how| seen.lock().unwrap().push(how)),
        });
        host.use_components(Arc::new(components(app_id, &world)));
        host.health.set_outbound_ready(true);
        host.health.set_ready(true);
        let stop = CancellationToken::new();
        let (http_port, http_listener) = listen().await;
        let (grpc_port, grpc_listener) = listen().await;
        let http = serve_http(Arc::clone(&host), Surface::Full, http_listener, stop.clone());
        let grpc = serve_grpc(Arc::clone(&host), grpc_listener, stop.clone());
        let tasks = vec![world.spawn("http", Box::pin(http)), world.spawn("grpc", Box::pin(grpc))];
        let _registration = registration;
        Self {
            host,
            world,
            http: http_port,
            grpc: grpc_port,
            spans,
            shutdowns,
            stop,
            _registration,
            tasks,
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        self.tasks.drain(..).for_each(TaskHandle::abort);
    }
}

pub(crate) async fn listen() -> (u16, Listener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap().port(), Listener::Tcp(listener))
}

/// The world of a test: real time, a seeded random stream.
pub(crate) fn world() -> Arc<dyn World> {
    SimWorld::new(7)
}

fn channel(
    port: u16,
    protocol: AppProtocol,
    token: Option<&'static str>,
    world: &Arc<dyn World>,
) -> Arc<AppChannel> {
    let target = AppTarget { protocol, host: "127.0.0.1".to_owned(), port, socket: None };
    let mut settings = ChannelSettings::default();
    if let Some(token) = token {
        let name = ::http::HeaderName::from_static(outrigger_api::names::API_TOKEN);
        settings.headers.push((name, ::http::HeaderValue::from_static(token)));
    }
    AppChannel::new(target, settings, Arc::clone(world))
}

fn components(app_id: &str, world: &Arc<dyn World>) -> Components {
    let memory = Memory::new(Arc::clone(world));
    let space = Space::new(memory, Arc::clone(world));
    let state = |name: &str| {
        let component = StateComponent {
            name: name.into(),
            store: Store::new(space.clone(), name),
            prefix: KeyPrefix::AppId,
            ttl_default_seconds: None,
            outbound: Policed::default(),
        };
        (name.to_owned(), Arc::new(component))
    };
    let pubsub = |name: &str, scopes: TopicScopes| {
        let component = PubsubComponent {
            name: name.into(),
            broker: Broker::open(space.clone(), name, BrokerSettings::default()),
            scopes,
            consumer_group: app_id.to_owned(),
            outbound: Policed::default(),
            inbound: Policy::default(),
            policies: Vec::new(),
            max_in_flight: 16,
        };
        (name.to_owned(), Arc::new(component))
    };
    let allowed = BTreeMap::from([(app_id.to_owned(), BTreeSet::from(["allowed".to_owned()]))]);
    let scoped = TopicScopes {
        publishing: allowed.clone(),
        subscription: allowed,
        ..TopicScopes::default()
    };
    let variables = [("COMPAT_SECRET".to_owned(), "hush".to_owned())];
    let file = FileSecrets::parse(br#"{"redis": {"user": "u", "password": "p"}}"#, ":", true);
    let secret = |name: &str, store| {
        (name.to_owned(), Arc::new(SecretComponent { name: name.into(), store }))
    };
    Components {
        state: BTreeMap::from([state("statestore"), state("memory")]),
        pubsub: BTreeMap::from([
            pubsub("pubsub", TopicScopes::default()),
            pubsub("scoped", scoped),
        ]),
        secrets: BTreeMap::from([
            secret("secrets", Arc::new(EnvSecrets::new(variables, "")) as Arc<_>),
            secret("file", Arc::new(file.unwrap()) as Arc<_>),
        ]),
        registered: vec![Registered {
            name: "statestore".to_owned(),
            type_name: "state.in-memory".to_owned(),
            version: "v1".to_owned(),
            capabilities: vec!["ETAG".to_owned()],
        }],
        ..Components::default()
    }
}
