//! Calls into apps that speak gRPC: one message there, one message back.
//!
//! Written on frames instead of with a generated client: a call is a POST with five bytes before the message, and this
//! way it goes through the invoker, under access list and policy, like every other.

use crate::{
    host::Host,
    operations::invoke::{self, Route},
    trace::Trace,
};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use outrigger_calls::{
    AppChannel, CallError, CanonicalPath, Invocation, Patience, body,
    grpc::{GRPC_TIMEOUT, format_timeout},
};
use outrigger_kernel::Deadline;
use outrigger_proto::common::v1 as common;
use prost::Message;
use tonic::{Code, Status};

const ON_INVOKE: &str = "/dapr.proto.runtime.v1.AppCallback/OnInvoke";
const HEALTH_CHECK: &str = "/dapr.proto.runtime.v1.AppCallbackHealthCheck/HealthCheck";

/// Largest answer of an app that is read into memory.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a call gave no message.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The app did not answer.
    NoAnswer(CallError),
    /// The app answered that it failed.
    Status(Status),
}

/// Asks the app beside us how it is, past the limit on calls.
pub(crate) async fn probe(channel: &AppChannel, deadline: Deadline) -> Result<(), String> {
    let answer = channel.probe(request(HEALTH_CHECK, &()), deadline).await;
    let answer = answer.map_err(|error| error.to_string())?;
    match unframe::<()>(answer).await {
        Ok(_) => Ok(()),
        Err(status) => Err(format!("{}: {}", status.code(), status.message())),
    }
}

/// An invocation to be made through `OnInvoke`.
pub(crate) struct Invoked<'a> {
    pub(crate) route: &'a Route,
    /// What the access list looks at.
    pub(crate) operation: &'a CanonicalPath,
    /// Metadata to pass on.
    pub(crate) headers: HeaderMap,
}

/// Calls `OnInvoke` of another app, with all that an invocation goes through. Answers the headers too.
pub(crate) async fn on_invoke(
    host: &Host,
    trace: &Trace,
    named_deadline: Option<Deadline>,
    invoked: Invoked<'_>,
    message: common::InvokeRequest,
) -> Result<(common::InvokeResponse, HeaderMap), Failed> {
    let (head, body) = request(ON_INVOKE, &message).into_parts();
    let mut headers = invoked.headers;
    headers.extend(head.headers);
    if let Some(deadline) = named_deadline {
        let left = deadline.remaining(host.world.mono());
        headers.insert(GRPC_TIMEOUT.clone(), format_timeout(left));
    }
    let path = CanonicalPath::parse_grpc(ON_INVOKE)
        .map_err(|bad| Failed::NoAnswer(CallError::BadPath(bad)))?;
    let patience: Patience = invoke::patience(host, named_deadline);
    let call = Invocation {
        target: &invoked.route.target,
        caller: Some(invoke::caller(host)),
        method: Method::POST,
        path: &path,
        operation: Some(invoked.operation),
        query: None,
        headers,
        edits: invoke::edits(host, invoked.route, trace),
        body,
        policy: invoked.route.policy.as_deref(),
        patience,
    };
    let answer = host.invoker.invoke(call).await.map_err(Failed::NoAnswer)?;
    let read = invoke::rest(host, invoked.route, unframe(answer)).await;
    read.map_err(Failed::NoAnswer)?.map_err(Failed::Status)
}

/// An HTTP request as the message that `OnInvoke` takes.
pub(crate) fn http_request(
    verb: &Method,
    path: &CanonicalPath,
    query: &str,
    headers: &HeaderMap,
    content: Bytes,
) -> common::InvokeRequest {
    use common::http_extension::Verb;
    let verb = Verb::from_str_name(verb.as_str()).unwrap_or(Verb::None);
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let http_extension = common::HttpExtension { verb: verb.into(), querystring: query.to_owned() };
    common::InvokeRequest {
        method: path.plain().trim_start_matches('/').to_owned(),
        data: Some(prost_types::Any { type_url: String::new(), value: content.to_vec() }),
        content_type: content_type.unwrap_or_default().to_owned(),
        http_extension: Some(http_extension),
    }
}

fn request(method: &'static str, message: &impl Message) -> Request<outrigger_calls::Body> {
    let mut frame = BytesMut::with_capacity(message.encoded_len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    // A BytesMut grows as needed, so encoding into it cannot run out of room.
    let encoded = message.encode(&mut frame);
    debug_assert!(encoded.is_ok(), "a buffer that grows has room");
    let mut request = Request::new(body::full(frame));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static(method);
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    request
}

/// The one message of an answer, and its headers.
async fn unframe<M: Message + Default>(
    answer: Response<outrigger_calls::Body>,
) -> Result<(M, HeaderMap), Status> {
    let (head, mut body) = answer.into_parts();
    if head.status != StatusCode::OK {
        let message = format!("the app answered with the HTTP status {}", head.status);
        return Err(Status::new(crate::errors::codes::grpc_of(head.status), message));
    }
    if let Some(status) = Status::from_header_map(&head.headers)
        && status.code() != Code::Ok
    {
        return Err(status);
    }
    let mut content = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::unavailable(error.to_string()))?;
        match frame.into_data() {
            Ok(data) if content.len() + data.len() > ANSWER_BYTES_MAX => {
                return Err(Status::out_of_range("the app's answer is too large"));
            }
            Ok(data) => content.extend_from_slice(&data),
            Err(frame) => {
                let verdict = frame.trailers_ref().and_then(Status::from_header_map);
                if let Some(status) = verdict.filter(|status| status.code() != Code::Ok) {
                    return Err(status);
                }
            }
        }
    }
    let message = decode(&content.freeze())?;
    Ok((message, head.headers))
}

fn decode<M: Message + Default>(content: &Bytes) -> Result<M, Status> {
    let Some((head, message)) = content.split_at_checked(5) else {
        return Err(Status::internal("the app's answer is not a gRPC message"));
    };
    let compressed = head.first() != Some(&0);
    let length = head.get(1..).and_then(|length| length.try_into().ok()).map(u32::from_be_bytes);
    let whole = length.and_then(|l| usize::try_from(l).ok()) == Some(message.len());
    if compressed || !whole {
        return Err(Status::internal("the app's answer is not one plain gRPC message"));
    }
    M::decode(content.slice(5..))
        .map_err(|error| Status::internal(format!("the app's answer cannot be read: {error}")))
}

/// The headers of one call that may go along with another: not those that say what the first one is, and only text.
pub(crate) fn passable(headers: &HeaderMap) -> HeaderMap {
    let kept =
        |(name, value): &(&HeaderName, &HeaderValue)| !is_reserved(name) && value.to_str().is_ok();
    let pairs = headers.iter().filter(kept);
    let mut passed = HeaderMap::new();
    for (name, value) in pairs {
        passed.append(name, value.clone());
    }
    passed
}

fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("grpc-")
        || matches!(
            name,
            "content-type" | "content-length" | "content-encoding" | "te" | "user-agent" | "host"
        )
}
