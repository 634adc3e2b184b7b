//! How much of what the disk gives does the engine give? Durable commits in process beside a bare loop.
//!
//! Each writer puts 256 bytes under a random key and waits for the answer. The bare loop writes as many bytes as the
//! engine's log does for one commit of each writer, and flushes them at once. Turn about.
//!
//! Beside it, what the bare loop comes to when it has callers: as many tasks hand it their bytes and wait for the answer. What
//! lies between the two is what callers cost, whoever answers them.

use crate::{
    bare::BareLog,
    load::Sample,
    process::Folder,
    report::{Figure, median, rate, time},
    store::{Store, io_write_bytes, put},
};
use anyhow::{Result, bail};
use bytes::Bytes;
use outrigger_engine_local::Figures;
use outrigger_kernel::World;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const WRITERS: [usize; 3] = [1, 64, 256];
const ROUNDS: usize = 5;
const TURN: Duration = Duration::from_millis(1_500);
const BARE_TURN: Duration = Duration::from_secs(1);
const VALUE_BYTES: usize = 256;
const KEY_BYTES: usize = 22;
const PAYLOAD_BYTES: u64 = (VALUE_BYTES + KEY_BYTES) as u64;

/// What the engine did in its turn, and the bare loop in its own.
struct Round {
    sample: Sample,
    flushes_per_commit: f64,
    log_bytes_per_commit: f64,
    /// Commits per second.
    bare: f64,
    /// The same where each commit has somebody who waits for it.
    asked: f64,
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    let home = Folder::new()?;
    let store = Store::open(&home.path().join("store"))?;
    let bare = BareLog::new(home.path())?;
    let (mut figures, mut io_bytes) = (Vec::new(), 0);
    for writers in WRITERS {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let before = io_write_bytes()?;
            let (sample, done) = turn(&store, writers, TURN)?;
            io_bytes += io_write_bytes()? - before;
            let commits = done.commits.max(1) as f64;
            let log_bytes_per_commit = done.log_bytes_written as f64 / commits;
            let batch = (log_bytes_per_commit * writers as f64) as usize;
            rounds.push(Round {
                sample,
                flushes_per_commit: done.flushes as f64 / commits,
                log_bytes_per_commit,
                bare: bare.rate(batch, BARE_TURN)? * writers as f64,
                asked: store.run(bare.clone().asked(writers, batch / writers, BARE_TURN))?,
            });
        }
        figures.extend(told(writers, &rounds));
    }
    figures.push(written(&store, io_bytes));
    store.close()?;
    Ok(figures)
}

/// Some time of `writers` putting random keys; what came of it, and what the engine counted.
fn turn(store: &Store, writers: usize, time: Duration) -> Result<(Sample, Figures)> {
    let begun = Instant::now();
    while_told(store, writers, move || begun.elapsed() < time)
}

fn while_told(
    store: &Store,
    writers: usize,
    go_on: impl Fn() -> bool + Send + Sync + 'static,
) -> Result<(Sample, Figures)> {
    let before = store.engine.figures();
    let (world, value) = (Arc::clone(&store.world), Bytes::from(vec![7; VALUE_BYTES]));
    let sample = store.writers(writers, move || {
        let key = Bytes::from(format!("bench/{:016x}", world.random()));
        go_on().then(|| put(key, value.clone()))
    })?;
    Ok((sample, since(&before, &store.engine.figures())))
}

/// What `commits` commits of `writers` cost, counted and not timed.
pub(crate) struct Counted {
    pub(crate) flushes_per_1000: u64,
    pub(crate) log_bytes_per_commit: u64,
    /// Log and index, once everything is in the index.
    pub(crate) bytes_per_commit: u64,
}

/// A store of its own, some commits, and what they cost.
pub(crate) fn counted(writers: usize, commits: u64) -> Result<Counted> {
    let home = Folder::new()?;
    let store = Store::open(&home.path().join("store"))?;
    let left = AtomicU64::new(commits);
    let one_less = move |left: u64| left.checked_sub(1);
    let (_, done) = while_told(&store, writers, move || {
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    })?;
    let figures = store.settled(Duration::from_secs(20));
    store.close()?;
    Ok(Counted {
        flushes_per_1000: done.flushes * 1000 / done.commits.max(1),
        log_bytes_per_commit: done.log_bytes_written / done.commits.max(1),
        bytes_per_commit: (figures.log_bytes_written + figures.index_bytes_written)
            / figures.commits.max(1),
    })
}

/// `load WRITERS SECONDS`: the engine's turn alone, for a profiler beside it.
pub(crate) fn alone(arguments: &[String]) -> Result<()> {
    let [writers, seconds] = arguments else { bail!("usage: load WRITERS SECONDS") };
    let home = Folder::new()?;
    let store = Store::open(&home.path().join("store"))?;
    let (sample, done) = turn(&store, writers.parse()?, Duration::from_secs(seconds.parse()?))?;
    let at = |quantile| time(sample.quantile(quantile));
    println!("{}, p50 {}, p99 {}, p99.9 {}", rate(sample.rate()), at(0.5), at(0.99), at(0.999));
    println!("{done:?}");
    store.close()
}

/// What was counted in between.
pub(crate) fn since(before: &Figures, after: &Figures) -> Figures {
    Figures {
        commits: after.commits - before.commits,
        flushes: after.flushes - before.flushes,
        batches: after.batches - before.batches,
        log_bytes_written: after.log_bytes_written - before.log_bytes_written,
        index_bytes_written: after.index_bytes_written - before.index_bytes_written,
        checkpoints: after.checkpoints - before.checkpoints,
        ..*after
    }
}

fn told(writers: usize, rounds: &[Round]) -> Vec<Figure> {
    let pick = |of: &dyn Fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    let share = pick(&|round| round.sample.rate() / round.bare);
    let flushes = pick(&|round| round.flushes_per_commit);
    let tell = format!(
        "{}, p50 {}, p99 {}",
        rate(pick(&|round| round.sample.rate())),
        time(pick(&|round| round.sample.quantile(0.5))),
        time(pick(&|round| round.sample.quantile(0.99)))
    );
    let bare = format!(
        "bare loop, {writers} at a time: {}; ratio {:.0} %; bare loop with {writers} callers: {}; ratio {:.0} %",
        rate(pick(&|round| round.bare)),
        share * 100.0,
        rate(pick(&|round| round.asked)),
        pick(&|round| round.sample.rate() / round.asked) * 100.0
    );
    let question = format!("durable commits of 256 bytes in process, {writers} writers");
    let counted =
        Figure::new(&format!("flushes per commit, {writers} writers"), format!("{flushes:.3}"))
            .beside(format!(
                "{:.0} bytes of log per commit",
                pick(&|round| round.log_bytes_per_commit)
            ));
    let counted = match writers {
        1 => counted.goal("at most 1.0", flushes <= 1.0),
        64 => counted.goal("at most 0.1", flushes <= 0.1),
        _ => counted,
    };
    vec![Figure::new(&question, tell).beside(bare).goal("70 % or more", share >= 0.7), counted]
}

/// Everything written for all of the above, once it is in the index.
fn written(store: &Store, io_bytes: u64) -> Figure {
    let figures = store.settled(Duration::from_secs(20));
    let payload = (figures.commits * PAYLOAD_BYTES) as f64;
    let log = figures.log_bytes_written as f64 / payload;
    let index = figures.index_bytes_written as f64 / payload;
    let beside = format!(
        "log {log:.2}, index {index:.2}; {} commits in {} checkpoints; prepared segments {:.2}; whole pages by the \
         kernel's count {:.2}",
        figures.commits,
        figures.checkpoints,
        figures.log_bytes_prepared as f64 / payload,
        io_bytes as f64 / payload
    );
    Figure::new(
        "bytes written for a byte of payload (keys and values)",
        format!("{:.2}", log + index),
    )
    .beside(beside)
    .goal("at most 2.5", log + index <= 2.5)
}
