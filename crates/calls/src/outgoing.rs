//! A request on its way: its head, and as much as is known about whether its body can be sent twice.

use crate::{Body, BoxError, CallError, body, neighbour::Passage};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Request, request::Parts};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use outrigger_kernel::Deadline;
use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

/// The largest request body that is kept in memory so that it can be sent again.
pub const REPLAY_BYTES_MAX: usize = 64 * 1024;

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) head: Parts,
    pub(crate) upload: Upload,
    /// When the caller wants to be done, if the callee is to be told.
    pub(crate) budget: Option<Deadline>,
    /// What another process has to know of the call, if it may go through one.
    pub(crate) passage: Option<Arc<Passage>>,
}

/// A request body.
#[derive(Debug)]
pub(crate) enum Upload {
    Empty,
    /// All of it is here.
    Whole(Bytes),
    /// What was read of it, and the rest.
    Stream {
        first: Option<Bytes>,
        rest: Body,
    },
    /// It was a stream and is gone.
    Gone,
}

impl Outgoing {
    /// Looks once whether the whole body is there already, as it is for most small requests.
    pub(crate) async fn new(request: Request<Body>) -> Self {
        let (head, mut body) = request.into_parts();
        if body.is_end_stream() {
            return Self { head, upload: Upload::Empty, budget: None, passage: None };
        }
        if body.size_hint().lower() > REPLAY_BYTES_MAX as u64 {
            return Self {
                head,
                upload: Upload::Stream { first: None, rest: body },
                budget: None,
                passage: None,
            };
        }
        let peeked = std::future::poll_fn(|cx| {
            Poll::Ready(match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(frame) => Some(frame),
                Poll::Pending => None,
            })
        });
        let upload = match peeked.await {
            None => Upload::Stream { first: None, rest: body },
            Some(None) => Upload::Empty,
            Some(Some(Err(error))) => Upload::Stream { first: None, rest: broken(error) },
            Some(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if !body.is_end_stream() => {
                    Upload::Stream { first: Some(data), rest: body }
                }
                Ok(data) if data.is_empty() => Upload::Empty,
                Ok(data) => Upload::Whole(data),
                // Trailers and no data at all: rare enough to be put back together.
                Err(frame) => Upload::Stream { first: None, rest: only(frame) },
            },
        };
        Self { head, upload, budget: None, passage: None }
    }

    pub(crate) fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.head.headers
    }

    /// Reads a body of known, small length into memory, so that it can be sent again.
    pub(crate) async fn hold_if_small(&mut self) -> Result<(), CallError> {
        let known = self.upload.length().is_some_and(|length| length <= REPLAY_BYTES_MAX as u64);
        if !known || self.upload.replayable() {
            return Ok(());
        }
        if let Upload::Stream { first, rest } = std::mem::replace(&mut self.upload, Upload::Gone) {
            let collected = rest.collect().await.map_err(CallError::RequestBody)?.to_bytes();
            self.upload = Upload::Whole(match first {
                None => collected,
                Some(first) => [first, collected].concat().into(),
            });
        }
        Ok(())
    }

    /// The same request once more, if its body allows it.
    pub(crate) fn replay(&self) -> Option<Self> {
        let upload = self.upload.replay()?;
        Some(Self {
            head: self.head.clone(),
            upload,
            budget: self.budget,
            passage: self.passage.clone(),
        })
    }
}

impl Upload {
    /// The next piece.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self {
            Self::Empty | Self::Gone => Poll::Ready(None),
            Self::Whole(content) => {
                let content = std::mem::take(content);
                *self = Self::Gone;
                Poll::Ready(Some(Ok(Frame::data(content))))
            }
            Self::Stream { first, rest } => match first.take() {
                Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
                None => Pin::new(rest).poll_frame(cx),
            },
        }
    }

    /// Whether nothing is left of it.
    pub(crate) fn is_end(&self) -> bool {
        match self {
            Self::Empty | Self::Gone => true,
            Self::Whole(_) => false,
            Self::Stream { first, rest } => first.is_none() && rest.is_end_stream(),
        }
    }

    /// The same content once more, if that is possible.
    pub(crate) fn replay(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Whole(content) => Some(Self::Whole(content.clone())),
            Self::Stream { .. } | Self::Gone => None,
        }
    }

    /// Its length in bytes, if it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Empty | Self::Gone => Some(0),
            Self::Whole(content) => Some(content.len() as u64),
            Self::Stream { first, rest } => {
                let first = first.as_ref().map_or(0, |data| data.len() as u64);
                rest.size_hint().exact().map(|rest| rest.saturating_add(first))
            }
        }
    }

    /// All of it, if it is here.
    pub(crate) fn content(&self) -> Option<Bytes> {
        match self {
            Self::Empty => Some(Bytes::new()),
            Self::Whole(content) => Some(content.clone()),
            Self::Stream { .. } | Self::Gone => None,
        }
    }

    /// It as a body again.
    pub(crate) fn into_body(self) -> Body {
        match self {
            Self::Empty | Self::Gone => body::empty(),
            Self::Whole(content) => body::full(content),
            Self::Stream { first: None, rest } => rest,
            Self::Stream { first: Some(first), rest } => {
                let first = futures_util::stream::iter([Ok(Frame::data(first))]);
                let all = first.chain(http_body_util::BodyStream::new(rest));
                body::streamed(http_body_util::StreamBody::new(all))
            }
        }
    }

    pub(crate) fn replayable(&self) -> bool {
        matches!(self, Self::Empty | Self::Whole(_))
    }
}

fn broken(error: BoxError) -> Body {
    let frames = futures_util::stream::iter([Err(error)]);
    body::streamed(http_body_util::StreamBody::new(frames))
}

fn only(frame: Frame<Bytes>) -> Body {
    let frames = futures_util::stream::iter([Ok::<_, BoxError>(frame)]);
    body::streamed(http_body_util::StreamBody::new(frames))
}

/// A request between attempts, each of which needs it.
#[derive(Debug)]
pub(crate) struct Held(Mutex<Option<Outgoing>>);

impl Held {
    pub(crate) fn new(outgoing: Outgoing) -> Self {
        Self(Mutex::new(Some(outgoing)))
    }

    /// For one attempt: a copy if there can be one, else the only one there is.
    pub(crate) fn take(&self) -> Option<Outgoing> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().and_then(Outgoing::replay).or_else(|| held.take())
    }
}
