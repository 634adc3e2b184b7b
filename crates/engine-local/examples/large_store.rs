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
//! fast as it is answered. `expire` puts keys that expire evenly within so many seconds (all at one instant with 0) and says
//! how much memory they take; run again it says how long a commit takes while they go, and how long they take to go.
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

use bytes::Bytes;
use futures_util::future::try_join_all;
use outrigger_engine_local::{Local, Options};
use outrigger_kernel::{Wall, World};
use outrigger_keyspace::{CommitError, KeySpace, Level, Transaction, Write};
use outrigger_sim::SimWorld;
use std::{error::Error, path::Path, sync::Arc, time::Duration};

const VALUE_BYTES: usize = 256;
const KEYS_PER_COMMIT: u64 = 100;
const COMMITS_AT_ONCE: u64 = 8;
/// Says when the first and the last key expire.
const MARK: &[u8] = b"mark";

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
    println!("{} reads: {}", took.len(), quantiles(&mut took));
    Ok(())
}

async fn expire(
    engine: &Local,
    world: &SimWorld,
    keys: u64,
    within_ms: u64,
) -> Result<(), Box<dyn Error>> {
    let snapshot = engine.snapshot(Level::Linearizable).await?;
    let mark = snapshot.get(MARK).await?;
    drop(snapshot);
    if let Some(mark) = mark {
        let [first, last] = *mark.bytes.as_chunks().0 else { return Err("not a mark".into()) };
        let (first, last) = (u64::from_le_bytes(first), u64::from_le_bytes(last));
        // The clock of a test begins anew with each process: the keys begin to go in two seconds.
        let ahead = first.saturating_sub(2_000).saturating_sub(world.wall().0);
        world.jump_wall(i64::try_from(ahead)?);
        return while_they_go(engine, world, Wall(last)).await;
    }
    let first = world.wall().0 + 60_000;
    let last = first + within_ms.max(1) - 1;
    for piece in 0..keys / 1_000 {
        let write = |number: u64| Write::Put {
            key: key(number),
            value: Bytes::from_static(&[7; 100]),
            expires_at: Some(Wall(first + number.wrapping_mul(7_919) % within_ms.max(1))),
        };
        let writes = (piece * 1_000..piece * 1_000 + 1_000).map(write).collect();
        engine.commit(Transaction { writes, ..Transaction::default() }).await?;
    }
    let value = Bytes::from([first.to_le_bytes(), last.to_le_bytes()].concat());
    let mark = Write::Put { key: Bytes::from_static(MARK), value, expires_at: None };
    let transaction = Transaction { writes: vec![mark], ..Transaction::default() };
    engine.commit(transaction).await?;
    Ok(())
}

/// Commits every few milliseconds until a second after the last key has gone, and says how that went: a commit is stamped
/// with the time up to which everything has gone that falls due.
async fn while_they_go(engine: &Local, world: &SimWorld, last: Wall) -> Result<(), Box<dyn Error>> {
    let (mut took, mut reads, mut behind, mut gone) = (Vec::new(), Vec::new(), 0, None);
    let before = engine.figures();
    while world.wall().0 < last.0 + 1_000 || gone.is_none() {
        let began = world.mono();
        let (key, value) = (Bytes::from_static(b"beside"), Bytes::from_static(&[7; 100]));
        let writes = vec![Write::Put { key, value, expires_at: None }];
        let transaction = Transaction { writes, ..Transaction::default() };
        let time = engine.commit(transaction).await?.time;
        took.push(world.mono().since(began).as_micros());
        behind = behind.max(world.wall().0.saturating_sub(time.0));
        if time >= last {
            gone.get_or_insert_with(|| world.wall().0.saturating_sub(last.0));
        }
        let began = world.mono();
        engine.snapshot(Level::Linearizable).await?.get(MARK).await?;
        reads.push(world.mono().since(began).as_micros());
        world.sleep(Duration::from_millis(2)).await;
    }
    println!(
        "{} commits: {}; {} reads: {}; time at most {behind} ms late, all gone {} ms after the last was due; {} bytes of log",
        took.len(),
        quantiles(&mut took),
        reads.len(),
        quantiles(&mut reads),
        gone.unwrap_or(0),
        engine.figures().log_bytes_written - before.log_bytes_written
    );
    Ok(())
}

fn quantiles(took: &mut [u128]) -> String {
    took.sort_unstable();
    let at = |permille: usize| took.get(took.len() * permille / 1_000).copied().unwrap_or(0);
    let longest = took.last().copied().unwrap_or(0);
    format!("p50 {} us, p99 {} us, p99.9 {} us, longest {longest} us", at(500), at(990), at(999))
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("unknown");
    format!("{}, at its highest {}", of("VmRSS:").trim(), of("VmHWM:").trim())
}
