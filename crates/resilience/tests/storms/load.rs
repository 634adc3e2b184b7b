//! Who calls: instants fixed in advance, and what became of each call by the second it was meant for.

use outrigger_kernel::{Mono, World};
use outrigger_sim::SimWorld;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// What became of the calls of one second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Second {
    pub(crate) calls: u32,
    pub(crate) good: u32,
    pub(crate) attempts: u32,
}

/// What became of all calls.
#[derive(Clone, Default)]
pub(crate) struct Tally(Arc<Mutex<Vec<Second>>>);

impl Tally {
    /// A call meant for `at` came to this.
    pub(crate) fn note(&self, at: Mono, good: bool, attempts: u32) {
        let second = usize::try_from(at.0 / 1_000_000_000).unwrap();
        let mut seconds = self.0.lock().unwrap();
        if seconds.len() <= second {
            seconds.resize(second + 1, Second::default());
        }
        let noted = &mut seconds[second];
        noted.calls += 1;
        noted.good += u32::from(good);
        noted.attempts += attempts;
    }

    /// All of the seconds from `from` up to `to`.
    pub(crate) fn between(&self, from: usize, to: usize) -> Second {
        let seconds = self.0.lock().unwrap();
        let mut sum = Second::default();
        for second in &seconds[from.min(seconds.len())..to.min(seconds.len())] {
            sum.calls += second.calls;
            sum.good += second.good;
            sum.attempts += second.attempts;
        }
        sum
    }
}

impl Second {
    /// The share that ended well.
    pub(crate) fn goodput(&self) -> f64 {
        f64::from(self.good) / f64::from(self.calls.max(1))
    }

    /// Attempts to each call.
    pub(crate) fn attempts_each(&self) -> f64 {
        f64::from(self.attempts) / f64::from(self.calls.max(1))
    }
}

/// Calls for `seconds`, `rate(second)` of them in each, at random instants of it (so that they come as a Poisson stream).
pub(crate) async fn offer<F>(
    world: &Arc<SimWorld>,
    seconds: u64,
    rate: impl Fn(u64) -> u64,
    call: impl Fn(Mono) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    for second in 0..seconds {
        let begins = Mono(second * 1_000_000_000);
        let mut instants: Vec<u64> =
            (0..rate(second)).map(|_| begins.0 + world.random() % 1_000_000_000).collect();
        instants.sort_unstable();
        for instant in instants {
            let at = Mono(instant);
            let wait = at.since(world.mono());
            if wait > Duration::from_millis(1) {
                world.sleep(wait).await;
            }
            let _task = world.spawn("call", Box::pin(call(at)));
        }
    }
}
