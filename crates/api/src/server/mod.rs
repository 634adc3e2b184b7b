//! Listeners, connections and their end.
//!
//! hyper does the protocols: HTTP/1.1 and HTTP/2 (without TLS) on one port, told apart by the first bytes. What is ours is
//! around it: how many connections, how long they may do nothing ([`patience`]), and how they end.
//!
//! Ending is in order: no new connections; every open one finishes the requests it has and says so to its client; after
//! [`crate::Settings::drain`] what is left is cut. [`serve_http`] and [`serve_grpc`] return when that is done, so
//! that their caller knows when it may stop what requests need.

mod crowd;
mod hosts;
mod patience;
mod peers;
mod proven;
mod steady;
mod unread;

use crate::{
    grpc::Front,
    host::Host,
    http::{RequestBody, Surface, handle},
};
use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulConnection},
};
use outrigger_kernel::{Deadline, World, within};
use patience::{Busy, Patient, Pulse, Socket};
use std::{
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use steady::Steady;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use unread::{Taken, unless_unread};

pub use hosts::{Behind, Doorkeeper, serve_hosts};
pub use peers::serve_peers;
pub(crate) use steady::taking;

/// How long to wait before accepting again when the machine is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often a silent HTTP/2 client is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// How long it may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How much of an HTTP/2 stream's body may be under way before its reader has read any of it.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// The same over all streams of a connection.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// What is listened on. Bound by the binary, which knows how to report that it could not be.
#[derive(Debug)]
pub enum Listener {
    /// A TCP port.
    Tcp(TcpListener),
    /// A Unix domain socket.
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> std::io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Small answers must not wait for company.
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Socket::Unix(listener.accept().await?.0)),
        }
    }
}

/// Serves the HTTP API of `host` until `stop`, then drains.
pub async fn serve_http(
    host: Arc<Host>,
    surface: Surface,
    listener: Listener,
    stop: CancellationToken,
) {
    let bounds = Bounds::of(&host);
    let builder = builder(&host.world, bounds);
    let serving = Serving::new(Arc::clone(&host.world), host.settings.drain, bounds);
    let connect = |socket: Socket, connection: &Connection| {
        let (host, pulse) = (Arc::clone(&host), Arc::clone(&connection.pulse));
        let service = service_fn(move |request: Request<Incoming>| {
            let (host, busy) = (Arc::clone(&host), pulse.begin());
            let version = request.version();
            let request = request.map(|body| RequestBody::incoming(body, version));
            async move {
                let answer = handle(host, surface, request).await;
                Ok::<_, Infallible>(answer.map(|body| Tracked::new(body, busy)))
            }
        });
        builder.serve_connection(connection.io(socket), service).into_owned()
    };
    serving.run(listener, stop, "http connection", connect).await;
}

/// Serves the gRPC API of `host`, and the proxy to other apps, until `stop`, then drains.
pub async fn serve_grpc(host: Arc<Host>, listener: Listener, stop: CancellationToken) {
    let bounds = Bounds::of(&host);
    let builder = builder(&host.world, bounds).http2_only();
    let serving = Serving::new(Arc::clone(&host.world), host.settings.drain, bounds);
    let front = Front::new(Arc::clone(&host), stop.clone());
    let connect = |socket: Socket, connection: &Connection| {
        let (front, pulse) = (front.clone(), Arc::clone(&connection.pulse));
        let service = service_fn(move |request: Request<Incoming>| {
            let (front, busy) = (front.clone(), pulse.begin());
            async move {
                let answer = front.answer(request).await;
                Ok::<_, Infallible>(answer.map(|body| Tracked::new(body, busy)))
            }
        });
        builder.serve_connection(connection.io(socket), service).into_owned()
    };
    serving.run(listener, stop, "grpc connection", connect).await;
}

/// How much a listener takes.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Bytes of a request's head.
    header_bytes: usize,
    /// Requests at once on a connection that carries several.
    streams: u32,
    /// Connections at once.
    connections: usize,
    /// How long an answer on such a connection may be there and not be taken.
    unread: Duration,
}

impl Bounds {
    fn of(host: &Host) -> Self {
        let settings = &host.settings;
        Self {
            header_bytes: settings.max_header_bytes,
            streams: settings.max_streams,
            connections: settings.max_connections,
            unread: settings.stream_silence,
        }
    }
}

fn builder(world: &Arc<dyn World>, bounds: Bounds) -> auto::Builder<StreamTasks> {
    let executor = StreamTasks { world: Arc::clone(world), unread: bounds.unread };
    let mut builder = auto::Builder::new(executor);
    builder
        .http1()
        // Ours, in `patience`: hyper's own would also close connections that merely wait for their next request.
        .header_read_timeout(None)
        // `patience` decides when the end of what a client sends is the end of the client.
        .half_close(false)
        .max_buf_size(bounds.header_bytes.max(8 * 1024));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(bounds.streams)
        .max_header_list_size(u32::try_from(bounds.header_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// The connections of one listener.
struct Serving {
    world: Arc<dyn World>,
    drain: Duration,
    places: Arc<Semaphore>,
    open: TaskTracker,
    ending: Arc<Ending>,
}

/// How connections are told to end.
#[derive(Default)]
struct Ending {
    /// Whether it has begun. Asked at every poll of every connection, which the tokens, with a lock in each, would not bear.
    begun: AtomicBool,
    /// Finish what is under way.
    drain: CancellationToken,
    /// It did not end in time.
    cut: CancellationToken,
}

impl Ending {
    fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.drain.cancel();
    }
}

/// What a connection is made with.
struct Connection {
    world: Arc<dyn World>,
    pulse: Arc<Pulse>,
}

impl Connection {
    fn io(&self, socket: Socket) -> TokioIo<Patient<Socket>> {
        TokioIo::new(Patient::new(socket, Arc::clone(&self.pulse), Arc::clone(&self.world)))
    }
}

impl Serving {
    fn new(world: Arc<dyn World>, drain: Duration, bounds: Bounds) -> Self {
        let places = bounds.connections.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            world,
            drain,
            places: Arc::new(Semaphore::new(places)),
            open: TaskTracker::new(),
            ending: Arc::default(),
        }
    }

    async fn run<C, F>(
        self,
        listener: Listener,
        stop: CancellationToken,
        name: &'static str,
        connect: F,
    ) where
        F: Fn(Socket, &Connection) -> C,
        C: GracefulConnection + Send + 'static,
        C::Error: fmt::Display,
    {
        let mut stopped = pin!(stop.cancelled());
        loop {
            let next = tokio::select! {
                biased;
                () = &mut stopped => break,
                next = self.next(&listener) => next,
            };
            let (socket, place) = match next {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    self.world.sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let pulse = Pulse::new();
            let made = connect(socket, &Connection { world: Arc::clone(&self.world), pulse });
            let (ending, open) = (Arc::clone(&self.ending), self.open.token());
            let task = async move {
                let _held = (place, open);
                if let Some(Err(error)) = attend(made, &ending).await {
                    tracing::debug!(%error, "a connection ended early");
                }
            };
            let _task = self.world.spawn(name, Box::pin(task));
        }
        drop(listener);
        self.finish().await;
    }

    /// Ends every connection in order, and cuts what is left after the time for that.
    async fn finish(&self) {
        self.ending.begin();
        self.open.close();
        let deadline = Deadline::after(&*self.world, self.drain);
        if within(&*self.world, deadline, self.open.wait()).await.is_err() {
            tracing::warn!("connections did not end within {:?} and are cut", self.drain);
        }
        self.ending.cut.cancel();
    }

    /// A connection and its place. Waits for the place first: past the bound, clients wait in the listener's queue.
    async fn next(
        &self,
        listener: &Listener,
    ) -> std::io::Result<(Socket, Option<OwnedSemaphorePermit>)> {
        // The semaphore is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        Ok((listener.accept().await?, place))
    }
}

/// Serves a connection until its end, in order where it is told to; `None` for one that is cut.
async fn attend<C: GracefulConnection>(
    connection: C,
    ending: &Ending,
) -> Option<Result<(), C::Error>> {
    let mut connection = pin!(connection);
    let (mut drain, mut cut) = (pin!(ending.drain.cancelled()), pin!(ending.cut.cancelled()));
    let (mut listens, mut drains) = (false, false);
    let steady = Steady::new();
    poll_fn(move |cx| {
        // Once they know this task they need not be asked again: its waker stays the same.
        if !listens || ending.begun.load(Ordering::Acquire) {
            listens = true;
            if !drains && drain.as_mut().poll(cx).is_ready() {
                drains = true;
                connection.as_mut().graceful_shutdown();
            }
            if cut.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
        }
        steady.poll(cx, |cx| connection.as_mut().poll(cx)).map(Some)
    })
    .await
}

/// An answer's body that keeps its connection busy until it is sent.
struct Tracked<B> {
    body: B,
    taken: Option<Arc<Taken>>,
    _busy: Busy,
}

impl<B> Tracked<B> {
    fn new(body: B, busy: Busy) -> Self {
        Self { body, taken: Taken::of_this_stream(), _busy: busy }
    }
}

impl<B> Body for Tracked<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Some(taken) = &this.taken {
            taken.asked(polled.is_ready());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs hyper's tasks, one per HTTP/2 stream, in the world, where they have an owner.
#[derive(Clone)]
struct StreamTasks {
    world: Arc<dyn World>,
    /// How long an answer may be there and not be taken.
    unread: Duration,
}

impl<F> hyper::rt::Executor<F> for StreamTasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        let task = unless_unread(Arc::clone(&self.world), self.unread, task);
        let _task = self.world.spawn("http2 stream", Box::pin(task));
    }
}
