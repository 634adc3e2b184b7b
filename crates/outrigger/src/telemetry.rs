//! Spans out: from the API's sink to an OTLP collector, in batches, without ever holding up a request.
//!
//! ```text
//!   request ends -> span -> bounded queue -> one task -> batches of 512 or one second -> OTLP over gRPC, per app
//!                             \ full: dropped and counted
//! ```
//!
//! Nothing is exported, and no task runs, unless somebody configured a collector: by the variables of OpenTelemetry
//! (`OTEL_EXPORTER_OTLP_ENDPOINT` and its kin, which win) or by `tracing.otel` of a Configuration.

use crate::{
    failure::{Exit, Failure},
    settings::Environment,
};
use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{Link, SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter as _, SpanLinks},
};
use outrigger_api::trace::{self, AttributeValue, FinishedSpan, SpanStatus, TelemetrySink};
use outrigger_kernel::{Deadline, TraceContext, Wall, World, within};
use outrigger_resources::{OtelProtocol, Tracing};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{mpsc, oneshot};
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};

/// Spans waiting for export. At a thousand requests a second that is four seconds of a collector that does not answer.
const QUEUE_SPANS_MAX: usize = 4096;
const BATCH_SPANS_MAX: usize = 512;
const BATCH_WAIT: Duration = Duration::from_secs(1);

/// Where spans go. Data only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `http(s)://host:port`; `None` leaves it to the variables.
    pub endpoint: Option<String>,
    /// Sent with every batch.
    pub headers: BTreeMap<String, String>,
    /// How long one export may take; `None` leaves it to the variables.
    pub timeout: Option<Duration>,
}

/// Where spans go according to the variables and `tracing`; `None` for nowhere. The second part is what to tell the user.
#[must_use]
pub fn target(environment: &Environment, tracing: &Tracing) -> (Option<Target>, Option<String>) {
    if environment.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
    {
        return (None, None);
    }
    if by_variables(environment) {
        return match environment
            .get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            .or_else(|| environment.get("OTEL_EXPORTER_OTLP_PROTOCOL"))
        {
            None | Some("grpc") => {
                (Some(Target { endpoint: None, headers: BTreeMap::new(), timeout: None }), None)
            }
            Some(other) => (
                None,
                Some(format!(
                    "traces are not exported: OTEL_EXPORTER_OTLP_PROTOCOL is {other:?}, and only grpc is served"
                )),
            ),
        };
    }
    let otel = &tracing.otel;
    let zipkin = tracing.zipkin.endpoint_address.as_deref().filter(|address| !address.is_empty());
    let Some(address) = otel.endpoint_address.as_deref().filter(|address| !address.is_empty())
    else {
        let told = zipkin.map(|address| {
            format!("traces are not exported to {address}: only OTLP is served; set tracing.otel")
        });
        return (None, told);
    };
    if otel.protocol == Some(OtelProtocol::Http) {
        return (
            None,
            Some(
                "traces are not exported: tracing.otel.protocol is http, and only grpc is served"
                    .to_owned(),
            ),
        );
    }
    let scheme = if otel.is_secure_or_default() { "https" } else { "http" };
    let endpoint =
        if address.contains("://") { address.to_owned() } else { format!("{scheme}://{address}") };
    let headers = otel.headers.clone().unwrap_or_default();
    (
        Some(Target {
            endpoint: Some(endpoint),
            headers,
            timeout: Some(otel.timeout_or_default()),
        }),
        None,
    )
}

fn by_variables(environment: &Environment) -> bool {
    ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]
        .iter()
        .any(|name| environment.get(name).is_some())
}

/// The share of new traces to sample: the sampler's variables, else `tracing.samplingRate`, else 1 where variables name a
/// collector and 1 in 10,000 elsewhere.
#[must_use]
pub fn sampling_rate(environment: &Environment, tracing: &Tracing) -> f64 {
    let sampler = environment.get("OTEL_TRACES_SAMPLER").unwrap_or_default();
    let ratio = || environment.get("OTEL_TRACES_SAMPLER_ARG").and_then(|text| text.parse().ok());
    match sampler.trim_start_matches("parentbased_") {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => ratio().unwrap_or(1.0_f64).clamp(0.0, 1.0),
        _ => match tracing.sampling_rate {
            None if by_variables(environment) => 1.0,
            _ => tracing.sampling_rate_or_default(),
        },
    }
}

enum Order {
    Export(Box<FinishedSpan>),
    Flush(oneshot::Sender<()>),
}

/// The sink that exports.
#[derive(Debug)]
pub struct Exporter {
    queue: mpsc::Sender<Order>,
    dropped: Arc<AtomicU64>,
}

impl Exporter {
    /// Starts exporting to `target`.
    ///
    /// # Errors
    /// When the target's address or headers cannot be used.
    pub fn start(target: &Target, world: &Arc<dyn World>) -> Result<Arc<Self>, Failure> {
        // Built once here, so that a wrong address is an error at start and not a silence later.
        drop(build(target, "outrigger")?);
        let (queue, orders) = mpsc::channel(QUEUE_SPANS_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let task = Task {
            target: target.clone(),
            exporters: BTreeMap::new(),
            world: Arc::clone(world),
            dropped: Arc::clone(&dropped),
            silent: false,
        };
        drop(world.spawn("trace export", Box::pin(task.run(orders))));
        Ok(Arc::new(Self { queue, dropped }))
    }

    /// Waits until everything handed in so far is exported, at most `patience`.
    pub async fn flush(&self, patience: Duration, world: &dyn World) {
        let (done, flushed) = oneshot::channel();
        let flush = async {
            if self.queue.send(Order::Flush(done)).await.is_ok() {
                drop(flushed.await);
            }
        };
        let _ = within(world, Deadline::after(world, patience), flush).await;
    }
}

impl TelemetrySink for Exporter {
    fn span(&self, span: FinishedSpan) {
        if self.queue.try_send(Order::Export(Box::new(span))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Task {
    target: Target,
    /// One per app: the app is the service, and a service is a property of the exporter.
    exporters: BTreeMap<Arc<str>, SpanExporter>,
    world: Arc<dyn World>,
    dropped: Arc<AtomicU64>,
    /// Whether the last export failed, so that a collector that is away is told once and not every second.
    silent: bool,
}

impl Task {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut batch = Vec::with_capacity(BATCH_SPANS_MAX);
        while let Some(first) = orders.recv().await {
            let mut waiting = Vec::new();
            take(first, &mut batch, &mut waiting);
            let full = Deadline::after(&*self.world, BATCH_WAIT);
            while batch.len() < BATCH_SPANS_MAX && waiting.is_empty() {
                match within(&*self.world, full, orders.recv()).await {
                    Ok(Some(order)) => take(order, &mut batch, &mut waiting),
                    Ok(None) | Err(_) => break,
                }
            }
            self.export(std::mem::take(&mut batch)).await;
            for done in waiting {
                // Whoever flushed may have run out of patience.
                let _ = done.send(());
            }
        }
    }

    async fn export(&mut self, batch: Vec<FinishedSpan>) {
        let mut by_app: BTreeMap<Arc<str>, Vec<SpanData>> = BTreeMap::new();
        for span in batch {
            by_app.entry(Arc::clone(&span.app_id)).or_default().push(converted(span));
        }
        for (app, spans) in by_app {
            let exporter = match self.exporters.get(&app) {
                Some(exporter) => exporter,
                None => match build(&self.target, &app) {
                    Ok(built) => self.exporters.entry(app).or_insert(built),
                    Err(_) => continue,
                },
            };
            let count = spans.len();
            match exporter.export(spans).await {
                Ok(()) => self.silent = false,
                Err(error) if self.silent => {
                    tracing::debug!(count, %error, "spans were not exported")
                }
                Err(error) => {
                    self.silent = true;
                    tracing::warn!(count, %error, "spans were not exported; further failures are not repeated here");
                }
            }
        }
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "spans were dropped: they come faster than the collector takes them"
            );
        }
    }
}

fn take(order: Order, batch: &mut Vec<FinishedSpan>, waiting: &mut Vec<oneshot::Sender<()>>) {
    match order {
        Order::Export(span) => batch.push(*span),
        Order::Flush(done) => waiting.push(done),
    }
}

fn build(target: &Target, app_id: &str) -> Result<SpanExporter, Failure> {
    let failed = |reason: String| {
        Failure::new("OUTR-0026", Exit::Usage, "traces cannot be exported as configured")
            .why(reason)
    };
    let mut builder = SpanExporter::builder().with_tonic();
    if let Some(endpoint) = &target.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    if let Some(timeout) = target.timeout {
        builder = builder.with_timeout(timeout);
    }
    let mut metadata = MetadataMap::new();
    for (name, value) in &target.headers {
        let key = MetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes())
            .map_err(|e| failed(e.to_string()))?;
        metadata.insert(
            key,
            MetadataValue::try_from(value.as_str()).map_err(|e| failed(e.to_string()))?,
        );
    }
    let mut exporter =
        builder.with_metadata(metadata).build().map_err(|error| failed(error.to_string()))?;
    // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES are read by the builder; the app's id is only the default.
    let named = std::env::var_os("OTEL_SERVICE_NAME").is_some();
    let resource = Resource::builder();
    let resource = if named { resource } else { resource.with_service_name(app_id.to_owned()) };
    exporter.set_resource(&resource.build());
    Ok(exporter)
}

fn converted(span: FinishedSpan) -> SpanData {
    let start = instant(span.start);
    let attributes = span.attributes.into_iter().map(|(name, value)| match value {
        AttributeValue::Text(text) => KeyValue::new(name, text),
        AttributeValue::Number(number) => KeyValue::new(name, number),
    });
    let links =
        span.links.iter().map(|link| Link::new(context(link, true), Vec::new(), 0)).collect();
    let mut span_links = SpanLinks::default();
    span_links.links = links;
    SpanData {
        span_context: context(&span.context, false),
        parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from),
        parent_span_is_remote: span.parent.is_some(),
        span_kind: match span.kind {
            trace::SpanKind::Server => SpanKind::Server,
            trace::SpanKind::Client => SpanKind::Client,
            trace::SpanKind::Producer => SpanKind::Producer,
            trace::SpanKind::Consumer => SpanKind::Consumer,
        },
        name: span.name,
        start_time: start,
        end_time: start + span.duration,
        attributes: attributes.collect(),
        dropped_attributes_count: 0,
        events: Default::default(),
        links: span_links,
        status: match span.status {
            SpanStatus::Unset => Status::Unset,
            SpanStatus::Error(reason) => Status::error(reason),
        },
        instrumentation_scope: InstrumentationScope::builder("outrigger")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

fn context(context: &TraceContext, remote: bool) -> SpanContext {
    let flags = if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    let (trace, span) = (TraceId::from(context.trace_id), SpanId::from(context.span_id));
    SpanContext::new(trace, span, flags, remote, TraceState::NONE)
}

fn instant(wall: Wall) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(wall.0)
}

#[cfg(test)]
mod tests {
    use super::{sampling_rate, target};
    use crate::settings::Environment;
    use outrigger_resources::{Otel, OtelProtocol, Tracing, Zipkin};

    fn otel(address: &str, secure: Option<bool>) -> Tracing {
        let otel = Otel {
            endpoint_address: Some(address.to_owned()),
            is_secure: secure,
            ..Otel::default()
        };
        Tracing { otel, ..Tracing::default() }
    }

    #[test]
    fn nowhere_unless_asked() {
        assert_eq!(target(&Environment::default(), &Tracing::default()), (None, None));
        let disabled = Environment::of(&[
            ("OTEL_SDK_DISABLED", "true"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:4317"),
        ]);
        assert_eq!(target(&disabled, &otel("h:4317", None)), (None, None));
    }

    #[test]
    fn addresses_get_their_scheme() {
        let endpoint =
            |tracing: &Tracing| target(&Environment::default(), tracing).0.and_then(|t| t.endpoint);
        assert_eq!(endpoint(&otel("h:4317", None)).as_deref(), Some("https://h:4317"));
        assert_eq!(endpoint(&otel("h:4317", Some(false))).as_deref(), Some("http://h:4317"));
    }

    #[test]
    fn what_is_not_served_is_said() {
        let mut http = otel("h:4318", None);
        http.otel.protocol = Some(OtelProtocol::Http);
        let zipkin = Zipkin { endpoint_address: Some("http://z".into()) };
        let zipkin = Tracing { zipkin, ..Tracing::default() };
        for tracing in [http, zipkin] {
            let (to, told) = target(&Environment::default(), &tracing);
            assert!(to.is_none() && told.is_some());
        }
    }

    #[test]
    fn sampling() {
        let rate = |pairs: &[(&str, &str)], configured| {
            let tracing = Tracing { sampling_rate: configured, ..Tracing::default() };
            sampling_rate(&Environment::of(pairs), &tracing)
        };
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(rate(&[], None), 0.0001));
        assert!(close(rate(&[], Some(0.5)), 0.5));
        assert!(close(rate(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "x")], None), 1.0));
        let ratio = [
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ];
        assert!(close(rate(&ratio, Some(1.0)), 0.25));
    }
}
