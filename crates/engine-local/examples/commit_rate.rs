//! How many durable commits per second does this disk give, and how many of them share a sync?
//!
//! ```text
//! cargo run --release -p outrigger-engine-local --example commit_rate -- [folder] [seconds]
//! ```
//!
//! Each writer puts 256 bytes under a random key, waits for the answer, and puts again. The ceiling is one sync per
//! group: a lone writer sees the disk's latency, many writers see how well they share it.
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use bytes::Bytes;
use outrigger_engine_local::{Local, Options};
use outrigger_kernel::{Mono, World};
use outrigger_keyspace::{CommitError, KeySpace, Transaction, Write};
use outrigger_sim::SimWorld;
use std::{
    error::Error,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds: u64 = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let dir = folder.join(format!("commit-rate-{}", std::process::id()));
    let world = SimWorld::new(1);
    let engine = Local::open(&dir, world.clone(), Options::default())?;
    println!("writers  commits/s  commits/sync   p50 us   p99 us");
    for writers in [1, 16, 64, 256] {
        let (syncs, began) = (engine.syncs(), world.mono());
        let until = began.plus(Duration::from_secs(seconds));
        let mut latencies = run(&engine, &world, writers, until).await?;
        latencies.sort_unstable();
        let count = latencies.len().max(1);
        let elapsed = world.mono().since(began).as_micros();
        let rate = u128::try_from(count)? * 1_000_000 / elapsed.max(1);
        let synced = (engine.syncs() - syncs).max(1);
        let shared = u64::try_from(count)? / synced;
        let at = |percent: usize| latencies.get(count * percent / 100).copied().unwrap_or(0);
        println!("{writers:7}  {rate:9}  {shared:12}  {:7}  {:7}", at(50), at(99));
    }
    println!("resident memory: {}", resident());
    engine.close().await;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// The latency of every commit, in microseconds.
async fn run(
    engine: &Arc<Local>,
    world: &Arc<SimWorld>,
    writers: usize,
    until: Mono,
) -> Result<Vec<u64>, CommitError> {
    let all = Arc::new(Mutex::new(Ok(Vec::new())));
    let (done, mut finished) = tokio::sync::mpsc::channel::<()>(1);
    for _ in 0..writers {
        let (engine, world_of_task) = (engine.clone(), world.clone());
        let (all, done) = (all.clone(), done.clone());
        let task = async move {
            let found = write(&engine, &world_of_task, until).await;
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *all, found) {
                (Ok(all), Ok(found)) => all.extend(found),
                (all, Err(error)) => *all = Err(error),
                (Err(_), _) => {}
            }
            drop(done);
        };
        let _task: outrigger_kernel::TaskHandle = world.spawn("writer", Box::pin(task));
    }
    drop(done);
    // Ends when the last writer has dropped its end.
    let _ended: Option<()> = finished.recv().await;
    std::mem::replace(&mut *all.lock().unwrap_or_else(PoisonError::into_inner), Ok(Vec::new()))
}

async fn write(engine: &Local, world: &SimWorld, until: Mono) -> Result<Vec<u64>, CommitError> {
    let mut latencies = Vec::new();
    let mut now = world.mono();
    while now < until {
        let key = Bytes::from(format!("bench/{:016x}", world.random()));
        let value = Bytes::from(vec![7; 256]);
        let writes = vec![Write::Put { key, value, expires_at: None }];
        engine.commit(Transaction { writes, ..Transaction::default() }).await?;
        let answered = world.mono();
        latencies.push(u64::try_from(answered.since(now).as_micros()).unwrap_or(u64::MAX));
        now = answered;
    }
    Ok(latencies)
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or_else(|| "unknown".to_owned(), |size| size.trim().to_owned())
}
