//! The door of the gRPC port: who is asked for, and what holds for every call.

use super::{Context, health::HealthService, service::DaprService, subscribe::Streams};
use crate::{
    errors::{Fault, catalogue},
    guard,
    host::Host,
    names,
    operations::invoke,
    trace::SpanStatus,
};
use http::{Request, Response};
use hyper::body::Incoming;
use outrigger_calls::{CanonicalPath, Invocation, Patience, body, grpc as passing};
use outrigger_kernel::BoxFuture;
use outrigger_proto::{DESCRIPTORS, runtime::v1::dapr_server::DaprServer};
use outrigger_resources::ApiProtocol;
use std::{convert::Infallible, sync::Arc};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body, codec::CompressionEncoding};
use tonic_health::pb::health_server::HealthServer;
use tower_service::Service;

/// Every service of the port. Cheap to clone: one clone per connection, and per call of those that need it.
#[derive(Clone)]
pub(crate) struct Front {
    host: Arc<Host>,
    dapr: DaprServer<DaprService>,
    health: HealthServer<HealthService>,
    reflection: Option<Reflection>,
}

impl Front {
    /// The services of `host`. Open subscription streams end at `stop`.
    pub(crate) fn new(host: Arc<Host>, stop: CancellationToken) -> Self {
        let streams = Streams::new(stop);
        let dapr = DaprServer::new(DaprService::new(Arc::clone(&host), streams))
            .max_decoding_message_size(host.settings.max_body_bytes)
            .max_encoding_message_size(usize::MAX)
            .accept_compressed(CompressionEncoding::Gzip);
        let health = HealthServer::new(HealthService::new(Arc::clone(&host)));
        Self { host, dapr, health, reflection: reflection() }
    }

    /// Answers one call. There always is an answer.
    pub(crate) async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let service = path.strip_prefix('/').and_then(|p| p.split_once('/')).unwrap_or_default().0;
        let is_probe = service == "grpc.health.v1.Health";
        if !guard::admits(&self.host, is_probe, request.headers()) {
            return Status::unauthenticated("invalid api token").into_http();
        }
        match service {
            "dapr.proto.runtime.v1.Dapr" => {
                let context = Context::new(&self.host, request.headers());
                let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
                request.extensions_mut().insert(context);
                self.explained(&method, served(self.dapr.clone().call(request).await))
            }
            "grpc.health.v1.Health" => served(self.health.clone().call(request).await),
            "grpc.reflection.v1.ServerReflection" => match &self.reflection {
                Some(both) => (both.v1)(request).await,
                None => Status::unimplemented("reflection is not there").into_http(),
            },
            "grpc.reflection.v1alpha.ServerReflection" => match &self.reflection {
                Some(both) => (both.v1alpha)(request).await,
                None => Status::unimplemented("reflection is not there").into_http(),
            },
            _ => Box::pin(self.pass_on(request)).await,
        }
    }

    /// Answers that come from the generated code, which knows neither our codes nor our remedies, in our words.
    fn explained(&self, method: &str, answer: Response<Body>) -> Response<Body> {
        let header = |name| answer.headers().get(name).map(http::HeaderValue::as_bytes);
        let fault = match (header("grpc-status"), header("grpc-message")) {
            // No such method. Our own refusals say what they refuse.
            (Some(b"12"), None | Some(b"")) => super::later::answer(method),
            (Some(b"11"), _) => {
                let limit = self.host.settings.max_body_bytes;
                let message = format!("the message is larger than the {limit} bytes allowed");
                Fault::new(&catalogue::BODY_TOO_LARGE, message)
            }
            _ => return answer,
        };
        self.host.metrics.failed("grpc", fault.code());
        fault.into_status().into_http()
    }

    /// A service that is not ours is another app's, if the call says whose.
    async fn pass_on(&self, request: Request<Incoming>) -> Response<Body> {
        let host = &*self.host;
        if !host.configuration.load().api.permits("invoke", "v1", ApiProtocol::Grpc) {
            return Status::unimplemented("calls to other apps are not served here").into_http();
        }
        let (mut head, content) = request.into_parts();
        let named = head
            .headers
            .remove(names::APP_ID)
            .or_else(|| head.headers.get(names::CALLEE_APP_ID).cloned());
        let Some(address) = named.as_ref().and_then(|value| value.to_str().ok()) else {
            let message = format!(
                "there is no service {} here; to call another app's, name the app in the metadata {}",
                head.uri.path(),
                names::APP_ID
            );
            return Status::unimplemented(message).into_http();
        };
        let context = Context::new(host, &head.headers);
        let refuse = |error: &outrigger_calls::CallError| {
            passing::refusal(passing::code(error), &error.to_string()).map(Body::new)
        };
        let route = match invoke::resolve(host, address, context.named_deadline).await {
            Ok(route) => route,
            Err(error) => return refuse(&error),
        };
        let path = match CanonicalPath::parse_grpc(head.uri.path()) {
            Ok(path) => path,
            Err(bad) => return refuse(&bad.into()),
        };
        if route.speaks_http1() {
            let message = format!(
                "the app {address} speaks HTTP; only apps that speak gRPC are called this way"
            );
            return Status::unimplemented(message).into_http();
        }
        head.headers.remove(names::STREAM);
        let answer = host.invoker.proxy(Invocation {
            target: &route.target,
            caller: Some(invoke::caller(host)),
            method: head.method,
            path: &path,
            operation: None,
            query: None,
            edits: invoke::edits(host, &route, &context.trace),
            headers: head.headers,
            body: body::streamed(content),
            policy: route.policy.as_deref(),
            reconnect: Some(&route.reconnect),
            // A call that names its time is held to it by `proxy`, which also tells the callee.
            patience: Patience::stream(host.settings.stream_silence),
            alternates: None,
        });
        let answer = answer.await;
        let took = context.started.elapsed(&*host.world);
        let refused = answer.headers().get("grpc-status").is_some_and(|code| code != "0");
        let status =
            if refused { SpanStatus::Error("refused".to_owned()) } else { SpanStatus::Unset };
        host.metrics.invoked(route.label(), &http::Method::POST, answer.status(), took);
        crate::access_log::passed(host, path.as_str(), address, &context, took, status);
        answer.map(Body::new)
    }
}

fn served(answer: Result<Response<Body>, Infallible>) -> Response<Body> {
    match answer {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

/// Both versions of reflection. The descriptors are our own, so that they cannot be read is a mistake in the build; the
/// API is served without reflection then.
fn reflection() -> Option<Reflection> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let (v1, v1alpha) = (builder().build_v1().ok()?, builder().build_v1alpha().ok()?);
    Some(Reflection { v1: erased(v1), v1alpha: erased(v1alpha) })
}

/// Reflection, whose services have no names to store them under.
#[derive(Clone)]
struct Reflection {
    v1: Erased,
    v1alpha: Erased,
}

type Erased = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

fn erased<S>(service: S) -> Erased
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
{
    Arc::new(move |request| {
        let mut service = service.clone();
        Box::pin(async move { served(service.call(request).await) })
    })
}
