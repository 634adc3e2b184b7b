//! What the figures were measured on, and the price of its disk.

use anyhow::Result;
use std::{fs, io::Write, time::Instant};

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

/// What one `fdatasync` after a small append costs here: the price of a durable answer. Median, in nanoseconds.
pub(crate) fn sync_price() -> Result<f64> {
    let path = crate::process::scratch()?.join("sync-price");
    let mut file = fs::File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..200 {
        file.write_all(&[7; 512])?;
        let started = Instant::now();
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64() * 1e9);
    }
    fs::remove_file(path)?;
    Ok(crate::report::median(times))
}
