//! The engine in this process, on what the binary puts around it: its allocator, its world, two to four threads.
//!
//! Nothing between the caller and the engine: no HTTP, no state store, no socket. Work runs as tasks of the runtime, as
//! everything in the binary does, and never on the thread that waits for them.

use crate::{load::Sample, world::RealWorld};
use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use outrigger_engine_local::{Figures, Local, Options};
use outrigger_keyspace::{KeySpace, Transaction, Write};
use std::{
    fs,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::{Builder, Runtime};

/// A runtime like the binary's.
pub(crate) fn runtime() -> Result<Runtime> {
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let mut builder = Builder::new_multi_thread();
    Ok(builder.worker_threads(cores.clamp(2, 4)).thread_name("bench tasks").enable_all().build()?)
}

/// An open engine and the runtime its callers are on.
pub(crate) struct Store {
    runtime: Runtime,
    pub(crate) world: Arc<RealWorld>,
    pub(crate) engine: Arc<Local>,
}

impl Store {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let runtime = runtime()?;
        let inside = runtime.enter();
        let world = RealWorld::new();
        let engine = Local::open(folder, world.clone(), Options::default())?;
        drop(inside);
        Ok(Self { runtime, world, engine })
    }

    /// Runs `work` as a task and waits for it.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.runtime.block_on(self.runtime.spawn(work))?
    }

    /// Starts `work` as a task; [`Store::finish`] waits for it.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Started<T> {
        Started(self.runtime.spawn(work))
    }

    pub(crate) fn finish<T: Send + 'static>(&self, started: Started<T>) -> Result<T> {
        self.runtime.block_on(started.0)?
    }

    /// Closed loop: each of `count` writers commits what `next` makes, waits for the answer, and commits again, until
    /// there is no more.
    pub(crate) fn writers(
        &self,
        count: usize,
        next: impl Fn() -> Option<Transaction> + Send + Sync + 'static,
    ) -> Result<Sample> {
        let (next, begun) = (Arc::new(next), Instant::now());
        let mut tasks = Vec::new();
        for _ in 0..count {
            let (engine, next) = (Arc::clone(&self.engine), Arc::clone(&next));
            tasks.push(self.start(async move {
                let mut latencies = Vec::with_capacity(1 << 14);
                while let Some(transaction) = next() {
                    let sent = Instant::now();
                    engine.commit(transaction).await?;
                    latencies.push(nanoseconds(sent.elapsed()));
                }
                Ok(latencies)
            }));
        }
        let mut all = Vec::new();
        for task in tasks {
            all.extend(self.finish(task)?);
        }
        Ok(Sample::new(all, begun.elapsed().as_secs_f64()))
    }

    /// Waits until what was committed is in the index and the index rests; at most `patience`. How it fares then.
    pub(crate) fn settled(&self, patience: Duration) -> Figures {
        settled(&self.engine, patience)
    }

    pub(crate) fn close(self) -> Result<()> {
        let engine = Arc::clone(&self.engine);
        self.run(async move {
            engine.close().await;
            Ok(())
        })
    }
}

/// A task under way.
pub(crate) struct Started<T>(tokio::task::JoinHandle<Result<T>>);

/// Waits until nothing is in memory alone and no more is written for a second; at most `patience`.
pub(crate) fn settled(engine: &Local, patience: Duration) -> Figures {
    let begun = Instant::now();
    let mut quiet_since = Instant::now();
    let mut last = engine.figures();
    while begun.elapsed() < patience && quiet_since.elapsed() < Duration::from_secs(1) {
        thread::sleep(Duration::from_millis(50));
        let figures = engine.figures();
        let still = figures.layer_bytes + figures.sealed_bytes == 0
            && figures.index_bytes_written == last.index_bytes_written;
        if !still {
            quiet_since = Instant::now();
        }
        last = figures;
    }
    last
}

/// A commit of one key.
pub(crate) fn put(key: Bytes, value: Bytes) -> Transaction {
    let writes = vec![Write::Put { key, value, expires_at: None }];
    Transaction { writes, ..Transaction::default() }
}

pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Bytes this process has caused to be written to disks, by the kernel's count: whole pages, whoever wrote into them.
pub(crate) fn io_write_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/io")?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes:"));
    line.context("no write_bytes")?.trim().parse().map_err(|error| anyhow!("write_bytes: {error}"))
}
