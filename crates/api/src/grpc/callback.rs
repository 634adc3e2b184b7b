//! Calls into apps that speak gRPC: the generated clients, on ways of ours to the app.
//!
//! Two ways: [`AppService`] to the app beside us, and [`Via`], through the invoker, under access list and policy like
//! every other invocation.

use crate::{
    host::Host,
    operations::invoke::{self, Route},
    trace::Trace,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use outrigger_calls::{
    AppChannel, Body, BodyFault, BoxError, CallError, CanonicalPath, Invocation, body,
};
use outrigger_kernel::{BoxFuture, Deadline};
use outrigger_proto::{
    common::v1 as common,
    runtime::v1::{
        app_callback_client::AppCallbackClient,
        app_callback_health_check_client::AppCallbackHealthCheckClient,
    },
};
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tonic::{Status, metadata::MetadataMap};
use tower_service::Service;

/// Largest message to or from an app that is held in memory.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The channel to the app beside us as the generated clients want it: one call, due by the deadline.
#[derive(Clone, Debug)]
pub(crate) struct AppService {
    channel: Arc<AppChannel>,
    deadline: Deadline,
    past_the_limit: bool,
}

impl AppService {
    pub(crate) fn new(channel: &Arc<AppChannel>, deadline: Deadline) -> Self {
        Self { channel: Arc::clone(channel), deadline, past_the_limit: false }
    }
}

impl Service<Request<tonic::body::Body>> for AppService {
    type Response = Response<Body>;
    type Error = CallError;
    type Future = BoxFuture<'static, Result<Self::Response, CallError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let Self { channel, deadline, past_the_limit } = self.clone();
        let request = request.map(body::streamed);
        Box::pin(async move {
            if past_the_limit {
                channel.probe(request, deadline).await
            } else {
                channel.send(request, deadline).await
            }
        })
    }
}

/// What kept a call from being answered, where it was not the app that said so.
pub(crate) fn call_error(status: &Status) -> Option<&CallError> {
    std::error::Error::source(status)?.downcast_ref()
}

/// Asks the app beside us how it is, past the limit on calls.
pub(crate) async fn probe(channel: &Arc<AppChannel>, deadline: Deadline) -> Result<(), String> {
    let service = AppService { past_the_limit: true, ..AppService::new(channel, deadline) };
    let answer = AppCallbackHealthCheckClient::new(service).health_check(()).await;
    answer.map(drop).map_err(|status| match call_error(&status) {
        Some(error) => error.to_string(),
        None => format!("{}: {}", status.code(), status.message()),
    })
}

/// An invocation to be made through `OnInvoke`.
pub(crate) struct Invoked<'a> {
    pub(crate) route: &'a Route,
    /// What the access list looks at.
    pub(crate) operation: &'a CanonicalPath,
    /// Metadata to pass on.
    pub(crate) headers: HeaderMap,
}

/// Calls `OnInvoke` of another app, with all that an invocation goes through. Answers the headers too. A status that has
/// a [`call_error`] is ours; others are the app's.
pub(crate) async fn on_invoke(
    host: &Host,
    trace: &Trace,
    named_deadline: Option<Deadline>,
    invoked: Invoked<'_>,
    message: common::InvokeRequest,
) -> Result<(common::InvokeResponse, HeaderMap), Status> {
    let Invoked { route, operation, headers } = invoked;
    let metadata = MetadataMap::from_headers(headers);
    let mut request = tonic::Request::from_parts(metadata, tonic::Extensions::default(), message);
    if let Some(deadline) = named_deadline {
        request.set_timeout(deadline.remaining(host.world.mono()));
    }
    let answer = AppCallbackClient::new(Via { host, trace, named_deadline, route, operation })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
        .on_invoke(request)
        .await?;
    let (metadata, answer, _) = answer.into_parts();
    Ok((answer, metadata.into_headers()))
}

/// The invoker as the generated clients want it.
struct Via<'a> {
    host: &'a Host,
    trace: &'a Trace,
    named_deadline: Option<Deadline>,
    route: &'a Route,
    operation: &'a CanonicalPath,
}

impl<'a> Service<Request<tonic::body::Body>> for Via<'a> {
    type Response = Response<Body>;
    type Error = CallError;
    type Future = BoxFuture<'a, Result<Self::Response, CallError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let Self { host, trace, named_deadline, route, operation } = *self;
        Box::pin(async move {
            let (head, message) = request.into_parts();
            let path = CanonicalPath::parse_grpc(head.uri.path())?;
            // Here as a whole it can be sent again, if the policy wants that.
            let message = body::collect(body::streamed(message), MESSAGE_BYTES_MAX + 5).await;
            let message = message.map_err(|error| CallError::RequestBody(error.into()))?;
            // One message is no stream, whose silence would say nothing.
            let patience = invoke::patience(host, named_deadline);
            let answer = host.invoker.invoke(Invocation {
                target: &route.target,
                caller: Some(invoke::caller(host)),
                method: head.method,
                path: &path,
                operation: Some(operation),
                query: None,
                headers: head.headers,
                edits: invoke::edits(host, route, trace),
                body: body::full(message),
                policy: route.policy.as_deref(),
                reconnect: Some(&route.reconnect),
                patience: patience.quiet(host.settings.call_timeout),
                alternates: None,
            });
            Ok(explained(answer.await?))
        })
    }
}

/// An answer that is no gRPC, or breaks off, as a status of ours.
fn explained(answer: Response<Body>) -> Response<Body> {
    if answer.status() != StatusCode::OK {
        let message = format!("the app answered with the HTTP status {}", answer.status());
        let status = Status::new(crate::errors::codes::grpc_of(answer.status()), message);
        return status.into_http();
    }
    answer.map(|rest| {
        body::streamed(http_body_util::BodyExt::map_err(rest, |error: BoxError| {
            let late = matches!(
                error.downcast_ref(),
                Some(BodyFault::Stalled { .. } | BodyFault::OutOfTime { .. })
            );
            let code = if late { tonic::Code::DeadlineExceeded } else { tonic::Code::Unavailable };
            Status::new(code, error.to_string())
        }))
    })
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
