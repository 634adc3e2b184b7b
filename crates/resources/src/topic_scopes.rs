//! Which app may publish and subscribe to which topics of a broker.

use std::collections::{BTreeMap, BTreeSet};

/// The four scoping settings of a broker.
///
/// `allowedTopics`, when given, are the only topics there are. An app named in `publishingScopes` or
/// `subscriptionScopes` (`app1=t1,t2;app2=`) has only the topics listed for it; an app not named has all, except the
/// `protectedTopics`, which need to be granted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicScopes {
    /// `publishingScopes`, by app id.
    pub publishing: BTreeMap<String, BTreeSet<String>>,
    /// `subscriptionScopes`, by app id.
    pub subscription: BTreeMap<String, BTreeSet<String>>,
    /// `allowedTopics`; empty means all.
    pub allowed: BTreeSet<String>,
    /// `protectedTopics`.
    pub protected: BTreeSet<String>,
}

impl TopicScopes {
    /// Whether `app` may publish to `topic`.
    #[must_use]
    pub fn can_publish(&self, app: &str, topic: &str) -> bool {
        self.permits(self.publishing.get(app), topic)
    }

    /// Whether `app` may subscribe to `topic`.
    #[must_use]
    pub fn can_subscribe(&self, app: &str, topic: &str) -> bool {
        self.permits(self.subscription.get(app), topic)
    }

    fn permits(&self, granted: Option<&BTreeSet<String>>, topic: &str) -> bool {
        if !self.allowed.is_empty() && !self.allowed.contains(topic) {
            return false;
        }
        granted.map_or_else(|| !self.protected.contains(topic), |topics| topics.contains(topic))
    }
}
