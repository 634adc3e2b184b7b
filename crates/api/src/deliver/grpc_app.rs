//! Deliveries to an app that speaks gRPC: `OnTopicEvent`, or `OnBulkTopicEvent` under its present or its older name.

use super::{
    answer::{self, BULK_ANSWER_BYTES_MAX},
    grpc_wire::{AppService, bulk_entry, call_error, topic_event},
    outlet::{Lane, TOO_LATE},
    portion, reach,
    reading::Event,
};
use crate::{names, trace::Started};
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
        Box::pin(async move {
            if self.bulk {
                return self.all(batch).await;
            }
            let mut verdicts = Vec::with_capacity(batch.len());
            for delivery in batch {
                verdicts.push(self.one(delivery).await);
            }
            verdicts
        })
    }
}

impl GrpcApp {
    pub(crate) fn new(lane: Lane, channel: Arc<AppChannel>, bulk: bool) -> Self {
        Self { lane, channel, bulk, older: AtomicBool::new(false) }
    }

    async fn one(&self, delivery: Delivery) -> Verdict {
        let opened = self.lane.open(delivery).and_then(|event| {
            let message = topic_event(&event, &self.lane.pubsub).map_err(Verdict::drop)?;
            Ok((event, message))
        });
        let (event, message) = match opened {
            Ok(opened) => opened,
            Err(verdict) => {
                self.lane.refuse();
                return verdict;
            }
        };
        let span = self.lane.begin(&event);
        let headers = span.headers(&self.lane, &event.delivery.metadata);
        let due = self.lane.due(event.delivery.deadline);
        let answer = self.send(&message, &headers, due);
        let verdict = match self.lane.in_time(due, answer).await {
            Some(Ok(answer)) => answer::of_grpc(answer.status),
            Some(Err(status)) => self.failed(&status),
            None => Verdict::retry(TOO_LATE),
        };
        self.lane.end(span, &verdict);
        verdict
    }

    async fn all(&self, batch: Vec<Delivery>) -> Vec<Verdict> {
        let mut portions = portion::sort(&self.lane, batch);
        while let Some((path, events)) = portions.next() {
            let verdicts = self.send_bulk(&path, &events).await;
            portions.judge(verdicts);
        }
        portions.finish()
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

    async fn send_bulk(&self, path: &str, events: &[Event]) -> Vec<Verdict> {
        let Some(deadline) = portion::deadline(events) else { return Vec::new() };
        let span = self.lane.begin_bulk(events);
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
        let due = self.lane.due(deadline);
        let answer = self.call_bulk(&message, &headers, due);
        let mut verdicts = match self.lane.in_time(due, answer).await {
            Some(Ok(answer)) => answer::of_grpc_bulk(answer, &ids),
            Some(Err(status)) => vec![self.failed(&status); ids.len()],
            None => vec![Verdict::retry(TOO_LATE); ids.len()],
        };
        for (id, verdict) in ids.iter().zip(&mut verdicts) {
            if let Some(known) = unfit.remove(id.as_str()) {
                *verdict = known;
            }
        }
        self.lane.end_bulk(span, &verdicts);
        verdicts
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
        (request, AppService { channel: Arc::clone(&self.channel), deadline: due })
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
