//! What is counted, and how it is read.
//!
//! One [`Metrics`] per process, one [`AppMetrics`] per app in it; the app's id is a label of every number, so that ten
//! apps in one process read like ten sidecars. There are no globals: ten nodes in one test do not see each other.
//!
//! Recording is a look-up under a read lock and one or two atomic additions; it allocates only the first time it sees a
//! combination of labels.

mod families;
mod handles;
mod kinds;
mod labels;
pub(crate) mod policies;
mod process;
mod store;

pub use store::{EngineReport, FolderReport, StoreReport, StoreSource};

use crate::{operations::Stage, trace::Started};
use families::Families;
use handles::{Tables, fixed};
use http::{Method, StatusCode};
use labels::App;
use outrigger_kernel::World;
use prometheus_client::registry::Registry;
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// Every number of this process.
pub struct Metrics {
    registry: Registry,
    families: Families,
    store: store::Store,
    next_app: AtomicU32,
    apps: RwLock<HashMap<String, App>>,
}

impl Metrics {
    /// Registers everything. `latency_buckets_ms` replaces the default bounds of latencies; `version` is this build's.
    #[must_use]
    pub fn new(latency_buckets_ms: Option<&[f64]>, version: &'static str) -> Arc<Self> {
        let mut registry = Registry::default();
        let bounds = Arc::from(latency_buckets_ms.unwrap_or(families::LATENCY_MS));
        let families = Families::register(&mut registry, &bounds);
        registry.register_collector(Box::new(process::Process { version }));
        let store = store::Store::default();
        registry.register_collector(Box::new(store.clone()));
        let (next_app, apps) = (AtomicU32::new(0), RwLock::default());
        Arc::new(Self { registry, families, store, next_app, apps })
    }

    /// Where to ask how the store fares, at every scrape. The first source stays.
    pub fn follow_store(&self, source: impl Fn() -> Option<StoreReport> + Send + Sync + 'static) {
        self.store.follow(Box::new(source));
    }

    /// The numbers of one app.
    #[must_use]
    pub fn for_app(self: &Arc<Self>, app_id: &str, namespace: &str) -> AppMetrics {
        let id = self.next_app.fetch_add(1, Ordering::Relaxed);
        let app = App::new(id, app_id, namespace);
        let mut apps = self.apps.write().unwrap_or_else(PoisonError::into_inner);
        apps.insert(app_id.to_owned(), app.clone());
        drop(apps);
        AppMetrics { node: Arc::clone(self), app, tables: Arc::default() }
    }

    /// Everything in the Prometheus text format, version 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        let mut encoded = String::with_capacity(16 * 1024);
        if prometheus_client::encoding::text::encode_registry(&mut encoded, &self.registry).is_err()
        {
            return String::new();
        }
        // Tallies are registered as "unknown" to keep their names; in this format they can say what they are.
        let mut text = String::with_capacity(encoded.len());
        for line in encoded.lines() {
            match line.strip_suffix(" unknown") {
                Some(head) if head.starts_with("# TYPE ") => {
                    text.push_str(head);
                    text.push_str(" counter");
                }
                _ => text.push_str(line),
            }
            text.push('\n');
        }
        text
    }
}

/// Media type of [`Metrics::text`].
pub const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// The numbers of one app. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AppMetrics {
    node: Arc<Metrics>,
    app: App,
    tables: Arc<Tables>,
}

/// What became of a delivery, for [`AppMetrics::delivered`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Retry,
    Drop,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Retry => "retry",
            Self::Drop => "drop",
        }
    }
}

/// A request over HTTP that has been answered.
pub(crate) struct Served<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) request_bytes: Option<u64>,
    pub(crate) response_bytes: Option<u64>,
    pub(crate) took: Duration,
}

impl AppMetrics {
    /// The process's numbers, this app's among them.
    #[must_use]
    pub fn node(&self) -> &Arc<Metrics> {
        &self.node
    }

    pub(crate) fn http_served(&self, served: &Served<'_>) {
        let (method, path) = (verb(served.method), served.path);
        let status = served.status.as_u16();
        let key = (fixed(method), fixed(path), status);
        let make = || {
            let (families, app) = (&self.node.families, &self.app);
            let answer = || [method.into(), path.into(), status.into()];
            handles::Http {
                requests: families.http_requests.handle(app, [method.into(), path.into()]),
                responses: families.http_responses.handle(app, answer()),
                latency: families.http_latency.handle(app, answer()),
                request_bytes: families.http_request_bytes.handle(app, []),
                response_bytes: families.http_response_bytes.handle(app, []),
            }
        };
        self.tables.http.with(key, make, |metrics| {
            metrics.requests.add(1);
            metrics.responses.add(1);
            metrics.latency.observe_milli(micros(served.took));
            if let Some(bytes) = served.request_bytes {
                metrics.request_bytes.observe_milli(bytes.saturating_mul(1000));
            }
            if let Some(bytes) = served.response_bytes {
                metrics.response_bytes.observe_milli(bytes.saturating_mul(1000));
            }
        });
    }

    pub(crate) fn app_called(&self, served: &Served<'_>) {
        let (families, app) = (&self.node.families, &self.app);
        let (method, path) = (verb(served.method), served.path);
        let status = served.status.as_u16();
        families.client_completed.add(app, [method.into(), path.into(), status.into()], 1);
        let answer = [method.into(), path.into(), status.into()];
        families.client_latency.observe_milli(app, answer, micros(served.took));
        if let Some(bytes) = served.request_bytes {
            families.client_sent_bytes.observe_milli(app, [], bytes.saturating_mul(1000));
        }
        if let Some(bytes) = served.response_bytes {
            families.client_received_bytes.observe_milli(app, [], bytes.saturating_mul(1000));
        }
    }

    /// Records a health probe of the app.
    pub fn probed(&self, healthy: bool, took: Duration) {
        let (families, app) = (&self.node.families, &self.app);
        let status = if healthy { 200_u16 } else { 500 };
        families.probes.add(app, [status.into()], 1);
        families.probe_latency.observe_milli(app, [status.into()], micros(took));
    }

    pub(crate) fn grpc_served(&self, method: &'static str, code: tonic::Code, took: Duration) {
        let (families, app) = (&self.node.families, &self.app);
        families.grpc_completed.add(app, [method.into(), code_word(code).into()], 1);
        let labels = [method.into(), code_word(code).into()];
        families.grpc_latency.observe_milli(app, labels, micros(took));
    }

    pub(crate) fn grpc_called(&self, method: &'static str, code: tonic::Code, took: Duration) {
        let (families, app) = (&self.node.families, &self.app);
        families.grpc_client_completed.add(app, [method.into(), code_word(code).into()], 1);
        let labels = [method.into(), code_word(code).into()];
        families.grpc_client_latency.observe_milli(app, labels, micros(took));
    }

    pub(crate) fn state(&self, stage: &Stage<'_>, started: Started, world: &dyn World, ok: bool) {
        let key = (stage.component.as_ptr().addr(), fixed(stage.operation), ok);
        let make = || {
            let (families, app) = (&self.node.families, &self.app);
            let labels = || [stage.component.into(), stage.operation.into(), ok.into()];
            handles::Operation {
                count: families.state.handle(app, labels()),
                latency: families.state_latency.handle(app, labels()),
                _name: Arc::clone(stage.component),
            }
        };
        self.tables.state.with(key, make, |metrics| {
            metrics.count.add(1);
            metrics.latency.observe_milli(micros(started.elapsed(world)));
        });
    }

    pub(crate) fn secret(&self, stage: &Stage<'_>, started: Started, world: &dyn World, ok: bool) {
        let (families, app) = (&self.node.families, &self.app);
        let labels = || [stage.component.into(), stage.operation.into(), ok.into()];
        families.secret.add(app, labels(), 1);
        families.secret_latency.observe_milli(app, labels(), micros(started.elapsed(world)));
    }

    pub(crate) fn lock(&self, stage: &Stage<'_>, started: Started, world: &dyn World, ok: bool) {
        let (families, app) = (&self.node.families, &self.app);
        let labels = || [stage.component.into(), stage.operation.into(), ok.into()];
        families.lock.add(app, labels(), 1);
        families.lock_latency.observe_milli(app, labels(), micros(started.elapsed(world)));
    }

    pub(crate) fn published(&self, component: &Arc<str>, topic: &str, ok: bool, took: Duration) {
        let (families, app) = (&self.node.families, &self.app);
        let topic: Arc<str> = topic.into();
        let labels = || [component.into(), ok.into(), (&topic).into()];
        families.egress.add(app, labels(), 1);
        families.egress_latency.observe_milli(app, labels(), micros(took));
    }

    pub(crate) fn bulk_published(
        &self,
        component: &Arc<str>,
        topic: &str,
        events: usize,
        ok: bool,
        took: Duration,
    ) {
        let (families, app) = (&self.node.families, &self.app);
        let topic: Arc<str> = topic.into();
        let labels = || [component.into(), ok.into(), (&topic).into()];
        families.bulk_egress.add(app, labels(), 1);
        families.bulk_egress_events.add(app, labels(), count(events));
        families.bulk_egress_latency.observe_milli(app, labels(), micros(took));
    }

    pub(crate) fn delivered(
        &self,
        component: &Arc<str>,
        topic: &Arc<str>,
        outcome: Outcome,
        took: Duration,
    ) {
        let (families, app) = (&self.node.families, &self.app);
        let word = outcome.word();
        let labels = || [component.into(), word.into(), word.into(), topic.into()];
        families.ingress.add(app, labels(), 1);
        families.ingress_latency.observe_milli(app, labels(), micros(took));
    }

    pub(crate) fn bulk_delivered(
        &self,
        component: &Arc<str>,
        topic: &Arc<str>,
        outcomes: &[Outcome],
        took: Duration,
    ) {
        let (families, app) = (&self.node.families, &self.app);
        let all_well = outcomes.iter().all(|outcome| *outcome == Outcome::Success);
        let word = if all_well { Outcome::Success } else { Outcome::Retry }.word();
        let labels = |word: &'static str| [component.into(), word.into(), topic.into()];
        families.bulk_ingress.add(app, labels(word), 1);
        families.bulk_ingress_latency.observe_milli(app, labels(word), micros(took));
        for outcome in outcomes {
            families.bulk_ingress_events.add(app, labels(outcome.word()), 1);
        }
    }

    /// Records that a component was loaded and is ready.
    pub fn component_ready(&self, component: &str) {
        let component: Arc<str> = component.into();
        self.node.families.component_loaded.add(&self.app, [], 1);
        self.node.families.component_init.add(&self.app, [(&component).into()], 1);
    }

    /// Records that a component could not be initialised. `reason` is a fixed word.
    pub fn component_failed(&self, component: &str, reason: &'static str) {
        let component: Arc<str> = component.into();
        let labels = [(&component).into(), reason.into()];
        self.node.families.component_init_failed.add(&self.app, labels, 1);
    }

    /// Records a call to another app, on its side too when it runs in this process.
    pub(crate) fn invoked(
        &self,
        target: &str,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        let families = &self.node.families;
        let (name, status): (Arc<str>, _) = (target.into(), status.as_u16());
        families.invoke_sent.add(&self.app, [(&name).into(), "unary".into()], 1);
        let answer = [(&name).into(), status.into(), "unary".into()];
        families.invoke_answer_received.add(&self.app, answer, 1);
        let labels = [(&name).into(), status.into()];
        families.invoke_latency.observe_milli(&self.app, labels, micros(took));
        let apps = self.node.apps.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(callee) = apps.get(target) {
            let caller = self.app.name();
            families.invoke_received.add(callee, [caller.into(), "unary".into()], 1);
            families.invoke_answered.add(callee, [caller.into(), status.into()], 1);
            let answer = || [verb(method).into(), "invoke".into(), status.into()];
            families.client_completed.add(callee, answer(), 1);
            families.client_latency.observe_milli(callee, answer(), micros(took));
        }
    }

    pub(crate) fn failed(&self, category: &'static str, code: &'static str) {
        self.node.families.errors.add(&self.app, [category.into(), code.into()], 1);
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Methods are a closed set in labels: a client may send any word as a method.
fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

pub(crate) fn code_word(code: tonic::Code) -> &'static str {
    match code {
        tonic::Code::Ok => "OK",
        tonic::Code::Cancelled => "CANCELLED",
        tonic::Code::Unknown => "UNKNOWN",
        tonic::Code::InvalidArgument => "INVALID_ARGUMENT",
        tonic::Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        tonic::Code::NotFound => "NOT_FOUND",
        tonic::Code::AlreadyExists => "ALREADY_EXISTS",
        tonic::Code::PermissionDenied => "PERMISSION_DENIED",
        tonic::Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        tonic::Code::FailedPrecondition => "FAILED_PRECONDITION",
        tonic::Code::Aborted => "ABORTED",
        tonic::Code::OutOfRange => "OUT_OF_RANGE",
        tonic::Code::Unimplemented => "UNIMPLEMENTED",
        tonic::Code::Internal => "INTERNAL",
        tonic::Code::Unavailable => "UNAVAILABLE",
        tonic::Code::DataLoss => "DATA_LOSS",
        tonic::Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::{Metrics, Served, families};
    use http::{Method, StatusCode};
    use std::time::Duration;

    #[test]
    fn exact_names_and_one_type_line_each() {
        let metrics = Metrics::new(None, "0.0.0");
        for app in ["a", "b"] {
            let app = metrics.for_app(app, "");
            app.http_served(&Served {
                method: &Method::GET,
                path: "/v1.0/state/{store}/{key}",
                status: StatusCode::OK,
                request_bytes: None,
                response_bytes: Some(7),
                took: Duration::from_micros(1500),
            });
            app.component_ready("statestore");
        }
        let text = metrics.text();
        let expected = concat!(
            "dapr_http_server_response_count{app_id=\"a\",method=\"GET\",",
            "path=\"/v1.0/state/{store}/{key}\",status=\"200\"} 1\n"
        );
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("# TYPE dapr_http_server_response_count counter\n"), "{text}");
        assert_eq!(text.matches("# TYPE dapr_http_server_latency histogram").count(), 1);
        assert!(text.contains("dapr_http_server_latency_bucket{le=\"2.0\",app_id=\"b\""), "{text}");
        assert!(text.contains(
            "dapr_runtime_component_init_total{app_id=\"a\",component=\"statestore\"} 1"
        ));
        assert!(!text.contains("_total_total"));
    }

    #[test]
    fn names_are_lower_snake_case_and_unique() {
        let mut names = families::NAMES.to_vec();
        assert!(names.iter().all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), families::NAMES.len());
    }
}
