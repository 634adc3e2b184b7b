//! Publishing and delivering when nothing goes wrong.

use super::{House, LONG, Recorder, message, numbers, options, subscribe};
use crate::{BrokerSettings, Left, NewMessage, SubscribeOptions, Verdict};
use outrigger_kernel::{Deadline, Wall, World};
use outrigger_keyspace::Stamp;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

#[tokio::test(start_paused = true)]
async fn what_was_published_arrives_in_order_and_once() {
    let house = House::new();
    let broker = house.broker();
    let texts = numbers(1_000);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (early, late) = texts.split_at(500);
    house.publish(&broker, "t", early).await;
    let recorder = Recorder::acks(&house);
    let handle = subscribe(&broker, options("t", "g"), &recorder).await;
    for text in late {
        house.publish(&broker, "t", &[text]).await;
    }
    recorder.count(1_000).await;
    assert_eq!(handle.stop(LONG).await, Left { abandoned: 0, settled: true });
    assert_eq!(recorder.texts(), texts);
    assert_eq!(house.lag(&broker, "t", "g").await.0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_has_everything_that_was_published() {
    let house = House::new();
    let broker = house.broker();
    let metadata = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    let new = NewMessage {
        data: "x".into(),
        content_type: "text/x".to_owned(),
        metadata,
        expires_at: Some(house.world.wall().plus(LONG)),
    };
    let stamps = broker.publish("t", vec![message("w"), new], house.soon()).await.unwrap();
    assert_eq!(stamps, [Stamp { revision: 1, index: 0 }, Stamp { revision: 1, index: 1 }]);
    let recorder = Recorder::acks(&house);
    let _handle = subscribe(&broker, options("t", "g"), &recorder).await;
    let seen = recorder.count(2).await;
    assert_eq!(seen[1].metadata, [("k".to_owned(), "v".to_owned())]);
    assert_eq!(seen[1].delivery, "00000000000000010001");
    assert_eq!((&*seen[1].text, seen[1].attempt), ("x", 1));
}

#[tokio::test(start_paused = true)]
async fn an_idle_group_is_woken_by_the_publish_itself() {
    let house = House::new();
    let broker = house.broker();
    let recorder = Recorder::acks(&house);
    let _handle = subscribe(&broker, options("t", "g"), &recorder).await;
    house.pass(LONG / 2).await;
    let published = house.world.mono();
    house.publish(&broker, "t", &["x"]).await;
    let seen = recorder.count(1).await;
    // The clock stands still while anybody can run: no timer was waited for.
    assert_eq!(seen[0].at, published);
}

#[tokio::test(start_paused = true)]
async fn a_planned_publish_is_part_of_another_commit() {
    let house = House::new();
    let broker = house.broker();
    let recorder = Recorder::acks(&house);
    let _handle = subscribe(&broker, options("t", "g"), &recorder).await;
    let mut writes = broker.plan("t", vec![message("a"), message("b")]).unwrap();
    writes.push(outrigger_keyspace::Write::Put {
        key: "order".into(),
        value: "1".into(),
        expires_at: None,
    });
    house.space().write(writes).await.unwrap();
    recorder.count(2).await;
    assert_eq!(recorder.texts(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_published_after_the_deadline() {
    let house = House::new();
    let broker = house.broker();
    let past = Deadline(house.world.mono());
    // The memory engine answers at once, so that even no time is enough; what counts is that this does not hang.
    drop(broker.publish("t", vec![message("a")], past).await);
    assert_eq!(broker.publish("t", vec![], past).await, Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn credits_bound_what_a_consumer_holds() {
    let house = House::new();
    let broker = house.broker();
    house.publish(&broker, "t", &["0", "1", "2", "3", "4"]).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let inner = Arc::clone(&gate);
    let recorder = Recorder::slow(&house, move |_| {
        let gate = Arc::clone(&inner);
        async move {
            gate.acquire().await.unwrap().forget();
            Verdict::Ack
        }
    });
    let asked = SubscribeOptions { max_in_flight: 2, ..options("t", "g") };
    let handle = subscribe(&broker, asked, &recorder).await;
    recorder.count(2).await;
    house.pass(Duration::from_secs(10)).await;
    assert_eq!(recorder.texts().len(), 2);
    let stats = broker.stats().await.unwrap();
    let dispatch = stats[0].groups[0].dispatch;
    assert_eq!((dispatch.in_flight, dispatch.waiting, dispatch.consumers), (2, 3, 1));
    gate.add_permits(1);
    recorder.count(3).await;
    house.pass(Duration::from_secs(10)).await;
    assert_eq!(recorder.texts().len(), 3);
    gate.add_permits(4);
    recorder.count(5).await;
    assert!(handle.stop(LONG).await.settled);
}

#[tokio::test(start_paused = true)]
async fn reading_ahead_is_bounded_in_messages_and_bytes() {
    let mut house = House::new();
    house.settings =
        BrokerSettings { window_messages: 10, window_bytes: 1_000, ..BrokerSettings::default() };
    let broker = house.broker();
    let texts: Vec<String> = (0..100).map(|n| format!("{n:0>100}")).collect();
    house.publish(&broker, "t", &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let recorder = Recorder::slow(&house, |_| std::future::pending());
    let handle = subscribe(&broker, options("t", "g"), &recorder).await;
    recorder.count(1).await;
    let stats = broker.stats().await.unwrap();
    assert!(stats[0].groups[0].dispatch.waiting <= 10, "{stats:?}");
    drop(handle);
    let recorder = Recorder::acks(&house);
    let _handle = subscribe(&broker, options("t", "h"), &recorder).await;
    recorder.count(100).await;
    assert_eq!(recorder.texts(), texts);
}

#[tokio::test(start_paused = true)]
async fn an_expired_message_is_never_delivered() {
    let house = House::new();
    let broker = house.broker();
    // Registered, so that the messages are kept for it.
    drop(subscribe(&broker, options("t", "h"), &Recorder::acks(&house)).await);
    let expiring = |text, expires_at| NewMessage { expires_at, ..message(text) };
    let in_a_minute = house.world.wall().plus(Duration::from_secs(60));
    let messages = vec![
        expiring("past", Some(Wall(1))),
        expiring("late", Some(in_a_minute)),
        expiring("never", None),
    ];
    broker.publish("t", messages, house.soon()).await.unwrap();
    let recorder = Recorder::acks(&house);
    let first = subscribe(&broker, options("t", "g"), &recorder).await;
    recorder.count(2).await;
    assert_eq!(recorder.texts(), ["late", "never"]);
    assert!(first.stop(LONG).await.settled);
    house.pass(Duration::from_secs(61)).await;
    let recorder = Recorder::acks(&house);
    let _second = subscribe(&broker, options("t", "h"), &recorder).await;
    recorder.count(1).await;
    let dispatch = broker.stats().await.unwrap()[0].groups[1].dispatch;
    assert_eq!((dispatch.expired, dispatch.dropped), (2, 2));
    assert_eq!(recorder.texts(), ["never"]);
}
