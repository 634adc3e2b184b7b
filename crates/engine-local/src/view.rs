//! A published state of the store: what readers read. Shared by all who read until the next one, and valid for as long as
//! somebody holds it.

use crate::{batch::Picture, folder::Lock, log::Position, shared::Hints, stack::Stack};
use bytes::Bytes;
use outrigger_kernel::{BoxFuture, Wall};
use outrigger_keyspace::{
    Committed, Direction, KeyRange, Page, ReadError, Snapshot, Value, limits::KEY_BYTES_MAX,
};
use std::sync::Arc;

#[derive(Clone)]
pub(crate) struct View {
    /// The last commit or step of time in it. Keys due by then are not shown: the step that made them absent may not be
    /// in it yet.
    pub(crate) last: Committed,
    /// When the next key in it expires.
    next_due: Option<Wall>,
    pub(crate) stack: Stack,
    /// Where the log goes on after it.
    pub(crate) position: Position,
    generation: u64,
    hints: Arc<Hints>,
    /// Nobody else may write into the folder while somebody reads in it.
    _lock: Option<Arc<Lock>>,
}

impl View {
    pub(crate) fn new(
        picture: Picture,
        position: Position,
        hints: Arc<Hints>,
        lock: Option<Arc<Lock>>,
    ) -> Self {
        let Picture { last, next_due, stack, generation } = picture;
        Self { last, next_due, stack, position, generation, hints, _lock: lock }
    }

    /// Whether it may show a key that should be absent at `now`.
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

    fn get_now(&self, key: &[u8]) -> Result<Option<Value>, ReadError> {
        if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
            return Ok(None);
        }
        let stored = self.stack.get(key)?;
        Ok(stored.filter(|value| value.expires_at.is_none_or(|at| at > self.last.time)))
    }

    fn scan_now(
        &self,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Page, ReadError> {
        if range.is_empty() {
            return Ok(Page::default());
        }
        let (page, desert) = self.stack.page(range, limit, direction, self.last.time)?;
        if let Some(desert) = desert {
            self.hints.give(self.generation, desert);
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
