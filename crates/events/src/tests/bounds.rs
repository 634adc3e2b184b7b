//! Bounds on memory and on commits.

use super::{House, LONG, Recorder, message, numbers, options, subscribe};
use crate::{Batch, Broker, NewMessage, SubscribeOptions, Verdict, limits};
use outrigger_resilience::Backoff;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;

/// Thousands of failures at once, with the longest names and reasons there are, go in as many commits as it takes.
#[tokio::test(start_paused = true)]
async fn verdicts_fit_the_bounds_of_a_commit() {
    for length in [20, limits::NAME_BYTES_MAX] {
        let house = House::new();
        let name = "n".repeat(length);
        let broker = Broker::open(house.space(), &name, house.settings.clone());
        broker.publish(&name, vec![message("x"); 2_000], house.soon()).await.unwrap();
        let gate = Arc::new(Semaphore::new(0));
        let inner = Arc::clone(&gate);
        let recorder = Recorder::slow(&house, move |_| {
            let gate = Arc::clone(&inner);
            async move {
                gate.acquire().await.unwrap().forget();
                Verdict::retry("r".repeat(2 * limits::REASON_BYTES_MAX))
            }
        });
        let asked = SubscribeOptions { max_in_flight: 3_000, ..options(&name, &name) };
        let handle = subscribe(&broker, asked, &recorder).await;
        recorder.count(2_000).await;
        gate.add_permits(2_000);
        house.pass(Duration::from_millis(100)).await;
        assert!(handle.stop(LONG).await.settled, "names of {length}");
        let stats = broker.stats().await.unwrap();
        assert_eq!(stats[0].groups[0].lag, 2_000);
    }
}

fn large(count: usize) -> Vec<NewMessage> {
    let text = "x".repeat(1024 * 1024);
    (0..count).map(|_| message(&text)).collect()
}

async fn publish_large(house: &House, broker: &Broker, count: usize) {
    for _ in 0..count {
        broker.publish("t", large(1), house.soon()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_consumers_hold_is_bounded_in_bytes() {
    let batch = Some(Batch { max_messages: 100, max_wait: Duration::ZERO });
    for batch in [None, batch] {
        let mut house = House::new();
        house.settings.in_flight_bytes = 4 * 1024 * 1024;
        let broker = house.broker();
        publish_large(&house, &broker, 20).await;
        let gate = Arc::new(Semaphore::new(0));
        let inner = Arc::clone(&gate);
        let recorder = Recorder::slow(&house, move |_| {
            let gate = Arc::clone(&inner);
            async move {
                gate.acquire().await.unwrap().forget();
                Verdict::Ack
            }
        });
        let asked = SubscribeOptions { max_in_flight: 100, batch, ..options("t", "g") };
        let _handle = subscribe(&broker, asked, &recorder).await;
        recorder.count(4).await;
        house.pass(Duration::from_secs(1)).await;
        assert_eq!(recorder.texts().len(), 4, "{batch:?}");
        gate.add_permits(20);
        recorder.count(20).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_message_larger_than_the_bound_is_delivered_alone() {
    let mut house = House::new();
    house.settings.in_flight_bytes = 1;
    house.settings.window_bytes = 1;
    let broker = house.broker();
    publish_large(&house, &broker, 3).await;
    let recorder = Recorder::new(&house, |seen| {
        if seen.attempt == 1 { Verdict::retry("once more") } else { Verdict::Ack }
    });
    let asked = SubscribeOptions { max_in_flight: 10, ..options("t", "g") };
    let handle = subscribe(&broker, asked, &recorder).await;
    recorder.count(6).await;
    assert!(handle.stop(LONG).await.settled);
    assert_eq!(house.lag(&broker, "t", "g").await.0, 0);
}

/// Whatever was parked wakes up at one instant; only some of it may be loaded at once.
#[tokio::test(start_paused = true)]
async fn waking_up_is_bounded_in_bytes() {
    let mut house = House::new();
    house.settings.window_bytes = 4 * 1024 * 1024;
    for restart in [false, true] {
        let broker = house.broker();
        publish_large(&house, &broker, 20).await;
        let failing = Recorder::new(&house, |_| Verdict::retry("down"));
        let group = if restart { "second" } else { "first" };
        let mut asked = SubscribeOptions { max_in_flight: 100, ..options("t", group) };
        asked.retry.backoff = Backoff::Constant { delay: Duration::from_secs(10) };
        let handle = subscribe(&broker, asked.clone(), &failing).await;
        failing.count(20).await;
        house.pass(Duration::from_secs(1)).await;
        let (handle, broker) = if restart {
            drop((handle, broker));
            let broker = house.broker();
            (subscribe(&broker, asked.clone(), &failing).await, broker)
        } else {
            (handle, broker)
        };
        handle.pause();
        house.pass(Duration::from_secs(20)).await;
        // Paused, nothing is loaded; with somebody who takes one at a time, no more than the window holds.
        assert_eq!(
            broker.stats().await.unwrap()[0].groups[usize::from(restart)].dispatch.waiting,
            0
        );
        let stuck = Recorder::slow(&house, |_| std::future::pending());
        let one = SubscribeOptions { max_in_flight: 1, ..asked.clone() };
        let second = subscribe(&broker, one, &stuck).await;
        stuck.count(1).await;
        house.pass(Duration::from_secs(1)).await;
        let waiting =
            broker.stats().await.unwrap()[0].groups[usize::from(restart)].dispatch.waiting;
        assert!(waiting <= 5, "{waiting} messages of 1 MiB");
        assert_eq!(second.stop(Duration::ZERO).await.abandoned, 1);
        let willing = Recorder::acks(&house);
        let _third = subscribe(&broker, asked, &willing).await;
        willing.count(20).await;
    }
}

/// Attempts without their messages, as a group that was half forgotten leaves them: more than one commit cleans up.
#[tokio::test(start_paused = true)]
async fn rows_without_messages_are_cleaned_up() {
    let house = House::new();
    let broker = house.broker();
    let texts = numbers(5_000);
    house.publish(&broker, "t", &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let count = Arc::new(AtomicUsize::new(0));
    let inner = Arc::clone(&count);
    let failing = Recorder::new(&house, move |_| {
        inner.fetch_add(1, Ordering::SeqCst);
        Verdict::retry("down")
    });
    let mut asked = SubscribeOptions { max_in_flight: 5_000, ..options("t", "g") };
    asked.retry.max_retries = None;
    let handle = subscribe(&broker, asked.clone(), &failing).await;
    failing.count(5_000).await;
    // A failure in the time of grace would not count.
    house.pass(Duration::from_millis(100)).await;
    assert!(handle.stop(LONG).await.settled);
    drop(broker);
    let keys = crate::keys::GroupKeys::new("b", "t", "g");
    let range = outrigger_keyspace::KeyRange::prefix(keys.parked);
    house.space().write(vec![outrigger_keyspace::Write::DeleteRange { range }]).await.unwrap();
    let broker = house.broker();
    let recorder = Recorder::acks(&house);
    let handle = subscribe(&broker, asked, &recorder).await;
    house.pass(Duration::from_secs(60)).await;
    assert!(handle.stop(LONG).await.settled);
    assert!(recorder.texts().is_empty());
    assert_eq!(house.lag(&broker, "t", "g").await.0, 0);
}
