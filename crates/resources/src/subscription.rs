//! Kind `Subscription`, both versions: which topic an app listens to, and on which path.

use crate::{
    codes,
    fields::{Fields, Report},
    issue::{Issue, Origin, Severity},
    value::Head,
};
use std::{collections::BTreeMap, time::Duration};

/// A declared subscription. The older version's single `route` becomes [`Routes::default`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Name, namespace, labels and scopes.
    pub head: Head,
    /// `spec.pubsubname`.
    pub pubsub_name: String,
    /// `spec.topic`.
    pub topic: String,
    /// `spec.routes`, or `spec.route` of v1alpha1.
    pub routes: Routes,
    /// `spec.deadLetterTopic`; `None` when absent or empty.
    pub dead_letter_topic: Option<String>,
    /// `spec.metadata`.
    pub metadata: BTreeMap<String, String>,
    /// `spec.bulkSubscribe`, when it is enabled.
    pub bulk: Option<BulkSubscribe>,
    /// Where the document begins.
    pub origin: Origin,
}

/// Where events go: the first rule whose condition holds, else the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Rules in order.
    pub rules: Vec<RouteRule>,
    /// The path for events no rule matched; `None` drops them.
    pub default: Option<String>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRule {
    /// A CEL expression over `event`. Not compiled here.
    pub condition: String,
    /// The app's path.
    pub path: String,
    /// Where the rule stands.
    pub origin: Origin,
}

/// Delivery in batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkSubscribe {
    /// At most this many events in one batch (100).
    pub max_messages: u32,
    /// A batch waits at most this long to fill (1 s).
    pub max_wait: Duration,
}

impl Default for BulkSubscribe {
    fn default() -> Self {
        Self { max_messages: 100, max_wait: Duration::from_secs(1) }
    }
}

/// Which of the two versions a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubscriptionVersion {
    /// One route.
    V1Alpha1,
    /// Routes by condition.
    V2Alpha1,
}

impl Subscription {
    pub(crate) fn read(
        report: &mut Report,
        fields: &mut Fields<'_>,
        head: Head,
        version: SubscriptionVersion,
    ) -> Option<Self> {
        let origin = report.origin(fields.place());
        let Some(mut spec) = fields.object(report, "spec") else {
            fields.missing(report, "spec");
            return None;
        };
        let subscription = Self {
            head,
            pubsub_name: spec.required(report, "pubsubname"),
            topic: spec.required(report, "topic"),
            routes: match version {
                SubscriptionVersion::V1Alpha1 => one_route(report, &mut spec),
                SubscriptionVersion::V2Alpha1 => routes(report, &mut spec),
            },
            dead_letter_topic: spec.string(report, "deadLetterTopic"),
            metadata: spec.text_map(report, "metadata").unwrap_or_default(),
            bulk: bulk(report, &mut spec),
            origin,
        };
        spec.finish_spec(report);
        Some(subscription)
    }
}

fn one_route(report: &mut Report, spec: &mut Fields<'_>) -> Routes {
    if spec.get("routes").is_some() {
        let message = "spec.routes has no effect in dapr.io/v1alpha1";
        let origin = report.origin(spec.place_of("routes"));
        let issue = Issue::new(Severity::Warning, codes::UNKNOWN_FIELD, origin, message);
        report.push(issue.remedy("Write apiVersion: dapr.io/v2alpha1, which has routes."));
    }
    Routes { rules: Vec::new(), default: Some(spec.required(report, "route")) }
}

fn routes(report: &mut Report, spec: &mut Fields<'_>) -> Routes {
    let mut routes = Routes::default();
    let Some(mut fields) = spec.object(report, "routes") else {
        spec.missing(report, "routes");
        return routes;
    };
    routes.default = fields.string(report, "default");
    let mut catch_all = None;
    for mut rule in fields.objects(report, "rules").unwrap_or_default() {
        if catch_all.is_some() {
            let message = "this rule is never reached: an earlier one has no condition";
            report.warn(codes::NO_EFFECT, rule.place(), message);
        }
        let origin = report.origin(rule.place());
        let condition = rule.string(report, "match");
        let path = rule.required(report, "path");
        match condition {
            // A rule without a condition takes all that is left.
            None => catch_all = catch_all.or(Some(path)),
            Some(_) if catch_all.is_some() => {}
            Some(condition) => routes.rules.push(RouteRule { condition, path, origin }),
        }
        rule.finish(report);
    }
    routes.default = catch_all.or(routes.default);
    if routes.rules.is_empty() && routes.default.is_none() {
        let message = "spec.routes leads nowhere: it has neither rules nor a default";
        report.error(codes::MISSING_FIELD, fields.place(), message);
    }
    fields.finish(report);
    routes
}

fn bulk(report: &mut Report, spec: &mut Fields<'_>) -> Option<BulkSubscribe> {
    let mut fields = spec.object(report, "bulkSubscribe")?;
    let mut bulk = BulkSubscribe::default();
    let enabled = fields.switch(report, "enabled").unwrap_or(false);
    // Zero is how the older files say "the default".
    match fields.integer(report, "maxMessagesCount", 0..=100_000_u32) {
        None | Some(0) => {}
        Some(count) => bulk.max_messages = count,
    }
    match fields.integer(report, "maxAwaitDurationMs", 0..=3_600_000_u64) {
        None | Some(0) => {}
        Some(millis) => bulk.max_wait = Duration::from_millis(millis),
    }
    fields.finish(report);
    enabled.then_some(bulk)
}
