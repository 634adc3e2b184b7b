//! A store larger than its memory: how long it takes to fill, to read while others write, and to open after a crash.
//!
//! ```text
//! cargo run --release -p outrigger-engine-local --example large_store -- <folder> fill [million keys]
//! cargo run --release -p outrigger-engine-local --example large_store -- <folder> read [million keys] [seconds]
//! cargo run --release -p outrigger-engine-local --example large_store -- <folder> expire [million keys] [seconds]
//! ```
//!
//! `fill` puts 256 bytes under each key, a hundred to a commit and eight commits at a time, and ends as by `kill -9`: `read`
//! finds what a crash has left. It says how long opening took, and then how long a random read takes while a writer puts as
//! fast as it is answered. `expire` puts keys that expire evenly within so many seconds, from a minute on, and says how much
//! memory they take; run again it says how long a commit takes while they go.
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use bytes::Bytes;
use futures_util::future::try_join_all;
use outrigger_engine_local::{Local, Options};
use outrigger_kernel::{Wall, World};
use outrigger_keyspace::{CommitError, KeySpace, Level, ReadError, Transaction, Write};
use outrigger_sim::SimWorld;
use std::{error::Error, path::Path, sync::Arc, time::Duration};

const VALUE_BYTES: usize = 256;
const KEYS_PER_COMMIT: u64 = 100;
const COMMITS_AT_ONCE: u64 = 8;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (dir, verb, rest) = match &words[..] {
        [dir, verb, rest @ ..] => (Path::new(dir), *verb, rest),
        _ => return Err("<folder> fill|read|expire [million keys] [seconds]".into()),
    };
    let keys: u64 = rest.first().map_or(Ok(5), |text| text.parse())? * 1_000_000;
    let seconds: u64 = rest.get(1).map_or(Ok(10), |text| text.parse())?;
    let world = SimWorld::new(1);
    let began = world.mono();
    let engine = Local::open(dir, world.clone(), Options::default())?;
    println!("opened after {:?}", world.mono().since(began));
    match verb {
        "fill" => fill(&engine, &world, keys).await?,
        "expire" => expire(&engine, &world, keys, seconds * 1_000).await?,
        "read" => read(&engine, &world, keys, Duration::from_secs(seconds)).await?,
        _ => return Err("fill, read or expire".into()),
    }
    println!("{:?}", engine.figures());
    println!("resident memory: {}", resident());
    // Not closed: the next one finds what a crash leaves.
    std::process::exit(0);
}

/// Keys in no order: a number and its mirror image, so that neighbours are far apart.
fn key(number: u64) -> Bytes {
    Bytes::from(format!("k/{:016x}", number.reverse_bits()))
}

async fn put(engine: &Local, numbers: impl Iterator<Item = u64>) -> Result<(), CommitError> {
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    let put = |number| Write::Put { key: key(number), value: value.clone(), expires_at: None };
    let writes = numbers.map(put).collect();
    engine.commit(Transaction { writes, ..Transaction::default() }).await.map(drop)
}

async fn fill(engine: &Local, world: &SimWorld, keys: u64) -> Result<(), CommitError> {
    let began = world.mono();
    let piece = KEYS_PER_COMMIT * COMMITS_AT_ONCE;
    for first in (0..keys).step_by(usize::try_from(piece).unwrap_or(1)) {
        let commits = (0..COMMITS_AT_ONCE).map(|commit| {
            let first = first + commit * KEYS_PER_COMMIT;
            put(engine, first..first + KEYS_PER_COMMIT)
        });
        try_join_all(commits).await?;
        if first % 1_000_000 == 0 {
            println!("{first} keys after {:?}, {}", world.mono().since(began), resident());
        }
    }
    println!("filled in {:?}", world.mono().since(began));
    Ok(())
}

async fn read(
    engine: &Arc<Local>,
    world: &Arc<SimWorld>,
    keys: u64,
    time: Duration,
) -> Result<(), Box<dyn Error>> {
    let until = world.mono().plus(time);
    let (writer, clock) = (engine.clone(), world.clone());
    let writing = async move {
        while clock.mono() < until {
            let number = clock.random() % keys;
            if put(&writer, number..number + 1).await.is_err() {
                return;
            }
        }
    };
    let _writer: outrigger_kernel::TaskHandle = world.spawn("writer", Box::pin(writing));
    let mut took = Vec::new();
    while world.mono() < until {
        let wanted = key(world.random() % keys);
        let began = world.mono();
        let snapshot = engine.snapshot(Level::Linearizable).await?;
        let found = snapshot.get(&wanted).await?;
        took.push(world.mono().since(began).as_micros());
        if found.is_none() {
            return Err("a key is missing".into());
        }
    }
    took.sort_unstable();
    let at = |permille: usize| took.get(took.len() * permille / 1_000).copied().unwrap_or(0);
    println!("{} reads: p50 {} us, p99 {} us, p99.9 {} us", took.len(), at(500), at(990), at(999));
    Ok(())
}

async fn expire(
    engine: &Local,
    world: &SimWorld,
    keys: u64,
    within_ms: u64,
) -> Result<(), CommitError> {
    let snapshot = engine.snapshot(Level::Linearizable).await.map_err(unavailable)?;
    let is_filled = snapshot.get(b"first").await.map_err(unavailable)?;
    drop(snapshot);
    if let Some(first) = is_filled {
        return while_they_go(engine, world, first.revision).await;
    }
    put(engine, 0..1).await?;
    let first = world.wall().0 + 60_000;
    for piece in 0..keys / 1_000 {
        let write = |number: u64| Write::Put {
            key: key(number),
            value: Bytes::from_static(&[7; 100]),
            expires_at: Some(Wall(first + number.wrapping_mul(7_919) % within_ms)),
        };
        let writes = (piece * 1_000..piece * 1_000 + 1_000).map(write).collect();
        engine.commit(Transaction { writes, ..Transaction::default() }).await?;
    }
    let mark = Write::Put { key: Bytes::from("first"), value: Bytes::new(), expires_at: None };
    let transaction = Transaction { writes: vec![mark], ..Transaction::default() };
    engine.commit(transaction).await.map(drop)
}

/// Commits every few milliseconds for half a minute.
async fn while_they_go(engine: &Local, world: &SimWorld, revision: u64) -> Result<(), CommitError> {
    let until = world.mono().plus(Duration::from_secs(30));
    let (mut took, mut last) = (Vec::new(), revision);
    while world.mono() < until {
        let began = world.mono();
        let number = u64::MAX - world.random() % 1_000;
        let value = Bytes::from_static(&[7; 100]);
        let writes = vec![Write::Put { key: key(number), value, expires_at: None }];
        let transaction = Transaction { writes, ..Transaction::default() };
        last = engine.commit(transaction).await?.revision;
        took.push(world.mono().since(began).as_micros());
        world.sleep(Duration::from_millis(2)).await;
    }
    took.sort_unstable();
    let at = |permille: usize| took.get(took.len() * permille / 1_000).copied().unwrap_or(0);
    let steps = last - revision - took.len() as u64;
    println!(
        "{} commits beside {steps} steps of time: p50 {} us, p99 {} us, longest {} us",
        took.len(),
        at(500),
        at(990),
        took.last().copied().unwrap_or(0)
    );
    Ok(())
}

fn unavailable(error: ReadError) -> CommitError {
    CommitError::Unavailable(error.to_string())
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or_else(|| "unknown".to_owned(), |size| size.trim().to_owned())
}
