//! The engine with all its threads and several clients, and a crash at many steps of whatever order came of it.
//!
//! The disk writes down every step, and every answer is noted with how many steps there had been, so a crash can be put
//! anywhere afterwards although the run itself cannot be repeated: a failure shows the step and the survivors, and the
//! tape that it is about is gone. What the recovery makes of an image is repeatable.

use crate::{
    crashes,
    dice::{Dice, Still},
    run::{small, write},
    script,
    story::{Clocks, Story},
    verdict::{Count, Depth},
};
use outrigger_engine_local::Local;
use outrigger_keyspace::{CommitId, Durability, KeySpace, Transaction, exam::Clock};
use outrigger_sim::disk::{SimDisk, Tape};
use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    thread,
};

const CLIENTS: u64 = 6;
const COMMITS: u64 = 40;

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// Many clients at once; what they were told, and everything that happened to the disk.
fn play(seed: u64) -> Result<(Tape, Story), String> {
    let disk = SimDisk::new(seed);
    let clock = Clock::over(Arc::new(Still::new(seed)));
    let engine = Local::open_on(Arc::new(disk.clone()), clock.clone(), &small(seed))
        .map_err(|error| error.to_string())?;
    let story = Mutex::new(Story::default());
    story.lock().unwrap().tick(0, Clocks::default());
    let client = |number: u64| -> Result<(), String> {
        let mut dice = Dice(seed * 1_000 + number);
        for commit in 0..COMMITS {
            let offer = script::offer(&mut dice, 3_000);
            let now = engine.now();
            let id = u128::from(number) << 64 | u128::from(commit + 1);
            let transaction = Transaction {
                writes: offer.changes.iter().map(|change| write(change, now)).collect(),
                durability: if offer.relaxed { Durability::Relaxed } else { Durability::Flush },
                id: offer.named.then(|| CommitId(id.to_be_bytes())),
                ..Transaction::default()
            };
            let answer = wait_for(engine.commit(transaction.clone()));
            let step = disk.steps();
            let committed = answer.map_err(|error| error.to_string())?;
            story.lock().unwrap().accept(committed, transaction, step)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|n| scope.spawn(move || client(n))).collect();
        clients.into_iter().try_for_each(|client| client.join().unwrap())
    })?;
    // The process ends here, with threads still at work: the tape ends somewhere.
    let tape = disk.tape();
    wait_for(engine.close());
    Ok((tape, story.into_inner().unwrap()))
}

#[test]
fn clients_and_threads_in_any_order_survive_crashes() {
    let mut count = Count::default();
    for seed in 1..=12 / crate::stride(4) as u64 {
        let (tape, story) = play(seed).unwrap();
        let every = 29;
        let wanted = |step: usize| step % every == usize::try_from(seed).unwrap() % every;
        let depth = |step: usize| if step.is_multiple_of(2) { Depth::GoOn } else { Depth::Compare };
        let tried = crashes::on(&tape, &story, seed, wanted, depth).unwrap();
        count.images += tried.images;
    }
    assert!(count.images > 1_000 / crate::stride(10), "{count:?}");
}
