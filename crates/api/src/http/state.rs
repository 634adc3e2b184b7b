//! State over HTTP.

use super::{Exchange, Reply, RequestBody, wire};
use crate::{
    errors::{Fault, catalogue},
    names,
    operations::{
        lock,
        state::{self, Verb, Write},
    },
};
use bytes::Bytes;
use http::{StatusCode, header};
use outrigger_state::Item;
use serde::Serialize;
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap};

/// `GET state/{store}/{key}`
pub(super) async fn get(x: &Exchange<'_>, store: &str, key: &str) -> Result<Reply, Fault> {
    let store = state::find(x.host, store)?;
    if let Some(consistency) = x.query.get("consistency") {
        check_consistency(Some(&consistency))?;
    }
    let Some(item) = state::get(x.host, &store, key, x.deadline).await? else {
        return Ok(Reply::empty());
    };
    let metadata = state::answer_metadata(&item);
    let mut reply = Reply::data(item.data, item.content_type.as_deref());
    reply.header(header::ETAG, &item.etag);
    reply.metadata(&metadata);
    Ok(reply)
}

/// `DELETE state/{store}/{key}`
pub(super) async fn delete(x: &Exchange<'_>, store: &str, key: &str) -> Result<Reply, Fault> {
    let store = state::find(x.host, store)?;
    let mut tags = x.parts.headers.get_all(header::IF_MATCH).iter();
    let etag = tags.next().map(|value| {
        value.to_str().map(ToOwned::to_owned).map_err(|_| malformed("If-Match is not text"))
    });
    if tags.next().is_some() {
        return Err(malformed("If-Match is given more than once"));
    }
    check_consistency(x.query.get("consistency").as_deref())?;
    let write = Write {
        key: key.to_owned(),
        etag: etag.transpose()?,
        first_write: first_write(x.query.get("concurrency").as_deref())?,
        metadata: x.metadata(),
        ..Write::default()
    };
    let fences = lock::fences(x.host, &x.parts.headers)?;
    state::apply(x.host, &store, Verb::Delete, vec![write], fences, x.deadline).await?;
    Ok(Reply::empty())
}

/// `POST state/{store}`
pub(super) async fn save(x: &Exchange<'_>, store: &str, body: RequestBody) -> Result<Reply, Fault> {
    let store = state::find(x.host, store)?;
    let body = x.read(body).await?;
    let items: Vec<wire::StateItem<'_>> = parse(&body)?;
    let metadata = x.metadata();
    let writes = items
        .into_iter()
        .map(|item| upsert(item, &body, &metadata))
        .collect::<Result<Vec<Write>, Fault>>()?;
    let fences = lock::fences(x.host, &x.parts.headers)?;
    state::apply(x.host, &store, Verb::Save, writes, fences, x.deadline).await?;
    Ok(Reply::empty())
}

/// `POST state/{store}/transaction`
pub(super) async fn transact(
    x: &Exchange<'_>,
    store: &str,
    body: RequestBody,
) -> Result<Reply, Fault> {
    let store = state::find(x.host, store)?;
    let body = x.read(body).await?;
    let transaction: wire::Transaction<'_> = parse(&body)?;
    let mut metadata = transaction.metadata.unwrap_or_default();
    metadata.extend(x.metadata());
    let mut writes = Vec::new();
    for operation in transaction.operations.unwrap_or_default() {
        let request = operation.request.unwrap_or_default();
        writes.push(match operation.operation.as_deref().unwrap_or_default() {
            "upsert" => upsert(request, &body, &metadata)?,
            "delete" => Write { value: None, ..upsert(request, &body, &metadata)? },
            other => {
                let message = format!("operation type {other} is not supported");
                return Err(Fault::new(&catalogue::STATE_OPERATION, message));
            }
        });
    }
    let fences = lock::fences(x.host, &x.parts.headers)?;
    state::apply(x.host, &store, Verb::Transact, writes, fences, x.deadline).await?;
    Ok(Reply::empty())
}

/// `POST state/{store}/bulk`
pub(super) async fn bulk_get(
    x: &Exchange<'_>,
    store: &str,
    body: RequestBody,
) -> Result<Reply, Fault> {
    let store = state::find(x.host, store)?;
    let body = x.read(body).await?;
    let asked: wire::BulkGet = parse(&body)?;
    let keys = asked.keys.unwrap_or_default();
    let items = state::get_many(x.host, &store, &keys, x.deadline).await?;
    let rows: Vec<BulkRow<'_>> =
        keys.iter().zip(&items).map(|(key, item)| bulk_row(key, item.as_ref())).collect();
    let body = serde_json::to_vec(&rows).map_err(|error| {
        Fault::new(&catalogue::STATE_BULK_GET, format!("could not write the answer: {error}"))
    })?;
    Ok(Reply::json(StatusCode::OK, body.into()))
}

/// `POST state/{store}/query`
pub(super) fn query(x: &Exchange<'_>, store: &str) -> Result<Reply, Fault> {
    let store = state::find(x.host, store)?;
    let message = "state store does not support querying";
    Err(Fault::new(&catalogue::STATE_NO_QUERIES, message).about("state", &store.name, false))
}

#[derive(Serialize)]
struct BulkRow<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Embedded<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
}

/// A stored value inside a JSON answer: as it is when it is JSON, else as a string.
#[derive(Serialize)]
#[serde(untagged)]
enum Embedded<'a> {
    Json(&'a RawValue),
    Text(Cow<'a, str>),
}

fn bulk_row<'a>(key: &'a str, item: Option<&'a Item>) -> BulkRow<'a> {
    let Some(item) = item else {
        return BulkRow { key, data: None, etag: None, metadata: BTreeMap::new() };
    };
    let metadata = state::answer_metadata(item);
    BulkRow { key, data: Some(embedded(&item.data)), etag: Some(&item.etag), metadata }
}

fn embedded(data: &Bytes) -> Embedded<'_> {
    if let Ok(json) = serde_json::from_slice::<&RawValue>(data) {
        return Embedded::Json(json);
    }
    match std::str::from_utf8(data) {
        Ok(text) => Embedded::Text(Cow::Borrowed(text)),
        Err(_) => {
            use base64::{Engine, engine::general_purpose::STANDARD};
            Embedded::Text(Cow::Owned(STANDARD.encode(data)))
        }
    }
}

/// The change that an `item` of `body` asks for.
fn upsert(
    item: wire::StateItem<'_>,
    body: &Bytes,
    metadata: &BTreeMap<String, String>,
) -> Result<Write, Fault> {
    let Some(key) = item.key.filter(|key| !key.is_empty()) else {
        return Err(malformed("\"key\" is a required field"));
    };
    let options = item.options.unwrap_or_default();
    check_consistency(options.consistency.as_deref())?;
    let mut own = item.metadata.unwrap_or_default();
    own.extend(metadata.iter().map(|(name, value)| (name.clone(), value.clone())));
    let value = item.value.map(|value| body.slice_ref(value.get().as_bytes()));
    Ok(Write {
        key,
        value: Some(value.unwrap_or(Bytes::from_static(b"null"))),
        content_type: Some(names::JSON.to_owned()),
        etag: item.etag,
        first_write: first_write(options.concurrency.as_deref())?,
        metadata: own,
    })
}

fn first_write(concurrency: Option<&str>) -> Result<bool, Fault> {
    match concurrency {
        None | Some("" | "last-write") => Ok(false),
        Some("first-write") => Ok(true),
        Some(other) => {
            Err(malformed(&format!("concurrency is first-write or last-write, not {other:?}")))
        }
    }
}

/// Every store here is strongly consistent, so the wish is always granted; it still has to be one of the two.
fn check_consistency(consistency: Option<&str>) -> Result<(), Fault> {
    match consistency {
        None | Some("" | "strong" | "eventual") => Ok(()),
        Some(other) => Err(malformed(&format!("consistency is strong or eventual, not {other:?}"))),
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Fault> {
    serde_json::from_slice(body)
        .map_err(|error| malformed(&format!("could not read the request body: {error}")))
}

fn malformed(message: &str) -> Fault {
    Fault::new(&catalogue::MALFORMED_REQUEST, message)
}
