//! # Resilience: what to do when the other side does not answer as hoped
//!
//! Each part is a pure machine: the time comes in as an argument, a decision comes out. No part sleeps, spawns or reads a
//! clock, so hours of failure can be tested in milliseconds. One driver, [`Stack`], puts them around a call, as far as a
//! [`Policy`] names them:
//!
//! ```text
//!   deadline ( rate limit ( throttle ( retry + hedge ( breaker ( bulkhead ( pick ( timeout ( call ) ) ) ) ) ) ) )
//!                                        |               |                          |
//!                                        |               |   a timed out or cancelled attempt is dropped, and is heard of
//!                                        |               an open breaker ends the retrying: the next one would fail too
//!                                        one count and one budget for all attempts; none that could not end in time
//! ```
//!
//! The order is not a matter of taste. A timeout outside the breaker would hide exactly the failures a breaker is for;
//! a breaker outside the retry would count three failures as one; a seat held while waiting for a retry is a seat lost.
//!
//! | part | file | decides |
//! |---|---|---|
//! | [`CallContext`] | `context.rs` | nothing: it is what a call brings along and hands on |
//! | [`Retry`], [`Restraint`], [`Matching`] | `retry.rs`, `matching.rs` | whether a failure is worth another attempt |
//! | [`Backoff`] | `backoff.rs` | how long to wait before it |
//! | [`Budget`] | `budget.rs` | whether there have been too many of them |
//! | [`HedgeSettings`] | `hedge.rs` | when a slow attempt gets a companion |
//! | [`Attempts`] | `attempts.rs` | what follows when: the one count of retries and hedges |
//! | [`AdaptiveTimeout`] | `timeout.rs` | how long an attempt may take |
//! | [`Breaker`], [`Breakers`] | `breaker.rs`, `breakers.rs` | whether a call may be tried at all |
//! | [`Bulkhead`], [`AdaptiveLimit`] | `bulkhead/`, `limit/`, `shed/` | how many may be under way, and who waits or goes without |
//! | [`Throttle`] | `throttle.rs` | whether a call is worth sending |
//! | [`RateLimiter`], [`KeyedRateLimiter`] | `rate/` | how many there may be in a time |
//! | [`ShuffleShard`] | `shard.rs` | who shares a fate with whom |
//! | [`Balancer`] | `balance/` | which endpoint gets an attempt |
//! | [`Flights`] | `flight.rs` | whether a call is made or waits for the same one under way |
//! | [`Policy`], [`PolicyState`] | `policy.rs`, `state.rs` | which of the parts a call goes through, and what they know |
//! | [`Stack`], [`run`] | `stack/`, `drive.rs` | in which order |
//! | [`Percentiles`], [`Memo`] | `percentile.rs` | nothing: they say what calls took lately |
//! | [`Watch`], [`reason`] | `watch.rs`, `reason.rs` | nothing: they are told what the others do, and in which words |
//!
//! The invariant: no decision depends on anything but the arguments given and the outcomes recorded.
//!
//! It is not: a client, or a place where status codes get their meaning. The caller says with a [`Class`] (or, knowing
//! more, a [`Report`]) what an answer means.
//!
//! ```
//! use outrigger_kernel::{Deadline, World};
//! use outrigger_resilience::{Backoff, Class, Matching, Policy, PolicyState, Retry, run};
//! use std::{sync::Arc, time::Duration};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
//! # runtime.block_on(async {
//! let world: Arc<dyn World> = outrigger_sim::SimWorld::new(7);
//! let policy = Policy {
//!     timeout: Some(Duration::from_secs(1)),
//!     retry: Some(Retry {
//!         backoff: Backoff::Constant { delay: Duration::from_millis(100) },
//!         max_retries: Some(3),
//!         matching: Matching::parse("429,500-599", "")?,
//!     }),
//!     ..Policy::default()
//! };
//! let state = PolicyState::new(&policy);
//! let deadline = Deadline::after(&*world, Duration::from_secs(10));
//! let class = |status: &u16| if *status < 400 { Class::Success } else { Class::Http(*status) };
//!
//! // The first attempt meets a 503, the second one a 200.
//! let answer = run(&*world, &policy, &state, deadline, class, |attempt| async move {
//!     if attempt.number == 1 { 503 } else { 200 }
//! });
//! assert_eq!(answer.await?, 200);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod attempts;
mod backoff;
mod balance;
mod breaker;
mod breakers;
mod budget;
mod bulkhead;
pub mod cache;
mod class;
mod context;
mod dice;
mod drive;
mod explain;
mod fallback;
mod fault;
mod flight;
mod hedge;
#[cfg(feature = "tower")]
pub mod layers;
mod limit;
mod matching;
mod percentile;
mod policy;
mod rate;
pub mod reason;
mod recent;
mod retry;
mod shard;
mod shed;
mod stack;
mod state;
mod throttle;
mod timeout;
mod watch;

pub use attempts::{After, Attempts, RETRY_DELAY_MIN, Rules, TRIED_MAX, Tried};
pub use backoff::Backoff;
pub use balance::{
    Ask, BalanceSettings, BalanceTotals, Balancer, Cause, ENDPOINTS_MAX, Endpoint, EndpointStatus,
    Locality, NoEndpoint, OutlierSettings, Pick, Strategy, Verdict, WEIGHT_MAX, sticky_key,
};
pub use breaker::{
    Breaker, BreakerSettings, BreakerStatus, Counts, Forced, Open, Outcome, Pass, Permit, Phase,
    Rates, Trip, Window,
};
pub use breakers::Breakers;
pub use budget::{Budget, BudgetSettings, Extra, Spent, UnderWay};
pub use bulkhead::{
    Bulkhead, BulkheadSettings, BulkheadStatus, CellBulkhead, CellBulkheadSettings, Entrant, Entry,
    Refused, Seat, SeatRef, Seats, Waiter, Why,
};
pub use class::{Class, Pushback, Reach, Report};
pub use context::{
    CallContext, GrpcTimeout, Headers, Idempotency, Incoming, header, parse_grpc_timeout,
    parse_request_timeout, parse_timeout_ms, reserve,
};
pub use drive::{Attempt, GaveUp, run};
pub use fallback::{Degraded, Fallback, LastGood, Rung, STEPS_MAX, Step};
pub use fault::{
    Abort, Corruption, FAULT_RULES_MAX, FAULTS_FOR_DEFAULT, FAULTS_FOR_MAX, Fault, FaultPlan,
    FaultRule, FaultTotals, Faults, HeaderIs, Pace,
};
pub use flight::{Crowded, FlightSettings, Flights, Joined, Lost};
pub use hedge::HedgeSettings;
pub use limit::{AdaptiveLimit, Ended, LimitSettings};
pub use matching::{Matching, MatchingError};
pub use percentile::{Memo, Percentiles, TRACKED_MAX};
pub use policy::Policy;
pub use rate::{
    Algorithm, Decision, Grant, KEYS_MAX, KeyedRateLimiter, LedgerDamaged, OnLoss, Quota,
    RateLimitField, RateLimitPolicyField, RateLimiter, SHARERS_MAX, ShareHolder, ShareLedger,
    ShareTerms, TokenBucket, decide_all,
};
pub use retry::{Restraint, Retry};
pub use shard::{HAND_MAX, Hand, ShuffleShard};
pub use shed::{Criticality, Rank};
pub use stack::{Balanced, Called, Stack, Target};
pub use state::{Latencies, PolicyState, PolicyStates};
pub use throttle::{Throttle, ThrottleSettings, Throttled};
pub use timeout::{AdaptiveTimeout, share_of};
pub use watch::{BreakerWatch, Part, Watch};
