//! The consumer's side: looking into an envelope without taking it apart.

use super::{
    CONTENT_TYPE, field, is_content_type, time,
    wrap::{Object, string},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use outrigger_kernel::Wall;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// An envelope: members in their order, each value as the JSON text it came as. Reading one of them cannot fail the
/// whole, whatever the others are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    members: Vec<(Cow<'static, str>, Bytes)>,
}

/// Why something is not an envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not a JSON object.
    #[error("not a CloudEvent: {0}")]
    NotAnObject(String),
    /// Its `data_base64` is not base64.
    #[error("the attribute data_base64 of the CloudEvent is not base64")]
    NotBase64,
}

impl Envelope {
    /// Parses an envelope; its parts share the bytes of `json`. Any JSON object will do: what it lacks is for the
    /// reader to decide on.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub fn parse(json: &Bytes) -> Result<Self, EnvelopeError> {
        let members: Members<'_> = serde_json::from_slice(json)
            .map_err(|error| EnvelopeError::NotAnObject(error.to_string()))?;
        let owned = |(name, value): (Cow<'_, str>, &RawValue)| {
            (Cow::Owned(name.into_owned()), json.slice_ref(value.get().as_bytes()))
        };
        Ok(Self { members: members.0.into_iter().map(owned).collect() })
    }

    /// The JSON text of the member `name`; the last one, should there be several.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&str> {
        let (_, value) = self.members.iter().rfind(|(member, _)| member == name)?;
        std::str::from_utf8(value).ok()
    }

    /// The member `name`, if it is a string.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.raw(name).and_then(|json| serde_json::from_str(json).ok())
    }

    /// The `id`; empty where it is missing or no string. Likewise the others.
    #[must_use]
    pub fn id(&self) -> String {
        self.text(field::ID).unwrap_or_default()
    }

    /// The `source`.
    #[must_use]
    pub fn source(&self) -> String {
        self.text(field::SOURCE).unwrap_or_default()
    }

    /// The `type`.
    #[must_use]
    pub fn event_type(&self) -> String {
        self.text(field::TYPE).unwrap_or_default()
    }

    /// The `specversion`.
    #[must_use]
    pub fn spec_version(&self) -> String {
        self.text(field::SPEC_VERSION).unwrap_or_default()
    }

    /// The `datacontenttype`.
    #[must_use]
    pub fn content_type(&self) -> String {
        self.text(field::CONTENT_TYPE).unwrap_or_default()
    }

    /// The `traceparent`, or the older `traceid`.
    #[must_use]
    pub fn trace_parent(&self) -> Option<String> {
        self.text(field::TRACE_PARENT).or_else(|| self.text(field::TRACE_ID))
    }

    /// The `tracestate`.
    #[must_use]
    pub fn trace_state(&self) -> Option<String> {
        self.text(field::TRACE_STATE)
    }

    /// The payload as bytes: `data_base64` decoded, the text of a string, or the JSON of anything else. A string in an
    /// event that says it is JSON is JSON, and keeps its quotes.
    ///
    /// # Errors
    /// When `data_base64` is not base64.
    pub fn payload(&self) -> Result<Bytes, EnvelopeError> {
        if let Some(encoded) = self.text(field::DATA_BASE64) {
            let decoded = STANDARD.decode(encoded).map_err(|_| EnvelopeError::NotBase64)?;
            return Ok(decoded.into());
        }
        let Some(json) = self.raw(field::DATA).filter(|json| *json != "null") else {
            return Ok(Bytes::new());
        };
        let content_type = self.content_type();
        let is_json = ["application/json", CONTENT_TYPE]
            .iter()
            .any(|media_type| is_content_type(&content_type, media_type));
        match self.text(field::DATA) {
            Some(text) if !is_json => Ok(text.into()),
            _ => Ok(Bytes::copy_from_slice(json.as_bytes())),
        }
    }

    /// Members that are neither required attributes nor the payload nor its address, with their JSON text.
    pub fn extensions(&self) -> impl Iterator<Item = (&str, &str)> {
        const KNOWN: [&str; 9] = [
            field::ID,
            field::SOURCE,
            field::TYPE,
            field::SPEC_VERSION,
            field::CONTENT_TYPE,
            field::DATA,
            field::DATA_BASE64,
            field::TOPIC,
            field::BROKER,
        ];
        let unknown = self.members.iter().filter(|(name, _)| !KNOWN.contains(&&**name));
        unknown.filter_map(|(name, value)| Some((&**name, std::str::from_utf8(value).ok()?)))
    }

    /// Whether its `expiration` lies before `now`. One that is no instant does not count.
    #[must_use]
    pub fn is_expired(&self, now: Wall) -> bool {
        let expiration = self.text(field::EXPIRATION);
        expiration.and_then(|text| time::read(&text)).is_some_and(|at| at < now)
    }

    /// Whether there is a member `name` that is not null.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.raw(name).is_some_and(|json| json != "null")
    }

    /// Sets the member `name` to a string.
    pub fn set_text(&mut self, name: &'static str, text: &str) {
        let mut json = Vec::with_capacity(text.len() + 2);
        string(&mut json, text);
        self.members.retain(|(member, _)| member != name);
        self.members.push((Cow::Borrowed(name), json.into()));
    }

    /// Sets the member `name` to a string where it is missing.
    pub(super) fn default_text(&mut self, name: &'static str, text: Option<&str>) {
        if let Some(text) = text
            && !self.has(name)
        {
            self.set_text(name, text);
        }
    }

    /// The envelope as JSON.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        let bytes: usize =
            self.members.iter().map(|(name, json)| name.len() + json.len() + 4).sum();
        let mut out = Object::with_capacity(bytes + 2);
        for (name, json) in &self.members {
            if let Ok(json) = std::str::from_utf8(json) {
                out.raw(name, json);
            }
        }
        out.finish()
    }

    /// The envelope as a tree, for [`crate::routes`]. Members that are nested too deeply for one are left out.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        let tree = |(name, json): &(Cow<'static, str>, Bytes)| {
            Some((name.to_string(), serde_json::from_slice(json).ok()?))
        };
        serde_json::Value::Object(self.members.iter().filter_map(tree).collect())
    }
}

/// The members of an object, borrowed from its text.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Gather;

        impl<'de> Visitor<'de> for Gather {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    members.push((Cow::Owned(name), map.next_value()?));
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Gather).map(Self)
    }
}
