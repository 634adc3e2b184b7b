//! Which policy names stand in for a target that names none, most specific first.

/// What kind of policy is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyKind {
    /// A retry policy.
    Retry,
    /// A timeout.
    Timeout,
    /// A circuit breaker.
    CircuitBreaker,
    /// A bulkhead.
    Bulkhead,
    /// A rate limit.
    RateLimit,
    /// A hedge.
    Hedge,
    /// A throttle.
    Throttle,
    /// A load balancer.
    LoadBalancer,
    /// A response cache.
    Cache,
    /// A fallback.
    Fallback,
    /// Faults on purpose, which no default name stands for.
    Fault,
}

/// Which way a component is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the component to the app.
    Inbound,
    /// From this process to the component.
    Outbound,
}

/// The block a component belongs to, as the default policies' names spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComponentBlock {
    /// `bindings`.
    Binding,
    /// `configuration`.
    Configuration,
    /// `lock`.
    Lock,
    /// `pubsub`.
    Pubsub,
    /// `crypto`.
    Crypto,
    /// `conversation`.
    Conversation,
    /// `secretstores`.
    Secretstore,
    /// `state`.
    Statestore,
}

/// What the policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyTarget {
    /// Calls to an app.
    App,
    /// Calls to an actor.
    Actor,
    /// Use of a component.
    Component(ComponentBlock, Direction),
    /// An app itself, whoever calls it; no default name stands for it.
    Inbound,
}

/// Names of policies that exist without being defined and may be redefined by a file.
pub const BUILT_IN_POLICIES: [&str; 5] = [
    "DaprBuiltInServiceRetries",
    "DaprBuiltInActorRetries",
    "DaprBuiltInActorReminderRetries",
    "DaprBuiltInInitializationRetries",
    "DaprBuiltInActorNotFoundRetries",
];

impl ComponentBlock {
    fn name(self) -> &'static str {
        match self {
            Self::Binding => "Binding",
            Self::Configuration => "Configuration",
            Self::Lock => "Lock",
            Self::Pubsub => "Pubsub",
            Self::Crypto => "Crypto",
            Self::Conversation => "Conversation",
            Self::Secretstore => "Secretstore",
            Self::Statestore => "Statestore",
        }
    }
}

/// The names to try in order for a target without a policy of its own: the first that is defined wins.
#[must_use]
pub fn default_policy_names(target: PolicyTarget, kind: PolicyKind) -> Vec<String> {
    let kind = match kind {
        PolicyKind::Retry => "Retry",
        PolicyKind::Timeout => "Timeout",
        PolicyKind::CircuitBreaker => "CircuitBreaker",
        PolicyKind::Bulkhead => "Bulkhead",
        PolicyKind::RateLimit => "RateLimit",
        PolicyKind::Hedge => "Hedge",
        PolicyKind::Throttle => "Throttle",
        PolicyKind::LoadBalancer => "LoadBalancer",
        PolicyKind::Cache => "Cache",
        PolicyKind::Fallback => "Fallback",
        PolicyKind::Fault => "Fault",
    };
    let stems = match target {
        PolicyTarget::App => vec!["App".into()],
        PolicyTarget::Actor => vec!["Actor".into()],
        PolicyTarget::Inbound => return Vec::new(),
        PolicyTarget::Component(block, direction) => {
            let direction = match direction {
                Direction::Inbound => "Inbound",
                Direction::Outbound => "Outbound",
            };
            let block = block.name();
            vec![
                format!("{block}Component{direction}"),
                format!("Component{direction}"),
                "Component".into(),
            ]
        }
    };
    let whole = std::iter::once(String::new());
    stems.into_iter().chain(whole).map(|stem| format!("Default{stem}{kind}Policy")).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        ComponentBlock, Direction, PolicyKind, PolicyTarget, default_policy_names as names,
    };

    #[test]
    fn most_specific_first() {
        let target = PolicyTarget::Component(ComponentBlock::Statestore, Direction::Outbound);
        assert_eq!(
            names(target, PolicyKind::Retry),
            [
                "DefaultStatestoreComponentOutboundRetryPolicy",
                "DefaultComponentOutboundRetryPolicy",
                "DefaultComponentRetryPolicy",
                "DefaultRetryPolicy",
            ]
        );
        assert_eq!(
            names(PolicyTarget::App, PolicyKind::CircuitBreaker),
            ["DefaultAppCircuitBreakerPolicy", "DefaultCircuitBreakerPolicy"]
        );
        assert_eq!(
            names(PolicyTarget::Actor, PolicyKind::Timeout),
            ["DefaultActorTimeoutPolicy", "DefaultTimeoutPolicy"]
        );
    }
}
