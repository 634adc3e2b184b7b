//! What do two hundred callers notice of one whose calls hang? In this process: the bulkhead, in front of sleep.

use crate::{field::seconds, report::Figure, store, world::RealWorld};
use anyhow::Result;
use outrigger_kernel::World;
use outrigger_resilience::{
    BulkheadSettings, CellBulkhead, CellBulkheadSettings, Ended, Entrant, Entry, Seats,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until};

const TENANTS: u32 = 200;
const USUAL: Duration = Duration::from_millis(20);
const HANGS: Duration = Duration::from_secs(30);
/// Each quiet tenant calls that often.
const PAUSE: Duration = Duration::from_millis(200);

/// Which share of the others' calls was refused or found no seat in time.
async fn lost(cells: CellBulkhead, time: Duration) -> f64 {
    let (cells, world) = (Arc::new(cells), RealWorld::new());
    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let (begun, mut tenants) = (Instant::now(), Vec::new());
    for tenant in 0..TENANTS {
        let (cells, world, counts) = (Arc::clone(&cells), Arc::clone(&world), Arc::clone(&counts));
        tenants.push(tokio::spawn(async move {
            let hand = cells.hand(&tenant.to_be_bytes());
            // The noisy one a thousand times a second, the others not all at once.
            let (pause, work) =
                if tenant == 0 { (Duration::from_millis(1), HANGS) } else { (PAUSE, USUAL) };
            let mut due = begun + pause * tenant / TENANTS;
            while due < begun + time {
                sleep_until(due).await;
                due += pause;
                let entered = cells.enter_hand(&hand, &Entrant::default(), world.mono());
                let seated = matches!(entered, Ok(Entry::Seated(_)));
                if tenant > 0 {
                    counts[usize::from(seated)].fetch_add(1, Relaxed);
                }
                let Ok(Entry::Seated(seat)) = entered else { continue };
                let world = Arc::clone(&world);
                let call = async move {
                    sleep(work).await;
                    seat.finish(Ended::Answered, world.mono());
                };
                drop(tokio::spawn(call));
            }
        }));
    }
    for tenant in tenants {
        drop(tenant.await);
    }
    let [refused, seated] = [0, 1].map(|index: usize| counts[index].load(Relaxed) as f64);
    refused / (refused + seated).max(1.0)
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    let runtime = store::runtime()?;
    let time = seconds(5);
    let measured = |settings: CellBulkheadSettings| {
        let cells = CellBulkhead::new(settings);
        runtime.block_on(async { tokio::spawn(lost(cells, time)).await })
    };
    let shuffled = 100.0 * measured(CellBulkheadSettings::default())?;
    let of = |cells, seats| {
        let cell = BulkheadSettings { seats: Seats::Fixed(seats), ..BulkheadSettings::default() };
        CellBulkheadSettings { cells, hand: 1, cell, seed: 0 }
    };
    let (one, four) = (100.0 * measured(of(1, 160))?, 100.0 * measured(of(4, 40))?);
    Ok(vec![
        Figure::new(
            "one of 200 callers hangs 1,000 times a second: calls of the others refused, in 16 cells, four for each",
            format!("{shuffled:.2} %"),
        )
        .beside(format!("160 seats for all: {one:.0} %; four cells, one for each: {four:.0} %"))
        .goal("under 1 %", shuffled < 1.0),
    ])
}
