//! # Proofs: the real engine on a simulated disk
//!
//! ```text
//!   script   what clients do, by a seed or recorded by hand: commits of every kind, time, checkpoints, restarts
//!   run      plays a script on an engine without threads and writes down what it answered, and after which disk step
//!   story    what was answered: the states of the store, commit by commit, as the naive model of the exam has them
//!   verdict  opens an image that a crash left and holds it against the story
//! ```
//!
//! | proof | what happens to the disk |
//! |---|---|
//! | `crashes` | the power is cut, or the process killed, after every single step of a recorded script, in many ways each |
//! | `seeds` | the same at some steps of many random scripts |
//! | `threads` | the same under an engine with its threads and many clients at once, whatever order they came to |
//! | `faults` | each write, sync, read and name operation fails in turn; syncs lie; the disk is full |
//! | `flips` | one bit of one byte is turned over, for every byte of a small store |
//! | `planted` | nothing; the engine has a bug on purpose, and the proofs above must find it |
//!
//! An unoptimised build tries a part of it, so that it can run with every change; `cargo xtask test` runs all of it
//! optimised.
//!
//! The claim: what comes back is a state that the store really had, with every acknowledged commit in it, or the store
//! refuses to open and says why; it never comes back as something that it never was.
#![expect(clippy::unwrap_used, reason = "a test")]

mod crashes;
mod dice;
mod faults;
mod flips;
#[cfg(feature = "planted")]
mod planted;
mod run;
mod script;
mod seeds;
mod story;
mod threads;
mod verdict;

/// How many of many things are left out between two that are tried: none in an optimised build.
const fn stride(unoptimised: usize) -> usize {
    if cfg!(debug_assertions) { unoptimised } else { 1 }
}
