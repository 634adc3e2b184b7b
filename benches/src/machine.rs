//! What the figures were measured on, and the price of its disk.

use anyhow::Result;
use std::{
    fs,
    io::Write,
    thread,
    time::{Duration, Instant},
};

/// Processor, cores, memory.
pub(crate) fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split(':').nth(1).unwrap_or_default().trim().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory_kib: u64 =
        field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    let model = field(&read("/proc/cpuinfo"), "model name");
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{model}, {cores} cores, {} GiB, Linux {}", memory_kib >> 20, kernel.trim())
}

/// How much else wants the processor: the mean number of ready tasks over the last minute.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// What one `fdatasync` after a 512-byte write costs here, in nanoseconds: the price of a durable answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SyncPrice {
    /// To a file that grows with every write, as a naive log does.
    pub(crate) growing: f64,
    /// To a file that has its size already, as logs that care do; Outrigger's does.
    pub(crate) sized: f64,
}

/// Medians over some hundred syncs on the file system where everything is measured.
pub(crate) fn sync_price() -> Result<SyncPrice> {
    Ok(SyncPrice {
        growing: median_sync(0, Duration::ZERO)?,
        sized: median_sync(16 << 20, Duration::ZERO)?,
    })
}

/// What a sync costs a program that has done nothing for `pause`, nor anybody else: disk and processor have to wake up.
pub(crate) fn sync_price_after(pause: Duration) -> Result<f64> {
    median_sync(16 << 20, pause)
}

fn median_sync(size: u64, pause: Duration) -> Result<f64> {
    let path = crate::process::scratch()?.join("sync-price");
    let mut file = fs::File::create(&path)?;
    file.set_len(size)?;
    let mut times = Vec::new();
    for _ in 0..300 {
        thread::sleep(pause);
        file.write_all(&[7; 512])?;
        let started = Instant::now();
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64() * 1e9);
    }
    fs::remove_file(path)?;
    Ok(crate::report::median(times))
}
