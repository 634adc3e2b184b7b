//! What a call pays for each policy when everything is well, in nanoseconds, beside the crates people use for it.
//!
//! Batches of about 30 us, far below a slice of the scheduler, so that one that was interrupted is an outlier; every case gets a
//! quarter of a second in each of three rounds that alternate through all cases; reported is the median of the rounds' medians.
//! A service is made once; what is timed is `poll_ready`, `call` and the first poll, of a service that answers at once. The world
//! and the allocator are the binary's.
#![expect(clippy::print_stdout, reason = "a benchmark reports on its standard output")]
#![expect(clippy::disallowed_methods, reason = "this measures what the clock says")]

mod cases;
#[expect(dead_code, reason = "the binary's own world, of which a part is used")]
#[expect(unreachable_pub, reason = "public in the crate it is from")]
#[path = "../../crates/outrigger/src/world.rs"]
mod world;

use cases::{Case, Runner};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

// The binary's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: Duration = Duration::from_micros(30);
const TURN: Duration = Duration::from_millis(250);
const ROUNDS: usize = 3;

#[derive(Default)]
struct Timer {
    medians: BTreeMap<usize, (Case, Vec<f64>)>,
    next: usize,
}

impl Runner for Timer {
    fn case(&mut self, case: Case, mut work: Box<dyn FnMut(u64) + '_>) {
        let index = self.next;
        self.next += 1;
        let (mut counter, mut per_batch) = (0_u64, 16_u64);
        let mut batch = |per_batch: u64| {
            let begun = Instant::now();
            for _ in 0..per_batch {
                counter += 1;
                work(counter);
            }
            begun.elapsed()
        };
        while batch(per_batch) < BATCH && per_batch < 1 << 20 {
            per_batch *= 2;
        }
        let (begun, mut batches) = (Instant::now(), Vec::with_capacity(20_000));
        while begun.elapsed() < TURN && batches.len() < 20_000 {
            batches.push(batch(per_batch).as_nanos() as f64 / per_batch as f64);
        }
        batches.drain(..batches.len() / 10);
        self.medians.entry(index).or_insert((case, Vec::new())).1.push(median(batches));
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What `policy_allocations` has written: allocations of each case, in their order.
fn allocations() -> Vec<String> {
    let path = std::env::var("OUTRIGGER_ALLOCATIONS").unwrap_or_default();
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(ToOwned::to_owned).collect()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for timers");
    let _inside = runtime.enter();
    let world = world::RealWorld::new();
    let mut timer = Timer::default();
    for _ in 0..ROUNDS {
        timer.next = 0;
        cases::all(&mut timer, &(world.clone() as _));
    }
    let counted = allocations();
    println!("| policy | who | ns | allocations | of the best other |\n|---|---|---|---|---|");
    let all: Vec<(Case, f64)> =
        timer.medians.into_values().map(|(case, rounds)| (case, median(rounds))).collect();
    for (index, (case, nanoseconds)) in all.iter().enumerate() {
        let others = all.iter().filter(|(other, _)| other.group == case.group && !other.ours);
        let best = others.map(|(_, other)| *other).fold(f64::NAN, f64::min);
        let ratio = match case.ours && best.is_finite() {
            true => format!("{:.2}", nanoseconds / best),
            false => String::new(),
        };
        let allocations = counted.get(index).map_or("", |count| count.as_str());
        let Case { group, who, .. } = case;
        println!("| {group} | {who} | {nanoseconds:.1} | {allocations} | {ratio} |");
    }
}
