//! Logical time: what happened before what, when no two machines agree on the hour.
//!
//! | clock | what it tells | what it costs |
//! |---|---|---|
//! | [`Lamport`] | an order that never contradicts cause and effect | one number |
//! | [`VersionVector`] | whether one event knew of another, or neither did | one number per replica |
//! | [`Siblings`] | which of several written values are still news, write by write | one number per replica, and the values |
//! | [`HybridClock`] | an order as above that also reads as the time of day | one number |
//!
//! ```
//! use outrigger_kernel::{Wall, logical::{Causality, HybridClock, VersionVector}};
//! use std::time::Duration;
//!
//! let (mut paris, mut tokyo) = (HybridClock::new(), HybridClock::new());
//! let sent = paris.tick(Wall(5_000));
//! // Tokyo's clock is 40 ms slow, and still what it does next comes after what it has heard of.
//! let heard = tokyo.observe(sent, Wall(4_960), Duration::from_millis(500)).unwrap();
//! assert!(heard > sent);
//!
//! let (mut left, mut right) = (VersionVector::new(), VersionVector::new());
//! left.advance("a");
//! right.advance("b");
//! assert_eq!(left.compare(&right), Causality::Concurrent);
//! right.merge(&left);
//! assert_eq!(left.compare(&right), Causality::Before);
//! ```
//!
//! The invariant of all of them: if one event can have influenced another, its stamp is the smaller one. The converse
//! holds for vectors alone; two hybrid or Lamport stamps are ordered even where nothing connects their events.
//!
//! Entries are replicas, of which there are few and whose names are never used for another one: a replica that has lost
//! what it knew must come back under a new name, or its new events would be taken for old ones.

mod hybrid;
mod lamport;
mod siblings;
#[cfg(test)]
mod tests;
mod vector;

pub use hybrid::{HybridClock, HybridStamp, TooFarAhead};
pub use lamport::{Lamport, LamportStamp};
pub use siblings::Siblings;
pub use vector::{Causality, Dot, VersionVector};
