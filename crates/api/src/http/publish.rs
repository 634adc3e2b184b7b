//! Publishing over HTTP.

use super::{Exchange, Reply, RequestBody, wire::BulkEntry};
use crate::{
    errors::{Fault, catalogue},
    names,
    operations::publish::{self, Event, Place},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::header;
use outrigger_events::envelope::is_content_type;
use serde_json::{json, value::RawValue};
use std::collections::{BTreeMap, HashSet};

/// `POST publish/{pubsub}/{topic}`
pub(super) async fn one(
    x: &Exchange<'_>,
    pubsub: &str,
    topic: &str,
    body: RequestBody,
) -> Result<Reply, Fault> {
    let place = publish::find(x.host, pubsub, topic)?;
    let data = x.read(body).await?;
    let content_type = x.parts.headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let event = Event { data, content_type: content_type.to_owned(), metadata: x.metadata() };
    publish::one(x.host, &place, event, x.trace, x.deadline).await?;
    Ok(Reply::empty())
}

/// `POST publish/bulk/{pubsub}/{topic}`
pub(super) async fn bulk(
    x: &Exchange<'_>,
    pubsub: &str,
    topic: &str,
    body: RequestBody,
) -> Result<Reply, Fault> {
    let place = publish::find(x.host, pubsub, topic)?;
    let body = x.read(body).await?;
    let entries: Vec<BulkEntry<'_>> = serde_json::from_slice(&body).map_err(|error| {
        let message = format!("could not read the entries for topic {topic}: {error}");
        Fault::new(&catalogue::PUBSUB_UNMARSHAL_EVENTS, message).about("pubsub", pubsub, true)
    })?;
    let (ids, events) = events(&place, &entries, &x.metadata())?;
    let answer = publish::bulk(x.host, &place, events, x.trace, x.deadline).await;
    answer.map_or_else(|fault| refused(fault, &ids), |()| Ok(Reply::empty()))
}

/// What is wrong with the request answers as usual; what went wrong with publishing says it per entry.
fn refused(fault: Fault, ids: &[&str]) -> Result<Reply, Fault> {
    if fault.code() != catalogue::PUBSUB_PUBLISH.code {
        return Err(fault);
    }
    let entries: Vec<_> =
        ids.iter().map(|id| json!({ "entryId": id, "error": fault.message() })).collect();
    let body = json!({ "failedEntries": entries, "errorCode": fault.code() });
    let mut reply = Reply::json(fault.http(), body.to_string().into());
    reply.fail_with(fault.code());
    Ok(reply)
}

fn events<'a>(
    place: &Place,
    entries: &'a [BulkEntry<'_>],
    metadata: &BTreeMap<String, String>,
) -> Result<(Vec<&'a str>, Vec<Event>), Fault> {
    let fault = |message: String| {
        let message = format!("could not read the events for topic {}: {message}", place.topic);
        Fault::new(&catalogue::PUBSUB_MARSHAL_EVENTS, message).about(
            "pubsub",
            &place.component.name,
            true,
        )
    };
    let mut seen = HashSet::new();
    let mut events = Vec::with_capacity(entries.len());
    for entry in entries {
        let id = entry.entry_id.as_deref().unwrap_or_default();
        if id.is_empty() || !seen.insert(id) {
            return Err(fault(format!("entryId {id:?} is missing or not unique")));
        }
        let raw = entry.event.map_or("null", RawValue::get);
        let (data, content_type) = payload(raw, entry.content_type.as_deref())
            .map_err(|why| fault(format!("entry {id:?} {why}")))?;
        let mut all = metadata.clone();
        all.extend(entry.metadata.clone().unwrap_or_default());
        events.push(Event { data, content_type, metadata: all });
    }
    let id = |entry: &'a BulkEntry<'_>| entry.entry_id.as_deref().unwrap_or_default();
    Ok((entries.iter().map(id).collect(), events))
}

/// The bytes of an entry's event, which its content type says how to read.
fn payload(event: &str, content_type: Option<&str>) -> Result<(Bytes, String), String> {
    let json = Bytes::copy_from_slice(event.as_bytes());
    let text = serde_json::from_str::<String>(event);
    let Some(content_type) = content_type.filter(|given| !given.is_empty()) else {
        return Ok(match text {
            Ok(text) => (text.into(), "text/plain".to_owned()),
            Err(_) => (json, names::JSON.to_owned()),
        });
    };
    let is = |media_type| is_content_type(content_type, media_type);
    if is(names::JSON) || is(names::CLOUD_EVENT_JSON) {
        return Ok((json, content_type.to_owned()));
    }
    let text = text.map_err(|_| format!("is not a string, as {content_type} asks for"))?;
    if is(names::OCTET_STREAM) || is("application/cloudevents+protobuf") {
        let bytes = STANDARD
            .decode(text)
            .map_err(|_| format!("is not base64, as {content_type} asks for"))?;
        return Ok((bytes.into(), content_type.to_owned()));
    }
    Ok((text.into(), content_type.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::payload;

    #[test]
    fn payload_by_content_type() {
        let cases = [
            (r#"{"a": 1.0}"#, Some("application/json"), Ok(r#"{"a": 1.0}"#)),
            (r#""text""#, Some("application/json; charset=utf-8"), Ok(r#""text""#)),
            (r#""text""#, Some("text/plain"), Ok("text")),
            (r#""aGk=""#, Some("application/octet-stream"), Ok("hi")),
            (r#""text""#, None, Ok("text")),
            ("[1]", None, Ok("[1]")),
            ("[1]", Some("text/plain"), Err(())),
            (r#""%""#, Some("application/octet-stream"), Err(())),
        ];
        for (event, content_type, expected) in cases {
            let got = payload(event, content_type).map(|(bytes, _)| bytes).map_err(|_| ());
            assert_eq!(got.as_deref(), expected.map(str::as_bytes).as_deref(), "{event}");
        }
    }
}
