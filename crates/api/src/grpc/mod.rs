//! The gRPC side of the API.
//!
//! ```text
//!   Front -- token? -- trace, deadline --+-- Dapr (service.rs --> one file per family)
//!                                        +-- health, reflection
//!                                        '-- any other service: passed on to another app, undecoded
//! ```
//!
//! [`callback`] is the other direction: what we call on apps that speak gRPC.

pub(crate) mod callback;
mod context;
mod front;
mod health;
mod invoke;
mod later;
mod lock;
mod metadata;
mod publish;
mod secrets;
mod service;
mod state;
mod subscribe;

pub(crate) use context::Context;
pub(crate) use front::Front;
