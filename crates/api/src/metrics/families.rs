//! The metrics there are: names, labels, buckets. Names are those that existing dashboards ask for.

use super::{
    kinds::{Bounds, Level, Spread, Tally},
    labels::{App, Names, Set, Word},
};
use prometheus_client::{metrics::family::Family, registry::Registry};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Default bounds of latencies, in milliseconds.
pub(crate) const LATENCY_MS: &[f64] = &[
    1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 13.0, 16.0, 20.0, 25.0, 30.0, 40.0, 50.0, 65.0, 80.0,
    100.0, 130.0, 160.0, 200.0, 250.0, 300.0, 400.0, 500.0, 650.0, 800.0, 1000.0, 2000.0, 5000.0,
    10_000.0, 20_000.0, 50_000.0, 100_000.0,
];

const SIZE_BYTES: &[f64] = &[
    1024.0,
    2048.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];

/// Most label sets one family keeps. Beyond it, values that users choose (topics, app ids) count as `other`, so that no
/// caller can fill the memory with names.
const SERIES_MAX: usize = 2_000;

/// A family with its label names.
#[derive(Clone, Debug)]
pub(crate) struct Counts<const N: usize> {
    family: Family<Set<N>, Tally>,
    series: Arc<AtomicUsize>,
    names: &'static Names<N>,
}

/// As [`Counts`], for levels.
#[derive(Clone, Debug)]
pub(crate) struct Levels<const N: usize> {
    family: Family<Set<N>, Level>,
    series: Arc<AtomicUsize>,
    names: &'static Names<N>,
}

impl<const N: usize> Levels<N> {
    fn register(registry: &mut Registry, name: &str, help: &str, names: &'static Names<N>) -> Self {
        let family = Family::default();
        registry.register(name, help, family.clone());
        Self { family, series: Arc::default(), names }
    }

    pub(crate) fn set(&self, app: &App, values: [Word; N], n: u64) {
        let set = Set { app: app.clone(), names: self.names, values };
        if let Some(level) = self.family.get(&set) {
            return level.set(n);
        }
        self.family.get_or_create(&bounded(set, &self.series)).set(n);
    }
}

/// As [`Counts`], for spreads.
#[derive(Clone, Debug)]
pub(crate) struct Spreads<const N: usize> {
    family: Family<Set<N>, Spread, Bounds>,
    series: Arc<AtomicUsize>,
    names: &'static Names<N>,
}

impl<const N: usize> Counts<N> {
    fn register(registry: &mut Registry, name: &str, help: &str, names: &'static Names<N>) -> Self {
        let family = Family::default();
        registry.register(name, help, family.clone());
        Self { family, series: Arc::default(), names }
    }

    pub(crate) fn add(&self, app: &App, values: [Word; N], n: u64) {
        let set = Set { app: app.clone(), names: self.names, values };
        if let Some(tally) = self.family.get(&set) {
            return tally.add(n);
        }
        self.family.get_or_create(&bounded(set, &self.series)).add(n);
    }
}

impl<const N: usize> Counts<N> {
    /// The metric itself, to be recorded into without a look-up.
    pub(crate) fn handle(&self, app: &App, values: [Word; N]) -> Tally {
        let set = Set { app: app.clone(), names: self.names, values };
        if let Some(tally) = self.family.get(&set) {
            return tally.clone();
        }
        self.family.get_or_create_owned(&bounded(set, &self.series))
    }
}

impl<const N: usize> Spreads<N> {
    /// The metric itself, to be recorded into without a look-up.
    pub(crate) fn handle(&self, app: &App, values: [Word; N]) -> Spread {
        let set = Set { app: app.clone(), names: self.names, values };
        if let Some(spread) = self.family.get(&set) {
            return spread.clone();
        }
        self.family.get_or_create_owned(&bounded(set, &self.series))
    }
    fn register(
        registry: &mut Registry,
        name: &str,
        help: &str,
        names: &'static Names<N>,
        bounds: &Arc<[f64]>,
    ) -> Self {
        let family = Family::new_with_constructor(Bounds(Arc::clone(bounds)));
        registry.register(name, help, family.clone());
        Self { family, series: Arc::default(), names }
    }

    /// Records a value given in thousandths of the family's unit.
    pub(crate) fn observe_milli(&self, app: &App, values: [Word; N], milli: u64) {
        let set = Set { app: app.clone(), names: self.names, values };
        if let Some(spread) = self.family.get(&set) {
            return spread.observe_milli(milli);
        }
        self.family.get_or_create(&bounded(set, &self.series)).observe_milli(milli);
    }
}

/// The set itself while there is room for another one. Two callers with the same new set count it twice, which makes the
/// bound come a little sooner.
fn bounded<const N: usize>(mut set: Set<N>, series: &AtomicUsize) -> Set<N> {
    if series.fetch_add(1, Ordering::Relaxed) >= SERIES_MAX {
        for value in &mut set.values {
            if matches!(value, Word::Shared(_)) {
                *value = Word::Fixed("other");
            }
        }
    }
    set
}

const fn plain<const N: usize>(names: [&'static str; N]) -> Names<N> {
    Names { namespace: false, names }
}

const fn of_component<const N: usize>(names: [&'static str; N]) -> Names<N> {
    Names { namespace: true, names }
}

static APP: Names<0> = plain([]);
static ROUTE: Names<2> = plain(["method", "path"]);
static ANSWER: Names<3> = plain(["method", "path", "status"]);
static STATUS: Names<1> = plain(["status"]);
static GRPC_SERVER: Names<2> = plain(["grpc_server_method", "grpc_server_status"]);
static GRPC_CLIENT: Names<2> = plain(["grpc_client_method", "grpc_client_status"]);
static OPERATION: Names<3> = of_component(["component", "operation", "success"]);
static EGRESS: Names<3> = of_component(["component", "success", "topic"]);
static INGRESS: Names<4> = of_component(["component", "process_status", "status", "topic"]);
static BULK_INGRESS: Names<3> = of_component(["component", "process_status", "topic"]);
static COMPONENT: Names<1> = plain(["component"]);
static COMPONENT_FAILED: Names<2> = plain(["component", "reason"]);
static TO_APP: Names<2> = plain(["destination_app_id", "type"]);
static FROM_APP: Names<2> = plain(["source_app_id", "type"]);
static ANSWER_TO: Names<2> = plain(["destination_app_id", "status"]);
static ANSWER_FROM: Names<3> = plain(["source_app_id", "status", "type"]);
static ANSWER_TIME: Names<2> = plain(["source_app_id", "status"]);
static POLICIES: Names<1> = of_component(["name"]);
static POLICY: Names<5> = of_component(["flow_direction", "name", "policy", "status", "target"]);
static DECISION: Names<3> = of_component(["flow_direction", "reason", "target"]);
static ERROR: Names<2> = plain(["category", "error_code"]);

/// Declares the fields and registers each under its name, so that a field cannot be forgotten in the registry.
macro_rules! families {
    ($($field:ident: $kind:ident<$n:literal> = $name:literal, $labels:ident $(, $bounds:ident)?, $help:literal;)*) => {
        /// Every family, registered.
        #[derive(Clone, Debug)]
        pub(crate) struct Families {
            $(pub(crate) $field: $kind<$n>,)*
        }

        impl Families {
            pub(crate) fn register(registry: &mut Registry, latency_ms: &Arc<[f64]>) -> Self {
                let size_bytes: Arc<[f64]> = Arc::from(SIZE_BYTES);
                let bounds = AllBounds { latency_ms, size_bytes: &size_bytes };
                Self {
                    $($field: $kind::register(registry, $name, $help, &$labels $(, bounds.$bounds)?),)*
                }
            }
        }

        /// The names of all families.
        #[cfg(test)]
        pub(crate) const NAMES: &[&str] = &[$($name),*];
    };
}

struct AllBounds<'a> {
    latency_ms: &'a Arc<[f64]>,
    size_bytes: &'a Arc<[f64]>,
}

families! {
    http_requests: Counts<2> = "dapr_http_server_request_count", ROUTE, "HTTP requests begun";
    http_responses: Counts<3> = "dapr_http_server_response_count", ANSWER, "HTTP requests answered";
    http_latency: Spreads<3> = "dapr_http_server_latency", ANSWER, latency_ms, "HTTP requests, in milliseconds";
    http_request_bytes: Spreads<0> = "dapr_http_server_request_bytes", APP, size_bytes, "HTTP request bodies of known length";
    http_response_bytes: Spreads<0> = "dapr_http_server_response_bytes", APP, size_bytes, "HTTP response bodies of known length";
    client_completed: Counts<3> = "dapr_http_client_completed_count", ANSWER, "Calls to the app answered";
    client_latency: Spreads<3> = "dapr_http_client_roundtrip_latency", ANSWER, latency_ms, "Calls to the app, in milliseconds";
    client_sent_bytes: Spreads<0> = "dapr_http_client_sent_bytes", APP, size_bytes, "Bodies sent to the app, of known length";
    client_received_bytes: Spreads<0> = "dapr_http_client_received_bytes", APP, size_bytes, "Bodies received from the app, of known length";
    probes: Counts<1> = "dapr_http_healthprobes_completed_count", STATUS, "Health probes of the app";
    probe_latency: Spreads<1> = "dapr_http_healthprobes_roundtrip_latency", STATUS, latency_ms, "Health probes of the app, in milliseconds";
    grpc_completed: Counts<2> = "dapr_grpc_io_server_completed_rpcs", GRPC_SERVER, "gRPC calls answered";
    grpc_latency: Spreads<2> = "dapr_grpc_io_server_server_latency", GRPC_SERVER, latency_ms, "gRPC calls, in milliseconds";
    grpc_client_completed: Counts<2> = "dapr_grpc_io_client_completed_rpcs", GRPC_CLIENT, "gRPC calls to the app answered";
    grpc_client_latency: Spreads<2> = "dapr_grpc_io_client_roundtrip_latency", GRPC_CLIENT, latency_ms, "gRPC calls to the app, in milliseconds";
    state: Counts<3> = "dapr_component_state_count", OPERATION, "Operations on state stores";
    state_latency: Spreads<3> = "dapr_component_state_latencies", OPERATION, latency_ms, "Operations on state stores, in milliseconds";
    secret: Counts<3> = "dapr_component_secret_count", OPERATION, "Operations on secret stores";
    lock: Counts<3> = "outrigger_component_lock_count", OPERATION, "Operations on lock stores";
    lock_latency: Spreads<3> = "outrigger_component_lock_latencies", OPERATION, latency_ms, "Operations on lock stores, waiting in line included, in milliseconds";
    secret_latency: Spreads<3> = "dapr_component_secret_latencies", OPERATION, latency_ms, "Operations on secret stores, in milliseconds";
    egress: Counts<3> = "dapr_component_pubsub_egress_count", EGRESS, "Messages published";
    egress_latency: Spreads<3> = "dapr_component_pubsub_egress_latencies", EGRESS, latency_ms, "Publishing, in milliseconds";
    bulk_egress: Counts<3> = "dapr_component_pubsub_egress_bulk_count", EGRESS, "Bulk publish calls";
    bulk_egress_events: Counts<3> = "dapr_component_pubsub_egress_bulk_event_count", EGRESS, "Messages published in bulk";
    bulk_egress_latency: Spreads<3> = "dapr_component_pubsub_egress_bulk_latencies", EGRESS, latency_ms, "Bulk publishing, in milliseconds";
    ingress: Counts<4> = "dapr_component_pubsub_ingress_count", INGRESS, "Messages delivered, by what became of them";
    ingress_latency: Spreads<4> = "dapr_component_pubsub_ingress_latencies", INGRESS, latency_ms, "Handling of messages by the app, in milliseconds";
    bulk_ingress: Counts<3> = "dapr_component_pubsub_ingress_bulk_count", BULK_INGRESS, "Bulk deliveries";
    bulk_ingress_events: Counts<3> = "dapr_component_pubsub_ingress_bulk_event_count", BULK_INGRESS, "Messages delivered in bulk";
    bulk_ingress_latency: Spreads<3> = "dapr_component_pubsub_ingress_bulk_latencies", BULK_INGRESS, latency_ms, "Handling of bulk deliveries, in milliseconds";
    component_loaded: Counts<0> = "dapr_runtime_component_loaded", APP, "Components loaded";
    component_init: Counts<1> = "dapr_runtime_component_init_total", COMPONENT, "Components initialised";
    component_init_failed: Counts<2> = "dapr_runtime_component_init_fail_total", COMPONENT_FAILED, "Components that failed to initialise";
    invoke_sent: Counts<2> = "dapr_runtime_service_invocation_req_sent_total", TO_APP, "Calls to other apps sent";
    invoke_received: Counts<2> = "dapr_runtime_service_invocation_req_recv_total", FROM_APP, "Calls from other apps received";
    invoke_answered: Counts<2> = "dapr_runtime_service_invocation_res_sent_total", ANSWER_TO, "Calls from other apps answered";
    invoke_answer_received: Counts<3> = "dapr_runtime_service_invocation_res_recv_total", ANSWER_FROM, "Answers of other apps received";
    invoke_latency: Spreads<2> = "dapr_runtime_service_invocation_res_recv_latency_ms", ANSWER_TIME, latency_ms, "Calls to other apps, in milliseconds";
    policies_loaded: Counts<1> = "dapr_resiliency_loaded", POLICIES, "Resiliency resources loaded";
    policies_applied: Counts<5> = "dapr_resiliency_count", POLICY, "Calls and attempts that a policy looked after";
    policies_activated: Counts<5> = "dapr_resiliency_activations_total", POLICY, "Times a policy did something: a timeout cut off, a retry was made, a breaker changed";
    policy_decisions: Counts<3> = "outrigger_policy_decisions_total", DECISION, "Decisions of policies that are not the usual one, by reason";
    breaker_state: Levels<5> = "dapr_resiliency_cb_state", POLICY, "1 for the state that a circuit breaker is in, 0 for the others";
    errors: Counts<2> = "dapr_error_code_total", ERROR, "Errors answered, by code";
}
