//! What a closed breaker remembers of its calls beside failures in a row, and whether that is enough to open it.

use super::{
    Rates, Trip, Window,
    window::{LastCalls, LastTime, Mark, Sums},
};
use outrigger_kernel::Mono;

pub(super) enum Past {
    /// Nothing: the machine's own counts are all there is.
    Tally,
    Calls(LastCalls, Rates),
    Time(LastTime, Rates),
}

impl Past {
    pub(super) fn new(trip: &Trip) -> Self {
        match trip {
            Trip::Rates(rates) => match rates.window {
                Window::Calls(calls) => Self::Calls(LastCalls::new(calls), *rates),
                Window::Time(span) => Self::Time(LastTime::new(span), *rates),
            },
            _ => Self::Tally,
        }
    }

    /// Counts a call; whether there is a window that it is counted in.
    #[inline]
    pub(super) fn add(&self, mark: Mark, now: Mono) -> bool {
        match self {
            Self::Tally => return false,
            Self::Calls(window, _) => window.add(mark),
            Self::Time(window, _) => window.add(mark, now),
        }
        true
    }

    /// What the window holds, if there is one.
    pub(super) fn sums(&self, now: Mono) -> Option<Sums> {
        match self {
            Self::Tally => None,
            Self::Calls(window, _) => Some(window.sums()),
            Self::Time(window, _) => Some(window.sums(now)),
        }
    }

    pub(super) fn clear(&self) {
        match self {
            Self::Tally => {}
            Self::Calls(window, _) => window.clear(),
            Self::Time(window, _) => window.clear(),
        }
    }

    /// Whether so many failures in a row, or the shares of the window, are too many.
    pub(super) fn exceeds(&self, in_row: u64, now: Mono) -> bool {
        let (Self::Calls(_, rates) | Self::Time(_, rates)) = self else { return false };
        if rates.consecutive > 0 && in_row >= rates.consecutive.into() {
            return true;
        }
        let sums = self.sums(now).unwrap_or_default();
        sums.calls >= u64::from(rates.calls_min.max(1))
            && (reaches(sums.failed, sums.calls, rates.failure_share)
                || reaches(sums.slow, sums.calls, rates.slow_share))
    }
}

/// Whether `part` of `all` is at least this share; compared without dividing, so that exactly a half is a half.
fn reaches(part: u64, all: u64, share: f64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "sums of a window are small")]
    let (part, all) = (part as f64, all as f64);
    part > 0.0 && part >= all * share
}
