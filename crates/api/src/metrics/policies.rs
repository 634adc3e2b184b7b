//! What resiliency policies do, in numbers.

use super::{AppMetrics, labels::Word};
use outrigger_resilience::{Part, Phase, Watch};
use std::{fmt, sync::Arc};

/// Which way a call goes that a policy looks after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

/// Counts what one policy does for one target.
struct PolicyWatch {
    metrics: AppMetrics,
    names: Arc<str>,
    target: Arc<str>,
    direction: Direction,
}

impl AppMetrics {
    /// Whoever counts what the policy for `target` does. `names` are those of the resources it comes from.
    pub(crate) fn policy_watch(
        &self,
        names: &[String],
        target: String,
        direction: Direction,
    ) -> Arc<dyn Watch> {
        let names = names.join(",").into();
        Arc::new(PolicyWatch { metrics: self.clone(), names, target: target.into(), direction })
    }

    /// Records that a resiliency resource was loaded.
    pub(crate) fn policy_loaded(&self, name: &str) {
        let name: Arc<str> = name.into();
        self.node.families.policies_loaded.add(&self.app, [(&name).into()], 1);
    }
}

impl PolicyWatch {
    fn way(&self) -> &'static str {
        match self.direction {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        }
    }

    fn labels(&self, part: &'static str, status: &'static str) -> [Word; 5] {
        [self.way().into(), (&self.names).into(), part.into(), status.into(), (&self.target).into()]
    }

    /// The part, and where it stands; and that once more as a level, for what stands somewhere.
    fn told(&self, part: Part) -> [Word; 5] {
        let phase = match part {
            Part::Timeout => return self.labels("timeout", ""),
            Part::Retry => return self.labels("retry", ""),
            Part::Breaker(phase) => phase,
        };
        for other in [Phase::Closed, Phase::HalfOpen, Phase::Open] {
            let (level, labels) = (u64::from(other == phase), self.labels(BREAKER, word(other)));
            self.metrics.node.families.breaker_state.set(&self.metrics.app, labels, level);
        }
        self.labels(BREAKER, word(phase))
    }
}

const BREAKER: &str = "circuitbreaker";

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Closed => "closed",
        Phase::HalfOpen => "half-open",
        Phase::Open => "open",
    }
}

impl Watch for PolicyWatch {
    fn applied(&self, part: Part) {
        let labels = self.told(part);
        self.metrics.node.families.policies_applied.add(&self.metrics.app, labels, 1);
    }

    fn activated(&self, part: Part) {
        let labels = self.told(part);
        self.metrics.node.families.policies_activated.add(&self.metrics.app, labels, 1);
    }

    fn decided(&self, reason: &'static str) {
        let labels = [self.way().into(), reason.into(), (&self.target).into()];
        self.metrics.node.families.policy_decisions.add(&self.metrics.app, labels, 1);
    }
}

impl fmt::Debug for PolicyWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyWatch({})", self.target)
    }
}
