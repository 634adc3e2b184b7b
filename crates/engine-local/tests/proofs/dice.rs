//! Random numbers by a seed (SplitMix64), and a world that has nothing else.

use outrigger_kernel::{BoxFuture, Mono, TaskHandle, Wall, World};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.draw() % limit.max(1) as u64).unwrap()
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// What an engine without threads needs of a world: random numbers. Time is a `Clock`'s on top of it.
#[derive(Debug)]
pub(crate) struct Still(AtomicU64);

impl Still {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl World for Still {
    fn wall(&self) -> Wall {
        Wall::default()
    }
    fn mono(&self) -> Mono {
        Mono::default()
    }
    fn random(&self) -> u64 {
        Dice(self.0.fetch_add(1, Ordering::Relaxed)).draw()
    }
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
    fn spawn(&self, _: &'static str, _: BoxFuture<'static, ()>) -> TaskHandle {
        TaskHandle::new(|| ())
    }
}
