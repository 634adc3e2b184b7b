//! Does a queue stay as fast as it begins? A million rows of 1 KB are appended, read in order and deleted.
//!
//! One appender writes 100 stamped rows per commit; one reader takes the first 100 rows and deletes them in a commit, until
//! nothing is left. It finds the head in two ways, by turns: by seeking behind the last row it deleted, and by scanning from
//! the beginning of the queue, where all the dead lie. The bare loop writes as many bytes as the engine's log did, in as many
//! batches, each flushed; it has nothing to read.

use crate::{
    bare::BareLog,
    load::Sample,
    process::{Folder, part},
    report::{Figure, rate, time},
    store::{Store, nanoseconds},
};
use anyhow::{Result, ensure};
use bytes::Bytes;
use outrigger_engine_local::Local;
use outrigger_keyspace::{Direction, KeyRange, KeySpace, Level, Transaction, Write};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const ALL_ROWS: u64 = 1_000_000;
const PIECES: usize = 20;
const PER_COMMIT: usize = 100;
const ROW_BYTES: usize = 1_000;
const QUEUE: &[u8] = b"queue/";

fn commits_per_piece() -> usize {
    usize::try_from(part(ALL_ROWS)).unwrap_or(usize::MAX) / PIECES / PER_COMMIT
}

/// Time that the engine and the bare loop took for the same.
#[derive(Clone, Copy, Default)]
struct Took {
    engine: Duration,
    bare: Duration,
}

/// Latencies of reading the first 100 rows of a piece of the queue.
#[derive(Default)]
struct Reads {
    after_cursor: Vec<u64>,
    from_start: Vec<u64>,
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    let home = Folder::new()?;
    let store = Store::open(&home.path().join("store"))?;
    let bare = BareLog::new(home.path())?;
    let mut append = Took::default();
    for _ in 0..PIECES {
        piece(&store, &bare, &mut append, appended)?;
    }
    let (mut drain, mut reads, mut cursor) = (Took::default(), Vec::new(), Bytes::new());
    for _ in 0..PIECES {
        let behind = cursor.clone();
        let (found, last) =
            piece(&store, &bare, &mut drain, move |engine| drained(engine, behind))?;
        reads.push(found);
        cursor = last;
    }
    ensure!(empty(&store)?, "rows are left");
    store.close()?;
    Ok(told(append, drain, reads))
}

/// One piece by the engine, then the bytes of its log by the bare loop.
fn piece<T: Send + 'static, F: Future<Output = Result<T>> + Send + 'static>(
    store: &Store,
    bare: &BareLog,
    took: &mut Took,
    work: impl FnOnce(Arc<Local>) -> F,
) -> Result<T> {
    let (before, begun) = (store.engine.figures(), Instant::now());
    let found = store.run(work(Arc::clone(&store.engine)))?;
    took.engine += begun.elapsed();
    let bytes = store.engine.figures().log_bytes_written - before.log_bytes_written;
    let begun = Instant::now();
    for _ in 0..commits_per_piece() {
        bare.write(usize::try_from(bytes)? / commits_per_piece())?;
    }
    took.bare += begun.elapsed();
    Ok(found)
}

async fn appended(engine: Arc<Local>) -> Result<()> {
    let value = Bytes::from(vec![7; ROW_BYTES]);
    let row = Write::PutStamped {
        prefix: Bytes::from_static(QUEUE),
        suffix: Bytes::new(),
        value,
        expires_at: None,
    };
    for _ in 0..commits_per_piece() {
        let writes = vec![row.clone(); PER_COMMIT];
        engine.commit(Transaction { writes, ..Transaction::default() }).await?;
    }
    Ok(())
}

/// Takes a piece from the head of the queue, whose last deleted row was `cursor`.
async fn drained(engine: Arc<Local>, mut cursor: Bytes) -> Result<(Reads, Bytes)> {
    let (mut reads, whole) = (Reads::default(), KeyRange::prefix(QUEUE));
    for number in 0..commits_per_piece() {
        let seeks = number % 2 == 0 && !cursor.is_empty();
        let range = if seeks { whole.after(&cursor) } else { whole.clone() };
        let begun = Instant::now();
        let snapshot = engine.snapshot(Level::Linearizable).await?;
        let page = snapshot.scan(&range, PER_COMMIT, Direction::Forward).await?;
        let took = nanoseconds(begun.elapsed());
        if seeks { &mut reads.after_cursor } else { &mut reads.from_start }.push(took);
        ensure!(page.entries.len() == PER_COMMIT, "the queue ends early");
        let in_order = page.entries.first().is_some_and(|first| first.key > cursor);
        ensure!(in_order, "what was deleted is read again");
        let keys = page.entries.into_iter().map(|entry| entry.key);
        let writes: Vec<Write> = keys.map(|key| Write::Delete { key }).collect();
        if let Some(Write::Delete { key }) = writes.last() {
            cursor = key.clone();
        }
        engine.commit(Transaction { writes, makes_room: true, ..Transaction::default() }).await?;
    }
    Ok((reads, cursor))
}

fn empty(store: &Store) -> Result<bool> {
    let engine = Arc::clone(&store.engine);
    store.run(async move {
        let snapshot = engine.snapshot(Level::Linearizable).await?;
        let page = snapshot.scan(&KeyRange::prefix(QUEUE), 1, Direction::Forward).await?;
        Ok(page.entries.is_empty())
    })
}

fn told(append: Took, drain: Took, reads: Vec<Reads>) -> Vec<Figure> {
    let share =
        (append.bare + drain.bare).as_secs_f64() / (append.engine + drain.engine).as_secs_f64();
    let per_second = |time: Duration| rate(part(ALL_ROWS) as f64 / time.as_secs_f64());
    let whole = Figure::new(
        "queue of 1,000,000 rows of 1 KB: appended, read in order, deleted, 100 at a time",
        per_second(append.engine + drain.engine),
    )
    .beside(format!(
        "bare loop {}; ratio {:.0} %; appended {} ({:.0} %), read and deleted {} ({:.0} %)",
        per_second(append.bare + drain.bare),
        share * 100.0,
        per_second(append.engine),
        append.bare.as_secs_f64() / append.engine.as_secs_f64() * 100.0,
        per_second(drain.engine),
        drain.bare.as_secs_f64() / drain.engine.as_secs_f64() * 100.0
    ))
    .goal("70 % or more", share >= 0.7);
    let mut figures = vec![whole];
    let (seeking, scanning): (Vec<_>, Vec<_>) =
        reads.into_iter().map(|piece| (piece.after_cursor, piece.from_start)).unzip();
    figures.push(flat("seeking behind the last one", &seeking));
    figures.push(flat("scanning from the beginning of the queue", &scanning));
    figures
}

/// Reads at the beginning, in the middle and at the end: a tenth of the queue each.
fn flat(how: &str, pieces: &[Vec<u64>]) -> Figure {
    let tenth = PIECES / 10;
    let part = |from: usize| Sample::new(pieces[from..from + tenth].concat(), 1.0);
    let parts = [part(0), part(PIECES / 2 - tenth / 2), part(PIECES - tenth)];
    let [first, .., last] = &parts;
    let grown = last.quantile(0.5) / first.quantile(0.5);
    let tell = |sample: &Sample| {
        format!("{} / {}", time(sample.quantile(0.5)), time(sample.quantile(0.99)))
    };
    let told: Vec<String> = parts.iter().map(tell).collect();
    let question = format!(
        "reading its first 100 rows, {how}: p50 / p99 at the beginning, in the middle, at the end"
    );
    Figure::new(&question, told.join(", "))
        .beside(format!("median at the end {grown:.2}x of that at the beginning"))
        .goal("flat (at most 1.5x)", grown <= 1.5)
}
