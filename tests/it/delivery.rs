//! Delivery: acknowledgement, retry, drop, dead letters, routes, competing consumers, fan-out, envelopes.

use anyhow::{Result, ensure};
use outrigger_tests::{Answer, App, Start, app::subscriptions, eventually};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

fn ids(bodies: &[Value]) -> Vec<i64> {
    let mut ids: Vec<i64> = bodies.iter().filter_map(|body| body["data"]["id"].as_i64()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn the_envelope_is_a_cloud_event() -> Result<()> {
    let app = App::subscriber("pubsub", &["envelope"])?;
    let node = Start::sidecar("envelope").app_port(app.port).components().ready()?;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("content-type", "application/json"), ("traceparent", trace)];
    node.send("POST", "/v1.0/publish/pubsub/envelope", &headers, br#"{"id":1}"#)?;
    let envelope = &app.wait_for("/on/envelope", 1)[0];
    for (name, value) in [
        ("specversion", "1.0"),
        ("type", "com.dapr.event.sent"),
        ("source", "envelope"),
        ("datacontenttype", "application/json"),
        ("topic", "envelope"),
        ("pubsubname", "pubsub"),
    ] {
        ensure!(envelope[name] == value, "{name} is {} in {envelope}", envelope[name]);
    }
    for name in ["id", "time", "traceid", "traceparent"] {
        ensure!(envelope[name].as_str().is_some_and(|v| !v.is_empty()), "no {name} in {envelope}");
    }
    let parent = envelope["traceparent"].as_str().unwrap_or_default();
    ensure!(parent.contains("4bf92f3577b34da6a3ce929d0e0e4736"), "another trace: {parent}");
    let delivered = app.seen().into_iter().find(|incoming| incoming.path == "/on/envelope");
    let content_type = delivered.and_then(|i| i.header("content-type").map(str::to_owned));
    ensure!(
        content_type.as_deref() == Some("application/cloudevents+json"),
        "delivered as {content_type:?}"
    );
    Ok(())
}

#[test]
fn content_types_shape_the_data() -> Result<()> {
    let app = App::subscriber("pubsub", &["shapes"])?;
    let node = Start::sidecar("shapes").app_port(app.port).components().ready()?;
    let publish = |content_type: &str, query: &str, body: &[u8]| {
        let path = format!("/v1.0/publish/pubsub/shapes{query}");
        node.send("POST", &path, &[("content-type", content_type)], body)
    };
    publish("text/plain", "", b"plain")?;
    publish("application/octet-stream", "", &[0, 159, 146, 150])?;
    let own = json!({
        "specversion": "1.0", "id": "mine", "source": "me", "type": "my.type", "data": {"id": 3}
    });
    publish("application/cloudevents+json", "", own.to_string().as_bytes())?;
    publish("application/json", "?metadata.cloudevent.type=other.type", b"{\"id\":4}")?;
    let bodies = app.wait_for("/on/shapes", 4);
    let has = |what: &str, test: &dyn Fn(&Value) -> bool| {
        ensure!(bodies.iter().any(test), "no {what} in {bodies:#?}");
        Ok(())
    };
    has("text", &|body| body["data"] == "plain" && body["datacontenttype"] == "text/plain")?;
    has("bytes", &|body| body["data_base64"] == "AJ+Slg==")?;
    has("own event", &|body| body["id"] == "mine" && body["type"] == "my.type")?;
    has("own type", &|body| body["type"] == "other.type")
}

#[test]
fn retry_is_delivered_again_and_drop_is_not() -> Result<()> {
    let attempts: &'static Mutex<BTreeMap<i64, usize>> = Box::leak(Box::default());
    let topics = subscriptions("pubsub", &["verdicts"]);
    let app = App::start(move |incoming| {
        if incoming.path == "/dapr/subscribe" {
            return Answer::json(&topics);
        }
        let id = incoming.json()["data"]["id"].as_i64().unwrap_or(0);
        let mut attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = attempts.entry(id).or_default();
        *attempt += 1;
        match (id, *attempt) {
            (1, 1) => Answer::verdict("RETRY"),
            (2, 1) => Answer::status(500),
            (3, _) => Answer::verdict("DROP"),
            (4, _) => Answer::status(404),
            _ => Answer::verdict("SUCCESS"),
        }
    })?;
    let node = Start::sidecar("verdicts").app_port(app.port).components().ready()?;
    for id in 1..=5 {
        node.post("/v1.0/publish/pubsub/verdicts", &json!({ "id": id }))?;
    }
    let count = |id: i64| attempts.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
    eventually("the second attempts", || {
        let twice = count(1) == Some(2) && count(2) == Some(2);
        (twice && count(5).is_some()).then_some(())
    });
    node.post("/v1.0/publish/pubsub/verdicts", &json!({ "id": 6 }))?;
    eventually("the last event", || count(6));
    ensure!(count(3) == Some(1), "a dropped event came {:?} times", count(3));
    ensure!(count(4) == Some(1), "an event without a handler came {:?} times", count(4));
    Ok(())
}

#[test]
fn what_fails_for_good_goes_to_the_dead_letter_topic() -> Result<()> {
    let app = App::start(|incoming| match incoming.path.as_str() {
        "/dapr/subscribe" => Answer::json(&json!([
            { "pubsubname": "pubsub", "topic": "work", "route": "/on/work", "deadLetterTopic": "dead" },
            { "pubsubname": "pubsub", "topic": "dead", "route": "/on/dead" },
        ])),
        "/on/work" => match incoming.json()["data"]["id"].as_i64() {
            Some(1) => Answer::verdict("DROP"),
            Some(2) => Answer::status(500),
            _ => Answer::verdict("SUCCESS"),
        },
        _ => Answer::verdict("SUCCESS"),
    })?;
    let node = Start::sidecar("dead").app_port(app.port).components().ready()?;
    for id in 1..=3 {
        node.post("/v1.0/publish/pubsub/work", &json!({ "id": id }))?;
    }
    let dead = app.wait_for("/on/dead", 2);
    ensure!(ids(&dead) == [1, 2], "dead letters {:?}", ids(&dead));
    Ok(())
}

#[test]
fn every_app_id_gets_every_event() -> Result<()> {
    let apps: Vec<App> =
        (0..2).map(|_| App::subscriber("pubsub", &["fan"])).collect::<Result<_>>()?;
    let folder = outrigger_tests::Folder::new("fan")?;
    folder.write("resources/components.yaml", outrigger_tests::components::COMPONENTS)?;
    let mut file = String::from("version: 1\ncommon:\n  resourcesPath: resources\napps:\n");
    let mut ports = Vec::new();
    for (id, app) in ["first", "second"].iter().zip(&apps) {
        let http = outrigger_tests::ports::free();
        file.push_str(&format!(
            "  - appID: {id}\n    appDirPath: .\n    appPort: {}\n    daprHTTPPort: {http}\n    \
             daprGRPCPort: {}\n    metricsPort: {}\n",
            app.port,
            outrigger_tests::ports::free(),
            outrigger_tests::ports::free(),
        ));
        ports.push(http);
    }
    let file = folder.write("dapr.yaml", &file)?;
    let mut node = Start::run_file(&file).flag("--components", "embedded").launch()?;
    node.ports.http = ports[0];
    node.wait_ready()?;
    node.ports.http = ports[1];
    node.wait_ready()?;
    for id in 0..20 {
        node.post("/v1.0/publish/pubsub/fan", &json!({ "id": id }))?;
    }
    for app in &apps {
        let bodies = app.wait_for("/on/fan", 20);
        ensure!(ids(&bodies) == (0..20).collect::<Vec<_>>(), "delivered {:?}", ids(&bodies));
    }
    Ok(())
}

#[test]
fn rules_choose_the_route() -> Result<()> {
    let app = App::start(|incoming| match incoming.path.as_str() {
        "/dapr/subscribe" => Answer::json(&json!([{
            "pubsubname": "pubsub",
            "topic": "routed",
            "routes": {
                "rules": [
                    { "match": "event.type == \"big\"", "path": "/on/big" },
                    { "match": "event.data.id > 100", "path": "/on/high" },
                ],
                "default": "/on/rest",
            },
        }])),
        _ => Answer::verdict("SUCCESS"),
    })?;
    let node = Start::sidecar("routed").app_port(app.port).components().ready()?;
    let publish = |query: &str, id: i64| {
        node.post(&format!("/v1.0/publish/pubsub/routed{query}"), &json!({ "id": id }))
    };
    publish("?metadata.cloudevent.type=big", 1)?;
    publish("", 200)?;
    publish("", 3)?;
    for (path, id) in [("/on/big", 1), ("/on/high", 200), ("/on/rest", 3)] {
        let bodies = app.wait_for(path, 1);
        ensure!(ids(&bodies) == [id], "{path} got {:?}", ids(&bodies));
    }
    Ok(())
}

#[test]
fn declared_subscriptions_need_no_code() -> Result<()> {
    let app = App::start(|incoming| match incoming.path.as_str() {
        "/on/declared" => Answer::verdict("SUCCESS"),
        _ => Answer::status(404),
    })?;
    let declared = "\
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata:
  name: declared
spec:
  pubsubname: pubsub
  topic: declared
  routes:
    default: /on/declared
scopes:
  - declared
";
    let node = Start::sidecar("declared")
        .app_port(app.port)
        .components()
        .resource("subscription.yaml", declared)
        .ready()?;
    node.post("/v1.0/publish/pubsub/declared", &json!({ "id": 1 }))?;
    ensure!(ids(&app.wait_for("/on/declared", 1)) == [1], "another event");
    Ok(())
}

#[test]
fn bulk_subscribers_answer_per_entry() -> Result<()> {
    static FIRST: AtomicUsize = AtomicUsize::new(0);
    let app = App::start(|incoming| match incoming.path.as_str() {
        "/dapr/subscribe" => Answer::json(&json!([{
            "pubsubname": "pubsub", "topic": "bulk", "route": "/on/bulk",
            "bulkSubscribe": { "enabled": true, "maxMessagesCount": 10, "maxAwaitDurationMs": 200 },
        }])),
        _ => {
            let body = incoming.json();
            let entries = body["entries"].as_array().cloned().unwrap_or_default();
            let statuses: Vec<Value> = entries
                .iter()
                .map(|entry| {
                    let seven = entry["event"]["data"]["id"] == 7;
                    let retry = seven && FIRST.fetch_add(1, Ordering::AcqRel) == 0;
                    json!({ "entryId": entry["entryId"], "status": if retry { "RETRY" } else { "SUCCESS" } })
                })
                .collect();
            Answer::json(&json!({ "statuses": statuses }))
        }
    })?;
    let node = Start::sidecar("bulk").app_port(app.port).components().ready()?;
    let entries: Vec<Value> = (0..30)
        .map(|id| json!({ "entryId": id.to_string(), "contentType": "application/json", "event": { "id": id } }))
        .collect();
    let answer = node.post("/v1.0/publish/bulk/pubsub/bulk", &json!(entries))?;
    ensure!(answer.status == 204, "bulk publish answered {}", answer.status);
    let delivered = eventually("thirty events and one again", || {
        let ids: Vec<i64> = app
            .bodies("/on/bulk")
            .iter()
            .flat_map(|body| body["entries"].as_array().cloned().unwrap_or_default())
            .filter_map(|entry| entry["event"]["data"]["id"].as_i64())
            .collect();
        (ids.len() >= 31).then_some(ids)
    });
    ensure!((0..30).all(|id| delivered.contains(&id)), "delivered {delivered:?}");
    ensure!(delivered.iter().filter(|id| **id == 7).count() == 2, "seven came once");
    let largest =
        app.bodies("/on/bulk").iter().filter_map(|b| b["entries"].as_array().map(Vec::len)).max();
    ensure!(largest <= Some(10), "a batch of {largest:?}");
    Ok(())
}
