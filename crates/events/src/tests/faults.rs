//! A store that fails.

use super::{
    House, LONG, Recorder, message, numbers, options,
    sky::{Sky, Weather},
    subscribe,
};
use crate::{Broker, PublishError, SubscribeError, SubscribeOptions, Verdict};
use outrigger_keyspace::CommitError;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

fn under(house: &House) -> (Arc<Sky>, Arc<Broker>) {
    let sky = Sky::over(house);
    let broker = Broker::open(sky.space(house), "b", house.settings.clone());
    (sky, broker)
}

fn refusing() -> Weather {
    Weather::Refusing(CommitError::Unavailable("storm".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn publishers_are_told_what_happened() {
    let house = House::new();
    let (sky, broker) = under(&house);
    let publish = async || broker.publish("t", vec![message("a")], house.soon()).await;
    sky.turn(refusing());
    assert!(matches!(publish().await, Err(PublishError::Unavailable(_))));
    sky.turn(Weather::Refusing(CommitError::Full("disk".to_owned())));
    assert_eq!(publish().await, Err(PublishError::Full("disk".to_owned())));
    sky.turn(Weather::Doubtful);
    assert_eq!(publish().await, Err(PublishError::Unknown("lost".to_owned())));
    sky.turn(refusing());
    let refused = broker.subscribe(options("t", "g"), Recorder::acks(&house)).await;
    assert!(matches!(refused, Err(SubscribeError::Store(_))), "{refused:?}");
    // The group that could not be opened can be opened later.
    sky.turn(Weather::Fair);
    let recorder = Recorder::acks(&house);
    let _handle = subscribe(&broker, options("t", "g"), &recorder).await;
    recorder.count(1).await;
    assert_eq!(recorder.texts(), ["a"], "the one in doubt had happened");
}

#[tokio::test(start_paused = true)]
async fn verdicts_wait_for_the_store_and_nothing_new_is_handed_out() {
    let house = House::new();
    let (sky, broker) = under(&house);
    let recorder = Recorder::new(&house, |seen| match (&*seen.text, seen.attempt) {
        ("1", 1) => Verdict::retry("once more"),
        ("2", _) => Verdict::drop("unwanted"),
        _ => Verdict::Ack,
    });
    let mut asked = SubscribeOptions { max_in_flight: 4, ..options("t", "g") };
    asked.dead_letter_topic = Some("dead".to_owned());
    let handle = subscribe(&broker, asked, &recorder).await;
    let texts = numbers(500);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    house.publish(&broker, "t", &texts).await;
    sky.turn(refusing());
    house.pass(Duration::from_secs(100)).await;
    let handed = recorder.texts().len();
    assert!(handed < 50, "{handed} deliveries whose verdicts cannot be kept");
    sky.turn(Weather::Fair);
    recorder.count(501).await;
    house.pass(Duration::from_secs(10)).await;
    assert!(handle.stop(LONG).await.settled);
    assert_eq!(recorder.texts().len(), 501, "nothing twice: no verdict was lost");
    assert_eq!(house.lag(&broker, "t", "g").await.0, 0);
    let dead = broker.stats().await.unwrap();
    assert_eq!(dead.iter().find(|topic| topic.topic == "dead").unwrap().published, 1);
}

#[tokio::test(start_paused = true)]
async fn a_commit_in_doubt_is_made_again() {
    let house = House::new();
    let (sky, broker) = under(&house);
    let recorder = Recorder::acks(&house);
    let handle = subscribe(&broker, options("t", "g"), &recorder).await;
    house.publish(&broker, "t", &["a", "b"]).await;
    sky.turn(Weather::Doubtful);
    recorder.count(1).await;
    house.pass(Duration::from_secs(1)).await;
    sky.turn(Weather::Fair);
    recorder.count(2).await;
    assert!(handle.stop(LONG).await.settled);
    assert_eq!(recorder.texts(), ["a", "b"]);
    assert_eq!(house.lag(&broker, "t", "g").await.0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_recovers_does_not_hold_up_a_stop() {
    let house = House::new();
    let (sky, broker) = under(&house);
    let recorder = Recorder::acks(&house);
    let handle = subscribe(&broker, options("t", "g"), &recorder).await;
    house.publish(&broker, "t", &["a"]).await;
    sky.turn(refusing());
    recorder.count(1).await;
    let left = handle.stop(Duration::from_secs(1)).await;
    assert!(!left.settled);
    drop(broker);
    sky.turn(Weather::Fair);
    let again = Recorder::acks(&house);
    let broker = house.broker();
    let _handle = subscribe(&broker, options("t", "g"), &again).await;
    again.count(1).await;
}

#[tokio::test(start_paused = true)]
async fn reading_goes_on_when_it_can() {
    let house = House::new();
    let (sky, broker) = under(&house);
    let recorder = Recorder::new(&house, |seen| {
        if seen.text == "a" && seen.attempt == 1 { Verdict::retry("later") } else { Verdict::Ack }
    });
    let handle = subscribe(&broker, options("t", "g"), &recorder).await;
    house.publish(&broker, "t", &["a"]).await;
    recorder.count(1).await;
    house.pass(Duration::from_millis(10)).await;
    sky.turn(Weather::Blind);
    house.publish(&broker, "t", &["b"]).await;
    house.pass(Duration::from_secs(60)).await;
    assert_eq!(recorder.texts(), ["a"]);
    sky.turn(Weather::Fair);
    recorder.count(3).await;
    assert!(handle.stop(LONG).await.settled);
    assert_eq!(house.lag(&broker, "t", "g").await.0, 0);
}

/// Fails the messages whose number divides by seven, and all while the app is down.
fn shaky(house: &House, down: &Arc<AtomicBool>) -> Arc<Recorder> {
    let down = Arc::clone(down);
    Recorder::new(house, move |seen| {
        let number: u32 = seen.text.parse().unwrap();
        let fails = down.load(Ordering::SeqCst) || (number.is_multiple_of(7) && seen.attempt < 3);
        if fails { Verdict::retry("not now") } else { Verdict::Ack }
    })
}

#[tokio::test(start_paused = true)]
async fn a_full_store_is_drained_even_past_failing_messages() {
    let mut house = House::new();
    house.settings.window_messages = 20;
    let (sky, broker) = under(&house);
    let down = Arc::new(AtomicBool::new(true));
    let recorder = shaky(&house, &down);
    let mut asked = SubscribeOptions { max_in_flight: 8, ..options("t", "g") };
    asked.retry.max_retries = None;
    let handle = subscribe(&broker, asked.clone(), &recorder).await;
    let texts = numbers(500);
    house.publish(&broker, "t", &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    sky.turn(Weather::Cramped);
    assert!(matches!(
        broker.publish("t", vec![message("x")], house.soon()).await,
        Err(PublishError::Full(_))
    ));
    // The app is down, the store is full: all that is read ahead fails, again and again, and stays in memory.
    house.pass(Duration::from_secs(600)).await;
    assert!(recorder.until(|seen| seen.iter().any(|seen| seen.attempt > 50)).await.len() < 20_000);
    let dispatch = broker.stats().await.unwrap()[0].groups[0].dispatch;
    assert!(dispatch.waiting + dispatch.parked <= 28, "{dispatch:?}");
    // Somebody else can join, too.
    let second = subscribe(&broker, asked.clone(), &shaky(&house, &down)).await;
    drop(second);
    down.store(false, Ordering::SeqCst);
    house.pass(Duration::from_secs(60)).await;
    assert_eq!(house.lag(&broker, "t", "g").await, (0, 0), "drained, and its room given back");
    assert!(handle.stop(LONG).await.settled);
    sky.turn(Weather::Fair);
    house.publish(&broker, "t", &["1"]).await;
    let _handle = subscribe(&broker, asked, &recorder).await;
    house.pass(Duration::from_secs(60)).await;
    assert_eq!(house.lag(&broker, "t", "g").await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_waits_for_room() {
    let house = House::new();
    let (sky, broker) = under(&house);
    let recorder = Recorder::new(&house, |seen| match &*seen.text {
        "bad" => Verdict::retry("never"),
        _ => Verdict::Ack,
    });
    let mut asked = SubscribeOptions { max_in_flight: 4, ..options("t", "g") };
    asked.retry.max_retries = Some(1);
    asked.dead_letter_topic = Some("dead".to_owned());
    let handle = subscribe(&broker, asked, &recorder).await;
    house.publish(&broker, "t", &["bad", "1", "2", "3"]).await;
    sky.turn(Weather::Cramped);
    house.pass(Duration::from_secs(60)).await;
    assert_eq!(house.lag(&broker, "t", "g").await.0, 1);
    assert!(broker.stats().await.unwrap().iter().all(|topic| topic.topic != "dead"));
    sky.turn(Weather::Fair);
    house.pass(Duration::from_secs(60)).await;
    assert!(handle.stop(LONG).await.settled);
    assert_eq!(house.lag(&broker, "t", "g").await.0, 0);
    let stats = broker.stats().await.unwrap();
    assert_eq!(stats.iter().find(|topic| topic.topic == "dead").unwrap().published, 1);
}

/// A message that is parked, and fails or dies while the store is full, keeps its row and its count.
#[tokio::test(start_paused = true)]
async fn a_parked_message_survives_a_full_store() {
    let house = House::new();
    let (sky, broker) = under(&house);
    let recorder = Recorder::new(&house, |_| Verdict::retry("never"));
    let mut asked = options("t", "g");
    asked.retry.max_retries = Some(10);
    asked.dead_letter_topic = Some("dead".to_owned());
    let handle = subscribe(&broker, asked.clone(), &recorder).await;
    house.publish(&broker, "t", &["bad"]).await;
    recorder.count(2).await;
    house.pass(Duration::from_millis(10)).await;
    sky.turn(Weather::Cramped);
    house.pass(Duration::from_secs(100)).await;
    let seen = recorder.count(12).await;
    let attempts: Vec<u32> = seen[..11].iter().map(|seen| seen.attempt).collect();
    assert_eq!(attempts, (1..=11).collect::<Vec<_>>());
    assert_eq!(house.lag(&broker, "t", "g").await.0, 1);
    drop((handle, broker));
    sky.turn(Weather::Fair);
    let broker = house.broker();
    let again = Recorder::acks(&house);
    let handle = subscribe(&broker, asked, &again).await;
    assert_eq!(again.count(1).await[0].attempt, 3, "what was committed before the store was full");
    assert!(handle.stop(LONG).await.settled);
    assert_eq!(house.lag(&broker, "t", "g").await.0, 0);
}
