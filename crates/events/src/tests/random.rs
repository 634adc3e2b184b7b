//! The promise itself, under random consumers and crashes.
//!
//! Every message whose publish was answered is delivered at least once to every group; once its acknowledgement is
//! durable it is never delivered to that group again; and in the end every message was acknowledged, or lies in the
//! dead-letter topic, and nothing is left.

use super::{
    House, LONG, Recorder, message, options,
    sky::{Sky, Weather},
    subscribe,
};
use crate::{Batch, Broker, SubscribeOptions, Verdict};
use outrigger_resilience::{Backoff, Retry};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// A bulk is published.
    Publish(usize),
    /// A consumer joins one of two groups.
    Join { group: usize, max_in_flight: u32, batch: bool },
    /// The oldest consumer leaves, with so many seconds of grace.
    Leave(u64),
    /// Time passes.
    Pass(u64),
    /// The executor runs for so many rounds, without time passing.
    Run(usize),
    /// Everything in memory is lost.
    Crash,
    /// The store becomes full, or has room again.
    Full(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..40_usize).prop_map(Step::Publish),
        4 => (0..2_usize, 1..8_u32, any::<bool>())
            .prop_map(|(group, max_in_flight, batch)| Step::Join { group, max_in_flight, batch }),
        1 => (0..5_u64).prop_map(Step::Leave),
        3 => (1..3_000_u64).prop_map(Step::Pass),
        3 => (0..60_usize).prop_map(Step::Run),
        2 => Just(Step::Crash),
        1 => any::<bool>().prop_map(Step::Full),
    ];
    proptest::collection::vec(step, 1..40)
}

const GROUPS: [&str; 2] = ["g0", "g1"];

/// What all consumers of all lives of the broker saw and said.
#[derive(Default)]
struct Book {
    /// By group and text: how often delivered.
    delivered: BTreeMap<(usize, String), usize>,
    /// By group: acknowledged, and known to be committed.
    final_: BTreeSet<(usize, String)>,
    wrong: Vec<String>,
}

/// A consumer whose verdicts come out of the message's number, the attempt and a seed: some messages are never
/// accepted, some need several attempts, some take long, some make it panic.
fn fickle(house: &House, book: &Arc<Mutex<Book>>, group: usize, seed: u64) -> Arc<Recorder> {
    let (book, world) = (Arc::clone(book), Arc::clone(&house.world));
    Recorder::slow(house, move |seen| {
        let key = (group, seen.text.clone());
        {
            let mut book = book.lock().unwrap();
            *book.delivered.entry(key.clone()).or_default() += 1;
            if book.final_.contains(&key) {
                book.wrong.push(format!("{key:?} was delivered after it was settled"));
            }
        }
        let number: u64 = seen.text.parse().unwrap();
        let dice = number.wrapping_mul(31).wrapping_add(u64::from(seen.attempt) * 7 + seed) % 20;
        let world = Arc::clone(&world);
        async move {
            if number % 17 == 3 {
                return Verdict::retry("never");
            }
            match dice {
                0..3 => Verdict::retry("this time not"),
                3 => Verdict::drop("unwanted"),
                4..8 => {
                    outrigger_kernel::World::sleep(&*world, Duration::from_millis(dice * 100))
                        .await;
                    Verdict::Ack
                }
                8 => std::future::pending().await,
                _ => Verdict::Ack,
            }
        }
    })
}

fn asked(group: usize, max_in_flight: u32, batch: bool) -> SubscribeOptions {
    let backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(2));
    SubscribeOptions {
        max_in_flight,
        batch: batch.then_some(Batch { max_messages: 5, max_wait: Duration::from_millis(20) }),
        retry: Retry { backoff, max_retries: Some(6), ..Retry::default() },
        dead_letter_topic: Some(format!("dead-{group}")),
        delivery_timeout: Some(Duration::from_secs(3)),
        ..SubscribeOptions::new("t", GROUPS[group])
    }
}

async fn play(steps: Vec<Step>, seed: u64) {
    let mut house = House::seeded(seed);
    house.settings.window_messages = 4;
    let book = Arc::new(Mutex::new(Book::default()));
    let mut published = 0;
    let sky = Sky::over(&house);
    let open = || Broker::open(sky.space(&house), "b", house.settings.clone());
    let mut broker = open();
    let mut handles = std::collections::VecDeque::new();
    for group in 0..2 {
        // Registered, so that everything published from now on is theirs.
        drop(subscribe(&broker, asked(group, 1, false), &Recorder::acks(&house)).await);
    }
    for (index, step) in steps.into_iter().enumerate() {
        match step {
            Step::Publish(count) => {
                let texts = published..published + count;
                let messages = texts.map(|n| message(&n.to_string())).collect();
                if broker.publish("t", messages, house.soon()).await.is_ok() {
                    published += count;
                }
            }
            Step::Full(full) => sky.turn(if full { Weather::Cramped } else { Weather::Fair }),
            Step::Join { group, max_in_flight, batch } => {
                let consumer = fickle(&house, &book, group, seed + index as u64);
                let options = asked(group, max_in_flight, batch);
                let handle = subscribe(&broker, options, &consumer).await;
                handles.push_back((handle, group, consumer));
            }
            Step::Leave(grace) => {
                if let Some((handle, group, consumer)) = handles.pop_front() {
                    assert!(handle.stop(Duration::from_secs(grace)).await.settled);
                    // Durable, so from here on nobody of the group may see these again.
                    let acked = consumer.acked.lock().unwrap().clone();
                    book.lock().unwrap().final_.extend(acked.into_iter().map(|text| (group, text)));
                }
            }
            Step::Pass(ms) => house.pass(Duration::from_millis(ms)).await,
            Step::Run(rounds) => {
                for _ in 0..rounds {
                    tokio::task::yield_now().await;
                }
            }
            Step::Crash => {
                handles.clear();
                drop(broker);
                broker = open();
            }
        }
    }
    // In the end there is room, and everybody is patient and willing.
    sky.turn(Weather::Fair);
    handles.clear();
    for group in 0..2 {
        let consumer = fickle(&house, &book, group, seed);
        let handle = subscribe(&broker, asked(group, 50, false), &consumer).await;
        handles.push_back((handle, group, consumer));
    }
    house.pass(Duration::from_secs(600)).await;
    for (handle, _, _) in handles {
        assert!(handle.stop(LONG).await.settled);
    }
    settled(&house, &broker, &book, published).await;
}

/// Checks the end of a play.
async fn settled(house: &House, broker: &Broker, book: &Mutex<Book>, published: usize) {
    for (group, name) in GROUPS.iter().enumerate() {
        if published > 0 {
            assert_eq!(house.lag(broker, "t", name).await.0, 0, "{name}");
        }
        let dead = Recorder::acks(house);
        let handle = subscribe(broker, options(&format!("dead-{group}"), "d"), &dead).await;
        house.pass(Duration::from_secs(60)).await;
        handle.stop(LONG).await;
        let dead: Vec<String> = dead.texts();
        let unique: BTreeSet<&String> = dead.iter().collect();
        assert_eq!(unique.len(), dead.len(), "the memory engine never leaves a commit in doubt");
        for number in 0..published {
            let key = (group, number.to_string());
            let book = book.lock().unwrap();
            assert!(book.delivered.contains_key(&key), "{key:?} was never delivered");
            if number % 17 == 3 {
                assert!(unique.contains(&key.1), "{key:?} is not among the dead letters");
            }
        }
    }
    let before = book.lock().unwrap().delivered.clone();
    // Everything is settled: whoever comes now gets nothing.
    for (group, name) in GROUPS.iter().enumerate() {
        book.lock().unwrap().final_.extend((0..published).map(|n| (group, n.to_string())));
        let consumer = fickle(house, &Arc::new(Mutex::new(Book::default())), group, 0);
        let _handle = subscribe(broker, asked(group, 5, false), &consumer).await;
        house.pass(Duration::from_secs(60)).await;
        assert_eq!(consumer.texts(), Vec::<String>::new(), "{name}");
    }
    let book = book.lock().unwrap();
    assert_eq!(before, book.delivered);
    assert!(book.wrong.is_empty(), "{:?}", book.wrong);
}

proptest! {
    #[test]
    fn at_least_once_and_never_after_the_last_acknowledgement(steps in steps(), seed in 0..1_000_u64) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(steps, seed));
    }
}
