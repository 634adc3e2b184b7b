//! The wire: connections, and one exchange on one of them.
//!
//! ```text
//!   Pool --> Dialer --> Io (TCP or Unix, plain or TLS)
//!     |
//!     |-- Line     an HTTP/1.1 connection: one exchange at a time, driven by the task that makes it
//!     `-- Session  an HTTP/2 connection: many exchanges at once, driven by a task of its own
//! ```
//!
//! A Line has no task: the future that sends a request polls the connection, and so does the body that reads the answer.
//! A proxied call over HTTP/1.1 then runs from the first byte in to the last byte out on one task, without a single
//! hand-over between threads, which is most of what a proxy's latency is made of.

mod dial;
mod exchange;
mod fault;
mod hush;
mod io;
mod line;
mod pool;
mod pulse;
mod race;
mod session;
mod silence;
mod tls;

pub(crate) use dial::{Address, Protocol};
pub use fault::BodyFault;
pub(crate) use fault::verdict;
pub(crate) use pool::{Pool, PoolSettings};
#[cfg(test)]
pub(crate) use pulse::PulseSettings;
pub(crate) use tls::Security;
pub use tls::{BadTls, ClientTls};
