//! Several messages per delivery.

use super::{House, LONG, Recorder, numbers, options, subscribe};
use crate::{Batch, SubscribeOptions, Verdict};
use std::time::Duration;

fn batched(max_messages: u32, max_wait: Duration) -> SubscribeOptions {
    SubscribeOptions { batch: Some(Batch { max_messages, max_wait }), ..options("t", "g") }
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_delivered_full_or_when_its_time_has_come() {
    let house = House::new();
    let broker = house.broker();
    let recorder = Recorder::acks(&house);
    let second = Duration::from_secs(1);
    let _handle = subscribe(&broker, batched(10, second), &recorder).await;
    let start = outrigger_kernel::World::mono(&*house.world);
    let texts = numbers(25);
    house.publish(&broker, "t", &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let seen = recorder.count(25).await;
    assert_eq!(recorder.batches(), [10, 10, 5]);
    assert_eq!(seen[19].at, start);
    assert_eq!(seen[24].at.since(start), second);
    assert_eq!(recorder.texts(), texts);
}

#[tokio::test(start_paused = true)]
async fn each_message_of_a_batch_has_its_own_verdict() {
    let house = House::new();
    let broker = house.broker();
    let recorder = Recorder::new(&house, |seen| match (&*seen.text, seen.attempt) {
        ("1" | "3", 1) => Verdict::retry("once more"),
        ("2", _) => Verdict::drop("unwanted"),
        _ => Verdict::Ack,
    });
    house.publish(&broker, "t", &["0", "1", "2", "3", "4"]).await;
    let mut asked = batched(5, Duration::from_millis(10));
    asked.dead_letter_topic = Some("dead".to_owned());
    let handle = subscribe(&broker, asked, &recorder).await;
    recorder.count(7).await;
    assert!(handle.stop(LONG).await.settled);
    assert_eq!(recorder.batches(), [5, 2]);
    assert_eq!(recorder.texts()[5..], ["1", "3"]);
    assert_eq!(house.lag(&broker, "t", "g").await.0, 0);
    let dead = Recorder::acks(&house);
    let _handle = subscribe(&broker, options("dead", "g"), &dead).await;
    dead.count(1).await;
    assert_eq!(dead.texts(), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_larger_than_the_window_still_fills() {
    let mut house = House::new();
    house.settings.window_messages = 10;
    let broker = house.broker();
    let texts = numbers(500);
    house.publish(&broker, "t", &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let recorder = Recorder::acks(&house);
    let _handle = subscribe(&broker, batched(100, LONG), &recorder).await;
    recorder.count(500).await;
    assert_eq!(recorder.batches(), [100; 5]);
}

#[tokio::test(start_paused = true)]
async fn single_and_batched_consumers_can_share_a_group() {
    let house = House::new();
    let broker = house.broker();
    let (single, many) = (Recorder::acks(&house), Recorder::acks(&house));
    let _single = subscribe(&broker, options("t", "g"), &single).await;
    let _many = subscribe(&broker, batched(10, LONG), &many).await;
    let texts = numbers(1_000);
    house.publish(&broker, "t", &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    house.pass(LONG).await;
    assert_eq!(single.texts().len() + many.texts().len(), 1_000);
    assert!(!single.texts().is_empty());
    assert!(many.batches().iter().all(|&size| size == 10));
}
