//! Discovery: which places answer for a name, and how that changes.
//!
//! ```text
//!   Source --find()--> Found { places, valid_for } --Discovery--> the present set --> a balancer's update()
//!     |
//!     |-- FixedList     places written down in the settings
//!     |-- DnsSource     A, AAAA or SRV records, for as long as their TTLs say; Kubernetes headless services by their name
//!     `-- LocalApps     instances of an app that this process and its neighbours host
//! ```
//!
//! | file | what |
//! |---|---|
//! | `source.rs` | [`Source`], [`Place`], and the lists that need nothing else: [`FixedList`], [`LocalApps`] |
//! | `keep.rs` | [`Discovery`]: keeps the set of one source up to date |
//! | `several.rs` | [`Several`] sources as one; [`Endpoints`]: a set as a balancer takes it |
//! | `apps.rs` | [`AppSources`]: which source has an app, by a list or by a name made of its id |
//! | `dns/` | [`DnsSource`] and the small resolver under it |
//!
//! The invariant: a source that is down changes nothing. The last set it gave is used, and marked as stale, until it gives
//! another one; nobody's calls wait for a source but the very first ones.
//!
//! It is not: a registry. Nothing is announced here, and whether a place is healthy is for those to find out who call it.

mod apps;
mod dns;
mod keep;
mod several;
mod source;
#[cfg(test)]
mod tests;

pub use apps::{AppSources, DnsApps, ListedApps, listed};
pub use dns::{DnsClient, DnsFailure, DnsSettings, DnsSource, Records, Service};
pub use keep::{Discovery, DiscoverySettings, PlaceSet};
pub use several::{Endpoints, Several};
pub use source::{At, BadPlace, FindError, FixedList, Found, LocalApps, PLACES_MAX, Place, Source};
