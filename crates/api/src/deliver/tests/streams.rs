//! Streams that an app opens.

use super::{PATIENCE, Stage, Subscriptions, components, event};
use crate::deliver::{
    StreamOpening, StreamRefused,
    stream::{Events, Judge},
};
use futures_util::StreamExt;
use outrigger_proto::runtime::v1 as pb;
use std::{sync::Arc, time::Duration};

fn opening(topic: &str) -> StreamOpening {
    StreamOpening { topic: topic.to_owned(), ..StreamOpening::default() }
}

async fn open(
    stage: &Stage,
    subscriptions: &Subscriptions,
    opening: StreamOpening,
) -> (Events, Judge) {
    let opened = subscriptions.open_stream(Arc::clone(&stage.component), opening);
    stage.soon(opened).await.unwrap().split()
}

async fn next(stage: &Stage, events: &mut Events) -> pb::TopicEventRequest {
    stage.soon(events.next()).await.unwrap()
}

#[tokio::test]
async fn events_come_and_verdicts_settle_them() {
    let stage = Stage::new();
    let subscriptions = Subscriptions::new(stage.outlet(None));
    let wish = StreamOpening { dead_letter_topic: Some("dead".to_owned()), ..opening("orders") };
    let (mut events, judge) = open(&stage, &subscriptions, wish).await;
    let (mut dead, dead_judge) = open(&stage, &subscriptions, opening("dead")).await;
    let listed = subscriptions.list();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0].r#type(), pb::PubsubSubscriptionType::Streaming);

    stage.publish("orders", [event("1", "x")]).await;
    let first = next(&stage, &mut events).await;
    assert_eq!(
        (first.id.as_str(), first.path.as_str(), first.pubsub_name.as_str()),
        ("1", "/", "broker")
    );
    assert_eq!(first.data, r#"{"n":12345678901234567890}"#);
    assert!(judge.settle("1", 1));
    assert!(!judge.settle("1", 0) && !judge.settle("nobody", 0));
    assert_eq!(next(&stage, &mut events).await.id, "1");
    assert!(judge.settle("1", 2));
    assert_eq!(next(&stage, &mut dead).await.id, "1");
    assert!(dead_judge.settle("1", 0));
    stage.publish("orders", [event("2", "x")]).await;
    assert_eq!(next(&stage, &mut events).await.id, "2");
    assert!(judge.settle("2", 0));
}

#[tokio::test]
async fn what_a_stream_leaves_goes_to_the_others_without_being_counted() {
    let stage = Stage::with(|component| component.inbound.retry = Some(super::retry(0, "")));
    let subscriptions = Subscriptions::new(stage.outlet(None));
    stage.publish("orders", [event("1", "x")]).await;
    // Were one of these counted, there would be no further attempt.
    for half in 0..4 {
        let (mut events, judge) = open(&stage, &subscriptions, opening("orders")).await;
        assert_eq!(next(&stage, &mut events).await.id, "1");
        // Either half takes the stream with it.
        if half % 2 == 0 {
            drop(events);
            drop(judge);
        } else {
            drop(judge);
            assert!(stage.soon(events.next()).await.is_none());
        }
    }
    let (mut events, judge) = open(&stage, &subscriptions, opening("orders")).await;
    assert_eq!(next(&stage, &mut events).await.id, "1");
    assert!(judge.settle("1", 0));
}

#[tokio::test]
async fn several_streams_share_a_topic() {
    let stage = Stage::with(|component| component.max_in_flight = 1);
    let subscriptions = Subscriptions::new(stage.outlet(None));
    let (mut first, first_judge) = open(&stage, &subscriptions, opening("orders")).await;
    let (mut second, second_judge) = open(&stage, &subscriptions, opening("orders")).await;
    stage.publish("orders", [event("1", "x"), event("2", "x")]).await;
    let ids = [next(&stage, &mut first).await.id, next(&stage, &mut second).await.id];
    assert_ne!(ids[0], ids[1]);
    assert!(first_judge.settle(&ids[0], 0) && second_judge.settle(&ids[1], 0));
}

#[tokio::test]
async fn a_slow_stream_has_its_event_delivered_again() {
    let stage = Stage::with(|component| {
        component.inbound.timeout = Some(Duration::from_millis(100));
    });
    let subscriptions = Subscriptions::new(stage.outlet(None));
    let (mut events, judge) = open(&stage, &subscriptions, opening("orders")).await;
    stage.publish("orders", [event("1", "x")]).await;
    assert_eq!(next(&stage, &mut events).await.id, "1");
    assert_eq!(next(&stage, &mut events).await.id, "1");
    assert!(judge.settle("1", 0));
}

#[tokio::test]
async fn weird_events_never_reach_a_stream() {
    let stage = Stage::new();
    let subscriptions = Subscriptions::new(stage.outlet(None));
    let (mut events, judge) = open(&stage, &subscriptions, opening("orders")).await;
    let bad_data = r#"{"id":"x","data_base64":"%%%"}"#.to_owned();
    stage.publish("orders", ["junk".to_owned(), "7".to_owned(), bad_data, "{}".to_owned()]).await;
    let event = next(&stage, &mut events).await;
    assert!(!event.id.is_empty(), "an event without an id gets one to be settled by");
    assert!(judge.settle(&event.id, 0));
}

#[tokio::test]
async fn stopping_lets_streams_finish() {
    let stage = Stage::new();
    let subscriptions = Arc::new(Subscriptions::new(stage.outlet(None)));
    let (mut events, judge) = open(&stage, &subscriptions, opening("orders")).await;
    stage.publish("orders", [event("1", "x")]).await;
    assert_eq!(next(&stage, &mut events).await.id, "1");
    let mut stopping = {
        let subscriptions = subscriptions.clone();
        Box::pin(async move { subscriptions.stop(PATIENCE).await })
    };
    tokio::select! {
        biased;
        () = &mut stopping => panic!("an event is under way"),
        () = std::future::ready(()) => {}
    }
    assert!(judge.settle("1", 0));
    stage.soon(stopping).await;
    assert!(stage.soon(events.next()).await.is_none());
    let refused = subscriptions.open_stream(Arc::clone(&stage.component), opening("orders")).await;
    assert_eq!(refused.unwrap_err(), StreamRefused::Stopping);
}

#[tokio::test]
async fn streams_of_a_component_that_goes_end() {
    let stage = Stage::new();
    let subscriptions = Subscriptions::new(stage.outlet(None));
    stage.soon(subscriptions.start(Vec::new(), stage.components(), None)).await;
    let (mut events, _judge) = open(&stage, &subscriptions, opening("orders")).await;
    stage.soon(subscriptions.reconcile(Vec::new(), stage.components())).await;
    stage.publish("orders", [event("1", "x")]).await;
    assert_eq!(next(&stage, &mut events).await.id, "1");
    assert!(_judge.settle("1", 0));
    let other = stage.changed(|component| component.consumer_group = "another".to_owned());
    stage.soon(subscriptions.reconcile(Vec::new(), components(&other))).await;
    assert!(stage.soon(events.next()).await.is_none());
}

#[tokio::test]
async fn refusals() {
    let stage = Stage::with(|component| component.scopes.protected = ["secret".to_owned()].into());
    let subscriptions = Subscriptions::new(stage.outlet(None));
    let refuse = async |opening: StreamOpening| {
        let opened = subscriptions.open_stream(Arc::clone(&stage.component), opening).await;
        opened.unwrap_err()
    };
    assert_eq!(refuse(opening("")).await, StreamRefused::NoTopic);
    assert!(matches!(refuse(opening("secret")).await, StreamRefused::Forbidden { .. }));
    let loops = StreamOpening { dead_letter_topic: Some("orders".to_owned()), ..opening("orders") };
    assert!(matches!(refuse(loops).await, StreamRefused::Broker(_)));
    assert!(subscriptions.list().is_empty());
}
