//! Deleting what nobody needs.

use super::{House, LONG, Recorder, numbers, options, subscribe};
use crate::Verdict;
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

#[tokio::test(start_paused = true)]
async fn what_every_group_is_done_with_is_deleted() {
    let house = House::new();
    let broker = house.broker();
    let gate = Arc::new(Semaphore::new(0));
    let inner = Arc::clone(&gate);
    let fast = Recorder::acks(&house);
    let slow = Recorder::slow(&house, move |_| {
        let gate = Arc::clone(&inner);
        async move {
            gate.acquire().await.unwrap().forget();
            Verdict::Ack
        }
    });
    let _fast = subscribe(&broker, options("t", "fast"), &fast).await;
    let mut asked = options("t", "slow");
    asked.delivery_timeout = Some(LONG * 10);
    let _slow = subscribe(&broker, asked, &slow).await;
    let texts = numbers(2_500);
    house.publish(&broker, "t", &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    fast.count(2_500).await;
    house.pass(Duration::from_secs(10)).await;
    assert_eq!(house.lag(&broker, "t", "fast").await, (0, 2_500), "the slow group needs it all");
    gate.add_permits(2_200);
    slow.count(2_201).await;
    house.pass(Duration::from_secs(10)).await;
    assert_eq!(house.lag(&broker, "t", "slow").await, (300, 300));
    gate.add_permits(300);
    house.pass(Duration::from_secs(10)).await;
    assert_eq!(house.lag(&broker, "t", "slow").await, (0, 0));
    assert_eq!(stored(&house).await, 0);

    // A group that comes now starts with what is still there, and its lag is exact.
    house.publish(&broker, "t", &["new"]).await;
    let late = Recorder::acks(&house);
    let late_handle = subscribe(&broker, options("t", "late"), &late).await;
    late.count(1).await;
    assert!(late_handle.stop(LONG).await.settled);
    assert_eq!(late.texts(), ["new"]);
    assert_eq!(house.lag(&broker, "t", "late").await.0, 0);
}

/// How many message rows the engine holds.
async fn stored(house: &House) -> usize {
    let keys = crate::keys::TopicKeys::new("b", "t");
    let snapshot = house.space().snapshot(outrigger_keyspace::Level::Linearizable).await.unwrap();
    crate::sweep::keys(&*snapshot, keys.all()).await.unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn a_failed_message_survives_the_deletion_of_its_log() {
    let house = House::new();
    let broker = house.broker();
    house.publish(&broker, "t", &["bad", "good"]).await;
    let recorder = Recorder::new(&house, |seen| {
        if seen.text == "bad" && seen.attempt < 3 {
            Verdict::retry("not yet")
        } else {
            Verdict::Ack
        }
    });
    let mut asked = options("t", "g");
    asked.retry.backoff =
        outrigger_resilience::Backoff::Constant { delay: Duration::from_secs(60) };
    let handle = subscribe(&broker, asked.clone(), &recorder).await;
    recorder.count(2).await;
    house.pass(Duration::from_secs(30)).await;
    assert_eq!(stored(&house).await, 0);
    assert_eq!(house.lag(&broker, "t", "g").await, (1, 0));
    drop((handle, broker));
    let broker = house.broker();
    let handle = subscribe(&broker, asked, &recorder).await;
    recorder.count(4).await;
    assert!(handle.stop(LONG).await.settled);
    assert_eq!(house.lag(&broker, "t", "g").await, (0, 0));
    // Nothing is left of it in any table of the group.
    let group = crate::keys::GroupKeys::new("b", "t", "g");
    let snapshot = house.space().snapshot(outrigger_keyspace::Level::Linearizable).await.unwrap();
    for prefix in [group.attempts, group.parked] {
        let range = outrigger_keyspace::KeyRange::prefix(prefix);
        assert!(crate::sweep::keys(&*snapshot, range).await.unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn without_groups_messages_are_kept_for_the_retention_time() {
    let house = House::new();
    let broker = house.broker();
    let day = Duration::from_secs(24 * 60 * 60);
    house.publish(&broker, "t", &["old"]).await;
    house.pass(day * 4).await;
    house.publish(&broker, "t", &["young"]).await;
    house.pass(day * 2).await;
    assert_eq!(stored(&house).await, 2);
    house.pass(day * 2).await;
    assert_eq!(stored(&house).await, 1);
    let recorder = Recorder::acks(&house);
    let _handle = subscribe(&broker, options("t", "g"), &recorder).await;
    recorder.count(1).await;
    assert_eq!(recorder.texts(), ["young"]);
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_group_keeps_nothing() {
    let house = House::new();
    let broker = house.broker();
    let recorder = Recorder::new(&house, |_| Verdict::retry("never"));
    let handle = subscribe(&broker, options("t", "g"), &recorder).await;
    let other = Recorder::acks(&house);
    let _other = subscribe(&broker, options("t", "other"), &other).await;
    house.publish(&broker, "t", &["a"]).await;
    recorder.count(1).await;
    broker.forget("t", "g").await.unwrap();
    house.publish(&broker, "t", &["b"]).await;
    house.pass(Duration::from_secs(60)).await;
    assert_eq!(stored(&house).await, 0);
    assert!(!recorder.texts().contains(&"c".to_owned()));
    let stats = broker.stats().await.unwrap();
    assert_eq!(stats[0].groups.len(), 1);
    assert!(!handle.stop(LONG).await.settled);
    // Coming back, it is a new group.
    let again = Recorder::acks(&house);
    let _again = subscribe(&broker, options("t", "g"), &again).await;
    house.publish(&broker, "t", &["c"]).await;
    again.count(1).await;
    assert_eq!(again.attempts(), [("c".to_owned(), 1)]);
}
