//! # Resilience: what to do when the other side does not answer as hoped
//!
//! Each part is a pure machine: the time comes in as an argument, a decision comes out. No part sleeps, spawns or reads a
//! clock, so hours of failure can be tested in milliseconds. One thin driver, [`run`], puts them around a call:
//!
//! ```text
//!   retry ( breaker ( timeout ( call ) ) )          all of it inside one deadline
//!     |        |          |
//!     |        |          a timed out or cancelled attempt is dropped, and counts as a failure
//!     |        an open breaker ends the retrying: it knows the next attempt would fail as well
//!     never waits for an attempt that could only start past the deadline
//! ```
//!
//! The order is not a matter of taste. A timeout outside the breaker would hide exactly the failures a breaker is for;
//! a breaker outside the retry would count three failures as one.
//!
//! | part | file | decides |
//! |---|---|---|
//! | [`Backoff`] | `backoff.rs` | how long to wait before the n-th retry |
//! | [`Retry`], [`Matching`] | `retry.rs`, `matching.rs` | whether there is an n-th retry |
//! | [`Breaker`], [`Breakers`] | `breaker.rs`, `breakers.rs` | whether a call may be tried at all |
//! | [`Policy`], [`PolicyState`] | `policy.rs` | which of the parts a call goes through |
//! | [`Watch`] | `watch.rs` | nothing: it is told what the others do |
//!
//! The invariant: no decision depends on anything but the arguments given and the outcomes recorded.
//!
//! It is not: a client, a load balancer, or a place where status codes get their meaning. The caller says with a
//! [`Class`] what an answer means.
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
//!     breaker: None,
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

mod backoff;
mod breaker;
mod breakers;
mod class;
mod drive;
mod matching;
mod policy;
mod retry;
mod watch;

pub use backoff::Backoff;
pub use breaker::{Breaker, BreakerSettings, BreakerStatus, Counts, Open, Permit, Phase, Trip};
pub use breakers::Breakers;
pub use class::Class;
pub use drive::{Attempt, GaveUp, RETRY_DELAY_MIN, run};
pub use matching::{Matching, MatchingError};
pub use policy::{Policy, PolicyState};
pub use retry::Retry;
pub use watch::{BreakerWatch, Part, Watch};
