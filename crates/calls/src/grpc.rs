//! gRPC through us: any service, any message, never decoded.
//!
//! A gRPC call is an HTTP/2 exchange whose verdict comes last, in trailers. Passing it on means passing frames, metadata
//! (binary `-bin` entries included) and trailers as they are. Two things are ours: the time budget, which travels as a
//! remaining duration in `grpc-timeout`, and the answer when the app gives none, which has to be a status a gRPC client
//! understands.

use crate::{
    Body, CallError, Invocation, Invoker, Target, body, headers,
    invoke::{Terms, check_access, prepare},
    outgoing::Outgoing,
    policy,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header::CONTENT_TYPE};
use http_body::{Frame, SizeHint};
use outrigger_kernel::{Deadline, World};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// `grpc-status`: the verdict's number.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// `grpc-message`: the verdict in words, percent-encoded.
pub const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// `grpc-timeout`: what is left of the caller's time budget.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of the gRPC specification")]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The code with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        let all = [
            Self::Ok,
            Self::Cancelled,
            Self::Unknown,
            Self::InvalidArgument,
            Self::DeadlineExceeded,
            Self::NotFound,
            Self::AlreadyExists,
            Self::PermissionDenied,
            Self::ResourceExhausted,
            Self::FailedPrecondition,
            Self::Aborted,
            Self::OutOfRange,
            Self::Unimplemented,
            Self::Internal,
            Self::Unavailable,
            Self::DataLoss,
            Self::Unauthenticated,
        ];
        all.get(usize::from(number)).copied()
    }
}

/// The gRPC status of a call that got no answer.
#[must_use]
pub fn code(error: &CallError) -> Code {
    match error {
        CallError::NotFound { .. } => Code::NotFound,
        CallError::NoEndpoint { .. } | CallError::NoPeerWay { .. } => Code::FailedPrecondition,
        CallError::BadTarget { .. } | CallError::BadPath(_) => Code::InvalidArgument,
        CallError::Forbidden(_) => Code::PermissionDenied,
        CallError::Timeout { .. } => Code::DeadlineExceeded,
        CallError::Overloaded { .. } | CallError::NotAdmitted { .. } => Code::ResourceExhausted,
        CallError::RequestBody(_) => Code::Cancelled,
        CallError::Connect { .. }
        | CallError::Unresolved { .. }
        | CallError::Tls { .. }
        | CallError::Unhealthy { .. }
        | CallError::BreakerOpen { .. }
        | CallError::Broken { .. } => Code::Unavailable,
        CallError::Relayed { code, .. } => *code,
        CallError::Tried { source, .. } => code(source),
        CallError::Shared(error) => code(error),
    }
}

/// An answer that is only a status: what a gRPC client gets when there is nothing else to give.
#[must_use]
pub fn refusal(code: Code, message: &str) -> Response<Body> {
    let mut answer = Response::new(body::empty());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    put_status(headers, code, message);
    answer
}

fn put_status(headers: &mut HeaderMap, code: Code, message: &str) {
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(code.number())));
    let encoded = utf8_percent_encode(message, OUTSIDE_MESSAGE).to_string();
    if let Ok(value) = HeaderValue::try_from(encoded) {
        headers.insert(GRPC_MESSAGE, value);
    }
}

/// What `grpc-message` encodes: everything but printable ASCII, and the percent sign itself.
const OUTSIDE_MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

/// Reads `grpc-timeout`: at most eight digits and a unit. `None` when it is malformed, which counts as absent.
#[must_use]
pub fn parse_timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let well_formed = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let count: u64 = well_formed.then(|| digits.parse().ok()).flatten()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// Writes `grpc-timeout` in the finest unit that eight digits hold, rounded down.
#[must_use]
pub fn format_timeout(timeout: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let units = [
        (timeout.as_nanos(), 'n'),
        (timeout.as_micros(), 'u'),
        (timeout.as_millis(), 'm'),
        (u128::from(timeout.as_secs()), 'S'),
        (u128::from(timeout.as_secs() / 60), 'M'),
        (u128::from(timeout.as_secs() / 3600).min(MOST), 'H'),
    ];
    let fits = units.into_iter().find(|(count, _)| *count <= MOST).unwrap_or((MOST, 'H'));
    let text = format!("{}{}", fits.0, fits.1);
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("1H"))
}

impl Invoker {
    /// Passes a gRPC call on. There always is an answer; when the app gives none it carries a gRPC status.
    ///
    /// With a `grpc-timeout` the whole call has that long, streams included, and the app is told what is left. Without
    /// one, a stream may be silent for as long as it likes.
    pub async fn proxy(&self, call: Invocation<'_>) -> Response<Body> {
        match self.try_proxy(call).await {
            Ok(answer) => answer,
            Err(error) => {
                let mut answer = refusal(code(&error), &error.to_string());
                for (name, value) in error.advice() {
                    answer.headers_mut().insert(name, value);
                }
                answer
            }
        }
    }

    pub(crate) async fn try_proxy(
        &self,
        mut call: Invocation<'_>,
    ) -> Result<Response<Body>, CallError> {
        if let Some(budget) = call.headers.get(GRPC_TIMEOUT).and_then(parse_timeout) {
            let deadline = Deadline::after(self.world(), budget);
            call.patience = call.patience.all_by(deadline);
        }
        let now = self.world().mono();
        let (target, terms) = (call.target, Terms::of(&call, policy::grpc_class, now));
        let operation = call.operation.unwrap_or(call.path);
        check_access(&call)?;
        if let Target::App(instances) = target
            && let Some(channel) = instances.channels().first()
            && !channel.protocol().is_http2()
        {
            let reason = "gRPC needs HTTP/2, and it does not speak that";
            return Err(CallError::BadTarget { target: target.id().to_owned(), reason });
        }
        let mut outgoing = prepare(call).await?;
        outgoing.budget = terms.patience.whole;
        let answer = self.call(target, outgoing, operation, terms).await?;
        let (mut head, rest) = answer.into_parts();
        headers::strip_hop_by_hop(&mut head.headers);
        let verdict_given = head.headers.contains_key(GRPC_STATUS);
        Ok(Response::from_parts(head, body::streamed(WithVerdict { rest, verdict_given })))
    }
}

impl Outgoing {
    /// Tells the callee how much time is left, measured when it is sent.
    pub(crate) fn tell_budget(&mut self, world: &dyn World) {
        if let Some(deadline) = self.budget {
            let left = deadline.remaining(world.mono());
            self.head.headers.insert(GRPC_TIMEOUT, format_timeout(left));
        }
    }
}

/// An app's answer, completed by a verdict when the connection to the app breaks before it gave one.
struct WithVerdict {
    rest: Body,
    verdict_given: bool,
}

impl http_body::Body for WithVerdict {
    type Data = Bytes;
    type Error = crate::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, crate::BoxError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.rest).poll_frame(cx);
        match polled {
            Poll::Ready(Some(Err(error))) if !this.verdict_given => {
                this.verdict_given = true;
                this.rest = body::empty();
                let mut trailers = HeaderMap::new();
                put_status(&mut trailers, crate::wire::verdict(&error), &error.to_string());
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                this.verdict_given |= frame.is_trailers();
                Poll::Ready(Some(Ok(frame)))
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.size_hint()
    }
}
