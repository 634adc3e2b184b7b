//! # Resources: files into typed structs
//!
//! Users bring YAML (or JSON) files that say which components exist, who may use them, how calls are retried and which
//! apps to start. This crate reads them: bytes in, structs and [`Issue`]s out. It resolves nothing, connects to nothing
//! and keeps nothing; apart from opening the files it is a pure function, so every case is a table row in a test.
//!
//! - [`load()`] reads resource files and folders, [`load_configuration`] the files given by `--config`,
//!   [`multi_app::load`] a run file.
//! - [`resolve()`] turns a component's references to secrets and environment into text; [`Settings`] and its
//!   views read that text as durations, switches, topic scopes.
//! - [`type_catalog`] knows the component types there are and where the systems behind them are to be found.
//! - [`codes`] lists what can be wrong; [`render()`] shows an issue with its line and a caret.
//!
//! ```
//! use outrigger_resources::{parse, render};
//! use std::path::Path;
//!
//! let source = "\
//! apiVersion: dapr.io/v1alpha1
//! kind: Component
//! metadata:
//!   name: statestore
//! spec:
//!   type: state.redis
//!   verison: v1
//! ";
//! let (resources, issues) = parse(Path::new("store.yaml"), source.as_bytes());
//! assert_eq!(resources[0].head().name, "statestore");
//! assert_eq!(issues[0].remedy, "Did you mean version?");
//! assert!(render(&issues[0], source).contains("store.yaml:7:3"));
//! ```
//!
//! The invariants: no input makes it panic, recurse deeply or take time out of proportion to its size (size, depth and
//! alias budgets are checked while reading); one bad document never hides another; every issue says where, what and
//! what to do.
//!
//! What it is not: a validator of foreign systems' settings. A setting that only a component's driver understands is
//! kept as text.
#![forbid(unsafe_code)]

pub mod codes;
mod component;
mod configuration;
mod document;
pub mod duration;
mod fields;
mod http_endpoint;
mod issue;
mod load;
pub mod multi_app;
pub mod quantity;
mod render;
mod resiliency;
mod resolve;
mod settings;
mod subscription;
mod topic_scopes;
pub mod type_catalog;
mod typo;
mod value;
mod yaml;

pub use codes::{CODES, explain};
pub use component::{Component, INIT_TIMEOUT_DEFAULT};
pub use configuration::{
    AccessControl, Action, ApiAccess, ApiLogging, ApiProtocol, ApiRule, AppPolicy, Caller,
    Configuration, Feature, Handler, Metrics, MetricsHttp, MetricsLabel, MetricsRule, Mtls,
    NameResolution, Operation, Otel, OtelProtocol, Retention, SecretScope, Tracing,
    WorkflowSettings, Zipkin,
};
pub use http_endpoint::{ClientTls, HttpEndpoint, Renegotiation};
pub use issue::{Issue, Origin, Severity};
pub use load::{
    Body, Other, Resource, check_together, load, load_configuration, parse, parse_configuration,
};
pub use render::render;
pub use resiliency::{
    AbortEnd, AbortFault, ActorTarget, AdaptiveTimeoutPolicy, AppTarget, BUILT_IN_POLICIES,
    BalanceStrategy, BreakerRates, BreakerScope, BreakerWindow, BulkheadPolicy, BulkheadSeats,
    CachePolicy, CircuitBreakerPolicy, ComponentBlock, ComponentTarget, Decimal, DelayFault,
    Direction, EjectionPolicy, FallbackPolicy, FaultPolicy, HedgePolicy, Jitter,
    LoadBalancerPolicy, Policies, PolicyKind, PolicyNames, PolicyTarget, RateLimitPolicy,
    Resiliency, RetryBackoff, RetryBudget, RetryPolicy, RetryRules, StaticAnswer, StatusMatching,
    StickyBy, Targets, ThrottlePolicy, TimeoutPolicy, default_policy_names,
};
pub use resolve::{
    EnvReader, SecretReader, Templates, TlsTexts, resolve, resolve_headers, resolve_tls,
};
pub use settings::{
    DurabilitySetting, KeyPrefixSetting, OutboxSettings, PubsubSettings, Settings, StateSettings,
};
pub use subscription::{BulkSubscribe, RouteRule, Routes, Subscription};
pub use topic_scopes::TopicScopes;
pub use value::{Head, NamedValue, ValueSource};

#[cfg(test)]
mod tests;

/// A text in YAML, or in JSON, as a value; of several documents the first.
///
/// # Errors
/// What is wrong with it, and where.
pub fn plain_value(text: &str) -> Result<serde_json::Value, String> {
    let document = yaml::documents(text, &mut |_, _| None).into_iter().next();
    let document = document.ok_or_else(|| "it is empty".to_owned())?;
    if let Some(fault) = document.complaints.first() {
        return Err(format!("{} at {}:{}", fault.message, fault.place.line, fault.place.column));
    }
    document.root.map(|root| root.to_json()).ok_or_else(|| "it is empty".to_owned())
}

/// Feeds bytes to every reader there is, for fuzzing: whatever they are, it returns.
#[doc(hidden)]
pub fn fuzz_parse(bytes: &[u8]) {
    let file = std::path::Path::new("fuzz.yaml");
    let (mut resources, issues) = parse(file, bytes);
    let together = check_together(&mut resources);
    let env = |name: &str| Some(name.to_owned());
    let (configuration, more) = parse_configuration(file, bytes, &env);
    let (run_file, yet_more) = multi_app::parse(file, bytes, &|_| true, None);
    let text = String::from_utf8_lossy(bytes);
    for issue in issues.iter().chain(&together).chain(&more).chain(&yet_more).take(20) {
        std::hint::black_box(render(issue, &text));
    }
    for resource in &resources {
        let Body::Component(component) = &resource.body else { continue };
        std::hint::black_box(type_catalog::addresses(component));
        let resolved = resolve(component, &|_, name, _| Ok(name.to_owned()), &env);
        let Ok(mut values) = resolved else { continue };
        let templates =
            Templates { app_id: "a", namespace: "n", pod_name: None, uuid: &|| "{uuid}".into() };
        std::hint::black_box(templates.fill(component, &mut values).is_ok());
        let settings = Settings::new(component, &values);
        std::hint::black_box(StateSettings::read(settings).is_ok());
        std::hint::black_box(PubsubSettings::read(settings).is_ok());
    }
    std::hint::black_box((configuration, run_file));
}
