//! What the runtime says of itself.
//!
//! Built once in the shape of the gRPC answer; the JSON of the HTTP answer is derived from it by hand, because its names
//! do not all follow from the other's.

use crate::{
    errors::{Fault, catalogue},
    host::Host,
    names,
};
use outrigger_proto::runtime::v1 as pb;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// All of it, as it is now.
pub(crate) fn get(host: &Host) -> pb::GetMetadataResponse {
    let components = host.components.load();
    let registered_components = components
        .registered
        .iter()
        .map(|one| pb::RegisteredComponents {
            name: one.name.clone(),
            r#type: one.type_name.clone(),
            version: one.version.clone(),
            capabilities: one.capabilities.clone(),
        })
        .collect();
    let named = |name: &String| pb::MetadataResiliency { name: name.clone() };
    let mut extended_metadata = host.extended();
    extended_metadata
        .entry("daprRuntimeVersion".to_owned())
        .or_insert_with(|| names::API_RELEASE.to_owned());
    pb::GetMetadataResponse {
        id: host.app_id.to_string(),
        registered_components,
        extended_metadata,
        subscriptions: host.subscriptions.list(),
        http_endpoints: components
            .endpoints
            .iter()
            .map(|name| pb::MetadataHttpEndpoint { name: name.clone() })
            .collect(),
        app_connection_properties: Some(app_connection(host)),
        runtime_version: names::API_RELEASE.to_owned(),
        enabled_features: host.settings.features.clone(),
        actor_runtime: Some(pb::ActorRuntime {
            runtime_status: pb::actor_runtime::ActorRuntimeStatus::Disabled.into(),
            ..pb::ActorRuntime::default()
        }),
        resiliencies: components.resiliencies.iter().map(named).collect(),
        ..pb::GetMetadataResponse::default()
    }
}

/// Sets an entry of the extended metadata.
pub(crate) fn set(host: &Host, key: &str, value: &str) -> Result<(), Fault> {
    if key.is_empty() {
        return Err(Fault::new(&catalogue::MALFORMED_REQUEST, "the metadata entry has no key"));
    }
    if host.set_extended(key, value) {
        return Ok(());
    }
    let message =
        format!("there is no room for the metadata entry {key:?}: too many, or too large");
    Err(Fault::new(&catalogue::MALFORMED_REQUEST, message))
}

fn app_connection(host: &Host) -> pb::AppConnectionProperties {
    let app = &host.settings.app;
    // A port found after the app started is known to the channel only.
    let port = host.app.as_ref().map(|channel| channel.target().port).or(app.port);
    pb::AppConnectionProperties {
        port: port.map_or(0, i32::from),
        protocol: app.protocol.clone(),
        channel_address: app.address.clone(),
        max_concurrency: app.max_concurrency.map_or(0, |n| i32::try_from(n).unwrap_or(i32::MAX)),
        health: app.health.as_ref().map(|health| pb::AppConnectionHealthProperties {
            health_check_path: if app.is_grpc() { String::new() } else { health.path.clone() },
            health_probe_interval: go_duration(health.interval),
            health_probe_timeout: go_duration(health.timeout),
            health_threshold: i32::try_from(health.threshold).unwrap_or(i32::MAX),
        }),
    }
}

/// A duration as Go prints it: `500ms`, `5s`.
fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
}

/// The HTTP answer: empty parts are left out, as clients expect.
pub(crate) fn to_json(all: &pb::GetMetadataResponse) -> Value {
    let mut out = Map::new();
    out.insert("id".into(), json!(all.id));
    out.insert("runtimeVersion".into(), json!(all.runtime_version));
    let mut list = |name: &str, items: Vec<Value>| {
        if !items.is_empty() {
            out.insert(name.into(), Value::Array(items));
        }
    };
    list("enabledFeatures", all.enabled_features.iter().map(|f| json!(f)).collect());
    list("components", all.registered_components.iter().map(component).collect());
    list("subscriptions", all.subscriptions.iter().map(subscription).collect());
    list("httpEndpoints", all.http_endpoints.iter().map(|e| json!({ "name": e.name })).collect());
    list("resiliencies", all.resiliencies.iter().map(|r| json!({ "name": r.name })).collect());
    out.insert("extended".into(), json!(all.extended_metadata));
    if let Some(app) = &all.app_connection_properties {
        out.insert("appConnectionProperties".into(), connection(app));
    }
    out.insert(
        "actorRuntime".into(),
        json!({ "runtimeStatus": "DISABLED", "activeActors": [], "hostReady": false, "placement": "" }),
    );
    Value::Object(out)
}

fn component(one: &pb::RegisteredComponents) -> Value {
    json!({
        "name": one.name,
        "type": one.r#type,
        "version": one.version,
        "capabilities": one.capabilities,
    })
}

fn subscription(one: &pb::PubsubSubscription) -> Value {
    let rules = one.rules.as_ref().map_or(&[][..], |rules| &rules.rules);
    let rules: Vec<Value> =
        rules.iter().map(|rule| json!({ "match": rule.r#match, "path": rule.path })).collect();
    let mut out = json!({
        "pubsubname": one.pubsub_name,
        "topic": one.topic,
        "rules": rules,
        "deadLetterTopic": one.dead_letter_topic,
        "type": one.r#type().as_str_name(),
    });
    if !one.metadata.is_empty() {
        out["metadata"] = json!(one.metadata);
    }
    out
}

fn connection(app: &pb::AppConnectionProperties) -> Value {
    let mut out = json!({ "protocol": app.protocol, "channelAddress": app.channel_address });
    if app.port != 0 {
        out["port"] = json!(app.port);
    }
    if app.max_concurrency != 0 {
        out["maxConcurrency"] = json!(app.max_concurrency);
    }
    if let Some(health) = &app.health {
        out["health"] = json!({
            "healthCheckPath": health.health_check_path,
            "healthProbeInterval": health.health_probe_interval,
            "healthProbeTimeout": health.health_probe_timeout,
            "healthThreshold": health.health_threshold,
        });
    }
    out
}
