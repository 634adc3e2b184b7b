//! Deliveries to an app that speaks HTTP: one POST per event, the envelope as its body; or one per bulk.

use super::{
    answer::{self, ANSWER_BYTES_MAX, BULK_ANSWER_BYTES_MAX},
    hand_over::{Way, deliver},
    outlet::{Lane, Span},
    portion, reach,
    reading::Event,
};
use crate::{metrics::Served, names, trace::Started};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use outrigger_calls::{AppChannel, Body, CallError, body};
use outrigger_events::{
    Consumer, Delivery, Verdict,
    envelope::{BulkEntry, bulk, fresh_id},
};
use outrigger_kernel::{BoxFuture, Deadline};
use outrigger_resilience::header as context;
use std::{collections::BTreeMap, sync::Arc};

/// What calls that deliver events are counted under; their paths are the app's own, of which there may be any number.
const ROUTE: &str = "subscription";

/// How long an app has for an event before it counts as not handled.
const TIMEOUT_MS: HeaderName = HeaderName::from_static(context::TIMEOUT_MS);

/// An app that takes events by HTTP.
#[derive(Debug)]
pub(crate) struct HttpApp {
    pub(crate) lane: Lane,
    pub(crate) channel: Arc<AppChannel>,
    /// Whether events come several at a time.
    pub(crate) bulk: bool,
}

/// What is posted.
struct Letter<'a> {
    path: &'a str,
    headers: HeaderMap,
    content_type: &'static str,
    content: Bytes,
    due: Deadline,
    answer_bytes_max: usize,
}

/// What an app answered.
struct Answer {
    status: StatusCode,
    content: Bytes,
}

impl Consumer for HttpApp {
    fn deliver(&self, batch: Vec<Delivery>) -> BoxFuture<'_, Vec<Verdict>> {
        Box::pin(deliver(self, batch))
    }
}

impl Way for HttpApp {
    type Letter = ();

    fn lane(&self) -> &Lane {
        &self.lane
    }

    fn bulk(&self) -> bool {
        self.bulk
    }

    fn write(&self, _event: &Event) -> Result<(), String> {
        // The envelope goes as it is.
        Ok(())
    }

    async fn hand(&self, event: &Event, (): (), span: &Span, due: Deadline) -> Verdict {
        let answer = self.post(Letter {
            path: &event.path,
            headers: span.headers(&self.lane, &event.delivery.metadata),
            content_type: names::CLOUD_EVENT_JSON,
            content: event.json.clone(),
            due,
            answer_bytes_max: ANSWER_BYTES_MAX,
        });
        match answer.await {
            Ok(Answer { status, content }) => {
                answer::of_http(status, &content, self.lane.matching.as_ref())
            }
            Err(error) => Verdict::retry(error.to_string()),
        }
    }

    async fn hand_all(
        &self,
        path: &str,
        events: &[Event],
        span: &Span,
        due: Deadline,
    ) -> Vec<Verdict> {
        let answer = self.post(Letter {
            path,
            headers: span.headers(&self.lane, &BTreeMap::new()),
            // Not that of one event: clients' libraries would try to unwrap it.
            content_type: names::JSON,
            content: self.written(events),
            due,
            answer_bytes_max: BULK_ANSWER_BYTES_MAX,
        });
        let ids = portion::ids(events);
        match answer.await {
            Ok(Answer { status, content }) => {
                answer::of_http_bulk(status, &content, &ids, self.lane.matching.as_ref())
            }
            Err(error) => vec![Verdict::retry(error.to_string()); ids.len()],
        }
    }
}

impl HttpApp {
    fn written(&self, events: &[Event]) -> Bytes {
        let entry = |event: &Event| {
            let (bytes, content_type) = event.published();
            BulkEntry {
                entry_id: event.entry_id.clone(),
                event: bytes.clone(),
                content_type: content_type.to_owned(),
                metadata: event.delivery.metadata.clone(),
            }
        };
        let entries: Vec<BulkEntry> = events.iter().map(entry).collect();
        let (id, metadata) = (fresh_id(self.lane.world()), portion::metadata(&self.lane));
        let Lane { topic, pubsub, .. } = &self.lane;
        bulk(&id, names::BULK_EVENT_TYPE, topic, pubsub, &metadata, &entries)
    }

    async fn post(&self, letter: Letter<'_>) -> Result<Answer, CallError> {
        let started = Started::now(self.lane.world());
        let send = || {
            let mut request = letter.request();
            let left = letter.due.remaining(self.lane.world().mono()).as_millis();
            let left = HeaderValue::from(u64::try_from(left).unwrap_or(u64::MAX));
            request.headers_mut().insert(TIMEOUT_MS, left);
            self.channel.send(request, letter.due)
        };
        let response = reach::until_seen(&self.lane, letter.due, send, reach::is_away).await?;
        let status = response.status();
        let content = body::collect(response.into_body(), letter.answer_bytes_max).await;
        let content = match content {
            Ok(content) => content,
            // An answer this long is not a status; it says as little as none.
            Err(body::CollectError::TooLong { .. }) => Bytes::new(),
            Err(body::CollectError::Broken(source)) => {
                let target = format!("{:?}", self.channel);
                return Err(CallError::Broken { target, nothing_sent: false, source });
            }
        };
        self.lane.outlet.metrics.app_called(&Served {
            method: &Method::POST,
            path: ROUTE,
            status,
            request_bytes: u64::try_from(letter.content.len()).ok(),
            response_bytes: u64::try_from(content.len()).ok(),
            took: started.elapsed(self.lane.world()),
        });
        Ok(Answer { status, content })
    }
}

impl Letter<'_> {
    fn request(&self) -> Request<Body> {
        let mut request = Request::new(body::full(self.content.clone()));
        *request.method_mut() = Method::POST;
        // The path was tried when the subscription was made.
        *request.uri_mut() = self.path.parse().unwrap_or_default();
        *request.headers_mut() = self.headers.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(self.content.len()));
        request
    }
}
