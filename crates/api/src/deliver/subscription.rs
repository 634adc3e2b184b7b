//! What an app wants to hear: one topic of one broker, and where its events go.
//!
//! Subscriptions come from three places and look the same from here on: resource files ([`Subscription::declared`]), the
//! app itself when it is asked (`discovery`), and streams that the app opens. A broker and topic that is wanted twice is
//! served once:
//!
//! | wanted by | against | wins |
//! |---|---|---|
//! | the app, when asked | a resource file | the app |
//! | a resource file | a later resource file | the first |
//! | the app, when asked | the same answer, further down | the first |
//! | a stream | anything | nobody: every stream is a consumer of its own |

use crate::names;
use outrigger_events::Batch;
use outrigger_proto::runtime::v1 as pb;
use outrigger_resources as resources;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Messages of a bulk delivery where the subscription gives no number.
pub(crate) const BULK_MESSAGES: u32 = 100;
/// How long a bulk delivery waits for company where the subscription gives no time.
pub(crate) const BULK_WAIT: Duration = Duration::from_secs(1);
/// The longest bulk delivery that can be asked for.
pub(crate) const BULK_MESSAGES_MAX: u32 = 10_000;
/// The longest wait that can be asked for.
pub(crate) const BULK_WAIT_MAX: Duration = Duration::from_secs(60 * 60);

/// Where a subscription comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A resource file.
    Declarative,
    /// The app's answer when it was asked.
    Programmatic,
    /// A stream that the app has opened.
    Streaming,
}

/// Events for which the condition holds go to the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// CEL over `event`.
    pub(crate) condition: String,
    /// The app's path.
    pub(crate) path: String,
}

/// One topic that an app wants to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    /// The broker component's name.
    pub(crate) pubsub: Arc<str>,
    /// The topic.
    pub(crate) topic: Arc<str>,
    /// Rules, the first that holds wins.
    pub(crate) rules: Vec<Rule>,
    /// The path where no rule holds; `None` gives such events up.
    pub(crate) default: Option<String>,
    /// Wishes, such as `rawPayload`.
    pub(crate) metadata: BTreeMap<String, String>,
    /// Where events go that were given up.
    pub(crate) dead_letter_topic: Option<String>,
    /// Several events per delivery; `None` for one at a time.
    pub(crate) bulk: Option<Batch>,
    /// Where the subscription comes from.
    pub(crate) kind: Kind,
}

impl Subscription {
    /// A subscription without wishes: everything to `path`.
    pub(crate) fn new(kind: Kind, pubsub: &str, topic: &str, path: &str) -> Self {
        Self {
            pubsub: pubsub.into(),
            topic: topic.into(),
            rules: Vec::new(),
            default: Some(path.to_owned()),
            metadata: BTreeMap::new(),
            dead_letter_topic: None,
            bulk: None,
            kind,
        }
    }

    /// The subscription that a resource file declares.
    pub(crate) fn declared(resource: &resources::Subscription) -> Self {
        let rule = |rule: &resources::RouteRule| Rule {
            condition: rule.condition.clone(),
            path: rule.path.clone(),
        };
        Self {
            pubsub: resource.pubsub_name.as_str().into(),
            topic: resource.topic.as_str().into(),
            rules: resource.routes.rules.iter().map(rule).collect(),
            default: resource.routes.default.clone(),
            metadata: resource.metadata.clone(),
            dead_letter_topic: resource.dead_letter_topic.clone(),
            bulk: resource.bulk.map(|bulk| batch(bulk.max_messages, bulk.max_wait)),
            kind: Kind::Declarative,
        }
    }

    /// Whether its messages are taken as bytes without an envelope.
    pub(crate) fn is_raw(&self) -> bool {
        let wish =
            self.metadata.iter().find(|(name, _)| name.eq_ignore_ascii_case(names::RAW_PAYLOAD));
        wish.is_some_and(|(_, value)| {
            matches!(value.trim(), "1" | "t" | "T" | "true" | "True" | "TRUE")
        })
    }

    /// As `metadata` shows it. The default is a rule whose condition is empty.
    pub(crate) fn listed(&self) -> pb::PubsubSubscription {
        let rule = |condition: &str, path: &str| pb::PubsubSubscriptionRule {
            r#match: condition.to_owned(),
            path: path.to_owned(),
        };
        let rules = self.rules.iter().map(|one| rule(&one.condition, &one.path));
        let rules = rules.chain(self.default.iter().map(|path| rule("", path))).collect();
        let kind = match self.kind {
            Kind::Declarative => pb::PubsubSubscriptionType::Declarative,
            Kind::Programmatic => pb::PubsubSubscriptionType::Programmatic,
            Kind::Streaming => pb::PubsubSubscriptionType::Streaming,
        };
        pb::PubsubSubscription {
            pubsub_name: self.pubsub.to_string(),
            topic: self.topic.to_string(),
            metadata: self.metadata.clone(),
            rules: Some(pb::PubsubSubscriptionRules { rules }),
            dead_letter_topic: self.dead_letter_topic.clone().unwrap_or_default(),
            r#type: kind.into(),
        }
    }
}

/// A batch within the bounds; zero stands for the default, as it does on the wire.
pub(crate) fn batch(max_messages: u32, max_wait: Duration) -> Batch {
    Batch {
        max_messages: if max_messages == 0 {
            BULK_MESSAGES
        } else {
            max_messages.min(BULK_MESSAGES_MAX)
        },
        max_wait: if max_wait.is_zero() { BULK_WAIT } else { max_wait.min(BULK_WAIT_MAX) },
    }
}

/// What is served at once: by broker and topic.
pub(crate) type Key = (Arc<str>, Arc<str>);

/// What is to be served when `declared` stands in resource files and the app, when asked, said `asked`.
pub(crate) fn merge(
    declared: &[Arc<Subscription>],
    asked: &[Arc<Subscription>],
) -> BTreeMap<Key, Arc<Subscription>> {
    let mut wanted: BTreeMap<Key, Arc<Subscription>> = BTreeMap::new();
    for one in asked.iter().chain(declared) {
        let key = (Arc::clone(&one.pubsub), Arc::clone(&one.topic));
        wanted.entry(key).or_insert_with(|| Arc::clone(one));
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::{BULK_MESSAGES, BULK_WAIT, Kind, Rule, Subscription, batch, merge};
    use std::{sync::Arc, time::Duration};

    fn wanted(kind: Kind, topic: &str, path: &str) -> Arc<Subscription> {
        Arc::new(Subscription::new(kind, "broker", topic, path))
    }

    #[test]
    fn who_wins() {
        let declared = [
            wanted(Kind::Declarative, "a", "/first"),
            wanted(Kind::Declarative, "a", "/second"),
            wanted(Kind::Declarative, "b", "/file"),
        ];
        let asked =
            [wanted(Kind::Programmatic, "b", "/app"), wanted(Kind::Programmatic, "b", "/late")];
        let merged = merge(&declared, &asked);
        let paths: Vec<_> =
            merged.iter().map(|((_, topic), one)| (&**topic, one.default.as_deref())).collect();
        assert_eq!(paths, [("a", Some("/first")), ("b", Some("/app"))]);
    }

    #[test]
    fn raw_is_a_wish_spelled_in_many_ways() {
        for (name, value, raw) in [
            ("rawPayload", "true", true),
            ("rawpayload", "1", true),
            ("rawPayload", "false", false),
            ("rawPayload", "yes", false),
            ("other", "true", false),
        ] {
            let mut one = Subscription::new(Kind::Streaming, "broker", "t", "/");
            one.metadata.insert(name.to_owned(), value.to_owned());
            assert_eq!(one.is_raw(), raw, "{name}={value}");
        }
    }

    #[test]
    fn the_default_path_is_listed_as_the_last_rule() {
        let mut one = Subscription::new(Kind::Programmatic, "broker", "t", "/rest");
        one.rules.push(Rule { condition: "event.type == 'x'".to_owned(), path: "/x".to_owned() });
        let rules = one.listed().rules.unwrap_or_default().rules;
        let rules: Vec<_> = rules.iter().map(|r| (r.r#match.as_str(), r.path.as_str())).collect();
        assert_eq!(rules, [("event.type == 'x'", "/x"), ("", "/rest")]);
    }

    #[test]
    fn zero_is_the_default_of_a_batch() {
        let zero = batch(0, Duration::ZERO);
        assert_eq!((zero.max_messages, zero.max_wait), (BULK_MESSAGES, BULK_WAIT));
        assert!(batch(u32::MAX, Duration::MAX).max_wait < Duration::from_secs(3601));
    }
}
