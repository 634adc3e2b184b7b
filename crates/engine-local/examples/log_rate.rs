//! How much the log costs over the disk itself: one frame per write and sync, against a bare loop that writes as many bytes
//! to a preallocated file and syncs it. Turn about, so that both meet the same disk.
//!
//! `cargo run --release -p outrigger-engine-local --example log_rate [-- <folder> [<rounds>]]`
//!
//! Measured beside them, to know what a different way of writing would bring: the same bytes through a file opened to sync
//! each write, and whole pages past the page cache. Then how fast a log is read back, and how long an empty one takes to be
//! there.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "an example prints what it found")]

#[expect(dead_code, reason = "the example uses a part of it")]
#[path = "../src/disk.rs"]
mod disk;
#[expect(dead_code, unused_imports, reason = "the example uses a part of it")]
#[path = "../src/log/mod.rs"]
mod log;
#[expect(dead_code, unreachable_pub, reason = "the example uses a part of it")]
#[path = "../src/planted.rs"]
mod planted;
#[expect(dead_code, reason = "the example uses a part of it")]
#[path = "../src/record.rs"]
mod record;

use bytes::Bytes;
use disk::FolderDisk;
use log::{Frame, Log, LogError, Options, Position};
use nix::fcntl::OFlag;
use outrigger_kernel::{Wall, disk::Disk};
use outrigger_keyspace::{
    Committed, Value,
    sequencer::{Change, Plan},
};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

const MIB: usize = 1024 * 1024;
const PAGE: usize = 4096;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let rounds = arguments.next().map_or(Ok(2_000), |rounds| rounds.parse())?;
    let folder = tempfile::tempdir_in(folder)?;
    for frame_bytes in [256, 16 * 1024] {
        measure(folder.path(), frame_bytes, rounds)?;
    }
    read_back(folder.path())?;
    start(folder.path())?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "this example measures the real world")]
fn timed<T>(act: impl FnOnce() -> io::Result<T>) -> io::Result<Duration> {
    let started = Instant::now();
    act()?;
    Ok(started.elapsed())
}

fn plan(revision: u64, bytes: usize) -> Plan {
    let value = Value { bytes: Bytes::from(vec![7; bytes]), revision, expires_at: None };
    Plan {
        committed: Committed { revision, time: Wall(1_790_000_000_000 + revision) },
        id: None,
        clears: Vec::new(),
        changes: vec![Change {
            key: Bytes::from(format!("key {revision:012}")),
            value: Some(value),
        }],
    }
}

/// A file of its own that is written from front to back, again and again.
struct Bare {
    file: File,
    at: usize,
    bytes: Vec<u8>,
    /// Where in `bytes` a page begins.
    aligned: usize,
    length: usize,
    sync: bool,
}

impl Bare {
    const SIZE: usize = 32 * MIB;

    fn new(path: &Path, flags: OFlag, length: usize) -> io::Result<Self> {
        std::fs::write(path, vec![0; Self::SIZE])?;
        File::open(path)?.sync_all()?;
        let file = OpenOptions::new().write(true).custom_flags(flags.bits()).open(path)?;
        let bytes = vec![7; length.next_multiple_of(PAGE) + PAGE];
        let aligned = bytes.as_ptr().align_offset(PAGE);
        Ok(Self { file, at: 0, bytes, aligned, length, sync: !flags.contains(OFlag::O_DSYNC) })
    }

    fn write(&mut self) -> io::Result<()> {
        if self.at + self.length > Self::SIZE {
            self.at = 0;
        }
        let bytes = &self.bytes[self.aligned..self.aligned + self.length];
        self.file.write_all_at(bytes, self.at as u64)?;
        self.at += self.length;
        if self.sync { self.file.sync_data() } else { Ok(()) }
    }
}

fn measure(folder: &Path, frame_bytes: usize, rounds: u64) -> io::Result<()> {
    let path = folder.join(format!("log of {frame_bytes}"));
    std::fs::create_dir(&path)?;
    let disk: Arc<dyn Disk> = Arc::new(FolderDisk::open(&path)?);
    let options = Options { first_bytes: 32 * MIB as u64, ..Options::default() };
    let mut log = Log::create(disk, [1; 16], options).map_err(io::Error::other)?;
    let counters = log.counters();
    let mut frame = Frame::default();
    frame.push(&plan(1, 0));
    let value_bytes = frame_bytes - frame.len();
    frame.clear();

    let pages = frame_bytes.next_multiple_of(PAGE);
    let mut bare = Bare::new(&folder.join("bare"), OFlag::empty(), frame_bytes)?;
    let mut dsync = Bare::new(&folder.join("dsync"), OFlag::O_DSYNC, frame_bytes)?;
    let mut direct = Bare::new(&folder.join("direct"), OFlag::O_DIRECT, pages)?;
    let both = OFlag::O_DIRECT | OFlag::O_DSYNC;
    let mut direct_dsync = Bare::new(&folder.join("direct dsync"), both, pages)?;
    let mut times: [Vec<Duration>; 6] = Default::default();
    for revision in 1..=rounds {
        let encode = timed(|| {
            frame.push(&plan(revision, value_bytes));
            Ok(())
        })?;
        times[0].push(timed(|| bare.write())?);
        times[1].push(timed(|| log.append(&mut frame).and_then(|_| log.sync()))?);
        times[2].push(timed(|| dsync.write())?);
        times[3].push(timed(|| direct.write())?);
        times[4].push(timed(|| direct_dsync.write())?);
        times[5].push(encode);
    }
    let names = [
        "bare: pwrite, fdatasync",
        "log: append, sync",
        "bare: O_DSYNC",
        "bare: O_DIRECT, fdatasync, whole pages",
        "bare: O_DIRECT | O_DSYNC, whole pages",
        "making and encoding a plan",
    ];
    println!("frames of {frame_bytes} bytes, {rounds} rounds");
    for (name, times) in names.iter().zip(&mut times) {
        times.sort_unstable();
        let of = |part: usize| times[(times.len() - 1) * part / 100].as_micros();
        println!("  {name:40} p50 {:6} us   p99 {:6} us", of(50), of(99));
    }
    let syncs = counters.syncs.load(Ordering::Relaxed);
    let written = counters.bytes_written.load(Ordering::Relaxed);
    println!("  the log: {syncs} syncs, {written} bytes, in segment {}", log.end().segment);
    log.close()
}

fn read_back(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let path = folder.join("read back");
    std::fs::create_dir(&path)?;
    let disk: Arc<dyn Disk> = Arc::new(FolderDisk::open(&path)?);
    let mut log = Log::create(Arc::clone(&disk), [1; 16], Options::default())?;
    let (mut frame, mut revision, mut slowest) = (Frame::default(), 0, Duration::ZERO);
    while log.counters().bytes_written.load(Ordering::Relaxed) < 128 * MIB as u64 {
        while frame.len() < MIB / 4 {
            revision += 1;
            frame.push(&plan(revision, 100));
        }
        slowest = slowest.max(timed(|| log.append(&mut frame))?);
    }
    log.close()?;
    let mut read = (0, 0);
    let took = timed(|| {
        let visit = &mut |plan: Plan| {
            read.1 += plan.changes.len();
            Ok::<_, LogError>(())
        };
        let opened = Log::open(disk, [1; 16], Position::START, 1, Options::default(), visit);
        read.0 = opened.map_err(io::Error::other)?.1.bytes;
        Ok(())
    })?;
    let rate = read.0 as f64 / took.as_secs_f64() / 1e6;
    println!("{} plans of 100 bytes: {} bytes read in {took:?}, {rate:.0} MB/s", read.1, read.0);
    println!("the slowest append without a sync, turning between segments: {slowest:?}");
    Ok(())
}

fn start(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut times = Vec::new();
    for number in 0..20 {
        let path = folder.join(format!("start {number}"));
        std::fs::create_dir(&path)?;
        times.push(timed(|| {
            let disk: Arc<dyn Disk> = Arc::new(FolderDisk::open(&path)?);
            Log::create(disk, [1; 16], Options::default()).map_err(io::Error::other)
        })?);
    }
    times.sort_unstable();
    println!("a new log is there after {:?} (median), {:?} (longest)", times[10], times[19]);
    Ok(())
}
