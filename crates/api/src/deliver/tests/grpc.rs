//! Apps that speak gRPC.

use super::{PATIENCE, Stage, declared, event, http_server::free_port, route, subscription};
use crate::deliver::grpc_app::GrpcApp;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use outrigger_calls::AppProtocol;
use outrigger_events::{Consumer, Verdict};
use outrigger_kernel::{TaskHandle, World};
use outrigger_proto::{
    common::v1 as common,
    runtime::v1::{
        self as pb,
        app_callback_alpha_server::{AppCallbackAlpha, AppCallbackAlphaServer},
        app_callback_server::{AppCallback, AppCallbackServer},
    },
};
use std::net::SocketAddr;
use tokio::{net::TcpListener, sync::mpsc};
use tonic::{Code, Request, Response, Status};
use tower_service::Service as _;

/// An app whose answers are in the events: the id is a number of a status or of an error code.
#[derive(Clone)]
struct App {
    events: mpsc::Sender<(pb::TopicEventRequest, tonic::metadata::MetadataMap)>,
    bulks: mpsc::Sender<pb::TopicEventBulkRequest>,
    wants: Result<Vec<pb::TopicSubscription>, Code>,
    knows_bulk: bool,
}

struct Server {
    port: u16,
    events: mpsc::Receiver<(pb::TopicEventRequest, tonic::metadata::MetadataMap)>,
    bulks: mpsc::Receiver<pb::TopicEventBulkRequest>,
    task: Option<TaskHandle>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.take().into_iter().for_each(TaskHandle::abort);
    }
}

fn answer(id: &str) -> Result<i32, Status> {
    match id.split_once('-') {
        Some(("status", number)) => Ok(number.parse().unwrap()),
        Some(("code", number)) => {
            Err(Status::new(Code::from(number.parse::<i32>().unwrap()), "as told"))
        }
        _ => Ok(0),
    }
}

impl App {
    async fn bulk(
        &self,
        request: Request<pb::TopicEventBulkRequest>,
    ) -> Result<Response<pb::TopicEventBulkResponse>, Status> {
        use pb::topic_event_bulk_request_entry::Event;
        let request = request.into_inner();
        let entry = |entry: &pb::TopicEventBulkRequestEntry| {
            let Some(Event::CloudEvent(event)) = &entry.event else { return None };
            let status = answer(&event.id).ok()?;
            Some(pb::TopicEventBulkResponseEntry { entry_id: entry.entry_id.clone(), status })
        };
        let statuses = request.entries.iter().filter_map(entry).collect();
        drop(self.bulks.send(request).await);
        Ok(Response::new(pb::TopicEventBulkResponse { statuses }))
    }
}

#[tonic::async_trait]
impl AppCallback for App {
    async fn on_invoke(
        &self,
        _: Request<common::InvokeRequest>,
    ) -> Result<Response<common::InvokeResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_topic_subscriptions(
        &self,
        _: Request<()>,
    ) -> Result<Response<pb::ListTopicSubscriptionsResponse>, Status> {
        let subscriptions = self.wants.clone().map_err(|code| Status::new(code, ""))?;
        Ok(Response::new(pb::ListTopicSubscriptionsResponse { subscriptions }))
    }

    async fn on_topic_event(
        &self,
        request: Request<pb::TopicEventRequest>,
    ) -> Result<Response<pb::TopicEventResponse>, Status> {
        let (metadata, _, event) = request.into_parts();
        let answer = answer(&event.id);
        drop(self.events.send((event, metadata)).await);
        Ok(Response::new(pb::TopicEventResponse { status: answer? }))
    }

    async fn list_input_bindings(
        &self,
        _: Request<()>,
    ) -> Result<Response<pb::ListInputBindingsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn on_binding_event(
        &self,
        _: Request<pb::BindingEventRequest>,
    ) -> Result<Response<pb::BindingEventResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn on_bulk_topic_event(
        &self,
        request: Request<pb::TopicEventBulkRequest>,
    ) -> Result<Response<pb::TopicEventBulkResponse>, Status> {
        if self.knows_bulk { self.bulk(request).await } else { Err(Status::unimplemented("")) }
    }

    async fn on_job_event(
        &self,
        _: Request<pb::JobEventRequest>,
    ) -> Result<Response<pb::JobEventResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl AppCallbackAlpha for App {
    async fn on_bulk_topic_event_alpha1(
        &self,
        request: Request<pb::TopicEventBulkRequest>,
    ) -> Result<Response<pb::TopicEventBulkResponse>, Status> {
        self.bulk(request).await
    }

    async fn on_job_event_alpha1(
        &self,
        _: Request<pb::JobEventRequest>,
    ) -> Result<Response<pb::JobEventResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

async fn serve(
    stage: &Stage,
    port: u16,
    wants: Result<Vec<pb::TopicSubscription>, Code>,
    knows_bulk: bool,
) -> Server {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell_event, events) = mpsc::channel(100);
    let (tell_bulk, bulks) = mpsc::channel(100);
    let app = App { events: tell_event, bulks: tell_bulk, wants, knows_bulk };
    let (callback, alpha) = (AppCallbackServer::new(app.clone()), AppCallbackAlphaServer::new(app));
    let world = stage.world.clone();
    let accept = async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (callback, alpha) = (callback.clone(), alpha.clone());
            let service = service_fn(move |request: http::Request<Incoming>| {
                if request.uri().path().starts_with("/dapr.proto.runtime.v1.AppCallbackAlpha/") {
                    alpha.clone().call(request)
                } else {
                    callback.clone().call(request)
                }
            });
            let connection = async move {
                let builder = http2::Builder::new(TokioExecutor::new());
                // How a connection ends is the client's business.
                drop(builder.serve_connection(TokioIo::new(socket), service).await);
            };
            let _task = world.spawn("connection", Box::pin(connection));
        }
    };
    let task = stage.world.spawn("app", Box::pin(accept));
    Server { port, events, bulks, task: Some(task) }
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Ack => "done",
        Verdict::Retry { .. } => "again",
        Verdict::Drop { .. } => "given up",
    }
}

#[tokio::test]
async fn answers_of_a_grpc_app() {
    let stage = Stage::new();
    let mut server = serve(&stage, 0, Ok(Vec::new()), true).await;
    let channel = stage.channel(AppProtocol::Grpc, server.port);
    let app = GrpcApp::new(stage.lane(&subscription("/orders"), false), channel, false);
    for (id, expected) in [
        ("status-0", "done"),
        ("status-1", "again"),
        ("status-2", "given up"),
        ("status-7", "again"),
        ("code-12", "given up"),
        ("code-13", "again"),
        ("code-5", "again"),
    ] {
        let verdicts = stage.soon(app.deliver(vec![stage.delivery(0, event(id, "order"))])).await;
        assert_eq!(verdicts.iter().map(word).collect::<Vec<_>>(), [expected], "{id}");
    }
    let (event, metadata) = server.events.recv().await.unwrap();
    assert_eq!(
        [
            &event.source,
            &event.r#type,
            &event.spec_version,
            &event.data_content_type,
            &event.topic,
            &event.pubsub_name,
            &event.path
        ],
        ["shop", "order", "1.0", "application/json", "orders", "broker", "/orders"]
    );
    assert_eq!(event.data, r#"{"n":12345678901234567890}"#);
    let extensions = event.extensions.unwrap().fields;
    assert_eq!(extensions["priority"].kind, Some(prost_types::value::Kind::NumberValue(3.0)));
    let parent = metadata.get("traceparent").unwrap().to_str().unwrap();
    assert!(parent.starts_with(&super::PARENT[..36]), "{parent}");
    assert!(metadata.get("grpc-timeout").is_some());
}

#[tokio::test]
async fn bulks_by_either_name() {
    for knows_bulk in [true, false] {
        let stage = Stage::new();
        let mut server = serve(&stage, 0, Ok(Vec::new()), knows_bulk).await;
        let channel = stage.channel(AppProtocol::Grpc, server.port);
        let app = GrpcApp::new(stage.lane(&subscription("/bulk"), false), channel, true);
        for _ in 0..2 {
            let ids = ["status-0", "status-1", "status-2", "code-1"];
            let mut batch: Vec<_> =
                (0..).zip(ids).map(|(n, id)| stage.delivery(n, event(id, "order"))).collect();
            batch.push(stage.delivery(9, r#"{"id":"x","data_base64":"%"}"#.to_owned()));
            let verdicts = stage.soon(app.deliver(batch)).await;
            let words: Vec<_> = verdicts.iter().map(word).collect();
            assert_eq!(words, ["done", "again", "given up", "again", "given up"]);
            let bulk = server.bulks.recv().await.unwrap();
            assert_eq!(
                (bulk.path.as_str(), bulk.r#type.as_str()),
                ("/bulk", "com.dapr.event.sent.bulk")
            );
            assert_eq!(bulk.entries.len(), 4);
        }
    }
}

#[tokio::test]
async fn an_app_that_is_away_costs_no_attempt() {
    let stage = Stage::new();
    let port = free_port().await;
    let channel = stage.channel(AppProtocol::Grpc, port);
    let app = GrpcApp::new(stage.lane(&subscription("/o"), false), channel, false);
    let mut waiting = app.deliver(vec![stage.delivery(0, event("status-0", "order"))]);
    let pause = stage.world.sleep(std::time::Duration::from_millis(100));
    tokio::select! {
        verdicts = &mut waiting => panic!("{verdicts:?}"),
        () = pause => {}
    }
    let _server = serve(&stage, port, Ok(Vec::new()), true).await;
    assert_eq!(stage.soon(waiting).await, [Verdict::Ack]);
}

#[tokio::test]
async fn the_app_says_what_it_wants() {
    let stage = Stage::new();
    let wanted = pb::TopicSubscription {
        pubsub_name: "broker".to_owned(),
        topic: "orders".to_owned(),
        ..pb::TopicSubscription::default()
    };
    let nameless = pb::TopicSubscription::default();
    let mut server = serve(&stage, 0, Ok(vec![nameless, wanted]), true).await;
    let subscriptions = stage.subscriptions(AppProtocol::Grpc, server.port);
    let files = declared(&[("orders", &route("/file")), ("other", &route("/other"))]);
    stage.soon(subscriptions.start(files, stage.components(), None)).await;
    let topics: Vec<_> =
        subscriptions.list().iter().map(|one| (one.topic.clone(), one.r#type)).collect();
    assert_eq!(topics, [("orders".to_owned(), 2), ("other".to_owned(), 1)]);
    stage.publish("orders", [event("status-0", "x")]).await;
    let (event, _) = stage.soon(server.events.recv()).await.unwrap();
    assert_eq!((event.id.as_str(), event.path.as_str()), ("status-0", ""));
    stage.soon(subscriptions.stop(PATIENCE)).await;
}

#[tokio::test]
async fn an_app_without_the_question_wants_nothing() {
    for code in [Code::Unimplemented, Code::InvalidArgument] {
        let stage = Stage::new();
        let server = serve(&stage, 0, Err(code), true).await;
        let subscriptions = stage.subscriptions(AppProtocol::Grpc, server.port);
        let files = declared(&[("orders", &route("/file"))]);
        stage.soon(subscriptions.start(files, stage.components(), None)).await;
        assert_eq!(subscriptions.list().len(), 1, "{code:?}");
        stage.soon(subscriptions.stop(PATIENCE)).await;
    }
}
