//! # State: keys and values with etags, expiry and atomic change sets
//!
//! A [`Store`] is a named region of a key space. It answers reads from one snapshot and applies a list of changes as ONE
//! commit: either every condition in the list held and every change is durable, or nothing happened.
//!
//! ```text
//!   get, get_many, list ---------> one snapshot ---> Item { data, content_type, etag, expires_at }
//!   apply([set, delete, ..]) ----> every etag checked against the state before the request ---> one commit
//! ```
//!
//! Invariants:
//!
//! - An etag is the revision of the commit that last wrote the key, in decimal. No two values of a key ever share one,
//!   not even across a delete, so a stale etag can never match by accident.
//! - All conditions of a request are checked against the state *before* the request; then its changes apply in order,
//!   so of two changes to one key the later wins.
//! - An expired key is absent: for reads, for conditions, for lists.
//! - Every bound ([`OPERATIONS_MAX`], key and value sizes) is an error that says the bound and changes nothing.
//!
//! It is not a query engine, and it does not know what the bytes mean. Which key prefix belongs to which app is decided
//! by [`KeyPrefix`]; the store below sees only physical keys.
//!
//! ```
//! use outrigger_kernel::{Deadline, World};
//! use outrigger_keyspace::{Space, memory::Memory};
//! use outrigger_state::{ApplyError, Change, Set, Store};
//! use std::{sync::Arc, time::Duration};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
//! # runtime.block_on(async {
//! let world: Arc<dyn World> = outrigger_sim::SimWorld::new(7);
//! let space = Space::new(Memory::new(Arc::clone(&world)), Arc::clone(&world));
//! let store = Store::new(space, "orders");
//! let deadline = Deadline::after(&*world, Duration::from_secs(5));
//!
//! store.apply(vec![Change::Set(Set::new("order-1", "paid"))], deadline).await?;
//! let order = store.get("order-1").await?.ok_or("just written")?;
//! assert_eq!(order.data, "paid");
//!
//! // The etag makes the next write conditional: whoever comes second learns it.
//! let ship = || vec![Change::Set(Set::new("order-1", "shipped").if_match(&order.etag))];
//! store.apply(ship(), deadline).await?;
//! let late = store.apply(ship(), deadline).await;
//! assert!(matches!(late, Err(ApplyError::EtagMismatch { key }) if key == "order-1"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod apply;
mod change;
mod error;
mod etag;
mod keys;
mod list;
mod prefix;
mod read;
mod records;
mod store;
#[cfg(test)]
mod tests;

pub use apply::OPERATIONS_MAX;
pub use change::{Change, Concurrency, Delete, Set, Ttl};
pub use error::{ApplyError, GetError, IllegalKey};
pub use list::{Listed, Listing};
pub use prefix::{KEY_SEPARATOR, KeyPrefix};
pub use read::{ANSWER_BYTES_MAX, KEYS_PER_READ_MAX};
pub use store::{Item, Store};
