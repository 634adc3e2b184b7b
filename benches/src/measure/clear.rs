//! What does it cost to remove a great many rows at once, and whom does it hold up?
//!
//! 100,000 rows are cleared in one commit while 16 writers write. Then, with nobody else there, what such a commit writes into
//! the log is counted.

use crate::{
    load::Sample,
    process::Folder,
    report::{Figure, median, time},
    store::{Started, Store, nanoseconds, put},
};
use anyhow::{Result, ensure};
use bytes::Bytes;
use outrigger_kernel::World;
use outrigger_keyspace::{Direction, KeyRange, KeySpace, Level, Transaction, Write};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const ROUNDS: usize = 5;
const ROWS: usize = 100_000;
const PER_COMMIT: usize = 2_000;
const ROW_BYTES: usize = 256;
const WRITERS: usize = 16;
/// Time before the clear, and from it on, in which the writers are looked at.
const BESIDE: Duration = Duration::from_secs(1);

struct Round {
    clear: f64,
    before: Sample,
    after: Sample,
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    let home = Folder::new()?;
    let store = Store::open(&home.path().join("store"))?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(round(&store)?);
    }
    let bytes = log_bytes(&store)?;
    store.close()?;
    let pick = |of: &dyn Fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    let (clear, p50) = (pick(&|round| round.clear), pick(&|round| round.before.quantile(0.5)));
    let p99 =
        (pick(&|round| round.before.quantile(0.99)), pick(&|round| round.after.quantile(0.99)));
    Ok(vec![
        Figure::new("clearing a range of 100,000 rows beside 16 writers: the commit", time(clear))
            .beside(format!("a commit of theirs: p50 {}; bytes of log: {bytes}", time(p50)))
            .goal("not 100,000 writes (under 1,000 bytes)", bytes < 1_000),
        Figure::new(
            "p99 of the others' commits in the second after a range was cleared",
            time(p99.1),
        )
        .beside(format!("in the second before: {}", time(p99.0))),
    ])
}

fn fill(store: &Store) -> Result<()> {
    let engine = Arc::clone(&store.engine);
    store.run(async move {
        let value = Bytes::from(vec![7; ROW_BYTES]);
        for commit in 0..ROWS / PER_COMMIT {
            let row = |number: usize| {
                let key = Bytes::from(format!("rows/{:08}", commit * PER_COMMIT + number));
                Write::Put { key, value: value.clone(), expires_at: None }
            };
            let writes = (0..PER_COMMIT).map(row).collect();
            engine.commit(Transaction { writes, ..Transaction::default() }).await?;
        }
        Ok(())
    })
}

/// Clears the range; how long that took, in nanoseconds.
fn clear(store: &Store) -> Result<u64> {
    let engine = Arc::clone(&store.engine);
    store.run(async move {
        let range = KeyRange::prefix("rows/");
        let writes = vec![Write::DeleteRange { range: range.clone() }];
        let begun = Instant::now();
        engine.commit(Transaction { writes, ..Transaction::default() }).await?;
        let took = nanoseconds(begun.elapsed());
        let snapshot = engine.snapshot(Level::Linearizable).await?;
        let left = snapshot.scan(&range, 1, Direction::Forward).await?;
        ensure!(left.entries.is_empty(), "rows are left");
        Ok(took)
    })
}

fn round(store: &Store) -> Result<Round> {
    fill(store)?;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS).map(|_| writer(store, &stop)).collect();
    thread::sleep(BESIDE);
    let cleared_at = Instant::now();
    let clear = clear(store)? as f64;
    thread::sleep(BESIDE.saturating_sub(cleared_at.elapsed()));
    stop.store(true, Ordering::Relaxed);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for writer in writers {
        for (sent, took) in store.finish(writer)? {
            // Who was under way when the range was cleared has met it too.
            let done = sent + Duration::from_nanos(took);
            if done < cleared_at { &mut before } else { &mut after }.push(took);
        }
    }
    let seconds = BESIDE.as_secs_f64();
    Ok(Round { clear, before: Sample::new(before, seconds), after: Sample::new(after, seconds) })
}

/// A writer that goes on until it is told; when each of its commits was sent, and how long it took.
fn writer(store: &Store, stop: &Arc<AtomicBool>) -> Started<Vec<(Instant, u64)>> {
    let (engine, world, stop) =
        (Arc::clone(&store.engine), Arc::clone(&store.world), Arc::clone(stop));
    store.start(async move {
        let (value, mut latencies) = (Bytes::from(vec![7; ROW_BYTES]), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let key = Bytes::from(format!("others/{:016x}", world.random()));
            let sent = Instant::now();
            engine.commit(put(key, value.clone())).await?;
            latencies.push((sent, nanoseconds(sent.elapsed())));
        }
        Ok(latencies)
    })
}

/// Bytes of log that clearing writes, with nobody else there.
pub(crate) fn log_bytes(store: &Store) -> Result<u64> {
    fill(store)?;
    let before = store.engine.figures().log_bytes_written;
    clear(store)?;
    Ok(store.engine.figures().log_bytes_written - before)
}
