//! What the tables of the locks store. Protocol-buffer fields, so that later releases can add some; the number of a
//! removed field is never used again.

use super::Mode;

/// A lock held.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct HolderRow {
    /// Whose it is.
    #[prost(string, tag = "1")]
    pub(super) owner: String,
    /// 0 exclusive, 1 shared, from 2 on a permit of one less than that many.
    #[prost(uint32, tag = "2")]
    pub(super) mode: u32,
    /// The fencing token; 0 where it is the revision that wrote this row.
    #[prost(uint64, tag = "3")]
    pub(super) token: u64,
    /// How long it was asked for, in milliseconds.
    #[prost(uint64, tag = "4")]
    pub(super) ttl_ms: u64,
    /// How many times its owner has taken it.
    #[prost(uint32, tag = "5")]
    pub(super) depth: u32,
    /// Since when, in the store's time.
    #[prost(uint64, tag = "6")]
    pub(super) since_ms: u64,
}

/// A place in the line.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct WaiterRow {
    /// Who waits.
    #[prost(string, tag = "1")]
    pub(super) owner: String,
    /// As in [`HolderRow`].
    #[prost(uint32, tag = "2")]
    pub(super) mode: u32,
    /// For how long the lock is wanted, in milliseconds from its grant.
    #[prost(uint64, tag = "3")]
    pub(super) ttl_ms: u64,
    /// The name of the grant it waits for.
    #[prost(string, tag = "4")]
    pub(super) grant: String,
}

/// That an owner has to do with a lock; the key says all.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct OwnedRow {}

impl Mode {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Exclusive => 0,
            Self::Shared => 1,
            Self::Permit { of } => of.saturating_add(1),
        }
    }

    pub(super) fn of_number(number: u32) -> Self {
        match number {
            0 => Self::Exclusive,
            1 => Self::Shared,
            more => Self::Permit { of: more - 1 },
        }
    }
}
