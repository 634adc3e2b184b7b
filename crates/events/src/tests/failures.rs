//! Retries, panics and silence.

use super::{House, LONG, Recorder, options, subscribe};
use crate::{Consumer, Delivery, SubscribeOptions, Verdict};
use outrigger_kernel::BoxFuture;
use outrigger_resilience::{Backoff, Retry};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

#[tokio::test(start_paused = true)]
async fn a_failed_message_comes_again_after_its_pause_and_holds_up_nobody() {
    let house = House::new();
    let broker = house.broker();
    house.publish(&broker, "t", &["bad", "1", "2"]).await;
    let recorder = Recorder::new(&house, |seen| {
        if seen.text == "bad" && seen.attempt < 3 {
            Verdict::retry("not yet")
        } else {
            Verdict::Ack
        }
    });
    let handle = subscribe(&broker, options("t", "g"), &recorder).await;
    let seen = recorder.count(5).await;
    let attempts = recorder.attempts();
    let attempts: Vec<(&str, u32)> = attempts.iter().map(|(text, n)| (&**text, *n)).collect();
    assert_eq!(attempts, [("bad", 1), ("1", 1), ("2", 1), ("bad", 2), ("bad", 3)]);
    for pair in [(0, 3), (3, 4)] {
        assert_eq!(seen[pair.1].at.since(seen[pair.0].at), Duration::from_secs(1));
    }
    assert_eq!(seen[0].delivery, seen[4].delivery, "one message, one id");
    house.pass(LONG).await;
    assert_eq!(recorder.texts().len(), 5);
    assert!(handle.stop(LONG).await.settled);
    assert_eq!(house.lag(&broker, "t", "g").await.0, 0);
}

#[tokio::test(start_paused = true)]
async fn pauses_follow_the_backoff() {
    let house = House::new();
    let broker = house.broker();
    house.publish(&broker, "t", &["bad"]).await;
    let recorder = Recorder::new(&house, |_| Verdict::retry("never"));
    let backoff = Backoff::Exponential {
        initial: Duration::from_secs(2),
        max: Duration::from_secs(6),
        factor: 2.0,
        randomization: 0.0,
    };
    let retry = Retry { backoff, max_retries: Some(4), ..Retry::default() };
    let asked = SubscribeOptions { retry, ..options("t", "g") };
    let _handle = subscribe(&broker, asked, &recorder).await;
    house.pass(LONG).await;
    let seen = recorder.count(5).await;
    let pauses: Vec<u64> =
        seen.windows(2).map(|pair| pair[1].at.since(pair[0].at).as_secs()).collect();
    assert_eq!(pauses, [2, 4, 6, 6]);
    assert_eq!(seen.len(), 5, "without a dead-letter topic it is dropped");
    assert_eq!(house.lag(&broker, "t", "g").await.0, 0);
    assert_eq!(broker.stats().await.unwrap()[0].groups[0].dispatch.dropped, 1);
}

#[tokio::test(start_paused = true)]
async fn endless_failures_do_not_starve_what_is_new() {
    let house = House::new();
    let broker = house.broker();
    let texts: Vec<String> = (0..50).map(|n| format!("bad{n}")).collect();
    house.publish(&broker, "t", &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let recorder = Recorder::new(&house, |seen| {
        if seen.text.starts_with("bad") { Verdict::retry("never") } else { Verdict::Ack }
    });
    let backoff = Backoff::Constant { delay: Duration::ZERO };
    let retry = Retry { backoff, max_retries: None, ..Retry::default() };
    let handle =
        subscribe(&broker, SubscribeOptions { retry, ..options("t", "g") }, &recorder).await;
    recorder.count(500).await;
    let before = recorder.texts().len();
    house.publish(&broker, "t", &["1", "2", "3"]).await;
    recorder.until(|seen| seen.iter().any(|seen| seen.text == "3")).await;
    assert!(recorder.texts().len() < before + 100);
    handle.stop(LONG).await;
}

/// Panics, stays silent or says too little, by turns.
struct Unruly {
    turn: AtomicUsize,
    good: Arc<Recorder>,
}

impl Consumer for Unruly {
    fn deliver(&self, batch: Vec<Delivery>) -> BoxFuture<'_, Vec<Verdict>> {
        match self.turn.fetch_add(1, Ordering::SeqCst) {
            0 => panic!("before there is a future"),
            1 => Box::pin(async { panic!("{}", "inside the future".to_owned()) }),
            2 => Box::pin(std::future::pending()),
            3 => Box::pin(async { Vec::new() }),
            4 => Box::pin(async { vec![Verdict::retry("as asked"), Verdict::Ack, Verdict::Ack] }),
            _ => self.good.deliver(batch),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn panics_and_silence_are_failed_attempts() {
    let house = House::new();
    let broker = house.broker();
    house.publish(&broker, "t", &["a"]).await;
    let good = Recorder::acks(&house);
    let unruly = Unruly { turn: AtomicUsize::new(0), good: Arc::clone(&good) };
    let mut asked = options("t", "g");
    asked.retry.max_retries = None;
    asked.delivery_timeout = Some(Duration::from_secs(30));
    let handle = broker.subscribe(asked, Arc::new(unruly)).await.unwrap();
    let seen = good.count(1).await;
    assert_eq!(seen[0].attempt, 6);
    assert_eq!(seen[0].at.since(outrigger_kernel::Mono(0)), Duration::from_secs(5 + 30));
    assert!(handle.stop(LONG).await.settled);
    assert_eq!(house.lag(&broker, "t", "g").await.0, 0);
}

#[tokio::test(start_paused = true)]
async fn too_many_failed_messages_hold_back_new_ones() {
    let mut house = House::new();
    house.settings.parked_max = 10;
    house.settings.window_messages = 4;
    let broker = house.broker();
    let texts = super::numbers(100);
    house.publish(&broker, "t", &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let well = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let inner = Arc::clone(&well);
    let recorder = Recorder::new(&house, move |_| {
        if inner.load(Ordering::SeqCst) { Verdict::Ack } else { Verdict::retry("not well") }
    });
    let mut asked = options("t", "g");
    asked.retry.max_retries = None;
    asked.retry.backoff = Backoff::Constant { delay: Duration::from_secs(60) };
    let handle = subscribe(&broker, asked, &recorder).await;
    house.pass(Duration::from_secs(59)).await;
    assert!(recorder.texts().len() <= 14, "{:?}", recorder.texts());
    well.store(true, Ordering::SeqCst);
    recorder.until(|seen| seen.iter().any(|seen| seen.text == "99")).await;
    assert!(handle.stop(LONG).await.settled);
    assert_eq!(house.lag(&broker, "t", "g").await.0, 0);
}
