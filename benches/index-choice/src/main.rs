//! Which library should hold the index? The log in front carries durability, a layer in memory absorbs commits, and a
//! background thread applies it as one sorted batch with a sync. This measures exactly that use.
//!
//! `index-choice all FOLDER` runs everything, each engine in processes of its own, and prints the tables of the decision
//! record. `index-choice ENGINE PART FOLDER` runs one part: `load`, `reopen`, `shrink`, `queue`.

mod engines;

// Our own index, by its files: it is private to its crate. What it needs of the log is one struct.
#[path = "../../../crates/engine-local/src/disk.rs"]
#[allow(dead_code)]
mod disk;
#[path = "../../../crates/engine-local/src/index/mod.rs"]
#[allow(dead_code, unused_imports)]
mod index;
#[path = "../../../crates/engine-local/src/layer.rs"]
#[allow(dead_code)]
mod layer;
#[path = "../../../crates/engine-local/src/planted.rs"]
#[allow(dead_code)]
mod planted;
#[path = "../../../crates/engine-local/src/record.rs"]
#[allow(dead_code)]
mod record;
#[path = "../../../crates/engine-local/src/stack.rs"]
#[allow(dead_code)]
mod stack;
mod log {
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct Position {
        pub(crate) segment: u64,
        pub(crate) offset: u64,
        pub(crate) chain: u64,
    }
}

use engines::{Engine, Outcome, Row, open};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

const BATCH_BYTES: usize = 32 << 20;
const KEYS: u64 = 5_000_000;
const VALUE: usize = 256;
const CACHE: usize = 64 << 20;
const ROWS_OF_A_BATCH: u64 = (BATCH_BYTES / (VALUE + 24)) as u64;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["all", folder] => all(Path::new(folder), &["redb", "fjall", "canopydb", "own"]),
        ["all", folder, engine] => all(Path::new(folder), &[engine]),
        [engine, "load", folder] => load(engine, Path::new(folder)),
        [engine, "reopen", folder] => reopen(engine, Path::new(folder)),
        [engine, "shrink", folder] => shrink(engine, Path::new(folder)),
        [engine, "queue", folder] => queue(engine, Path::new(folder)),
        _ => Err("index-choice all FOLDER [ENGINE]".into()),
    }
}

fn all(folder: &Path, engines: &[&str]) -> Outcome<()> {
    let program = std::env::current_exe()?;
    for engine in engines {
        let at: PathBuf = folder.join(engine);
        if at.exists() {
            std::fs::remove_dir_all(&at)?;
        }
        let run = |part: &str| Command::new(&program).args([engine, part]).arg(&at).status();
        // Killed in the middle of the batches after the load: what `reopen` then opens is a crashed store.
        let mut child = Command::new(&program)
            .args([engine, "load"])
            .arg(&at)
            .stdout(Stdio::inherit())
            .spawn()?;
        let mark = at.join("kill-me");
        while !mark.exists() && child.try_wait()?.is_none() {
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(300));
        child.kill()?;
        child.wait()?;
        run("reopen")?;
        run("shrink")?;
        std::fs::remove_dir_all(&at)?;
        run("queue")?;
        std::fs::remove_dir_all(&at)?;
    }
    Ok(())
}

/// A bijection that scatters: consecutive numbers become random keys, each once.
fn scatter(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn key(number: u64) -> Vec<u8> {
    let mut key = b"state/\x00app\x00\x00key\x00".to_vec();
    key.extend_from_slice(&scatter(number).to_be_bytes());
    key
}

/// Bytes that do not compress.
fn value(number: u64, round: u64, bytes: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(bytes + 8);
    let mut word = scatter(number ^ (round << 48));
    while value.len() < bytes {
        word = scatter(word);
        value.extend_from_slice(&word.to_le_bytes());
    }
    value.truncate(bytes);
    value
}

fn batch(numbers: impl Iterator<Item = u64>, round: u64, remove: bool) -> Vec<Row> {
    let rows: BTreeMap<_, _> = numbers
        .map(|number| (key(number), (!remove).then(|| value(number, round, VALUE))))
        .collect();
    rows.into_iter().collect()
}

struct Cost {
    time: Duration,
    written: u64,
    cpu: f64,
}

fn counters() -> (u64, f64) {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let written = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))
        .and_then(|bytes| bytes.parse().ok())
        .unwrap_or(0);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    (written, (ticks(11) + ticks(12)) / 100.0)
}

fn cost(body: impl FnOnce() -> Outcome<()>) -> Outcome<Cost> {
    let (written, cpu) = counters();
    let began = Instant::now();
    body()?;
    let time = began.elapsed();
    let (written_after, cpu_after) = counters();
    Ok(Cost { time, written: written_after - written, cpu: cpu_after - cpu })
}

fn say(engine: &str, what: &str, costs: &[Cost]) {
    let count = costs.len().max(1) as f64;
    let mut times: Vec<_> = costs.iter().map(|cost| cost.time.as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    let written = costs.iter().map(|cost| cost.written).sum::<u64>() as f64 / count / 1048576.0;
    let cpu = costs.iter().map(|cost| cost.cpu).sum::<f64>() / count;
    println!(
        "{engine:9} {what:34} median {:7.0} ms, worst {:7.0} ms, {written:7.0} MB written, {cpu:5.2} s CPU each ({} batches)",
        times[times.len() / 2],
        times[times.len() - 1],
        costs.len(),
    );
}

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.trim_start_matches(':').split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
        / 1024
}

fn disk(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(about) if about.is_dir() => open.push(entry.path()),
                Ok(about) => bytes += about.blocks() * 512,
                Err(_) => {}
            }
        }
    }
    bytes
}

fn say_disk(engine: &str, what: &str, folder: &Path, keys: u64) {
    let disk = disk(folder) as f64 / 1048576.0;
    let live = (keys * (VALUE as u64 + 26)) as f64 / 1048576.0;
    println!("{engine:9} disk {what:29} {disk:7.0} MB for {live:5.0} MB live: {:.2}x", disk / live);
}

fn percentiles(mut times: Vec<u64>) -> String {
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(0) as f64 / 1e3;
    format!("p50 {:.1} us, p99 {:.1} us, p99.9 {:.0} us, worst {:.0} us ({})", at(0.5), at(0.99), at(0.999), at(0.999_999), times.len())
}

/// Gets of random present keys until told to stop.
fn reader(engine: &dyn Engine, stop: &AtomicBool) -> Outcome<Vec<u64>> {
    let mut times = Vec::new();
    let mut number = 1;
    while !stop.load(Ordering::Relaxed) {
        number = scatter(number);
        let key = key(number % KEYS);
        let began = Instant::now();
        if engine.get(&key)?.is_none() {
            return Err("a key is missing".into());
        }
        times.push(began.elapsed().as_nanos() as u64);
    }
    Ok(times)
}

/// Batches with a reader beside them.
fn beside(engine: &dyn Engine, name: &str, what: &str, mut body: impl FnMut() -> Outcome<()>) -> Outcome<()> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| reader(engine, &stop));
        let done = body();
        stop.store(true, Ordering::Relaxed);
        let times = reading.join().map_err(|_| "the reader panicked")??;
        println!("{name:9} gets {what:29} {}", percentiles(times));
        done
    })
}

fn load(name: &str, folder: &Path) -> Outcome<()> {
    let mut engine = open(name, folder, CACHE)?;
    let mut next = 0;
    let mut recent = Vec::new();
    while next < KEYS {
        let end = (next + ROWS_OF_A_BATCH).min(KEYS);
        let rows = batch(next..end, 0, false);
        recent.push(cost(|| engine.apply(&rows))?);
        for (mark, what) in [(3, "0 .. 0.36 M keys"), (9, "0.7 M .. 1.1 M keys"), (41, "4.6 M .. 5 M keys")] {
            if next / ROWS_OF_A_BATCH + 1 == mark {
                let from = recent.len().saturating_sub(3);
                say(name, &format!("new random keys, {what}"), &recent[from..]);
            }
        }
        next = end;
    }
    let total = Cost { time: recent.iter().map(|c| c.time).sum(), written: recent.iter().map(|c| c.written).sum(), cpu: recent.iter().map(|c| c.cpu).sum() };
    say(name, "the whole load", &[total]);
    let settling = cost(|| engine.settle())?;
    say(name, "settling", &[settling]);
    say_disk(name, "after load", folder, KEYS);
    println!("{name:9} memory: {} MB resident, of them {} MB anonymous", status("VmRSS"), status("RssAnon"));
    {
        let engine = &*engine;
        beside(engine, name, "quiet", || {
            std::thread::sleep(Duration::from_secs(4));
            Ok(())
        })?;
        let mut costs = Vec::new();
        let mut number = 7;
        beside(engine, name, "beside batches of overwrites", || {
            for round in 1..=6 {
                let numbers: Vec<u64> = (0..ROWS_OF_A_BATCH)
                    .map(|_| {
                        number = scatter(number);
                        number % KEYS
                    })
                    .collect();
                let rows = batch(numbers.into_iter(), round, false);
                costs.push(cost(|| engine.apply(&rows))?);
            }
            Ok(())
        })?;
        say(name, "overwrites of random keys, 5 M", &costs);
    }
    clear(name, &*engine)?;
    println!("{name:9} memory: {} MB resident, of them {} MB anonymous, peak {} MB", status("VmRSS"), status("RssAnon"), status("VmHWM"));
    std::fs::write(folder.join("kill-me"), "")?;
    for round in 7.. {
        let rows = batch((0..ROWS_OF_A_BATCH).map(|n| scatter(n ^ (round << 32)) % KEYS), round, false);
        engine.apply(&rows)?;
    }
    Ok(())
}

fn clear(name: &str, engine: &dyn Engine) -> Outcome<()> {
    let rows: Vec<Row> = (0..100_000_u64)
        .map(|n| {
            let mut key = b"tenant/".to_vec();
            key.extend_from_slice(&n.to_be_bytes());
            (key, Some(value(n, 0, VALUE)))
        })
        .collect();
    say(name, "100,000 rows in order", &[cost(|| engine.apply(&rows))?]);
    say(name, "clearing them", &[cost(|| engine.clear(b"tenant/", b"tenant0"))?]);
    Ok(())
}

fn reopen(name: &str, folder: &Path) -> Outcome<()> {
    let began = Instant::now();
    let engine = open(name, folder, CACHE)?;
    let opened = began.elapsed();
    let found = engine.get(&key(42))?.is_some();
    println!("{name:9} reopened after kill -9 in {:.1} ms, first get after {:.1} ms ({found})", opened.as_secs_f64() * 1e3, began.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

fn shrink(name: &str, folder: &Path) -> Outcome<()> {
    let mut engine = open(name, folder, CACHE)?;
    let mut costs = Vec::new();
    let batches = KEYS.div_ceil(ROWS_OF_A_BATCH);
    for index in 0..batches {
        let rows = batch((0..KEYS).skip(index as usize).step_by(batches as usize), 99, false);
        costs.push(cost(|| engine.apply(&rows))?);
    }
    say(name, "overwriting everything", &costs);
    say_disk(name, "everything overwritten", folder, KEYS);
    costs.clear();
    for index in 0..batches {
        let rows = batch((0..KEYS).skip(index as usize).step_by(batches as usize).filter(|n| n % 10 != 0), 99, true);
        costs.push(cost(|| engine.apply(&rows))?);
    }
    say(name, "deleting nine of ten", &costs);
    say_disk(name, "nine of ten deleted", folder, KEYS / 10);
    let settling = cost(|| engine.settle())?;
    say(name, "settling or compacting", &[settling]);
    say_disk(name, "after that", folder, KEYS / 10);
    drop(engine);
    say_disk(name, "closed", folder, KEYS / 10);
    Ok(())
}

/// A queue of 1 KB rows: each batch appends one batch and removes the oldest one; reads look for the first row from the
/// start of the prefix, as a reader without a memory of its head would.
fn queue(name: &str, folder: &Path) -> Outcome<()> {
    let engine = open(name, folder, CACHE)?;
    let rows_of_a_batch = (BATCH_BYTES / 1040) as u64;
    let row = |number: u64| {
        let mut key = b"queue/q\x00".to_vec();
        key.extend_from_slice(&number.to_be_bytes());
        key
    };
    let (mut costs, mut firsts) = (Vec::new(), Vec::new());
    for round in 0..30 {
        let mut rows: Vec<Row> = Vec::new();
        if round >= 2 {
            rows.extend(((round - 2) * rows_of_a_batch..(round - 1) * rows_of_a_batch).map(|n| (row(n), None)));
        }
        rows.extend((round * rows_of_a_batch..(round + 1) * rows_of_a_batch).map(|n| (row(n), Some(value(n, 0, 1024)))));
        costs.push(cost(|| engine.apply(&rows))?);
        for _ in 0..200 {
            let began = Instant::now();
            let first = engine.first(b"queue/q\x00")?;
            firsts.push(began.elapsed().as_nanos() as u64);
            let expected = row(round.saturating_sub(1) * rows_of_a_batch);
            if first.as_ref() != Some(&expected) && round >= 2 {
                return Err("the queue begins with another row".into());
            }
        }
    }
    say(name, "queue: 32 MB in, 32 MB out", &costs);
    println!("{name:9} first row of the queue: {}", percentiles(firsts));
    let disk = disk(folder) as f64 / 1048576.0;
    println!("{name:9} disk of a queue of 64 MB: {disk:.0} MB");
    Ok(())
}
