//! Brokers on the memory engine, under a clock that the test owns.
//!
//! A crash is dropping the broker at whatever point it has reached; what survives is the engine.

mod batches;
mod bounds;
mod dead_letters;
mod delivery;
mod ending;
mod failures;
mod faults;
mod groups;
mod random;
mod restart;
mod sky;
mod sweeping;

use crate::{
    Broker, BrokerSettings, Consumer, Delivery, NewMessage, SubscribeOptions, SubscriptionHandle,
    Verdict,
};
use outrigger_kernel::{BoxFuture, Deadline, Mono, World};
use outrigger_keyspace::{Space, Stamp, memory::Memory};
use outrigger_resilience::{Backoff, Retry};
use outrigger_sim::SimWorld;
use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;

/// Longer than anything should take, in simulated time.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// A world with one engine.
struct House {
    world: Arc<SimWorld>,
    engine: Arc<Memory>,
    settings: BrokerSettings,
}

impl House {
    fn new() -> Self {
        Self::seeded(1)
    }

    fn seeded(seed: u64) -> Self {
        let world = SimWorld::new(seed);
        let engine = Memory::new(Arc::clone(&world) as Arc<dyn World>);
        Self { world, engine, settings: BrokerSettings::default() }
    }

    fn space(&self) -> Space {
        Space::new(Arc::clone(&self.engine) as _, Arc::clone(&self.world) as _)
    }

    fn broker(&self) -> Arc<Broker> {
        Broker::open(self.space(), "b", self.settings.clone())
    }

    fn soon(&self) -> Deadline {
        Deadline::after(&*self.world, LONG)
    }

    async fn publish(&self, broker: &Broker, topic: &str, texts: &[&str]) -> Vec<Stamp> {
        let messages = texts.iter().map(|text| message(text)).collect();
        broker.publish(topic, messages, self.soon()).await.unwrap()
    }

    /// Lets `by` pass.
    async fn pass(&self, by: Duration) {
        self.world.sleep(by).await;
    }

    /// What `group` has not handled of `topic`, and how many messages of the topic are stored.
    async fn lag(&self, broker: &Broker, topic: &str, group: &str) -> (u64, u64) {
        let stats = broker.stats().await.unwrap();
        let topic = stats.iter().find(|stats| stats.topic == topic).unwrap();
        let group = topic.groups.iter().find(|stats| stats.group == group).unwrap();
        (group.lag, topic.stored)
    }
}

fn message(text: &str) -> NewMessage {
    NewMessage {
        data: text.to_owned().into(),
        content_type: "text/plain".to_owned(),
        ..NewMessage::default()
    }
}

/// `count` texts: `0`, `1`, ...
fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

/// What a consumer saw of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    text: String,
    attempt: u32,
    at: Mono,
    delivery: String,
    metadata: Vec<(String, String)>,
}

type Judge = dyn Fn(&Seen) -> BoxFuture<'static, Verdict> + Send + Sync;

/// A consumer that writes down what it gets and judges by a closure.
struct Recorder {
    world: Arc<SimWorld>,
    seen: watch::Sender<Vec<Seen>>,
    batches: Mutex<Vec<usize>>,
    /// What it acknowledged, once the whole batch was judged.
    acked: Arc<Mutex<Vec<String>>>,
    judge: Box<Judge>,
}

impl Recorder {
    /// Judges at once.
    fn new(house: &House, judge: impl Fn(&Seen) -> Verdict + Send + Sync + 'static) -> Arc<Self> {
        Self::slow(house, move |seen| {
            let verdict = judge(seen);
            async move { verdict }
        })
    }

    /// Takes its time.
    fn slow<F: Future<Output = Verdict> + Send + 'static>(
        house: &House,
        judge: impl Fn(&Seen) -> F + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(&house.world),
            seen: watch::channel(Vec::new()).0,
            batches: Mutex::default(),
            acked: Arc::default(),
            judge: Box::new(move |seen| Box::pin(judge(seen))),
        })
    }

    fn acks(house: &House) -> Arc<Self> {
        Self::new(house, |_| Verdict::Ack)
    }

    /// Waits until `enough` holds of what was seen, and answers it.
    async fn until(&self, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let mut seen = self.seen.subscribe();
        let enough = seen.wait_for(|seen| enough(seen));
        let deadline = Deadline::after(&*self.world, LONG);
        let answer = outrigger_kernel::within(&*self.world, deadline, enough).await;
        match answer {
            Ok(seen) => seen.unwrap().clone(),
            Err(_) => {
                let texts = self.texts();
                let last = &texts[texts.len().saturating_sub(10)..];
                panic!("not before the end of the day: {} deliveries, last {last:?}", texts.len())
            }
        }
    }

    async fn count(&self, count: usize) -> Vec<Seen> {
        self.until(|seen| seen.len() >= count).await
    }

    fn texts(&self) -> Vec<String> {
        self.seen.borrow().iter().map(|seen| seen.text.clone()).collect()
    }

    fn attempts(&self) -> Vec<(String, u32)> {
        self.seen.borrow().iter().map(|seen| (seen.text.clone(), seen.attempt)).collect()
    }

    fn batches(&self) -> Vec<usize> {
        self.batches.lock().unwrap().clone()
    }
}

impl Consumer for Recorder {
    fn deliver(&self, batch: Vec<Delivery>) -> BoxFuture<'_, Vec<Verdict>> {
        self.batches.lock().unwrap().push(batch.len());
        let at = self.world.mono();
        let seen = batch.into_iter().map(|delivery| Seen {
            text: String::from_utf8(delivery.data.to_vec()).unwrap(),
            attempt: delivery.attempt,
            at,
            delivery: delivery.id,
            metadata: delivery.metadata.into_iter().collect(),
        });
        let seen: Vec<Seen> = seen.collect();
        let verdicts: Vec<_> = seen.iter().map(|seen| (self.judge)(seen)).collect();
        let texts: Vec<String> = seen.iter().map(|seen| seen.text.clone()).collect();
        self.seen.send_modify(|all| all.extend(seen));
        let acked = Arc::clone(&self.acked);
        Box::pin(async move {
            let verdicts = futures_util::future::join_all(verdicts).await;
            let judged = texts.into_iter().zip(&verdicts);
            let now_acked = judged.filter(|(_, verdict)| **verdict == Verdict::Ack);
            acked.lock().unwrap().extend(now_acked.map(|(text, _)| text));
            verdicts
        })
    }
}

/// Options with a retry after `pause`, at most `max_retries` times.
fn options(topic: &str, group: &str) -> SubscribeOptions {
    let backoff = Backoff::Constant { delay: Duration::from_secs(1) };
    let retry = Retry { backoff, max_retries: Some(3), ..Retry::default() };
    SubscribeOptions { retry, ..SubscribeOptions::new(topic, group) }
}

async fn subscribe(
    broker: &Broker,
    options: SubscribeOptions,
    recorder: &Arc<Recorder>,
) -> SubscriptionHandle {
    broker.subscribe(options, Arc::clone(recorder) as _).await.unwrap()
}
