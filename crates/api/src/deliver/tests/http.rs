//! HTTP apps behind a broker: routes, retries, dead letters, bulks.

use super::{
    Stage, declared, event,
    http_server::{Call, HttpServer},
    retry, route,
};
use outrigger_calls::AppProtocol;
use std::sync::atomic::{AtomicU32, Ordering};

fn asked(call: &Call) -> bool {
    call.path == "/dapr/subscribe"
}

#[tokio::test]
async fn rules_pick_the_path_and_what_nobody_wants_is_a_dead_letter() {
    let stage = Stage::new();
    let mut server =
        HttpServer::start(&stage, |call| (if asked(call) { 404 } else { 200 }, String::new()))
            .await;
    let subscriptions = stage.subscriptions(AppProtocol::Http, server.port);
    let rules = "  deadLetterTopic: lost\n  routes:\n    rules:\n    - match: event.type == 'big'\n      path: /big\n    - match: event.priority > 5\n      path: /urgent\n";
    let files = declared(&[("orders", rules), ("lost", &route("/lost"))]);
    stage.soon(subscriptions.start(files, stage.components(), None)).await;
    stage.publish("orders", [event("1", "big"), event("2", "small")]).await;
    let mut calls = [server.call(&stage).await, server.call(&stage).await];
    calls.sort_by_key(Call::event_id);
    assert_eq!([calls[0].path.as_str(), calls[1].path.as_str()], ["/big", "/lost"]);
    assert_eq!(calls[1].header("dead-letter.cause"), "dropped");
    assert!(calls[1].header("dead-letter.reason").contains("no route"));
    subscriptions.stop(super::PATIENCE).await;
}

#[tokio::test]
async fn failures_are_retried_then_dead_lettered() {
    let stage = Stage::new();
    let tries = AtomicU32::new(0);
    let mut server = HttpServer::start(&stage, move |call| match call.path.as_str() {
        "/dapr/subscribe" => (404, String::new()),
        "/orders" if call.event_id() == "stubborn" => (500, String::new()),
        "/orders" if tries.fetch_add(1, Ordering::SeqCst) < 2 => {
            (200, r#"{"status":"RETRY"}"#.to_owned())
        }
        _ => (200, String::new()),
    })
    .await;
    let subscriptions = stage.subscriptions(AppProtocol::Http, server.port);
    let files = declared(&[
        ("orders", &format!("  deadLetterTopic: dead\n{}", route("/orders"))),
        ("dead", &route("/dead")),
    ]);
    stage.soon(subscriptions.start(files, stage.components(), None)).await;
    stage.publish("orders", [event("moody", "x")]).await;
    for _ in 0..3 {
        assert_eq!(server.call(&stage).await.path, "/orders");
    }
    stage.publish("orders", [event("stubborn", "x")]).await;
    // Without a policy: once, and three times more.
    for _ in 0..4 {
        let call = server.call(&stage).await;
        assert_eq!((call.path.as_str(), call.event_id().as_str()), ("/orders", "stubborn"));
    }
    let dead = server.call(&stage).await;
    assert_eq!((dead.path.as_str(), dead.event_id().as_str()), ("/dead", "stubborn"));
    assert_eq!(
        (dead.header("dead-letter.attempts"), dead.header("dead-letter.cause")),
        ("4", "exhausted")
    );
    subscriptions.stop(super::PATIENCE).await;
}

#[tokio::test]
async fn a_policy_says_how_often() {
    let stage = Stage::with(|component| component.inbound.retry = Some(retry(1, "")));
    let mut server = HttpServer::start(&stage, |call| match call.path.as_str() {
        "/dapr/subscribe" => (404, String::new()),
        "/dead" => (200, String::new()),
        _ => (503, String::new()),
    })
    .await;
    let subscriptions = stage.subscriptions(AppProtocol::Http, server.port);
    let files = declared(&[
        ("orders", &format!("  deadLetterTopic: dead\n{}", route("/orders"))),
        ("dead", &route("/dead")),
    ]);
    stage.soon(subscriptions.start(files, stage.components(), None)).await;
    stage.publish("orders", [event("1", "x")]).await;
    let paths = [
        server.call(&stage).await.path,
        server.call(&stage).await.path,
        server.call(&stage).await.path,
    ];
    assert_eq!(paths, ["/orders", "/orders", "/dead"]);
    subscriptions.stop(super::PATIENCE).await;
}

#[tokio::test]
async fn bulks_go_by_path_and_are_judged_one_by_one() {
    let stage = Stage::new();
    let first = AtomicU32::new(0);
    let mut server = HttpServer::start(&stage, move |call| {
        if asked(call) {
            return (404, String::new());
        }
        let entries = call.json()["entries"].as_array().cloned().unwrap_or_default();
        let statuses = entries.iter().map(|entry| {
            let again =
                entry["event"]["id"] == "moody" && first.fetch_add(1, Ordering::SeqCst) == 0;
            let status = if again { "RETRY" } else { "SUCCESS" };
            format!(r#"{{"entryId":{},"status":"{status}"}}"#, entry["entryId"])
        });
        (200, format!(r#"{{"statuses":[{}]}}"#, statuses.collect::<Vec<_>>().join(",")))
    })
    .await;
    let subscriptions = stage.subscriptions(AppProtocol::Http, server.port);
    let spec = "  bulkSubscribe:\n    enabled: true\n    maxMessagesCount: 4\n    maxAwaitDurationMs: 50\n  routes:\n    rules:\n    - match: event.type == 'big'\n      path: /big\n    default: /rest\n";
    stage
        .publish(
            "orders",
            [event("1", "big"), event("moody", "x"), event("3", "big"), "junk".to_owned()],
        )
        .await;
    stage.soon(subscriptions.start(declared(&[("orders", spec)]), stage.components(), None)).await;
    let (big, rest, again) =
        (server.call(&stage).await, server.call(&stage).await, server.call(&stage).await);
    assert_eq!(
        [big.path.as_str(), rest.path.as_str(), again.path.as_str()],
        ["/big", "/rest", "/rest"]
    );
    assert_eq!(big.header("content-type"), "application/json");
    let bulk = big.json();
    assert_eq!(
        [&bulk["type"], &bulk["topic"], &bulk["pubsubname"]],
        ["com.dapr.event.sent.bulk", "orders", "broker"]
    );
    let entries = bulk["entries"].as_array().unwrap();
    assert_eq!((entries.len(), &entries[0]["event"]["id"]), (2, &"1".into()));
    assert_eq!(entries[0]["contentType"], "application/cloudevents+json");
    assert_eq!(again.json()["entries"][0]["event"]["id"], "moody");
    subscriptions.stop(super::PATIENCE).await;
    let text = stage.metrics.text();
    assert!(text.contains("dapr_component_pubsub_ingress_bulk_event_count"), "{text}");
}

#[tokio::test]
async fn raw_messages_arrive_in_an_envelope() {
    let stage = Stage::new();
    let mut server =
        HttpServer::start(&stage, |call| (if asked(call) { 404 } else { 200 }, String::new()))
            .await;
    let subscriptions = stage.subscriptions(AppProtocol::Http, server.port);
    let spec = format!("  metadata:\n    rawPayload: \"true\"\n{}", route("/raw"));
    stage.publish("orders", ["hi".to_owned()]).await;
    stage.soon(subscriptions.start(declared(&[("orders", &spec)]), stage.components(), None)).await;
    let event = server.call(&stage).await.json();
    assert_eq!((&event["data_base64"], &event["topic"]), (&"aGk=".into(), &"orders".into()));
    assert_eq!(event["type"], "com.dapr.event.sent");
    subscriptions.stop(super::PATIENCE).await;
}
