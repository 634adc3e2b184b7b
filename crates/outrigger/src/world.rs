//! The real world: tokio's timers and tasks, the machine's clocks, the kernel's entropy.
//!
//! The only module of the house that reads a clock, asks for entropy or starts a bare task. Everybody else gets an
//! `Arc<dyn World>` and cannot tell this one from the simulated one. In return every task has a name and an owner: the
//! world counts what runs, so that a drain can wait for it and say what it waits for.

use outrigger_kernel::{BoxFuture, Mono, TaskHandle, Wall, World};
use std::{
    cell::Cell,
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{runtime::Handle, time::Sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The world a running binary lives in.
#[derive(Debug)]
pub struct RealWorld {
    started: Instant,
    runtime: Handle,
    tasks: TaskTracker,
    end: Arc<End>,
    deadlines: Arc<Deadlines>,
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
            end: Arc::default(),
            deadlines: Arc::default(),
            running: Arc::default(),
        })
    }

    /// Ends every task at its next suspension point and waits for them, at most `patience`. Says which were left.
    pub async fn end(&self, patience: Duration) -> Vec<&'static str> {
        self.end.come();
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

/// What sleeps at least so long is a deadline, most probably: it is given up long before it is over.
const DEADLINE_MIN: Duration = Duration::from_secs(1);
/// Most timers that are kept: each keeps the memory of the task that waited for it last.
const TIMERS_MAX: usize = 256;

/// Timers of deadlines that were not needed, still running. The next deadline, a later one, takes over such a timer as it
/// is, and sets it anew only should it ever ring: so a request that has a deadline arms no timer and disarms none, both of
/// which take the one lock that all timers share.
#[derive(Debug, Default)]
struct Deadlines(Mutex<Vec<Pin<Box<Sleep>>>>);

impl Deadlines {
    /// A timer that rings at `until` or before.
    fn take(&self, until: tokio::time::Instant) -> Option<Pin<Box<Sleep>>> {
        let mut timer = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        if timer.is_elapsed() || timer.deadline() > until {
            timer.as_mut().reset(until);
        }
        Some(timer)
    }

    fn give(&self, timer: Pin<Box<Sleep>>) {
        let mut timers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if timers.len() < TIMERS_MAX {
            timers.push(timer);
        }
    }
}

/// A sleep on a timer that may ring too early.
struct Nap {
    /// Until it is over.
    timer: Option<Pin<Box<Sleep>>>,
    until: tokio::time::Instant,
    home: Arc<Deadlines>,
}

impl Future for Nap {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        while let Some(timer) = &mut this.timer {
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if timer.deadline() >= this.until {
                this.timer = None;
            } else {
                timer.as_mut().reset(this.until);
            }
        }
        Poll::Ready(())
    }
}

impl Drop for Nap {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            self.home.give(timer);
        }
    }
}

/// The end of the world, which every task looks out for.
#[derive(Debug, Default)]
struct End {
    /// Whether it is here. Asked at every poll of every task, which the token, with its lock, would not bear.
    here: AtomicBool,
    token: CancellationToken,
}

impl End {
    fn come(&self) {
        self.here.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Runs `task` until it is done, or until the end.
    async fn or(&self, mut task: BoxFuture<'static, ()>) {
        let (mut end, mut listens) = (pin!(self.token.cancelled()), false);
        poll_fn(|cx| {
            // Once the token knows this task it need not be asked again: a task's waker stays the same.
            if !listens || self.here.load(Ordering::Acquire) {
                listens = true;
                if end.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
            }
            task.as_mut().poll(cx)
        })
        .await;
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
        let new = || {
            let _inside = self.runtime.enter();
            Box::pin(tokio::time::sleep(duration))
        };
        if duration < DEADLINE_MIN {
            return new();
        }
        let until = tokio::time::Instant::now() + duration;
        let timer = self.deadlines.take(until).unwrap_or_else(new);
        Box::pin(Nap { timer: Some(timer), until, home: Arc::clone(&self.deadlines) })
    }

    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        let counted = Counted::new(name, &self.running);
        let end = Arc::clone(&self.end);
        let work = async move {
            let _counted = counted;
            end.or(task).await;
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
    use outrigger_kernel::{BoxFuture, World};
    use std::{collections::BTreeSet, future::poll_fn, task::Poll, time::Duration};

    #[tokio::test]
    async fn random_numbers_do_not_repeat() {
        let world = RealWorld::new();
        let drawn: BTreeSet<u64> = (0..10_000).map(|_| world.random()).collect();
        assert_eq!(drawn.len(), 10_000);
    }

    async fn is_pending(work: &mut BoxFuture<'static, ()>) -> bool {
        poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_pending())).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_used_again_rings_neither_early_nor_late() {
        let world = RealWorld::new();
        let second = Duration::from_secs(1);
        let begun = tokio::time::Instant::now();
        for seconds in [5, 60, 3] {
            // Given up at once: its timer goes on.
            let mut deadline = world.sleep(second * seconds);
            assert!(is_pending(&mut deadline).await);
        }
        assert_eq!(world.deadlines.0.lock().unwrap().len(), 1);
        for (seconds, at) in [(10, 10), (2, 12), (7, 19)] {
            world.sleep(second * seconds).await;
            assert_eq!(begun.elapsed().as_secs(), at);
            let mut longer = world.sleep(second * 4);
            assert!(is_pending(&mut longer).await);
        }
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
