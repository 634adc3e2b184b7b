//! What can be set about a bulkhead, and what holds when nothing is.

use crate::LimitSettings;
use std::time::Duration;

/// Most seats a bulkhead can have.
const SEATS_MAX: u32 = 1_000_000;
/// Most that can wait at one bulkhead.
const QUEUE_MAX: u32 = 65_536;

/// How many calls may be under way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seats {
    /// So many; held within 1 and 1 000 000.
    Fixed(u32),
    /// As many as the target turns out to manage, within bounds.
    Adaptive(LimitSettings),
}

/// How a bulkhead behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BulkheadSettings {
    /// How many calls may be under way.
    pub seats: Seats,
    /// How many may wait; 0 for none, at most 65 536.
    pub queue_max: u32,
    /// How long one may wait.
    pub wait_max: Duration,
    /// How much of the time left one may wait, in percent; at most 100.
    pub wait_percent: u32,
    /// How long one may wait once the queue has not been empty for the interval, or while calls are shed; the newest is
    /// next then. As long as a call takes, if that is longer; zero for as long as otherwise. Critical-plus is spared.
    pub pressure_target: Duration,
    /// For how long the queue must not have been empty to be under pressure.
    pub pressure_interval: Duration,
    /// Whether calls of low rank are shed while there is not enough for all. For the side that serves: a caller that limits
    /// itself does better with [`crate::Throttle`].
    pub sheds: bool,
}

impl Default for BulkheadSettings {
    fn default() -> Self {
        Self {
            seats: Seats::Adaptive(LimitSettings::default()),
            queue_max: 100,
            wait_max: Duration::from_millis(50),
            wait_percent: 10,
            pressure_target: Duration::from_millis(5),
            pressure_interval: Duration::from_millis(100),
            sheds: false,
        }
    }
}

impl BulkheadSettings {
    /// The settings of a server's front door: adaptive, and shedding by rank.
    #[must_use]
    pub fn front_door() -> Self {
        Self { sheds: true, ..Self::default() }
    }

    pub(super) fn bounded(mut self) -> Self {
        if let Seats::Fixed(seats) = &mut self.seats {
            *seats = (*seats).clamp(1, SEATS_MAX);
        }
        self.queue_max = self.queue_max.min(QUEUE_MAX);
        self.wait_percent = self.wait_percent.min(100);
        self
    }
}
