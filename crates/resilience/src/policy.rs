//! A policy is data: which parts a call goes through, with which settings. What the parts remember between calls is
//! its state, which outlives a call and is shared by all calls to one target.

use crate::{Breaker, BreakerSettings, Retry, Watch};
use std::{sync::Arc, time::Duration};

/// Which parts a call goes through; what is `None` is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// How long one attempt may take. Zero counts as none.
    pub timeout: Option<Duration>,
    /// Whether failed attempts are repeated.
    pub retry: Option<Retry>,
    /// Whether a failing target is left alone for a while.
    pub breaker: Option<BreakerSettings>,
}

/// What a policy remembers about one target. Clones share it.
///
/// ```
/// use outrigger_resilience::{BreakerSettings, Policy, PolicyState};
/// let policy = Policy { breaker: Some(BreakerSettings::default()), ..Policy::default() };
/// assert!(PolicyState::new(&policy).breaker().is_some());
/// ```
#[derive(Clone, Debug, Default)]
pub struct PolicyState {
    breaker: Option<Breaker>,
    watch: Option<Arc<dyn Watch>>,
}

impl PolicyState {
    /// The state of a target nothing is known about yet.
    #[must_use]
    pub fn new(policy: &Policy) -> Self {
        Self { breaker: policy.breaker.clone().map(Breaker::new), watch: None }
    }

    /// The state of a target whose breaker is kept elsewhere, for instance in [`crate::Breakers`].
    #[must_use]
    pub fn with_breaker(breaker: Option<Breaker>) -> Self {
        Self { breaker, watch: None }
    }

    /// The same, with somebody told of what the policy does.
    #[must_use]
    pub fn watched_by(mut self, watch: Arc<dyn Watch>) -> Self {
        self.watch = Some(watch);
        self
    }

    pub(crate) fn watch(&self) -> Option<&Arc<dyn Watch>> {
        self.watch.as_ref()
    }

    /// The target's breaker, if the policy has one.
    #[must_use]
    pub fn breaker(&self) -> Option<&Breaker> {
        self.breaker.as_ref()
    }
}
