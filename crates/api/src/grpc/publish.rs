//! Publishing over gRPC.

use super::{Context, service::failed};
use crate::{
    errors::{Fault, catalogue},
    host::Host,
    operations::publish::{self, Event},
};
use outrigger_proto::runtime::v1 as pb;
use std::{collections::HashSet, sync::Arc};
use tonic::{Request, Response, Status};

pub(super) async fn event(
    host: Arc<Host>,
    context: Context,
    request: Request<pb::PublishEventRequest>,
) -> Result<Response<()>, Status> {
    let asked = request.into_inner();
    let answer = async {
        let place = publish::find(&host, &asked.pubsub_name, &asked.topic)?;
        let event = Event {
            data: asked.data,
            content_type: asked.data_content_type,
            metadata: asked.metadata,
        };
        publish::one(&host, &place, event, &context.trace, context.deadline).await
    };
    answer.await.map(Response::new).map_err(|fault| failed(&host, "pubsub", fault))
}

pub(super) async fn bulk(
    host: Arc<Host>,
    context: Context,
    request: Request<pb::BulkPublishRequest>,
) -> Result<Response<pb::BulkPublishResponse>, Status> {
    let asked = request.into_inner();
    let answer = async {
        let place = publish::find(&host, &asked.pubsub_name, &asked.topic)?;
        let mut seen = HashSet::new();
        let mut events = Vec::with_capacity(asked.entries.len());
        for entry in asked.entries {
            let id = entry.entry_id;
            if id.is_empty() || !seen.insert(id.clone()) {
                let message = format!("entry id {id:?} is missing or not unique");
                let fault = Fault::new(&catalogue::PUBSUB_MARSHAL_EVENTS, message);
                return Err(fault.about("pubsub", &place.component.name, true));
            }
            let mut metadata = asked.metadata.clone();
            metadata.extend(entry.metadata);
            let (data, content_type) = (entry.event, entry.content_type);
            events.push(Event { data, content_type, metadata });
        }
        publish::bulk(&host, &place, events, &context.trace, context.deadline).await
    };
    // All or nothing: there is never a part that failed to report.
    let answer = answer.await.map_err(|fault| failed(&host, "pubsub", fault));
    answer.map(|()| Response::new(pb::BulkPublishResponse::default()))
}
