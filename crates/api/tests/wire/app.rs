//! Apps that the host calls: one that echoes over HTTP, one that answers over gRPC. Both tell what they were sent.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{Request, Response, body::Frame, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use outrigger_calls::AppProtocol;
use outrigger_kernel::{TaskHandle, World};
use outrigger_proto::{
    common::v1 as common,
    runtime::v1::{
        self as pb,
        app_callback_health_check_server::{AppCallbackHealthCheck, AppCallbackHealthCheckServer},
        app_callback_server::{AppCallback, AppCallbackServer},
    },
};
use std::{convert::Infallible, future::Future, sync::Arc};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tonic::{Status, body::Body as GrpcBody};
use tower_service::Service;

/// A request as the app got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: ::http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// An app that runs.
pub(crate) struct App {
    pub(crate) port: u16,
    pub(crate) protocol: AppProtocol,
    requests: mpsc::Receiver<Seen>,
    /// While false, `/slow` does not answer.
    pub(crate) gate: watch::Sender<bool>,
    task: Option<TaskHandle>,
}

impl Drop for App {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl App {
    /// An app that speaks HTTP. `subscriptions` is what it answers when asked for them.
    pub(crate) async fn http(world: &Arc<dyn World>, subscriptions: &'static str) -> Self {
        let (seen, requests) = mpsc::channel(1024);
        let (gate, open) = watch::channel(false);
        let answer = move |request: Request<Incoming>| {
            let (seen, open) = (seen.clone(), open.clone());
            async move { echo(request, subscriptions, &seen, open).await }
        };
        let (port, task) = serve(world, answer).await;
        Self { port, protocol: AppProtocol::Http, requests, gate, task: Some(task) }
    }

    /// An app that speaks gRPC.
    pub(crate) async fn grpc(world: &Arc<dyn World>) -> Self {
        let (seen, requests) = mpsc::channel(1024);
        let callback = AppCallbackServer::new(Callback { seen: seen.clone() });
        let health = AppCallbackHealthCheckServer::new(Well);
        let answer = move |request: Request<Incoming>| {
            let (mut callback, mut health) = (callback.clone(), health.clone());
            let seen = seen.clone();
            async move {
                let path = request.uri().path().to_owned();
                if path.starts_with("/dapr.proto.runtime.v1.AppCallbackHealthCheck/") {
                    return health.call(request).await.unwrap();
                }
                if path.starts_with("/dapr.proto.runtime.v1.AppCallback/") {
                    return callback.call(request).await.unwrap();
                }
                foreign(request, &seen).await
            }
        };
        let (port, task) = serve(world, answer).await;
        let (gate, _) = watch::channel(true);
        Self { port, protocol: AppProtocol::Grpc, requests, gate, task: Some(task) }
    }

    /// The next request that is not about subscriptions or health.
    pub(crate) async fn next(&mut self) -> Seen {
        loop {
            let seen = self.requests.recv().await.expect("the app runs");
            if seen.path != "/dapr/subscribe" && seen.path != "/healthz" {
                return seen;
            }
        }
    }
}

async fn serve<F, Fut, B>(world: &Arc<dyn World>, answer: F) -> (u16, TaskHandle)
where
    F: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let inner = Arc::clone(world);
    let accept = async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let serving = async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                drop(builder.serve_connection(TokioIo::new(stream), service).await);
            };
            let _task = inner.spawn("app connection", Box::pin(serving));
        }
    };
    (port, world.spawn("app", Box::pin(accept)))
}

type Streamed = UnsyncBoxBody<Bytes, Infallible>;

async fn echo(
    request: Request<Incoming>,
    subscriptions: &'static str,
    seen: &mpsc::Sender<Seen>,
    mut open: watch::Receiver<bool>,
) -> Response<Streamed> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let full = |body: Bytes| Full::new(body).boxed_unsync();
    let status = |status: u16, body: &'static str| {
        let mut answer = Response::new(full(Bytes::from_static(body.as_bytes())));
        *answer.status_mut() = ::http::StatusCode::from_u16(status).unwrap();
        answer
    };
    if path == "/stream" {
        // Sends back what comes, as it comes.
        let frames = http_body_util::BodyStream::new(body);
        let frames = futures_util::StreamExt::map(frames, |frame| {
            Ok(frame.unwrap_or_else(|_| Frame::data(Bytes::new())))
        });
        return Response::new(StreamBody::new(frames).boxed_unsync());
    }
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let told = Seen {
        method: head.method.to_string(),
        path: format!("{path}{query}"),
        headers: head.headers,
        body: body.clone(),
    };
    drop(seen.send(told).await);
    match path.as_str() {
        "/echo" => {
            let mut answer = Response::new(full(body));
            *answer.status_mut() = ::http::StatusCode::CREATED;
            answer.headers_mut().insert("x-echo", ::http::HeaderValue::from_static("yes"));
            answer
        }
        "/endless" => {
            let piece = || Ok(Frame::data(Bytes::from(vec![b'x'; 64 * 1024])));
            let frames = futures_util::stream::repeat_with(piece);
            Response::new(StreamBody::new(frames).boxed_unsync())
        }
        "/path" => Response::new(full(Bytes::from(format!("{path}{query}")))),
        "/teapot" => status(418, "short and stout"),
        "/slow" => {
            drop(open.wait_for(|open| *open).await);
            status(200, "at last")
        }
        "/healthz" | "/events" => status(200, ""),
        "/dapr/subscribe" if !subscriptions.is_empty() => status(200, subscriptions),
        _ => status(404, ""),
    }
}

/// Any other service, as an app has them: says which method was called and gives the message back.
async fn foreign(request: Request<Incoming>, seen: &mpsc::Sender<Seen>) -> Response<GrpcBody> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    drop(
        seen.send(Seen {
            method: head.method.to_string(),
            path: path.clone(),
            headers: head.headers,
            body: body.clone(),
        })
        .await,
    );
    if path == "/shop.Orders/Wait" {
        std::future::pending::<()>().await;
    }
    let mut trailers = ::http::HeaderMap::new();
    trailers.insert("grpc-status", ::http::HeaderValue::from_static("0"));
    let frames = [Ok::<_, Infallible>(Frame::data(body)), Ok(Frame::trailers(trailers))];
    let mut answer =
        Response::new(GrpcBody::new(StreamBody::new(futures_util::stream::iter(frames))));
    let grpc = ::http::HeaderValue::from_static("application/grpc");
    answer.headers_mut().insert("content-type", grpc);
    answer
}

#[derive(Clone)]
struct Callback {
    seen: mpsc::Sender<Seen>,
}

impl Callback {
    async fn tell<T>(&self, path: &str, request: &tonic::Request<T>, body: Bytes) {
        let headers = request.metadata().as_ref().clone();
        let told = Seen { method: "POST".to_owned(), path: path.to_owned(), headers, body };
        drop(self.seen.send(told).await);
    }
}

#[tonic::async_trait]
impl AppCallback for Callback {
    async fn on_invoke(
        &self,
        request: tonic::Request<common::InvokeRequest>,
    ) -> Result<tonic::Response<common::InvokeResponse>, Status> {
        let body = Bytes::from(request.get_ref().data.clone().unwrap_or_default().value);
        self.tell(&request.get_ref().method, &request, body).await;
        let asked = request.into_inner();
        if asked.method == "refuse" {
            return Err(Status::not_found("no such thing"));
        }
        if asked.method == "wait" {
            std::future::pending::<()>().await;
        }
        let content_type = asked.content_type;
        Ok(tonic::Response::new(common::InvokeResponse { data: asked.data, content_type }))
    }

    async fn list_topic_subscriptions(
        &self,
        _request: tonic::Request<()>,
    ) -> Result<tonic::Response<pb::ListTopicSubscriptionsResponse>, Status> {
        let subscription = pb::TopicSubscription {
            pubsub_name: "pubsub".to_owned(),
            topic: "orders".to_owned(),
            ..pb::TopicSubscription::default()
        };
        let subscriptions = vec![subscription];
        Ok(tonic::Response::new(pb::ListTopicSubscriptionsResponse { subscriptions }))
    }

    async fn on_topic_event(
        &self,
        request: tonic::Request<pb::TopicEventRequest>,
    ) -> Result<tonic::Response<pb::TopicEventResponse>, Status> {
        let body = request.get_ref().data.clone();
        self.tell("OnTopicEvent", &request, body).await;
        Ok(tonic::Response::new(pb::TopicEventResponse::default()))
    }

    async fn list_input_bindings(
        &self,
        _request: tonic::Request<()>,
    ) -> Result<tonic::Response<pb::ListInputBindingsResponse>, Status> {
        Err(Status::unimplemented("none"))
    }

    async fn on_binding_event(
        &self,
        _request: tonic::Request<pb::BindingEventRequest>,
    ) -> Result<tonic::Response<pb::BindingEventResponse>, Status> {
        Err(Status::unimplemented("none"))
    }

    async fn on_bulk_topic_event(
        &self,
        _request: tonic::Request<pb::TopicEventBulkRequest>,
    ) -> Result<tonic::Response<pb::TopicEventBulkResponse>, Status> {
        Err(Status::unimplemented("none"))
    }

    async fn on_job_event(
        &self,
        _request: tonic::Request<pb::JobEventRequest>,
    ) -> Result<tonic::Response<pb::JobEventResponse>, Status> {
        Err(Status::unimplemented("none"))
    }
}

#[derive(Clone)]
struct Well;

#[tonic::async_trait]
impl AppCallbackHealthCheck for Well {
    async fn health_check(
        &self,
        _request: tonic::Request<()>,
    ) -> Result<tonic::Response<pb::HealthCheckResponse>, Status> {
        Ok(tonic::Response::new(pb::HealthCheckResponse {}))
    }
}
