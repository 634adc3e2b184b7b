//! The process that holds a large store.

use super::{answer_lines, number, say};
use crate::{
    load::Sample,
    store::{Started, Store, nanoseconds, put},
};
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use outrigger_engine_local::Local;
use outrigger_kernel::World;
use outrigger_keyspace::{KeySpace, Level, Transaction, Write};
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const VALUE_BYTES: usize = 256;
const KEY_BYTES: usize = 20;
/// What a key and its value are worth keeping for.
pub(crate) const LIVE_BYTES: usize = KEY_BYTES + VALUE_BYTES;
const PER_COMMIT: u64 = 2_000;
const LOADERS: usize = 2;
const PACED_WRITERS: u64 = 4;

/// `load FROM TO`, `delete FROM TO`, `get SECONDS KEYS WRITES`, `write WRITERS KEYS`, `settle SECONDS`.
pub(super) fn serve(folder: &Path) -> Result<()> {
    let store = Store::open(folder)?;
    let engine = Arc::clone(&store.engine);
    let found = store.run(async move { found(&engine, 0).await })?;
    say(&json!({ "found": found }))?;
    let mut endless = Vec::new();
    answer_lines(|words| match words[0] {
        "load" => change(&store, number(words, 1)?, number(words, 2)?, true),
        "delete" => change(&store, number(words, 1)?, number(words, 2)?, false),
        "get" => gets(&store, number(words, 1)?, number(words, 2)?, number(words, 3)?),
        "write" => {
            for _ in 0..number(words, 1)? {
                endless.push(writer(&store, number(words, 2)?));
            }
            Ok(json!({}))
        }
        "settle" => settle(&store, number(words, 1)?),
        other => bail!("there is no '{other}'"),
    })
}

/// The key of a number: all different, in no order.
fn key(number: u64) -> Bytes {
    // The last step of SplitMix64 (Steele, Lea, Flood 2014), which maps no two numbers to one.
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Bytes::from(format!("key/{:016x}", mixed ^ (mixed >> 31)))
}

async fn found(engine: &Local, number: u64) -> Result<bool> {
    let snapshot = engine.snapshot(Level::Linearizable).await?;
    Ok(snapshot.get(&key(number)).await?.is_some())
}

/// Puts or deletes the keys of some numbers, 2,000 per commit and two commits at once.
fn change(store: &Store, from: u64, to: u64, puts: bool) -> Result<Value> {
    let next = Arc::new(AtomicU64::new(from));
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..LOADERS {
        let (engine, next) = (Arc::clone(&store.engine), Arc::clone(&next));
        tasks.push(store.start(async move {
            let value = Bytes::from(vec![7; VALUE_BYTES]);
            loop {
                let first = next.fetch_add(PER_COMMIT, Ordering::Relaxed);
                if first >= to {
                    return Ok(());
                }
                let write = |number| match puts {
                    true => Write::Put { key: key(number), value: value.clone(), expires_at: None },
                    false => Write::Delete { key: key(number) },
                };
                let writes = (first..to.min(first + PER_COMMIT)).map(write).collect();
                engine.commit(Transaction { writes, ..Transaction::default() }).await?;
            }
        }));
    }
    for task in tasks {
        store.finish(task)?;
    }
    Ok(json!({ "seconds": begun.elapsed().as_secs_f64() }))
}

/// One reader that gets random keys, beside `writes` durable commits per second.
fn gets(store: &Store, seconds: u64, keys: u64, writes: u64) -> Result<Value> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for _ in 0..PACED_WRITERS {
        let interval = Duration::from_secs_f64(PACED_WRITERS as f64 / writes as f64);
        let (engine, world) = (Arc::clone(&store.engine), Arc::clone(&store.world));
        let stop = Arc::clone(&stop);
        writers.push(store.start(async move {
            let (begun, mut count) = (Instant::now(), 0_u32);
            while !stop.load(Ordering::Relaxed) {
                tokio::time::sleep_until((begun + interval * count).into()).await;
                let value = Bytes::from(vec![8; VALUE_BYTES]);
                engine.commit(put(key(world.random() % keys), value)).await?;
                count += 1;
            }
            Ok(count)
        }));
    }
    let (engine, world) = (Arc::clone(&store.engine), Arc::clone(&store.world));
    let time = Duration::from_secs(seconds);
    let read = store.run(async move {
        let (begun, mut latencies) = (Instant::now(), Vec::with_capacity(1 << 19));
        while begun.elapsed() < time {
            let number = world.random() % keys;
            let asked = Instant::now();
            ensure!(found(&engine, number).await?, "key {number} is not there");
            latencies.push(nanoseconds(asked.elapsed()));
            // As between two requests: others get their turn.
            tokio::task::yield_now().await;
        }
        Ok(latencies)
    });
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    for writer in writers {
        written += store.finish(writer)?;
    }
    let sample = Sample::new(read?, seconds as f64);
    Ok(json!({
        "rate": sample.rate(), "p50": sample.quantile(0.5), "p99": sample.quantile(0.99),
        "writes": f64::from(written) / seconds as f64,
    }))
}

/// A writer that goes on until the process ends.
fn writer(store: &Store, keys: u64) -> Started<()> {
    let (engine, world) = (Arc::clone(&store.engine), Arc::clone(&store.world));
    store.start(async move {
        loop {
            let value = Bytes::from(vec![9; VALUE_BYTES]);
            engine.commit(put(key(world.random() % keys), value)).await.context("a write")?;
        }
    })
}

/// Waits until the index rests; what the store takes on the disk then.
fn settle(store: &Store, seconds: u64) -> Result<Value> {
    let begun = Instant::now();
    let figures = store.settled(Duration::from_secs(seconds));
    Ok(json!({
        "log": figures.log_bytes, "index": figures.index_bytes,
        "disk": store.engine.status().disk_bytes,
        "log_written": figures.log_bytes_written, "index_written": figures.index_bytes_written,
        "seconds": begun.elapsed().as_secs_f64(),
    }))
}
