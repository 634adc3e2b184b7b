//! The store itself: a region of a key space, and what a read of it gives back.

use crate::{GetError, IllegalKey, error::ApplyError, etag, keys::ENTRIES, keys::Region};
use bytes::Bytes;
use outrigger_kernel::Wall;
use outrigger_keyspace::{Space, Value};

/// A named region of a key space holding state entries. Cheap to clone; clones are the same store.
#[derive(Clone, Debug)]
pub struct Store {
    space: Space,
    region: Region,
}

/// A value as a reader gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The bytes as written.
    pub data: Bytes,
    /// What the writer said they are.
    pub content_type: Option<String>,
    /// Names this very value; pass it back to make a change conditional.
    pub etag: String,
    /// When the key becomes absent; `None` for never.
    pub expires_at: Option<Wall>,
}

impl Store {
    /// The store called `region` in `space`. Stores of different regions in one space never see each other's keys;
    /// two handles on the same region are the same store.
    #[must_use]
    pub fn new(space: Space, region: impl Into<String>) -> Self {
        Self { space, region: Region::new(region.into()) }
    }

    /// The space it lives in.
    #[must_use]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The longest key this store takes, in bytes: the bound of the key space less what the region's name takes.
    #[must_use]
    pub fn key_bytes_max(&self) -> usize {
        self.region.key_bytes_max()
    }

    /// The etag of everything written by the commit with this revision.
    #[must_use]
    pub fn etag_of(revision: u64) -> String {
        etag::of(revision)
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// The stored form of `key`, if it is one a store takes.
    pub(crate) fn stored_key(&self, key: &str) -> Result<Bytes, IllegalKey> {
        if key.is_empty() {
            return Err(IllegalKey::Empty);
        }
        let max = self.key_bytes_max();
        if key.len() > max {
            return Err(IllegalKey::TooLong { bytes: key.len(), max });
        }
        Ok(self.region.key(key))
    }

    /// Whether `value` is still there. The engine hides what had expired at its last commit; an idle engine has a last
    /// commit long past, so the clock is asked too, but only for values that expire at all.
    pub(crate) fn is_live(&self, value: &Value) -> bool {
        value.expires_at.is_none_or(|at| at > self.space.now())
    }

    /// `value` as a reader gets it; `None` when it has expired.
    pub(crate) fn item(&self, value: Value) -> Result<Option<Item>, GetError> {
        if !self.is_live(&value) {
            return Ok(None);
        }
        let entry = ENTRIES.decode(value.bytes)?;
        Ok(Some(Item {
            data: entry.data,
            content_type: Some(entry.content_type).filter(|t| !t.is_empty()),
            etag: etag::of(value.revision),
            expires_at: value.expires_at,
        }))
    }

    /// Refuses to begin what would be too late anyway.
    pub(crate) fn in_time(&self, deadline: outrigger_kernel::Deadline) -> Result<(), ApplyError> {
        if deadline.expired(self.space.world().mono()) { Err(ApplyError::TooLate) } else { Ok(()) }
    }
}
