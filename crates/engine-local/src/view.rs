//! A published state of the store: what readers read. Made by the committer after a group is on disk, shared by all who
//! read until the next one, and valid for as long as somebody holds it.

use crate::{
    error::from_read,
    tables::{Tables, bounds, decode_value, is_possible},
};
use bytes::Bytes;
use fjall::{Guard, Readable};
use outrigger_kernel::{BoxFuture, Wall};
use outrigger_keyspace::{
    Committed, Direction, Entry, KeyRange, Page, ReadError, Snapshot, Value,
    limits::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX},
    sequencer::Sequencer,
};
use std::sync::Arc;

#[derive(Clone)]
pub(crate) struct View {
    /// The last commit or step of time in it. Keys due by then are not shown: the step that made them absent may not be
    /// written yet.
    pub(crate) last: Committed,
    /// When the next key in it expires.
    pub(crate) next_due: Option<Wall>,
    pub(crate) snapshot: fjall::Snapshot,
    pub(crate) tables: Arc<Tables>,
}

impl View {
    /// The newest state of the store, up to where `sequencer` is.
    pub(crate) fn new(tables: Arc<Tables>, sequencer: &Sequencer) -> Self {
        let last = Committed { revision: sequencer.revision(), time: sequencer.time() };
        let next_due = sequencer.next_due();
        Self { last, next_due, snapshot: tables.database.snapshot(), tables }
    }

    /// Whether it shows a key that should be absent at `now`.
    pub(crate) fn is_due(&self, now: Wall) -> bool {
        self.next_due.is_some_and(|due| due <= now)
    }

    /// The same without what is due by `now`: what it will be after a step that has no revision yet.
    pub(crate) fn without_due(self: Arc<Self>, now: Wall) -> Arc<Self> {
        if !self.is_due(now) {
            return self;
        }
        let mut later = (*self).clone();
        later.last.time = now.max(self.last.time);
        Arc::new(later)
    }

    fn visible(&self, value: Value) -> Option<Value> {
        value.expires_at.is_none_or(|at| at > self.last.time).then_some(value)
    }

    fn get_now(&self, key: &[u8]) -> Result<Option<Value>, ReadError> {
        if !is_possible(key) {
            return Ok(None);
        }
        let stored = self.snapshot.get(&self.tables.data, key);
        match stored.map_err(|error| from_read(&error))? {
            Some(stored) => Ok(self.visible(decode_value(stored)?)),
            None => Ok(None),
        }
    }

    fn scan_now(
        &self,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Page, ReadError> {
        let Some(bounds) = bounds(range) else { return Ok(Page::default()) };
        let entries = self.snapshot.range::<&[u8], _>(&self.tables.data, bounds);
        match direction {
            Direction::Forward => self.page_of(entries, limit),
            Direction::Backward => self.page_of(entries.rev(), limit),
        }
    }

    fn page_of(
        &self,
        entries: impl Iterator<Item = Guard>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        let limit = limit.min(PAGE_ENTRIES_MAX);
        let mut page = Page::default();
        let mut bytes = 0;
        for guard in entries {
            let (key, stored) = guard.into_inner().map_err(|error| from_read(&error))?;
            let Some(value) = self.visible(decode_value(stored)?) else { continue };
            if page.entries.len() >= limit || bytes > PAGE_BYTES_MAX {
                page.more = true;
                break;
            }
            bytes += key.len() + value.bytes.len();
            page.entries.push(Entry { key: Bytes::copy_from_slice(&key), value });
        }
        Ok(page)
    }
}

impl Snapshot for View {
    fn revision(&self) -> u64 {
        self.last.revision
    }

    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Value>, ReadError>> {
        Box::pin(async move { self.get_now(key) })
    }

    fn get_many<'a>(
        &'a self,
        keys: &'a [Bytes],
    ) -> BoxFuture<'a, Result<Vec<Option<Value>>, ReadError>> {
        Box::pin(async move { keys.iter().map(|key| self.get_now(key)).collect() })
    }

    fn scan<'a>(
        &'a self,
        range: &'a KeyRange,
        limit: usize,
        direction: Direction,
    ) -> BoxFuture<'a, Result<Page, ReadError>> {
        Box::pin(async move { self.scan_now(range, limit, direction) })
    }
}
