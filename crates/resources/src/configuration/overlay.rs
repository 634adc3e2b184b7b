//! Laying one configuration over another: what the upper one says counts, field by field.

use super::{
    AccessControl, ApiAccess, ApiLogging, Configuration, Metrics, MetricsHttp, Mtls,
    NameResolution, Otel, Retention, Tracing, WorkflowSettings, Zipkin,
};

/// Takes every listed field that `upper` has. The pattern names all fields, so that a new one cannot be forgotten here.
macro_rules! lay {
    ($under:expr, $upper:expr, $kind:ident { $($leaf:ident),* $(,)? } { $($branch:ident),* $(,)? }) => {{
        let $kind { $($leaf,)* $($branch,)* } = $upper;
        $(if $leaf.is_some() { $under.$leaf = $leaf; })*
        $($under.$branch.overlay($branch);)*
    }};
}

impl Configuration {
    /// Lays `upper` over this one.
    pub fn overlay(&mut self, upper: Self) {
        let Self {
            head,
            features,
            api,
            secret_scopes,
            access_control,
            http_pipeline,
            app_http_pipeline,
            name_resolution,
            tracing,
            metrics,
            mtls,
            components_deny,
            api_logging,
            wasm_strict_sandbox,
            workflow,
            origins,
        } = upper;
        if !head.name.is_empty() {
            self.head = head;
        }
        over(&mut self.features, features);
        over(&mut self.secret_scopes, secret_scopes);
        over(&mut self.http_pipeline, http_pipeline);
        over(&mut self.app_http_pipeline, app_http_pipeline);
        over(&mut self.components_deny, components_deny);
        over(&mut self.wasm_strict_sandbox, wasm_strict_sandbox);
        self.api.overlay(api);
        self.access_control.overlay(access_control);
        self.name_resolution.overlay(name_resolution);
        self.tracing.overlay(tracing);
        self.metrics.overlay(metrics);
        self.mtls.overlay(mtls);
        self.api_logging.overlay(api_logging);
        self.workflow.overlay(workflow);
        self.origins.extend(origins);
    }
}

fn over<T>(under: &mut Option<T>, upper: Option<T>) {
    if upper.is_some() {
        *under = upper;
    }
}

impl ApiAccess {
    fn overlay(&mut self, upper: Self) {
        lay!(self, upper, ApiAccess { allowed, denied } {});
    }
}

impl AccessControl {
    fn overlay(&mut self, upper: Self) {
        lay!(self, upper, AccessControl { default_action, trust_domain, policies } {});
    }
}

impl NameResolution {
    fn overlay(&mut self, upper: Self) {
        lay!(self, upper, NameResolution { component, version, configuration } {});
    }
}

impl Tracing {
    fn overlay(&mut self, upper: Self) {
        lay!(self, upper, Tracing { sampling_rate, stdout } { zipkin, otel });
    }
}

impl Zipkin {
    fn overlay(&mut self, upper: Self) {
        lay!(self, upper, Zipkin { endpoint_address } {});
    }
}

impl Otel {
    fn overlay(&mut self, upper: Self) {
        lay!(self, upper, Otel { endpoint_address, is_secure, protocol, headers, timeout } {});
    }
}

impl Metrics {
    pub(super) fn overlay(&mut self, upper: Self) {
        lay!(self, upper, Metrics { enabled, record_error_codes, latency_buckets_ms, rules } { http });
    }
}

impl MetricsHttp {
    fn overlay(&mut self, upper: Self) {
        lay!(self, upper, MetricsHttp { increased_cardinality, path_matching, exclude_verbs } {});
    }
}

impl Mtls {
    fn overlay(&mut self, upper: Self) {
        lay!(self, upper, Mtls {
            enabled,
            workload_cert_ttl,
            allowed_clock_skew,
            sentry_address,
            control_plane_trust_domain,
            token_validators,
        } {});
    }
}

impl ApiLogging {
    fn overlay(&mut self, upper: Self) {
        lay!(self, upper, ApiLogging { enabled, obfuscate_urls, omit_health_checks } {});
    }
}

impl WorkflowSettings {
    fn overlay(&mut self, upper: Self) {
        lay!(self, upper, WorkflowSettings {
            max_concurrent_workflows,
            max_concurrent_activities,
            global_max_concurrent_workflows,
            global_max_concurrent_activities,
            workflow_limits,
            activity_limits,
        } { retention });
    }
}

impl Retention {
    fn overlay(&mut self, upper: Self) {
        lay!(self, upper, Retention { any_terminal, completed, failed, terminated } {});
    }
}
