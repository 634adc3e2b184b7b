//! Locks over gRPC. What the messages have no field for travels in metadata: the fencing token of a lock that was given.

use super::{Context, service::failed};
use crate::{
    errors::{Fault, catalogue},
    host::Host,
    names,
    operations::lock::{self, Wanted},
};
use outrigger_coordination::Released;
use outrigger_proto::runtime::v1::{self as pb, unlock_response::Status as Unlocked};
use std::{sync::Arc, time::Duration};
use tonic::{Request, Response, Status, metadata::MetadataValue};

pub(super) async fn take(
    host: Arc<Host>,
    context: Context,
    request: Request<pb::TryLockRequest>,
) -> Result<Response<pb::TryLockResponse>, Status> {
    let asked = request.into_inner();
    let answer = async {
        let store = lock::find(&host, &asked.store_name)?;
        let (resource, owner) = names_of(asked.resource_id, asked.lock_owner)?;
        let seconds = u64::try_from(asked.expiry_in_seconds).ok().filter(|seconds| *seconds > 0);
        let ttl = seconds.map(Duration::from_secs).ok_or_else(|| {
            Fault::new(&catalogue::MALFORMED_REQUEST, "expiry_in_seconds is not above 0")
        })?;
        let wanted = Wanted { resource, owner, ttl, ..Wanted::default() };
        lock::take(&host, &store, wanted, context.deadline).await
    };
    let held = answer.await.map_err(|fault| failed(&host, "lock", fault))?;
    let mut response = Response::new(pb::TryLockResponse { success: held.is_some() });
    if let Some(held) = held {
        response.metadata_mut().insert(names::FENCING_TOKEN, MetadataValue::from(held.token));
    }
    Ok(response)
}

pub(super) async fn release(
    host: Arc<Host>,
    context: Context,
    request: Request<pb::UnlockRequest>,
) -> Result<Response<pb::UnlockResponse>, Status> {
    let asked = request.into_inner();
    let answer = async {
        let store = lock::find(&host, &asked.store_name)?;
        let (resource, owner) = names_of(asked.resource_id, asked.lock_owner)?;
        lock::release(&host, &store, (&resource, &owner), None, context.deadline).await
    };
    let status = match answer.await.map_err(|fault| failed(&host, "unlock", fault))? {
        Released::Free | Released::Still { .. } => Unlocked::Success,
        Released::NotHeld => Unlocked::LockDoesNotExist,
        Released::HeldByOthers => Unlocked::LockBelongsToOthers,
    };
    Ok(Response::new(pb::UnlockResponse { status: status.into() }))
}

fn names_of(resource: String, owner: String) -> Result<(String, String), Fault> {
    let missing = |field: &str| {
        Fault::new(&catalogue::MALFORMED_REQUEST, format!("{field} is missing or empty"))
    };
    if resource.is_empty() {
        return Err(missing("resource_id"));
    }
    if owner.is_empty() {
        return Err(missing("lock_owner"));
    }
    Ok((resource, owner))
}
