//! The sliding counter: two fixed windows, the earlier one weighed by how much of it is still in sight.

use super::{Decision, Quota};
use outrigger_kernel::Mono;
use std::time::Duration;

/// What is remembered of one key. Two words, so that it fits beside GCRA's one in a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// Which window `now` counts, from 1.
    index: u64,
    before: u32,
    now: u32,
}

impl Counters {
    pub(super) fn from_words(index: u64, counts: u64) -> Self {
        // Two halves of a word, neither of which is cut.
        let before = u32::try_from(counts >> 32).unwrap_or_default();
        let now = u32::try_from(counts & u64::from(u32::MAX)).unwrap_or_default();
        Self { index, before, now }
    }

    pub(super) fn words(self) -> (u64, u64) {
        (self.index, u64::from(self.before) << 32 | u64::from(self.now))
    }

    pub(super) fn decide(&mut self, quota: Quota, cost: u32, now: Mono) -> Decision {
        let passed = self.turn(quota, now);
        let limit = u64::from(quota.calls());
        let cost = u64::from(cost);
        let in_sight = self.in_sight(quota, passed);
        let used = in_sight + u64::from(self.now);
        let allowed = used + cost <= limit;
        if allowed {
            self.now = self.now.saturating_add(u32::try_from(cost).unwrap_or(u32::MAX));
        }
        let used = if allowed { used + cost } else { used };
        let left_in_window = quota.per_ns - passed;
        let reset = match (self.now, self.before) {
            (0, 0) => 0,
            (0, _) => left_in_window,
            _ => left_in_window + quota.per_ns,
        };
        Decision {
            allowed,
            limit: quota.calls(),
            reset: Duration::from_nanos(reset),
            retry_after: (!allowed && cost <= limit)
                .then(|| Duration::from_nanos(self.wait(quota, limit - cost, passed))),
            left_ns: limit.saturating_sub(used),
            step_ns: 1,
        }
    }

    pub(super) fn refund(&mut self, cost: u32) {
        self.now = self.now.saturating_sub(cost);
    }

    /// How many calls are still held against the key, in thousandths; what is least is forgotten first.
    pub(super) fn debt(mut self, quota: Quota, now: Mono) -> u64 {
        let passed = self.turn(quota, now);
        (self.in_sight(quota, passed) + u64::from(self.now)) * 1_000 / u64::from(quota.calls())
    }

    /// Moves on to the window of `now`; how much of it has passed.
    fn turn(&mut self, quota: Quota, now: Mono) -> u64 {
        let index = now.0 / quota.per_ns + 1;
        if index > self.index {
            let follows = index == self.index + 1;
            *self = Self { index, before: if follows { self.now } else { 0 }, now: 0 };
        }
        now.0 % quota.per_ns
    }

    fn in_sight(&self, quota: Quota, passed: u64) -> u64 {
        share(self.before, quota.per_ns - passed, quota.per_ns)
    }

    /// How long until no more than `room` is in sight.
    fn wait(&self, quota: Quota, room: u64, passed: u64) -> u64 {
        let fades = |counted: u32, room: u64| {
            // counted * (1 - x) <= room, rounded up to be on the safe side
            let gone =
                quota.per_ns - share_of(room + 1, quota.per_ns, counted.into()).min(quota.per_ns);
            gone + 1
        };
        if u64::from(self.now) <= room {
            fades(self.before, room - u64::from(self.now)).saturating_sub(passed).max(1)
        } else {
            quota.per_ns - passed + fades(self.now, room)
        }
    }
}

fn share(count: u32, part: u64, all: u64) -> u64 {
    u64::try_from(u128::from(count) * u128::from(part) / u128::from(all.max(1))).unwrap_or(u64::MAX)
}

fn share_of(part: u64, whole: u64, all: u64) -> u64 {
    u64::try_from(u128::from(part) * u128::from(whole) / u128::from(all.max(1))).unwrap_or(u64::MAX)
}
