//! Several events in one request.

use super::{
    CONTENT_TYPE, field, is_content_type,
    wrap::{Object, string},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use std::collections::BTreeMap;

/// One event of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BulkEntry {
    /// By what name it is judged in the answer.
    pub entry_id: String,
    /// The event.
    pub event: Bytes,
    /// What it is: with [`CONTENT_TYPE`] it is embedded as JSON, otherwise as base64.
    pub content_type: String,
    /// What the publisher attached.
    pub metadata: BTreeMap<String, String>,
}

/// The envelope of several events. `bulk_type` is a foreign name and comes in from outside, as those in
/// [`super::Names`].
#[must_use]
pub fn bulk(
    id: &str,
    bulk_type: &str,
    topic: &str,
    broker: &str,
    metadata: &BTreeMap<String, String>,
    entries: &[BulkEntry],
) -> Bytes {
    let events: usize = entries.iter().map(|entry| entry.event.len() + 128).sum();
    let mut list = Vec::with_capacity(events);
    for entry in entries {
        list.push(if list.is_empty() { b'[' } else { b',' });
        list.extend_from_slice(&written(entry));
    }
    if list.is_empty() {
        list.push(b'[');
    }
    list.push(b']');
    let mut out = Object::with_capacity(list.len() + 256);
    out.text(field::ID, id);
    out.text(field::TYPE, bulk_type);
    out.text(field::TOPIC, topic);
    out.text(field::BROKER, broker);
    out.raw("metadata", &strings(metadata));
    out.raw("entries", &String::from_utf8_lossy(&list));
    out.finish()
}

fn written(entry: &BulkEntry) -> Bytes {
    let mut out = Object::with_capacity(entry.event.len() + 128);
    out.text("entryId", &entry.entry_id);
    let json = serde_json::from_slice::<&serde_json::value::RawValue>(&entry.event);
    match json {
        Ok(json) if is_content_type(&entry.content_type, CONTENT_TYPE) => {
            out.raw("event", json.get())
        }
        _ => out.text("event", &STANDARD.encode(&entry.event)),
    }
    out.text("contentType", &entry.content_type);
    out.raw("metadata", &strings(&entry.metadata));
    out.finish()
}

/// A map of strings as a JSON object.
fn strings(map: &BTreeMap<String, String>) -> String {
    let mut out = vec![b'{'];
    for (index, (name, text)) in map.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        string(&mut out, name);
        out.push(b':');
        string(&mut out, text);
    }
    out.push(b'}');
    String::from_utf8_lossy(&out).into_owned()
}
