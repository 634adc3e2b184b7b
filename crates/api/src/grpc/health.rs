//! `grpc.health.v1`: the standard way to ask a gRPC server how it is.

use crate::host::Host;
use futures_util::{Stream, StreamExt};
use std::{pin::Pin, sync::Arc};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health,
};

/// The name of our own service; the empty name stands for the process.
const DAPR: &str = "dapr.proto.runtime.v1.Dapr";

/// Answers from the host's switches.
#[derive(Clone)]
pub(super) struct HealthService {
    host: Arc<Host>,
}

impl HealthService {
    pub(super) fn new(host: Arc<Host>) -> Self {
        Self { host }
    }
}

fn answer(serving: bool) -> HealthCheckResponse {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match request.into_inner().service.as_str() {
            "" => Ok(Response::new(answer(self.host.health.is_ready()))),
            DAPR => Ok(Response::new(answer(self.host.health.is_outbound_ready()))),
            other => Err(Status::not_found(format!("there is no service {other:?}"))),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let states = WatchStream::new(self.host.health.changes());
        let stream = states.map(move |(ready, outbound)| {
            Ok(match service.as_str() {
                "" => answer(ready),
                DAPR => answer(outbound),
                _ => HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() },
            })
        });
        Ok(Response::new(Box::pin(stream)))
    }
}
