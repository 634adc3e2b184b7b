//! Metadata and shutdown over gRPC.

use super::{Context, service::failed};
use crate::{
    host::{Host, Shutdown},
    names,
    operations::metadata,
};
use outrigger_proto::runtime::v1 as pb;
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub(super) async fn get(
    host: Arc<Host>,
    _context: Context,
    _request: Request<pb::GetMetadataRequest>,
) -> Result<Response<pb::GetMetadataResponse>, Status> {
    Ok(Response::new(metadata::get(&host)))
}

pub(super) async fn set(
    host: Arc<Host>,
    _context: Context,
    request: Request<pb::SetMetadataRequest>,
) -> Result<Response<()>, Status> {
    let asked = request.into_inner();
    let answer = metadata::set(&host, &asked.key, &asked.value);
    answer.map(Response::new).map_err(|fault| failed(&host, "metadata", fault))
}

pub(super) async fn shutdown(
    host: Arc<Host>,
    _context: Context,
    request: Request<pb::ShutdownRequest>,
) -> Result<Response<()>, Status> {
    let force = request.metadata().get(names::FORCE_SHUTDOWN);
    let force = force.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    host.shut_down(if force { Shutdown::Force } else { Shutdown::Graceful });
    Ok(Response::new(()))
}
