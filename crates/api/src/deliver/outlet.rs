//! What every way out needs: whose it is, through which channel, and where numbers and spans go.

use super::reading::{Event, Reading};
use crate::{
    components::PubsubComponent,
    metrics::{AppMetrics, Outcome, policies::Direction},
    trace::{AttributeValue, FinishedSpan, SpanKind, SpanStatus, Started, TelemetrySink, Trace},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use outrigger_calls::AppChannel;
use outrigger_events::{Delivery, Verdict};
use outrigger_kernel::{Deadline, TraceContext, World, within};
use outrigger_resilience::{Breaker, BreakerWatch, Matching, Open, Part, Permit, Policy, Watch};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Most bytes of message metadata that go along as headers: servers refuse requests whose headers are too long.
const METADATA_BYTES_MAX: usize = 4 * 1024;
/// How long before the dispatcher we give up on the app, at most.
const MARGIN_MAX: Duration = Duration::from_millis(100);
/// How often to look whether a half-open breaker has room for another.
const PROBING_PAUSE: Duration = Duration::from_millis(100);
/// What is said of an app that takes too long.
pub(crate) const TOO_LATE: &str = "the app did not answer in time";

/// An app, as deliveries see it.
#[derive(Clone)]
pub struct Outlet {
    /// The app's id.
    pub app_id: Arc<str>,
    /// The world.
    pub world: Arc<dyn World>,
    /// The way to the app; `None` for one that has no port, which can only open streams.
    pub app: Option<Arc<AppChannel>>,
    /// Where numbers go.
    pub metrics: AppMetrics,
    /// Where spans go.
    pub telemetry: Arc<dyn TelemetrySink>,
    /// The share of new traces that is recorded, for events that come without one.
    pub sampling_rate: f64,
    /// Whether the app is asked for its subscriptions.
    pub ask_for_subscriptions: bool,
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outlet({})", self.app_id)
    }
}

/// What the consumers of one subscription share.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) outlet: Outlet,
    pub(crate) pubsub: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) reading: Reading,
    /// Statuses that the policy retries; `None` for all.
    pub(crate) matching: Option<Matching>,
    /// What leaves an app alone that fails too often.
    pub(crate) breaker: Option<Breaker>,
    /// What the policy holds against every delivery, and who counts it; `None` where there is no policy.
    pub(crate) watch: Option<Watched>,
    /// Set once the subscription is leaving: from then on nobody waits for an app that is away.
    pub(crate) leaving: CancellationToken,
}

/// Who counts what the policy of a subscription does.
#[derive(Debug)]
pub(crate) struct Watched {
    watch: Arc<dyn Watch>,
    timeout: bool,
    retry: bool,
}

impl Watched {
    /// For the policy `inbound` of the component `name`; `None` when it does nothing.
    pub(crate) fn new(outlet: &Outlet, component: &PubsubComponent) -> Option<Self> {
        let Policy { timeout, retry, breaker, .. } = &component.inbound;
        let (timeout, retry) = (timeout.is_some(), retry.is_some());
        (timeout || retry || breaker.is_some()).then(|| {
            let target = format!("Pubsub_{}", component.name);
            let metrics = &outlet.metrics;
            Self {
                watch: metrics.policy_watch(&component.policies, target, Direction::Inbound),
                timeout,
                retry,
            }
        })
    }
}

/// Leave to ask the app something.
#[derive(Debug)]
pub(crate) struct Leave<'a> {
    permit: Option<Permit>,
    breaker: BreakerWatch<'a>,
}

/// Work on one delivery: its place in a trace and when it began.
pub(crate) struct Span {
    trace: Trace,
    started: Started,
    links: Vec<TraceContext>,
}

impl Lane {
    pub(crate) fn world(&self) -> &dyn World {
        &*self.outlet.world
    }

    /// Opens a message, or judges that it cannot be.
    pub(crate) fn open(&self, delivery: Delivery) -> Result<Event, Verdict> {
        self.reading.open(delivery, self.world().wall())
    }

    /// By when the app must have answered: a little before the dispatcher gives up on us, because who is given up on can
    /// neither count nor trace what happened.
    pub(crate) fn due(&self, deadline: Deadline) -> Deadline {
        let left = deadline.remaining(self.world().mono());
        let margin = (left / 10).min(MARGIN_MAX);
        Deadline::after(self.world(), left.saturating_sub(margin))
    }

    /// What `work` gives, if it does so by `due`.
    pub(crate) async fn in_time<T>(
        &self,
        due: Deadline,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        within(self.world(), due, work).await.ok()
    }

    /// Leave to ask the app something, waiting for it until `due` while the breaker is open.
    pub(crate) async fn admit(&self, due: Deadline) -> Result<Leave<'_>, Open> {
        let watch = self.watch.as_ref().map(|watched| &*watched.watch);
        if let Some(watched) = &self.watch {
            let parts = [(watched.timeout, Part::Timeout), (watched.retry, Part::Retry)];
            for (_, part) in parts.into_iter().filter(|(there, _)| *there) {
                watched.watch.applied(part);
            }
        }
        loop {
            let now = self.world().mono();
            let watched = BreakerWatch::begin(watch, self.breaker.as_ref(), now);
            let Some(breaker) = &self.breaker else {
                return Ok(Leave { permit: None, breaker: watched });
            };
            let open = match breaker.admit(now) {
                Ok(permit) => return Ok(Leave { permit: Some(permit), breaker: watched }),
                Err(open) => open,
            };
            let wait = match open {
                Open::Tripped { wait } => wait,
                Open::Probing | Open::Ramping | Open::Forced => PROBING_PAUSE,
            };
            tokio::select! {
                () = self.world().sleep(wait.min(due.remaining(now))) => {}
                () = self.leaving.cancelled() => return Err(open),
            }
            if due.expired(self.world().mono()) {
                return Err(open);
            }
        }
    }

    /// Tells the breaker what became of what was asked. Whoever leaves has not waited for an answer.
    pub(crate) fn settle(&self, leave: Leave<'_>, verdicts: &[Verdict]) {
        if self.leaving.is_cancelled() {
            return;
        }
        let failed = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Retry { .. }));
        let now = self.world().mono();
        if let Some(permit) = leave.permit {
            permit.record(!failed, now);
        }
        leave.breaker.end(now);
        let Some(watched) = self.watch.as_ref().filter(|_| failed) else { return };
        let late =
            |verdict: &Verdict| matches!(verdict, Verdict::Retry { reason } if reason == TOO_LATE);
        if watched.timeout && verdicts.iter().any(late) {
            watched.watch.activated(Part::Timeout);
        }
        if watched.retry {
            watched.watch.activated(Part::Retry);
        }
    }

    /// Continues the trace that the event carries.
    pub(crate) fn begin(&self, event: &Event) -> Span {
        let (parent, state) = (event.envelope.trace_parent(), event.envelope.trace_state());
        let rate = self.outlet.sampling_rate;
        let trace = Trace::from_event(self.world(), parent.as_deref(), state.as_deref(), rate);
        Span { trace, started: Started::now(self.world()), links: Vec::new() }
    }

    /// Begins a trace of its own for several events, linked to theirs.
    pub(crate) fn begin_bulk(&self, events: &[Event]) -> Span {
        let trace = Trace::root(self.world(), self.outlet.sampling_rate);
        let parents = events.iter().filter_map(|event| event.envelope.trace_parent());
        let links = parents.filter_map(|parent| TraceContext::parse(&parent)).collect();
        Span { trace, started: Started::now(self.world()), links }
    }

    /// Counts and traces one event that was judged.
    pub(crate) fn end(&self, span: Span, verdict: &Verdict) {
        let took = span.started.elapsed(self.world());
        self.outlet.metrics.delivered(&self.pubsub, &self.topic, outcome(verdict), took);
        self.record(span, 1, std::slice::from_ref(verdict));
    }

    /// Counts an event that the app never saw, because it is none or nobody wants it.
    pub(crate) fn refuse(&self) {
        self.outlet.metrics.delivered(&self.pubsub, &self.topic, Outcome::Drop, Duration::ZERO);
    }

    /// Counts and traces a bulk that was judged.
    pub(crate) fn end_bulk(&self, span: Span, verdicts: &[Verdict]) {
        let took = span.started.elapsed(self.world());
        let outcomes: Vec<Outcome> = verdicts.iter().map(outcome).collect();
        self.outlet.metrics.bulk_delivered(&self.pubsub, &self.topic, &outcomes, took);
        self.record(span, verdicts.len(), verdicts);
    }

    fn record(&self, span: Span, events: usize, verdicts: &[Verdict]) {
        if !span.trace.context.sampled {
            return;
        }
        let failure = verdicts.iter().find_map(|verdict| match verdict {
            Verdict::Ack => None,
            Verdict::Retry { reason } | Verdict::Drop { reason } => Some(reason.clone()),
        });
        let events = i64::try_from(events).unwrap_or(i64::MAX);
        self.outlet.telemetry.span(FinishedSpan {
            name: format!("pubsub/{}", self.topic).into(),
            kind: SpanKind::Consumer,
            app_id: Arc::clone(&self.outlet.app_id),
            context: span.trace.context,
            parent: span.trace.parent,
            start: span.started.wall(),
            duration: span.started.elapsed(self.world()),
            attributes: vec![
                ("messaging.system", "pubsub".into()),
                ("messaging.operation.type", "process".into()),
                ("messaging.destination.name", (&*self.topic).into()),
                ("messaging.batch.message_count", AttributeValue::Number(events)),
                ("messaging.broker.name", (&*self.pubsub).into()),
            ],
            status: failure.map_or(SpanStatus::Unset, SpanStatus::Error),
            links: span.links,
        });
    }
}

impl Span {
    /// The headers that go to the app: its place in the trace, and what is attached to the message.
    pub(crate) fn headers(&self, lane: &Lane, metadata: &BTreeMap<String, String>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        attach(&mut headers, metadata);
        if let Ok(name) = HeaderValue::try_from(&*lane.pubsub) {
            headers.insert("pubsubname", name);
        }
        self.trace.write(&mut headers);
        headers
    }
}

/// What is attached to a message (a dead letter's story, what its publisher added) as headers. What would say something
/// about the request itself, cannot be a header, or would make too many of them stays behind.
fn attach(headers: &mut HeaderMap, metadata: &BTreeMap<String, String>) {
    let mut room = METADATA_BYTES_MAX;
    for (name, value) in metadata {
        let bytes = name.len() + value.len();
        if bytes > room {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
            && !is_ours(name.as_str())
        {
            room -= bytes;
            headers.insert(name, value);
        }
    }
}

/// Headers that no publisher may set: they say what the request is, or who sends it.
fn is_ours(name: &str) -> bool {
    const OURS: [&str; 17] = [
        "host",
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "content-type",
        "content-length",
        "content-encoding",
        "authorization",
        "cookie",
        "forwarded",
        "user-agent",
        "pubsubname",
    ];
    // In gRPC the ending "-bin" announces another encoding.
    let parts = ["grpc-", "dapr-", "proxy-", "x-forwarded-"];
    OURS.contains(&name)
        || parts.iter().any(|part| name.starts_with(part))
        || name.ends_with("-bin")
}

fn outcome(verdict: &Verdict) -> Outcome {
    match verdict {
        Verdict::Ack => Outcome::Success,
        Verdict::Retry { .. } => Outcome::Retry,
        Verdict::Drop { .. } => Outcome::Drop,
    }
}

#[cfg(test)]
mod tests {
    use super::attach;
    use http::HeaderMap;
    use std::collections::BTreeMap;

    #[test]
    fn only_what_can_be_a_header_goes_along() {
        let mut headers = HeaderMap::new();
        let metadata = [
            ("dead-letter.reason", "the app answered 500"),
            ("with space", "x"),
            ("line", "a\r\nhost: evil"),
            ("trace-bin", "x"),
            ("Host", "h"),
            ("Authorization", "Bearer x"),
            ("dapr-api-token", "x"),
            ("__key", "42"),
        ];
        let mut metadata: BTreeMap<String, String> =
            metadata.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        metadata.insert("long".to_owned(), "x".repeat(5_000));
        attach(&mut headers, &metadata);
        let mut names: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["__key", "dead-letter.reason"]);
    }
}
