//! The components that one app may use, ready for use.
//!
//! The binary builds a [`Components`] from resource files and swaps it in whole, so that a request sees either the old
//! set or the new one. Names are unique per kind; the name is what requests address.

use crate::{host::Host, metrics::policies::Direction, secrets::SecretStore};
use outrigger_calls::CallPolicy;
use outrigger_coordination::Locks;
use outrigger_events::Broker;
use outrigger_kernel::Deadline;
use outrigger_resilience::{
    Attempt, Backoff, Class, GaveUp, Matching, Policy, PolicyState, Retry, Watch,
};
use outrigger_resources::TopicScopes;
use outrigger_state::{KeyPrefix, Store};
use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError},
    time::Duration,
};

/// Everything an app can address by name.
#[derive(Clone, Debug, Default)]
pub struct Components {
    /// State stores.
    pub state: BTreeMap<String, Arc<StateComponent>>,
    /// Brokers.
    pub pubsub: BTreeMap<String, Arc<PubsubComponent>>,
    /// Lock stores.
    pub locks: BTreeMap<String, Arc<LockComponent>>,
    /// Secret stores.
    pub secrets: BTreeMap<String, Arc<SecretComponent>>,
    /// Names of the HTTP endpoints outside, for `metadata`; the endpoints themselves are in the directory.
    pub endpoints: Vec<String>,
    /// How calls to other apps and endpoints are retried.
    pub calls: CallPolicies,
    /// What `metadata` lists, in its order.
    pub registered: Vec<Registered>,
    /// Names of the resiliency resources in force, for `metadata`.
    pub resiliencies: Vec<String>,
}

impl Components {
    /// The same components with what the policies of `old` ones, whose place they take, remember.
    #[must_use]
    pub fn keeping(mut self, old: &Self) -> Self {
        self.calls = std::mem::take(&mut self.calls).keeping(&old.calls);
        // Made a moment ago, they have no other owner yet.
        for (name, store) in &mut self.state {
            if let Some((store, old)) = Arc::get_mut(store).zip(old.state.get(name)) {
                store.outbound = store.outbound.keeping(&old.outbound);
            }
        }
        for (name, broker) in &mut self.pubsub {
            if let Some((broker, old)) = Arc::get_mut(broker).zip(old.pubsub.get(name)) {
                broker.outbound = broker.outbound.keeping(&old.outbound);
            }
        }
        self
    }
}

/// A component as `metadata` lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// Its name.
    pub name: String,
    /// Its type as written, such as `state.redis`.
    pub type_name: String,
    /// Its version, such as `v1`.
    pub version: String,
    /// What it can do, such as `ETAG`.
    pub capabilities: Vec<String>,
}

/// What every state store here can do.
pub const STATE_CAPABILITIES: &[&str] = &["ETAG", "TRANSACTIONAL", "TTL", "DELETE_WITH_PREFIX"];
/// What every lock store here can do.
pub const LOCK_CAPABILITIES: &[&str] = &["FENCING", "RENEW", "WAIT", "SHARED", "REENTRANT"];
/// What every broker here can do.
pub const PUBSUB_CAPABILITIES: &[&str] = &["MESSAGE_TTL", "BULK_PUBSUB"];

/// A policy with what it remembers.
#[derive(Clone, Debug, Default)]
pub struct Policed {
    policy: Policy,
    state: PolicyState,
    watch: OnceLock<Arc<dyn Watch>>,
}

impl Policed {
    /// `policy` for a target nothing is known about yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self::seeded(policy, 0)
    }

    /// The same, with a seed for the random part of its breaker's open times, so that many processes do not probe in one
    /// instant.
    #[must_use]
    pub fn seeded(policy: Policy, seed: u64) -> Self {
        let state = PolicyState::seeded(&policy, seed);
        Self { policy, state, watch: OnceLock::new() }
    }

    /// The same policy with what `old`, whose place it takes, remembers.
    #[must_use]
    pub fn keeping(&self, old: &Self) -> Self {
        let state = old.state.carried_over(&old.policy, &self.policy);
        Self { policy: self.policy.clone(), state, watch: OnceLock::new() }
    }

    /// Whether the policy does nothing, so that there is one attempt and no more.
    pub(crate) fn is_idle(&self) -> bool {
        self.policy.is_idle()
    }

    /// Makes attempts under the policy of the component `name`; each is told by when it must be done.
    pub(crate) async fn run<T, E, F>(
        &self,
        host: &Host,
        (kind, name): (&'static str, &str),
        deadline: Deadline,
        class: fn(&Result<T, E>) -> Class,
        mut attempt: impl FnMut(Deadline) -> F,
    ) -> Result<Result<T, E>, GaveUp>
    where
        F: Future<Output = Result<T, E>>,
    {
        if self.is_idle() {
            return Ok(attempt(deadline).await);
        }
        let watch = self.watch.get_or_init(|| {
            let names = &host.components.load().resiliencies;
            host.metrics.policy_watch(names, format!("{kind}_{name}"), Direction::Outbound)
        });
        let state = self.state.clone().watched_by(Arc::clone(watch));
        let attempt = |made: Attempt| attempt(made.deadline);
        let world = &*host.world;
        // Boxed: without a policy, as most are, nothing should be carried for it.
        Box::pin(outrigger_resilience::run(world, &self.policy, &state, deadline, class, attempt))
            .await
    }
}

/// Most targets whose policy is made from the default; beyond it, new targets go without one.
const DEFAULTED_MAX: usize = 1_000;

/// How calls are retried, by the id of what is called.
#[derive(Clone, Debug, Default)]
pub struct CallPolicies {
    reconnect: Option<Arc<Retry>>,
    named: BTreeMap<String, Arc<CallPolicy>>,
    default: Option<Arc<CallPolicy>>,
    defaulted: Arc<Mutex<BTreeMap<String, Arc<CallPolicy>>>>,
}

impl CallPolicies {
    /// Policies for the targets named, and one for all others, each of which gets one of its own made after it.
    #[must_use]
    pub fn new(named: BTreeMap<String, Arc<CallPolicy>>, default: Option<CallPolicy>) -> Self {
        let default = default.map(Arc::new);
        Self { reconnect: None, named, default, defaulted: Arc::default() }
    }

    /// The same policies with what `old` ones, whose place they take, remember: a reload closes no breaker and refills no
    /// budget, unless it changes their settings.
    #[must_use]
    pub fn keeping(mut self, old: &Self) -> Self {
        for (target, policy) in &mut self.named {
            if let Some(known) = old.known(target) {
                *policy = Arc::new(policy.keeping(&known));
            }
        }
        if let Some(default) = &mut self.default {
            if let Some(known) = &old.default {
                // What all targets under it share, such as a cache, goes on.
                *default = Arc::new(default.keeping(known));
            }
            let before = old.defaulted.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = before.iter().filter(|(target, _)| !self.named.contains_key(*target));
            let kept = kept.map(|(target, known)| {
                let policy = default.anew().keeping(known);
                (target.clone(), Arc::new(policy))
            });
            self.defaulted = Arc::new(Mutex::new(kept.collect()));
        }
        self
    }

    /// What is there for `target`; makes nothing.
    pub(crate) fn known(&self, target: &str) -> Option<Arc<CallPolicy>> {
        let defaulted = || self.defaulted.lock().unwrap_or_else(PoisonError::into_inner);
        self.named.get(target).cloned().or_else(|| defaulted().get(target).cloned())
    }

    /// The same with another way of waiting for apps that cannot be reached.
    #[must_use]
    pub fn reconnecting(mut self, retry: Retry) -> Self {
        self.reconnect = Some(Arc::new(retry));
        self
    }

    /// How apps that cannot be reached are waited for, where no policy has retries of its own: unless somebody says
    /// otherwise, three times for a second, which is as long as most apps take to start again.
    #[must_use]
    pub fn reconnect(&self) -> Arc<Retry> {
        static USUAL: LazyLock<Arc<Retry>> = LazyLock::new(|| {
            let backoff = Backoff::Constant { delay: Duration::from_secs(1) };
            Arc::new(Retry { backoff, max_retries: Some(3), matching: Matching::default() })
        });
        Arc::clone(self.reconnect.as_ref().unwrap_or(&USUAL))
    }

    /// The policy for `target`. Each target has breakers of its own, also under the default.
    pub(crate) fn for_target(&self, target: &str) -> Option<Arc<CallPolicy>> {
        if let Some(policy) = self.named.get(target) {
            return Some(Arc::clone(policy));
        }
        let default = self.default.as_ref()?;
        let mut defaulted = self.defaulted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(policy) = defaulted.get(target) {
            return Some(Arc::clone(policy));
        }
        if defaulted.len() >= DEFAULTED_MAX {
            return None;
        }
        let policy = Arc::new(default.anew());
        defaulted.insert(target.to_owned(), Arc::clone(&policy));
        Some(policy)
    }
}

/// A state store.
pub struct StateComponent {
    /// The component's name.
    pub name: Arc<str>,
    /// Where the keys are.
    pub store: Store,
    /// Whose keys they are.
    pub prefix: KeyPrefix,
    /// Lifetime of values whose writer names none.
    pub ttl_default_seconds: Option<i64>,
    /// `components.<name>.outbound` of the resiliency resources.
    pub outbound: Policed,
}

/// A broker.
pub struct PubsubComponent {
    /// The component's name.
    pub name: Arc<str>,
    /// Where the topics are.
    pub broker: Arc<Broker>,
    /// Which app may publish and subscribe to what.
    pub scopes: TopicScopes,
    /// The consumer group: `consumerID`, or the app's id.
    pub consumer_group: String,
    /// `components.<name>.outbound`.
    pub outbound: Policed,
    /// `components.<name>.inbound`. Without retries of its own there are a few quick ones before the dead-letter topic
    /// where there is one, and retries for ever where there is none.
    pub inbound: Policy,
    /// The names of the resiliency resources that the policies may come from, for metrics.
    pub policies: Vec<String>,
    /// Most messages of one subscription that the app works on at once; 0 for a number that suits most.
    pub max_in_flight: u32,
}

/// A lock store.
#[derive(Debug)]
pub struct LockComponent {
    /// Its name.
    pub name: Arc<str>,
    /// Its locks.
    pub locks: Locks,
    /// What goes before the names of what is locked.
    pub prefix: KeyPrefix,
}

/// A secret store.
pub struct SecretComponent {
    /// The component's name.
    pub name: Arc<str>,
    /// Where the secrets are.
    pub store: Arc<dyn SecretStore>,
}

impl fmt::Debug for StateComponent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateComponent({})", self.name)
    }
}

impl fmt::Debug for PubsubComponent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PubsubComponent({})", self.name)
    }
}

impl fmt::Debug for SecretComponent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretComponent({})", self.name)
    }
}
