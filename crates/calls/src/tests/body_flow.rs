//! Bodies that are larger than memory should be: what is sent and not yet received stays small, and the slower side sets
//! the pace. Counted in bytes, not in resident memory, which says more about the allocator.

use super::servers::{LONG, SHORT, Server, soon, streaming};
use crate::{
    AppChannel,
    AppProtocol::{self, H2c, Http},
    Body, BoxError, body,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use outrigger_kernel::{Deadline, World};
use outrigger_sim::SimWorld;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};
use tokio::sync::Semaphore;

const WHOLE: u64 = 100 * 1024 * 1024;
/// What sockets, windows and one piece per hop may hold. The kernel lets a loopback connection hold up to ten megabytes
/// when its reader is slow, and there are two; the proxy's own share is far smaller.
const UNDER_WAY_MAX: u64 = 24 * 1024 * 1024;
const PIECE: usize = 64 * 1024;

/// Counts what left its source and what reached its end.
#[derive(Default)]
struct Flow {
    sent: AtomicU64,
    received: AtomicU64,
    most_under_way: AtomicU64,
}

impl Flow {
    fn sent(&self, bytes: usize) {
        let sent = self.sent.fetch_add(bytes as u64, Ordering::SeqCst) + bytes as u64;
        let under_way = sent.saturating_sub(self.received.load(Ordering::SeqCst));
        self.most_under_way.fetch_max(under_way, Ordering::SeqCst);
    }

    fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    fn count_sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    fn check(&self) {
        assert_eq!(self.received.load(Ordering::SeqCst), WHOLE);
        let most = self.most_under_way.load(Ordering::SeqCst);
        assert!(most <= UNDER_WAY_MAX, "{most} bytes were under way at once");
    }
}

/// A body of `left` bytes that never waits.
struct Source {
    left: u64,
    piece: Bytes,
    flow: Arc<Flow>,
}

impl Source {
    fn body(flow: &Arc<Flow>) -> Body {
        let piece = Bytes::from(vec![b'x'; PIECE]);
        body::streamed(Self { left: WHOLE, piece, flow: Arc::clone(flow) })
    }
}

impl http_body::Body for Source {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= PIECE as u64;
        self.flow.sent(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.piece.clone()))))
    }
}

/// Waits until the source stands still.
async fn stalled(world: &SimWorld, flow: &Flow) -> u64 {
    let mut before = 0;
    loop {
        world.sleep(SHORT).await;
        let now = flow.count_sent();
        if now == before && now > 0 {
            return now;
        }
        before = now;
    }
}

async fn drain(mut content: Incoming, flow: &Flow) {
    while let Some(frame) = content.frame().await {
        if let Some(data) = frame.unwrap().data_ref() {
            flow.received(data.len());
        }
    }
}

async fn server(
    world: &Arc<SimWorld>,
    protocol: AppProtocol,
    up: &Arc<Flow>,
    down: &Arc<Flow>,
    begin: &Arc<Semaphore>,
) -> Server {
    let (up, down, begin) = (up.clone(), down.clone(), begin.clone());
    let handler = move |request: Request<Incoming>| {
        let (up, down, begin) = (up.clone(), down.clone(), begin.clone());
        async move {
            begin.acquire().await.unwrap().forget();
            drain(request.into_body(), &up).await;
            Response::new(Source::body(&down))
        }
    };
    match protocol {
        H2c => Server::http2(world, handler).await,
        _ => Server::http1(world, handler).await,
    }
}

async fn hundred_megabytes_each_way(protocol: AppProtocol) {
    let world = SimWorld::new(1);
    let (up, down) = (Arc::<Flow>::default(), Arc::<Flow>::default());
    let begin = Arc::new(Semaphore::new(0));
    let server = server(&world, protocol, &up, &down, &begin).await;
    let channel: Arc<AppChannel> = server.channel(&world, protocol);
    let deadline = Deadline::after(&*world, LONG * 3);
    let call = channel.send(streaming("/", Source::body(&up)), deadline);
    let (answer, ()) = tokio::join!(call, async {
        // The app does not read: the source comes to a stop long before its end.
        let stopped_at = stalled(&world, &up).await;
        assert!(stopped_at <= UNDER_WAY_MAX, "{stopped_at} bytes and nobody reads");
        begin.add_permits(1);
    });
    up.check();
    let mut content = answer.unwrap().into_body();
    // Now we are the ones who do not read.
    let stopped_at = stalled(&world, &down).await;
    assert!(stopped_at <= UNDER_WAY_MAX, "{stopped_at} bytes and nobody reads");
    soon(&world, async {
        while let Some(frame) = content.frame().await {
            down.received(frame.unwrap().data_ref().map_or(0, Bytes::len));
        }
    })
    .await;
    down.check();
}

#[tokio::test]
async fn over_http1() {
    hundred_megabytes_each_way(Http).await;
}

#[tokio::test]
async fn over_http2() {
    hundred_megabytes_each_way(H2c).await;
}

/// The app echoes, the caller reads only after it has sent everything that fits: neither direction may starve the other.
async fn echo(protocol: AppProtocol) {
    let world = SimWorld::new(1);
    let handler =
        |request: Request<Incoming>| async { Response::new(body::streamed(request.into_body())) };
    let server = match protocol {
        H2c => Server::http2(&world, handler).await,
        _ => Server::http1(&world, handler).await,
    };
    let channel = server.channel(&world, protocol);
    let flow = Arc::<Flow>::default();
    let deadline = Deadline::after(&*world, LONG);
    let answer = channel.send(streaming("/", Source::body(&flow)), deadline).await.unwrap();
    let mut content = answer.into_body();
    let stopped_at = stalled(&world, &flow).await;
    assert!(stopped_at <= 2 * UNDER_WAY_MAX, "{stopped_at} bytes and nobody reads");
    soon(&world, async {
        while let Some(frame) = content.frame().await {
            flow.received(frame.unwrap().data_ref().map_or(0, Bytes::len));
        }
    })
    .await;
    assert_eq!(flow.received.load(Ordering::SeqCst), WHOLE);
}

#[tokio::test]
async fn echoed_over_http1() {
    echo(Http).await;
}

#[tokio::test]
async fn echoed_over_http2() {
    echo(H2c).await;
}

/// The app answers at once with more than fits anywhere, and reads the request beside that. The caller reads nothing
/// until its request is through.
async fn upload_beside_unread_answer(protocol: AppProtocol) {
    let world = SimWorld::new(1);
    let (up, down) = (Arc::<Flow>::default(), Arc::<Flow>::default());
    let (up_seen, down_sent, spawner) = (up.clone(), down.clone(), world.clone());
    let handler = move |request: Request<Incoming>| {
        let flow = up_seen.clone();
        let read = async move { drain(request.into_body(), &flow).await };
        drop(spawner.spawn("reader", Box::pin(read)));
        let answer = Response::new(Source::body(&down_sent));
        async move { answer }
    };
    let server = match protocol {
        H2c => Server::http2(&world, handler).await,
        _ => Server::http1(&world, handler).await,
    };
    let channel = server.channel(&world, protocol);
    let deadline = Deadline::after(&*world, LONG);
    let answer = channel.send(streaming("/", Source::body(&up)), deadline).await.unwrap();
    soon(&world, async {
        while up.received.load(Ordering::SeqCst) < WHOLE {
            world.sleep(SHORT / 10).await;
        }
    })
    .await;
    let stopped_at = stalled(&world, &down).await;
    assert!(stopped_at <= UNDER_WAY_MAX, "{stopped_at} bytes and nobody reads");
    drop(answer);
}

#[tokio::test]
async fn an_upload_does_not_wait_for_an_answer_nobody_reads_over_http1() {
    upload_beside_unread_answer(Http).await;
}

#[tokio::test]
async fn an_upload_does_not_wait_for_an_answer_nobody_reads_over_http2() {
    upload_beside_unread_answer(H2c).await;
}
