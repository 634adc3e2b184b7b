//! How many durable commits per second, beside two loops that do nothing else with the same bytes on the same disk.
//!
//! ```text
//! cargo run --release -p outrigger-engine-local --example commit_rate -- [folder] [rounds] [writers ..]
//! ```
//!
//! Each writer puts 256 bytes under a random key, waits for the answer, and puts again. Beside it:
//!
//! - *bare*: one thread writes as many bytes as the engine's log did for one commit of each writer to a file that was filled
//!   before, and flushes them with one `fdatasync`, and again. Nobody asks, nobody is answered: what the disk gives. With
//!   many writers this is more than the machine could even hand from task to task;
//! - *loop*: as many writers hand the same bytes to one thread that writes what has gathered, flushes and answers. It decides
//!   nothing, remembers nothing and has no index: what a group commit costs at least.
//!
//! The three take turns, a second each; what is printed are medians over the rounds, and ratios are those of each round.
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use bytes::Bytes;
use outrigger_engine_local::{Figures, Local, Options};
use outrigger_kernel::{Mono, World};
use outrigger_keyspace::{CommitError, KeySpace, Transaction, Write};
use outrigger_sim::SimWorld;
use std::{
    error::Error,
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

const VALUE_BYTES: u64 = 256;
const KEY_BYTES: u64 = 22;
const TURN: Duration = Duration::from_secs(1);
const BARE_BYTES: u64 = 32 * 1024 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let rounds: usize = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let writers: Vec<u64> = arguments.map(|text| text.parse()).collect::<Result<_, _>>()?;
    let writers = if writers.is_empty() { vec![1, 64, 256] } else { writers };
    let dir = folder.join(format!("commit-rate-{}", std::process::id()));
    let world = SimWorld::new(1);
    let engine = Local::open(&dir, world.clone(), Options::default())?;
    let bare = Bare::new(&dir)?;
    println!(
        "writers  commits/s     bare/s  ratio     loop/s  ratio  flushes/commit  bytes/payload  p50 us  p99 us"
    );
    for writers in writers {
        let mut found = Vec::new();
        for _ in 0..rounds {
            let turn = run(&engine, &world, writers).await?;
            let alone = bare.run(&world, turn.log_bytes(writers))? * writers as f64;
            let looped = bare.serve(&world, writers, turn.log_bytes(1)).await?;
            found.push((turn, alone, looped));
        }
        let median = |of: &dyn Fn(&(Turn, f64, f64)) -> f64| {
            let mut all: Vec<f64> = found.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        println!(
            "{writers:7}  {:9.0}  {:9.0}  {:5.2}  {:9.0}  {:5.2}  {:14.3}  {:13.2}  {:6.0}  {:6.0}",
            median(&|(turn, ..)| turn.rate),
            median(&|(_, bare, _)| *bare),
            median(&|(turn, bare, _)| turn.rate / bare),
            median(&|(.., looped)| *looped),
            median(&|(turn, _, looped)| turn.rate / looped),
            median(&|(turn, ..)| turn.flushes_per_commit()),
            median(&|(turn, ..)| turn.bytes_per_payload()),
            median(&|(turn, ..)| turn.p50),
            median(&|(turn, ..)| turn.p99),
        );
    }
    println!("{:?}", engine.figures());
    println!("resident memory: {}", resident());
    engine.close().await;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// What the engine did in its turn.
struct Turn {
    rate: f64,
    p50: f64,
    p99: f64,
    before: Figures,
    after: Figures,
}

impl Turn {
    fn commits(&self) -> u64 {
        (self.after.commits - self.before.commits).max(1)
    }

    /// Bytes of the log for `commits` commits.
    fn log_bytes(&self, commits: u64) -> u64 {
        (self.after.log_bytes_written - self.before.log_bytes_written) * commits / self.commits()
    }

    fn flushes_per_commit(&self) -> f64 {
        (self.after.flushes - self.before.flushes) as f64 / self.commits() as f64
    }

    fn bytes_per_payload(&self) -> f64 {
        let all = |figures: &Figures| figures.log_bytes_written + figures.index_bytes_written;
        let written = all(&self.after) - all(&self.before);
        written as f64 / (self.commits() * (KEY_BYTES + VALUE_BYTES)) as f64
    }
}

async fn run(
    engine: &Arc<Local>,
    world: &Arc<SimWorld>,
    writers: u64,
) -> Result<Turn, CommitError> {
    let all = Arc::new(Mutex::new(Ok(Vec::new())));
    let (done, mut finished) = tokio::sync::mpsc::channel::<()>(1);
    let (before, began) = (engine.figures(), world.mono());
    let until = began.plus(TURN);
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
    let seconds = world.mono().since(began).as_secs_f64();
    let after = engine.figures();
    let found =
        std::mem::replace(&mut *all.lock().unwrap_or_else(PoisonError::into_inner), Ok(Vec::new()));
    let mut latencies = found?;
    latencies.sort_unstable();
    let at = |percent: usize| latencies.get(latencies.len() * percent / 100).copied().unwrap_or(0);
    let (p50, p99) = (at(50) as f64, at(99) as f64);
    Ok(Turn { rate: latencies.len() as f64 / seconds, p50, p99, before, after })
}

/// The latency of every commit, in microseconds.
async fn write(engine: &Local, world: &SimWorld, until: Mono) -> Result<Vec<u64>, CommitError> {
    let mut latencies = Vec::new();
    let mut now = world.mono();
    while now < until {
        let key = Bytes::from(format!("bench/{:016x}", world.random()));
        let value = Bytes::from(vec![7; VALUE_BYTES as usize]);
        let writes = vec![Write::Put { key, value, expires_at: None }];
        engine.commit(Transaction { writes, ..Transaction::default() }).await?;
        let answered = world.mono();
        latencies.push(u64::try_from(answered.since(now).as_micros()).unwrap_or(u64::MAX));
        now = answered;
    }
    Ok(latencies)
}

/// A file that was filled before, to be written over.
#[derive(Clone)]
struct Bare(Arc<File>);

impl Bare {
    fn new(dir: &Path) -> std::io::Result<Self> {
        let file = File::create(dir.join("bare"))?;
        let piece = vec![0; 1024 * 1024];
        for at in (0..BARE_BYTES).step_by(piece.len()) {
            file.write_all_at(&piece, at)?;
        }
        file.sync_all()?;
        Ok(Self(Arc::new(file)))
    }

    /// How often per second `bytes` are written and flushed.
    fn run(&self, world: &SimWorld, bytes: u64) -> std::io::Result<f64> {
        let (batch, began) = (vec![7; usize::try_from(bytes).unwrap_or(1)], world.mono());
        let (mut count, mut at) = (0_u64, 0);
        while world.mono().since(began) < TURN {
            at = if at + bytes > BARE_BYTES { 0 } else { at };
            self.0.write_all_at(&batch, at)?;
            self.0.sync_data()?;
            (count, at) = (count + 1, at + bytes);
        }
        Ok(count as f64 / world.mono().since(began).as_secs_f64())
    }
}

impl Bare {
    /// How many commits of `bytes` per second a loop serves to as many writers.
    async fn serve(
        &self,
        world: &Arc<SimWorld>,
        writers: u64,
        bytes: u64,
    ) -> Result<f64, Box<dyn Error>> {
        let (to_loop, asked) = mpsc::channel::<Asked>(1024);
        let file = self.clone();
        let served = std::thread::Builder::new()
            .name("loop".to_owned())
            .spawn(move || file.answer(asked))?;
        let began = world.mono();
        let until = began.plus(TURN);
        for _ in 0..writers {
            let (to_loop, world_of_task) = (to_loop.clone(), world.clone());
            let task = async move {
                while world_of_task.mono() < until {
                    let (done, answered) = oneshot::channel();
                    let value = Bytes::from(vec![7; usize::try_from(bytes).unwrap_or(1)]);
                    if to_loop.send((value, done)).await.is_err() || answered.await.is_err() {
                        return;
                    }
                }
            };
            let _task: outrigger_kernel::TaskHandle = world.spawn("writer", Box::pin(task));
        }
        drop(to_loop);
        let count = tokio::task::spawn_blocking(move || served.join()).await?;
        let count = count.map_err(|_| "the loop has panicked")??;
        Ok(count as f64 / world.mono().since(began).as_secs_f64())
    }

    fn answer(&self, mut asked: mpsc::Receiver<Asked>) -> std::io::Result<u64> {
        let (mut batch, mut waiting, mut at, mut count) = (Vec::new(), Vec::new(), 0, 0);
        while let Some(first) = asked.blocking_recv() {
            let mut next = Some(first);
            while let Some((value, done)) = next {
                batch.extend_from_slice(&value);
                waiting.push(done);
                next = asked.try_recv().ok();
            }
            at = if at + batch.len() as u64 > BARE_BYTES { 0 } else { at };
            self.0.write_all_at(&batch, at)?;
            self.0.sync_data()?;
            (at, count) = (at + batch.len() as u64, count + waiting.len() as u64);
            batch.clear();
            for done in waiting.drain(..) {
                let _gone: Result<(), ()> = done.send(());
            }
        }
        Ok(count)
    }
}

type Asked = (Bytes, oneshot::Sender<()>);

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or_else(|| "unknown".to_owned(), |size| size.trim().to_owned())
}
