//! The kinds of metric that are recorded on the hot path, without a lock.

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric, family::MetricConstructor},
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// A number that only grows. Unlike the library's counter it keeps the exact name it is registered under: half of the
/// names that dashboards know do not end in `_total`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<AtomicU64>);

impl Tally {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
}

impl TypedMetric for Tally {
    // The text writer turns "unknown" into "counter": see `super::text`.
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for Tally {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.0.load(Ordering::Relaxed))
    }
    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// A number that says how something stands now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Level(Arc<AtomicU64>);

impl Level {
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
}

impl TypedMetric for Level {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for Level {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.0.load(Ordering::Relaxed))
    }
    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// How values spread over buckets. Counts are atomics, so that observing never waits.
#[derive(Clone, Debug)]
pub(crate) struct Spread(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    bounds: Arc<[f64]>,
    counts: Box<[AtomicU64]>,
    /// Thousandths, so that the sum can be an integer.
    sum_milli: AtomicU64,
}

impl Spread {
    fn new(bounds: Arc<[f64]>) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Buckets { bounds, counts, sum_milli: AtomicU64::new(0) }))
    }

    /// Records a value given in thousandths: microseconds for milliseconds.
    pub(crate) fn observe_milli(&self, milli: u64) {
        let value = lossy(milli) / 1000.0;
        let bucket = self.0.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.0.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum_milli.fetch_add(milli, Ordering::Relaxed);
    }
}

/// Counts beyond 2^53 lose their last digits, which nobody reads.
#[expect(clippy::cast_precision_loss, reason = "a metric of 16 digits is precise enough")]
fn lossy(n: u64) -> f64 {
    n as f64
}

impl TypedMetric for Spread {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Spread {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let bounds = self.0.bounds.iter().copied().chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, n)| n).sum();
        let sum = lossy(self.0.sum_milli.load(Ordering::Relaxed)) / 1000.0;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Makes spreads with given bounds.
#[derive(Clone, Debug)]
pub(crate) struct Bounds(pub(crate) Arc<[f64]>);

impl MetricConstructor<Spread> for Bounds {
    fn new_metric(&self) -> Spread {
        Spread::new(Arc::clone(&self.0))
    }
}
