//! Secrets over gRPC.

use super::{Context, service::failed};
use crate::{host::Host, operations::secrets};
use outrigger_proto::runtime::v1 as pb;
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub(super) async fn get(
    host: Arc<Host>,
    _context: Context,
    request: Request<pb::GetSecretRequest>,
) -> Result<Response<pb::GetSecretResponse>, Status> {
    let asked = request.into_inner();
    let answer = secrets::get(&host, &asked.store_name, &asked.key).await;
    let data = answer.map_err(|fault| failed(&host, "secrets", fault))?;
    Ok(Response::new(pb::GetSecretResponse { data }))
}

pub(super) async fn bulk(
    host: Arc<Host>,
    _context: Context,
    request: Request<pb::GetBulkSecretRequest>,
) -> Result<Response<pb::GetBulkSecretResponse>, Status> {
    let asked = request.into_inner();
    let answer = secrets::bulk(&host, &asked.store_name).await;
    let all = answer.map_err(|fault| failed(&host, "secrets", fault))?;
    let data =
        all.into_iter().map(|(name, secrets)| (name, pb::SecretResponse { secrets })).collect();
    Ok(Response::new(pb::GetBulkSecretResponse { data }))
}
