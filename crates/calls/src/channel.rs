//! The way to one app instance: connections kept warm, a bounded number of calls at a time.

use crate::{
    AccessList, Body, CallError, Caller, ClientTls, Inbound, Neighbour, Patience,
    gate::Gate,
    headers::strip_hop_by_hop,
    neighbour::{self, Passage},
    outgoing::Outgoing,
    remote::{PeerPlace, PeerProof, Remote},
    wire::{Address, Pool, PoolSettings, Protocol, Security},
};
use arc_swap::{ArcSwap, ArcSwapOption};
use http::{HeaderName, HeaderValue, Request, Response};
use outrigger_kernel::{Deadline, World};
use std::{
    fmt,
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// What an app speaks on its port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppProtocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/1.1 over TLS. The certificate is not checked: it is the app beside us, and it made the certificate itself.
    Https,
    /// HTTP/2 without TLS, known beforehand.
    H2c,
    /// gRPC.
    Grpc,
    /// gRPC over TLS, the certificate unchecked.
    Grpcs,
}

impl AppProtocol {
    /// Whether the app speaks gRPC.
    #[must_use]
    pub fn is_grpc(self) -> bool {
        matches!(self, Self::Grpc | Self::Grpcs)
    }

    /// Whether the app speaks HTTP/2, which is what gRPC travels on.
    #[must_use]
    pub fn is_http2(self) -> bool {
        self.wire().0 == Protocol::Http2
    }

    /// Its name in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
        }
    }

    fn wire(self) -> (Protocol, Security) {
        match self {
            Self::Http => (Protocol::Http1, Security::Plain),
            Self::Https => (Protocol::Http1, Security::Unchecked),
            Self::H2c | Self::Grpc => (Protocol::Http2, Security::Plain),
            Self::Grpcs => (Protocol::Http2, Security::Unchecked),
        }
    }
}

/// Not the name of a protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an app protocol: http, https, h2c, grpc or grpcs")]
pub struct UnknownProtocol(pub String);

impl FromStr for AppProtocol {
    type Err = UnknownProtocol;

    fn from_str(name: &str) -> Result<Self, UnknownProtocol> {
        let all = [Self::Http, Self::Https, Self::H2c, Self::Grpc, Self::Grpcs];
        let found = all.into_iter().find(|p| p.as_str().eq_ignore_ascii_case(name));
        found.ok_or_else(|| UnknownProtocol(name.to_owned()))
    }
}

impl fmt::Display for AppProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an app listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppTarget {
    /// What it speaks.
    pub protocol: AppProtocol,
    /// Its host, usually `127.0.0.1`.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// A Unix socket to use instead of host and port.
    pub socket: Option<PathBuf>,
}

/// How an app is called.
#[derive(Clone, Debug)]
pub struct ChannelSettings {
    /// How many calls may be under way at once; `None` for [`ChannelSettings::CALLS_MAX`].
    pub max_concurrency: Option<u32>,
    /// How many more may wait for their turn before the next one is refused.
    pub queue: u32,
    /// Set on every request, such as the app's token.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long making a connection may take, also when the call has more time.
    pub connect_timeout: Duration,
    /// How long a connection may be unused before it is closed.
    pub idle_for: Duration,
}

impl ChannelSettings {
    /// How many calls may be under way at once when no smaller number is set.
    pub const CALLS_MAX: u32 = 4096;
}

impl Default for ChannelSettings {
    fn default() -> Self {
        Self {
            max_concurrency: None,
            queue: 4096,
            headers: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            idle_for: Duration::from_secs(30),
        }
    }
}

/// The way to one app instance.
pub struct AppChannel {
    way: ArcSwap<Way>,
    headers: Vec<(HeaderName, HeaderValue)>,
    gate: Gate,
    connections: PoolSettings,
    healthy: AtomicBool,
    access: ArcSwapOption<AccessList>,
    /// What stands before the app, whoever calls it.
    pub(crate) inbound: ArcSwapOption<Inbound>,
    neighbour: Option<Neighbour>,
    remote: Option<Remote>,
    pub(crate) world: Arc<dyn World>,
}

/// Where the app is, and the connections to it.
struct Way {
    target: AppTarget,
    pool: Arc<Pool>,
}

impl Way {
    fn new(target: AppTarget, settings: &PoolSettings, world: &Arc<dyn World>) -> Arc<Self> {
        let (protocol, security) = target.protocol.wire();
        Self::over(target, protocol, security, settings, world)
    }

    /// HTTP/2 inside `tls`.
    fn secured(
        target: AppTarget,
        tls: Arc<ClientTls>,
        settings: &PoolSettings,
        world: &Arc<dyn World>,
    ) -> Arc<Self> {
        Self::over(target, Protocol::Http2, Security::Checked(Some(tls)), settings, world)
    }

    fn over(
        target: AppTarget,
        protocol: Protocol,
        security: Security,
        settings: &PoolSettings,
        world: &Arc<dyn World>,
    ) -> Arc<Self> {
        let address = match &target.socket {
            Some(path) => Address::Socket(path.clone()),
            None => Address::Host(target.host.clone(), target.port),
        };
        let pool = Pool::new(address, protocol, security, settings.clone(), Arc::clone(world));
        Arc::new(Self { target, pool })
    }
}

impl AppChannel {
    /// A channel to the app at `target`. No connection is made before the first call.
    #[must_use]
    pub fn new(target: AppTarget, settings: ChannelSettings, world: Arc<dyn World>) -> Arc<Self> {
        Self::leading_to(target, settings, None, None, world)
    }

    /// A channel to an app that another process of this machine hosts and that speaks `protocol` there, by way of that
    /// process, which listens at `socket`. Concurrency, health, tokens and access are that process's business.
    #[must_use]
    pub fn to_neighbour(
        protocol: AppProtocol,
        socket: PathBuf,
        neighbour: Neighbour,
        world: Arc<dyn World>,
    ) -> Arc<Self> {
        // Between the two processes there is no TLS, whatever the app insists on.
        let protocol = match protocol {
            AppProtocol::Https => AppProtocol::Http,
            AppProtocol::Grpcs => AppProtocol::Grpc,
            plain => plain,
        };
        let target = AppTarget { protocol, host: String::new(), port: 0, socket: Some(socket) };
        Self::leading_to(target, ChannelSettings::default(), Some(neighbour), None, world)
    }

    /// A channel to the app `app_id` of `namespace`, which a runtime of another host has and which speaks `protocol`
    /// there, by way of that runtime at `place`. Who calls is proved by `proof`; concurrency, health, tokens and access
    /// are that runtime's business.
    #[must_use]
    pub fn to_peer(
        protocol: AppProtocol,
        place: PeerPlace,
        (namespace, app_id): (&str, &str),
        proof: Arc<dyn PeerProof>,
        world: Arc<dyn World>,
    ) -> Arc<Self> {
        let target =
            AppTarget { protocol, host: place.host.clone(), port: place.port, socket: None };
        let neighbour = Neighbour::new(app_id, namespace, || ());
        let remote = Remote::new(place, namespace, app_id, proof);
        Self::leading_to(target, ChannelSettings::default(), Some(neighbour), Some(remote), world)
    }

    /// A channel to whatever speaks HTTP/2 inside `tls` at `place`.
    #[must_use]
    pub fn secured(place: PeerPlace, tls: Arc<ClientTls>, world: Arc<dyn World>) -> Arc<Self> {
        let PeerPlace { host, port } = place;
        let target = AppTarget { protocol: AppProtocol::H2c, host, port, socket: None };
        let channel = Self::leading_to(target, ChannelSettings::default(), None, None, world);
        channel.way.store(Way::secured(
            channel.target(),
            tls,
            &channel.connections,
            &channel.world,
        ));
        channel
    }

    /// A channel to one place of a service outside.
    pub(crate) fn outside(pool: Arc<Pool>, world: Arc<dyn World>) -> Arc<Self> {
        // Where it leads is the pool's business, and stays so: nobody gives an outside service another port.
        let (protocol, host) = (AppProtocol::Http, String::new());
        let target = AppTarget { protocol, host, port: 0, socket: None };
        let channel =
            Self::leading_to(target.clone(), ChannelSettings::default(), None, None, world);
        channel.way.store(Arc::new(Way { target, pool }));
        channel
    }

    fn leading_to(
        target: AppTarget,
        settings: ChannelSettings,
        neighbour: Option<Neighbour>,
        remote: Option<Remote>,
        world: Arc<dyn World>,
    ) -> Arc<Self> {
        // Behind a socket is another process of this machine, behind an address one of another host.
        let far = neighbour.is_some() && target.socket.is_none();
        let kept = if far { PoolSettings::peer } else { PoolSettings::near };
        let connections = kept(settings.connect_timeout, settings.idle_for);
        let limit = settings.max_concurrency.unwrap_or(ChannelSettings::CALLS_MAX);
        Arc::new(Self {
            way: ArcSwap::new(Way::new(target, &connections, &world)),
            gate: Gate::new(limit, settings.queue),
            connections,
            headers: settings.headers,
            healthy: AtomicBool::new(true),
            access: ArcSwapOption::empty(),
            inbound: ArcSwapOption::empty(),
            neighbour,
            remote,
            world,
        })
    }

    /// Where it leads.
    #[must_use]
    pub fn target(&self) -> AppTarget {
        self.way.load().target.clone()
    }

    /// What the app speaks.
    #[must_use]
    pub fn protocol(&self) -> AppProtocol {
        self.way.load().target.protocol
    }

    /// Leads it to another port from now on: an app's port may become known only once it runs, and may be another one
    /// when it runs again. Calls under way stay on their connections; unused connections to the old port are closed.
    pub fn set_port(&self, port: u16) {
        let target = self.target();
        if target.port != port {
            self.way.store(Way::new(AppTarget { port, ..target }, &self.connections, &self.world));
        }
    }

    fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.way.load().pool)
    }

    /// Sends a request whose answer must begin by `deadline`; both bodies stream. Of the request's URI only path and
    /// query count; of its headers, those that belong to a single connection stay behind. Dropping the future, or later the response's body, cancels the call.
    ///
    /// # Errors
    /// [`CallError`] when there is no answer. Any status is an answer.
    pub async fn send(
        &self,
        request: Request<Body>,
        deadline: Deadline,
    ) -> Result<Response<Body>, CallError> {
        self.send_patiently(request, Patience::until(deadline)).await
    }

    /// Sends a request with time limits of its own.
    ///
    /// # Errors
    /// [`CallError`] when there is no answer.
    pub async fn send_patiently(
        &self,
        mut request: Request<Body>,
        patience: Patience,
    ) -> Result<Response<Body>, CallError> {
        strip_hop_by_hop(request.headers_mut());
        self.exchange(&mut Outgoing::new(request).await, patience).await
    }

    /// Sends a request past the concurrency limit: for health probes, which must not fail because the app is busy.
    ///
    /// # Errors
    /// [`CallError`] when there is no answer.
    pub async fn probe(
        &self,
        request: Request<Body>,
        deadline: Deadline,
    ) -> Result<Response<Body>, CallError> {
        let mut outgoing = Outgoing::new(request).await;
        self.dress(&mut outgoing);
        self.pool().exchange(&mut outgoing, Patience::until(deadline), None).await
    }

    pub(crate) async fn exchange(
        &self,
        outgoing: &mut Outgoing,
        patience: Patience,
    ) -> Result<Response<Body>, CallError> {
        self.dress(outgoing);
        let pool = match &self.remote {
            None => self.pool(),
            Some(remote) => {
                let caller = outgoing.passage.as_deref().and_then(Passage::caller);
                remote.pool(caller, &self.connections, &self.world)?
            }
        };
        let turn = self.gate.enter(&*self.world, patience, pool.name()).await?;
        let Some(neighbour) = &self.neighbour else {
            return pool.exchange(outgoing, patience, Some(turn)).await;
        };
        // The owner may have taken the request and say that the app has not; it is sent to another one then.
        let spare = outgoing.replay();
        neighbour.dress(outgoing, patience, &*self.world);
        let refused = match pool.exchange(outgoing, patience, Some(turn)).await {
            Ok(answer) => match neighbour.undress(answer) {
                Ok(answer) => return Ok(answer),
                Err(refused) => refused,
            },
            Err(mut error) => {
                // Another host that does not answer may do so in a moment, and somebody else knows of its places.
                if self.remote.is_none() && neighbour.is_gone(&mut error) {
                    self.set_healthy(false);
                }
                error
            }
        };
        match spare.filter(|_| refused.nothing_sent()) {
            Some(spare) => *outgoing = spare,
            // What the next one gets is as it was, but for a stream that is gone.
            None => neighbour::strip(outgoing.headers_mut()),
        }
        Err(refused)
    }

    /// Asks the runtime of another host, as `caller`, what the app speaks there, and takes that for granted from now on.
    ///
    /// # Errors
    /// [`CallError`] when there is no answer, or there is no such app.
    pub async fn learn(
        &self,
        caller: Caller,
        deadline: Deadline,
    ) -> Result<AppProtocol, CallError> {
        let mut asked = Outgoing::new(neighbour::question()).await;
        asked.passage = Some(Arc::new(Passage::from(caller)));
        let answer = self.exchange(&mut asked, Patience::until(deadline)).await?;
        let protocol = neighbour::described(&answer).ok_or_else(|| CallError::Broken {
            target: self.pool().name().to_owned(),
            nothing_sent: true,
            source: "it does not say what the app speaks".into(),
        })?;
        let target = AppTarget { protocol, ..self.target() };
        self.way.store(Way::new(target, &self.connections, &self.world));
        Ok(protocol)
    }

    /// Whether it leads to an app of another process.
    #[must_use]
    pub fn is_neighbour(&self) -> bool {
        self.neighbour.is_some()
    }

    /// Whether no connection came up lately: another instance, if there is one, is the better choice for a while.
    pub(crate) fn is_away(&self) -> bool {
        match &self.remote {
            Some(remote) => remote.is_away(),
            None => self.way.load().pool.is_away(),
        }
    }

    fn dress(&self, outgoing: &mut Outgoing) {
        for (name, value) in &self.headers {
            outgoing.head.headers.insert(name.clone(), value.clone());
        }
    }

    /// Waits until something listens at the app's address, trying every `every`. Never returns if nothing ever does.
    pub async fn wait_until_open(&self, every: Duration) {
        while self.pool().knock().await.is_err() {
            self.world.sleep(every.max(Duration::from_millis(1))).await;
        }
    }

    /// Whether calls are let through; true until somebody says otherwise.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    /// Says whether calls are let through. [`AppChannel::send`] does not look at it; invocation does.
    pub fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Release);
    }

    /// Who may invoke the app; `None` for everybody.
    #[must_use]
    pub fn access(&self) -> Option<Arc<AccessList>> {
        self.access.load_full()
    }

    /// Replaces the list of who may invoke the app.
    pub fn set_access(&self, access: Option<Arc<AccessList>>) {
        self.access.store(access);
    }

    /// How many calls are under way.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.gate.inside()
    }
}

impl fmt::Debug for AppChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = self.way.load();
        write!(f, "AppChannel({} {})", way.target.protocol, way.pool.name())
    }
}
