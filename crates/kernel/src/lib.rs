//! # Kernel: the words every other crate shares
//!
//! Time, randomness and task spawning come into the house through one door, [`World`]; errors leave it through one
//! door, [`Problem`]; a request's time budget is a [`Deadline`]; its place in a distributed trace is a
//! [`TraceContext`].
//!
//! What a store asks of a disk is [`disk`], ports only. What happened before what, where no clock is shared, is
//! [`logical`].
//!
//! The invariant: nothing here does I/O and nothing here knows an async runtime. A crate that depends only on `kernel`
//! can be run under a simulated clock, because there is no other clock it could have asked.
//!
//! What it is not: a drawer for helpers. A word lands here only when crates of three layers need it.
#![forbid(unsafe_code)]

mod deadline;
pub mod disk;
pub mod logical;
mod problem;
mod time;
mod trace;
mod world;

pub use deadline::{Deadline, Elapsed, within};
pub use problem::{Kind, Problem};
pub use time::{Mono, Wall};
pub use trace::TraceContext;
pub use world::{BoxFuture, TaskHandle, World};
