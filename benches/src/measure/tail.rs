//! Do small durable writes stay prompt while somebody writes in bulk?
//!
//! First the bulk writers alone, as fast as they can: that is the bandwidth. Then 16 small writers, with the bulk writers
//! held to half of it. What is asked is how far the slowest hundredth is from the median.

use crate::{
    load::Sample,
    process::Folder,
    report::{Figure, median, time},
    store::{Started, Store, put},
};
use anyhow::Result;
use bytes::Bytes;
use outrigger_kernel::World;
use outrigger_keyspace::KeySpace;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

const ROUNDS: usize = 5;
const ALONE: Duration = Duration::from_millis(1_000);
const TOGETHER: Duration = Duration::from_millis(3_000);
const SMALL_WRITERS: usize = 16;
const SMALL_BYTES: usize = 256;
const BULK_WRITERS: usize = 4;
const BULK_BYTES: usize = 128 * 1024;
/// Bulk goes round in 64 MiB.
const BULK_KEYS: u64 = 512;

struct Round {
    /// Bytes per second.
    bandwidth: f64,
    taken: f64,
    quiet: Sample,
    small: Sample,
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    let home = Folder::new()?;
    let store = Store::open(&home.path().join("store"))?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let bandwidth = finish(&store, bulk(&store, None, stop_after(ALONE)))?;
        let quiet = small(&store, ALONE)?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let beside = bulk(&store, Some(bandwidth / 2.0), move || told.load(Ordering::Relaxed));
        let together = small(&store, TOGETHER)?;
        stop.store(true, Ordering::Relaxed);
        rounds.push(Round { bandwidth, taken: finish(&store, beside)?, quiet, small: together });
    }
    store.close()?;
    Ok(vec![told(&rounds)])
}

fn stop_after(time: Duration) -> impl Fn() -> bool + Clone + Send + 'static {
    let begun = Instant::now();
    move || begun.elapsed() >= time
}

/// Bulk writers that stop when told; each answers its bytes per second. With `rate`, all together keep to it.
fn bulk(
    store: &Store,
    rate: Option<f64>,
    stop: impl Fn() -> bool + Clone + Send + 'static,
) -> Vec<Started<f64>> {
    let interval = rate.map(|rate| (BULK_BYTES * BULK_WRITERS) as f64 / rate);
    let mut tasks = Vec::new();
    for writer in 0..BULK_WRITERS as u64 {
        let (engine, stop) = (Arc::clone(&store.engine), stop.clone());
        tasks.push(store.start(async move {
            let value = Bytes::from(vec![7; BULK_BYTES]);
            let (begun, mut count) = (Instant::now(), 0_u64);
            while !stop() {
                if let Some(interval) = interval {
                    let due = begun + Duration::from_secs_f64(interval * count as f64);
                    tokio::time::sleep_until(due.into()).await;
                }
                let number = (count * BULK_WRITERS as u64 + writer) % BULK_KEYS;
                let key = Bytes::from(format!("bulk/{number:04}"));
                engine.commit(put(key, value.clone())).await?;
                count += 1;
            }
            Ok((count * BULK_BYTES as u64) as f64 / begun.elapsed().as_secs_f64())
        }));
    }
    tasks
}

fn finish(store: &Store, tasks: Vec<Started<f64>>) -> Result<f64> {
    let mut sum = 0.0;
    for task in tasks {
        sum += store.finish(task)?;
    }
    Ok(sum)
}

fn small(store: &Store, time: Duration) -> Result<Sample> {
    let (begun, world) = (Instant::now(), Arc::clone(&store.world));
    let value = Bytes::from(vec![7; SMALL_BYTES]);
    store.writers(SMALL_WRITERS, move || {
        let key = Bytes::from(format!("small/{:016x}", world.random()));
        (begun.elapsed() < time).then(|| put(key, value.clone()))
    })
}

fn told(rounds: &[Round]) -> Figure {
    let pick = |of: &dyn Fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    let spread = |sample: &Sample| sample.quantile(0.99) / sample.quantile(0.5);
    let ratio = pick(&|round| spread(&round.small));
    let ours = format!(
        "{ratio:.1}: p50 {}, p99 {}",
        time(pick(&|round| round.small.quantile(0.5))),
        time(pick(&|round| round.small.quantile(0.99)))
    );
    let beside = format!(
        "without bulk {:.1}: p50 {}, p99 {}; bulk alone {:.0} MB/s, beside them {:.0} MB/s ({:.0} %)",
        pick(&|round| spread(&round.quiet)),
        time(pick(&|round| round.quiet.quantile(0.5))),
        time(pick(&|round| round.quiet.quantile(0.99))),
        pick(&|round| round.bandwidth) / 1e6,
        pick(&|round| round.taken) / 1e6,
        pick(&|round| round.taken / round.bandwidth) * 100.0
    );
    Figure::new(
        "p99/p50 of durable writes of 256 bytes, 16 writers, beside bulk at half the bandwidth",
        ours,
    )
    .beside(beside)
    .goal("at most 4", ratio <= 4.0)
}
