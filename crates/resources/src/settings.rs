//! Typed reading of a component's resolved settings, with errors that point at the line they stand in.

use crate::{
    codes::{self, Code},
    component::Component,
    duration,
    issue::Issue,
    topic_scopes::{TopicScopes, parse_scopes, parse_topics},
    value::ValueSource,
};
use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

/// A component's resolved settings. Names are compared without regard to case, as the reference does.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    component: &'a Component,
    values: &'a BTreeMap<String, String>,
}

impl<'a> Settings<'a> {
    /// The settings `values` of `component`, as [`crate::resolve()`] gave them.
    #[must_use]
    pub fn new(component: &'a Component, values: &'a BTreeMap<String, String>) -> Self {
        Self { component, values }
    }

    /// The component they belong to.
    #[must_use]
    pub fn component(&self) -> &'a Component {
        self.component
    }

    /// The text of a setting; `None` when absent or empty.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'a str> {
        let found = self.values.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The text of a setting that must be there and not be empty.
    ///
    /// # Errors
    /// When it is not.
    pub fn required(&self, name: &str) -> Result<&'a str, Issue> {
        self.text(name).ok_or_else(|| {
            let component = self.component;
            let (called, kind) = (&component.head.name, &component.type_name);
            let message = format!("the component {called} ({kind}) needs the entry {name}");
            Issue::error(codes::MISSING_SETTING, component.origin.clone(), message)
        })
    }

    /// A duration: Go or ISO form; a bare number counts in `unit`.
    ///
    /// # Errors
    /// When it is not one.
    pub fn duration(&self, name: &str, unit: Duration) -> Result<Option<Duration>, Issue> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let parsed = duration::parse_or_count(text, unit);
        parsed.map(Some).map_err(|_| self.malformed(name, "a duration such as 5s"))
    }

    /// A switch: `true`, `yes`, `y`, `on`, `1` or `t`, and their opposites, in any case.
    ///
    /// # Errors
    /// When it is neither.
    pub fn switch(&self, name: &str) -> Result<Option<bool>, Issue> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "y" | "on" | "1" | "t" => Ok(Some(true)),
            "false" | "no" | "n" | "off" | "0" | "f" => Ok(Some(false)),
            _ => Err(self.malformed(name, "true or false")),
        }
    }

    /// A whole number within `range`.
    ///
    /// # Errors
    /// When it is not one.
    pub fn integer(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, Issue> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let parsed = text.trim().parse::<i64>().ok().filter(|number| range.contains(number));
        let (from, to) = (range.start(), range.end());
        let wanted = format!("a whole number between {from} and {to}");
        parsed.map(Some).ok_or_else(|| self.malformed(name, &wanted))
    }

    /// An issue about the setting `name`, for readers of settings that only a component's driver understands.
    #[must_use]
    pub fn malformed(&self, name: &str, wanted: &str) -> Issue {
        self.issue(codes::BAD_SETTING, name, &format!("needs {wanted}"))
    }

    fn issue(&self, code: &'static Code, name: &str, what: &str) -> Issue {
        let entry = self.component.entry(name);
        let origin = entry.map_or(&self.component.origin, |entry| &entry.origin).clone();
        let shown = match entry.map(|entry| &entry.value) {
            Some(ValueSource::Literal(text)) => format!(", not \"{text}\""),
            // What came from a secret store or the environment stays out of messages.
            _ => String::new(),
        };
        let called = &self.component.head.name;
        Issue::error(code, origin, format!("{name} of the component {called} {what}{shown}"))
    }
}

/// What wiring needs to know of a state store, whatever its type.
#[derive(Clone, PartialEq, Eq)]
pub struct StateSettings {
    /// `keyPrefix`.
    pub key_prefix: KeyPrefixSetting,
    /// `actorStateStore`: keeps actors and workflows.
    pub actor_state_store: bool,
    /// The `outbox*` settings, when `outboxPublishPubsub` is given.
    pub outbox: Option<OutboxSettings>,
    /// `primaryEncryptionKey`.
    pub primary_encryption_key: Option<String>,
    /// `secondaryEncryptionKey`.
    pub secondary_encryption_key: Option<String>,
    /// `ttlInSeconds` for entries that give none, where the type has such a setting.
    pub ttl_seconds_default: Option<i64>,
    /// `durability`; `None` where nobody chose.
    pub durability: Option<DurabilitySetting>,
}

/// `durability`: what an answered write has survived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DurabilitySetting {
    /// `flush`, the default: it is on disk, and survives a power cut.
    #[default]
    Flush,
    /// `relaxed`: the system has it; it survives the end of the process, not that of the machine.
    Relaxed,
}

/// `keyPrefix`: what goes before `||` and the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyPrefixSetting {
    /// `appid`, the default.
    #[default]
    AppId,
    /// `name`: the component's name.
    Name,
    /// `none`.
    None,
    /// `namespace`: namespace, a dot, app id.
    Namespace,
    /// Any other text, as it is.
    Literal(String),
}

/// `outbox*`: events published in the same commit as the state they tell of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxSettings {
    /// `outboxPublishPubsub`.
    pub publish_pubsub: String,
    /// `outboxPublishTopic`.
    pub publish_topic: String,
    /// `outboxPubsub`: where internal messages would go; the publishing one unless set.
    pub internal_pubsub: String,
    /// `outboxDiscardWhenMissingState`.
    pub discard_when_missing_state: bool,
}

impl StateSettings {
    /// Reads the settings common to all state stores.
    ///
    /// # Errors
    /// All that are malformed.
    pub fn read(settings: Settings<'_>) -> Result<Self, Vec<Issue>> {
        let mut issues = Vec::new();
        let prefix = settings.text("keyPrefix").map(|text| (text, text.to_ascii_lowercase()));
        let key_prefix = match prefix.as_ref().map(|(text, lower)| (*text, lower.as_str())) {
            None | Some((_, "appid")) => KeyPrefixSetting::AppId,
            Some((_, "name")) => KeyPrefixSetting::Name,
            Some((_, "none")) => KeyPrefixSetting::None,
            Some((_, "namespace")) => KeyPrefixSetting::Namespace,
            Some((text, _)) => {
                if text.contains("||") {
                    let what = "may not contain ||, which ends the prefix";
                    issues.push(settings.issue(codes::BAD_SETTING, "keyPrefix", what));
                }
                KeyPrefixSetting::Literal(text.to_owned())
            }
        };
        let durability = match settings.text("durability").map(str::to_ascii_lowercase).as_deref() {
            None => None,
            Some("flush") => Some(DurabilitySetting::Flush),
            Some("relaxed") => Some(DurabilitySetting::Relaxed),
            Some(_) => {
                let what = "needs flush (on disk before a write is answered) or relaxed, not";
                issues.push(settings.issue(codes::BAD_SETTING, "durability", what));
                None
            }
        };
        let actor_state_store = settings.switch("actorStateStore");
        let outbox = read_outbox(settings, &mut issues);
        let ttl = settings.integer("ttlInSeconds", -1..=i64::from(u32::MAX));
        let read = Self {
            key_prefix,
            actor_state_store: kept(actor_state_store, &mut issues).unwrap_or(false),
            outbox,
            primary_encryption_key: settings.text("primaryEncryptionKey").map(str::to_owned),
            secondary_encryption_key: settings.text("secondaryEncryptionKey").map(str::to_owned),
            ttl_seconds_default: kept(ttl, &mut issues),
            durability,
        };
        if issues.is_empty() { Ok(read) } else { Err(issues) }
    }
}

fn read_outbox(settings: Settings<'_>, issues: &mut Vec<Issue>) -> Option<OutboxSettings> {
    let publish_pubsub = settings.text("outboxPublishPubsub")?;
    let topic = settings.required("outboxPublishTopic").map(Some);
    let discard = settings.switch("outboxDiscardWhenMissingState");
    Some(OutboxSettings {
        publish_pubsub: publish_pubsub.to_owned(),
        publish_topic: kept(topic, issues).unwrap_or_default().to_owned(),
        internal_pubsub: settings.text("outboxPubsub").unwrap_or(publish_pubsub).to_owned(),
        discard_when_missing_state: kept(discard, issues).unwrap_or(false),
    })
}

/// The value, or nothing and one more issue.
fn kept<T>(result: Result<Option<T>, Issue>, issues: &mut Vec<Issue>) -> Option<T> {
    result.map_err(|issue| issues.push(issue)).ok().flatten()
}

/// What wiring needs to know of a broker, whatever its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PubsubSettings {
    /// `consumerID`; `None` stands for the app id.
    pub consumer_id: Option<String>,
    /// Who may publish and subscribe to what.
    pub scopes: TopicScopes,
}

impl PubsubSettings {
    /// Reads the settings common to all brokers.
    ///
    /// # Errors
    /// All that are malformed.
    pub fn read(settings: Settings<'_>) -> Result<Self, Vec<Issue>> {
        let mut issues = Vec::new();
        let mut scopes = |name: &str| {
            let parsed = parse_scopes(settings.text(name).unwrap_or_default());
            parsed.unwrap_or_else(|reason| {
                let what = format!("is malformed: {reason}");
                issues.push(settings.issue(codes::BAD_TOPIC_SCOPES, name, &what));
                BTreeMap::new()
            })
        };
        let scopes = TopicScopes {
            publishing: scopes("publishingScopes"),
            subscription: scopes("subscriptionScopes"),
            allowed: parse_topics(settings.text("allowedTopics").unwrap_or_default()),
            protected: parse_topics(settings.text("protectedTopics").unwrap_or_default()),
        };
        let consumer_id = settings.text("consumerID").map(str::to_owned);
        if issues.is_empty() { Ok(Self { consumer_id, scopes }) } else { Err(issues) }
    }
}

#[cfg(test)]
mod tests {
    use super::{DurabilitySetting, KeyPrefixSetting, PubsubSettings, Settings, StateSettings};
    use crate::{Body, Component, Issue, load::parse, resolve};
    use std::{path::Path, time::Duration};

    fn component(entries: &[(&str, &str)]) -> Component {
        let mut source = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: c}\n\
                          spec:\n  type: state.redis\n  metadata:\n"
            .to_owned();
        for (name, value) in entries {
            source.push_str(&format!("  - {{name: {name}, value: '{value}'}}\n"));
        }
        let (mut resources, _) = parse(Path::new("c.yaml"), source.as_bytes());
        let Body::Component(component) = resources.remove(0).body else { panic!("{source}") };
        *component
    }

    fn with<T>(entries: &[(&str, &str)], read: impl Fn(Settings<'_>) -> T) -> T {
        let component = component(entries);
        let values = resolve(&component, &|_, _, _| Err(String::new()), &|_| None).unwrap();
        read(Settings::new(&component, &values))
    }

    fn told(issue: &Issue) -> String {
        format!("{}:{} {}", issue.origin.line, issue.origin.column, issue.message)
    }

    #[test]
    fn typed_values_and_their_errors() {
        let entries = [("Size", "12"), ("wait", "250"), ("on", "Yes"), ("bad", "x"), ("empty", "")];
        with(&entries, |settings| {
            assert_eq!(settings.integer("size", 0..=20), Ok(Some(12)));
            assert_eq!(settings.integer("none", 0..=20), Ok(None));
            let unit = Duration::from_millis(1);
            assert_eq!(settings.duration("WAIT", unit), Ok(Some(Duration::from_millis(250))));
            assert_eq!(settings.switch("on"), Ok(Some(true)));
            assert_eq!(settings.switch("empty"), Ok(None));
            for issue in [
                settings.integer("size", 0..=11).unwrap_err(),
                settings.duration("bad", unit).unwrap_err(),
                settings.switch("bad").unwrap_err(),
                settings.required("empty").unwrap_err(),
            ] {
                assert!(issue.message.contains("component c"), "{issue}");
            }
            assert_eq!(
                told(&settings.integer("bad", 0..=1).unwrap_err()),
                "10:5 bad of the component c needs a whole number between 0 and 1, not \"x\""
            );
        });
    }

    #[test]
    fn state_stores() {
        let plain = with(&[], StateSettings::read).unwrap();
        assert_eq!(plain.key_prefix, KeyPrefixSetting::AppId);
        assert!(!plain.actor_state_store && plain.outbox.is_none());
        let full = with(
            &[
                ("keyPrefix", "shared"),
                ("actorStateStore", "true"),
                ("outboxPublishPubsub", "bus"),
                ("outboxPublishTopic", "orders"),
            ],
            StateSettings::read,
        )
        .unwrap();
        assert_eq!(full.key_prefix, KeyPrefixSetting::Literal("shared".into()));
        let outbox = full.outbox.unwrap();
        assert_eq!((outbox.internal_pubsub.as_str(), full.actor_state_store), ("bus", true));
        assert_eq!(
            (plain.durability, DurabilitySetting::default()),
            (None, DurabilitySetting::Flush)
        );
        let relaxed = with(&[("durability", "Relaxed")], StateSettings::read).unwrap();
        assert_eq!(relaxed.durability, Some(DurabilitySetting::Relaxed));
        let Err(issues) = with(&[("durability", "perhaps")], StateSettings::read) else { panic!() };
        assert_eq!(issues[0].code, "OUTR-0129");
        let entries =
            [("outboxPublishPubsub", "bus"), ("actorStateStore", "perhaps"), ("keyPrefix", "a||b")];
        let Err(issues) = with(&entries, StateSettings::read) else { panic!() };
        let codes: Vec<&str> = issues.iter().map(|issue| issue.code).collect();
        assert_eq!(codes, ["OUTR-0129", "OUTR-0130", "OUTR-0129"]);
    }

    #[test]
    fn brokers() {
        let entries = [("publishingScopes", "a=t"), ("consumerID", "group")];
        let settings = with(&entries, PubsubSettings::read).unwrap();
        assert_eq!(settings.consumer_id.as_deref(), Some("group"));
        assert!(!settings.scopes.can_publish("a", "u"));
        let issues = with(&[("subscriptionScopes", "a")], PubsubSettings::read).unwrap_err();
        assert_eq!((issues[0].code, issues[0].origin.line), ("OUTR-0131", 7));
    }
}
