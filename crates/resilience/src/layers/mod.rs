//! The parts as layers of `tower`, for programs that are built from those. With the feature `tower`, which is on unless
//! switched off.
//!
//! | layer | file | puts around a service |
//! |---|---|---|
//! | [`PolicyLayer`] | `policy.rs` | a whole [`crate::Policy`]: deadline, retries and hedges, breaker, bulkhead, timeout |
//! | [`DeadlineLayer`] | `deadline.rs` | one deadline, from what the request says or a default |
//!
//! | [`RateLimitLayer`] | `rate.rs` | a rate limit: for all, per key, or a share of one for many nodes |
//! | [`ThrottleLayer`] | `throttle.rs` | a [`crate::Throttle`]: what the target would refuse is not sent |
//! | [`BulkheadLayer`] | `bulkhead.rs` | a [`crate::Bulkhead`]: seats, a bounded queue, shedding |
//! | [`BreakerLayer`] | `breaker.rs` | a [`crate::Breaker`] |
//!
//! The last four are in the order in which to nest them, outermost first; what they refuse is a [`Denied::Refused`], and a
//! call passes them without an allocation.
//!
//! They are thin: what is decided is decided by the machines, time and timers come from a [`outrigger_kernel::World`].

mod breaker;
mod bulkhead;
mod deadline;
mod denied;
mod policy;
mod rate;
mod throttle;

pub use breaker::{BreakerFuture, BreakerLayer, WithBreaker};
pub use bulkhead::{BulkheadFuture, BulkheadLayer, WithBulkhead};
pub use deadline::{DeadlineLayer, WithDeadline};
pub use denied::Denied;
pub use policy::{PolicyLayer, Refusal, WithPolicy};
pub use rate::{RateLimitFuture, RateLimitLayer, WithRateLimit};
pub use throttle::{ThrottleFuture, ThrottleLayer, WithThrottle};

#[cfg(test)]
mod guard_tests;
#[cfg(test)]
mod tests;
