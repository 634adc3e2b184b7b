//! What a breaker keeps behind its lock, and the ramp, which needs nothing else.

use super::{Forced, Open, Phase};
use outrigger_kernel::Mono;
use std::time::Duration;

pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) generation: u64,
    pub(super) forced: Option<Forced>,
    pub(super) failures: u64,
    pub(super) failures_in_row: u64,
    /// How many had succeeded when the last one failed.
    pub(super) successes_at_failure: u64,
    pub(super) opened: u64,
    /// How often it opened without having been well in between; what the open time grows by.
    pub(super) relapses: u32,
    /// How long it was open last.
    pub(super) open_for: Duration,
    pub(super) closed_since: Mono,
    /// Until when the other side asked to be left alone.
    pub(super) not_before: Mono,
    pub(super) ramp_until: Option<Mono>,
    pub(super) ramp_length: Duration,
    /// What the calls of the ramp have saved up, in thousandths of a call.
    pub(super) credit: u32,
    pub(super) seed: u64,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            phase: Phase::Closed,
            generation: 0,
            forced: None,
            failures: 0,
            failures_in_row: 0,
            successes_at_failure: 0,
            opened: 0,
            relapses: 0,
            open_for: Duration::ZERO,
            closed_since: Mono(0),
            not_before: Mono(0),
            ramp_until: None,
            ramp_length: Duration::ZERO,
            credit: 0,
            seed,
        }
    }

    pub(super) fn ramp_from(&mut self, now: Mono, ramp: Duration) {
        self.ramp_until = (!ramp.is_zero()).then(|| now.plus(ramp));
        self.ramp_length = ramp;
        self.credit = 1_000;
    }

    /// How many calls in a thousand are admitted at `now`, while ramping.
    pub(super) fn ramp_share(&self, now: Mono) -> Option<u32> {
        let left = self.ramp_until?.since(now);
        if left.is_zero() {
            return None;
        }
        let third = self.ramp_length / 3;
        Some(if left > third * 2 {
            100
        } else if left > third {
            250
        } else {
            500
        })
    }

    /// Admits the share of the ramp, evenly spread over the calls.
    pub(super) fn ramp_on(&mut self, now: Mono) -> Result<(), Open> {
        let Some(share) = self.ramp_share(now) else { return Ok(()) };
        self.credit += share;
        if self.credit < 1_000 {
            return Err(Open::Ramping);
        }
        self.credit = (self.credit - 1_000).min(1_000);
        Ok(())
    }
}
