//! # End to end: the built binary, real clients, real faults
//!
//! The harness behind the tests in `it/`. A test starts the binary with [`Start`] on free ports and a folder of its own,
//! talks to it with [`http`] or with an official client, and loses it by pid when the [`Node`] is dropped.
//!
//! ```text
//!   Start --> Node (pid, ports, log) <-- http::Connection, curl, apps/python, apps/javascript, apps/rust
//!                | app channel
//!                v
//!              App (a recorder on a thread of this process)
//! ```
//!
//! Rules: everything listens on 127.0.0.1 on ports below the range that outgoing connections use; waiting is asking
//! again until a deadline ([`patience`]), never sleeping for a guess; a tool that is missing fails the test that needs
//! it and says how to get it.
#![forbid(unsafe_code)]

pub mod app;
pub mod components;
pub mod folder;
pub mod http;
pub mod mutate;
pub mod node;
pub mod patience;
pub mod ports;
pub mod scenario;
pub mod tools;

pub use app::{Answer, App};
pub use folder::Folder;
pub use node::{Node, Start};
pub use patience::eventually;
