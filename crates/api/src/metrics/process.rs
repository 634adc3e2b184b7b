//! What the operating system says of this process, read when somebody asks.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use std::{fmt, fs};

/// Clock ticks a second in `/proc`; a constant of the Linux interface, whatever the kernel was built with.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc/self` at every scrape. Where there is none, there are no such metrics.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) version: &'static str,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| -> fmt::Result {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            gauge.encode(metric)
        };
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = field(&status, "VmRSS:").map(|kib| kib * 1024.0);
        gauge("process_resident_memory_bytes", "Resident memory.", resident)?;
        gauge("process_threads", "Threads.", field(&status, "Threads:"))?;
        gauge("process_open_fds", "Open file descriptors.", open_files())?;
        gauge("process_cpu_seconds_total", "User and system CPU time.", cpu_seconds())?;
        let mut metric = encoder.encode_descriptor(
            "outrigger_build_info",
            "The version that runs.",
            None,
            MetricType::Gauge,
        )?;
        let labels = [("version", self.version)];
        ConstGauge::new(1_i64).encode(metric.encode_family(&labels)?)
    }
}

fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn open_files() -> Option<f64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    u32::try_from(count).ok().map(f64::from)
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold spaces; count from behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}
