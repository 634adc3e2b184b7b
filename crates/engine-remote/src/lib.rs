//! # The remote engine: one machine is one system
//!
//! Any number of processes with the same data folder share it. One of them *holds* it: it has the engine open, by whose
//! lock there is only one, and serves the others over a Unix socket in the folder. The others *follow*. When the holder
//! leaves or dies, the kernel ends the connections, and the first follower that gets the lock holds the folder.
//!
//! ```text
//!   Shared --holds----> engine <-- Server <-- socket in the folder
//!      \---follows----> Remote --------------------^       (the same engine, one round trip away)
//! ```
//!
//! Invariants:
//!
//! - the engine's lock decides who holds; nothing is agreed on by timing. A holder that is merely slow, or stopped, keeps
//!   everything, and the others wait;
//! - what was answered stays: that is the engine's promise. What was not answered when a connection ended is asked again: a
//!   read as it is, a commit under the same name, by which the next holder knows whether it has it already;
//! - a snapshot is pinned by its first read and ends with its holder; a watch outlives it and is woken at least once for
//!   what it may have missed;
//! - only processes of the same user are served, whatever the permissions of the folder;
//! - frames, requests, snapshots, watches, connections and waits have bounds, and bytes from the socket cannot break them.
//!
//! What it is not: a way to another machine, or a second copy of the data.
#![forbid(unsafe_code)]

mod bounds;
mod client;
mod place;
mod server;
mod shared;
mod socket;
mod wire;

#[cfg(test)]
mod tests;

#[doc(hidden)]
pub use wire::read_anything;

pub use client::Remote;
pub use place::{Place, stranger};
pub use server::Server;
pub use shared::{BoxError, Change, Changes, Opened, Refused, ShareError, Shared};
