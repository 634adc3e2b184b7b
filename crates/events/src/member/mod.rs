//! Groups that several processes serve: one of them dispatches, the others are members at its table.
//!
//! ```text
//!   process A: claim -> dispatcher -> seat of A's consumer
//!                          |   \---> seat of B's consumer = host.rs --- line --- join.rs -> B's consumer
//!   process B: no claim, joins A                             (a Unix socket)
//! ```
//!
//! Messages are shared out by whoever holds the group's claim, so that each goes to one consumer wherever it is, and
//! nothing about a message is written to the store that would not be written for one process. A line is a membership:
//! when it breaks, the dispatcher takes back what the member held, uncounted, and the member looks for the holder anew.
//! When that one is gone, it writes a claim of its own and dispatches itself.
//!
//! Who is gone is for [`Neighbours`] to find out. A mistake there costs a second delivery and no more: two dispatchers
//! cannot both commit (`dispatch/store.rs`).
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | who dispatches, and how one finds out |
//! | `host.rs` | the dispatcher's end of a line |
//! | `join.rs` | the member's end |
//! | `wire.rs` | what travels |

mod host;
mod join;
#[cfg(test)]
mod tests;
mod wire;

pub use host::host;
pub(crate) use join::{Membership, Refused, join};

use crate::{error::StoreError, keys::GroupKeys, records::Claim};
use outrigger_kernel::BoxFuture;
use outrigger_keyspace::{Level, Record, Space};
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection to another process.
pub trait Line: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Line for T {}

/// The other processes that have brokers in the same key space.
pub trait Neighbours: Send + Sync + 'static {
    /// The name of this process; no other ever has it.
    fn own(&self) -> &str;

    /// A line to the process `name`, which hands its end to [`host()`]. An error of the kind `NotFound` or
    /// `ConnectionRefused` says that there is no such process any more.
    fn dial<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Line>>>;
}

/// Somebody's claim, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) owner: String,
    pub(crate) epoch: u64,
}

impl Held {
    /// What `claim` means to the process `own`: nothing, where the claim is its own or nobody's.
    pub(crate) fn by_another(claim: Option<&Claim>, own: &str) -> Option<Self> {
        let claim = claim.filter(|claim| !claim.owner.is_empty() && claim.owner != own)?;
        Some(Self { owner: claim.owner.clone(), epoch: claim.epoch })
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.owner)
    }
}

/// Which other process dispatches to a group, as far as the store knows.
pub(crate) async fn holder(
    space: &Space,
    group: &GroupKeys,
    own: &str,
) -> Result<Option<Held>, StoreError> {
    let snapshot = space.snapshot(Level::Linearizable).await?;
    let claim = snapshot.get(&group.claim).await?;
    let claim = claim.map(|value| Claim::decode_record(value.bytes)).transpose()?;
    Ok(Held::by_another(claim.as_ref(), own))
}
