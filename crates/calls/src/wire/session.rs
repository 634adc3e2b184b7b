//! One HTTP/2 connection, on which many exchanges run at once.
//!
//! The connection is driven by a task of its own. An exchange is driven by whoever makes it until the answer's headers
//! are there; only a request body that is still under way then gets a task, because a stream that goes both ways must
//! not make either way wait for the other.

use super::{
    fault::BodyFault,
    io::{Io, Meter},
    pulse::{PulseSettings, Signs, until_dead},
    silence::{Silence, unless_over},
};
use crate::{BoxError, Patience, STALL_DEFAULT, gate::Turn, outgoing::Upload};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::SendRequest};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use outrigger_kernel::{Mono, World};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};
use tokio::sync::{Notify, oneshot};

/// How much of a stream, and of all streams of a connection, may be under way to us unread.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const FRAME_BYTES_MAX: u32 = 64 * 1024;
const HEAD_BYTES_MAX: u32 = 64 * 1024;

/// An HTTP/2 connection.
#[derive(Clone, Debug)]
pub(super) struct Session {
    sender: SendRequest<Bytes>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// The streams under way, and what the whole connection has moved.
    signs: Arc<Signs>,
    gone: AtomicBool,
    opened: Mono,
    /// How many more streams it takes.
    left: AtomicU64,
    /// From when on it takes no more.
    spent_at: Mono,
    used: AtomicU64,
}

/// What a connection is good for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) spent_at: Mono,
    pub(super) exchanges: u64,
}

/// One stream's place on its connection.
#[derive(Debug)]
struct Place(Arc<State>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.signs.streams.fetch_sub(1, Ordering::Release);
    }
}

impl Session {
    /// Speaks HTTP/2 on `io`. With a pulse, whoever is silent while streams are under way is asked whether it is there.
    pub(super) async fn open(
        io: Io,
        lease: Lease,
        pulse: Option<PulseSettings>,
        world: &Arc<dyn World>,
    ) -> Result<Self, h2::Error> {
        let meter = Arc::clone(io.meter());
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_header_list_size(HEAD_BYTES_MAX)
            .enable_push(false);
        let (sender, mut connection) = builder.handshake(io).await?;
        let streams = AtomicUsize::new(0);
        let signs = Arc::new(Signs { streams, meter, busy: Notify::new() });
        let state = State {
            signs: Arc::clone(&signs),
            gone: AtomicBool::new(false),
            opened: world.mono(),
            left: AtomicU64::new(lease.exchanges),
            spent_at: lease.spent_at,
            used: AtomicU64::new(world.mono().0),
        };
        let state = Arc::new(state);
        let (watched, clock) = (Arc::clone(&state), Arc::clone(world));
        let pulse = pulse.zip(connection.ping_pong());
        let drive = async move {
            let dead = async {
                match pulse {
                    Some((settings, pings)) => until_dead(&signs, pings, settings, &*clock).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = connection => tracing::debug!(?ended, "an HTTP/2 connection ended"),
                () = dead => tracing::info!("an HTTP/2 connection is given up: nobody answers on it"),
            }
            watched.gone.store(true, Ordering::Release);
        };
        drop(world.spawn("calls: http2 connection", Box::pin(drive)));
        Ok(Self { sender, state })
    }

    /// Whether a new stream can begin at once, where there are to be at most `streams_max`.
    pub(super) fn has_room(&self, streams_max: usize) -> bool {
        !self.is_gone() && self.streams() < self.sender.current_max_send_streams().min(streams_max)
    }

    /// Whether it has done its share: it takes no new streams then, so that load finds its way to others.
    pub(super) fn is_spent(&self, now: Mono) -> bool {
        self.state.spent_at <= now || self.state.left.load(Ordering::Relaxed) == 0
    }

    pub(super) fn is_gone(&self) -> bool {
        self.state.gone.load(Ordering::Acquire)
    }

    /// Not to be used for new streams any more.
    pub(super) fn retire(&self) {
        self.state.gone.store(true, Ordering::Release);
    }

    pub(super) fn streams(&self) -> usize {
        self.state.signs.streams.load(Ordering::Relaxed)
    }

    /// Grows with whatever comes from the other side, on any stream.
    pub(super) fn heard(&self) -> u64 {
        self.state.signs.meter.read()
    }

    /// When the connection was made.
    pub(super) fn opened(&self) -> Mono {
        self.state.opened
    }

    /// When a stream last began.
    pub(super) fn used(&self) -> Mono {
        Mono(self.state.used.load(Ordering::Relaxed))
    }

    /// Begins a stream. The upload is taken only once the stream is there.
    pub(super) async fn begin(
        &self,
        head: Request<()>,
        upload: &mut Upload,
        now: Mono,
    ) -> Result<Exchange, h2::Error> {
        let mut sender = self.sender.clone().ready().await?;
        let empty = matches!(upload, Upload::Empty);
        let (answer, mut stream) = sender.send_request(head, empty)?;
        if self.state.signs.streams.fetch_add(1, Ordering::AcqRel) == 0 {
            self.state.signs.busy.notify_one();
        }
        let _ = self.state.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            (left != u64::MAX).then(|| left.saturating_sub(1))
        });
        self.state.used.store(now.0, Ordering::Relaxed);
        let place = Place(Arc::clone(&self.state));
        let meter = Arc::new(Meter::default());
        let pump = match std::mem::replace(upload, Upload::Gone) {
            Upload::Empty | Upload::Gone => None,
            Upload::Whole(content) => {
                stream.send_data(content, true)?;
                None
            }
            upload => Some(Pump { stream, upload, meter: Arc::clone(&meter), stopped: false }),
        };
        Ok(Exchange { answer, pump, meter, place })
    }
}

/// A stream whose answer is not there yet.
#[derive(Debug)]
pub(super) struct Exchange {
    answer: h2::client::ResponseFuture,
    pump: Option<Pump>,
    pub(super) meter: Arc<Meter>,
    place: Place,
}

/// Why a stream got no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The request's body ended in an error.
    Upload(BoxError),
    /// The other side, or the connection, failed.
    Stream(h2::Error),
}

impl Exchange {
    /// Sends the request's body and waits for the answer's headers, whichever comes first.
    pub(super) async fn answer(&mut self) -> Result<Response<RecvStream>, NoAnswer> {
        let Self { answer, pump, .. } = self;
        poll_fn(|cx| {
            if let Some(pumping) = pump
                && !pumping.stopped
            {
                match pumping.poll(cx) {
                    Poll::Ready(Ok(())) => *pump = None,
                    Poll::Ready(Err(Stopped::Upload(error))) => {
                        return Poll::Ready(Err(NoAnswer::Upload(error)));
                    }
                    // The answer says what happened, and may be a good one.
                    Poll::Ready(Err(Stopped::Stream)) => pumping.stopped = true,
                    Poll::Pending => {}
                }
            }
            Pin::new(&mut *answer).poll(cx).map_err(NoAnswer::Stream)
        })
        .await
    }

    /// Whether nothing of a streamed request body was taken yet, in which case it could be sent elsewhere.
    pub(super) fn take_back_untouched(&mut self) -> Option<Upload> {
        let untouched = self.meter.written() == 0;
        self.pump.take().filter(|_| untouched).map(|pump| pump.upload)
    }

    /// The body that follows, with the rest of the upload going on beside it.
    pub(super) fn body(
        self,
        recv: RecvStream,
        length: Option<u64>,
        patience: Patience,
        target: &Arc<str>,
        world: &Arc<dyn World>,
        turn: Option<Turn>,
    ) -> StreamBody {
        let pump = self.pump.filter(|pump| !pump.stopped);
        let cancel = pump.map(|pump| pump.run_apart(patience, world));
        let open = Open { recv, _place: self.place, _turn: turn };
        StreamBody {
            open: Some(open),
            left: length,
            data_done: false,
            meter: self.meter,
            silence: Silence::after_answer(patience),
            target: Arc::clone(target),
            world: Arc::clone(world),
            cancel,
        }
    }
}

/// Why a request body stopped before its end.
#[derive(Debug)]
enum Stopped {
    /// It ended in an error.
    Upload(BoxError),
    /// The other side does not want more of it, or is gone.
    Stream,
}

/// A request body on its way into a stream, one piece at a time.
#[derive(Debug)]
struct Pump {
    stream: SendStream<Bytes>,
    upload: Upload,
    meter: Arc<Meter>,
    /// The other side does not want more.
    stopped: bool,
}

impl Pump {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        loop {
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Stopped::Stream));
            }
            // A piece is fetched only when there is room for some of it, so no more than one waits here.
            self.stream.reserve_capacity(1);
            while self.stream.capacity() == 0 {
                match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Poll::Ready(Err(Stopped::Stream)),
                }
            }
            let piece = match ready!(self.upload.poll_frame(cx)) {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Stopped::Upload(error)));
                }
                None => return Poll::Ready(self.end()),
            };
            match piece.into_data() {
                Ok(data) => {
                    let end = self.upload.is_end();
                    self.meter.moved_out(data.len());
                    if self.stream.send_data(data, end).is_err() {
                        return Poll::Ready(Err(Stopped::Stream));
                    }
                    if end {
                        return Poll::Ready(Ok(()));
                    }
                }
                Err(other) => {
                    if let Ok(trailers) = other.into_trailers() {
                        let sent = self.stream.send_trailers(trailers);
                        return Poll::Ready(sent.map_err(|_| Stopped::Stream));
                    }
                }
            }
        }
    }

    fn end(&mut self) -> Result<(), Stopped> {
        self.stream.send_data(Bytes::new(), true).map_err(|_| Stopped::Stream)
    }

    /// Goes on in a task of its own until the end, until nothing moves any more, or until the sender that is handed
    /// back is dropped without having been used.
    fn run_apart(mut self, patience: Patience, world: &Arc<dyn World>) -> oneshot::Sender<()> {
        let (answered, mut ending) = oneshot::channel::<()>();
        let clock = Arc::clone(world);
        let run = async move {
            let meter = Arc::clone(&self.meter);
            let beat = || meter.beat();
            let beside_answer = poll_fn(|cx| match Pin::new(&mut ending).poll(cx) {
                Poll::Ready(Ok(())) => Poll::Ready(false),
                Poll::Ready(Err(_)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    Poll::Ready(true)
                }
                Poll::Pending => self.poll(cx).map(|_ended| true),
            });
            let silence = Silence::after_answer(patience);
            let done = unless_over(&*clock, silence, beat, beside_answer).await;
            if done == Ok(false) {
                // The answer is complete and nobody can tell any more whether the rest is wanted. It may come, but
                // silence is no longer in the nature of the stream.
                let stall = patience.stall.min(STALL_DEFAULT);
                let silence = Silence::after_answer(Patience { stall, ..patience });
                let ended = unless_over(&*clock, silence, beat, poll_fn(|cx| self.poll(cx))).await;
                tracing::trace!(?ended, "the rest of a request after its answer");
            }
        };
        drop(world.spawn("calls: both ways", Box::pin(run)));
        answered
    }
}

/// A response body on an HTTP/2 connection. Dropping it before its end cancels the stream.
pub(super) struct StreamBody {
    /// `None` once it is at its end.
    open: Option<Open>,
    left: Option<u64>,
    data_done: bool,
    meter: Arc<Meter>,
    silence: Silence,
    target: Arc<str>,
    world: Arc<dyn World>,
    /// Cancels the request body when dropped unused.
    cancel: Option<oneshot::Sender<()>>,
}

/// What a stream holds for as long as it lasts.
struct Open {
    recv: RecvStream,
    _place: Place,
    _turn: Option<Turn>,
}

impl StreamBody {
    fn finish(&mut self) {
        self.open = None;
        if let Some(cancel) = self.cancel.take() {
            // The answer is complete; what is left of the request may still be wanted.
            let _gone = cancel.send(());
        }
    }

    fn fail(&mut self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.open = None;
        self.cancel = None;
        Poll::Ready(Some(Err(fault.into())))
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let Some(Open { recv, .. }) = &mut self.open else { return Poll::Ready(None) };
        while !self.data_done {
            match ready!(recv.poll_data(cx)) {
                // The end of a stream is often said with an empty piece, which is nothing to hand on.
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    // Room for as much again, now that whoever polls has taken this.
                    let _gone = recv.flow_control().release_capacity(data.len());
                    self.meter.moved_in(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_done = true,
            }
        }
        match ready!(recv.poll_trailers(cx)) {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match this.poll_recv(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if frame.is_trailers() || this.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                let fault = BodyFault::from_h2(&this.target, error);
                this.fail(fault)
            }
            Poll::Pending => {
                let over = ready!(this.silence.poll(&*this.world, this.meter.beat(), cx));
                let fault = BodyFault::waited(&this.target, over);
                this.fail(fault)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.open.as_ref().is_none_or(|open| open.recv.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() {
            return SizeHint::with_exact(0);
        }
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}
