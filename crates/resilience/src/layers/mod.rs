//! The parts as layers of `tower`, for programs that are built from those. With the feature `tower`, which is on unless
//! switched off.
//!
//! | layer | file | puts around a service |
//! |---|---|---|
//! | [`PolicyLayer`] | `policy.rs` | a whole [`crate::Policy`]: deadline, retries and hedges, breaker, bulkhead, timeout |
//! | [`DeadlineLayer`] | `deadline.rs` | one deadline, from what the request says or a default |
//! | [`RateLimitLayer`] | `rate.rs` | a rate limit: for all, per key, or a share of one for many nodes |
//! | [`ThrottleLayer`] | `throttle.rs` | a [`crate::Throttle`]: what the target would refuse is not sent |
//! | [`BulkheadLayer`] | `bulkhead.rs` | a [`crate::Bulkhead`]: seats, a bounded queue, shedding |
//! | [`BreakerLayer`] | `breaker.rs` | a [`crate::Breaker`] |
//!
//! The last four are in the order in which to nest them, outermost first; what they refuse is a [`Denied::Refused`], and a
//! call passes them without an allocation.
//!
//! | layer | file | puts around a service |
//! |---|---|---|
//! | [`CacheLayer`] | `cache.rs` | a [`crate::cache::ResponseCache`]; outermost |
//! | [`FlightLayer`] | `flight.rs` | [`crate::Flights`]: equal requests are one; just inside the cache |
//! | [`Balance`] | `balance.rs` | a [`crate::Balancer`]: a service in front of several |
//! | [`FaultLayer`] | `fault.rs` | [`crate::Faults`]; innermost |
//!
//! They are thin: what is decided is decided by the machines, time and timers come from a [`outrigger_kernel::World`].

mod balance;
mod breaker;
mod bulkhead;
mod cache;
mod deadline;
mod denied;
mod fault;
mod flight;
mod policy;
mod rate;
mod throttle;

pub use balance::{Balance, BalanceFuture};
pub use breaker::{BreakerFuture, BreakerLayer, WithBreaker};
pub use bulkhead::{BulkheadFuture, BulkheadLayer, WithBulkhead};
pub use cache::{CacheLayer, WithCache};
pub use deadline::{DeadlineLayer, WithDeadline};
pub use denied::Denied;
pub use fault::{FaultFuture, FaultLayer, WithFaults};
pub use flight::{FlightLayer, NotShared, WithFlights};
pub use policy::{PolicyLayer, Refusal, WithPolicy};
pub use rate::{RateLimitFuture, RateLimitLayer, WithRateLimit};
pub use throttle::{ThrottleFuture, ThrottleLayer, WithThrottle};

#[cfg(test)]
mod guard_tests;
#[cfg(test)]
mod tests;
