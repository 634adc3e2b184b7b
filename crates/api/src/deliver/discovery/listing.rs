//! Reading the JSON list of subscriptions that an app answers.
//!
//! Clients' libraries differ in letter case and in whether numbers and switches are quoted, so neither matters here. An
//! entry that cannot be used is reported with its place and left out.

use super::SUBSCRIPTIONS_MAX;
use crate::deliver::{
    answer::field,
    subscription::{Kind, Rule, Subscription, batch},
};
use outrigger_events::Batch;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, time::Duration};

/// Reads a list. The error says, after the word "answered", why there is none.
pub(super) fn read(content: &[u8]) -> Result<Vec<Subscription>, String> {
    if content.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    let entries = match serde_json::from_slice(content) {
        Ok(Value::Array(entries)) => entries,
        Ok(Value::Null) => return Ok(Vec::new()),
        Ok(_) => return Err("something that is no list".to_owned()),
        Err(error) => return Err(format!("something that is not JSON: {error}")),
    };
    if entries.len() > SUBSCRIPTIONS_MAX {
        return Err(format!("{} subscriptions, more than {SUBSCRIPTIONS_MAX}", entries.len()));
    }
    let mut list = Vec::with_capacity(entries.len());
    for (place, entry) in entries.iter().enumerate() {
        match subscription(entry) {
            Ok(one) => list.push(one),
            Err(reason) => {
                tracing::error!(place, %reason, "a subscription that the app asked for cannot be used");
            }
        }
    }
    Ok(list)
}

fn subscription(entry: &Value) -> Result<Subscription, String> {
    let entry = entry.as_object().ok_or("it is no object")?;
    let required = |name: &str| {
        text(entry, name)?
            .filter(|text| !text.is_empty())
            .ok_or_else(|| format!("{name} is missing"))
    };
    let (pubsub, topic) = (required("pubsubname")?, required("topic")?);
    let mut one = Subscription::new(Kind::Programmatic, &pubsub, &topic, "");
    one.default = None;
    if let Some(routes) = field(entry, "routes").filter(|routes| !routes.is_null()) {
        let routes = routes.as_object().ok_or("routes is no object")?;
        rules(&mut one, routes)?;
    }
    let route = text(entry, "route")?.filter(|path| !path.is_empty());
    one.default = one.default.or(route);
    one.dead_letter_topic = text(entry, "deadLetterTopic")?.filter(|topic| !topic.is_empty());
    one.metadata = match field(entry, "metadata") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(Value::Object(members)) => {
            members.iter().filter_map(|(name, value)| Some((name.clone(), plain(value)?))).collect()
        }
        Some(_) => return Err("metadata is no object".to_owned()),
    };
    one.bulk = field(entry, "bulkSubscribe").and_then(Value::as_object).and_then(bulk);
    Ok(one)
}

fn rules(one: &mut Subscription, routes: &Map<String, Value>) -> Result<(), String> {
    let list = match field(routes, "rules") {
        None | Some(Value::Null) => &[],
        Some(Value::Array(list)) => list.as_slice(),
        Some(_) => return Err("routes.rules is no list".to_owned()),
    };
    for rule in list {
        let rule = rule.as_object().ok_or("an entry of routes.rules is no object")?;
        let path = text(rule, "path")?.filter(|path| !path.is_empty());
        let path = path.ok_or("a rule has no path")?;
        let condition = text(rule, "match")?.unwrap_or_default();
        one.rules.push(Rule { condition, path });
    }
    one.default = text(routes, "default")?.filter(|path| !path.is_empty());
    Ok(())
}

fn bulk(members: &Map<String, Value>) -> Option<Batch> {
    let enabled = field(members, "enabled").and_then(plain).is_some_and(|switch| switch == "true");
    let number = |name: &str| -> u32 {
        let number = field(members, name).and_then(plain).and_then(|text| text.parse().ok());
        number.unwrap_or_default()
    };
    let wait = Duration::from_millis(u64::from(number("maxAwaitDurationMs")));
    enabled.then(|| batch(number("maxMessagesCount"), wait))
}

/// A member that is to be text; absent is as good as null.
fn text(object: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match field(object, name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(format!("{name} is no text")),
    }
}

/// A text, number or switch as text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(switch) => Some(switch.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::read;
    use std::time::Duration;

    #[test]
    fn every_form_that_clients_send() {
        let list = read(
            br#"[
            {"pubsubname":"p","topic":"a","route":"a","metadata":{"rawPayload":true,"n":1,"x":null}},
            {"pubsubName":"p","Topic":"b","deadLetterTopic":"dead",
             "routes":{"rules":[{"match":"event.type == 'x'","path":"/x"}],"default":"/b"}},
            {"pubsubname":"p","topic":"c","route":"/c","routes":{"rules":[]},"deadLetterTopic":"",
             "bulkSubscribe":{"enabled":true,"maxMessagesCount":5,"maxAwaitDurationMs":40}},
            {"pubsubname":"p","topic":"d","route":"/d","bulkSubscribe":{"enabled":false}},
            {"pubsubname":"p","topic":"e","route":"/e","bulkSubscribe":{"enabled":"true","maxMessagesCount":-3}}
            ]"#,
        )
        .unwrap();
        assert_eq!(list.len(), 5);
        assert_eq!(list[0].default.as_deref(), Some("a"));
        assert!(list[0].is_raw() && list[0].metadata.len() == 2);
        assert_eq!((list[1].rules.len(), list[1].default.as_deref()), (1, Some("/b")));
        assert_eq!(list[1].dead_letter_topic.as_deref(), Some("dead"));
        assert_eq!(
            (list[2].default.as_deref(), list[2].dead_letter_topic.as_deref()),
            (Some("/c"), None)
        );
        let bulk = list[2].bulk.unwrap();
        assert_eq!((bulk.max_messages, bulk.max_wait), (5, Duration::from_millis(40)));
        assert_eq!((list[3].bulk, list[4].bulk.unwrap().max_messages), (None, 100));
    }

    #[test]
    fn one_bad_entry_hides_no_other() {
        let list = read(
            br#"[7, null, {"topic":"t","route":"/"}, {"pubsubname":"p","route":"/"}, {"pubsubname":"p","topic":3},
            {"pubsubname":"p","topic":"t","routes":[]}, {"pubsubname":"p","topic":"t","routes":{"rules":[{"match":"1"}]}},
            {"pubsubname":"p","topic":"t","metadata":[]}, {"pubsubname":"p","topic":"good","route":"/"}]"#,
        );
        let topics: Vec<_> = list.unwrap().iter().map(|one| one.topic.to_string()).collect();
        assert_eq!(topics, ["good"]);
    }

    #[test]
    fn answers_that_are_no_list() {
        for none in ["", "  \n", "null", "[]"] {
            assert_eq!(read(none.as_bytes()), Ok(Vec::new()), "{none}");
        }
        assert!(read(b"{}").unwrap_err().contains("no list"));
        assert!(read(b"<html>").unwrap_err().contains("not JSON"));
        let many = format!("[{}0]", "0,".repeat(2_000));
        assert!(read(many.as_bytes()).unwrap_err().contains("more than"));
    }
}
