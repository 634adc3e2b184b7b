//! What becomes of messages that are given up.

use super::{House, LONG, Recorder, message, options, subscribe};
use crate::{NewMessage, SubscribeOptions, Verdict, dead_letter};
use outrigger_kernel::Wall;
use std::{collections::BTreeMap, time::Duration};

fn with_dead_letters(max_retries: u32) -> SubscribeOptions {
    let mut asked = options("t", "g");
    asked.retry.max_retries = Some(max_retries);
    asked.dead_letter_topic = Some("dead".to_owned());
    asked
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_tells_its_story() {
    let house = House::new();
    let broker = house.broker();
    let stamps = house.publish(&broker, "t", &["exhausted", "dropped"]).await;
    let expired = NewMessage { expires_at: Some(Wall(1)), ..message("expired") };
    broker.publish("t", vec![expired], house.soon()).await.unwrap();
    let recorder = Recorder::new(&house, |seen| match &*seen.text {
        "dropped" => Verdict::drop("no route"),
        _ => Verdict::retry("status 500"),
    });
    let _handle = subscribe(&broker, with_dead_letters(2), &recorder).await;
    let dead = Recorder::acks(&house);
    let _dead = subscribe(&broker, options("dead", "d"), &dead).await;
    dead.count(3).await;
    let stories: BTreeMap<String, BTreeMap<String, String>> = dead
        .count(3)
        .await
        .into_iter()
        .map(|s| (s.text, s.metadata.into_iter().collect()))
        .collect();
    for (text, cause, reason, attempts) in [
        ("exhausted", "exhausted", "status 500", "3"),
        ("dropped", "dropped", "no route", "1"),
        ("expired", "expired", "its time to live ran out", "0"),
    ] {
        let story = &stories[text];
        assert_eq!(story[dead_letter::CAUSE], cause);
        assert_eq!(story[dead_letter::REASON], reason);
        assert_eq!(story[dead_letter::ATTEMPTS], attempts);
        assert_eq!((&*story[dead_letter::TOPIC], &*story[dead_letter::GROUP]), ("t", "g"));
    }
    let first = stamps[0];
    let id = format!("{:016x}{:04x}", first.revision, first.index);
    assert_eq!(stories["exhausted"][dead_letter::ID], id);
    house.pass(LONG).await;
    assert_eq!(house.lag(&broker, "t", "g").await.0, 0);
    assert_eq!(broker.stats().await.unwrap()[1].groups[0].dispatch.dead_lettered, 3);
}

/// Crashes between any two steps of the simulation: a message that is given up is in the dead-letter topic exactly when
/// its group is done with it.
#[tokio::test(start_paused = true)]
async fn dead_letter_and_acknowledgement_are_one_commit() {
    for steps in 0..60 {
        let house = House::new();
        let broker = house.broker();
        house.publish(&broker, "t", &["a", "b", "c"]).await;
        let recorder = Recorder::new(&house, |_| Verdict::drop("unwanted"));
        let asked = SubscribeOptions { max_in_flight: 2, ..with_dead_letters(0) };
        let handle = subscribe(&broker, asked, &recorder).await;
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        // The commits were made by then or never will be: from here on nothing of this broker runs.
        drop((handle, broker));
        let broker = house.broker();
        let stats = broker.stats().await.unwrap();
        let dead =
            stats.iter().find(|topic| topic.topic == "dead").map_or(0, |dead| dead.published);
        let (lag, _) = house.lag(&broker, "t", "g").await;
        assert_eq!(dead + lag, 3, "after {steps} steps");
    }
}

#[tokio::test(start_paused = true)]
async fn many_large_dead_letters_go_in_several_commits() {
    let house = House::new();
    let broker = house.broker();
    let large = "x".repeat(crate::limits::MESSAGE_BYTES_MAX - 100);
    for _ in 0..6 {
        house.publish(&broker, "t", &[&large]).await;
    }
    let recorder = Recorder::new(&house, |seen| {
        if seen.attempt == 1 { Verdict::retry("park it first") } else { Verdict::drop("unwanted") }
    });
    let asked = SubscribeOptions { max_in_flight: 6, ..with_dead_letters(1) };
    let handle = subscribe(&broker, asked, &recorder).await;
    recorder.count(12).await;
    house.pass(Duration::from_secs(1)).await;
    assert!(handle.stop(LONG).await.settled);
    let dead = Recorder::acks(&house);
    let _dead = subscribe(&broker, options("dead", "d"), &dead).await;
    assert_eq!(dead.count(6).await.len(), 6);
    assert_eq!(house.lag(&broker, "t", "g").await.0, 0);
}
