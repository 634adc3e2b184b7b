//! The memory engine behind a wall: it writes down what is committed, can tell its snapshots' revisions late, and can
//! fail to read.

use crate::{
    CommitError, Committed, Direction, KeyRange, KeySpace, Level, Page, ReadError, Snapshot,
    Status, Transaction, Value, Watch, memory::Memory,
};
use bytes::Bytes;
use outrigger_kernel::{BoxFuture, Wall};
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

pub(super) struct Recorded {
    inner: Arc<Memory>,
    commits: Mutex<Vec<Transaction>>,
    /// Whether a snapshot knows its revision only after the first read.
    pub(super) late: AtomicBool,
    /// So many reads fail.
    pub(super) failures: Arc<AtomicU32>,
}

impl Recorded {
    pub(super) fn over(inner: Arc<Memory>) -> Arc<Self> {
        let (commits, late, failures) = <_>::default();
        Arc::new(Self { inner, commits, late, failures })
    }

    /// What was committed, in order.
    pub(super) fn commits(&self) -> Vec<Transaction> {
        self.commits.lock().unwrap().clone()
    }
}

impl KeySpace for Recorded {
    fn snapshot(&self, level: Level) -> BoxFuture<'_, Result<Arc<dyn Snapshot>, ReadError>> {
        Box::pin(async move {
            let inner = self.inner.snapshot(level).await?;
            let known = AtomicBool::new(!self.late.load(Ordering::SeqCst));
            let failures = self.failures.clone();
            Ok(Arc::new(Behind { inner, known, failures }) as Arc<dyn Snapshot>)
        })
    }
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Committed, CommitError>> {
        self.commits.lock().unwrap().push(transaction.clone());
        self.inner.commit(transaction)
    }
    fn watch(&self, range: KeyRange) -> Watch {
        self.inner.watch(range)
    }
    fn now(&self) -> Wall {
        self.inner.now()
    }
    fn status(&self) -> Status {
        self.inner.status()
    }
    fn checkpoint<'a>(&'a self, target: &'a Path) -> BoxFuture<'a, Result<u64, ReadError>> {
        self.inner.checkpoint(target)
    }
}

struct Behind {
    inner: Arc<dyn Snapshot>,
    known: AtomicBool,
    failures: Arc<AtomicU32>,
}

impl Behind {
    fn reading(&self) -> Result<(), ReadError> {
        self.known.store(true, Ordering::SeqCst);
        match self.failures.load(Ordering::SeqCst) {
            0 => Ok(()),
            left => {
                self.failures.store(left - 1, Ordering::SeqCst);
                Err(ReadError::Unavailable("out of reach".to_owned()))
            }
        }
    }
}

impl Snapshot for Behind {
    fn revision(&self) -> u64 {
        if self.known.load(Ordering::SeqCst) { self.inner.revision() } else { 0 }
    }
    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Value>, ReadError>> {
        match self.reading() {
            Ok(()) => self.inner.get(key),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }
    fn get_many<'a>(
        &'a self,
        keys: &'a [Bytes],
    ) -> BoxFuture<'a, Result<Vec<Option<Value>>, ReadError>> {
        self.inner.get_many(keys)
    }
    fn scan<'a>(
        &'a self,
        range: &'a KeyRange,
        limit: usize,
        direction: Direction,
    ) -> BoxFuture<'a, Result<Page, ReadError>> {
        self.inner.scan(range, limit, direction)
    }
}
