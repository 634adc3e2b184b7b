//! Which of several equal endpoints gets the next attempt.
//!
//! ```text
//!   names, weights, zones --update--> fleet --pick--> Pick --record--> latency, failures, ejection
//!                                       ^                                            |
//!                                       +--------------------------------------------+
//! ```
//!
//! A [`Balancer`] holds a set of endpoints that may change under it; what is known of those that stay is kept. A pick is
//! a guard: while it lives it counts as one call in flight, its [`Pick::record`] says how the call ended, and dropping it
//! says nothing but that the call is over.
//!
//! | strategy | picks | use |
//! |---|---|---|
//! | [`Strategy::PeakEwma`] | of two drawn at random the one with the lower cost | the default |
//! | [`Strategy::LeastLoaded`] | the one with the fewest calls in flight, looking at all | small fleets, calls of equal length |
//! | [`Strategy::RoundRobin`] | each in turn, by weight | when nothing is known of latency |
//! | [`Strategy::Random`] | any, by weight | many callers that would otherwise move in step |
//! | [`Strategy::Sticky`] | the one the call's key belongs to, unless that one is full | caches and sessions at the callee |
//!
//! **Cost** of an endpoint is `(latency + penalty * failing^2) * (in flight + 1) / weight`. *latency* jumps up to any
//! sample above it and sinks towards the samples below it with a time constant of `decay` (5 s); without samples it
//! sinks towards nothing, so that an endpoint that was slow is asked again. *failing* is the share of recent failures: a
//! failure in a hundred hardly counts, one in two outweighs any latency, so that an endpoint which fails fast does not
//! draw the traffic of all the others. An endpoint not measured yet counts as quick as the one it is compared with.
//!
//! **What is passed over**, while there is another: endpoints tried before by the same call, and ejected ones
//! (`outlier.rs`). When less than `panic_share` (a half) of the usable weight would be left, ejections are ignored:
//! then it is not the endpoints that are ill. What the caller's own condition rejects is never picked.
//!
//! **Slow start**: a new endpoint, and one back from ejection, is drawn with a probability that grows from a tenth to
//! one over `slow_start` (15 s). The first set of a balancer starts at full weight, and sticky keys go where they belong.
//!
//! **Zones**: with a [`Locality`], endpoints of the own zone come first. A share spills over when less than `1 / 1.4` of
//! the zone's weight is usable, and a single call does when the zone's candidate costs more than `cross_zone_cost` times
//! one outside.
//!
//! The invariant: a pick changes nothing but counters, allocates nothing and waits for nobody.
//!
//! Sources: two choices, Mitzenmacher 2001; peak EWMA, Finagle and Linkerd; weighted turns, the static stride scheduler
//! of gRPC; sticky, rendezvous hashing (Thaler and Ravishankar 1996) with bounded loads (Mirrokni, Thorup and
//! Zadimoghaddam 2016); spill-over and panic, Envoy.

mod choose;
mod fleet;
mod member;
mod outlier;
mod pick;
mod sticky;
#[cfg(test)]
mod tests;

pub use fleet::{BalanceTotals, Balancer, EndpointStatus};
pub use outlier::{Cause, OutlierSettings};
pub use pick::{Pick, Verdict};
pub use sticky::sticky_key;

use std::{sync::Arc, time::Duration};

/// How many endpoints one balancer holds at most; more are left out.
pub const ENDPOINTS_MAX: usize = 10_000;

/// The largest weight an endpoint can have; more counts as this.
pub const WEIGHT_MAX: u32 = 1_000_000;

/// An endpoint as its source describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint<T> {
    /// Its name, by which it is known again in the next set: usually address and port.
    pub name: Arc<str>,
    /// Its share of the traffic in relation to the others; 0 for no new calls.
    pub weight: u32,
    /// Where it stands, if that is known.
    pub zone: Option<Arc<str>>,
    /// What the caller needs to reach it.
    pub value: T,
}

impl<T> Endpoint<T> {
    /// An endpoint of weight 1 in no zone.
    pub fn new(name: impl Into<Arc<str>>, value: T) -> Self {
        Self { name: name.into(), weight: 1, zone: None, value }
    }
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Strategy {
    /// Power of two choices by cost.
    #[default]
    PeakEwma,
    /// The fewest calls in flight for its weight.
    LeastLoaded,
    /// Weighted turns.
    RoundRobin,
    /// Weighted chance.
    Random,
    /// By the key of the call. No endpoint has more than `load_factor` times the average of calls in flight; who would
    /// exceed that passes on to the next in the key's order. A call without a key goes by [`Strategy::PeakEwma`].
    Sticky {
        /// At least 1; 1.25 is usual. Lower values spread better and keep fewer calls at home.
        load_factor: f64,
    },
}

/// Own zone first.
#[derive(Clone, Debug, PartialEq)]
pub struct Locality {
    /// The zone of the caller.
    pub zone: Arc<str>,
    /// How many times the cost of an endpoint outside one of the own zone may have before a call leaves the zone.
    pub cross_zone_cost: f64,
}

impl Locality {
    /// The zone, left at three times the cost.
    pub fn new(zone: impl Into<Arc<str>>) -> Self {
        Self { zone: zone.into(), cross_zone_cost: 3.0 }
    }
}

/// How a balancer behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct BalanceSettings {
    /// How an endpoint is chosen.
    pub strategy: Strategy,
    /// The time constant with which latency and failures are forgotten; at least a millisecond.
    pub decay: Duration,
    /// What an endpoint that only fails costs, and the most that a pushback can make it cost.
    pub penalty: Duration,
    /// How long an endpoint takes to come up to its weight; zero for at once.
    pub slow_start: Duration,
    /// Own zone first, if there is one.
    pub locality: Option<Locality>,
    /// Below which usable share ejections are ignored.
    pub panic_share: f64,
    /// When endpoints are ejected, if ever.
    pub outliers: Option<OutlierSettings>,
}

impl Default for BalanceSettings {
    fn default() -> Self {
        Self {
            strategy: Strategy::PeakEwma,
            decay: Duration::from_secs(5),
            penalty: Duration::from_secs(5),
            slow_start: Duration::from_secs(15),
            locality: None,
            panic_share: 0.5,
            outliers: Some(OutlierSettings::default()),
        }
    }
}

/// What one attempt asks of the balancer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// The [`Pick::id`]s of the endpoints that the same call has tried; passed over while there is another.
    pub tried: &'a [u64],
    /// What a sticky call belongs to, as [`sticky_key`] makes it.
    pub key: Option<u64>,
}

/// There is no endpoint to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEndpoint {
    /// The set is empty, or every weight in it is 0.
    #[error("there is no endpoint")]
    None,
    /// There are endpoints, and the caller's condition rejects each.
    #[error("none of the endpoints can be used")]
    Unusable,
}
