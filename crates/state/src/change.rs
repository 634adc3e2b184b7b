//! What a caller can ask to have changed, and under which condition.
//!
//! | concurrency | etag | the change happens iff |
//! |---|---|---|
//! | last write | none | always |
//! | last write | given | the key is present with that etag |
//! | first write | none | the key is absent |
//! | first write | given | the key is present with that etag |
//!
//! The same table holds for sets and deletes. An empty etag counts as none.

use bytes::Bytes;
use std::time::Duration;

/// One change of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets a key.
    Set(Set),
    /// Removes a key; removing an absent key succeeds unless a condition says otherwise.
    Delete(Delete),
}

impl Change {
    /// The key it changes.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Set(set) => &set.key,
            Self::Delete(delete) => &delete.key,
        }
    }

    pub(crate) fn etag(&self) -> Option<&str> {
        let etag = match self {
            Self::Set(set) => set.etag.as_deref(),
            Self::Delete(delete) => delete.etag.as_deref(),
        };
        etag.filter(|etag| !etag.is_empty())
    }

    pub(crate) fn concurrency(&self) -> Concurrency {
        match self {
            Self::Set(set) => set.concurrency,
            Self::Delete(delete) => delete.concurrency,
        }
    }
}

/// Sets a key to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// The physical key.
    pub key: String,
    /// The value, stored as it is.
    pub data: Bytes,
    /// What the bytes are, given back with them.
    pub content_type: Option<String>,
    /// The etag the key must have.
    pub etag: Option<String>,
    /// What a missing etag means.
    pub concurrency: Concurrency,
    /// How long the value lives. A set without a lifetime ends the lifetime an earlier set gave the key.
    pub ttl: Ttl,
}

impl Set {
    /// Sets `key` to `data`, unconditionally and for ever.
    #[must_use]
    pub fn new(key: impl Into<String>, data: impl Into<Bytes>) -> Self {
        Self { key: key.into(), data: data.into(), ..Self::default() }
    }

    /// The same, only if the key has this etag.
    #[must_use]
    pub fn if_match(mut self, etag: impl Into<String>) -> Self {
        self.etag = Some(etag.into());
        self
    }

    /// The same, only if the key is absent (or, with an etag, has that etag).
    #[must_use]
    pub fn first_write(mut self) -> Self {
        self.concurrency = Concurrency::FirstWrite;
        self
    }

    /// The same with a lifetime.
    #[must_use]
    pub fn expiring(mut self, ttl: Ttl) -> Self {
        self.ttl = ttl;
        self
    }
}

/// Removes a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delete {
    /// The physical key.
    pub key: String,
    /// The etag the key must have.
    pub etag: Option<String>,
    /// What a missing etag means.
    pub concurrency: Concurrency,
}

impl Delete {
    /// Removes `key`, if it is there.
    #[must_use]
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), ..Self::default() }
    }

    /// The same, only if the key has this etag.
    #[must_use]
    pub fn if_match(mut self, etag: impl Into<String>) -> Self {
        self.etag = Some(etag.into());
        self
    }
}

/// What a change without an etag demands. A given etag is honoured either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Concurrency {
    /// The key must be absent: whoever writes first wins.
    FirstWrite,
    /// Nothing: whoever writes last wins.
    #[default]
    LastWrite,
}

/// How long a value lives, from the moment the request is planned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ttl {
    /// For ever.
    #[default]
    Never,
    /// This long. Zero means for ever, as does an expiry past the year 9999, which no timestamp format could name.
    After(Duration),
}

impl Ttl {
    /// A lifetime in seconds, where zero and below mean for ever.
    ///
    /// ```
    /// use outrigger_state::Ttl;
    /// assert_eq!(Ttl::from_seconds(-1), Ttl::Never);
    /// assert_eq!(Ttl::from_seconds(2), Ttl::After(std::time::Duration::from_secs(2)));
    /// ```
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        match u64::try_from(seconds) {
            Ok(seconds @ 1..) => Self::After(Duration::from_secs(seconds)),
            _ => Self::Never,
        }
    }
}
