//! Under which terms a subscription is served: how many messages at once, how often each is tried, what comes after.
//!
//! | policy `inbound` | dead-letter topic | a message that fails |
//! |---|---|---|
//! | given | either | is retried as the policy says, then dead-lettered, or dropped with a warning |
//! | none | yes | is retried 3 times, 100 ms to 10 s apart, then dead-lettered |
//! | none | no | is retried for ever, 100 ms to 10 s apart |
//!
//! With a `circuitBreaker`, an app that fails too often is left alone for a while: what is under way waits as long as its
//! delivery may take, and only then counts as failed.
//!
//! The reference dead-letters on the first failure where there is no policy. Three quick retries cost a second and save
//! the message that met a restart or a lock; whoever wants none writes a policy with `maxRetries: 0`.

use super::subscription::Subscription;
use crate::components::PubsubComponent;
use outrigger_events::SubscribeOptions;
use outrigger_resilience::{Backoff, Breaker, Matching, Retry};
use std::{sync::Arc, time::Duration};

/// Retries before a message without a policy is dead-lettered.
const RETRIES: u32 = 3;
/// The first pause where there is no policy.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Messages under way at once where the component names no number.
pub(crate) const IN_FLIGHT: u32 = 64;

/// The terms of `subscription` on `component`.
pub(crate) fn options(
    subscription: &Subscription,
    component: &PubsubComponent,
) -> SubscribeOptions {
    let mut options =
        SubscribeOptions::new(subscription.topic.to_string(), component.consumer_group.clone());
    options.max_in_flight = in_flight(component);
    options.batch = subscription.bulk;
    options.dead_letter_topic.clone_from(&subscription.dead_letter_topic);
    options.delivery_timeout = component.inbound.timeout;
    options.retry = component
        .inbound
        .retry
        .clone()
        .unwrap_or_else(|| without_policy(subscription.dead_letter_topic.is_some()));
    options
}

/// Messages of one subscription that may be under way at once.
pub(crate) fn in_flight(component: &PubsubComponent) -> u32 {
    if component.max_in_flight == 0 { IN_FLIGHT } else { component.max_in_flight }
}

/// Which statuses the policy retries, if it says.
pub(crate) fn matching(component: &PubsubComponent) -> Option<Matching> {
    component.inbound.retry.as_ref().map(|retry| retry.matching.clone())
}

/// What leaves the app alone for a while when it fails too often, one per subscription: a topic whose handler fails
/// keeps no other from being served.
pub(crate) fn breaker(component: &PubsubComponent) -> Option<Breaker> {
    component.inbound.breaker.clone().map(Breaker::new)
}

fn without_policy(dead_letters: bool) -> Retry {
    Retry {
        backoff: Backoff::exponential(PAUSE_FIRST, PAUSE_MAX),
        max_retries: dead_letters.then_some(RETRIES),
        matching: Matching::default(),
    }
}

/// Whether a subscription under the terms of `old` can go on under those of `new`.
pub(crate) fn same(old: &Arc<PubsubComponent>, new: &Arc<PubsubComponent>) -> bool {
    Arc::ptr_eq(old, new)
        || (Arc::ptr_eq(&old.broker, &new.broker)
            && old.scopes == new.scopes
            && old.consumer_group == new.consumer_group
            && old.inbound == new.inbound
            && old.max_in_flight == new.max_in_flight)
}

#[cfg(test)]
mod tests {
    use super::without_policy;
    use std::time::Duration;

    #[test]
    fn without_a_policy_pauses_grow_and_only_dead_letters_end_them() {
        assert_eq!(without_policy(false).max_retries, None);
        let retry = without_policy(true);
        assert_eq!(retry.max_retries, Some(3));
        assert!(retry.backoff.delay(1, 0) < Duration::from_millis(151));
        assert!(retry.backoff.delay(100, u64::MAX) <= Duration::from_secs(15));
    }
}
