//! How often is the backend asked when everybody wants the same entry, which has just expired?

use crate::{
    field::{Flood, Shots, Sleepy, nginx},
    process::Folder,
    report::{Figure, time},
    store,
    world::RealWorld,
};
use anyhow::Result;
use outrigger_kernel::{BoxFuture, World};
use outrigger_resilience::cache::{Loaded, ReadThrough, ReadThroughSettings};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

const READERS: u32 = 10_000;
const LOAD: Duration = Duration::from_millis(100);
const FRESH: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);

type Cache = ReadThrough<&'static str, u64, &'static str>;

/// All of them at once in this process: calls of the backend, and how long the last one waited.
async fn inside() -> (u64, Duration) {
    let world: Arc<dyn World> = RealWorld::new();
    let (cache, calls) = (Cache::new(ReadThroughSettings::default()), Arc::new(AtomicU64::new(0)));
    let read = {
        let calls = Arc::clone(&calls);
        move || {
            let (world, cache, calls) = (Arc::clone(&world), cache.clone(), Arc::clone(&calls));
            let sleeper = Arc::clone(&world);
            let load = move || -> BoxFuture<'static, Result<Loaded<u64>, &'static str>> {
                Box::pin(async move {
                    let value = calls.fetch_add(1, Relaxed);
                    sleeper.sleep(LOAD).await;
                    Ok(Loaded {
                        value,
                        bytes: 8,
                        fresh_for: FRESH,
                        stale_for: Duration::ZERO,
                        on_error_for: Duration::ZERO,
                    })
                })
            };
            async move { cache.get(&world, "key", load).await.is_ok() }
        }
    };
    assert!(read().await, "the first load");
    tokio::time::sleep(FRESH * 3 / 2).await;
    let before = calls.load(Relaxed);
    let (begun, mut readers) = (Instant::now(), JoinSet::new());
    (0..READERS).for_each(|_| drop(readers.spawn(read())));
    while let Some(read) = readers.join_next().await {
        assert!(read.unwrap_or(false), "a reader got nothing");
    }
    (calls.load(Relaxed) - before, begun.elapsed())
}

/// The same as requests to a proxy: calls of the backend, and the answers.
fn through(port: u16, path: &str, backend: &Sleepy) -> Result<(f64, Shots)> {
    let flood = || Flood::new(port, path, PATIENCE);
    flood().then(10.0, Duration::from_millis(100)).run_alone()?;
    thread::sleep(FRESH * 3 / 2);
    let before = backend.seen()?;
    let at_once = Duration::from_nanos(READERS.into());
    let shots = flood().then(1e9, at_once).run_alone()?;
    Ok((backend.seen()? - before, shots))
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    let home = Folder::new()?;
    let (calls, took) = store::runtime()?.block_on(async { tokio::spawn(inside()).await })?;
    let proxied = |name: &str, lock: &str| -> Result<(f64, Shots)> {
        let backend = Sleepy::start(&home, READERS, LOAD)?;
        let upstream = format!("    server 127.0.0.1:{};\n", backend.port());
        let location = format!("      proxy_cache kept;\n{lock}");
        let proxy = nginx(&home, name, &upstream, &location)?;
        through(proxy.port, "/work", &backend)
    };
    let locked = proxied("locked", "      proxy_cache_lock on;\n")?;
    let stale = "      proxy_cache_lock on;\n      proxy_cache_use_stale updating;\n";
    let stale = proxied("stale", stale)?;
    let tell = |(calls, shots): &(f64, Shots)| {
        let good = shots.good();
        format!("{calls} calls, {good} answered, p50 {}", time(shots.quantile(0.5)))
    };
    Ok(vec![
        Figure::new(
            "10,000 readers at once of an entry that has expired: calls of the backend",
            format!("{calls} in process, all answered within {}", time(took.as_secs_f64() * 1e9)),
        )
        .beside(format!(
            "nginx with proxy_cache_lock: {}; with use_stale updating as well, which answers with the old entry: {}",
            tell(&locked),
            tell(&stale)
        ))
        .goal("1", calls == 1),
    ])
}
