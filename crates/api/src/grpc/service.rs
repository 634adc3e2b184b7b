//! The service `Dapr`: one line per method, each through the same door.

use super::{
    Context, invoke, lock, metadata, publish, secrets, state, subscribe, subscribe::Streams,
};
use crate::{
    access_log,
    errors::{Fault, catalogue},
    host::Host,
};
use outrigger_proto::{
    common::v1 as common,
    runtime::v1::{self as pb, dapr_server::Dapr},
};
use outrigger_resources::ApiProtocol;
use std::{future::Future, sync::Arc};
use tonic::{Code, Request, Response, Status, Streaming};

/// A method, as logs and lists know it.
pub(super) struct Rpc {
    /// Its name.
    name: &'static str,
    /// Its path, which is what metrics call it.
    path: &'static str,
    /// The name that allow and deny lists use.
    api: &'static str,
    /// The version that they use.
    version: &'static str,
}

/// A method by its name and that of its API.
macro_rules! rpc {
    ($name:literal, $api:literal) => {
        rpc!($name, $api, "v1")
    };
    ($name:literal, $api:literal, $version:literal) => {
        Rpc {
            name: $name,
            path: concat!("/dapr.proto.runtime.v1.Dapr/", $name),
            api: $api,
            version: $version,
        }
    };
}

/// Serves [`Dapr`] from a host.
pub(crate) struct DaprService {
    pub(super) host: Arc<Host>,
    pub(super) streams: Streams,
}

impl DaprService {
    pub(crate) fn new(host: Arc<Host>, streams: Streams) -> Self {
        Self { host, streams }
    }

    /// Whether the configuration's lists let `rpc` be served. What they do not let is as if it were not there.
    pub(super) fn admit(&self, rpc: &Rpc) -> Result<(), Status> {
        let lists = &self.host.configuration.load().api;
        if lists.permits(rpc.api, rpc.version, ApiProtocol::Grpc) {
            return Ok(());
        }
        Err(Status::unimplemented(format!("{} is not served here", rpc.name)))
    }

    /// One message in, one message out: checks, acts, and counts.
    async fn unary<Q, A, F>(
        &self,
        rpc: Rpc,
        request: Request<Q>,
        act: impl FnOnce(Arc<Host>, Context, Request<Q>) -> F + Send,
    ) -> Result<Response<A>, Status>
    where
        F: Future<Output = Result<Response<A>, Status>> + Send,
        Q: Send,
    {
        let context = Context::of(&request)?;
        let answer = match self.admit(&rpc) {
            Ok(()) => act(Arc::clone(&self.host), context.clone(), request).await,
            Err(status) => Err(status),
        };
        let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
        let message = answer.as_ref().err().map_or("", Status::message);
        let took = context.started.elapsed(&*self.host.world);
        self.host.metrics.grpc_served(rpc.path, code, took);
        access_log::grpc(&self.host, rpc.name, &context, took, code, message);
        answer
    }
}

/// The fault's status, counted under its code.
pub(super) fn failed(host: &Host, category: &'static str, fault: Fault) -> Status {
    host.metrics.failed(category, fault.code());
    fault.into_status()
}

#[tonic::async_trait]
impl Dapr for DaprService {
    async fn invoke_service(
        &self,
        request: Request<pb::InvokeServiceRequest>,
    ) -> Result<Response<common::InvokeResponse>, Status> {
        self.unary(rpc!("InvokeService", "invoke"), request, invoke::service).await
    }

    async fn get_state(
        &self,
        request: Request<pb::GetStateRequest>,
    ) -> Result<Response<pb::GetStateResponse>, Status> {
        self.unary(rpc!("GetState", "state"), request, state::get).await
    }

    async fn get_bulk_state(
        &self,
        request: Request<pb::GetBulkStateRequest>,
    ) -> Result<Response<pb::GetBulkStateResponse>, Status> {
        self.unary(rpc!("GetBulkState", "state"), request, state::get_bulk).await
    }

    async fn save_state(
        &self,
        request: Request<pb::SaveStateRequest>,
    ) -> Result<Response<()>, Status> {
        self.unary(rpc!("SaveState", "state"), request, state::save).await
    }

    async fn query_state_alpha1(
        &self,
        request: Request<pb::QueryStateRequest>,
    ) -> Result<Response<pb::QueryStateResponse>, Status> {
        self.unary(rpc!("QueryStateAlpha1", "state", "v1alpha1"), request, state::query).await
    }

    async fn delete_state(
        &self,
        request: Request<pb::DeleteStateRequest>,
    ) -> Result<Response<()>, Status> {
        self.unary(rpc!("DeleteState", "state"), request, state::delete).await
    }

    async fn delete_bulk_state(
        &self,
        request: Request<pb::DeleteBulkStateRequest>,
    ) -> Result<Response<()>, Status> {
        self.unary(rpc!("DeleteBulkState", "state"), request, state::delete_bulk).await
    }

    async fn execute_state_transaction(
        &self,
        request: Request<pb::ExecuteStateTransactionRequest>,
    ) -> Result<Response<()>, Status> {
        self.unary(rpc!("ExecuteStateTransaction", "state"), request, state::transact).await
    }

    async fn publish_event(
        &self,
        request: Request<pb::PublishEventRequest>,
    ) -> Result<Response<()>, Status> {
        self.unary(rpc!("PublishEvent", "publish"), request, publish::event).await
    }

    async fn bulk_publish_event_alpha1(
        &self,
        request: Request<pb::BulkPublishRequest>,
    ) -> Result<Response<pb::BulkPublishResponse>, Status> {
        self.unary(rpc!("BulkPublishEventAlpha1", "publish", "v1alpha1"), request, publish::bulk)
            .await
    }

    async fn bulk_publish_event(
        &self,
        request: Request<pb::BulkPublishRequest>,
    ) -> Result<Response<pb::BulkPublishResponse>, Status> {
        self.unary(rpc!("BulkPublishEvent", "publish"), request, publish::bulk).await
    }

    type SubscribeTopicEventsAlpha1Stream = subscribe::Events;

    async fn subscribe_topic_events_alpha1(
        &self,
        request: Request<Streaming<pb::SubscribeTopicEventsRequestAlpha1>>,
    ) -> Result<Response<subscribe::Events>, Status> {
        let streams = self.streams.clone();
        let open = |host, context, request| subscribe::open(host, context, streams, request);
        self.unary(rpc!("SubscribeTopicEventsAlpha1", "publish", "v1alpha1"), request, open).await
    }

    async fn try_lock_alpha1(
        &self,
        request: Request<pb::TryLockRequest>,
    ) -> Result<Response<pb::TryLockResponse>, Status> {
        self.unary(rpc!("TryLockAlpha1", "lock", "v1alpha1"), request, lock::take).await
    }

    async fn unlock_alpha1(
        &self,
        request: Request<pb::UnlockRequest>,
    ) -> Result<Response<pb::UnlockResponse>, Status> {
        self.unary(rpc!("UnlockAlpha1", "unlock", "v1alpha1"), request, lock::release).await
    }

    async fn get_secret(
        &self,
        request: Request<pb::GetSecretRequest>,
    ) -> Result<Response<pb::GetSecretResponse>, Status> {
        self.unary(rpc!("GetSecret", "secrets"), request, secrets::get).await
    }

    async fn get_bulk_secret(
        &self,
        request: Request<pb::GetBulkSecretRequest>,
    ) -> Result<Response<pb::GetBulkSecretResponse>, Status> {
        self.unary(rpc!("GetBulkSecret", "secrets"), request, secrets::bulk).await
    }

    async fn get_metadata(
        &self,
        request: Request<pb::GetMetadataRequest>,
    ) -> Result<Response<pb::GetMetadataResponse>, Status> {
        self.unary(rpc!("GetMetadata", "metadata"), request, metadata::get).await
    }

    async fn set_metadata(
        &self,
        request: Request<pb::SetMetadataRequest>,
    ) -> Result<Response<()>, Status> {
        self.unary(rpc!("SetMetadata", "metadata"), request, metadata::set).await
    }

    async fn shutdown(
        &self,
        request: Request<pb::ShutdownRequest>,
    ) -> Result<Response<()>, Status> {
        self.unary(rpc!("Shutdown", "shutdown"), request, metadata::shutdown).await
    }
}

/// A request without the part that says what it is about.
pub(super) fn incomplete(message: &str) -> Fault {
    Fault::new(&catalogue::MALFORMED_REQUEST, message)
}
