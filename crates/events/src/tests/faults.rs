//! A store that fails.

use super::{House, LONG, Recorder, message, numbers, options, subscribe};
use crate::{Broker, PublishError, SubscribeError, SubscribeOptions, Verdict};
use outrigger_kernel::BoxFuture;
use outrigger_keyspace::{
    CommitError, Committed, KeyRange, KeySpace, Level, ReadError, Snapshot, Space, Status,
    Transaction, Watch, memory::Memory,
};
use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

/// What a commit meets.
#[derive(Clone, Debug)]
enum Weather {
    Fair,
    /// Commits are refused.
    Refusing(CommitError),
    /// Commits happen, and then nobody knows.
    Doubtful,
    /// Nothing can be read.
    Blind,
}

/// The memory engine, in all weathers.
struct Sky {
    engine: Arc<Memory>,
    weather: Mutex<Weather>,
}

impl Sky {
    fn turn(&self, weather: Weather) {
        *self.weather.lock().unwrap() = weather;
    }

    fn weather(&self) -> Weather {
        self.weather.lock().unwrap().clone()
    }
}

impl KeySpace for Sky {
    fn snapshot(&self, level: Level) -> BoxFuture<'_, Result<Arc<dyn Snapshot>, ReadError>> {
        match self.weather() {
            Weather::Blind => Box::pin(async { Err(ReadError::Unavailable("blind".to_owned())) }),
            _ => self.engine.snapshot(level),
        }
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Committed, CommitError>> {
        match self.weather() {
            Weather::Refusing(error) => Box::pin(async { Err(error) }),
            Weather::Doubtful => Box::pin(async {
                drop(self.engine.commit(transaction).await);
                Err(CommitError::Unknown("lost".to_owned()))
            }),
            Weather::Fair | Weather::Blind => self.engine.commit(transaction),
        }
    }

    fn watch(&self, range: KeyRange) -> Watch {
        self.engine.watch(range)
    }

    fn status(&self) -> Status {
        self.engine.status()
    }

    fn checkpoint<'a>(&'a self, target: &'a Path) -> BoxFuture<'a, Result<u64, ReadError>> {
        self.engine.checkpoint(target)
    }
}

fn under(house: &House) -> (Arc<Sky>, Arc<Broker>) {
    let weather = Mutex::new(Weather::Fair);
    let sky = Arc::new(Sky { engine: Arc::clone(&house.engine), weather });
    let space = Space::new(Arc::clone(&sky) as _, Arc::clone(&house.world) as _);
    (sky, Broker::open(space, "b", house.settings.clone()))
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
