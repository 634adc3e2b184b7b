//! # Outrigger: the library behind the binary
//!
//! One binary that runs next to services and gives them calls, state and events over the API their SDKs speak. This
//! crate names everything that is concrete: the engine, the ports, the files, the processes.
//!
//! ```text
//!   main -> cli (one file per command) -> settings, plan (data) -> node (wiring, in one place) -> session: run, drain
//!                                                                   |
//!                              engines, components, directory, one host per app, reload, telemetry
//! ```
//!
//! The invariant: below [`node`] nobody knows a concrete engine, above it nobody knows a block. [`world`] is the only
//! module of the house that reads a clock or starts a bare task.
#![forbid(unsafe_code)]

pub mod cli;
pub mod control;
pub mod demo;
pub mod failure;
pub mod logging;
pub mod node;
pub mod plan;
pub mod ports;
pub mod procfs;
pub mod running;
pub mod session;
pub mod settings;
pub mod supervise;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod world;
