//! # Sim: worlds that a test owns
//!
//! [`SimWorld`] gives code under test a [`World`] whose clocks follow tokio's, so that
//! `#[tokio::test(start_paused = true)]` makes hours pass in milliseconds, and whose randomness comes from a seed, so
//! that a failing run can be repeated. [`disk::SimDisk`] gives it a disk that loses, tears and denies whatever a real one
//! may.
//!
//! The invariant: two runs with the same seed see the same random numbers.
#![forbid(unsafe_code)]

pub mod disk;

use outrigger_kernel::{BoxFuture, Mono, TaskHandle, Wall, World};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

/// A world over tokio's clock (pausable) and a seeded random stream.
#[derive(Debug)]
pub struct SimWorld {
    started: tokio::time::Instant,
    wall_start_ms: u64,
    wall_shift_ms: AtomicI64,
    stream: AtomicU64,
}

impl SimWorld {
    /// A world that begins on 2026-01-01T00:00:00Z. Must be called inside a tokio runtime.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            started: tokio::time::Instant::now(),
            wall_start_ms: 1_767_225_600_000,
            wall_shift_ms: AtomicI64::new(0),
            stream: AtomicU64::new(seed),
        })
    }

    /// Makes the wall clock jump by `by_ms`; the monotonic clock does not notice.
    pub fn jump_wall(&self, by_ms: i64) {
        self.wall_shift_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl World for SimWorld {
    fn wall(&self) -> Wall {
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let shift = self.wall_shift_ms.load(Ordering::SeqCst);
        Wall((self.wall_start_ms + elapsed_ms).saturating_add_signed(shift))
    }

    fn mono(&self) -> Mono {
        Mono(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn random(&self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014): one addition per number, so concurrent draws need no lock.
        let state = self
            .stream
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst)
            .wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(state)
    }

    #[expect(clippy::disallowed_methods, reason = "this is a world: it is where sleeping is done")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    #[expect(clippy::disallowed_methods, reason = "this is a world: it is where tasks start")]
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) -> TaskHandle {
        let handle = tokio::spawn(task).abort_handle();
        TaskHandle::new(move || handle.abort())
    }
}

/// How SplitMix64 makes a random number of its state.
fn mix(state: u64) -> u64 {
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
