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

/// Reads `app1=t1,t2;app2=t3`. An app without topics may use none; an app given twice is refused, because the reference
/// would count only one of the two.
pub(crate) fn parse_scopes(text: &str) -> Result<BTreeMap<String, BTreeSet<String>>, String> {
    let mut scopes = BTreeMap::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (app, topics) =
            part.split_once('=').ok_or_else(|| format!("\"{part}\" has no equals sign"))?;
        let app = app.trim();
        if app.is_empty() {
            return Err(format!("\"{part}\" names no app"));
        }
        if scopes.insert(app.to_owned(), parse_topics(topics)).is_some() {
            return Err(format!("the app {app} is given twice"));
        }
    }
    Ok(scopes)
}

/// Reads `t1,t2`.
pub(crate) fn parse_topics(text: &str) -> BTreeSet<String> {
    text.split(',').map(str::trim).filter(|topic| !topic.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::{TopicScopes, parse_scopes, parse_topics};

    #[test]
    fn who_may_what() {
        let scopes = TopicScopes {
            publishing: parse_scopes("app1=t1, t2 ; app2=").unwrap(),
            subscription: parse_scopes("app1=t1").unwrap(),
            allowed: parse_topics("t1,t2,secret"),
            protected: parse_topics("secret"),
        };
        assert!(scopes.can_publish("app1", "t1"));
        assert!(scopes.can_publish("app1", "t2"));
        assert!(!scopes.can_publish("app1", "secret"));
        assert!(!scopes.can_publish("app2", "t1"));
        assert!(scopes.can_publish("app3", "t1"));
        assert!(!scopes.can_publish("app3", "secret"));
        assert!(!scopes.can_publish("app3", "unlisted"));
        assert!(scopes.can_subscribe("app1", "t1"));
        assert!(!scopes.can_subscribe("app1", "t2"));
        assert!(scopes.can_subscribe("app2", "t2"));
        assert!(TopicScopes::default().can_publish("any", "thing"));
    }

    #[test]
    fn refusals() {
        assert_eq!(parse_scopes("app1").unwrap_err(), "\"app1\" has no equals sign");
        assert_eq!(parse_scopes("=t").unwrap_err(), "\"=t\" names no app");
        assert_eq!(parse_scopes("a=t;a=u").unwrap_err(), "the app a is given twice");
        assert!(parse_scopes("").unwrap().is_empty());
    }
}
