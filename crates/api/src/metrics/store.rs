//! What is told of the store, read when somebody asks.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// How what is kept fares.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreReport {
    /// The data folder, where there is one.
    pub folder: Option<FolderReport>,
    /// Every state store of every app: app, component, what an answered write has survived (`flush`, `relaxed`, or
    /// `memory` where nothing is kept).
    pub components: Vec<(String, String, &'static str)>,
}

/// How the data folder fares.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FolderReport {
    /// Whether this process holds the data folder; not, when it shares the one that another process holds.
    pub holds: bool,
    /// Whether the store has stopped for good.
    pub failed: bool,
    /// Bytes on disk, as far as this process knows.
    pub disk_bytes: u64,
    /// What the engine counts; only where this process holds the folder.
    pub engine: Option<EngineReport>,
}

/// What an engine counts since it was opened, and how large its parts are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EngineReport {
    /// Commits that changed something.
    pub commits: u64,
    /// Flushes of the log that somebody waited for.
    pub flushes: u64,
    /// Bytes written into the log.
    pub log_bytes_written: u64,
    /// Bytes written to have segments of the log ready.
    pub log_bytes_prepared: u64,
    /// Bytes written into the index.
    pub index_bytes_written: u64,
    /// Times that the index was brought up to the log.
    pub checkpoints: u64,
    /// What the log takes on the disk.
    pub log_bytes: u64,
    /// What the index takes on the disk.
    pub index_bytes: u64,
    /// Changes that are in the log and not in the index yet, in memory.
    pub recent_bytes: u64,
    /// Bytes of commits that wait for their turn.
    pub queued_bytes: u64,
    /// How long ago the index was last brought up to the log.
    pub checkpoint_age: Duration,
}

/// Where the report comes from. `None` while there is no store.
pub type StoreSource = dyn Fn() -> Option<StoreReport> + Send + Sync;

/// Asks the source at every scrape, once there is one.
#[derive(Clone, Default)]
pub(super) struct Store(Arc<OnceLock<Box<StoreSource>>>);

impl Store {
    /// The first source stays.
    pub(super) fn follow(&self, source: Box<StoreSource>) {
        drop(self.0.set(source));
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

impl Collector for Store {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(report) = self.0.get().and_then(|source| source()) else { return Ok(()) };
        if let Some(folder) = &report.folder {
            tell_of_folder(&mut encoder, folder)?;
        }
        let mut metric = encoder.encode_descriptor(
            "outrigger_state_store_info",
            "What an answered write to a state store has survived: flush (a power cut), relaxed (the end of the process), memory (nothing).",
            None,
            MetricType::Gauge,
        )?;
        for (app, component, durability) in &report.components {
            let labels =
                [("app_id", app.as_str()), ("component", component), ("durability", durability)];
            ConstGauge::new(1_i64).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn tell_of_folder(encoder: &mut DescriptorEncoder<'_>, report: &FolderReport) -> fmt::Result {
    let mut gauge = |name: &str, help: &str, value: f64| {
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    };
    let yes = |yes: bool| if yes { 1.0 } else { 0.0 };
    gauge(
        "outrigger_store_held",
        "Whether this process holds the data folder (1) or shares what another process holds (0).",
        yes(report.holds),
    )?;
    gauge("outrigger_store_failed", "Whether the store has stopped for good.", yes(report.failed))?;
    gauge("outrigger_store_disk_bytes", "Bytes of the store on disk.", number(report.disk_bytes))?;
    match &report.engine {
        Some(engine) => tell_of_engine(encoder, engine),
        None => Ok(()),
    }
}

fn tell_of_engine(encoder: &mut DescriptorEncoder<'_>, engine: &EngineReport) -> fmt::Result {
    let sizes = [
        ("log", "What the log takes on the disk.", engine.log_bytes),
        ("index", "What the index takes on the disk.", engine.index_bytes),
        ("recent", "Changes in the log and not yet in the index, in memory.", engine.recent_bytes),
        ("queued", "Commits that wait for their turn.", engine.queued_bytes),
    ];
    for (part, help, bytes) in sizes {
        let name = format!("outrigger_store_{part}_bytes");
        let metric = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
        ConstGauge::new(number(bytes)).encode(metric)?;
    }
    let counts = [
        ("commits", "Commits that changed something.", engine.commits),
        ("flushes", "Flushes of the log that somebody waited for.", engine.flushes),
        ("log_written_bytes", "Bytes written into the log.", engine.log_bytes_written),
        (
            "log_prepared_bytes",
            "Bytes written to have log segments ready.",
            engine.log_bytes_prepared,
        ),
        ("index_written_bytes", "Bytes written into the index.", engine.index_bytes_written),
        ("checkpoints", "Times that the index was brought up to the log.", engine.checkpoints),
    ];
    for (what, help, count) in counts {
        let name = format!("outrigger_store_{what}");
        let metric = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
        ConstCounter::new(count).encode(metric)?;
    }
    let metric = encoder.encode_descriptor(
        "outrigger_store_checkpoint_age_seconds",
        "How long ago the index was last brought up to the log.",
        None,
        MetricType::Gauge,
    )?;
    ConstGauge::new(engine.checkpoint_age.as_secs_f64()).encode(metric)
}

/// Exact up to 2^53, which no disk reaches.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and no disk has so many bytes")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::{EngineReport, FolderReport, StoreReport};
    use crate::metrics::Metrics;

    #[test]
    fn the_store_is_told_of_once_there_is_one() {
        let metrics = Metrics::new(None, "1");
        assert!(!metrics.text().contains("outrigger_store"));
        let engine = EngineReport { commits: 5, flushes: 3, ..EngineReport::default() };
        let engine = Some(engine);
        let folder = FolderReport { holds: true, disk_bytes: 7, engine, ..FolderReport::default() };
        let components = vec![("shop".to_owned(), "cache".to_owned(), "relaxed")];
        let report = StoreReport { folder: Some(folder), components };
        metrics.follow_store(move || Some(report.clone()));
        let text = metrics.text();
        for line in [
            "outrigger_store_held 1",
            "outrigger_store_disk_bytes 7",
            "outrigger_store_flushes_total 3",
            "outrigger_state_store_info{app_id=\"shop\",component=\"cache\",durability=\"relaxed\"} 1",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
