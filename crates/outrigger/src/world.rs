//! The real world: tokio's timers and tasks, the machine's clocks, the kernel's entropy.
//!
//! The only module of the house that reads a clock, asks for entropy or starts a bare task. Everybody else gets an
//! `Arc<dyn World>` and cannot tell this one from the simulated one. In return every task has a name and an owner: the
//! world counts what runs, so that a drain can wait for it and say what it waits for.

use outrigger_kernel::{BoxFuture, Mono, TaskHandle, Wall, World};
use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The world a running binary lives in.
#[derive(Debug)]
pub struct RealWorld {
    started: Instant,
    runtime: Handle,
    tasks: TaskTracker,
    ended: CancellationToken,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl RealWorld {
    /// A world on the tokio runtime of the caller.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this module is where the clock is read")]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            ended: CancellationToken::new(),
            running: Arc::default(),
        })
    }

    /// Ends every task at its next suspension point and waits for them, at most `patience`. Says which were left.
    pub async fn end(&self, patience: Duration) -> Vec<&'static str> {
        self.ended.cancel();
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => Vec::new(),
            () = self.sleep(patience) => self.running(),
        }
    }

    /// The names of the tasks that run now.
    #[must_use]
    pub fn running(&self) -> Vec<&'static str> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().filter(|(_, count)| **count > 0).map(|(name, _)| *name).collect()
    }
}

/// Counts a task for as long as it lives, however it ends.
struct Counted {
    name: &'static str,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Counted {
    fn new(name: &'static str, running: &Arc<Mutex<BTreeMap<&'static str, usize>>>) -> Self {
        *running.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
        Self { name, running: Arc::clone(running) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(self.name) {
            *count = count.saturating_sub(1);
        }
    }
}

impl World for RealWorld {
    #[expect(clippy::disallowed_methods, reason = "this module is where the clock is read")]
    fn wall(&self) -> Wall {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn mono(&self) -> Mono {
        Mono(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn random(&self) -> u64 {
        GENERATOR.with(|state| {
            let (value, next) = xoshiro256_starstar(state.get());
            state.set(next);
            value
        })
    }

    #[expect(clippy::disallowed_methods, reason = "this module is where sleeping is done")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        // tokio's timer must be made inside its runtime; callers may be on an engine's own thread.
        let _inside = self.runtime.enter();
        Box::pin(tokio::time::sleep(duration))
    }

    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        let counted = Counted::new(name, &self.running);
        let ended = self.ended.clone();
        let work = async move {
            let _counted = counted;
            let _ = ended.run_until_cancelled(task).await;
        };
        let handle = self.tasks.spawn_on(work, &self.runtime).abort_handle();
        TaskHandle::new(move || handle.abort())
    }
}

thread_local! {
    /// One generator per thread: no lock, no shared cache line, and no thread can guess another's stream.
    static GENERATOR: Cell<[u64; 4]> = Cell::new(seed());
}

fn seed() -> [u64; 4] {
    let mut bytes = [0_u8; 32];
    if getrandom::fill(&mut bytes).is_err() {
        // No entropy device: std keys its hash maps from whatever the platform has, which is the best left.
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&hash_key().to_ne_bytes());
        }
    }
    let mut words = [1_u64; 4];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = chunk.iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
    }
    // All zero is the one state the generator cannot leave.
    words[0] |= u64::from(words == [0; 4]);
    words
}

fn hash_key() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(0)
}

/// One step of xoshiro256** (Blackman and Vigna 2018): fast, and good enough for ids and jitter. Not for secrets.
fn xoshiro256_starstar(state: [u64; 4]) -> (u64, [u64; 4]) {
    let [mut a, mut b, mut c, mut d] = state;
    let value = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
    let t = b << 17;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = d.rotate_left(45);
    (value, [a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::RealWorld;
    use outrigger_kernel::World;
    use std::{collections::BTreeSet, time::Duration};

    #[tokio::test]
    async fn random_numbers_do_not_repeat() {
        let world = RealWorld::new();
        let drawn: BTreeSet<u64> = (0..10_000).map(|_| world.random()).collect();
        assert_eq!(drawn.len(), 10_000);
    }

    #[tokio::test]
    async fn the_end_of_the_world_ends_its_tasks() {
        let world = RealWorld::new();
        let _forever = world.spawn("forever", Box::pin(std::future::pending()));
        assert_eq!(world.running(), ["forever"]);
        assert!(world.end(Duration::from_secs(5)).await.is_empty());
        assert!(world.running().is_empty());
    }

    #[tokio::test]
    async fn an_aborted_task_is_no_longer_counted() {
        let world = RealWorld::new();
        let task = world.spawn("stopped", Box::pin(std::future::pending()));
        task.abort();
        assert!(world.end(Duration::from_secs(5)).await.is_empty());
    }
}
