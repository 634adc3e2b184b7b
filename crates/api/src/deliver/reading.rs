//! From a message to an event with a path, or to the verdict that it cannot be one.
//!
//! A message is opened once and then only passed on: the app gets the publisher's bytes, not a copy that was parsed and
//! written again. What is no event (not a JSON object, an `expiration` that has passed, no rule that wants it) never
//! reaches the app; it is given up, with a reason that says what to do.

use super::subscription::Subscription;
use crate::names;
use bytes::Bytes;
use http::uri::PathAndQuery;
use outrigger_events::{
    Delivery, Verdict,
    envelope::{self, Envelope},
    routes::Routes,
};
use outrigger_kernel::Wall;
use std::sync::Arc;

/// The `source` of an envelope made here, around bytes whose publisher is unknown.
const UNKNOWN_SOURCE: &str = "Dapr";

/// How the messages of one subscription are opened.
#[derive(Debug)]
pub(crate) struct Reading {
    pubsub: Arc<str>,
    raw: bool,
    has_dead_letters: bool,
    routes: Routes,
    names: envelope::Names,
}

/// A message, opened.
#[derive(Debug)]
pub(crate) struct Event {
    /// The delivery's id; unique among all that are under way.
    pub(crate) entry_id: String,
    /// What the app is to know it by: the envelope's `id`.
    pub(crate) id: String,
    /// The path that the routes picked.
    pub(crate) path: String,
    /// The envelope as bytes.
    pub(crate) json: Bytes,
    /// The envelope to look into.
    pub(crate) envelope: Envelope,
    /// The message as it came.
    pub(crate) delivery: Delivery,
    /// Whether the envelope was made here.
    pub(crate) raw: bool,
}

impl Event {
    /// What was published and what it is: the envelope, or the bytes of a message that came without one.
    pub(crate) fn published(&self) -> (&Bytes, &'static str) {
        if self.raw {
            (&self.delivery.data, names::OCTET_STREAM)
        } else {
            (&self.json, names::CLOUD_EVENT_JSON)
        }
    }
}

impl Reading {
    /// How messages of `subscription` are opened. With `http`, paths have to be ones that can be requested.
    pub(crate) fn new(subscription: &Subscription, http: bool) -> Result<Self, String> {
        let path = |path: &str| if http { requestable(path) } else { Ok(path.to_owned()) };
        let mut rules = Vec::with_capacity(subscription.rules.len());
        for rule in &subscription.rules {
            rules.push((rule.condition.as_str(), path(&rule.path)?));
        }
        let default = subscription.default.as_deref().map(path).transpose()?;
        if rules.is_empty() && default.is_none() {
            return Err("it leads nowhere: it has neither a route nor routes".to_owned());
        }
        let rules = rules.iter().map(|(condition, path)| (*condition, path.as_str()));
        Ok(Self {
            pubsub: Arc::clone(&subscription.pubsub),
            raw: subscription.is_raw(),
            has_dead_letters: subscription.dead_letter_topic.is_some(),
            routes: Routes::compile(rules, default).map_err(|error| error.to_string())?,
            names: envelope::Names {
                event_type: names::EVENT_TYPE.to_owned(),
                source: UNKNOWN_SOURCE.to_owned(),
            },
        })
    }

    /// Opens a message.
    pub(crate) fn open(&self, delivery: Delivery, now: Wall) -> Result<Event, Verdict> {
        let (json, envelope) = if self.raw { self.wrap(&delivery) } else { parse(&delivery.data) }?;
        if envelope.is_expired(now) {
            return Err(Verdict::drop("its expiration has passed"));
        }
        let path = if self.routes.depend_on_event() {
            self.routes.pick(&envelope.to_value()).map(str::to_owned)
        } else {
            self.routes.pick(&serde_json::Value::Null).map(str::to_owned)
        };
        let path = path.ok_or_else(|| self.unwanted())?;
        let entry_id = delivery.id.clone();
        let id =
            Some(envelope.id()).filter(|id| !id.is_empty()).unwrap_or_else(|| entry_id.clone());
        Ok(Event { entry_id, id, path, json, envelope, delivery, raw: self.raw })
    }

    /// An envelope around a message that came without one, with the trace that travelled beside it.
    fn wrap(&self, delivery: &Delivery) -> Result<(Bytes, Envelope), Verdict> {
        let Delivery { id, topic, data, metadata, .. } = delivery;
        let (json, mut envelope) = parse(&self.names.wrap_raw(id, topic, &self.pubsub, data))?;
        let (parent, state) = (metadata.get(names::TRACEPARENT), metadata.get(names::TRACESTATE));
        if parent.is_none() && state.is_none() {
            return Ok((json, envelope));
        }
        if let Some(parent) = parent {
            envelope.set_text("traceid", parent);
            envelope.set_text(names::TRACEPARENT, parent);
        }
        if let Some(state) = state {
            envelope.set_text(names::TRACESTATE, state);
        }
        Ok((envelope.to_json(), envelope))
    }

    /// Not wanted is not failed: an event that no route takes is kept where there is a place for it, and done otherwise.
    fn unwanted(&self) -> Verdict {
        if self.has_dead_letters {
            Verdict::drop("no route wants it, and there is no default")
        } else {
            Verdict::Ack
        }
    }
}

fn parse(json: &Bytes) -> Result<(Bytes, Envelope), Verdict> {
    let envelope = Envelope::parse(json).map_err(|error| {
        let raw = names::RAW_PAYLOAD;
        let remedy = "for messages without an envelope, the subscription's metadata needs";
        Verdict::drop(format!("{error}; {remedy} {raw}: \"true\""))
    })?;
    Ok((json.clone(), envelope))
}

/// A path as it can be requested: with a slash in front, and nothing in it that no URL may have.
fn requestable(path: &str) -> Result<String, String> {
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    match PathAndQuery::try_from(path.as_str()) {
        Ok(_) => Ok(path),
        Err(error) => Err(format!("the path {path:?} cannot be requested: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::Reading;
    use crate::deliver::subscription::{Kind, Rule, Subscription};
    use bytes::Bytes;
    use outrigger_events::{Delivery, Verdict};
    use outrigger_kernel::{Deadline, Mono, Wall};
    use outrigger_keyspace::Stamp;

    fn delivery(data: &str) -> Delivery {
        Delivery {
            id: "id-1".to_owned(),
            topic: "orders".into(),
            stamp: Stamp::default(),
            data: Bytes::copy_from_slice(data.as_bytes()),
            content_type: String::new(),
            metadata: std::collections::BTreeMap::new(),
            published_at: Wall(0),
            attempt: 1,
            deadline: Deadline(Mono(1)),
        }
    }

    fn subscription() -> Subscription {
        let mut one = Subscription::new(Kind::Declarative, "broker", "orders", "rest");
        let rule = Rule { condition: "event.type == 'big'".to_owned(), path: "/big".to_owned() };
        one.rules.push(rule);
        one
    }

    #[test]
    fn rules_pick_the_path() {
        let reading = Reading::new(&subscription(), true).unwrap();
        let path = |data: &str| reading.open(delivery(data), Wall(0)).unwrap().path;
        assert_eq!(path(r#"{"id":"1","type":"big"}"#), "/big");
        assert_eq!(path(r#"{"id":"1","type":7}"#), "/rest");
        let mut picky = Subscription { default: None, ..subscription() };
        let open =
            |one: &Subscription| Reading::new(one, true).unwrap().open(delivery("{}"), Wall(0));
        assert_eq!(open(&picky).unwrap_err(), Verdict::Ack);
        picky.dead_letter_topic = Some("dead".to_owned());
        assert!(
            matches!(open(&picky), Err(Verdict::Drop { reason }) if reason.contains("no route"))
        );
    }

    #[test]
    fn what_is_no_event_is_given_up_and_never_a_panic() {
        let reading = Reading::new(&subscription(), true).unwrap();
        for weird in ["", "7", "[]", "\"text\"", "{", "{\"a\":}", "\u{0}\u{ffff}", "nul"] {
            assert!(
                matches!(reading.open(delivery(weird), Wall(0)), Err(Verdict::Drop { .. })),
                "{weird}"
            );
        }
        for odd in
            ["{}", r#"{"id":7,"type":[],"data":null,"traceparent":{}}"#, r#"{"id":"","id":null}"#]
        {
            assert_eq!(reading.open(delivery(odd), Wall(0)).unwrap().id, "id-1", "{odd}");
        }
        let deep = format!("{{\"data\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
        drop(reading.open(delivery(&deep), Wall(0)));
        let late = r#"{"id":"1","expiration":"2020-01-01T00:00:00Z"}"#;
        assert!(reading.open(delivery(late), Wall(1_767_225_600_000)).is_err());
    }

    #[test]
    fn raw_messages_get_an_envelope_with_the_same_id_at_every_attempt() {
        let mut one = Subscription::new(Kind::Streaming, "broker", "orders", "/");
        one.metadata.insert("rawPayload".to_owned(), "true".to_owned());
        let reading = Reading::new(&one, false).unwrap();
        let mut message = delivery("not json");
        message.metadata.insert("traceparent".to_owned(), "00-1-2-01".to_owned());
        let event = reading.open(message, Wall(0)).unwrap();
        assert_eq!(event.envelope.trace_parent().as_deref(), Some("00-1-2-01"));
        assert_eq!((event.id.as_str(), event.path.as_str()), ("id-1", "/"));
        assert_eq!(event.envelope.payload().unwrap(), "not json");
        assert_eq!(event.envelope.event_type(), "com.dapr.event.sent");
    }

    #[test]
    fn a_subscription_that_cannot_work_is_refused() {
        let refused = |change: &dyn Fn(&mut Subscription)| {
            let mut one = subscription();
            change(&mut one);
            Reading::new(&one, true).unwrap_err()
        };
        let nowhere = refused(&|one| {
            one.rules.clear();
            one.default = None;
        });
        assert!(nowhere.contains("leads nowhere"), "{nowhere}");
        let rule = refused(&|one| one.rules[0].condition = "event.type ==".to_owned());
        assert!(rule.contains("not a CEL expression"), "{rule}");
        let path = refused(&|one| one.default = Some("/a b".to_owned()));
        assert!(path.contains("cannot be requested"), "{path}");
    }
}
