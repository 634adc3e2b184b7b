//! The API over real sockets: one host on the memory engine, an app beside it, clients that behave and clients that do
//! not.
//!
//! The scenarios of `tests/compat` run here too, in-process and in milliseconds; `tests/it` runs them against the built
//! binary.

#[cfg(test)]
mod app;
#[cfg(test)]
mod delivery;
#[cfg(test)]
mod grpc;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod hosts;
#[cfg(test)]
mod invoke;
#[cfg(test)]
mod node;
#[cfg(test)]
mod outside;
#[cfg(test)]
mod property;
#[cfg(test)]
mod scenarios;

#[cfg(test)]
#[expect(unreachable_pub, reason = "shared with the end-to-end tests, a crate of their own")]
#[path = "../../../../tests/harness/http.rs"]
mod http;
#[cfg(test)]
#[expect(unreachable_pub, reason = "shared with the end-to-end tests, a crate of their own")]
#[path = "../../../../tests/harness/scenario.rs"]
mod scenario;
