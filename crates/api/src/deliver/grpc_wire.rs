//! Events in the shape of gRPC.

use super::reading::Event;
use outrigger_proto::runtime::v1 as pb;
use prost_types::{ListValue, NullValue, Struct, Value, value::Kind};

/// An event as the app gets it, taken out of its envelope. The error says why it cannot be.
pub(crate) fn topic_event(event: &Event, pubsub: &str) -> Result<pb::TopicEventRequest, String> {
    let envelope = &event.envelope;
    Ok(pb::TopicEventRequest {
        id: event.id.clone(),
        source: envelope.source(),
        r#type: envelope.event_type(),
        spec_version: envelope.spec_version(),
        data_content_type: envelope.content_type(),
        topic: event.delivery.topic.to_string(),
        data: envelope.payload().map_err(|error| error.to_string())?,
        pubsub_name: pubsub.to_owned(),
        path: event.path.clone(),
        extensions: extensions(event),
    })
}

/// An event as an entry of a bulk.
pub(crate) fn bulk_entry(event: &Event) -> Result<pb::TopicEventBulkRequestEntry, String> {
    use pb::topic_event_bulk_request_entry::Event as Content;
    let envelope = &event.envelope;
    let (bytes, content_type) = event.published();
    let content = if event.raw {
        Content::Bytes(bytes.clone())
    } else {
        Content::CloudEvent(pb::TopicEventCeRequest {
            id: event.id.clone(),
            source: envelope.source(),
            r#type: envelope.event_type(),
            spec_version: envelope.spec_version(),
            data_content_type: envelope.content_type(),
            data: envelope.payload().map_err(|error| error.to_string())?,
            extensions: extensions(event),
        })
    };
    Ok(pb::TopicEventBulkRequestEntry {
        entry_id: event.entry_id.clone(),
        content_type: content_type.to_owned(),
        metadata: event.delivery.metadata.clone(),
        event: Some(content),
    })
}

/// Always there, if empty: clients' libraries look into it without asking.
fn extensions(event: &Event) -> Option<Struct> {
    let member = |(name, json): (&str, &str)| {
        Some((name.to_owned(), convert(serde_json::from_str(json).ok()?)))
    };
    Some(Struct { fields: event.envelope.extensions().filter_map(member).collect() })
}

/// JSON as a protobuf value. The reader that made the tree bounds its depth.
fn convert(json: serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(NullValue::NullValue.into()),
        serde_json::Value::Bool(bool) => Kind::BoolValue(bool),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(items) => {
            Kind::ListValue(ListValue { values: items.into_iter().map(convert).collect() })
        }
        serde_json::Value::Object(members) => {
            let fields = members.into_iter().map(|(name, value)| (name, convert(value))).collect();
            Kind::StructValue(Struct { fields })
        }
    };
    Value { kind: Some(kind) }
}
