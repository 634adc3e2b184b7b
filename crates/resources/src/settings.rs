//! Typed reading of a component's resolved settings, with errors that point at the line they stand in.

use crate::{component::Component, issue::Issue};
use std::{collections::BTreeMap, time::Duration};

/// A component's resolved settings. Names are compared without regard to case, as the reference does.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    component: &'a Component,
    values: &'a BTreeMap<String, String>,
}

impl<'a> Settings<'a> {
    /// The settings `values` of `component`, as [`crate::resolve`] gave them.
    #[must_use]
    pub fn new(component: &'a Component, values: &'a BTreeMap<String, String>) -> Self {
        Self { component, values }
    }

    /// The text of a setting; `None` when absent.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'a str> {
        let _ = self.component;
        self.values.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The text of a setting that must be there and not be empty.
    ///
    /// # Errors
    /// When it is not.
    pub fn required(&self, name: &str) -> Result<&'a str, Issue> {
        self.text(name).ok_or_else(|| unreachable!("{name}"))
    }

    /// A duration: Go or ISO form; a bare number counts in `unit`.
    ///
    /// # Errors
    /// When it is not one.
    pub fn duration(&self, _name: &str, _unit: Duration) -> Result<Option<Duration>, Issue> {
        Ok(None)
    }

    /// A switch: `true`, `yes`, `y`, `on`, `1` or `t`, and their opposites, in any case.
    ///
    /// # Errors
    /// When it is neither.
    pub fn switch(&self, _name: &str) -> Result<Option<bool>, Issue> {
        Ok(None)
    }

    /// A whole number within `range`.
    ///
    /// # Errors
    /// When it is not one.
    pub fn integer(
        &self,
        _name: &str,
        _range: std::ops::RangeInclusive<i64>,
    ) -> Result<Option<i64>, Issue> {
        Ok(None)
    }
}

/// What wiring needs to know of a state store, whatever its type.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    pub fn read(_settings: Settings<'_>) -> Result<Self, Vec<Issue>> {
        Ok(Self {
            key_prefix: KeyPrefixSetting::AppId,
            actor_state_store: false,
            outbox: None,
            primary_encryption_key: None,
            secondary_encryption_key: None,
            ttl_seconds_default: None,
        })
    }
}

/// What wiring needs to know of a broker, whatever its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PubsubSettings {
    /// `consumerID`; `None` stands for the app id.
    pub consumer_id: Option<String>,
    /// Who may publish and subscribe to what.
    pub scopes: crate::topic_scopes::TopicScopes,
}

impl PubsubSettings {
    /// Reads the settings common to all brokers.
    ///
    /// # Errors
    /// All that are malformed.
    pub fn read(_settings: Settings<'_>) -> Result<Self, Vec<Issue>> {
        Ok(Self { consumer_id: None, scopes: crate::topic_scopes::TopicScopes::default() })
    }
}
