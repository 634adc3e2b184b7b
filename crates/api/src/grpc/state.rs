//! State over gRPC.

use super::{
    Context,
    service::{failed, incomplete},
};
use crate::{
    errors::{Fault, catalogue},
    host::Host,
    names,
    operations::{
        lock,
        state::{self, Verb, Write},
    },
};
use bytes::Bytes;
use outrigger_events::envelope::is_content_type;
use outrigger_proto::{
    common::v1::{StateItem, StateOptions, state_options::StateConcurrency},
    runtime::v1 as pb,
};
use serde::de::IgnoredAny;
use std::{collections::BTreeMap, sync::Arc};
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

pub(super) async fn get(
    host: Arc<Host>,
    context: Context,
    request: Request<pb::GetStateRequest>,
) -> Answer<pb::GetStateResponse> {
    let asked = request.into_inner();
    let answer = async {
        let store = state::find(&host, &asked.store_name)?;
        state::get(&host, &store, &asked.key, context.deadline).await
    };
    let item = answer.await.map_err(|fault| failed(&host, "state", fault))?;
    Ok(Response::new(item.map_or_else(pb::GetStateResponse::default, |item| {
        let metadata = state::answer_metadata(&item);
        pb::GetStateResponse { data: item.data, etag: item.etag, metadata }
    })))
}

pub(super) async fn get_bulk(
    host: Arc<Host>,
    context: Context,
    request: Request<pb::GetBulkStateRequest>,
) -> Answer<pb::GetBulkStateResponse> {
    let asked = request.into_inner();
    let answer = async {
        let store = state::find(&host, &asked.store_name)?;
        state::get_many(&host, &store, &asked.keys, context.deadline).await
    };
    let found = answer.await.map_err(|fault| failed(&host, "state", fault))?;
    let items = asked.keys.into_iter().zip(found).map(|(key, item)| match item {
        None => pb::BulkStateItem { key, ..pb::BulkStateItem::default() },
        Some(item) => {
            let metadata = state::answer_metadata(&item);
            let error = String::new();
            pb::BulkStateItem { key, data: item.data, etag: item.etag, error, metadata }
        }
    });
    Ok(Response::new(pb::GetBulkStateResponse { items: items.collect() }))
}

pub(super) async fn save(
    host: Arc<Host>,
    context: Context,
    request: Request<pb::SaveStateRequest>,
) -> Answer<()> {
    let headers = request.metadata().clone().into_headers();
    let asked = request.into_inner();
    let answer = async {
        let store = state::find(&host, &asked.store_name)?;
        let writes = asked.states.into_iter().map(upsert).collect::<Result<_, Fault>>()?;
        let fences = lock::fences(&host, &headers)?;
        state::apply(&host, &store, Verb::Save, writes, fences, context.deadline).await
    };
    finish(&host, answer.await)
}

pub(super) async fn delete(
    host: Arc<Host>,
    context: Context,
    request: Request<pb::DeleteStateRequest>,
) -> Answer<()> {
    let headers = request.metadata().clone().into_headers();
    let asked = request.into_inner();
    let answer = async {
        let store = state::find(&host, &asked.store_name)?;
        let write = Write {
            key: asked.key,
            etag: asked.etag.map(|etag| etag.value),
            first_write: first_write(asked.options.as_ref()),
            metadata: asked.metadata,
            ..Write::default()
        };
        let fences = lock::fences(&host, &headers)?;
        state::apply(&host, &store, Verb::Delete, vec![write], fences, context.deadline).await
    };
    finish(&host, answer.await)
}

pub(super) async fn delete_bulk(
    host: Arc<Host>,
    context: Context,
    request: Request<pb::DeleteBulkStateRequest>,
) -> Answer<()> {
    let headers = request.metadata().clone().into_headers();
    let asked = request.into_inner();
    let answer = async {
        let store = state::find(&host, &asked.store_name)?;
        let writes = asked.states.into_iter().map(removal).collect();
        let fences = lock::fences(&host, &headers)?;
        state::apply(&host, &store, Verb::BulkDelete, writes, fences, context.deadline).await
    };
    finish(&host, answer.await)
}

pub(super) async fn transact(
    host: Arc<Host>,
    context: Context,
    request: Request<pb::ExecuteStateTransactionRequest>,
) -> Answer<()> {
    let headers = request.metadata().clone().into_headers();
    let asked = request.into_inner();
    let answer = async {
        let store = state::find(&host, &asked.store_name)?;
        let writes = asked
            .operations
            .into_iter()
            .map(|operation| step(operation, &asked.metadata))
            .collect::<Result<_, Fault>>()?;
        let fences = lock::fences(&host, &headers)?;
        state::apply(&host, &store, Verb::Transact, writes, fences, context.deadline).await
    };
    finish(&host, answer.await)
}

pub(super) async fn query(
    host: Arc<Host>,
    _context: Context,
    request: Request<pb::QueryStateRequest>,
) -> Answer<pb::QueryStateResponse> {
    let asked = request.into_inner();
    let fault = match state::find(&host, &asked.store_name) {
        Err(fault) => fault,
        Ok(store) => {
            let message = "state store does not support querying";
            Fault::new(&catalogue::STATE_NO_QUERIES, message).about("state", &store.name, false)
        }
    };
    Err(failed(&host, "state", fault))
}

fn finish(host: &Host, answer: Result<(), Fault>) -> Answer<()> {
    answer.map(Response::new).map_err(|fault| failed(host, "state", fault))
}

fn step(
    operation: pb::TransactionalStateOperation,
    metadata: &BTreeMap<String, String>,
) -> Result<Write, Fault> {
    let item = operation.request.ok_or_else(|| incomplete("an operation has no request"))?;
    let mut write = match operation.operation_type.as_str() {
        "upsert" => upsert(item)?,
        "delete" => removal(item),
        other => {
            let message = format!("operation type {other} is not supported");
            return Err(Fault::new(&catalogue::STATE_OPERATION, message));
        }
    };
    for (name, value) in metadata {
        write.metadata.entry(name.clone()).or_insert_with(|| value.clone());
    }
    Ok(write)
}

fn upsert(item: StateItem) -> Result<Write, Fault> {
    let content_type = content_type(&item.metadata);
    // Bytes said to be JSON have to be: an HTTP client will be handed them as such.
    if content_type.as_deref().is_some_and(|given| is_content_type(given, names::JSON))
        && let Err(error) = serde_json::from_slice::<IgnoredAny>(&item.value)
    {
        let message =
            format!("the value of key {} is said to be JSON and is not: {error}", item.key);
        return Err(Fault::new(&catalogue::MALFORMED_REQUEST, message));
    }
    let first_write = first_write(item.options.as_ref());
    let etag = item.etag.map(|etag| etag.value);
    let StateItem { key, value, metadata, .. } = item;
    Ok(Write { key, value: Some(value), content_type, etag, first_write, metadata })
}

fn removal(item: StateItem) -> Write {
    Write {
        first_write: first_write(item.options.as_ref()),
        key: item.key,
        value: None::<Bytes>,
        content_type: None,
        etag: item.etag.map(|etag| etag.value),
        metadata: item.metadata,
    }
}

fn content_type(metadata: &BTreeMap<String, String>) -> Option<String> {
    let named = |key: &&String| key.eq_ignore_ascii_case(names::CONTENT_TYPE);
    let key = metadata.keys().find(named)?;
    metadata.get(key).filter(|value| !value.is_empty()).cloned()
}

fn first_write(options: Option<&StateOptions>) -> bool {
    options.is_some_and(|options| options.concurrency() == StateConcurrency::ConcurrencyFirstWrite)
}
