//! How long a connection may do nothing.
//!
//! Three waits are bounded, each where the peer is to blame: for the rest of a request's head, for the next request, and
//! for the peer to read what is sent to it. While a request is under way nothing is bounded here: whoever serves it knows
//! better.
//!
//! The end of what a client sends is ambiguous: it may have gone, or only have said that it is done and be waiting for
//! its answer. Nothing but time tells the two apart. So the end is held back while a request is under way, for as long as
//! most answers take; after that the client counts as gone, and what is done for it is dropped.
//!
//! Timers are lazy. One that is running is not moved when something happens; it looks, when it fires, how long it has
//! really been. So a busy connection costs one timer a minute instead of one per request.

use outrigger_kernel::{BoxFuture, Mono, World};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// How long the head of a request may take once it has begun.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// How long a connection may wait for its next request.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// How long a peer may not read while there is something for it.
const STALL_MAX: Duration = Duration::from_secs(60);

/// How long a client that has stopped sending is served.
const HALF_CLOSED_MAX: Duration = Duration::from_secs(2);

/// What a connection that speaks HTTP/2 begins with.
const HTTP2_START: &[u8] = b"PRI";

/// How many requests of a connection have begun and ended, shared between the one who reads bytes and the one who
/// serves requests.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Pulse {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A request begins; it ends when what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.begun.fetch_add(1, Ordering::Release);
        Busy(Arc::clone(self))
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Busy(Arc<Pulse>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Release);
    }
}

/// A socket that gives up on a peer that does nothing.
pub(super) struct Patient<S> {
    socket: S,
    pulse: Arc<Pulse>,
    world: Arc<dyn World>,
    /// Whether bytes came that no request has accounted for yet.
    head_begun: bool,
    /// How many requests had begun and ended when that was last looked at.
    seen: (u64, u64),
    first_read: bool,
    http2: bool,
    /// Whether the peer has stopped sending.
    sent_all: bool,
    head: Watchdog,
    idle: Watchdog,
    stall: Watchdog,
    gone: Watchdog,
}

impl<S> Patient<S> {
    pub(super) fn new(socket: S, pulse: Arc<Pulse>, world: Arc<dyn World>) -> Self {
        let now = world.mono();
        let dog = |limit| Watchdog { limit, since: now, timer: None };
        Self {
            socket,
            pulse,
            head_begun: false,
            seen: (0, 0),
            first_read: true,
            http2: false,
            head: dog(HEAD_MAX),
            idle: dog(IDLE_MAX),
            sent_all: false,
            stall: dog(STALL_MAX),
            gone: dog(HALF_CLOSED_MAX),
            world,
        }
    }

    fn got(&mut self, bytes: &[u8]) {
        if std::mem::take(&mut self.first_read) {
            self.http2 = bytes.starts_with(HTTP2_START);
        }
        let now = self.world.mono();
        let busy = self.look(now);
        if !busy && !self.head_begun {
            self.head_begun = true;
            self.head.since = now;
        }
        self.idle.since = now;
    }

    /// Takes note of requests that began or ended since the last look. Whether one is under way.
    fn look(&mut self, now: Mono) -> bool {
        // In this order a request that ends in between is seen as under way, not as never begun.
        let ended = self.pulse.ended.load(Ordering::Acquire);
        let begun = self.pulse.begun.load(Ordering::Acquire);
        if (begun, ended) != self.seen {
            // Whatever head was begun has become a request; and the wait for the next one starts when this one ended.
            if begun != self.seen.0 {
                self.head_begun = false;
            }
            self.idle.since = now;
            self.seen = (begun, ended);
        }
        begun != ended
    }

    /// Whether the end of what the peer sends is to be passed on.
    fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        let now = self.world.mono();
        if !std::mem::replace(&mut self.sent_all, true) {
            self.gone.since = now;
        }
        self.http2 || !self.look(now) || self.gone.barks(&*self.world, now, cx)
    }

    fn waited_too_long(&mut self, cx: &mut Context<'_>) -> Option<&'static str> {
        // HTTP/2 asks silent peers by itself, and its frames belong to no single request.
        let now = self.world.mono();
        if self.http2 || self.look(now) {
            return None;
        }
        let (dog, what) = if self.head_begun {
            (&mut self.head, "the head of a request")
        } else {
            (&mut self.idle, "the next request")
        };
        dog.barks(&*self.world, now, cx).then_some(what)
    }
}

/// A limit on doing nothing since some moment.
struct Watchdog {
    limit: Duration,
    since: Mono,
    timer: Option<BoxFuture<'static, ()>>,
}

impl Watchdog {
    /// Whether the limit has passed. If not, the task is woken when it might have.
    fn barks(&mut self, world: &dyn World, mut now: Mono, cx: &mut Context<'_>) -> bool {
        loop {
            let left = self.limit.saturating_sub(now.since(self.since));
            if left.is_zero() {
                return true;
            }
            let timer = self.timer.get_or_insert_with(|| world.sleep(left));
            if timer.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.timer = None;
            now = world.mono();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.sent_all {
            return if this.is_gone(cx) { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        match Pin::new(&mut this.socket).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => match buffer.filled().get(before..) {
                Some(new) if !new.is_empty() => {
                    this.got(new);
                    Poll::Ready(Ok(()))
                }
                _ if room > 0 && !this.is_gone(cx) => Poll::Pending,
                _ => Poll::Ready(Ok(())),
            },
            Poll::Pending => match this.waited_too_long(cx) {
                Some(what) => {
                    let message = format!("{what} did not come in time");
                    Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
                }
                None => Poll::Pending,
            },
            failed => failed,
        }
    }
}

impl<S: AsyncWrite + Unpin> Patient<S> {
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            // Only looked at once something stalls, and then it is at most as old as the last write that did.
            if self.stall.timer.is_some() {
                self.stall.since = self.world.mono();
            }
            return outcome;
        }
        let now = self.world.mono();
        if self.stall.timer.is_none() {
            self.stall.since = now;
        }
        if self.stall.barks(&*self.world, now, cx) {
            let message = "the peer does not read what is sent to it";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)));
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.written(cx, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.socket).poll_write_vectored(cx, pieces);
        this.written(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

/// A connection by either way in.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests;
