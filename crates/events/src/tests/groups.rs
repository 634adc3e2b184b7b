//! Groups: fan-out, competition, pausing and leaving.

use super::{House, LONG, Recorder, numbers, options, subscribe};
use crate::{Left, SubscribeError, SubscribeOptions, Verdict};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

#[tokio::test(start_paused = true)]
async fn every_group_gets_every_message() {
    let house = House::new();
    let broker = house.broker();
    house.publish(&broker, "t", &["a"]).await;
    let (one, two) = (Recorder::acks(&house), Recorder::acks(&house));
    let _one = subscribe(&broker, options("t", "g1"), &one).await;
    house.publish(&broker, "t", &["b"]).await;
    // Registered later, it still gets what is there.
    let _two = subscribe(&broker, options("t", "g2"), &two).await;
    house.publish(&broker, "t", &["c"]).await;
    one.count(3).await;
    two.count(3).await;
    assert_eq!(one.texts(), ["a", "b", "c"]);
    assert_eq!(two.texts(), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn consumers_of_a_group_share_its_messages_fairly() {
    let house = House::new();
    let broker = house.broker();
    let pace = |ms: u64| {
        let world = Arc::clone(&house.world);
        Recorder::slow(&house, move |_| {
            let sleep = outrigger_kernel::World::sleep(&*world, Duration::from_millis(ms));
            async move {
                sleep.await;
                Verdict::Ack
            }
        })
    };
    let (one, two, slow) = (pace(10), pace(10), pace(100));
    let mut handles = Vec::new();
    for recorder in [&one, &two, &slow] {
        handles.push(subscribe(&broker, options("t", "g"), recorder).await);
    }
    let texts = numbers(210);
    house.publish(&broker, "t", &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    house.pass(Duration::from_secs(10)).await;
    let counts = [&one, &two, &slow].map(|recorder| recorder.texts().len());
    assert_eq!(counts.iter().sum::<usize>(), 210);
    assert!(counts[0].abs_diff(counts[1]) <= 2, "{counts:?}");
    assert!(counts[2] >= 9 && counts[2] <= 12, "the slow one took what it could: {counts:?}");
    let all: BTreeSet<String> = [one, two, slow].iter().flat_map(|r| r.texts()).collect();
    assert_eq!(all, texts.into_iter().collect());
}

#[tokio::test(start_paused = true)]
async fn a_paused_consumer_gets_nothing_and_the_others_get_it() {
    let house = House::new();
    let broker = house.broker();
    let (one, two) = (Recorder::acks(&house), Recorder::acks(&house));
    let first = subscribe(&broker, options("t", "g"), &one).await;
    first.pause();
    house.publish(&broker, "t", &["a"]).await;
    house.pass(LONG).await;
    assert!(one.texts().is_empty());
    let second = subscribe(&broker, options("t", "g"), &two).await;
    two.count(1).await;
    second.pause();
    house.publish(&broker, "t", &["b"]).await;
    house.pass(LONG).await;
    first.resume();
    one.count(1).await;
    assert_eq!((one.texts(), two.texts()), (vec!["b".to_owned()], vec!["a".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn leaving_finishes_what_is_held_and_takes_nothing_new() {
    let house = House::new();
    let broker = house.broker();
    house.publish(&broker, "t", &["a", "b", "c"]).await;
    let gate = Arc::new(Semaphore::new(0));
    let inner = Arc::clone(&gate);
    let slow = Recorder::slow(&house, move |_| {
        let gate = Arc::clone(&inner);
        async move {
            gate.acquire().await.unwrap().forget();
            Verdict::Ack
        }
    });
    let asked = SubscribeOptions { max_in_flight: 2, ..options("t", "g") };
    let handle = subscribe(&broker, asked, &slow).await;
    slow.count(2).await;
    let leaving = tokio::join!(handle.stop(LONG), async {
        house.pass(Duration::from_secs(5)).await;
        gate.add_permits(9);
    });
    assert_eq!(leaving.0, Left { abandoned: 0, settled: true });
    assert_eq!(slow.texts(), ["a", "b"]);
    let next = Recorder::acks(&house);
    let _handle = subscribe(&broker, options("t", "g"), &next).await;
    next.count(1).await;
    house.pass(LONG).await;
    assert_eq!(next.texts(), ["c"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_finished_in_time_goes_to_somebody_else_as_the_same_attempt() {
    let house = House::new();
    let broker = house.broker();
    house.publish(&broker, "t", &["a", "b", "c"]).await;
    let stuck = Recorder::slow(&house, |seen| {
        let is_a = seen.text == "a";
        async move { if is_a { std::future::pending().await } else { Verdict::Ack } }
    });
    let asked = SubscribeOptions { max_in_flight: 2, ..options("t", "g") };
    let handle = subscribe(&broker, asked, &stuck).await;
    stuck.count(3).await;
    let left = handle.stop(Duration::from_secs(5)).await;
    assert_eq!(left, Left { abandoned: 1, settled: true });
    let next = Recorder::acks(&house);
    let _handle = subscribe(&broker, options("t", "g"), &next).await;
    next.count(1).await;
    house.pass(LONG).await;
    assert_eq!(next.attempts(), [("a".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn failures_of_an_app_that_is_going_down_do_not_count() {
    let house = House::new();
    let broker = house.broker();
    house.publish(&broker, "t", &["a", "b"]).await;
    let gate = Arc::new(Semaphore::new(0));
    let inner = Arc::clone(&gate);
    let failing = Recorder::slow(&house, move |seen| {
        let (gate, drop) = (Arc::clone(&inner), seen.text == "b");
        async move {
            gate.acquire().await.unwrap().forget();
            if drop { Verdict::drop("unwanted") } else { Verdict::retry("going down") }
        }
    });
    let mut asked = SubscribeOptions { max_in_flight: 2, ..options("t", "g") };
    asked.retry.max_retries = Some(0);
    asked.dead_letter_topic = Some("dead".to_owned());
    let handle = subscribe(&broker, asked, &failing).await;
    failing.count(2).await;
    let (left, ()) = tokio::join!(handle.stop(LONG), async { gate.add_permits(2) });
    assert_eq!(left, Left { abandoned: 1, settled: true });
    let (next, dead) = (Recorder::acks(&house), Recorder::acks(&house));
    let _handle = subscribe(&broker, options("t", "g"), &next).await;
    let _dead = subscribe(&broker, options("dead", "g"), &dead).await;
    house.pass(LONG).await;
    assert_eq!(next.attempts(), [("a".to_owned(), 1)]);
    assert_eq!(dead.texts(), ["b"], "an explicit drop is honoured");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_handle_leaves_by_itself() {
    let house = House::new();
    let broker = house.broker();
    let recorder = Recorder::acks(&house);
    drop(subscribe(&broker, options("t", "g"), &recorder).await);
    house.publish(&broker, "t", &["a"]).await;
    house.pass(LONG).await;
    assert!(recorder.texts().is_empty());
    assert_eq!(house.lag(&broker, "t", "g").await, (1, 1));
}

#[tokio::test(start_paused = true)]
async fn closing_ends_all_subscriptions_and_takes_no_new_ones() {
    let house = House::new();
    let broker = house.broker();
    let (good, stuck) =
        (Recorder::acks(&house), Recorder::slow(&house, |_| std::future::pending()));
    let first = subscribe(&broker, options("t", "g"), &good).await;
    let _second = subscribe(&broker, options("t", "h"), &stuck).await;
    house.publish(&broker, "t", &["a"]).await;
    good.count(1).await;
    stuck.count(1).await;
    broker.close(Duration::from_secs(3)).await;
    house.publish(&broker, "t", &["b"]).await;
    let refused = broker.subscribe(options("t", "g"), Arc::clone(&good) as _).await;
    assert_eq!(refused.err(), Some(SubscribeError::Closed));
    assert_eq!(first.stop(LONG).await, Left { abandoned: 0, settled: false }, "it had left before");
    house.pass(LONG).await;
    assert_eq!((good.texts().len(), stuck.texts().len()), (1, 1));
    assert_eq!(house.lag(&broker, "t", "g").await.0, 1);
    assert_eq!(house.lag(&broker, "t", "h").await.0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_second_broker_of_the_name_takes_over() {
    let house = House::new();
    let (one, two) = (house.broker(), house.broker());
    let (first, second) = (Recorder::acks(&house), Recorder::acks(&house));
    let old = subscribe(&one, options("t", "g"), &first).await;
    house.publish(&one, "t", &["a"]).await;
    first.count(1).await;
    house.pass(Duration::from_secs(1)).await;
    let _new = subscribe(&two, options("t", "g"), &second).await;
    house.publish(&one, "t", &["b"]).await;
    second.count(1).await;
    house.pass(LONG).await;
    // Both may have delivered it, but only the holder's word counts, and the other one has noticed.
    assert_eq!(second.texts(), ["b"]);
    house.publish(&one, "t", &["c"]).await;
    house.pass(LONG).await;
    assert_eq!(second.texts(), ["b", "c"]);
    assert!(!first.texts().contains(&"c".to_owned()));
    assert!(!old.stop(LONG).await.settled);
    assert_eq!(house.lag(&two, "t", "g").await.0, 0);
}

#[tokio::test(start_paused = true)]
async fn names_are_checked() {
    let house = House::new();
    let broker = house.broker();
    let recorder = Recorder::acks(&house);
    let mut own = options("t", "g");
    own.dead_letter_topic = Some("t".to_owned());
    for (options, message) in [
        (options("", "g"), "the name of a topic is empty"),
        (options("t", ""), "the name of a group is empty"),
        (own, "the dead-letter topic \"t\" is the topic itself"),
    ] {
        let refused = broker.subscribe(options, Arc::clone(&recorder) as _).await;
        assert_eq!(refused.unwrap_err().to_string(), message);
    }
}
