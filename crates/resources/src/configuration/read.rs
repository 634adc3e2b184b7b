//! Reading kind `Configuration`.

use super::{
    AccessControl, Action, ApiAccess, ApiLogging, ApiProtocol, ApiRule, AppPolicy, Configuration,
    Feature, Handler, Mtls, NameResolution, Operation, Retention, SecretScope, WorkflowSettings,
};
use crate::{
    codes,
    fields::{Fields, Report},
    issue::{Issue, Severity},
    typo,
    value::Head,
};
use std::collections::{BTreeMap, BTreeSet};

const ACTIONS: [(&str, Action); 2] = [("allow", Action::Allow), ("deny", Action::Deny)];

/// The parts of the API that can be allowed or denied.
const API_NAMES: [&str; 17] = [
    "actors",
    "bindings",
    "configuration",
    "conversation",
    "crypto",
    "healthz",
    "invoke",
    "jobs",
    "lock",
    "metadata",
    "publish",
    "secrets",
    "shutdown",
    "state",
    "subtlecrypto",
    "unlock",
    "workflows",
];

const API_VERSIONS: [&str; 4] = ["v1", "v1alpha1", "v1alpha2", "v1beta1"];

impl Configuration {
    pub(crate) fn read(report: &mut Report, fields: &mut Fields<'_>, head: Head) -> Self {
        let origins = vec![report.origin(fields.place())];
        let mut read = Self { head, origins, ..Self::default() };
        let Some(mut spec) = fields.object(report, "spec") else { return read };
        let features = spec.objects(report, "features");
        read.features =
            features.map(|all| all.into_iter().map(|f| read_feature(report, f)).collect());
        read.api = section(report, &mut spec, "api", read_api);
        read.secret_scopes = section(report, &mut spec, "secrets", read_secret_scopes);
        read.access_control = section(report, &mut spec, "accessControl", read_access_control);
        read.http_pipeline = section(report, &mut spec, "httpPipeline", read_pipeline);
        read.app_http_pipeline = section(report, &mut spec, "appHttpPipeline", read_pipeline);
        read.name_resolution = section(report, &mut spec, "nameResolution", read_name_resolution);
        read.tracing = section(report, &mut spec, "tracing", super::telemetry::read_tracing);
        let metrics = section(report, &mut spec, "metrics", super::telemetry::read_metrics);
        read.metrics = section(report, &mut spec, "metric", super::telemetry::read_metrics);
        read.metrics.overlay(metrics);
        read.mtls = section(report, &mut spec, "mtls", read_mtls);
        read.components_deny =
            section(report, &mut spec, "components", |report, f| f.texts(report, "deny"));
        read.api_logging = section(report, &mut spec, "logging", |report, f| {
            section(report, f, "apiLogging", read_api_logging)
        });
        read.wasm_strict_sandbox =
            section(report, &mut spec, "wasm", |report, f| f.switch(report, "strictSandbox"));
        read.workflow = section(report, &mut spec, "workflow", read_workflow);
        spec.finish(report);
        read
    }
}

/// Reads a mapping if it is there, and reports what is unknown in it.
pub(super) fn section<T: Default>(
    report: &mut Report,
    fields: &mut Fields<'_>,
    name: &'static str,
    read: impl FnOnce(&mut Report, &mut Fields<'_>) -> T,
) -> T {
    let Some(mut below) = fields.object(report, name) else { return T::default() };
    let value = read(report, &mut below);
    below.finish(report);
    value
}

fn read_feature(report: &mut Report, mut fields: Fields<'_>) -> Feature {
    let name = fields.required(report, "name");
    let enabled = fields.switch(report, "enabled").unwrap_or(false);
    fields.finish(report);
    Feature { name, enabled }
}

fn read_api(report: &mut Report, fields: &mut Fields<'_>) -> ApiAccess {
    let mut rules = |name| {
        let entries = fields.objects(report, name)?;
        Some(entries.into_iter().flat_map(|entry| read_api_rule(report, entry)).collect())
    };
    ApiAccess { allowed: rules("allowed"), denied: rules("denied") }
}

fn read_api_rule(report: &mut Report, mut fields: Fields<'_>) -> Vec<ApiRule> {
    let name = fields.required(report, "name");
    if !name.is_empty() && !API_NAMES.contains(&name.as_str()) {
        let origin = report.origin(fields.place_of("name"));
        let message = format!("there is no part of the API called \"{name}\"");
        let mut issue = Issue::new(Severity::Warning, codes::BAD_VALUE, origin, message);
        if let Some(near) = typo::nearest(&name, API_NAMES) {
            issue = issue.remedy(format!("Did you mean {near}?"));
        }
        report.push(issue);
    }
    let version = read_api_version(report, &mut fields);
    let protocols = [("http", ApiProtocol::Http), ("grpc", ApiProtocol::Grpc)];
    let protocol = fields.choice(report, "protocol", &protocols);
    fields.finish(report);
    // A rule that does not say means both: for a list that keeps people out, the safer reading.
    let both = protocols.map(|(_, protocol)| protocol);
    let meant = protocol.as_ref().map_or(both.as_slice(), std::slice::from_ref);
    let rule = |&protocol| ApiRule { name: name.clone(), version: version.clone(), protocol };
    meant.iter().map(rule).collect()
}

/// The version in its short form: `v1.0-alpha1` and `v1alpha1` are the same.
fn read_api_version(report: &mut Report, fields: &mut Fields<'_>) -> String {
    let text = fields.required(report, "version");
    let short = text.to_ascii_lowercase().replace("v1.0-", "v1").replace("v1.0", "v1");
    if !text.is_empty() && !API_VERSIONS.contains(&short.as_str()) {
        let (path, known) = (fields.path_of("version"), API_VERSIONS.join(", "));
        let message = format!("{path} must be one of {known}, not \"{text}\"");
        report.error(codes::BAD_VALUE, fields.place_of("version"), message);
    }
    short
}

fn read_secret_scopes(report: &mut Report, fields: &mut Fields<'_>) -> Option<Vec<SecretScope>> {
    let mut names = BTreeSet::new();
    let mut scopes = Vec::new();
    for mut entry in fields.objects(report, "scopes")? {
        let scope = SecretScope {
            store_name: entry.required(report, "storeName"),
            default_access: entry
                .choice(report, "defaultAccess", &ACTIONS)
                .unwrap_or(Action::Allow),
            allowed: entry.texts(report, "allowedSecrets").unwrap_or_default(),
            denied: entry.texts(report, "deniedSecrets").unwrap_or_default(),
        };
        if !names.insert(scope.store_name.clone()) {
            // Whichever of the two won, somebody's restriction would be lost: so it is an error.
            let message = format!("the store \"{}\" has two scopes", scope.store_name);
            report.error(codes::DUPLICATE_NAME, entry.place(), message);
        }
        entry.finish(report);
        scopes.push(scope);
    }
    Some(scopes)
}

fn read_access_control(report: &mut Report, fields: &mut Fields<'_>) -> AccessControl {
    let default_action = fields.choice(report, "defaultAction", &ACTIONS);
    let trust_domain = fields.string(report, "trustDomain");
    let policies = fields
        .objects(report, "policies")
        .map(|entries| entries.into_iter().map(|entry| read_app_policy(report, entry)).collect());
    AccessControl { default_action, trust_domain, policies }
}

fn read_app_policy(report: &mut Report, mut fields: Fields<'_>) -> AppPolicy {
    let app_id = fields.required(report, "appId");
    let default_action = fields.choice(report, "defaultAction", &ACTIONS);
    let trust_domain = fields.required(report, "trustDomain");
    let namespace = fields.required(report, "namespace");
    let operations = fields.objects(report, "operations").unwrap_or_default();
    let operations = operations.into_iter().map(|f| read_operation(report, f)).collect();
    fields.finish(report);
    AppPolicy { app_id, default_action, trust_domain, namespace, operations }
}

fn read_operation(report: &mut Report, mut fields: Fields<'_>) -> Operation {
    let name = fields.required(report, "name");
    let name = if name.starts_with('/') { name } else { format!("/{name}") };
    let verbs = fields.texts(report, "httpVerb").unwrap_or_default();
    let action = fields.choice(report, "action", &ACTIONS);
    if action.is_none() && fields.get("action").is_none() {
        fields.missing(report, "action");
    }
    fields.finish(report);
    let verbs = verbs.into_iter().map(|verb| verb.to_ascii_uppercase()).collect();
    Operation { name, verbs, action: action.unwrap_or(Action::Deny) }
}

fn read_pipeline(report: &mut Report, fields: &mut Fields<'_>) -> Option<Vec<Handler>> {
    let handlers = fields.objects(report, "handlers")?;
    Some(handlers.into_iter().map(|handler| read_handler(report, handler)).collect())
}

fn read_handler(report: &mut Report, mut fields: Fields<'_>) -> Handler {
    let origin = report.origin(fields.place());
    let name = fields.required(report, "name");
    let type_name = fields.required(report, "type").to_ascii_lowercase();
    let version = fields.string(report, "version").unwrap_or_else(|| "v1".into());
    let selector = section(report, &mut fields, "selector", |report, selector| {
        let mut pairs = Vec::new();
        for mut pair in selector.objects(report, "fields").unwrap_or_default() {
            pairs.push((pair.required(report, "field"), pair.required(report, "value")));
            pair.finish(report);
        }
        pairs
    });
    fields.finish(report);
    Handler { name, type_name, version, selector, origin }
}

fn read_name_resolution(report: &mut Report, fields: &mut Fields<'_>) -> NameResolution {
    NameResolution {
        component: fields.string(report, "component"),
        version: fields.string(report, "version"),
        configuration: fields.get("configuration").map(|node| node.to_json()),
    }
}

fn read_mtls(report: &mut Report, fields: &mut Fields<'_>) -> Mtls {
    let enabled = fields.switch(report, "enabled");
    let workload_cert_ttl = fields.duration(report, "workloadCertTTL", None);
    let allowed_clock_skew = fields.duration(report, "allowedClockSkew", None);
    let sentry_address = fields.string(report, "sentryAddress");
    let control_plane_trust_domain = fields.string(report, "controlPlaneTrustDomain");
    let token_validators = fields.objects(report, "tokenValidators").map(|entries| {
        let read = |mut entry: Fields<'_>| {
            let name = entry.required(report, "name");
            let options = entry.get("options").map_or(serde_json::Value::Null, |o| o.to_json());
            entry.finish(report);
            (name, options)
        };
        entries.into_iter().map(read).collect()
    });
    Mtls {
        enabled,
        workload_cert_ttl,
        allowed_clock_skew,
        sentry_address,
        control_plane_trust_domain,
        token_validators,
    }
}

fn read_api_logging(report: &mut Report, fields: &mut Fields<'_>) -> ApiLogging {
    ApiLogging {
        enabled: fields.switch(report, "enabled"),
        obfuscate_urls: fields.switch(report, "obfuscateURLs"),
        omit_health_checks: fields.switch(report, "omitHealthChecks"),
    }
}

fn read_workflow(report: &mut Report, fields: &mut Fields<'_>) -> WorkflowSettings {
    let mut count = |report: &mut Report, name| {
        fields.integer(report, name, 0..=i32::MAX.unsigned_abs()).filter(|limit| *limit > 0)
    };
    let max_concurrent_workflows = count(report, "maxConcurrentWorkflowInvocations");
    let max_concurrent_activities = count(report, "maxConcurrentActivityInvocations");
    let global_max_concurrent_workflows = count(report, "globalMaxConcurrentWorkflowInvocations");
    let global_max_concurrent_activities = count(report, "globalMaxConcurrentActivityInvocations");
    WorkflowSettings {
        max_concurrent_workflows,
        max_concurrent_activities,
        global_max_concurrent_workflows,
        global_max_concurrent_activities,
        workflow_limits: read_limits(report, fields, "workflowConcurrencyLimits"),
        activity_limits: read_limits(report, fields, "activityConcurrencyLimits"),
        retention: section(report, fields, "stateRetentionPolicy", |report, fields| Retention {
            any_terminal: fields.duration(report, "anyTerminal", None),
            completed: fields.duration(report, "completed", None),
            failed: fields.duration(report, "failed", None),
            terminated: fields.duration(report, "terminated", None),
        }),
    }
}

fn read_limits(
    report: &mut Report,
    fields: &mut Fields<'_>,
    name: &'static str,
) -> Option<BTreeMap<String, u32>> {
    let mut limits = BTreeMap::new();
    for mut entry in fields.objects(report, name)? {
        let name = entry.required(report, "name");
        let limit = entry.integer(report, "maxConcurrent", 0..=i32::MAX.unsigned_abs());
        if let Some(limit) = limit.filter(|limit| *limit > 0) {
            limits.insert(name, limit);
        }
        entry.finish(report);
    }
    Some(limits)
}
