//! The API over real sockets: one host on the memory engine, an app beside it, clients that behave and clients that do
//! not.
//!
//! The scenarios of `tests/compat` run here too, in-process and in milliseconds; `tests/it` runs them against the built
//! binary.

mod app;
mod delivery;
mod grpc;
mod hostile;
mod invoke;
mod node;
mod outside;
mod property;
mod scenarios;

#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
#[path = "../../../../tests/harness/http.rs"]
mod http;
#[path = "../../../../tests/harness/scenario.rs"]
mod scenario;
