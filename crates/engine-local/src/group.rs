//! What will be written with the next sync: the net effect of some plans, one entry per key.
//!
//! A batch of fjall gives all its entries the same number, so a key must not stand in it twice; and the sequencer must
//! see what is planned but not written yet. This map serves both.

use crate::{
    error::from_read,
    tables::{LAST, Tables, bounds, decode_value, encode_expiry, encode_last, encode_value},
};
use bytes::Bytes;
use fjall::{OwnedWriteBatch, PersistMode, Readable};
use outrigger_kernel::Wall;
use outrigger_keyspace::{
    Committed, KeyRange, ReadError, Value,
    sequencer::{Change, Latest, Plan},
};
use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct Group {
    changes: BTreeMap<Bytes, (u64, Option<Value>)>,
    /// Entries of the index by expiry: whether they will stand in it.
    expiries: BTreeMap<(Wall, Bytes), bool>,
    /// What changed since somebody asked, in the order of the plans.
    news: Vec<(u64, Bytes)>,
    cleared: Vec<(u64, KeyRange)>,
    bytes: usize,
    last: Option<Committed>,
}

impl Group {
    /// fjall knows no range deletes: what a clear takes is listed here.
    pub(crate) fn apply(&mut self, plan: Plan, tables: &Tables) -> Result<(), ReadError> {
        let revision = plan.committed.revision;
        self.last = Some(plan.committed);
        for range in plan.clears {
            let mut gone = Vec::new();
            self.over(tables).keys(&range, &mut |key| gone.push(key.clone()))?;
            for key in gone {
                self.change(revision, Change { key, value: None }, tables)?;
            }
            self.cleared.push((revision, range));
        }
        for change in plan.changes {
            self.news.push((revision, change.key.clone()));
            self.change(revision, change, tables)?;
        }
        Ok(())
    }

    fn change(&mut self, revision: u64, change: Change, tables: &Tables) -> Result<(), ReadError> {
        let Change { key, value } = change;
        let expiry = value.as_ref().and_then(|value| value.expires_at);
        let before = self.over(tables).get(&key)?.and_then(|value| value.expires_at);
        if before != expiry {
            if let Some(at) = before {
                self.expiries.insert((at, key.clone()), false);
            }
            if let Some(at) = expiry {
                self.expiries.insert((at, key.clone()), true);
            }
        }
        self.bytes += key.len() + value.as_ref().map_or(0, |v| v.bytes.len());
        self.changes.insert(key, (revision, value));
        Ok(())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Which keys changed at which revision since this was last asked.
    pub(crate) fn take_news(&mut self) -> Vec<(u64, Bytes)> {
        std::mem::take(&mut self.news)
    }

    /// Which ranges were cleared at which revision since this was last asked.
    pub(crate) fn take_cleared(&mut self) -> Vec<(u64, KeyRange)> {
        std::mem::take(&mut self.cleared)
    }

    /// Writes everything as one batch; it is on disk when this returns.
    pub(crate) fn write(&self, tables: &Tables) -> Result<(), fjall::Error> {
        let Some(last) = self.last else { return Ok(()) };
        let count = self.changes.len() + self.expiries.len() + 1;
        let batch = OwnedWriteBatch::with_capacity(tables.database.clone(), count);
        let mut batch = batch.durability(Some(PersistMode::SyncData));
        for (key, (_, value)) in &self.changes {
            // A copy of its own: a key may be a slice that keeps a large request alive.
            match value {
                Some(value) => batch.insert(&tables.data, &key[..], encode_value(value)),
                None => batch.remove(&tables.data, &key[..]),
            }
        }
        for ((at, key), stands) in &self.expiries {
            match stands {
                true => batch.insert(&tables.expiry, encode_expiry(*at, key), Bytes::new()),
                false => batch.remove(&tables.expiry, encode_expiry(*at, key)),
            }
        }
        batch.insert(&tables.meta, LAST, encode_last(last));
        batch.commit()
    }

    /// The newest state: the store with this group on top.
    pub(crate) fn over<'a>(&'a self, tables: &'a Tables) -> Newest<'a> {
        Newest { group: self, tables }
    }
}

pub(crate) struct Newest<'a> {
    group: &'a Group,
    tables: &'a Tables,
}

impl Latest for Newest<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Value>, ReadError> {
        if let Some((_, value)) = self.group.changes.get(key) {
            return Ok(value.clone());
        }
        let stored = self.tables.data.get(key).map_err(|error| from_read(&error))?;
        stored.map(decode_value).transpose()
    }
}

impl Newest<'_> {
    fn keys(&self, range: &KeyRange, visit: &mut dyn FnMut(&Bytes)) -> Result<(), ReadError> {
        let Some(bounds) = bounds(range) else { return Ok(()) };
        let changes = &self.group.changes;
        for (key, (_, value)) in changes.range::<[u8], _>(bounds) {
            if value.is_some() {
                visit(key);
            }
        }
        for guard in self.tables.database.snapshot().range::<&[u8], _>(&self.tables.data, bounds) {
            let key = guard.key().map_err(|error| from_read(&error))?;
            // A copy of its own: the key may be a slice of a block.
            if !changes.contains_key(&key[..]) {
                visit(&Bytes::copy_from_slice(&key));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Change, Committed, Group, Plan, Tables, Wall};
    use crate::Options;

    #[test]
    fn news_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let tables = Tables::create(&folder.path().join("store"), &Options::default()).unwrap();
        let mut group = Group::default();
        let plan = |revision, key| Plan {
            committed: Committed { revision, time: Wall(1) },
            id: None,
            clears: Vec::new(),
            changes: vec![Change { key: Bytes::from_static(key), value: None }],
        };
        group.apply(plan(1, b"a"), &tables).unwrap();
        group.apply(plan(2, b"b"), &tables).unwrap();
        assert_eq!(group.take_news(), [(1, Bytes::from("a")), (2, Bytes::from("b"))]);
        group.apply(plan(3, b"a"), &tables).unwrap();
        assert_eq!(group.take_news(), [(3, Bytes::from("a"))]);
        assert_eq!(group.take_news(), []);
    }
}
