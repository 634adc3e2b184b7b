//! Apps as child processes: started, listened to, waited for, stopped.
//!
//! ```text
//!   start -> running -> ended -> (restart after a pause, or report)
//!               |
//!               +- lines of stdout and stderr, each with the app's name before it
//!               +- SIGTERM, grace, SIGKILL, to the whole process group
//! ```
//!
//! The invariants: every child leads its own process group, so that what it starts ends with it; a child never outlives
//! the runtime, not even one killed with SIGKILL (the kernel sends SIGTERM on the parent's death); a child's output is
//! never lost between its last line and its end.

mod lines;
mod port_watch;
mod process;
mod shim;

pub use lines::{Destination, LineSink, Prefix};
pub use port_watch::{AppPort, wait_for_port};
pub use process::{Command, Ending, Process};
pub use shim::{SHIM, exec};
