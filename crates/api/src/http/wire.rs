//! The JSON that state and publish requests are made of, read strictly: a field of the wrong type is an error, unknown
//! fields are not.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// An item to write: an element of `POST state/{store}`.
#[derive(Debug, Deserialize)]
pub(super) struct StateItem<'a> {
    #[serde(default)]
    pub(super) key: String,
    /// Kept as the client wrote it.
    #[serde(borrow, default)]
    pub(super) value: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) etag: Option<String>,
    #[serde(default)]
    pub(super) metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) options: Option<StateOptions>,
}

/// How an item is written.
#[derive(Debug, Default, Deserialize)]
pub(super) struct StateOptions {
    #[serde(default)]
    pub(super) concurrency: Option<String>,
    #[serde(default)]
    pub(super) consistency: Option<String>,
}

/// `POST state/{store}/bulk`.
#[derive(Debug, Deserialize)]
pub(super) struct BulkGet {
    #[serde(default)]
    pub(super) keys: Option<Vec<String>>,
    /// Read in one snapshot whatever is asked for; only checked for its type.
    #[serde(default, rename = "parallelism")]
    pub(super) _parallelism: Option<i64>,
    #[serde(default, rename = "metadata")]
    pub(super) _metadata: Option<BTreeMap<String, String>>,
}

/// `POST state/{store}/transaction`.
#[derive(Debug, Deserialize)]
pub(super) struct Transaction<'a> {
    #[serde(borrow, default)]
    pub(super) operations: Option<Vec<Operation<'a>>>,
    #[serde(default)]
    pub(super) metadata: Option<BTreeMap<String, String>>,
}

/// One step of a transaction.
#[derive(Debug, Deserialize)]
pub(super) struct Operation<'a> {
    #[serde(default)]
    pub(super) operation: String,
    #[serde(borrow)]
    pub(super) request: StateItem<'a>,
}

/// An element of `POST publish/bulk/{pubsub}/{topic}`.
#[derive(Debug, Deserialize)]
pub(super) struct BulkEntry<'a> {
    #[serde(default, rename = "entryId")]
    pub(super) entry_id: String,
    #[serde(borrow, default)]
    pub(super) event: Option<&'a RawValue>,
    #[serde(default, rename = "contentType")]
    pub(super) content_type: Option<String>,
    #[serde(default)]
    pub(super) metadata: Option<BTreeMap<String, String>>,
}
