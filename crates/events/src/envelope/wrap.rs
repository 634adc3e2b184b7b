//! The publisher's side: from a payload to an envelope.

use super::{CONTENT_TYPE, Envelope, EnvelopeError, field, is_content_type, time};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use outrigger_kernel::{Wall, World};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// What stands in an envelope where the publisher says nothing; foreign names, so they come in from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The default `type`.
    pub event_type: String,
    /// The default `source`.
    pub source: String,
}

/// Where and when an event comes into being.
#[derive(Clone, Debug)]
pub struct Origin<'a> {
    /// Its `id`, unless the publisher gives one; see [`fresh_id`].
    pub id: &'a str,
    /// Who publishes; empty for [`Names::source`].
    pub source: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The name of the broker.
    pub broker: &'a str,
    /// The publisher's position in its trace, as a `traceparent`.
    pub trace_parent: Option<&'a str>,
    /// What goes with it.
    pub trace_state: Option<&'a str>,
    /// When it was published.
    pub time: Wall,
    /// When it is to be dropped, for brokers that cannot see to that themselves. This one can: see
    /// [`crate::NewMessage::expires_at`].
    pub expires_at: Option<Wall>,
}

/// A new `id`: a random UUID (RFC 9562, version 4).
#[must_use]
pub fn fresh_id(world: &dyn World) -> String {
    let (high, low) = (world.random(), world.random());
    let version = high & 0x0fff | 0x4000;
    let variant = low >> 48 & 0x3fff | 0x8000;
    let (first, second, last) = (high >> 32, high >> 16 & 0xffff, low & 0xffff_ffff_ffff);
    format!("{first:08x}-{second:04x}-{version:04x}-{variant:04x}-{last:012x}")
}

impl Names {
    /// The envelope of a payload. `metadata` may override attributes: `cloudevent.id`, `.source`, `.type`, `.subject`,
    /// `.traceid`, `.traceparent`, `.tracestate`, in any letter case; not those of a payload that is a CloudEvent
    /// already, which speaks for itself.
    ///
    /// # Errors
    /// When the payload is to be a CloudEvent and is none.
    pub fn wrap(
        &self,
        origin: &Origin<'_>,
        content_type: &str,
        data: &Bytes,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Bytes, EnvelopeError> {
        if is_content_type(content_type, CONTENT_TYPE) {
            return self.complete(origin, data);
        }
        let given = Overrides::read(metadata);
        let trace_parent = given.trace_parent.or(given.trace_id).or(origin.trace_parent);
        let source = if origin.source.is_empty() { &*self.source } else { origin.source };
        let mut out = Object::with_capacity(512 + data.len());
        out.text(field::ID, given.id.unwrap_or(origin.id));
        out.text(field::SOURCE, given.source.unwrap_or(source));
        out.text(field::TYPE, given.event_type.unwrap_or(&self.event_type));
        out.text(field::SPEC_VERSION, "1.0");
        let content_type = if content_type.is_empty() { "text/plain" } else { content_type };
        out.text(field::CONTENT_TYPE, content_type);
        out.some_text(field::SUBJECT, given.subject);
        out.text(field::TIME, &time::write(origin.time));
        out.text(field::TOPIC, origin.topic);
        out.text(field::BROKER, origin.broker);
        // Two names for one thing: the older one is what older consumers look for.
        out.some_text(field::TRACE_ID, trace_parent);
        out.some_text(field::TRACE_PARENT, trace_parent);
        out.some_text(field::TRACE_STATE, given.trace_state.or(origin.trace_state));
        out.some_text(field::EXPIRATION, origin.expires_at.map(time::write).as_deref());
        payload(&mut out, content_type, data);
        Ok(out.finish())
    }

    /// The envelope of a payload that was published without one, made on the consumer's side: nothing is known about
    /// it, so it is bytes. `id` should be the same at every attempt; [`crate::Delivery::id`] is.
    #[must_use]
    pub fn wrap_raw(&self, id: &str, topic: &str, broker: &str, data: &[u8]) -> Bytes {
        let mut out = Object::with_capacity(256 + data.len() * 4 / 3);
        out.text(field::ID, id);
        out.text(field::SOURCE, &self.source);
        out.text(field::TYPE, &self.event_type);
        out.text(field::SPEC_VERSION, "1.0");
        out.text(field::CONTENT_TYPE, "application/octet-stream");
        out.text(field::TOPIC, topic);
        out.text(field::BROKER, broker);
        out.text(field::DATA_BASE64, &STANDARD.encode(data));
        out.finish()
    }

    /// A CloudEvent with what is missing added.
    fn complete(&self, origin: &Origin<'_>, event: &Bytes) -> Result<Bytes, EnvelopeError> {
        let mut envelope = Envelope::parse(event)?;
        let source = if origin.source.is_empty() { &*self.source } else { origin.source };
        envelope.set_text(field::TOPIC, origin.topic);
        envelope.set_text(field::BROKER, origin.broker);
        envelope.default_text(field::ID, Some(origin.id));
        envelope.default_text(field::SOURCE, Some(source));
        envelope.default_text(field::TYPE, Some(&self.event_type));
        envelope.default_text(field::SPEC_VERSION, Some("1.0"));
        envelope.default_text(field::TIME, Some(&time::write(origin.time)));
        // A publisher that is part of a trace has said so; ours would take the event out of it.
        if !envelope.has(field::TRACE_PARENT) {
            envelope.default_text(field::TRACE_ID, origin.trace_parent);
            envelope.default_text(field::TRACE_PARENT, origin.trace_parent);
            envelope.default_text(field::TRACE_STATE, origin.trace_state);
        }
        let expiration = origin.expires_at.map(time::write);
        envelope.default_text(field::EXPIRATION, expiration.as_deref());
        Ok(envelope.to_json())
    }
}

fn payload(out: &mut Object, content_type: &str, data: &Bytes) {
    let is = |media_type| is_content_type(content_type, media_type);
    if is("application/json")
        && let Ok(json) = serde_json::from_slice::<&RawValue>(data)
    {
        out.raw(field::DATA, json.get());
        return;
    }
    let binary = is("application/octet-stream") || is("application/cloudevents+protobuf");
    match std::str::from_utf8(data) {
        Ok(text) if !binary => out.text(field::DATA, text),
        // A string would have to replace what is no text, and nobody would know.
        _ => out.text(field::DATA_BASE64, &STANDARD.encode(data)),
    }
}

/// Attributes that the publisher gave in the metadata.
#[derive(Default)]
struct Overrides<'a> {
    id: Option<&'a str>,
    source: Option<&'a str>,
    event_type: Option<&'a str>,
    subject: Option<&'a str>,
    trace_id: Option<&'a str>,
    trace_parent: Option<&'a str>,
    trace_state: Option<&'a str>,
}

impl<'a> Overrides<'a> {
    fn read(metadata: &'a BTreeMap<String, String>) -> Self {
        let mut given = Self::default();
        for (key, value) in metadata.iter().filter(|(_, value)| !value.is_empty()) {
            let slot = match &*key.to_ascii_lowercase() {
                "cloudevent.id" => &mut given.id,
                "cloudevent.source" => &mut given.source,
                "cloudevent.type" => &mut given.event_type,
                "cloudevent.subject" => &mut given.subject,
                "cloudevent.traceid" => &mut given.trace_id,
                "cloudevent.traceparent" => &mut given.trace_parent,
                "cloudevent.tracestate" => &mut given.trace_state,
                _ => continue,
            };
            *slot = Some(value);
        }
        given
    }
}

/// A JSON object under construction.
pub(super) struct Object(Vec<u8>);

impl Object {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// A member whose value is the JSON text `json`.
    pub(super) fn raw(&mut self, name: &str, json: &str) {
        self.name(name);
        self.0.extend_from_slice(json.as_bytes());
    }

    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        string(&mut self.0, text);
    }

    pub(super) fn some_text(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        string(&mut self.0, name);
        self.0.push(b':');
    }

    pub(super) fn finish(mut self) -> Bytes {
        if self.0.is_empty() {
            self.0.push(b'{');
        }
        self.0.push(b'}');
        self.0.into()
    }
}

/// Appends `text` as a JSON string.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string can be written to memory");
}
