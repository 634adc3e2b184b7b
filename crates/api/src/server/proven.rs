//! A call of another host, made into what a call of this one would be: what the runtime says of a caller to an app is
//! said by this runtime, from what the connection has proved.

use crate::names;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use outrigger_calls::{Body, CallError, Proven, body};
use outrigger_proto::common::v1::InvokeRequest;
use prost::Message;

/// The method of apps that speak gRPC by which they take calls of every name.
const ON_INVOKE: &str = "/dapr.proto.runtime.v1.AppCallback/OnInvoke";
/// The largest message whose name is looked at.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What is in front of a gRPC message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// What is said by the runtime, and what is meant for it and goes no further.
const NOT_THEIRS: [&str; 6] = [
    names::CALLER_APP_ID,
    names::CALLER_NAMESPACE,
    names::CALLEE_APP_ID,
    names::API_TOKEN,
    names::APP_ID,
    names::FORCE_SHUTDOWN,
];

/// Says who calls whom.
pub(super) fn dress(headers: &mut HeaderMap, proven: &Proven) {
    for name in NOT_THEIRS {
        headers.remove(name);
    }
    let says = [
        (names::CALLER_APP_ID, &proven.caller.app_id),
        (names::CALLER_NAMESPACE, &proven.caller.namespace),
        (names::CALLEE_APP_ID, &proven.app_id),
    ];
    for (name, value) in says {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// Reads the operation that an access list judges out of the message that is sent; `None` where it is the path.
pub(super) async fn operation(
    request: Request<Body>,
    proven: &Proven,
) -> Result<(Request<Body>, Option<String>), CallError> {
    if request.uri().path() != ON_INVOKE {
        return Ok((request, None));
    }
    let bad = |reason| CallError::BadTarget { target: proven.app_id.clone(), reason };
    let (head, message) = request.into_parts();
    let message = body::collect(message, MESSAGE_BYTES_MAX + PREFIX_BYTES).await;
    let message = message.map_err(|error| CallError::RequestBody(error.into()))?;
    let (prefix, content) = message
        .split_at_checked(PREFIX_BYTES)
        .ok_or_else(|| bad("an invocation without a message"))?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    if prefix[0] != 0 || usize::try_from(length) != Ok(content.len()) {
        return Err(bad("an invocation is one message, and not compressed"));
    }
    let read = InvokeRequest::decode(content);
    let read = read.map_err(|_| bad("an invocation whose message cannot be read"))?;
    Ok((Request::from_parts(head, body::full(message)), Some(read.method)))
}
