//! Is a store that is far larger than what the engine keeps in memory still quick, small and soon there again?
//!
//! Five million keys with values of 256 bytes, in a process of its own: filled in bulk, read at random while 2,000 durable
//! commits a second go on, killed under load and started again; then half of it is written anew, then nine tenths are deleted.
//! The kernel's page cache is not emptied in between: it holds whatever the machine has room for, as it would at home.

use crate::{
    inside::{Inside, figure, large::LIVE_BYTES},
    process::{Folder, memory_kib, part},
    report::{Figure, median, rate, time},
};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::{
    thread,
    time::{Duration, Instant},
};

const ALL_KEYS: u64 = 5_000_000;
const GETS: usize = 3;
const GET_SECONDS: u64 = 3;
const WRITES: u64 = 2_000;
const KILLS: usize = 3;
const WRITERS: usize = 16;
const SETTLE_SECONDS: u64 = 30;

pub(crate) fn run() -> Result<Vec<Figure>> {
    let (home, keys) = (Folder::new()?, part(ALL_KEYS));
    let folder = home.path().join("store");
    let mut inside = Inside::start("large", &folder)?;
    let seconds = figure(&inside.ask(&format!("load 0 {keys}"))?, "seconds")?;
    let loaded = inside.ask(&format!("settle {SETTLE_SECONDS}"))?;
    let live = keys as f64 * LIVE_BYTES as f64;
    let written = figure(&loaded, "log_written")? + figure(&loaded, "index_written")?;
    let mut figures = vec![
        Figure::new(
            "5,000,000 keys with values of 256 bytes: filled, 2,000 per commit",
            rate(keys as f64 / seconds),
        )
        .beside(format!("{:.2} bytes written for a byte of payload", written / live)),
        space("once filled", &loaded, live)?,
    ];
    figures.push(gets(&mut inside, keys)?);
    let (resident, peak) = (memory_kib(inside.id(), "VmRSS")?, memory_kib(inside.id(), "VmHWM")?);
    let (mut inside, starts) = kills(inside, &folder, keys)?;
    let longest = starts.iter().copied().fold(0.0, f64::max);
    figures.push(
        Figure::new("start after kill -9 under load, to the first read", time(median(starts)))
            .beside(format!("longest of {KILLS}: {}", time(longest)))
            .goal("under 1 s", longest < 1e9),
    );
    inside.ask(&format!("load 0 {}", keys / 2))?;
    let overwritten = inside.ask(&format!("settle {SETTLE_SECONDS}"))?;
    figures.push(space("half of it written anew", &overwritten, live)?);
    inside.ask(&format!("delete 0 {}", keys / 10 * 9))?;
    let deleted = inside.ask(&format!("settle {SETTLE_SECONDS}"))?;
    figures.push(space("nine tenths deleted", &deleted, live / 10.0)?);
    let peak = peak.max(memory_kib(inside.id(), "VmHWM")?) as f64 / 1024.0;
    let resident = resident as f64 / 1024.0;
    figures.push(
        Figure::new("resident memory, filled, read and written", format!("{resident:.0} MB"))
            .beside(format!("highest of all of this {peak:.0} MB"))
            .goal("under 300 MB", peak < 300.0),
    );
    Ok(figures)
}

fn gets(inside: &mut Inside, keys: u64) -> Result<Figure> {
    let mut rounds = Vec::new();
    for _ in 0..GETS {
        rounds.push(inside.ask(&format!("get {GET_SECONDS} {keys} {WRITES}"))?);
    }
    let pick = |name: &str| -> Result<f64> {
        let values: Result<Vec<f64>> = rounds.iter().map(|round| figure(round, name)).collect();
        Ok(median(values?))
    };
    let p99 = pick("p99")?;
    let beside = format!(
        "p50 {}, one after the other {}; durable commits beside it: {}",
        time(pick("p50")?),
        rate(pick("rate")?),
        rate(pick("writes")?)
    );
    Ok(Figure::new("random get in process, with durable commits going on: p99", time(p99))
        .beside(beside)
        .goal("under 100 us", p99 < 100e3))
}

/// Kills the process while it writes, and starts it again; how long that took to the first read, in nanoseconds.
fn kills(mut inside: Inside, folder: &std::path::Path, keys: u64) -> Result<(Inside, Vec<f64>)> {
    let mut starts = Vec::new();
    for _ in 0..KILLS {
        inside.ask(&format!("write {WRITERS} {keys}"))?;
        thread::sleep(Duration::from_secs(2));
        inside.kill()?;
        let begun = Instant::now();
        inside = Inside::start("large", folder)?;
        starts.push(begun.elapsed().as_secs_f64() * 1e9);
        ensure!(inside.first["found"] == true, "a key is gone");
    }
    Ok((inside, starts))
}

fn space(when: &str, settled: &Value, live: f64) -> Result<Figure> {
    let (disk, index, log) =
        (figure(settled, "disk")?, figure(settled, "index")?, figure(settled, "log")?);
    let beside = format!(
        "index {:.0} MB, log {:.0} MB, live {:.0} MB; at rest after {:.0} s",
        index / 1e6,
        log / 1e6,
        live / 1e6,
        figure(settled, "seconds")?
    );
    Ok(Figure::new(&format!("bytes on disk by bytes alive, {when}"), format!("{:.2}", disk / live))
        .beside(beside)
        .goal("at most 2", disk / live <= 2.0))
}
