//! The gRPC port: the service, health, reflection, and calls that are passed on.

use crate::{
    app::App,
    http::send,
    node::{Node, Plan, world},
};
use outrigger_api::Settings;
use outrigger_proto::{
    common::v1::{self as common, http_extension::Verb, state_options::StateConcurrency},
    rpc,
    runtime::v1::{self as pb, dapr_client::DaprClient},
};
use prost::Message;
use std::{collections::BTreeMap, time::Duration};
use tonic::{Code, Request, Status, metadata::MetadataValue, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

async fn channel(node: &Node) -> Channel {
    let uri = format!("http://127.0.0.1:{}", node.grpc).parse().unwrap();
    Channel::builder(uri).connect().await.unwrap()
}

async fn client(node: &Node) -> DaprClient<Channel> {
    DaprClient::new(channel(node).await)
}

fn item(key: &str, value: &'static [u8]) -> common::StateItem {
    common::StateItem { key: key.to_owned(), value: value.into(), ..common::StateItem::default() }
}

async fn save(
    client: &mut DaprClient<Channel>,
    states: Vec<common::StateItem>,
) -> Result<(), Status> {
    let request = pb::SaveStateRequest { store_name: "statestore".to_owned(), states };
    client.save_state(request).await.map(|_| ())
}

async fn get(client: &mut DaprClient<Channel>, key: &str) -> pb::GetStateResponse {
    let (store_name, key) = ("statestore".to_owned(), key.to_owned());
    let request = pb::GetStateRequest { store_name, key, ..pb::GetStateRequest::default() };
    client.get_state(request).await.unwrap().into_inner()
}

/// The reason in a status's details.
fn reason(status: &Status) -> String {
    let details = rpc::Status::decode(status.details()).unwrap();
    let info = rpc::ErrorInfo::decode(&*details.details[0].value).unwrap();
    assert_eq!(info.domain, "dapr.io");
    info.reason
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state() {
    let node = Node::start(Plan::default()).await;
    let mut client = client(&node).await;
    save(&mut client, vec![item("a", b"one"), item("b", b"\xff\x00")]).await.unwrap();
    let a = get(&mut client, "a").await;
    assert_eq!((&*a.data, a.etag.is_empty()), (&b"one"[..], false));
    assert_eq!(get(&mut client, "nothing").await, pb::GetStateResponse::default());
    let stale = common::StateItem {
        etag: Some(common::Etag { value: "1".to_owned() }),
        options: Some(common::StateOptions {
            concurrency: StateConcurrency::ConcurrencyFirstWrite.into(),
            ..common::StateOptions::default()
        }),
        ..item("a", b"two")
    };
    save(&mut client, vec![item("a", b"between")]).await.unwrap();
    let refused = save(&mut client, vec![item("c", b"never"), stale.clone()]).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "ERR_STATE_SAVE"));
    assert_eq!(get(&mut client, "c").await.data, "");
    let bulk = pb::GetBulkStateRequest {
        store_name: "statestore".to_owned(),
        keys: vec!["b".to_owned(), "nothing".to_owned()],
        ..pb::GetBulkStateRequest::default()
    };
    let items = client.get_bulk_state(bulk).await.unwrap().into_inner().items;
    assert_eq!((&*items[0].data, &*items[1].data), (&b"\xff\x00"[..], &b""[..]));
    let step = |operation: &str, request| pb::TransactionalStateOperation {
        operation_type: operation.to_owned(),
        request: Some(request),
    };
    let transaction = |operations| pb::ExecuteStateTransactionRequest {
        store_name: "statestore".to_owned(),
        operations,
        metadata: BTreeMap::new(),
    };
    let steps = vec![step("upsert", item("t", b"1")), step("delete", item("b", b""))];
    client.execute_state_transaction(transaction(steps)).await.unwrap();
    assert_eq!(
        (get(&mut client, "t").await.data, get(&mut client, "b").await.data),
        ("1".into(), "".into())
    );
    let steps = vec![step("upsert", item("t", b"2")), step("upsert", stale)];
    let refused = client.execute_state_transaction(transaction(steps)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Internal);
    assert_eq!(get(&mut client, "t").await.data, "1");
    let unknown = transaction(vec![step("increment", item("t", b""))]);
    let refused = client.execute_state_transaction(unknown).await.unwrap_err();
    assert_eq!(reason(&refused), "ERR_NOT_SUPPORTED_STATE_OPERATION");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_said_to_be_json_is_json() {
    let node = Node::start(Plan::default()).await;
    let mut client = client(&node).await;
    let json = |value: &'static [u8]| common::StateItem {
        metadata: BTreeMap::from([("contentType".to_owned(), "application/json".to_owned())]),
        ..item("j", value)
    };
    save(&mut client, vec![json(br#"{"a":1}"#)]).await.unwrap();
    let refused = save(&mut client, vec![json(b"{a")]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(get(&mut client, "j").await.data, r#"{"a":1}"#);
    let ttl = common::StateItem {
        metadata: BTreeMap::from([("ttlInSeconds".to_owned(), "100".to_owned())]),
        ..item("mortal", b"x")
    };
    save(&mut client, vec![ttl]).await.unwrap();
    let expires = &get(&mut client, "mortal").await.metadata["ttlExpireTime"];
    assert!(expires.starts_with("2026-01-01T00:01:") && expires.ends_with('Z'), "{expires}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_carry_their_reason() {
    let node = Node::start(Plan::default()).await;
    let mut client = client(&node).await;
    let request =
        pb::GetStateRequest { store_name: "no".to_owned(), ..pb::GetStateRequest::default() };
    let refused = client.get_state(request).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::InvalidArgument, "DAPR_STATE_NOT_FOUND")
    );
    let refused = save(&mut client, vec![item("a||b", b"")]).await.unwrap_err();
    assert_eq!(reason(&refused), "DAPR_STATE_ILLEGAL_KEY");
    let publish = |pubsub: &str, topic: &str| pb::PublishEventRequest {
        pubsub_name: pubsub.to_owned(),
        topic: topic.to_owned(),
        ..pb::PublishEventRequest::default()
    };
    for (request, code, expected) in [
        (publish("", "t"), Code::InvalidArgument, "DAPR_PUBSUB_NAME_EMPTY"),
        (publish("no", "t"), Code::InvalidArgument, "DAPR_PUBSUB_NOT_FOUND"),
        (publish("pubsub", ""), Code::InvalidArgument, "DAPR_PUBSUB_TOPIC_NAME_EMPTY"),
        (publish("scoped", "other"), Code::PermissionDenied, "DAPR_PUBSUB_FORBIDDEN"),
    ] {
        let refused = client.publish_event(request).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (code, expected));
    }
    client.publish_event(publish("scoped", "allowed")).await.unwrap();
    let secret = pb::GetSecretRequest {
        store_name: "file".to_owned(),
        key: "redis".to_owned(),
        ..pb::GetSecretRequest::default()
    };
    assert_eq!(client.get_secret(secret).await.unwrap().into_inner().data["password"], "p");
    let secret =
        pb::GetSecretRequest { store_name: "no".to_owned(), ..pb::GetSecretRequest::default() };
    assert_eq!(reason(&client.get_secret(secret).await.unwrap_err()), "ERR_SECRET_STORE_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_publish_takes_entries_with_ids_of_their_own() {
    let node = Node::start(Plan::default()).await;
    let mut client = client(&node).await;
    let entry = |id: &str| pb::BulkPublishRequestEntry {
        entry_id: id.to_owned(),
        event: "x".into(),
        ..pb::BulkPublishRequestEntry::default()
    };
    let bulk = |entries| pb::BulkPublishRequest {
        pubsub_name: "pubsub".to_owned(),
        topic: "t".to_owned(),
        entries,
        metadata: BTreeMap::new(),
    };
    let answer = client.bulk_publish_event(bulk(vec![entry("1"), entry("2")])).await.unwrap();
    assert!(answer.into_inner().failed_entries.is_empty());
    let refused = client.bulk_publish_event(bulk(vec![entry("1"), entry("1")])).await.unwrap_err();
    assert_eq!(reason(&refused), "DAPR_PUBSUB_MARSHAL_EVENTS");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_and_health() {
    let settings = Settings { api_token: Some("right".to_owned()), ..Settings::default() };
    let node = Node::start(Plan { settings, ..Plan::default() }).await;
    let mut client = client(&node).await;
    let refused = client.get_metadata(pb::GetMetadataRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut request = Request::new(pb::GetMetadataRequest {});
    request.metadata_mut().insert("dapr-api-token", MetadataValue::from_static("right"));
    assert_eq!(client.get_metadata(request).await.unwrap().into_inner().id, "compat");
    let mut health = HealthClient::new(channel(&node).await);
    let check = |service: &str| HealthCheckRequest { service: service.to_owned() };
    assert_eq!(health.check(check("")).await.unwrap().into_inner().status, 1);
    assert_eq!(
        health.check(check("dapr.proto.runtime.v1.Dapr")).await.unwrap().into_inner().status,
        1
    );
    assert_eq!(health.check(check("no")).await.unwrap_err().code(), Code::NotFound);
    let mut watch = health.watch(check("")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
    node.host.health.set_ready(false);
    assert_eq!(watch.message().await.unwrap().unwrap().status, 2);
}

/// Calls any method with any bytes, as they are.
async fn raw(
    node: &Node,
    path: &'static str,
    app: Option<&'static str>,
) -> Result<Vec<u8>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel(node).await);
    grpc.ready().await.unwrap();
    let mut request =
        Request::new(prost_types::Any { value: b"hi".to_vec(), ..prost_types::Any::default() });
    if let Some(app) = app {
        request.metadata_mut().insert("dapr-app-id", MetadataValue::from_static(app));
        request.metadata_mut().insert_bin("x-bin", MetadataValue::from_bytes(b"\x00\xff"));
    }
    let codec = tonic_prost::ProstCodec::<prost_types::Any, prost_types::Any>::default();
    let path = ::http::uri::PathAndQuery::from_static(path);
    grpc.unary(request, path, codec).await.map(|answer| answer.into_inner().value)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_services_are_passed_on() {
    let mut app = App::grpc(&world()).await;
    let node = Node::start(Plan { app: Some((app.port, app.protocol)), ..Plan::default() }).await;
    assert_eq!(raw(&node, "/shop.Orders/Place", Some("compat")).await.unwrap(), b"hi");
    let seen = app.next().await;
    assert_eq!(seen.path, "/shop.Orders/Place");
    assert_eq!((seen.header("dapr-app-id"), seen.header("dapr-caller-app-id")), ("", "compat"));
    assert!(!seen.header("x-bin").is_empty());
    let refused = raw(&node, "/shop.Orders/Place", Some("nobody")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    for unknown in ["/shop.Orders/Place", "/dapr.proto.runtime.v1.Dapr/NoSuchMethod"] {
        let refused = raw(&node, unknown, None).await.unwrap_err();
        assert_eq!((refused.code(), refused.message().is_empty()), (Code::Unimplemented, false));
    }
    for (later, code, expected) in [
        (
            "/dapr.proto.runtime.v1.Dapr/TryLockAlpha1",
            Code::FailedPrecondition,
            "ERR_LOCK_STORE_NOT_CONFIGURED",
        ),
        ("/dapr.proto.runtime.v1.Dapr/InvokeBinding", Code::Internal, "ERR_INVOKE_OUTPUT_BINDING"),
        ("/dapr.proto.runtime.v1.Dapr/InvokeActor", Code::Internal, "ERR_ACTOR_RUNTIME_NOT_FOUND"),
    ] {
        let refused = raw(&node, later, None).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (code, expected));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_ends_when_nobody_names_a_time() {
    let plan = |app: &App| {
        let settings = Settings {
            call_timeout: Duration::from_millis(100),
            stream_silence: Duration::from_millis(200),
            ..Settings::default()
        };
        Plan { settings, app: Some((app.port, app.protocol)), ..Plan::default() }
    };
    let over_http = |node: &Node, method: &str| {
        let (port, path) = (node.http, format!("/v1.0/invoke/compat/method/{method}"));
        async move {
            let asking = tokio::task::spawn_blocking(move || send(port, "GET", &path, &[], b""));
            asking.await.unwrap().unwrap().status
        }
    };
    let app = App::http(&world(), "").await;
    let node = Node::start(plan(&app)).await;
    assert_eq!(over_http(&node, "slow").await, 504);
    let message = invoke("slow", Verb::Get, "");
    let late = client(&node).await.invoke_service(message).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);

    let app = App::grpc(&world()).await;
    let node = Node::start(plan(&app)).await;
    assert_eq!(over_http(&node, "wait").await, 504);
    let message = invoke("wait", Verb::Get, "");
    let late = client(&node).await.invoke_service(message).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    let late = raw(&node, "/shop.Orders/Wait", Some("compat")).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_too_large_and_keys_too_short() {
    let settings = Settings { max_body_bytes: 1000, ..Settings::default() };
    let node = Node::start(Plan { settings, ..Plan::default() }).await;
    let mut client = client(&node).await;
    let refused = save(&mut client, vec![item("a", &[b'x'; 2000])]).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "ERR_BODY_READ")
    );
    let refused = client.set_metadata(pb::SetMetadataRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

fn invoke(method: &str, verb: Verb, data: &str) -> pb::InvokeServiceRequest {
    let data = prost_types::Any { type_url: String::new(), value: data.as_bytes().to_vec() };
    pb::InvokeServiceRequest {
        id: "compat".to_owned(),
        message: Some(common::InvokeRequest {
            method: method.to_owned(),
            data: Some(data),
            content_type: "text/plain".to_owned(),
            http_extension: Some(common::HttpExtension {
                verb: verb.into(),
                querystring: "a=1".to_owned(),
            }),
        }),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invoke_service_of_an_app_that_speaks_http() {
    let mut app = App::http(&world(), "").await;
    let node = Node::start(Plan { app: Some((app.port, app.protocol)), ..Plan::default() }).await;
    let mut client = client(&node).await;
    let answer = client.invoke_service(invoke("echo", Verb::Put, "hi")).await.unwrap();
    assert_eq!(answer.metadata().get("x-echo").unwrap(), "yes");
    assert_eq!(answer.metadata().get("dapr-http-status").unwrap(), "201");
    assert_eq!(answer.into_inner().data.unwrap().value, b"hi");
    let seen = app.next().await;
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("PUT", "/echo?a=1"));
    assert_eq!(seen.header("content-type"), "text/plain");
    client.invoke_service(invoke("path?b=2", Verb::Get, "")).await.unwrap();
    assert_eq!(app.next().await.path, "/path?b=2&a=1");
    let refused = raw(&node, "/shop.Orders/Place", Some("compat")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("speaks HTTP"), "{}", refused.message());
    let refused = client.invoke_service(invoke("nowhere", Verb::Get, "")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(refused.metadata().get("dapr-http-status").unwrap(), "404");
    let refused = client.invoke_service(pb::InvokeServiceRequest {
        id: "nobody".to_owned(),
        ..invoke("x", Verb::Get, "")
    });
    assert_eq!(refused.await.unwrap_err().code(), Code::Internal);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invoke_service_of_an_app_that_speaks_grpc() {
    let app = App::grpc(&world()).await;
    let node = Node::start(Plan { app: Some((app.port, app.protocol)), ..Plan::default() }).await;
    let mut client = client(&node).await;
    let answer = client.invoke_service(invoke("do", Verb::Post, "hi")).await.unwrap().into_inner();
    assert_eq!(
        (answer.data.unwrap().value, answer.content_type),
        (b"hi".to_vec(), "text/plain".to_owned())
    );
    let refused = client.invoke_service(invoke("refuse", Verb::Post, "")).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::NotFound, "no such thing"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};
    let node = Node::start(Plan::default()).await;
    let mut client =
        v1::server_reflection_client::ServerReflectionClient::new(channel(&node).await);
    let list = v1::server_reflection_request::MessageRequest::ListServices(String::new());
    let ask = v1::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let stream = tokio_stream::once(ask);
    let answer = client.server_reflection_info(stream).await.unwrap().into_inner().message().await;
    assert!(format!("{:?}", answer.unwrap().unwrap()).contains("dapr.proto.runtime.v1.Dapr"));
    let mut client =
        v1alpha::server_reflection_client::ServerReflectionClient::new(channel(&node).await);
    let list = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
    let ask = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let answer = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap();
    let answer = answer.into_inner().message().await.unwrap().unwrap();
    assert!(format!("{answer:?}").contains("dapr.proto.runtime.v1.Dapr"));
}
