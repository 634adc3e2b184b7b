//! A noisy neighbour, in simulated time: one tenant of two hundred sends calls that hang for 30 s, a thousand a second.
//!
//! The others call five times a second and take 20 ms. With 160 seats for all, the noisy one has them all after a sixth of a
//! second. In 16 cells of ten seats, four cells for each tenant, it has its own four.

use outrigger_kernel::Mono;
use outrigger_resilience::{
    BulkheadSettings, CellBulkhead, CellBulkheadSettings, Entrant, Entry, Hand, Seat, Seats,
};
use std::{cmp::Reverse, collections::BTreeMap};

const MS: u64 = 1_000_000;
const TENANTS: u32 = 200;
const SECONDS: u64 = 30;

/// Runs for half a minute; for each quiet tenant, the share of its calls that was served.
fn served(cells: &CellBulkhead) -> Vec<f64> {
    let hands: Vec<Hand> = (0..TENANTS).map(|tenant| cells.hand(&tenant.to_be_bytes())).collect();
    let mut under_way: BTreeMap<Reverse<(u64, u64)>, Seat> = BTreeMap::new();
    let mut counts = vec![(0_u32, 0_u32); TENANTS as usize];
    let mut number = 0;
    for ms in 0..SECONDS * 1_000 {
        let now = Mono(ms * MS);
        while let Some(first) = under_way.last_entry()
            && first.key().0.0 <= now.0
        {
            drop(first.remove());
        }
        // The noisy one every millisecond, the others every 200, each in its own.
        let quiet = (1..TENANTS).filter(|tenant| ms % 200 == u64::from(*tenant) % 200);
        for tenant in std::iter::once(0).chain(quiet) {
            let took = if tenant == 0 { 30_000 } else { 20 };
            let entry = cells.enter_hand(&hands[tenant as usize], &Entrant::default(), now);
            let count = &mut counts[tenant as usize];
            count.1 += 1;
            // Whoever would have to wait here waits for seats that are not given back, so it counts as lost at once.
            if let Ok(Entry::Seated(seat)) = entry {
                count.0 += 1;
                number += 1;
                under_way.insert(Reverse((now.0 + took * MS, number)), seat);
            }
        }
    }
    counts.iter().skip(1).map(|(good, all)| f64::from(*good) / f64::from(*all)).collect()
}

fn mean(shares: &[f64]) -> f64 {
    shares.iter().sum::<f64>() / shares.len() as f64
}

#[test]
fn shuffled_cells_keep_the_others_out_of_it() {
    for seed in 0..5 {
        let settings = CellBulkheadSettings { seed, ..CellBulkheadSettings::default() };
        let shares = served(&CellBulkhead::new(settings));
        let errors = 1.0 - mean(&shares);
        let hurt = shares.iter().filter(|share| **share < 0.999).count();
        eprintln!("seed {seed}: errors of the others {:.4} %, {hurt} of 199 hurt", errors * 100.0);
        assert!(errors < 0.01, "seed {seed}: {errors}");
        assert!(hurt <= 1, "seed {seed}: {hurt}");
    }
}

#[test]
fn one_pool_for_all_is_the_noisy_ones() {
    let cell = BulkheadSettings { seats: Seats::Fixed(160), ..BulkheadSettings::default() };
    let settings = CellBulkheadSettings { cells: 1, hand: 1, cell, seed: 0 };
    let shares = served(&CellBulkhead::new(settings));
    assert!(mean(&shares) < 0.1, "the experiment proves nothing: {}", mean(&shares));
}
