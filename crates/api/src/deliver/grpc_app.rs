//! Deliveries to an app that speaks gRPC: `OnTopicEvent`, or `OnBulkTopicEvent` under its present or its older name.

use super::{
    answer::{self, BULK_ANSWER_BYTES_MAX},
    grpc_wire::{bulk_entry, topic_event},
    hand_over::{Way, deliver},
    outlet::{Lane, Span},
    portion, reach,
    reading::Event,
};
use crate::{
    grpc::callback::{AppService, call_error},
    names,
    trace::Started,
};
use http::HeaderMap;
use outrigger_calls::AppChannel;
use outrigger_events::{Consumer, Delivery, Verdict, envelope::fresh_id};
use outrigger_kernel::{BoxFuture, Deadline};
use outrigger_proto::runtime::v1::{
    self as pb, app_callback_alpha_client::AppCallbackAlphaClient,
    app_callback_client::AppCallbackClient,
};
use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tonic::{Code, Request, Status, metadata::MetadataMap};

/// An app that takes events by gRPC.
#[derive(Debug)]
pub(crate) struct GrpcApp {
    lane: Lane,
    channel: Arc<AppChannel>,
    bulk: bool,
    /// Whether the app knows bulk deliveries by their older name only.
    older: AtomicBool,
}

impl Consumer for GrpcApp {
    fn deliver(&self, batch: Vec<Delivery>) -> BoxFuture<'_, Vec<Verdict>> {
        Box::pin(deliver(self, batch))
    }
}

impl Way for GrpcApp {
    type Letter = pb::TopicEventRequest;

    fn lane(&self) -> &Lane {
        &self.lane
    }

    fn bulk(&self) -> bool {
        self.bulk
    }

    fn write(&self, event: &Event) -> Result<pb::TopicEventRequest, String> {
        topic_event(event, &self.lane.pubsub)
    }

    async fn hand(
        &self,
        event: &Event,
        message: pb::TopicEventRequest,
        span: &Span,
        due: Deadline,
    ) -> Verdict {
        let headers = span.headers(&self.lane, &event.delivery.metadata);
        match self.send(&message, &headers, due).await {
            Ok(answer) => answer::of_grpc(answer.status),
            Err(status) => self.failed(&status),
        }
    }

    async fn hand_all(
        &self,
        path: &str,
        events: &[Event],
        span: &Span,
        due: Deadline,
    ) -> Vec<Verdict> {
        let headers = span.headers(&self.lane, &BTreeMap::new());
        let (mut entries, mut unfit) = (Vec::with_capacity(events.len()), HashMap::new());
        for event in events {
            match bulk_entry(event) {
                Ok(entry) => entries.push(entry),
                Err(reason) => {
                    unfit.insert(event.entry_id.as_str(), Verdict::drop(reason));
                }
            }
        }
        let message = pb::TopicEventBulkRequest {
            id: fresh_id(self.lane.world()),
            entries,
            metadata: portion::metadata(&self.lane),
            topic: self.lane.topic.to_string(),
            pubsub_name: self.lane.pubsub.to_string(),
            r#type: names::BULK_EVENT_TYPE.to_owned(),
            path: path.to_owned(),
        };
        let ids = portion::ids(events);
        let mut verdicts = match self.call_bulk(&message, &headers, due).await {
            Ok(answer) => answer::of_grpc_bulk(answer, &ids),
            Err(status) => vec![self.failed(&status); ids.len()],
        };
        for (id, verdict) in ids.iter().zip(&mut verdicts) {
            if let Some(known) = unfit.remove(id.as_str()) {
                *verdict = known;
            }
        }
        verdicts
    }
}

impl GrpcApp {
    pub(crate) fn new(lane: Lane, channel: Arc<AppChannel>, bulk: bool) -> Self {
        Self { lane, channel, bulk, older: AtomicBool::new(false) }
    }

    async fn send(
        &self,
        message: &pb::TopicEventRequest,
        headers: &HeaderMap,
        due: Deadline,
    ) -> Result<pb::TopicEventResponse, Status> {
        let make = || {
            let (request, service) = self.prepare(message, headers, due);
            async move {
                Ok(AppCallbackClient::new(service).on_topic_event(request).await?.into_inner())
            }
        };
        self.call("OnTopicEvent", due, make).await
    }

    /// Calls the present name, and the older one where the app does not know that.
    async fn call_bulk(
        &self,
        message: &pb::TopicEventBulkRequest,
        headers: &HeaderMap,
        due: Deadline,
    ) -> Result<pb::TopicEventBulkResponse, Status> {
        if !self.older.load(Ordering::Relaxed) {
            let make = || {
                let (request, service) = self.prepare(message, headers, due);
                let client = AppCallbackClient::new(service);
                let mut client = client.max_decoding_message_size(BULK_ANSWER_BYTES_MAX);
                async move { Ok(client.on_bulk_topic_event(request).await?.into_inner()) }
            };
            match self.call("OnBulkTopicEvent", due, make).await {
                Err(status) if status.code() == Code::Unimplemented => {}
                answer => return answer,
            }
        }
        let make = || {
            let (request, service) = self.prepare(message, headers, due);
            let client = AppCallbackAlphaClient::new(service);
            let mut client = client.max_decoding_message_size(BULK_ANSWER_BYTES_MAX);
            #[expect(deprecated, reason = "apps on older SDKs know no other name")]
            async move {
                Ok(client.on_bulk_topic_event_alpha1(request).await?.into_inner())
            }
        };
        let answer = self.call("OnBulkTopicEventAlpha1", due, make).await;
        self.older.store(answer.is_ok(), Ordering::Relaxed);
        answer
    }

    fn prepare<T: Clone>(
        &self,
        message: &T,
        headers: &HeaderMap,
        due: Deadline,
    ) -> (Request<T>, AppService) {
        let mut request = Request::new(message.clone());
        *request.metadata_mut() = MetadataMap::from_headers(headers.clone());
        request.set_timeout(due.remaining(self.lane.world().mono()));
        (request, AppService::new(&self.channel, due))
    }

    /// Makes a call, patient with an app that is away, and counts it.
    async fn call<T, F>(
        &self,
        method: &'static str,
        due: Deadline,
        make: impl FnMut() -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let started = Started::now(self.lane.world());
        let unseen = |status: &Status| call_error(status).is_some_and(reach::is_away);
        let answer = reach::until_seen(&self.lane, due, make, unseen).await;
        let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
        let took = started.elapsed(self.lane.world());
        self.lane.outlet.metrics.grpc_called(method, code, took);
        answer
    }

    fn failed(&self, status: &Status) -> Verdict {
        match call_error(status) {
            Some(error) => Verdict::retry(error.to_string()),
            None => answer::of_grpc_error(status, self.lane.matching.as_ref()),
        }
    }
}
