//! A key space with a clock: what every block holds, and the loop that retries conflicts.
//!
//! `transact` runs a closure against one snapshot, remembers what it read and what it wants written, and commits. When
//! somebody else changed what it read, it runs again on a fresh snapshot, within the caller's deadline.

use crate::{
    CommitError, Committed, Corrupt, Direction, Durability, KeyRange, KeySpace, KeyTuple, Level,
    Page, ReadError, Record, Snapshot, Table, Transaction, Value, Watch, Write,
};
use bytes::Bytes;
use outrigger_kernel::{Deadline, Wall, World, within};
use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// An engine and the world it lives in. Cheap to clone.
#[derive(Clone)]
pub struct Space {
    engine: Arc<dyn KeySpace>,
    world: Arc<dyn World>,
    durability: Durability,
}

/// How often a transaction runs again because the store could not be read.
const UNREADABLE_MAX: u32 = 2;

/// Why a transaction did not happen.
#[derive(Debug, thiserror::Error)]
pub enum TransactError<E> {
    /// The body refused; nothing was written.
    #[error(transparent)]
    Refused(E),
    /// The snapshot could not be read; nothing was written.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A stored key or record is not what its table declares; nothing was written.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The commit was not accepted (or, for [`CommitError::Unknown`], perhaps was).
    #[error(transparent)]
    Commit(CommitError),
    /// Conflicts did not end before the deadline; nothing was written.
    #[error("conflicting writers kept this transaction from committing within its deadline")]
    Contended,
    /// The deadline passed while the commit was under way: the outcome is unknown.
    #[error("the deadline passed while the commit was under way")]
    Elapsed,
}

impl Space {
    /// A space over `engine`, timed by `world`, whose commits are on disk when they are answered.
    #[must_use]
    pub fn new(engine: Arc<dyn KeySpace>, world: Arc<dyn World>) -> Self {
        Self { engine, world, durability: Durability::Flush }
    }

    /// The same space, all of whose commits promise `durability` and no more: how a store is made relaxed without its
    /// code knowing.
    #[must_use]
    pub fn with_durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// What its commits promise.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// The engine underneath.
    #[must_use]
    pub fn engine(&self) -> &Arc<dyn KeySpace> {
        &self.engine
    }

    /// The world it lives in.
    #[must_use]
    pub fn world(&self) -> &Arc<dyn World> {
        &self.world
    }

    /// See [`KeySpace::snapshot`].
    ///
    /// # Errors
    /// When the engine cannot be read.
    pub async fn snapshot(&self, level: Level) -> Result<Arc<dyn Snapshot>, ReadError> {
        self.engine.snapshot(level).await
    }

    /// See [`KeySpace::now`].
    #[must_use]
    pub fn now(&self) -> Wall {
        self.engine.now()
    }

    /// See [`KeySpace::watch`].
    #[must_use]
    pub fn watch(&self, range: KeyRange) -> Watch {
        self.engine.watch(range)
    }

    /// Commits writes that were decided on nothing read.
    ///
    /// # Errors
    /// As [`KeySpace::commit`]; never a conflict.
    pub async fn write(&self, writes: Vec<Write>) -> Result<Committed, CommitError> {
        self.engine.commit(Transaction { writes, ..self.transaction() }).await
    }

    /// Like [`Space::write`], for writes that make room or lead to it; see [`Transaction::makes_room`].
    ///
    /// # Errors
    /// As [`KeySpace::commit`]; never a conflict.
    pub async fn write_making_room(&self, writes: Vec<Write>) -> Result<Committed, CommitError> {
        let makes_room = true;
        self.engine.commit(Transaction { writes, makes_room, ..self.transaction() }).await
    }

    fn transaction(&self) -> Transaction {
        Transaction { durability: self.durability, ..Transaction::default() }
    }

    /// Runs `body` as one serializable transaction, again on every conflict until `deadline`, and a few times when the
    /// store could not be read. A body that wrote nothing commits nothing, and its answer is consistent at the revision
    /// returned.
    ///
    /// # Errors
    /// See [`TransactError`].
    pub async fn transact<T, E, F, Fut>(
        &self,
        deadline: Deadline,
        mut body: F,
    ) -> Result<(T, Committed), TransactError<E>>
    where
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, TransactError<E>>>,
    {
        let (mut attempt, mut unreadable) = (0_u32, 0_u32);
        loop {
            let refusal = match within(&*self.world, deadline, self.attempt(&mut body)).await {
                Ok(Ok((answer, transaction))) => {
                    match self.conclude(deadline, transaction).await? {
                        Some(committed) => return Ok((answer, committed)),
                        None => TransactError::Contended,
                    }
                }
                // A snapshot may end with the process that holds it; the next one is held by another.
                Ok(Err(TransactError::Read(error @ ReadError::Unavailable(_))))
                    if unreadable < UNREADABLE_MAX =>
                {
                    unreadable += 1;
                    error.into()
                }
                Ok(Err(error)) => return Err(error),
                Err(_) if attempt > 0 => return Err(TransactError::Contended),
                Err(_) => {
                    let reason = "reading took longer than the deadline allows";
                    return Err(ReadError::Unavailable(reason.to_owned()).into());
                }
            };
            attempt += 1;
            let pause = self.conflict_pause(attempt);
            if deadline.remaining(self.world.mono()) <= pause {
                return Err(refusal);
            }
            self.world.sleep(pause).await;
        }
    }

    /// Commits what a body wanted; `None` when it must run again.
    async fn conclude<E>(
        &self,
        deadline: Deadline,
        transaction: Transaction,
    ) -> Result<Option<Committed>, TransactError<E>> {
        if transaction.writes.is_empty() {
            let read = Committed { revision: transaction.read_revision, time: self.now() };
            return Ok(Some(read));
        }
        match within(&*self.world, deadline, self.engine.commit(transaction)).await {
            Ok(Ok(committed)) => Ok(Some(committed)),
            Ok(Err(CommitError::Conflict | CommitError::TooOld { .. })) => Ok(None),
            Ok(Err(error)) => Err(TransactError::Commit(error)),
            Err(_) => Err(TransactError::Elapsed),
        }
    }

    /// Everything of a transaction but its commit.
    async fn attempt<T, E, F, Fut>(
        &self,
        body: &mut F,
    ) -> Result<(T, Transaction), TransactError<E>>
    where
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, TransactError<E>>>,
    {
        let tx = Tx::new(self.engine.snapshot(Level::Linearizable).await?, self.transaction());
        let answer = body(tx.clone()).await?;
        Ok((answer, tx.into_transaction()))
    }

    /// Full jitter up to 1 ms doubled per attempt, at most 64 ms: long enough for the winner to finish.
    fn conflict_pause(&self, attempt: u32) -> Duration {
        let ceiling_us = 1_000_u64 << attempt.min(6);
        Duration::from_micros(self.world.random() % ceiling_us)
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the engine's status: that may look at a disk.
        f.debug_struct("Space").finish_non_exhaustive()
    }
}

/// A transaction under way: reads come from one snapshot, writes are gathered. Clones are the same transaction.
///
/// Reads do NOT see the transaction's own writes; a block that needs both keeps them itself.
#[derive(Clone)]
pub struct Tx {
    snapshot: Arc<dyn Snapshot>,
    gathered: Arc<Mutex<Transaction>>,
}

impl Tx {
    fn new(snapshot: Arc<dyn Snapshot>, empty: Transaction) -> Self {
        Self { snapshot, gathered: Arc::new(Mutex::new(empty)) }
    }

    fn into_transaction(self) -> Transaction {
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        // Only now: a snapshot that is far away may learn its revision with the first read.
        gathered.read_revision = self.snapshot.revision();
        std::mem::take(&mut *gathered)
    }

    fn gather(&self, change: impl FnOnce(&mut Transaction)) {
        change(&mut self.gathered.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The revision this transaction reads at; to be asked after a read, see [`Snapshot::revision`].
    #[must_use]
    pub fn read_revision(&self) -> u64 {
        self.snapshot.revision()
    }

    /// Reads `key`; the commit fails if it changes meanwhile.
    ///
    /// # Errors
    /// When the engine cannot be read.
    pub async fn get_raw(&self, key: &Bytes) -> Result<Option<Value>, ReadError> {
        self.gather(|t| t.read_keys.push(key.clone()));
        self.snapshot.get(key).await
    }

    /// Reads a record and the value it was stored in.
    ///
    /// # Errors
    /// When the engine cannot be read or the record is damaged.
    pub async fn get<K: KeyTuple, V: Record, E>(
        &self,
        table: &Table<K, V>,
        key: &K,
    ) -> Result<Option<(V, Value)>, TransactError<E>> {
        match self.get_raw(&table.key(key)).await? {
            Some(value) => Ok(Some((table.decode(value.bytes.clone())?, value))),
            None => Ok(None),
        }
    }

    /// Reads a page of `range`; the commit fails if anything in the part of the range covered by the page changes.
    ///
    /// # Errors
    /// When the engine cannot be read.
    pub async fn scan(
        &self,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Page, ReadError> {
        let page = self.snapshot.scan(range, limit, direction).await?;
        let covered = match page.entries.last() {
            Some(last) if page.more && direction == Direction::Forward => {
                KeyRange { start: range.start.clone(), end: Some(range.after(&last.key).start) }
            }
            Some(last) if page.more => KeyRange { start: last.key.clone(), end: range.end.clone() },
            _ => range.clone(),
        };
        self.gather(|t| t.read_ranges.push(covered));
        Ok(page)
    }

    /// Gathers a write as it is.
    pub fn write(&self, write: Write) {
        self.gather(|t| t.writes.push(write));
    }

    /// Declares that this transaction makes room or leads to it; see [`Transaction::makes_room`].
    pub fn making_room(&self) {
        self.gather(|t| t.makes_room = true);
    }

    /// Sets a record.
    pub fn put<K: KeyTuple, V: Record>(
        &self,
        table: &Table<K, V>,
        key: &K,
        record: &V,
        expires_at: Option<Wall>,
    ) {
        self.write(Write::Put { key: table.key(key), value: record.encode_record(), expires_at });
    }

    /// Removes a record.
    pub fn delete<K: KeyTuple, V: Record>(&self, table: &Table<K, V>, key: &K) {
        self.write(Write::Delete { key: table.key(key) });
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tx(at {})", self.read_revision())
    }
}

#[cfg(test)]
mod tests;
