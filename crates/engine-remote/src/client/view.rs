//! A snapshot that costs nothing until it is read from.
//!
//! The first read carries the level along and pins the snapshot on the holder, so taking a snapshot and reading a key is one
//! round trip. It is taken later than it was asked for, which every level allows. What was pinned dies with its holder:
//! reads answer that the store is unavailable, and whoever reads again takes a new one.

use super::{Core, Line, Lost, Way};
use crate::{
    bounds::{MANY_BYTES_MAX, MANY_KEYS_MAX},
    wire::{self, Answer, Ask, At, Request},
};
use bytes::Bytes;
use outrigger_kernel::BoxFuture;
use outrigger_keyspace::{
    Direction, KeyRange, Level, Page, ReadError, Snapshot, Value,
    limits::{KEY_BYTES_MAX, PAGE_ENTRIES_MAX},
};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub(crate) struct View {
    core: Arc<Core>,
    level: Level,
    name: u64,
    /// What this process knew of when the snapshot was taken; it will be pinned there or later.
    floor: u64,
    pinned: OnceLock<Pinned>,
    /// Where reads were sent to, pinned or not: it keeps something for us.
    sent_to: Mutex<Option<Arc<Line>>>,
}

enum Pinned {
    There { line: Arc<Line>, revision: u64 },
    Here(Arc<dyn Snapshot>),
}

/// What a read answered.
enum Found {
    Nothing,
    Value(Option<Value>),
    Values(Vec<Option<Value>>),
    Page(Page),
}

impl View {
    pub(crate) async fn take(core: Arc<Core>, level: Level) -> Result<Arc<Self>, ReadError> {
        let (name, floor) = (core.name(), core.known.revision());
        let (pinned, sent_to) = (OnceLock::new(), Mutex::default());
        let view = Arc::new(Self { core, level, name, floor, pinned, sent_to });
        if let Level::AtLeast(_) = level {
            // Waiting is what this one is about.
            view.ask(&Ask::Pin).await?;
        }
        Ok(view)
    }

    async fn ask(&self, ask: &Ask) -> Result<Found, ReadError> {
        let until = self.core.patience();
        loop {
            match self.pinned.get() {
                Some(Pinned::Here(snapshot)) => return ask_own(snapshot, ask).await,
                Some(Pinned::There { line, .. }) => {
                    let line = line.clone();
                    let answer = self.call(&line, until, At::Pinned, ask).await;
                    return match answer {
                        Ok(frame) => self.found(&line, &frame),
                        Err(Lost::Late) => Err(late()),
                        Err(Lost::Unsent | Lost::Sent) => Err(gone()),
                    };
                }
                None => {}
            }
            let line = match self.core.way(until).await.map_err(ReadError::Unavailable)? {
                Way::Line(line) => line,
                Way::Own(engine) => {
                    let snapshot = engine.snapshot(self.level).await?;
                    self.pinned.get_or_init(|| Pinned::Here(snapshot));
                    continue;
                }
            };
            *self.sent_to.lock().unwrap_or_else(PoisonError::into_inner) = Some(line.clone());
            match self.call(&line, until, At::Fresh(self.level), ask).await {
                Ok(frame) => return self.found(&line, &frame),
                // Nothing was read yet, so another holder's answer is as good.
                Err(Lost::Unsent | Lost::Sent) => {}
                Err(Lost::Late) => return Err(late()),
            }
        }
    }

    async fn call(
        &self,
        line: &Line,
        until: outrigger_kernel::Deadline,
        at: At,
        ask: &Ask,
    ) -> Result<Bytes, Lost> {
        let bytes = match ask {
            Ask::Many(keys) => keys.iter().map(Bytes::len).sum(),
            _ => 0,
        };
        let write = |out: &mut Vec<u8>, id| wire::read(out, id, self.name, at, ask);
        line.call(bytes, Some(until), true, write).await
    }

    /// What `frame` says, if it was read where everything else was.
    fn found(&self, line: &Arc<Line>, frame: &Bytes) -> Result<Found, ReadError> {
        let malformed = |error: wire::Malformed| ReadError::Unavailable(error.to_string());
        let (revision, found) = match Answer::take(frame).map_err(malformed)? {
            Answer::Pinned { revision, .. } => (revision, Found::Nothing),
            Answer::Value { revision, value, .. } => (revision, Found::Value(value)),
            Answer::Values { revision, values, .. } => (revision, Found::Values(values)),
            Answer::Page { revision, page, .. } => (revision, Found::Page(page)),
            Answer::ReadFailed { error, .. } => return Err(error),
            _ => return Err(gone()),
        };
        self.core.known.saw_revision(revision);
        let pinned = || Pinned::There { line: line.clone(), revision };
        match self.pinned.get_or_init(pinned) {
            Pinned::There { line: there, revision: pinned }
                if Arc::ptr_eq(there, line) && *pinned == revision =>
            {
                Ok(found)
            }
            // Two first reads, one of them before the holder changed and one after.
            _ => Err(gone()),
        }
    }

    async fn many(&self, keys: &[Bytes]) -> Result<Vec<Option<Value>>, ReadError> {
        let mut values = Vec::with_capacity(keys.len());
        let mut asked = Vec::new();
        let mut bytes = 0;
        let mut rest = keys.iter();
        loop {
            let key = rest.next();
            if let Some(key) = key {
                // Keys that cannot be have no value; they keep their place.
                values.push(None);
                if can_be(key) {
                    bytes += key.len();
                    asked.push((values.len() - 1, key.clone()));
                }
            }
            let full = asked.len() >= MANY_KEYS_MAX || bytes >= MANY_BYTES_MAX;
            if full || key.is_none() {
                self.ask_all(&mut asked, &mut values).await?;
                bytes = 0;
            }
            if key.is_none() {
                return Ok(values);
            }
        }
    }

    /// Asks for keys until all are answered: large values come in several pieces.
    async fn ask_all(
        &self,
        asked: &mut Vec<(usize, Bytes)>,
        values: &mut [Option<Value>],
    ) -> Result<(), ReadError> {
        while !asked.is_empty() {
            let ask = Ask::Many(asked.iter().map(|(_, key)| key.clone()).collect());
            let Found::Values(found) = self.ask(&ask).await? else { return Err(gone()) };
            if found.is_empty() || found.len() > asked.len() {
                return Err(gone());
            }
            for ((place, _), value) in asked.drain(..found.len()).zip(found) {
                values[place] = value;
            }
        }
        Ok(())
    }
}

async fn ask_own(snapshot: &Arc<dyn Snapshot>, ask: &Ask) -> Result<Found, ReadError> {
    Ok(match ask {
        Ask::Pin => Found::Nothing,
        Ask::Get(key) => Found::Value(snapshot.get(key).await?),
        Ask::Many(keys) => Found::Values(snapshot.get_many(keys).await?),
        Ask::Scan { range, limit, direction } => {
            Found::Page(snapshot.scan(range, *limit, *direction).await?)
        }
    })
}

fn gone() -> ReadError {
    let why = "the process that holds the data folder has changed since the first read; read again";
    ReadError::Unavailable(why.to_owned())
}

fn late() -> ReadError {
    let why = "the process that holds the data folder does not answer";
    ReadError::Unavailable(why.to_owned())
}

fn can_be(key: &[u8]) -> bool {
    (1..=KEY_BYTES_MAX).contains(&key.len())
}

impl Snapshot for View {
    fn revision(&self) -> u64 {
        match self.pinned.get() {
            Some(Pinned::There { revision, .. }) => *revision,
            Some(Pinned::Here(snapshot)) => snapshot.revision(),
            None => self.floor,
        }
    }

    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Value>, ReadError>> {
        Box::pin(async move {
            if !can_be(key) {
                return Ok(None);
            }
            match self.ask(&Ask::Get(Bytes::copy_from_slice(key))).await? {
                Found::Value(value) => Ok(value),
                _ => Err(gone()),
            }
        })
    }

    fn get_many<'a>(
        &'a self,
        keys: &'a [Bytes],
    ) -> BoxFuture<'a, Result<Vec<Option<Value>>, ReadError>> {
        Box::pin(self.many(keys))
    }

    fn scan<'a>(
        &'a self,
        range: &'a KeyRange,
        limit: usize,
        direction: Direction,
    ) -> BoxFuture<'a, Result<Page, ReadError>> {
        Box::pin(async move {
            let range = range.cut();
            let limit = limit.min(PAGE_ENTRIES_MAX);
            match self.ask(&Ask::Scan { range, limit, direction }).await? {
                Found::Page(page) => Ok(page),
                _ => Err(gone()),
            }
        })
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let sent_to = self.sent_to.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(line) = sent_to {
            line.send_lazily(&Request::Release { snapshot: self.name });
        }
    }
}
