//! Keys by prefix: a page at a time, or away with all of them at once.

use crate::{ApplyError, GetError, IllegalKey, Item, Store};
use outrigger_kernel::Deadline;
use outrigger_keyspace::{Committed, Direction, Level, Write, limits};

/// A page of entries in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The entries. A page can hold fewer than asked for, or none, and still have a successor.
    pub entries: Vec<Listed>,
    /// What to pass as `after` to get the next page; `None` when there is none.
    pub next: Option<String>,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The physical key.
    pub key: String,
    /// Its value.
    pub item: Item,
}

impl Store {
    /// Entries whose key begins with `prefix` (all of them for an empty one) and comes after `after`, in key order, at
    /// most `limit` of them. Each page is of one moment; two pages are of two.
    ///
    /// # Errors
    /// See [`GetError`].
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Listing, GetError> {
        let mut range = self.region().range(prefix);
        if let Some(after) = after {
            // Never back past the prefix, whatever the caller passes: there live other keys.
            let start = range.after(&self.region().key(after)).start;
            range.start = range.start.max(start);
        }
        if range.is_empty() {
            return Ok(Listing::default());
        }
        let limit = limit.clamp(1, limits::PAGE_ENTRIES_MAX);
        let snapshot = self.space().snapshot(Level::Linearizable).await?;
        let page = snapshot.scan(&range, limit, Direction::Forward).await?;
        let next = match page.entries.last() {
            Some(last) if page.more => Some(self.region().strip(&last.key)?),
            _ => None,
        };
        let mut entries = Vec::with_capacity(page.entries.len());
        for entry in page.entries {
            if let Some(item) = self.item(entry.value)? {
                entries.push(Listed { key: self.region().strip(&entry.key)?, item });
            }
        }
        Ok(Listing { entries, next })
    }

    /// Removes every key that begins with `prefix`, in one commit however many there are.
    ///
    /// # Errors
    /// See [`ApplyError`]; an empty prefix is refused, since it would empty the store.
    pub async fn delete_with_prefix(
        &self,
        prefix: &str,
        deadline: Deadline,
    ) -> Result<Committed, ApplyError> {
        if prefix.is_empty() {
            return Err(IllegalKey::Empty.into());
        }
        self.in_time(deadline)?;
        let range = self.region().range(prefix);
        self.commit_blind(vec![Write::DeleteRange { range }], deadline).await
    }
}
