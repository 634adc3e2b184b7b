//! Reading: one key, or many keys as they were at one moment.

use crate::{GetError, Item, Store};
use bytes::Bytes;
use outrigger_keyspace::Level;

/// Most keys of one [`Store::get_many`].
pub const KEYS_PER_READ_MAX: usize = 10_000;
/// Most bytes the values of one [`Store::get_many`] may have together.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Values asked of the engine at once, so that an answer over its bound is noticed before all of it is in memory.
const KEYS_PER_FETCH: usize = 64;

impl Store {
    /// The value at `key`, as of a moment after the call began.
    ///
    /// # Errors
    /// See [`GetError`].
    pub async fn get(&self, key: &str) -> Result<Option<Item>, GetError> {
        self.get_at(key, Level::Linearizable).await
    }

    /// The value at `key`, as fresh as `level` says.
    ///
    /// # Errors
    /// See [`GetError`].
    pub async fn get_at(&self, key: &str, level: Level) -> Result<Option<Item>, GetError> {
        let stored = self.stored_key(key)?;
        let snapshot = self.space().snapshot(level).await?;
        match snapshot.get(&stored).await? {
            Some(value) => self.item(value),
            None => Ok(None),
        }
    }

    /// The values at `keys`, in their order, all as of one moment after the call began.
    ///
    /// # Errors
    /// See [`GetError`].
    pub async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Item>>, GetError> {
        self.get_many_at(keys, Level::Linearizable).await
    }

    /// The values at `keys`, in their order, all as of one moment as fresh as `level` says.
    ///
    /// # Errors
    /// See [`GetError`].
    pub async fn get_many_at(
        &self,
        keys: &[String],
        level: Level,
    ) -> Result<Vec<Option<Item>>, GetError> {
        if keys.len() > KEYS_PER_READ_MAX {
            return Err(GetError::TooManyKeys { count: keys.len() });
        }
        let stored =
            keys.iter().map(|key| self.stored_key(key)).collect::<Result<Vec<Bytes>, _>>()?;
        let snapshot = self.space().snapshot(level).await?;
        let mut items = Vec::with_capacity(keys.len());
        let mut bytes = 0;
        for some in stored.chunks(KEYS_PER_FETCH) {
            for value in snapshot.get_many(some).await? {
                bytes += value.as_ref().map_or(0, |value| value.bytes.len());
                items.push(value.map(|value| self.item(value)).transpose()?.flatten());
            }
            if bytes > ANSWER_BYTES_MAX {
                return Err(GetError::AnswerTooLarge);
            }
        }
        Ok(items)
    }
}
