//! Bodies on the HTTP side: what a request brings, what an answer carries.

use crate::{
    errors::{Fault, catalogue},
    server::taking,
};
use bytes::{Bytes, BytesMut};
use http::Version;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use outrigger_calls::BoxError;
use outrigger_kernel::{Deadline, World, within};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// How long a client may pause while sending a body.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The body of a request.
#[derive(Debug)]
pub enum RequestBody {
    /// From a connection.
    Incoming(Incoming),
    /// From a connection that does one thing at a time, as HTTP/1 has it.
    Alone(Incoming),
    /// From memory: tests and fuzzing.
    Memory(Option<Bytes>),
}

impl RequestBody {
    /// A body that comes by this version of HTTP.
    pub(crate) fn incoming(body: Incoming, version: Version) -> Self {
        if version == Version::HTTP_2 { Self::Incoming(body) } else { Self::Alone(body) }
    }

    /// A body from memory.
    #[must_use]
    pub fn memory(bytes: impl Into<Bytes>) -> Self {
        Self::Memory(Some(bytes.into()))
    }

    /// Its length, when the client has said it.
    pub(crate) fn known_length(&self) -> Option<u64> {
        self.size_hint().exact()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Alone(body) => taking(|| {
                let polled = Pin::new(&mut *body).poll_frame(cx).map_err(Into::into);
                (polled, body.is_end_stream())
            }),
            Self::Memory(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(body) | Self::Alone(body) => body.is_end_stream(),
            Self::Memory(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(body) | Self::Alone(body) => body.size_hint(),
            Self::Memory(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
        }
    }
}

/// Reads a whole body of at most `limit` bytes by `deadline`. A client that stops sending is not waited for even so long.
pub(crate) async fn read(
    world: &dyn World,
    mut body: RequestBody,
    limit: usize,
    deadline: Deadline,
) -> Result<Bytes, Fault> {
    if body.known_length().is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while !body.is_end_stream() {
        let patience = Deadline::after(world, PAUSE_MAX).earliest(deadline);
        let frame = within(world, patience, body.frame()).await;
        let frame = match frame {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                return Err(Fault::new(
                    &catalogue::BODY_READ,
                    format!("the request body ended early: {error}"),
                ));
            }
            Ok(None) => break,
            Err(_) => {
                let message = "the rest of the request body did not come in time";
                return Err(Fault::new(&catalogue::BODY_READ, message)
                    .status(http::StatusCode::REQUEST_TIMEOUT, tonic::Code::DeadlineExceeded));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > limit.saturating_sub(first.len() + rest.len()) {
            return Err(too_large(limit));
        }
        // Nearly every body is one frame, which is kept as it is.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&std::mem::take(&mut first));
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

fn too_large(limit: usize) -> Fault {
    let message = format!("the request body is larger than the {limit} bytes allowed");
    Fault::new(&catalogue::BODY_TOO_LARGE, message)
}

/// The body of an answer.
pub enum ReplyBody {
    /// Known whole.
    Whole(Option<Bytes>),
    /// Passed on as it comes.
    Stream(outrigger_calls::Body),
}

impl ReplyBody {
    pub(crate) fn known_length(&self) -> Option<u64> {
        self.size_hint().exact()
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Self::Stream(body) => body.size_hint(),
        }
    }
}

impl std::fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "Whole({})", bytes.as_ref().map_or(0, Bytes::len)),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}
