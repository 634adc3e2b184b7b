//! The built binary from outside: its flags, words, exit codes, and what survives its end.
//!
//! Every test starts the binary that cargo built, on free ports, in folders of its own. Whatever it starts it stops.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where and end")]
#![expect(clippy::too_many_lines, reason = "a list of flags is as long as there are flags")]

mod commands;
mod drain;
mod durability;
mod harness;
mod refusals;
mod reload;
mod run;
mod settings;
mod sidecar;
mod telemetry;
