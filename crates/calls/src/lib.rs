//! # Calls: from one app to another, and to the world outside
//!
//! ```text
//!   address --Directory--> Target --Invoker--> policy --> AppChannel --> connection to the app
//!                                     |                   OutboundClient --> connection outside
//!                                     access list, headers, path
//! ```
//!
//! Everything that leaves for an app goes through its [`AppChannel`]: invocations, deliveries of events, health probes.
//! Bodies stream both ways and are never held whole; the slower side sets the pace. Every call has limits in time
//! ([`Patience`]) and number.
//!
//! | file | what |
//! |---|---|
//! | `invoke.rs` | [`Invoker`]: a call by address, under a policy |
//! | `policy.rs` | [`CallPolicy`]: what stands between a call and its target |
//! | `places.rs` | which instance gets an attempt, where a policy balances |
//! | `shelf.rs` | answers kept, and one call for all who ask for the same at once |
//! | `ladder.rs` | what a call is answered with when it has failed for good |
//! | `chaos.rs` | faults on purpose |
//! | `inbound.rs` | what stands before an app itself, whoever calls it |
//! | `grpc.rs` | the same for gRPC, undecoded |
//! | `directory.rs`, `target.rs` | who can be called, and what an address means |
//! | `access.rs`, `path.rs`, `headers.rs` | what may be called, and how a request looks when it leaves |
//! | `discover/` | [`discover`]: which places answer for a name, from lists, DNS and the directory |
//! | `lookup.rs` | [`Lookup`]: apps of other hosts, found by name resolution and kept |
//! | `neighbour.rs` | apps that another process of this machine hosts |
//! | `peer.rs` | [`PeerWays`]: the seam to runtimes of other hosts |
//! | `channel.rs`, `gate.rs`, `health.rs` | one app instance |
//! | `outbound.rs` | services outside |
//! | `wire/` | connections |
//!
//! The invariant: the path that the access list judged is the path that is sent, and a request that may have reached
//! the callee is never sent a second time unless a policy says so or the method is safe to repeat.
//!
//! It is not: a gateway with routes. It knows no header names but those of
//! HTTP and gRPC; whoever calls it brings the others along as values.
#![forbid(unsafe_code)]

pub mod access;
pub mod body;
mod channel;
mod chaos;
mod directory;
pub mod discover;
mod error;
mod gate;
pub mod grpc;
mod headers;
mod health;
mod inbound;
mod invoke;
mod ladder;
mod lookup;
mod neighbour;
mod outbound;
mod outgoing;
mod path;
mod patience;
mod peer;
mod places;
mod policy;
mod shelf;
mod target;
mod wire;

#[cfg(test)]
mod tests;

pub use access::{AccessList, Caller, Over, Refusal};
pub use body::{Body, BoxError};
pub use channel::{AppChannel, AppProtocol, AppTarget, ChannelSettings, UnknownProtocol};
pub use chaos::{Chaos, FaultSettings};
pub use directory::{Directory, Registration};
pub use error::{CallError, Phase};
pub use headers::{Forwarding, HeaderEdits, strip_hop_by_hop};
pub use health::{AppHealth, Health, HealthMachine, HttpProbe, Probe, ProbeSettings};
pub use inbound::Inbound;
pub use invoke::{Invocation, Invoker, REPLAY_BYTES_MAX};
pub use ladder::{Alternate, Alternates, Ladder, LadderSettings, StaticAnswer};
pub use lookup::{Lookup, LookupSettings};
pub use neighbour::{Neighbour, Relay};
pub use outbound::{BadTls, ClientTls, OutboundClient, OutboundSettings, Reach};
pub use path::{BadPath, CanonicalPath, PATH_BYTES_MAX};
pub use patience::{Patience, QUIET_DEFAULT, STALL_DEFAULT};
pub use peer::PeerWays;
pub use places::StickyBy;
pub use policy::{CallPolicy, RETRY};
pub use shelf::{Shelf, ShelfSettings};
pub use target::{Base, HttpEndpoint, Instances, Target, split_invocation};
pub use wire::BodyFault;
