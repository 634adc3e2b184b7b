//! Events from a publish to an app and back: over HTTP, over gRPC, down a stream.

use crate::{
    app::App,
    http::send,
    node::{Node, Plan, world},
};
use outrigger_api::trace::SpanKind;
use outrigger_proto::runtime::v1::{
    self as pb, dapr_client::DaprClient,
    subscribe_topic_events_request_alpha1::SubscribeTopicEventsRequestType as Say,
    subscribe_topic_events_response_alpha1::SubscribeTopicEventsResponseType as Told,
    topic_event_response::TopicEventResponseStatus,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, transport::Channel};

async fn publish(port: u16, path: &'static str, content_type: &'static str, body: &'static str) {
    let sampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("content-type", content_type), ("traceparent", sampled)];
    let sent = move || send(port, "POST", path, &headers, body.as_bytes()).unwrap().status;
    assert_eq!(tokio::task::spawn_blocking(sent).await.unwrap(), 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_an_app_that_speaks_http() {
    let wants = r#"[{"pubsubname":"pubsub","topic":"orders","route":"/events"}]"#;
    let mut app = App::http(&world(), wants).await;
    let node = Node::start(Plan { app: Some((app.port, app.protocol)), ..Plan::default() }).await;
    node.host.subscriptions.start(Vec::new(), node.host.components.load_full(), None).await;
    publish(node.http, "/v1.0/publish/pubsub/orders", "application/json", r#"{"n":1}"#).await;
    let seen = app.next().await;
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/events"));
    assert_eq!(seen.header("content-type"), "application/cloudevents+json");
    let event = seen.json();
    assert_eq!(event["data"]["n"], 1);
    assert_eq!(
        (event["source"].as_str(), event["type"].as_str()),
        (Some("compat"), Some("com.dapr.event.sent"))
    );
    assert_eq!(
        (event["topic"].as_str(), event["pubsubname"].as_str()),
        (Some("orders"), Some("pubsub"))
    );
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-";
    assert!(event["traceparent"].as_str().unwrap().starts_with(trace));
    assert!(seen.header("traceparent").starts_with(trace));
    assert_ne!(seen.header("traceparent"), event["traceparent"].as_str().unwrap());
    node.host.subscriptions.stop(std::time::Duration::from_secs(1)).await;
    let spans = node.spans.0.lock().unwrap();
    assert!(spans.iter().any(|s| s.kind == SpanKind::Consumer && s.name == "pubsub/orders"));
    drop(spans);
    let text = node.host.metrics.node().text();
    let counted = "dapr_component_pubsub_ingress_count{app_id=\"compat\",namespace=\"\",component=\"pubsub\",process_status=\"success\",status=\"success\",topic=\"orders\"} 1";
    assert!(text.contains(counted), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_an_app_that_speaks_grpc() {
    let mut app = App::grpc(&world()).await;
    let node = Node::start(Plan { app: Some((app.port, app.protocol)), ..Plan::default() }).await;
    node.host.subscriptions.start(Vec::new(), node.host.components.load_full(), None).await;
    publish(node.http, "/v1.0/publish/pubsub/orders", "text/plain", "hello").await;
    let seen = app.next().await;
    assert_eq!((seen.path.as_str(), &*seen.body), ("OnTopicEvent", &b"hello"[..]));
    let listed = node.host.metrics.node().text();
    assert!(listed.contains("dapr_component_pubsub_egress_count"));
}

struct Stream {
    say: mpsc::Sender<pb::SubscribeTopicEventsRequestAlpha1>,
    hear: Streaming<pb::SubscribeTopicEventsResponseAlpha1>,
}

impl Stream {
    async fn open(client: &mut DaprClient<Channel>, topic: &str) -> Result<Self, tonic::Status> {
        let (say, said) = mpsc::channel(16);
        let initial = pb::SubscribeTopicEventsRequestInitialAlpha1 {
            pubsub_name: "pubsub".to_owned(),
            topic: topic.to_owned(),
            ..pb::SubscribeTopicEventsRequestInitialAlpha1::default()
        };
        say.send(message(Say::InitialRequest(initial))).await.unwrap();
        let answer = client.subscribe_topic_events_alpha1(ReceiverStream::new(said)).await?;
        let mut hear = answer.into_inner();
        let first = hear.message().await?.unwrap().subscribe_topic_events_response_type;
        assert!(matches!(first, Some(Told::InitialResponse(_))));
        Ok(Self { say, hear })
    }

    async fn next(&mut self) -> pb::TopicEventRequest {
        let message = self.hear.message().await.unwrap().unwrap();
        match message.subscribe_topic_events_response_type {
            Some(Told::EventMessage(event)) => event,
            other => panic!("not an event: {other:?}"),
        }
    }

    async fn answer(&self, id: &str, status: TopicEventResponseStatus) {
        let status = Some(pb::TopicEventResponse { status: status.into() });
        let processed =
            pb::SubscribeTopicEventsRequestProcessedAlpha1 { id: id.to_owned(), status };
        self.say.send(message(Say::EventProcessed(processed))).await.unwrap();
    }
}

fn message(say: Say) -> pb::SubscribeTopicEventsRequestAlpha1 {
    pb::SubscribeTopicEventsRequestAlpha1 { subscribe_topic_events_request_type: Some(say) }
}

async fn client(port: u16) -> DaprClient<Channel> {
    let uri = format!("http://127.0.0.1:{port}").parse().unwrap();
    DaprClient::new(Channel::builder(uri).connect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn down_a_stream() {
    let node = Node::start(Plan::default()).await;
    let mut client = client(node.grpc).await;
    let mut first = Stream::open(&mut client, "orders").await.unwrap();
    let listed = client.get_metadata(pb::GetMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.subscriptions.len(), 1);
    assert_eq!(listed.subscriptions[0].r#type(), pb::PubsubSubscriptionType::Streaming);
    publish(node.http, "/v1.0/publish/pubsub/orders", "application/json", r#"{"n":1}"#).await;
    let event = first.next().await;
    assert_eq!((event.topic.as_str(), &*event.data), ("orders", &br#"{"n":1}"#[..]));
    first.answer(&event.id, TopicEventResponseStatus::Success).await;
    publish(node.http, "/v1.0/publish/pubsub/orders", "application/json", r#"{"n":2}"#).await;
    let unanswered = first.next().await;
    // The stream ends with an event unanswered; another one gets it.
    drop(first);
    let mut second = Stream::open(&mut client, "orders").await.unwrap();
    let again = second.next().await;
    assert_eq!((again.id.as_str(), &*again.data), (unanswered.id.as_str(), &br#"{"n":2}"#[..]));
    second.answer(&again.id, TopicEventResponseStatus::Success).await;
    node.stop.cancel();
    // An answer that was on its way when a stream broke off may be lost, and its event comes again: at least once. But the
    // port's end ends it.
    let mut repeated = 0;
    while let Ok(Some(_)) = second.hear.message().await {
        repeated += 1;
        assert!(repeated <= 2, "more than there ever was");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_refused() {
    let node = Node::start(Plan::default()).await;
    let mut client = client(node.grpc).await;
    let refused = Stream::open(&mut client, "").await.err().unwrap();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let (say, said) = mpsc::channel(1);
    let nothing = pb::SubscribeTopicEventsRequestProcessedAlpha1::default();
    say.send(message(Say::EventProcessed(nothing))).await.unwrap();
    let refused = client.subscribe_topic_events_alpha1(ReceiverStream::new(said)).await;
    assert_eq!(refused.err().unwrap().code(), Code::InvalidArgument);
}
