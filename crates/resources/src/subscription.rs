//! Kind `Subscription`, both versions: which topic an app listens to, and on which path.

use crate::{issue::Origin, value::Head};
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
