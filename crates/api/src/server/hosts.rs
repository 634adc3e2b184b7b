//! The door for runtimes of other hosts: HTTP/2 inside TLS 1.3, where both sides prove who they are.
//!
//! ```text
//!   accept --> the name asked for --> which app's certificate to show --> handshake --> who calls, by their certificate
//!                   `-- the authority's name --> requests for certificates
//! ```
//!
//! Who calls is what the certificate says and nothing else; a header that says otherwise is not looked at. A connection
//! is for the one app whose certificate it was made with, and it ends in order when the caller's certificate does.
//!
//! What a stranger can do is bounded before he has proved anything: handshakes have places and a time of their own, so
//! that those who never finish one take nothing away from those who have.

use super::{
    ACCEPT_PAUSE, Bounds, Ending, Listener, Serving, Socket, Tracked, builder,
    crowd::{Crowd, Member},
    patience::{Patient, Pulse},
    proven,
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulConnection};
use outrigger_calls::{Body, Caller, Proven, Relay, body};
use outrigger_identity::{
    Authority, AuthorityError, ENROL_PATH, EnrolAnswer, EnrolRequest, Identity, MESSAGE_BYTES_MAX,
    peer,
};
use outrigger_kernel::{BoxFuture, Deadline, Wall, World, within};
use prost::Message;
use rustls::{ServerConfig, server::Acceptor};
use std::{
    convert::Infallible,
    fmt,
    net::IpAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

/// What other hosts may do at once.
const BOUNDS: Bounds = Bounds {
    header_bytes: 64 * 1024,
    streams: 1_024,
    connections: 1_024,
    unread: Duration::from_secs(10 * 60),
};
/// What hosts that want a certificate may do at once: little, since they need not have proved anything.
const ASKING: Bounds = Bounds { streams: 4, connections: 64, header_bytes: 16 * 1024, ..BOUNDS };
/// How many requests for certificates are read and answered at once.
const REQUESTS_MAX: usize = 16;
/// Connections of one app of another host, over all its places.
const OF_ONE_APP_MAX: usize = 256;
/// How many handshakes there are at once, and how many with one address.
const HANDSHAKES_MAX: usize = 256;
const HANDSHAKES_OF_ONE_MAX: usize = 64;
/// How long one may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// How long whoever asks for a certificate may take to say so.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection on which certificates are asked for lasts.
const ASKING_WITHIN: Duration = Duration::from_secs(30);
/// After how long every caller proves itself anew, on another connection.
const PROVEN_FOR: Duration = Duration::from_secs(60 * 60);
/// How long calls on a connection that is told to end may go on.
const LINGER: Duration = Duration::from_secs(60 * 60);
/// How often at most a refused caller is told of.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Knows what is behind the names that are asked for.
pub trait Doorkeeper: fmt::Debug + Send + Sync + 'static {
    /// What is behind `name`; `None` for nothing.
    fn admit(&self, name: &str) -> BoxFuture<'_, Option<Behind>>;
}

/// What is behind a name.
#[derive(Debug)]
pub enum Behind {
    /// An app of this process.
    App {
        /// TLS as that app, with a certificate demanded of the caller.
        tls: Arc<ServerConfig>,
        /// Its namespace.
        namespace: String,
        /// Its id.
        app_id: String,
        /// How long a caller's certificate counts after its end, since clocks differ.
        skew: Duration,
    },
    /// The authority of the trust domain.
    Authority {
        /// TLS as the authority.
        tls: Arc<ServerConfig>,
        /// The authority.
        authority: Authority,
    },
}

/// Whom a connection is for, and who made it.
enum Door {
    App(Proven),
    Authority(Authority, Option<Identity>),
}

/// Serves calls from other hosts to the apps of this process until `stop`, then drains for at most `drain`.
pub async fn serve_hosts(
    keeper: Arc<dyn Doorkeeper>,
    relay: Arc<Relay>,
    world: Arc<dyn World>,
    listener: Listener,
    stop: CancellationToken,
    drain: Duration,
) {
    let serving = Serving::new(Arc::clone(&world), drain, BOUNDS);
    let porch = Arc::new(Porch {
        keeper,
        relay,
        places: Arc::clone(&serving.places),
        asking: Arc::new(Semaphore::new(ASKING.connections)),
        requests: Semaphore::new(REQUESTS_MAX),
        addresses: Crowd::new(HANDSHAKES_OF_ONE_MAX),
        apps: Crowd::new(OF_ONE_APP_MAX),
        ending: Arc::clone(&serving.ending),
        told: AtomicU64::new(0),
        world: Arc::clone(&world),
    });
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut stopped = pin!(stop.cancelled());
    loop {
        let next = async {
            // The semaphore is never closed.
            let shaking = Arc::clone(&handshakes).acquire_owned().await.ok();
            Ok::<_, std::io::Error>((listener.accept().await?, shaking))
        };
        let next = tokio::select! {
            biased;
            () = &mut stopped => break,
            next = next => next,
        };
        let (socket, shaking) = match next {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                world.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (porch, open) = (Arc::clone(&porch), serving.open.token());
        let task = async move {
            let _open = open;
            let shaken = porch.shake(socket).await;
            drop(shaking);
            if let Some(shaken) = shaken {
                porch.serve(shaken).await;
            }
        };
        let _task = world.spawn("host connection", Box::pin(task));
    }
    drop(listener);
    serving.finish().await;
}

/// What all connections share.
struct Porch {
    keeper: Arc<dyn Doorkeeper>,
    relay: Arc<Relay>,
    /// For those who have proved who they are, and for those who ask for a certificate.
    places: Arc<Semaphore>,
    asking: Arc<Semaphore>,
    requests: Semaphore,
    addresses: Arc<Crowd<IpAddr>>,
    apps: Arc<Crowd<Identity>>,
    ending: Arc<Ending>,
    /// When a refusal was last told, in milliseconds of the monotonic clock.
    told: AtomicU64,
    world: Arc<dyn World>,
}

type Secured = TlsStream<Socket>;

/// A connection that both sides have agreed on.
struct Shaken {
    stream: Secured,
    door: Door,
    who: Option<Identity>,
    /// How long it lasts.
    lasts: Duration,
}

impl Porch {
    /// The handshake; `None` for whoever does not get in.
    async fn shake(&self, socket: Socket) -> Option<Shaken> {
        let address = match &socket {
            Socket::Tcp(stream) => stream.peer_addr().ok().map(|address| address.ip()),
            Socket::Unix(_) => None,
        };
        let entered = address.map(|address| self.addresses.enter(address));
        if entered.as_ref().is_some_and(Option::is_none) {
            self.tell("too many of one address are shaking hands");
            return None;
        }
        let deadline = Deadline::after(&*self.world, HANDSHAKE_WITHIN);
        let shaking = pin!(self.handshake(socket));
        let shaken = tokio::select! {
            biased;
            () = self.ending.drain.cancelled() => return None,
            shaken = within(&*self.world, deadline, shaking) => shaken,
        };
        match shaken.unwrap_or_else(|_| Err("it took too long".to_owned())) {
            Ok(shaken) => Some(shaken),
            Err(reason) => {
                self.tell(&reason);
                None
            }
        }
    }

    async fn handshake(&self, socket: Socket) -> Result<Shaken, String> {
        let started = LazyConfigAcceptor::new(Acceptor::default(), socket).await;
        let started = started.map_err(|error| error.to_string())?;
        let name = started.client_hello().server_name().unwrap_or_default().to_owned();
        let behind = self.keeper.admit(&name).await;
        let behind = behind.ok_or_else(|| {
            outrigger_identity::Refused::NoSuchName(name.chars().take(80).collect()).to_string()
        })?;
        let tls = match &behind {
            Behind::App { tls, .. } | Behind::Authority { tls, .. } => Arc::clone(tls),
        };
        let stream = started.into_stream(tls).await.map_err(|error| error.to_string())?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err("it does not speak HTTP/2".to_owned());
        }
        let shown = peer(stream.get_ref().1.peer_certificates()).map_err(|e| e.to_string())?;
        let (who, until) = shown.unzip();
        let left = until.map(|until: Wall| until.since(self.world.wall()));
        let (door, lasts) = match behind {
            Behind::Authority { authority, .. } => {
                (Door::Authority(authority, who.clone()), ASKING_WITHIN)
            }
            Behind::App { namespace, app_id, skew, .. } => {
                let who = who.as_ref().ok_or("no certificate was shown")?;
                let caller = Caller {
                    app_id: who.app_id().to_owned(),
                    namespace: who.namespace().to_owned(),
                    trust_domain: who.trust_domain().to_owned(),
                };
                let lasts = left.unwrap_or_default().saturating_add(skew).min(PROVEN_FOR);
                (Door::App(Proven { caller, namespace, app_id }), lasts)
            }
        };
        Ok(Shaken { stream, door, who, lasts })
    }

    /// Who is turned away does not get to know why; whoever looks after this host does.
    fn tell(&self, reason: &str) {
        let now = self.world.mono().0 / 1_000_000;
        let every = u64::try_from(TELL_EVERY.as_millis()).unwrap_or(u64::MAX);
        let last = self.told.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= every;
        let ours = self.told.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed);
        if due && ours.is_ok() {
            tracing::warn!("a connection of another host was turned away: {reason}");
        } else {
            tracing::debug!("a connection of another host was turned away: {reason}");
        }
    }

    async fn serve(self: &Arc<Self>, shaken: Shaken) {
        let Shaken { stream, door, who, lasts } = shaken;
        let full = "there are as many connections as there may be";
        let (places, bounds, linger) = match &door {
            Door::App(_) => (&self.places, BOUNDS, LINGER),
            Door::Authority(..) => (&self.asking, ASKING, REQUEST_WITHIN),
        };
        let Ok(_place) = Arc::clone(places).try_acquire_owned() else { return self.tell(full) };
        let member: Option<Option<Member<Identity>>> = who.map(|who| self.apps.enter(who));
        if member.as_ref().is_some_and(Option::is_none) {
            return self.tell("one app has as many connections as it may have");
        }
        let connection = self.connect(stream, Arc::new(door), bounds);
        self.attend(connection, lasts, linger).await;
    }

    fn connect(
        self: &Arc<Self>,
        stream: Secured,
        door: Arc<Door>,
        bounds: Bounds,
    ) -> impl GracefulConnection<Error: fmt::Display> + Send + 'static + use<> {
        let pulse = Pulse::new();
        let busy = Arc::clone(&pulse);
        let porch = Arc::clone(self);
        let service = service_fn(move |request: Request<Incoming>| {
            let (porch, door, busy) = (Arc::clone(&porch), Arc::clone(&door), busy.begin());
            async move {
                let answer = porch.answer(&door, request).await;
                Ok::<_, Infallible>(answer.map(|body| Tracked::new(body, busy)))
            }
        });
        let io = TokioIo::new(Patient::new(stream, pulse, Arc::clone(&self.world)));
        let builder = builder(&self.world, bounds).http2_only();
        builder.serve_connection(io, service).into_owned()
    }

    /// Serves a connection until its end; in order from `lasts` on, and no longer than `linger` after that.
    async fn attend<C>(&self, connection: C, lasts: Duration, linger: Duration)
    where
        C: GracefulConnection + Send,
        C::Error: fmt::Display,
    {
        let mut connection = pin!(connection);
        let told = tokio::select! {
            biased;
            () = self.ending.drain.cancelled() => true,
            () = self.world.sleep(lasts) => true,
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                false
            }
        };
        if told {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                () = self.ending.cut.cancelled() => {}
                () = self.world.sleep(linger) => {}
                _ended = connection => {}
            }
        }
    }

    async fn answer(&self, door: &Door, request: Request<Incoming>) -> Response<Body> {
        match door {
            Door::App(proven) if Relay::is_meant(request.headers()) => {
                self.pass_on(proven, request.map(body::streamed)).await
            }
            Door::Authority(authority, who)
                if request.method() == Method::POST && request.uri().path() == ENROL_PATH =>
            {
                self.enrol(authority, who.as_ref(), request).await
            }
            _ => plain(StatusCode::NOT_FOUND, "This port is for other runtimes of Outrigger.\n"),
        }
    }

    async fn pass_on(&self, proven: &Proven, mut request: Request<Body>) -> Response<Body> {
        proven::dress(request.headers_mut(), proven);
        if !self.relay.judges(proven) {
            return self.relay.answer_proven(request, proven, None).await;
        }
        match proven::operation(request, proven).await {
            Ok((request, judged)) => self.relay.answer_proven(request, proven, judged).await,
            Err(error) => Relay::refuse(&error),
        }
    }

    async fn enrol(
        &self,
        authority: &Authority,
        who: Option<&Identity>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        // The semaphore is never closed.
        let _place = self.requests.acquire().await;
        let deadline = Deadline::after(&*self.world, REQUEST_WITHIN);
        let read = within(&*self.world, deadline, whole(request.into_body())).await;
        let Ok(Some(read)) = read else {
            return plain(StatusCode::BAD_REQUEST, "The request did not come whole.\n");
        };
        let Ok(asked) = EnrolRequest::decode(&read[..]) else {
            return plain(StatusCode::BAD_REQUEST, "That is not a request for a certificate.\n");
        };
        let answered = authority.enrol(&asked, who).await;
        let (app, namespace) = (shown(&asked.app_id), shown(&asked.namespace));
        let (status, answer) = match answered {
            Ok(answer) => {
                let by = if who.is_some() { "its certificate" } else { "a join token" };
                tracing::info!(app, namespace, "a certificate was issued for {by}");
                (StatusCode::OK, answer)
            }
            Err(error) => {
                self.tell(&format!("no certificate for {namespace}/{app}: {error}"));
                refusal(&error)
            }
        };
        let mut answer = Response::new(body::full(Bytes::from(answer.encode_to_vec())));
        *answer.status_mut() = status;
        answer
    }
}

/// All of a small body.
async fn whole(mut body: Incoming) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.ok()?.into_data() {
            if read.len() + data.len() > MESSAGE_BYTES_MAX {
                return None;
            }
            read.extend_from_slice(&data);
        }
    }
    Some(read)
}

/// What somebody else says, short enough for a log.
fn shown(text: &str) -> String {
    text.chars().take(80).filter(|c| !c.is_control()).collect()
}

fn refusal(error: &AuthorityError) -> (StatusCode, EnrolAnswer) {
    let (status, code) = match error {
        AuthorityError::Refused(refused) => (StatusCode::FORBIDDEN, refused.code()),
        AuthorityError::Absent => (StatusCode::NOT_FOUND, "ERR_IDENTITY_NO_AUTHORITY"),
        // What is wrong here is nobody else's business.
        _ => (StatusCode::SERVICE_UNAVAILABLE, "ERR_IDENTITY_UNAVAILABLE"),
    };
    let message = match error {
        AuthorityError::Refused(refused) => format!("{refused}; {}", refused.remedy()),
        AuthorityError::Absent => error.to_string(),
        _ => "the authority cannot answer now".to_owned(),
    };
    (status, EnrolAnswer { code: code.to_owned(), message, ..EnrolAnswer::default() })
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut answer = Response::new(body::full(Bytes::from_static(text.as_bytes())));
    *answer.status_mut() = status;
    answer
}
