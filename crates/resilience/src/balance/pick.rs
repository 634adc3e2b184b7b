//! The guard of one attempt at one endpoint.

use super::{
    Endpoint,
    fleet::{Fleet, Member},
    outlier::Cause,
};
use outrigger_kernel::Mono;
use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

/// How a call ended, in the eyes of the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was answered, be it that the caller was wrong.
    Success,
    /// It failed, or we gave it up.
    Failure,
    /// The endpoint asked for less: 429 or 503, and for how long, if it said so.
    PushedBack(Option<Duration>),
}

/// An endpoint with one call in flight. Dropping it ends the call without saying how.
#[must_use = "a pick that is dropped at once picks nothing"]
pub struct Pick<T> {
    fleet: Arc<Fleet<T>>,
    index: usize,
    started: Mono,
}

impl<T> Pick<T> {
    pub(super) fn new(fleet: Arc<Fleet<T>>, index: usize, started: Mono) -> Self {
        let state = &fleet.members[index].state;
        state.in_flight.fetch_add(1, Relaxed);
        state.picks.store(state.picks.load(Relaxed).wrapping_add(1), Relaxed);
        Self { fleet, index, started }
    }

    /// The endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint<T> {
        &self.member().endpoint
    }

    /// What the caller needs to reach it.
    #[must_use]
    pub fn value(&self) -> &T {
        &self.member().endpoint.value
    }

    /// What [`super::Ask::tried`] knows it by.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.member().state.id
    }

    /// Ends the call. Answers why the endpoint is ejected now, if it is.
    pub fn record(self, verdict: Verdict, now: Mono) -> Option<Cause> {
        let (settings, state) = (&self.fleet.settings, &self.member().state);
        let took = now.since(self.started);
        let sample = match verdict {
            Verdict::Success => took,
            // How quickly it failed says nothing about how quickly it works.
            Verdict::Failure => {
                took.max(state.latency(now, settings.decay).map_or(took, Duration::from_secs_f32))
            }
            Verdict::PushedBack(after) => took.max(after.unwrap_or(took).min(settings.penalty)),
        };
        state.saw_latency(sample.as_secs_f32(), now, settings.decay);
        state.saw_end(verdict == Verdict::Success, now, settings.decay);
        match verdict {
            Verdict::Success => {
                self.fleet.succeeded(self.index, took, now);
                None
            }
            Verdict::Failure => self.fleet.failed(self.index, now),
            Verdict::PushedBack(_) => self.fleet.pushed_back(self.index, now),
        }
    }

    /// Ends the call because its caller went away. It counts only if it had taken longer than usual already.
    pub fn cancelled(self, now: Mono) {
        let (settings, state) = (&self.fleet.settings, &self.member().state);
        let took = now.since(self.started).as_secs_f32();
        if state.latency(now, settings.decay).is_some_and(|usual| took > usual) {
            state.saw_latency(took, now, settings.decay);
        }
    }

    /// Ends the call because a second copy that was sent later was answered first. How long it would have taken nobody will
    /// know, so it counts as twice what was believed, up to eight times what it had taken: otherwise hedges would hide a
    /// slow endpoint from the balancer, which would go on choosing it.
    pub fn overtaken(self, now: Mono) {
        let (settings, state) = (&self.fleet.settings, &self.member().state);
        let took = now.since(self.started).as_secs_f32();
        let believed = state.latency(now, settings.decay).unwrap_or_default().max(took);
        state.saw_latency((2.0 * believed).min(8.0 * took).max(took), now, settings.decay);
    }

    fn member(&self) -> &Member<T> {
        &self.fleet.members[self.index]
    }
}

impl<T> Drop for Pick<T> {
    fn drop(&mut self) {
        self.member().state.in_flight.fetch_sub(1, Relaxed);
    }
}

impl<T> fmt::Debug for Pick<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pick({})", self.endpoint().name)
    }
}
