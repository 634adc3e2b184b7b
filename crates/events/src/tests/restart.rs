//! Crashes: the broker is dropped as it stands, and opened again on the same engine.

use super::{House, LONG, Recorder, numbers, options, subscribe};
use crate::{SubscribeOptions, Verdict};
use outrigger_resilience::Backoff;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_group_goes_on_where_it_was() {
    let house = House::new();
    let broker = house.broker();
    let texts = numbers(300);
    house.publish(&broker, "t", &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // Every third message stays in somebody's hands when the crash comes.
    let recorder = Recorder::slow(&house, |seen| {
        let held = seen.text.parse::<u32>().unwrap() % 3 == 0;
        async move { if held { std::future::pending().await } else { Verdict::Ack } }
    });
    let asked = SubscribeOptions { max_in_flight: 1_000, ..options("t", "g") };
    let handle = subscribe(&broker, asked.clone(), &recorder).await;
    recorder.count(300).await;
    house.pass(Duration::from_secs(1)).await;
    assert_eq!(house.lag(&broker, "t", "g").await.0, 100);
    drop((handle, broker));

    let broker = house.broker();
    assert_eq!(house.lag(&broker, "t", "g").await.0, 100);
    let recorder = Recorder::acks(&house);
    let handle = subscribe(&broker, asked, &recorder).await;
    house.publish(&broker, "t", &["new"]).await;
    recorder.count(101).await;
    house.pass(LONG).await;
    let mut held: Vec<String> = texts.into_iter().step_by(3).collect();
    held.push("new".to_owned());
    assert_eq!(recorder.texts(), held);
    assert!(handle.stop(LONG).await.settled);
    assert_eq!(house.lag(&broker, "t", "g").await.0, 0);
}

/// The second life reads only a little of what the first one left unfinished: the rest of its runs must not be lost
/// with the second crash.
#[tokio::test(start_paused = true)]
async fn what_is_done_above_the_floor_survives_several_crashes() {
    let mut house = House::new();
    house.settings.window_messages = 4;
    let broker = house.broker();
    let texts = numbers(300);
    house.publish(&broker, "t", &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let is_held = |text: &str| text.parse::<u32>().unwrap() % 30 == 0;
    let recorder = Recorder::slow(&house, move |seen| {
        let held = is_held(&seen.text);
        async move { if held { std::future::pending().await } else { Verdict::Ack } }
    });
    let asked = SubscribeOptions { max_in_flight: 1_000, ..options("t", "g") };
    let handle = subscribe(&broker, asked, &recorder).await;
    recorder.count(300).await;
    house.pass(Duration::from_secs(1)).await;
    drop((handle, broker));

    let broker = house.broker();
    let recorder = Recorder::slow(&house, |seen| {
        let last = seen.text == "60";
        async move { if last { std::future::pending().await } else { Verdict::Ack } }
    });
    let handle = subscribe(&broker, options("t", "g"), &recorder).await;
    recorder.count(3).await;
    house.pass(Duration::from_secs(1)).await;
    assert_eq!(recorder.texts(), ["0", "30", "60"]);
    drop((handle, broker));

    let broker = house.broker();
    assert_eq!(house.lag(&broker, "t", "g").await.0, 8);
    let recorder = Recorder::acks(&house);
    let handle = subscribe(&broker, options("t", "g"), &recorder).await;
    house.pass(LONG).await;
    assert_eq!(recorder.texts(), ["60", "90", "120", "150", "180", "210", "240", "270"]);
    assert!(handle.stop(LONG).await.settled);
}

#[tokio::test(start_paused = true)]
async fn attempts_and_pauses_survive() {
    let house = House::new();
    let broker = house.broker();
    house.publish(&broker, "t", &["bad"]).await;
    let mut asked = options("t", "g");
    asked.retry.backoff = Backoff::Constant { delay: Duration::from_secs(100) };
    let failing = Recorder::new(&house, |_| Verdict::retry("not yet"));
    let handle = subscribe(&broker, asked.clone(), &failing).await;
    let first = failing.count(1).await;
    house.pass(Duration::from_secs(40)).await;
    drop((handle, broker));
    let broker = house.broker();
    let recorder = Recorder::new(&house, |_| Verdict::retry("still not"));
    let _handle = subscribe(&broker, asked, &recorder).await;
    let again = recorder.count(1).await;
    assert_eq!(again[0].attempt, 2);
    let pause = again[0].at.since(first[0].at);
    assert_eq!(pause, Duration::from_secs(100), "the rest of the pause, not a new one");
    recorder.count(3).await;
    house.pass(LONG).await;
    assert_eq!(recorder.texts().len(), 3, "four attempts in all");
    assert_eq!(house.lag(&broker, "t", "g").await.0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_back_lengthens_no_pause() {
    let house = House::new();
    let broker = house.broker();
    house.publish(&broker, "t", &["bad"]).await;
    let failing = Recorder::new(&house, |_| Verdict::retry("not yet"));
    let handle = subscribe(&broker, options("t", "g"), &failing).await;
    failing.count(1).await;
    house.pass(Duration::from_millis(10)).await;
    drop((handle, broker));
    house.world.jump_wall(-1_000 * 60 * 60 * 24 * 365);
    let broker = house.broker();
    let recorder = Recorder::acks(&house);
    let start = outrigger_kernel::World::mono(&*house.world);
    let _handle = subscribe(&broker, options("t", "g"), &recorder).await;
    let seen = recorder.count(1).await;
    assert!(seen[0].at.since(start) <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn what_was_being_handled_is_delivered_again_uncounted() {
    let house = House::new();
    let broker = house.broker();
    house.publish(&broker, "t", &["a"]).await;
    for _ in 0..5 {
        let broker = house.broker();
        let stuck = Recorder::slow(&house, |_| std::future::pending());
        let _handle = subscribe(&broker, options("t", "g"), &stuck).await;
        assert_eq!(stuck.count(1).await[0].attempt, 1);
    }
    let recorder = Recorder::acks(&house);
    let handle = subscribe(&broker, options("t", "g"), &recorder).await;
    recorder.count(1).await;
    assert!(handle.stop(LONG).await.settled);
}

#[tokio::test(start_paused = true)]
async fn registration_outlives_everything() {
    let house = House::new();
    let broker = house.broker();
    let recorder = Recorder::acks(&house);
    drop(subscribe(&broker, options("t", "g"), &recorder).await);
    drop(broker);
    let broker = house.broker();
    house.publish(&broker, "t", &["a", "b"]).await;
    // Nobody serves the group, for longer than a topic without groups would keep anything.
    house.pass(house.settings.retention * 2).await;
    assert_eq!(house.lag(&broker, "t", "g").await, (2, 2));
    let _handle = subscribe(&broker, options("t", "g"), &recorder).await;
    recorder.count(2).await;
}
