//! Publishing: envelope, scopes, one commit.

use crate::{
    components::PubsubComponent,
    errors::{Entry, Fault, catalogue},
    host::Host,
    names,
    trace::{Started, Trace},
};
use bytes::Bytes;
use http::StatusCode;
use outrigger_events::{
    NewMessage, PublishError,
    envelope::{self, Origin},
};
use outrigger_kernel::{Deadline, Wall};
use outrigger_resilience::{Class, header};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tonic::Code;

/// An event as its publisher gave it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Event {
    pub(crate) data: Bytes,
    pub(crate) content_type: String,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// Where an event goes, checked.
pub(crate) struct Place {
    pub(crate) component: Arc<PubsubComponent>,
    pub(crate) topic: String,
}

/// The place called `pubsub` and `topic`, if the app may publish there.
pub(crate) fn find(host: &Host, pubsub: &str, topic: &str) -> Result<Place, Fault> {
    let refuse = |entry: &'static Entry, message: String| {
        Fault::new(entry, message).about("pubsub", pubsub, true)
    };
    if pubsub.is_empty() {
        return Err(refuse(&catalogue::PUBSUB_EMPTY, "pubsub name is empty".to_owned()));
    }
    let components = host.components.load();
    let Some(component) = components.pubsub.get(pubsub) else {
        return Err(refuse(&catalogue::PUBSUB_NOT_FOUND, format!("pubsub {pubsub} is not found")));
    };
    if topic.is_empty() {
        let message = format!("topic is empty in pubsub {pubsub}");
        return Err(refuse(&catalogue::TOPIC_EMPTY, message));
    }
    if !component.scopes.can_publish(&host.app_id, topic) {
        let message = format!("topic {topic} is not allowed for app id {}", host.app_id);
        return Err(refuse(&catalogue::PUBSUB_FORBIDDEN, message).with("topic", topic));
    }
    Ok(Place { component: Arc::clone(component), topic: topic.to_owned() })
}

/// Publishes one event.
pub(crate) async fn one(
    host: &Host,
    place: &Place,
    event: Event,
    trace: &Trace,
    deadline: Deadline,
) -> Result<(), Fault> {
    let message = message(host, place, event, trace, &catalogue::PUBSUB_EVENT_CREATION)?;
    let started = Started::now(&*host.world);
    let answer = append(host, place, vec![message], deadline).await;
    let took = started.elapsed(&*host.world);
    host.metrics.published(&place.component.name, &place.topic, answer.is_ok(), took);
    answer
}

/// Publishes several events in one commit: all of them or none.
pub(crate) async fn bulk(
    host: &Host,
    place: &Place,
    events: Vec<Event>,
    trace: &Trace,
    deadline: Deadline,
) -> Result<(), Fault> {
    let mut messages = Vec::with_capacity(events.len());
    for event in events {
        // Every event is a span of its own below the request's.
        let context = trace.context.child(&*host.world);
        let trace = Trace { context, parent: Some(trace.context.span_id), ..trace.clone() };
        messages.push(message(host, place, event, &trace, &catalogue::PUBSUB_MARSHAL_EVENTS)?);
    }
    let count = messages.len();
    let started = Started::now(&*host.world);
    let answer = append(host, place, messages, deadline).await;
    let took = started.elapsed(&*host.world);
    let published = if answer.is_ok() { count } else { 0 };
    let component = &place.component.name;
    host.metrics.bulk_published(component, &place.topic, published, answer.is_ok(), took);
    answer
}

fn message(
    host: &Host,
    place: &Place,
    event: Event,
    trace: &Trace,
    broken: &'static Entry,
) -> Result<NewMessage, Fault> {
    let raw = is_raw(&event.metadata).map_err(|why| metadata_fault(place, &why))?;
    let now = host.world.wall();
    let expires_at = expiry(&event.metadata, now).map_err(|why| metadata_fault(place, &why))?;
    let parent = trace.context.to_string();
    let Event { data, content_type, mut metadata } = event;
    // An event may say itself for how long it is of use.
    let is_event = envelope::is_content_type(&content_type, envelope::CONTENT_TYPE);
    let lasts = if is_event { lifetime(&data) } else { None };
    let told = lasts.map(|lasts| now.plus(lasts));
    let expires_at = expires_at.into_iter().chain(told).min();
    if raw {
        // Without an envelope the trace travels beside the bytes.
        metadata.entry(names::TRACEPARENT.to_owned()).or_insert(parent);
        if let Some(state) = trace.state_text() {
            metadata.entry(names::TRACESTATE.to_owned()).or_insert_with(|| state.to_owned());
        }
        return Ok(NewMessage { data, content_type, metadata, expires_at });
    }
    let id = envelope::fresh_id(&*host.world);
    let origin = Origin {
        id: &id,
        source: &host.app_id,
        topic: &place.topic,
        broker: &place.component.name,
        trace_parent: Some(&parent),
        trace_state: trace.state_text(),
        time: now,
        expires_at: None,
    };
    let data = host.envelope_names.wrap(&origin, &content_type, &data, &metadata);
    let data = data.map_err(|error| {
        let message = format!("could not make an event for topic {}: {error}", place.topic);
        Fault::new(broken, message).about("pubsub", &place.component.name, true)
    })?;
    Ok(NewMessage { data, content_type: envelope::CONTENT_TYPE.to_owned(), metadata, expires_at })
}

async fn append(
    host: &Host,
    place: &Place,
    mut messages: Vec<NewMessage>,
    deadline: Deadline,
) -> Result<(), Fault> {
    let Place { component, topic } = place;
    let once = component.outbound.is_idle();
    let publishing = |due| {
        let messages = if once { std::mem::take(&mut messages) } else { messages.clone() };
        component.broker.publish(topic, messages, due)
    };
    let answer = component
        .outbound
        .run(host, ("Pubsub", &component.name), deadline, class, publishing)
        .await;
    let given_up = |gave_up| super::given_up(publish_fault(place, &gave_up), &gave_up);
    answer.map_err(given_up)?.map(drop).map_err(|error| {
        let fault = publish_fault(place, &error);
        match error {
            PublishError::Topic(_) => fault.status(StatusCode::BAD_REQUEST, Code::InvalidArgument),
            PublishError::MessageTooLarge { .. }
            | PublishError::BulkTooMany { .. }
            | PublishError::BulkTooLarge { .. } => {
                fault.status(StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted)
            }
            PublishError::Full(_) => {
                fault.status(StatusCode::INSUFFICIENT_STORAGE, Code::ResourceExhausted)
            }
            PublishError::Unavailable(_) | PublishError::Unknown(_) => fault,
        }
    })
}

fn class<T>(answer: &Result<T, PublishError>) -> Class {
    match answer {
        Ok(_) => Class::Success,
        Err(PublishError::Unavailable(_)) => Class::Failure,
        Err(PublishError::Unknown(_) | PublishError::Full(_)) => Class::Permanent,
        Err(_) => Class::Ignored,
    }
}

fn publish_fault(place: &Place, error: &dyn std::fmt::Display) -> Fault {
    let (topic, name) = (&place.topic, &place.component.name);
    let message = format!("could not publish to topic {topic} in pubsub {name}: {error}");
    Fault::new(&catalogue::PUBSUB_PUBLISH, message)
        .about("pubsub", name, true)
        .with("topic", topic)
        .with("error", error.to_string())
}

fn metadata_fault(place: &Place, why: &str) -> Fault {
    Fault::new(&catalogue::PUBSUB_METADATA, format!("could not read the metadata: {why}")).about(
        "pubsub",
        &place.component.name,
        true,
    )
}

/// Whether the payload travels without an envelope.
pub(crate) fn is_raw(metadata: &BTreeMap<String, String>) -> Result<bool, String> {
    match find_entry(metadata, names::RAW_PAYLOAD) {
        None | Some("") => Ok(false),
        Some("true" | "True" | "TRUE" | "t" | "T" | "1") => Ok(true),
        Some("false" | "False" | "FALSE" | "f" | "F" | "0") => Ok(false),
        Some(other) => Err(format!("rawPayload is true or false, not {other:?}")),
    }
}

fn expiry(metadata: &BTreeMap<String, String>, now: Wall) -> Result<Option<Wall>, String> {
    let Some(text) = find_entry(metadata, names::TTL_IN_SECONDS).filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    match text.parse::<u64>() {
        Ok(seconds) if seconds > 0 => Ok(Some(now.plus(Duration::from_secs(seconds)))),
        _ => Err(format!("ttlInSeconds is a whole number above zero, not {text:?}")),
    }
}

/// For how long an event says that it is of use. One that makes no sense counts as none: the event is the app's.
fn lifetime(event: &Bytes) -> Option<Duration> {
    let envelope = envelope::Envelope::parse(event).ok()?;
    // As a number or as a text: extension attributes are either, by whom they are written.
    let millis = envelope.raw(header::EVENT_TIMEOUT_MS)?.trim_matches('"').parse().ok()?;
    // What is of no use any more is published all the same, and found expired by whoever reads it.
    Some(Duration::from_millis(millis))
}

/// Keys of metadata are compared without regard to case: SDKs differ.
fn find_entry<'a>(metadata: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    metadata.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}
