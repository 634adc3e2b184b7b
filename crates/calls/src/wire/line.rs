//! One HTTP/1.1 connection: one exchange at a time, driven by whoever makes it.

use super::{
    fault::BodyFault,
    hush::Hush,
    io::{Io, Meter},
    pool::Pool,
    session::Lease,
    silence::{Silence, unless_over},
};
use crate::{BoxError, Patience, gate::Turn, outgoing::Upload};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use outrigger_kernel::Mono;
use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

/// An HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct Line {
    sender: http1::SendRequest<UploadBody>,
    driver: http1::Connection<TokioIo<Io>, UploadBody>,
    pub(super) meter: Arc<Meter>,
    hush: Hush,
    /// When it was last put aside.
    pub(super) used: Mono,
    lease: Lease,
    /// Its seat among those that may be in use at once, while it is.
    pub(super) seat: Option<Turn>,
}

/// An exchange that got no answer.
#[derive(Debug)]
pub(super) struct NoAnswer {
    pub(super) error: hyper::Error,
    /// The request, if it was not even begun.
    pub(super) request: Option<Request<UploadBody>>,
}

impl From<TrySendError<Request<UploadBody>>> for NoAnswer {
    fn from(mut failed: TrySendError<Request<UploadBody>>) -> Self {
        let request = failed.take_message();
        Self { error: failed.into_error(), request }
    }
}

/// The most a response head may have: as many header fields and as many bytes.
const HEADERS_MAX: usize = 128;
const HEAD_BYTES_MAX: usize = 64 * 1024;

impl Line {
    pub(super) async fn open(io: Io, lease: Lease, now: Mono) -> Result<Box<Self>, hyper::Error> {
        let meter = Arc::clone(io.meter());
        let mut builder = http1::Builder::new();
        builder.max_headers(HEADERS_MAX).max_header_size(HEAD_BYTES_MAX);
        let (sender, driver) = builder.handshake(TokioIo::new(io)).await?;
        let (hush, used, seat) = (Hush::new(), now, None);
        Ok(Box::new(Self { sender, driver, meter, hush, used, lease, seat }))
    }

    /// Counts an exchange.
    pub(super) fn count(&mut self) {
        self.lease.exchanges = self.lease.exchanges.saturating_sub(1);
    }

    /// Whether it has done its share.
    pub(super) fn is_spent(&self, now: Mono) -> bool {
        self.lease.spent_at <= now || self.lease.exchanges == 0
    }

    /// Sends a request and drives the connection until the answer's headers are there. A line that fails is gone.
    pub(super) async fn exchange(
        mut self: Box<Self>,
        request: Request<UploadBody>,
    ) -> Result<(Response<Incoming>, Option<Box<Self>>), NoAnswer> {
        let mut promise = pin!(self.sender.try_send_request(request));
        let mut line = Some(self);
        let answer = poll_fn(|cx| {
            if let Some(live) = &mut line {
                let Line { driver, hush, .. } = &mut **live;
                let mut ended = false;
                let answered = hush.poll(cx, |cx| {
                    ended = ended || Pin::new(&mut *driver).poll(cx).is_ready();
                    promise.as_mut().poll(cx)
                });
                if ended {
                    // Dropping the driver breaks the promise it did not keep.
                    line = None;
                }
                if answered.is_ready() || !ended {
                    return answered;
                }
            }
            promise.as_mut().poll(cx)
        });
        let answer = answer.await?;
        Ok((answer, line))
    }

    /// Makes the line ready for the next exchange. `None` when it has none left in it.
    pub(super) fn settle(mut self: Box<Self>) -> Option<Box<Self>> {
        // On behalf of nobody: a line on the shelf must not stir the task that used it last.
        let Line { driver, hush, .. } = &mut *self;
        let cx = &mut Context::from_waker(Waker::noop());
        let ended = hush.poll(cx, |cx| Pin::new(&mut *driver).poll(cx)).is_ready();
        self.hush.forget_task();
        (!ended && self.sender.is_ready()).then_some(self)
    }

    /// Leaves the rest of the exchange to a task of its own: the answer is there while the request is still being sent,
    /// and neither may wait for the other.
    fn drive_apart(self: Box<Self>, pool: &Pool, patience: Patience) {
        let Self { driver, meter, seat, .. } = *self;
        let world = Arc::clone(pool.world());
        let drive = async move {
            let _seat = seat;
            let silence = Silence::after_answer(patience);
            let ended = unless_over(&*world, silence, || meter.beat(), driver).await;
            tracing::trace!(?ended, "a connection with a request and an answer under way is done");
        };
        drop(pool.world().spawn("calls: both ways", Box::pin(drive)));
    }
}

/// A request body on an HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct UploadBody {
    pub(super) upload: Upload,
    progress: Option<Arc<Progress>>,
}

/// How far a streamed request body got.
#[derive(Debug, Default)]
pub(super) struct Progress {
    ended: AtomicBool,
    fault: Mutex<Option<BoxError>>,
}

impl Progress {
    /// Whether it was taken to its end, good or bad.
    pub(super) fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The error it ended in, which would otherwise be buried in the connection's own.
    pub(super) fn take_fault(&self) -> Option<BoxError> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl UploadBody {
    pub(super) fn new(upload: Upload) -> Self {
        let progress = matches!(upload, Upload::Stream { .. }).then(Arc::default);
        Self { upload, progress }
    }

    /// How far it got; `None` for bodies that are here as a whole.
    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        self.progress.clone()
    }

    fn end(&self, fault: Option<BoxError>) {
        if let Some(progress) = &self.progress {
            *progress.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
            progress.ended.store(true, Ordering::Release);
        }
    }
}

impl http_body::Body for UploadBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = self.upload.poll_frame(cx);
        match polled {
            Poll::Ready(Some(Err(error))) => {
                self.end(Some(error));
                Poll::Ready(Some(Err("the request body ended early".into())))
            }
            Poll::Ready(frame) => {
                let last = frame.as_ref().is_none_or(|f| {
                    f.as_ref().is_ok_and(|frame| frame.is_trailers() || self.upload.is_end())
                });
                if last {
                    self.end(None);
                }
                Poll::Ready(frame)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.upload.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.upload.length().map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

/// A response body on an HTTP/1.1 connection; the line goes back to its pool when the body is at its end.
pub(super) struct LineBody {
    incoming: Incoming,
    /// What was read while looking whether the whole body is there already.
    first: Option<Frame<Bytes>>,
    /// The line, unless a task of its own drives it.
    line: Option<Box<Line>>,
    meter: Arc<Meter>,
    pool: Arc<Pool>,
    silence: Silence,
    turn: Option<Turn>,
    ended: bool,
}

/// An answer's body as it goes to whoever called.
pub(super) enum Answered {
    /// All of it is here and the line is back in its pool.
    Whole(Option<Bytes>),
    Streaming(Box<LineBody>),
}

impl LineBody {
    /// Takes what is there already, which for most answers is all of it.
    pub(super) fn begin(
        mut incoming: Incoming,
        line: Option<Box<Line>>,
        upload_done: bool,
        patience: Patience,
        pool: &Arc<Pool>,
        meter: Arc<Meter>,
        turn: Option<Turn>,
    ) -> Answered {
        let mut line = line;
        let mut first = None;
        if upload_done {
            if incoming.is_end_stream() {
                pool.take_back(line);
                return Answered::Whole(None);
            }
            // Only a look: if it is not there, whoever wants it will poll again.
            let cx = &mut Context::from_waker(Waker::noop());
            if let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut incoming).poll_frame(cx) {
                match frame.into_data() {
                    Ok(data) if incoming.is_end_stream() => {
                        pool.take_back(line);
                        return Answered::Whole(Some(data));
                    }
                    Ok(data) => first = Some(Frame::data(data)),
                    Err(trailers) => first = Some(trailers),
                }
            }
        } else if let Some(line) = line.take() {
            line.drive_apart(pool, patience);
        }
        let silence = Silence::after_answer(patience);
        let pool = Arc::clone(pool);
        let body = Self { incoming, first, line, meter, pool, silence, turn, ended: false };
        Answered::Streaming(Box::new(body))
    }

    fn poll_incoming(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(line) = &mut self.line else {
            return Pin::new(&mut self.incoming).poll_frame(cx);
        };
        let Line { driver, hush, .. } = &mut **line;
        let incoming = &mut self.incoming;
        let mut ended = false;
        let polled = hush.poll(cx, |cx| {
            // What is there already first, then what the connection has to add to it.
            if let ready @ Poll::Ready(_) = Pin::new(&mut *incoming).poll_frame(cx) {
                return ready;
            }
            ended = ended || Pin::new(&mut *driver).poll(cx).is_ready();
            Pin::new(&mut *incoming).poll_frame(cx)
        });
        if ended {
            self.line = None;
            if polled.is_pending() {
                return Pin::new(&mut self.incoming).poll_frame(cx);
            }
        }
        polled
    }

    fn finish(&mut self) {
        self.ended = true;
        self.pool.take_back(self.line.take());
        self.turn = None;
    }

    fn fail(&mut self, fault: BodyFault) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.ended = true;
        self.line = None;
        self.turn = None;
        Poll::Ready(Some(Err(fault.into())))
    }
}

impl http_body::Body for LineBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        match this.poll_incoming(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if this.incoming.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                let target = this.pool.name().to_owned();
                this.fail(BodyFault::Broken { target, source: error.into() })
            }
            Poll::Pending => {
                let over = this.silence.poll(&**this.pool.world(), this.meter.beat(), cx);
                let fault = BodyFault::waited(this.pool.name(), ready!(over));
                this.fail(fault)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && (self.ended || self.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.ended && self.first.is_none() {
            return SizeHint::with_exact(0);
        }
        let first = self.first.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len) as u64;
        let rest = self.incoming.size_hint();
        match rest.exact() {
            Some(rest) => SizeHint::with_exact(rest.saturating_add(first)),
            None => SizeHint::new(),
        }
    }
}
