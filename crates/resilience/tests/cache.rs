//! Caching as a whole, in simulated time: how often the backend is asked, and who waits for it.

use outrigger_kernel::{BoxFuture, World};
use outrigger_resilience::cache::{
    Early, Freshness, Loaded, Missed, ReadThrough, ReadThroughSettings, Served,
};
use outrigger_sim::SimWorld;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

type Cache = ReadThrough<&'static str, u32, &'static str>;
type Answer = Result<Served<u32>, Missed<&'static str>>;

/// A backend that takes its time, counts its calls, and fails or hangs when told to.
#[derive(Default)]
struct Backend {
    calls: AtomicU32,
    fails: AtomicU32,
    hangs: AtomicU32,
}

const LOAD: Duration = Duration::from_millis(100);

impl Backend {
    fn load(
        self: &Arc<Self>,
        world: &Arc<dyn World>,
    ) -> impl FnOnce() -> BoxFuture<'static, Result<Loaded<u32>, &'static str>> + Send + use<> {
        let (backend, world) = (Arc::clone(self), Arc::clone(world));
        move || {
            Box::pin(async move {
                let value = backend.calls.fetch_add(1, SeqCst) + 1;
                let hangs = Duration::from_secs(backend.hangs.load(SeqCst).into());
                world.sleep(LOAD + hangs).await;
                if backend.fails.load(SeqCst) > 0 {
                    return Err("down");
                }
                Ok(Loaded {
                    value,
                    bytes: 8,
                    fresh_for: Duration::from_secs(10),
                    stale_for: Duration::from_secs(5),
                    on_error_for: Duration::from_secs(60),
                })
            })
        }
    }
}

fn settings() -> ReadThroughSettings {
    ReadThroughSettings { early: Early::Off, jitter: 0.0, ..ReadThroughSettings::default() }
}

fn world(seed: u64) -> Arc<dyn World> {
    SimWorld::new(seed)
}

/// As many readers at once, each a task of its own; their answers and how long each waited.
async fn readers(
    world: &Arc<dyn World>,
    cache: &Cache,
    backend: &Arc<Backend>,
    count: usize,
) -> Vec<(Answer, Duration)> {
    let answers = (0..count).map(|_| {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (own, cache, load) = (Arc::clone(world), cache.clone(), backend.load(world));
        let task = async move {
            let begun = own.mono();
            let answer = cache.get(&own, "key", load).await;
            drop(sender.send((answer, own.mono().since(begun))));
        };
        drop(world.spawn("reader", Box::pin(task)));
        receiver
    });
    let mut done = Vec::new();
    for answer in answers.collect::<Vec<_>>() {
        done.push(answer.await.expect("every reader ends"));
    }
    done
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_readers_of_an_expired_entry_are_one_call() {
    let (world, backend, cache) = (world(1), Arc::<Backend>::default(), Cache::new(settings()));
    let cold = readers(&world, &cache, &backend, 10_000).await;
    assert_eq!(backend.calls.load(SeqCst), 1, "cold");
    assert!(
        cold.iter().all(|(answer, waited)| answer.as_ref().unwrap().value == 1 && *waited == LOAD)
    );

    // Expired, and past the grace: all wait for one load.
    world.sleep(Duration::from_secs(20)).await;
    let expired = readers(&world, &cache, &backend, 10_000).await;
    assert_eq!(backend.calls.load(SeqCst), 2, "expired");
    assert!(expired.iter().all(|(answer, _)| answer.as_ref().unwrap().value == 2));

    // Expired, within the grace: one load, and nobody waits for it.
    world.sleep(Duration::from_secs(12)).await;
    let graced = readers(&world, &cache, &backend, 10_000).await;
    assert!(
        graced
            .iter()
            .all(|(answer, waited)| waited.is_zero() && answer.as_ref().unwrap().value == 2)
    );
    world.sleep(LOAD * 2).await;
    assert_eq!(backend.calls.load(SeqCst), 3, "within the grace");
    let after = readers(&world, &cache, &backend, 10_000).await;
    assert!(
        after
            .iter()
            .all(|(answer, _)| { *answer == Ok(Served { value: 3, freshness: Freshness::Fresh }) })
    );
}

#[tokio::test(start_paused = true)]
async fn readers_arriving_all_the_time_never_wait_and_load_once_per_expiry() {
    let (world, backend) = (world(2), Arc::<Backend>::default());
    let cache = Cache::new(ReadThroughSettings::default());
    assert_eq!(readers(&world, &cache, &backend, 1).await.len(), 1);
    let (mut waited, mut stale) = (0, 0);
    // A reader every 5 ms for 100 s: some ten lifetimes.
    for _ in 0..20_000 {
        let before = world.mono();
        let answer = cache.get(&world, "key", backend.load(&world)).await;
        stale += u32::from(answer.unwrap().freshness != Freshness::Fresh);
        waited += u32::from(world.mono() > before);
        world.sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((waited, stale), (0, 0), "refreshed before it was over, every time");
    let calls = backend.calls.load(SeqCst);
    assert!((10..=13).contains(&calls), "{calls} loads");
}

#[tokio::test(start_paused = true)]
async fn when_the_backend_is_down_the_last_good_answer_serves() {
    let (world, backend, cache) = (world(3), Arc::<Backend>::default(), Cache::new(settings()));
    readers(&world, &cache, &backend, 1).await;
    backend.fails.store(1, SeqCst);
    world.sleep(Duration::from_secs(30)).await;
    let answers = readers(&world, &cache, &backend, 1_000).await;
    for (answer, _) in answers {
        let served = answer.unwrap();
        assert!(
            matches!(served.freshness, Freshness::OnError(late) if late.as_secs() == 20),
            "{served:?}"
        );
    }
    assert_eq!(backend.calls.load(SeqCst), 2);
    // For a moment nobody asks again, then one does.
    readers(&world, &cache, &backend, 1_000).await;
    assert_eq!(backend.calls.load(SeqCst), 2);
    world.sleep(Duration::from_millis(101)).await;
    readers(&world, &cache, &backend, 1_000).await;
    assert_eq!(backend.calls.load(SeqCst), 3);
    // In the end the truth.
    world.sleep(Duration::from_secs(60)).await;
    let answers = readers(&world, &cache, &backend, 100).await;
    assert!(answers.iter().all(|(answer, _)| *answer == Err(Missed::Failed("down"))));
    backend.fails.store(0, SeqCst);
    world.sleep(Duration::from_millis(101)).await;
    assert!(readers(&world, &cache, &backend, 1).await[0].0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_load_that_hangs_ends_in_time() {
    let settings = ReadThroughSettings { load_within: Duration::from_secs(2), ..settings() };
    let (world, backend, cache) = (world(4), Arc::<Backend>::default(), Cache::new(settings));
    backend.hangs.store(3_600, SeqCst);
    let answers = readers(&world, &cache, &backend, 100).await;
    assert!(
        answers.iter().all(|(answer, waited)| {
            *answer == Err(Missed::Unfinished) && waited.as_secs() == 2
        })
    );
    assert_eq!(backend.calls.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_removal_voids_the_load_under_way() {
    let (world, backend, cache) = (world(5), Arc::<Backend>::default(), Cache::new(settings()));
    let (own, early, load) = (Arc::clone(&world), cache.clone(), backend.load(&world));
    let (sender, reader) = tokio::sync::oneshot::channel();
    let task = async move { drop(sender.send(early.get(&own, "key", load).await)) };
    drop(world.spawn("reader", Box::pin(task)));
    world.sleep(LOAD / 2).await;
    // The write that the load under way has not seen.
    cache.remove(&"key");
    assert_eq!(reader.await.unwrap().unwrap().value, 1);
    assert!(cache.is_empty(), "what was loaded before the write is not kept after it");
    assert_eq!(readers(&world, &cache, &backend, 10).await[0].0.as_ref().unwrap().value, 2);
}
