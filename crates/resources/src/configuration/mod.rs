//! Kind `Configuration`: how the sidecar itself behaves.
//!
//! Several files may be given; they are laid over one another, later ones winning field by field, lists as a whole.
//! That is why nearly every field is optional here: absent must stay apart from a value that happens to be the default.
//! The methods answer with the default filled in.

mod access;
mod overlay;
mod read;
mod telemetry;

pub use access::{
    AccessControl, Action, ApiAccess, ApiProtocol, ApiRule, AppPolicy, Caller, Operation,
    SecretScope,
};
pub use telemetry::{
    Metrics, MetricsHttp, MetricsLabel, MetricsRule, Otel, OtelProtocol, Tracing, Zipkin,
};

use crate::{issue::Origin, value::Head};
use std::{collections::BTreeMap, time::Duration};

/// How the sidecar behaves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configuration {
    /// Name, namespace, labels. Configurations have no scopes.
    pub head: Head,
    /// `features`.
    pub features: Option<Vec<Feature>>,
    /// `api`: which parts of the API are served.
    pub api: ApiAccess,
    /// `secrets.scopes`.
    pub secret_scopes: Option<Vec<SecretScope>>,
    /// `accessControl`: who may call this app.
    pub access_control: AccessControl,
    /// `httpPipeline.handlers`: middleware in front of the API.
    pub http_pipeline: Option<Vec<Handler>>,
    /// `appHttpPipeline.handlers`: middleware in front of the app.
    pub app_http_pipeline: Option<Vec<Handler>>,
    /// `nameResolution`.
    pub name_resolution: NameResolution,
    /// `tracing`.
    pub tracing: Tracing,
    /// `metrics`, and `metric` below it.
    pub metrics: Metrics,
    /// `mtls`.
    pub mtls: Mtls,
    /// `components.deny`: component types that may not be loaded.
    pub components_deny: Option<Vec<String>>,
    /// `logging.apiLogging`.
    pub api_logging: ApiLogging,
    /// `wasm.strictSandbox`.
    pub wasm_strict_sandbox: Option<bool>,
    /// `workflow`.
    pub workflow: WorkflowSettings,
    /// Where each document that went into this began, in the order they were laid.
    pub origins: Vec<Origin>,
}

impl Configuration {
    /// Whether the feature called `name` is switched on; `default` when no file speaks of it.
    #[must_use]
    pub fn feature(&self, name: &str, default: bool) -> bool {
        let features = self.features.as_deref().unwrap_or_default();
        features.iter().rfind(|feature| feature.name == name).map_or(default, |f| f.enabled)
    }

    /// Whether a component of this type (`state.redis`, `v1`) may be loaded: `components.deny` names types, with or
    /// without a version, as `state.redis` or `state.redis/v1`.
    #[must_use]
    pub fn component_allowed(&self, type_name: &str, version: &str) -> bool {
        let denied = self.components_deny.as_deref().unwrap_or_default();
        !denied.iter().any(|entry| match entry.split_once('/') {
            Some((name, v)) => {
                name.eq_ignore_ascii_case(type_name) && v.eq_ignore_ascii_case(version)
            }
            None => entry.eq_ignore_ascii_case(type_name),
        })
    }

    /// Whether the app may read `secret` of the store called `store`.
    #[must_use]
    pub fn secret_allowed(&self, store: &str, secret: &str) -> bool {
        let scopes = self.secret_scopes.as_deref().unwrap_or_default();
        scopes.iter().find(|scope| scope.store_name == store).is_none_or(|s| s.allows(secret))
    }
}

/// `features[]`: a switch by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The feature's name.
    pub name: String,
    /// On or off.
    pub enabled: bool,
}

/// One step of a middleware pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    /// The component that provides it.
    pub name: String,
    /// That component's type, such as `middleware.http.ratelimit`.
    pub type_name: String,
    /// That component's version.
    pub version: String,
    /// `selector.fields`: requests it applies to; empty means all.
    pub selector: Vec<(String, String)>,
    /// Where the step stands.
    pub origin: Origin,
}

/// `nameResolution`: how app ids become addresses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NameResolution {
    /// `component`, such as `mdns` or `sqlite`.
    pub component: Option<String>,
    /// `version`.
    pub version: Option<String>,
    /// `configuration`, whose shape depends on the component.
    pub configuration: Option<serde_json::Value>,
}

/// `mtls`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mtls {
    /// `enabled`.
    pub enabled: Option<bool>,
    /// `workloadCertTTL`.
    pub workload_cert_ttl: Option<Duration>,
    /// `allowedClockSkew`.
    pub allowed_clock_skew: Option<Duration>,
    /// `sentryAddress`.
    pub sentry_address: Option<String>,
    /// `controlPlaneTrustDomain`.
    pub control_plane_trust_domain: Option<String>,
    /// `tokenValidators`: name and options.
    pub token_validators: Option<Vec<(String, serde_json::Value)>>,
}

/// `logging.apiLogging`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiLogging {
    /// `enabled`; the command line overrides it.
    pub enabled: Option<bool>,
    /// `obfuscateURLs`: log the route, not the path.
    pub obfuscate_urls: Option<bool>,
    /// `omitHealthChecks`.
    pub omit_health_checks: Option<bool>,
}

/// `workflow`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkflowSettings {
    /// `maxConcurrentWorkflowInvocations` in this process; `None` or zero is no limit.
    pub max_concurrent_workflows: Option<u32>,
    /// `maxConcurrentActivityInvocations` in this process.
    pub max_concurrent_activities: Option<u32>,
    /// `globalMaxConcurrentWorkflowInvocations` over all replicas.
    pub global_max_concurrent_workflows: Option<u32>,
    /// `globalMaxConcurrentActivityInvocations` over all replicas.
    pub global_max_concurrent_activities: Option<u32>,
    /// `workflowConcurrencyLimits`: over all replicas, by workflow name.
    pub workflow_limits: Option<BTreeMap<String, u32>>,
    /// `activityConcurrencyLimits`: over all replicas, by activity name.
    pub activity_limits: Option<BTreeMap<String, u32>>,
    /// `stateRetentionPolicy`: how long ended workflows are kept; without it, for ever.
    pub retention: Retention,
}

/// `workflow.stateRetentionPolicy`. The specific durations go before `any_terminal`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// `anyTerminal`.
    pub any_terminal: Option<Duration>,
    /// `completed`.
    pub completed: Option<Duration>,
    /// `failed`.
    pub failed: Option<Duration>,
    /// `terminated`.
    pub terminated: Option<Duration>,
}
