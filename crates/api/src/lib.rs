//! # Api: the only crate that speaks the wire
//!
//! HTTP and gRPC towards apps, the words that their SDKs know, one error map, metrics, traces. What the words mean is
//! decided in the blocks below; here a request is read, one of them is asked, and the answer written.
//!
//! ```text
//!   Listener -- serve_http -- http::handle ----+
//!            '- serve_grpc -- grpc front ------+-- operations -- state, events, calls
//!                                              |
//!   app <-- deliver (subscriptions, health) <--+-- Host: one app's side of it all
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`Host`], [`Components`] | what a port serves from; built by the binary |
//! | [`serve_http`], [`serve_grpc`] | connections, limits, drain |
//! | `http`, `grpc` | translation, one file per family |
//! | `operations` | what both do, apart from how they are asked |
//! | `deliver` | the app's subscriptions and its health |
//! | [`errors`] | every code, and how a fault is written |
//! | [`metrics`], [`trace`] | numbers and spans |
//!
//! Invariants: every request is answered, with a stable code when it fails; nothing a client sends makes this panic,
//! grow without bound or wait for ever; what a request wrote before it failed is nothing.
//!
//! What it is not: a place for policy or storage. It holds no data but counters and the little that `metadata` shows.
#![forbid(unsafe_code)]

mod access_log;
mod app_health;
mod clock;
mod components;
mod deliver;
pub mod errors;
mod grpc;
mod guard;
mod health;
mod host;
mod http;
pub mod metrics;
pub mod names;
mod operations;
mod scrape;
pub mod secrets;
mod server;
pub mod trace;

pub use app_health::watch_app;
pub use components::{
    CallPolicies, Components, LOCK_CAPABILITIES, LockComponent, PUBSUB_CAPABILITIES, Policed,
    PubsubComponent, Registered, STATE_CAPABILITIES, SecretComponent, StateComponent,
};
pub use deliver::{Outlet, Subscriptions};
pub use errors::Fault;
pub use health::Health;
pub use host::{AppConnection, AppHealthCheck, Host, HostParts, Settings, Shutdown};
pub use http::{ReplyBody, RequestBody, Surface, handle};
pub use scrape::serve_metrics;
pub use server::{Listener, serve_grpc, serve_http, serve_peers};
