//! Servers a test owns: scripted byte by byte, or real ones made of hyper and h2.

use crate::{
    AppChannel, AppProtocol, AppTarget, Body, BoxError, CallError, ChannelSettings, Patience, body,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, channel::Channel};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use outrigger_kernel::{Deadline, TaskHandle, World, within};
use outrigger_sim::SimWorld;
use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Longer than anything takes that is going to happen at all.
pub(super) const LONG: Duration = Duration::from_secs(20);
/// Long enough for something to have happened if it was going to.
pub(super) const SHORT: Duration = Duration::from_millis(150);

/// A server, gone when it is dropped, its connections with it.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: Option<TaskHandle>,
    _connections: Connections,
}

#[derive(Clone, Default)]
struct Connections(Arc<std::sync::Mutex<Vec<TaskHandle>>>);

impl Drop for Connections {
    fn drop(&mut self) {
        if Arc::strong_count(&self.0) <= 2 {
            self.0.lock().unwrap().drain(..).for_each(TaskHandle::abort);
        }
    }
}

impl Server {
    /// Runs `script` on every connection; its number counts from 0.
    pub(super) async fn raw<F, Fut>(world: &Arc<SimWorld>, script: F) -> Self
    where
        F: Fn(TcpStream, usize) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let connections = Connections::default();
        let (count, running, spawner) =
            (Arc::clone(&accepted), connections.clone(), Arc::clone(world));
        let accept = async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst);
                let task = spawner.spawn("test connection", Box::pin(script(socket, number)));
                running.0.lock().unwrap().push(task);
            }
        };
        let task = Some(world.spawn("test server", Box::pin(accept)));
        Self { address, accepted, task, _connections: connections }
    }

    /// An HTTP/1.1 server.
    pub(super) async fn http1<F, Fut>(world: &Arc<SimWorld>, handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::raw(world, move |socket, _| {
            let handler = handler.clone();
            async move {
                let service = service_fn(move |request| {
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .half_close(true)
                    .serve_connection(TokioIo::new(socket), service);
                let _ended = connection.await;
            }
        })
        .await
    }

    /// An HTTP/2 server.
    pub(super) async fn http2<F, Fut>(world: &Arc<SimWorld>, handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response<Body>> + Send + 'static,
    {
        let spawner = Spawner(Arc::clone(world));
        Self::raw(world, move |socket, _| {
            let (handler, spawner) = (handler.clone(), spawner.clone());
            async move {
                let service = service_fn(move |request| {
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let connection = hyper::server::conn::http2::Builder::new(spawner)
                    .serve_connection(TokioIo::new(socket), service);
                let _ended = connection.await;
            }
        })
        .await
    }

    /// How many connections were accepted.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(super) fn target(&self, protocol: AppProtocol) -> AppTarget {
        let (host, port) = (self.address.ip().to_string(), self.address.port());
        AppTarget { protocol, host, port, socket: None }
    }

    pub(super) fn channel(&self, world: &Arc<SimWorld>, protocol: AppProtocol) -> Arc<AppChannel> {
        self.channel_with(world, protocol, ChannelSettings::default())
    }

    pub(super) fn channel_with(
        &self,
        world: &Arc<SimWorld>,
        protocol: AppProtocol,
        settings: ChannelSettings,
    ) -> Arc<AppChannel> {
        AppChannel::new(self.target(protocol), settings, Arc::clone(world) as Arc<dyn World>)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// Runs what hyper's HTTP/2 server wants run.
#[derive(Clone)]
pub(super) struct Spawner(pub(super) Arc<SimWorld>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawner {
    fn execute(&self, future: F) {
        drop(self.0.spawn("test stream", Box::pin(future)));
    }
}

/// Reads from a socket until what was read ends in `end`; `None` when the other side is done first.
pub(super) async fn read_until(socket: &mut TcpStream, end: &str) -> Option<String> {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        match socket.read_u8().await {
            Ok(byte) => read.push(byte),
            Err(_) => return None,
        }
    }
    Some(String::from_utf8_lossy(&read).into_owned())
}

/// Reads one request head.
pub(super) async fn read_head(socket: &mut TcpStream) -> Option<String> {
    read_until(socket, "\r\n\r\n").await
}

pub(super) async fn write(socket: &mut TcpStream, text: &str) {
    socket.write_all(text.as_bytes()).await.unwrap();
}

/// Waits for the other side to hang up, politely or not.
pub(super) async fn hung_up(socket: &mut TcpStream) {
    let mut buffer = [0; 4096];
    while !matches!(socket.read(&mut buffer).await, Ok(0) | Err(_)) {}
}

pub(super) fn get(path: &str) -> Request<Body> {
    Request::get(path).body(body::empty()).unwrap()
}

pub(super) fn post(path: &str, content: impl Into<Bytes>) -> Request<Body> {
    Request::post(path).body(body::full(content)).unwrap()
}

pub(super) fn streaming(path: &str, content: Body) -> Request<Body> {
    Request::post(path).body(content).unwrap()
}

/// A body that is fed by hand.
pub(super) fn fed() -> (http_body_util::channel::Sender<Bytes, BoxError>, Body) {
    let (feed, body) = Channel::<Bytes, BoxError>::new(1);
    (feed, body::streamed(body))
}

pub(super) fn pieces<I>(pieces: I) -> Body
where
    I: IntoIterator<Item = Frame<Bytes>>,
    I::IntoIter: Send + 'static,
{
    let frames = pieces.into_iter().map(Ok::<_, BoxError>);
    body::streamed(StreamBody::new(futures_util::stream::iter(frames)))
}

pub(super) async fn text(body: impl http_body::Body<Data = Bytes, Error = BoxError>) -> String {
    let whole = body.collect().await.unwrap().to_bytes();
    String::from_utf8_lossy(&whole).into_owned()
}

pub(super) async fn send(
    world: &Arc<SimWorld>,
    channel: &AppChannel,
    request: Request<Body>,
) -> Result<Response<Body>, CallError> {
    channel.send(request, Deadline::after(&**world, LONG)).await
}

pub(super) fn patient(world: &Arc<SimWorld>) -> Patience {
    Patience::until(Deadline::after(&**world, LONG))
}

/// Fails when `work` takes longer than anything may.
pub(super) async fn soon<T>(world: &Arc<SimWorld>, work: impl Future<Output = T>) -> T {
    let work = Box::pin(work);
    within(&**world, Deadline::after(&**world, LONG), work).await.expect("takes too long")
}

/// Whether `work` is still not done after a while.
pub(super) async fn hangs<T>(world: &Arc<SimWorld>, work: impl Future<Output = T>) -> bool {
    within(&**world, Deadline::after(&**world, SHORT), work).await.is_err()
}
