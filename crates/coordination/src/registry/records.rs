//! What the tables of the registry store. Protocol-buffer fields, so that later releases can add some; the number of a
//! removed field is never used again.

/// A process that shares the key space.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct InstanceRow {
    /// Its process id, for people; two processes may have had the same.
    #[prost(uint32, tag = "1")]
    pub(super) pid: u32,
    /// Where it is reached.
    #[prost(string, tag = "2")]
    pub(super) address: String,
    /// When it came, by its wall clock.
    #[prost(uint64, tag = "3")]
    pub(super) since_ms: u64,
    /// Its version.
    #[prost(string, tag = "4")]
    pub(super) version: String,
}

/// An app that a process hosts.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct AppRow {
    /// What it speaks; empty where it cannot be called.
    #[prost(string, tag = "1")]
    pub(super) protocol: String,
}
