//! Storms: what makes a system go down and stay down, in simulated time, with the policies that keep it up and without.
//!
//! The servers are queues (`server.rs`): a number of workers, a line before them, service times. They are foreign ones:
//! they know nothing of deadlines, cancellation or priorities, and work on for callers that have left. So what is shown
//! here is what the calling side alone can do. Calls come in at instants fixed in advance, as users do, not when the last
//! one has been answered. Each scenario has its ablation, which must fail.

#[cfg(test)]
mod chain;
#[cfg(test)]
mod hedging;
#[cfg(test)]
mod load;
#[cfg(test)]
mod metastable;
#[cfg(test)]
mod server;
