//! The one door to everything a program cannot compute: clocks, randomness, tasks.
//!
//! The real world lives in the binary (`outrigger::world`), the simulated one in `outrigger-sim`. Code that holds a
//! `World` runs unchanged in both, which is what makes a failing run repeatable.

use crate::{Mono, Wall};
use std::{fmt, future::Future, pin::Pin, time::Duration};

/// A future with its type erased, as object-safe traits need it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Clocks, randomness and tasks.
pub trait World: Send + Sync + 'static {
    /// The wall clock now.
    fn wall(&self) -> Wall;

    /// The monotonic clock now.
    fn mono(&self) -> Mono;

    /// 64 random bits; unpredictable in the real world, seeded in the simulated one.
    fn random(&self) -> u64;

    /// A future that is ready once `duration` has passed on the monotonic clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Runs `task` in the background until it ends or the world is shut down. `name` names it in diagnostics.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle;
}

/// A running background task. Dropping the handle lets the task go on; [`TaskHandle::abort`] ends it.
pub struct TaskHandle(Option<Box<dyn FnOnce() + Send + Sync>>);

impl TaskHandle {
    /// A handle whose `abort` runs `stop` once.
    #[must_use]
    pub fn new(stop: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(stop)))
    }

    /// Stops the task at its next suspension point.
    pub fn abort(mut self) {
        if let Some(stop) = self.0.take() {
            stop();
        }
    }
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskHandle")
    }
}
