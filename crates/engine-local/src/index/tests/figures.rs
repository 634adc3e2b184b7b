//! What the index costs, on a real disk: bytes written and processor time for a byte of payload. Run by hand:
//!
//! ```text
//! cargo test --release -p outrigger-engine-local --lib -- --ignored --nocapture what_the_index_costs
//! ```
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "it measures, for whoever runs it"
)]

use super::*;
use crate::{counted::Counted, disk::FolderDisk};
use std::{sync::atomic::Ordering, time::Instant};

/// Processor time of this thread, in nanoseconds.
fn processor() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn random_key(number: u64) -> Bytes {
    Bytes::from(format!("bench/{number:016x}"))
}

struct Cost {
    index: Index,
    written: Arc<std::sync::atomic::AtomicU64>,
    revision: u64,
    payload: u64,
    apply_ns: u64,
    tidy_ns: u64,
    drop_ns: u64,
    cells: u64,
}

impl Cost {
    fn new(dir: &std::path::Path) -> Self {
        let (disk, written) = Counted::over(Arc::new(FolderDisk::open(dir).unwrap()));
        let options = IndexOptions { cache_bytes: 32 << 20, layer_bytes: 24 << 20 };
        let index = Index::create(disk, options, checkpoint(0)).unwrap();
        Self {
            index,
            written,
            revision: 0,
            payload: 0,
            apply_ns: 0,
            tidy_ns: 0,
            drop_ns: 0,
            cells: 0,
        }
    }

    fn layer(&mut self, changes: Vec<Change>) {
        self.revision += 1;
        self.cells += changes.len() as u64;
        let bytes = |change: &Change| {
            change.key.len() + change.value.as_ref().map_or(0, |value| value.bytes.len())
        };
        self.payload += changes.iter().map(|change| bytes(change) as u64).sum::<u64>();
        let mut layer = Layer::default();
        for change in changes {
            layer.apply(&plan(self.revision, Vec::new(), vec![change]));
        }
        let began = processor();
        self.index.apply(layer.iter(), checkpoint(self.revision), &mut |_| {}).unwrap();
        self.apply_ns += processor() - began;
        let began = processor();
        maintain(&self.index);
        self.tidy_ns += processor() - began;
        let began = processor();
        drop(layer);
        self.drop_ns += processor() - began;
    }

    fn say(&mut self, what: &str) {
        let written = self.written.swap(0, Ordering::Relaxed);
        let figures = figures(&self.index);
        let cells = self.cells.max(1);
        println!(
            "{what}: {} cells, {:.2} bytes written for one; apply {} ns, tidy {} ns, drop {} ns a cell; {} runs, {} files, {:.1} MB",
            self.cells,
            written as f64 / self.payload.max(1) as f64,
            self.apply_ns / cells,
            self.tidy_ns / cells,
            self.drop_ns / cells,
            self.index.view().runs().len(),
            figures.files,
            figures.disk_bytes as f64 / 1e6,
        );
        (self.payload, self.cells) = (0, 0);
        (self.apply_ns, self.tidy_ns, self.drop_ns) = (0, 0, 0);
    }

    /// How long reading takes, in nanoseconds: a random get, and the first row from a random key on.
    fn read(&self, keys: u64, key: impl Fn(u64) -> Bytes) {
        let (view, mut random) = (self.index.view(), Random(99));
        let count = 20_000;
        let began = Instant::now();
        for _ in 0..count {
            view.get(&key(random.next() % keys)).unwrap();
        }
        let get = began.elapsed().as_nanos() / count;
        let began = Instant::now();
        for _ in 0..2_000 {
            let start = key(random.next() % keys);
            view.range(&KeyRange { start, end: None }, Direction::Forward).next();
        }
        println!("  get {get} ns, seek {} ns", began.elapsed().as_nanos() / 2_000);
    }
}

const LAYER_ROWS: u64 = 57_000;

#[test]
#[ignore = "measures, for minutes"]
fn what_the_index_costs() {
    let layers: u64 = std::env::var("LAYERS").map_or(39, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut cost = Cost::new(dir.path());
    let value =
        |bytes: usize| Value { bytes: vec![7; bytes].into(), revision: 1, expires_at: None };
    let key_of = |n: u64| random_key(Random(n).next());
    for layer in 0..layers {
        let rows = layer * LAYER_ROWS..(layer + 1) * LAYER_ROWS;
        let put = |n| Change { key: key_of(n), value: Some(value(256)) };
        cost.layer(rows.map(put).collect());
    }
    cost.say("random keys");
    let keys = layers * LAYER_ROWS;
    cost.read(keys, key_of);
    for layer in 0..layers / 2 {
        let mut random = Random(layer + 1_000);
        let put = |_| Change { key: key_of(random.next() % keys), value: Some(value(256)) };
        cost.layer((0..LAYER_ROWS).map(put).collect());
    }
    cost.say("half of it anew");
    cost.read(keys, key_of);
    for layer in 0..layers / 3 {
        let rows = layer * 3 * LAYER_ROWS..(layer + 1) * 3 * LAYER_ROWS;
        let delete = |n| Change { key: key_of(n), value: None };
        cost.layer(rows.filter(|n| n % 10 != 0).map(delete).collect());
    }
    cost.say("nine tenths deleted");
    let dir = tempfile::tempdir().unwrap();
    let mut large = Cost::new(dir.path());
    for layer in 0..20 {
        let put = |n: u64| Change {
            key: key_of(Random(layer * 400 + n).next() % 2_000),
            value: Some(value(64 << 10)),
        };
        large.layer((0..400).map(put).collect());
    }
    large.say("large values, put again");
}
