//! How many allocations a call pays for each policy: one number a line, in the order of the cases, for `policies`.
#![expect(clippy::print_stdout, reason = "a benchmark reports on its standard output")]

mod cases;
#[expect(dead_code, reason = "the binary's own world, of which a part is used")]
#[expect(unreachable_pub, reason = "public in the crate it is from")]
#[path = "../../crates/outrigger/src/world.rs"]
mod world;

use cases::{Case, Runner};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CALLS: u64 = 10_000;

struct Counter;

impl Runner for Counter {
    fn case(&mut self, _: Case, mut work: Box<dyn FnMut(u64) + '_>) {
        // What is made on the first calls is kept.
        (0..CALLS).for_each(&mut work);
        let region = Region::new(ALLOCATOR);
        (CALLS..2 * CALLS).for_each(&mut work);
        let count = region.change().allocations as f64 / CALLS as f64;
        // One in thousands is a table that grows.
        println!("{}", (count * 100.0).round() / 100.0);
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for timers");
    let _inside = runtime.enter();
    let world = world::RealWorld::new();
    cases::all(&mut Counter, &(world as _));
}
