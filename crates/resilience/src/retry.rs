//! Whether to try again, and when.
//!
//! [`Retry`] is how often, after what wait and after which failures. It takes every call for one that may be repeated.
//! [`Restraint`] is what makes retries safe to have on by default:
//!
//! | rule | why |
//! |---|---|
//! | only what was not sent, or may be repeated | an order is not placed twice |
//! | a callee that says "do not" is believed | in a chain only the hop next to the failure retries: 1.1 attempts at the leaf, not 27 |
//! | a callee that says "later" is obeyed, up to `pushback_max` | it knows its load |
//! | overload is waited out with a backoff of its own (1 s) | 50 ms later it is as overloaded as before |
//! | a hedge is not retried | its call has another attempt under way |
//!
//! Sources: gRPC A6 (pushback, what was not sent), AWS SDK retry behaviour of 2026 (two base delays), the site reliability
//! handbook of Google ("overloaded; don't retry").

use crate::{Backoff, CallContext, Class, Matching, Pushback, Reach, Report, reason};
use std::time::Duration;

/// Whether to try again, and when.
///
/// The default is the one of the resource format it is configured by: constant, 5 s, endless, any failure. An endless
/// retry still ends at the caller's deadline.
///
/// ```
/// use outrigger_resilience::{Backoff, Class, Matching, Retry};
/// use std::time::Duration;
///
/// let retry = Retry {
///     backoff: Backoff::Constant { delay: Duration::from_secs(1) },
///     max_retries: Some(2),
///     matching: Matching::parse("500-599", "")?,
/// };
/// assert_eq!(retry.next(2, Class::Http(503), 0), Some(Duration::from_secs(1)));
/// assert_eq!(retry.next(3, Class::Http(503), 0), None, "two retries are all there are");
/// assert_eq!(retry.next(1, Class::Http(404), 0), None, "not a status worth a retry");
/// # Ok::<(), outrigger_resilience::MatchingError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// How long to wait before each retry.
    pub backoff: Backoff,
    /// How many retries follow the first attempt at most; `None` for endless.
    pub max_retries: Option<u32>,
    /// Which failures are worth one.
    pub matching: Matching,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            backoff: Backoff::Constant { delay: Duration::from_secs(5) },
            max_retries: None,
            matching: Matching::default(),
        }
    }
}

impl Retry {
    /// The wait before retry number `attempt` (from 1) after an attempt that ended in `class`; `None` when it is to be
    /// the last.
    #[must_use]
    pub fn next(&self, attempt: u32, class: Class, random: u64) -> Option<Duration> {
        let allowed = self.max_retries.is_none_or(|max| attempt <= max);
        (allowed && self.matching.has(class)).then(|| self.backoff.delay(attempt, random))
    }
}

/// What a retry may not do.
///
/// ```
/// use outrigger_kernel::{Deadline, Mono};
/// use outrigger_resilience::{CallContext, Class, Idempotency, Reach, Report, Restraint, reason};
///
/// let restraint = Restraint::default();
/// let order = CallContext::until(Deadline(Mono(u64::MAX)));
/// let lost = Report::from(Class::Failure);
/// assert_eq!(restraint.forbids(&order, &lost), Some(reason::RETRY_UNSAFE));
/// assert_eq!(restraint.forbids(&order, &Report { reach: Reach::NotSent, ..lost }), None);
/// assert_eq!(restraint.forbids(&order.idempotent(Idempotency::Key), &lost), None);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Restraint {
    /// The backoff after an attempt that met overload.
    pub overloaded: Backoff,
    /// The longest that a callee can make us wait; asked for more, the call ends at once.
    pub pushback_max: Duration,
}

impl Default for Restraint {
    fn default() -> Self {
        Self {
            overloaded: Backoff::FullJitter {
                base: Duration::from_secs(1),
                max: Duration::from_secs(5),
            },
            pushback_max: Duration::from_secs(20),
        }
    }
}

impl Restraint {
    /// Why an attempt that ended so must not be followed by another one, if it must not.
    #[must_use]
    pub fn forbids(&self, context: &CallContext, report: &Report) -> Option<&'static str> {
        if report.reach == Reach::Sent && !context.idempotency.repeatable() {
            return Some(reason::RETRY_UNSAFE);
        }
        match report.pushback {
            Pushback::No => Some(reason::RETRY_REFUSED),
            Pushback::After(wait) if wait > self.pushback_max => Some(reason::RETRY_REFUSED),
            _ if context.hedge => Some(reason::RETRY_OF_HEDGE),
            _ => None,
        }
    }
}
