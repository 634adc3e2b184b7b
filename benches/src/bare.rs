//! The least a durable log can do: write into a file that was filled before, and flush it once per batch.
//!
//! What the disk gives to whoever does nothing else; no engine can be faster on the same path.

use anyhow::Result;
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tokio::{sync::oneshot, task::JoinSet};

/// A zero-filled, synced file that is written from front to back, again and again.
#[derive(Clone)]
pub(crate) struct BareLog(Arc<Mutex<Inner>>);

struct Inner {
    file: File,
    at: u64,
    batch: Vec<u8>,
}

impl BareLog {
    const BYTES: u64 = 64 << 20;

    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let path = folder.join("bare");
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        let piece = vec![0; 1 << 20];
        for at in (0..Self::BYTES).step_by(piece.len()) {
            file.write_all_at(&piece, at)?;
        }
        file.sync_all()?;
        Ok(Self(Arc::new(Mutex::new(Inner { file, at: 0, batch: Vec::new() }))))
    }

    /// One batch of `bytes`: one write, one flush.
    pub(crate) fn write(&self, bytes: usize) -> Result<()> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.batch.len() < bytes {
            inner.batch.resize(bytes, 7);
        }
        if inner.at + bytes as u64 > Self::BYTES {
            inner.at = 0;
        }
        inner.file.write_all_at(&inner.batch[..bytes], inner.at)?;
        inner.file.sync_data()?;
        inner.at += bytes as u64;
        Ok(())
    }

    /// Batches per second, for `time`.
    pub(crate) fn rate(&self, bytes: usize, time: Duration) -> Result<f64> {
        let (begun, mut count) = (Instant::now(), 0_u64);
        while begun.elapsed() < time {
            self.write(bytes)?;
            count += 1;
        }
        Ok(count as f64 / begun.elapsed().as_secs_f64())
    }

    /// Commits per second, for `time`, of `callers` tasks that each hand over `bytes` and wait until they are flushed. A
    /// batch is whoever came while the one before was flushed.
    pub(crate) async fn asked(self, callers: usize, bytes: usize, time: Duration) -> Result<f64> {
        let counter = Arc::new(Counter::default());
        let served = Arc::clone(&counter);
        let server = thread::Builder::new()
            .name("bare".to_owned())
            .spawn(move || served.serve(&self, bytes))?;
        let (begun, mut tasks) = (Instant::now(), JoinSet::new());
        for _ in 0..callers {
            let counter = Arc::clone(&counter);
            tasks.spawn(async move {
                let mut count = 0_u64;
                while begun.elapsed() < time && counter.ask().await {
                    count += 1;
                }
                count
            });
        }
        let count: u64 = tasks.join_all().await.into_iter().sum();
        let seconds = begun.elapsed().as_secs_f64();
        counter.close();
        let told = server.join().map_err(|_| anyhow::anyhow!("the bare loop panicked"))?;
        told.map(|()| count as f64 / seconds)
    }
}

/// Where callers wait.
#[derive(Default)]
struct Counter {
    waiting: Mutex<Waiting>,
    work: Condvar,
}

#[derive(Default)]
struct Waiting {
    callers: Vec<oneshot::Sender<()>>,
    closed: bool,
}

impl Counter {
    async fn ask(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).callers.push(answer);
        self.work.notify_one();
        answered.await.is_ok()
    }

    fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.work.notify_one();
    }

    fn serve(&self, log: &BareLog, bytes: usize) -> Result<()> {
        let mut batch = Vec::new();
        loop {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let mut waiting = self
                .work
                .wait_while(waiting, |waiting| waiting.callers.is_empty() && !waiting.closed)
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut waiting.callers, &mut batch);
            let closed = waiting.closed;
            drop(waiting);
            if batch.is_empty() && closed {
                return Ok(());
            }
            log.write(bytes * batch.len())?;
            for caller in batch.drain(..) {
                // One that has gone is no error of a benchmark.
                let _gone: Result<(), ()> = caller.send(());
            }
        }
    }
}
