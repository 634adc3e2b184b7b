//! What can be set about a breaker, and what holds when nothing is.

use super::Counts;
use std::{fmt, sync::Arc, time::Duration};

/// How long an open breaker refuses everything when nothing is set.
pub(super) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// The longest wait that a target's `Retry-After` can bring about.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// How a breaker behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerSettings {
    /// How many calls a half-open breaker admits, and how many of them must succeed for it to close; 0 counts as 1.
    pub max_requests: u32,
    /// After how long a closed breaker forgets its counts; zero for never. [`Trip::Rates`] has windows of its own and
    /// leaves this alone.
    pub interval: Duration,
    /// How long an open breaker refuses everything; zero counts as 60 s.
    pub timeout: Duration,
    /// When a closed breaker opens; asked after each failure and each slow call.
    pub trip: Trip,
    /// The most that `timeout` grows to: it doubles each time the breaker opens again before it has been closed for as
    /// long as it was open, and then half of it is drawn at random, so that many breakers do not probe in one instant.
    /// At or below `timeout` (the default) it neither grows nor varies.
    pub timeout_max: Duration,
    /// For how long after closing only a part of the calls is admitted: 10 % in the first third, 25 % in the second, 50 %
    /// in the last. Zero (the default) for all at once.
    pub ramp: Duration,
}

impl Default for BreakerSettings {
    /// What the machine this one is compatible with does: one probe, no interval, 60 s, more than 5 failures in a row.
    fn default() -> Self {
        Self {
            max_requests: 1,
            interval: Duration::ZERO,
            timeout: TIMEOUT_DEFAULT,
            trip: Trip::ConsecutiveFailures(5),
            timeout_max: Duration::ZERO,
            ramp: Duration::ZERO,
        }
    }
}

impl BreakerSettings {
    /// What to use when nothing has to be compatible with anything: [`Rates`] with their defaults, three probes, open for
    /// 5 s growing to 300 s, 10 s of ramp.
    #[must_use]
    pub fn recommended() -> Self {
        Self {
            max_requests: 3,
            interval: Duration::ZERO,
            timeout: Duration::from_secs(5),
            trip: Trip::Rates(Rates::default()),
            timeout_max: Duration::from_secs(300),
            ramp: Duration::from_secs(10),
        }
    }
}

/// When a closed breaker opens.
#[derive(Clone)]
pub enum Trip {
    /// On more than this many failures in a row.
    ConsecutiveFailures(u64),
    /// When the function says so. It is called with the breaker locked: it must be quick and not ask the breaker.
    Custom {
        /// The condition in words; two conditions of the same words are the same.
        condition: Arc<str>,
        /// The condition.
        says: Arc<dyn Fn(&Counts) -> bool + Send + Sync>,
    },
    /// On the first of: failures in a row, the share of failures, the share of slow calls, over a sliding window.
    Rates(Rates),
}

impl PartialEq for Trip {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::ConsecutiveFailures(own), Self::ConsecutiveFailures(other)) => own == other,
            (Self::Custom { condition: own, .. }, Self::Custom { condition: other, .. }) => {
                own == other
            }
            (Self::Rates(own), Self::Rates(other)) => own == other,
            _ => false,
        }
    }
}

impl fmt::Debug for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures(most) => write!(f, "ConsecutiveFailures({most})"),
            Self::Custom { condition, .. } => write!(f, "Custom({condition})"),
            Self::Rates(rates) => rates.fmt(f),
        }
    }
}

/// Conditions over a sliding window. Any one of them opens the breaker; each can be switched off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// What is looked back on.
    pub window: Window,
    /// Below this many calls in the window the two shares say nothing. Held at or above 1.
    pub calls_min: u32,
    /// From this share of failures on; above 1 (or not a number) for never.
    pub failure_share: f64,
    /// From this share of slow calls on; above 1 (or not a number) for never.
    pub slow_share: f64,
    /// A call that took this long is slow, whatever came of it. Zero for none is ever. Can be moved while the breaker
    /// runs, for instance to three times the usual 99th percentile: [`super::Breaker::set_slow_after`].
    pub slow_after: Duration,
    /// From this many hard failures in a row on; 0 for never. Refusals for overload ([`super::Outcome::Refused`]) neither
    /// count here nor end a row.
    pub consecutive: u32,
}

impl Default for Rates {
    /// 50 % failures or 80 % slower than 2 s of at least 20 calls in 10 s, or 5 failures in a row.
    fn default() -> Self {
        Self {
            window: Window::Time(Duration::from_secs(10)),
            calls_min: 20,
            failure_share: 0.5,
            slow_share: 0.8,
            slow_after: Duration::from_secs(2),
            consecutive: 5,
        }
    }
}

/// What a breaker looks back on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last so many calls, exactly; held within 1 and 100 000. One byte of memory each.
    Calls(u32),
    /// The last so much time, a tenth of it at a time: never more, never less than nine tenths of it.
    Time(Duration),
}
