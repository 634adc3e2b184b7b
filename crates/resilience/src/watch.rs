//! What a policy does, for whoever counts it.

use crate::{Breaker, Phase, Policy};
use outrigger_kernel::Mono;
use std::{fmt, sync::Arc};

/// A part of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The timeout.
    Timeout,
    /// The retry.
    Retry,
    /// The breaker, and where it stands.
    Breaker(Phase),
}

/// Is told what a policy does. Told often, so it must be quick.
pub trait Watch: fmt::Debug + Send + Sync {
    /// A call is under this part: timeout and retry once per call, the breaker once per attempt.
    fn applied(&self, part: Part);
    /// The part did something: cut an attempt off, made another one, came to stand elsewhere.
    fn activated(&self, part: Part);
    /// A decision was made about a call that is not the usual one; see [`crate::reason`].
    fn decided(&self, reason: &'static str) {
        let _ = reason;
    }
}

/// Watches a breaker between the beginning and the end of what it admitted.
#[derive(Clone, Copy, Debug)]
pub struct BreakerWatch<'a> {
    watched: Option<(&'a dyn Watch, &'a Breaker)>,
    stood: Phase,
}

impl<'a> BreakerWatch<'a> {
    /// Begins, before the breaker is asked.
    #[must_use]
    pub fn begin(watch: Option<&'a dyn Watch>, breaker: Option<&'a Breaker>, now: Mono) -> Self {
        let watched = watch.zip(breaker);
        let stood = watched.map_or(Phase::Closed, |(_, breaker)| breaker.status(now).phase);
        if let Some((watch, _)) = watched {
            watch.applied(Part::Breaker(stood));
        }
        Self { watched, stood }
    }

    /// Ends, after the breaker was told the outcome.
    pub fn end(self, now: Mono) {
        let Some((watch, breaker)) = self.watched else { return };
        let stands = breaker.status(now).phase;
        if stands != self.stood {
            watch.activated(Part::Breaker(stands));
        }
    }
}

/// Tells of what a policy holds against every call.
pub(crate) fn begin(watch: Option<&Arc<dyn Watch>>, policy: &Policy) {
    let Some(watch) = watch else { return };
    if policy.timeout.is_some_and(|timeout| !timeout.is_zero()) {
        watch.applied(Part::Timeout);
    }
    if policy.retry.is_some() {
        watch.applied(Part::Retry);
    }
}
