//! Envelopes: CloudEvents 1.0 in JSON.
//!
//! A publisher's payload is wrapped, unless it is a CloudEvent already; then only what is missing is added. Consumers
//! get the envelope as it was stored, byte for byte: embedded JSON is kept as text, so numbers keep all their digits and
//! members their order, and fields that nobody here knows survive.
//!
//! | content type of the payload | becomes |
//! |---|---|
//! | `application/cloudevents+json` | the envelope itself, with what is missing added |
//! | `application/json` | `data`, the text as it is; a string if it is no JSON |
//! | `application/octet-stream`, `application/cloudevents+protobuf` | `data_base64` |
//! | anything else | `data`, a string; `data_base64` if it is no UTF-8 |
//!
//! Source: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>.

mod bulk;
mod parse;
mod time;
mod wrap;

pub use bulk::{BulkEntry, bulk};
pub use parse::{Envelope, EnvelopeError};
pub use wrap::{Names, Origin, fresh_id};

/// The content type of an envelope.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Whether `content_type` is `media_type`, whatever its parameters and letter case.
#[must_use]
pub fn is_content_type(content_type: &str, media_type: &str) -> bool {
    let bare = content_type.split(';').next().unwrap_or_default();
    bare.trim().eq_ignore_ascii_case(media_type)
}

/// Names of attributes.
mod field {
    pub(super) const ID: &str = "id";
    pub(super) const SOURCE: &str = "source";
    pub(super) const TYPE: &str = "type";
    pub(super) const SPEC_VERSION: &str = "specversion";
    pub(super) const CONTENT_TYPE: &str = "datacontenttype";
    pub(super) const SUBJECT: &str = "subject";
    pub(super) const TIME: &str = "time";
    pub(super) const TOPIC: &str = "topic";
    pub(super) const BROKER: &str = "pubsubname";
    pub(super) const TRACE_ID: &str = "traceid";
    pub(super) const TRACE_PARENT: &str = "traceparent";
    pub(super) const TRACE_STATE: &str = "tracestate";
    pub(super) const EXPIRATION: &str = "expiration";
    pub(super) const DATA: &str = "data";
    pub(super) const DATA_BASE64: &str = "data_base64";
}

#[cfg(test)]
mod tests;
