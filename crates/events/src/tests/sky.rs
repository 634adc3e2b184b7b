//! The memory engine, in all weathers.

use super::House;
use outrigger_kernel::BoxFuture;
use outrigger_keyspace::{
    CommitError, Committed, KeyRange, KeySpace, Level, ReadError, Snapshot, Space, Status,
    Transaction, Watch, memory::Memory,
};
use std::{
    path::Path,
    sync::{Arc, Mutex},
};

/// What a commit meets.
#[derive(Clone, Debug)]
pub(super) enum Weather {
    Fair,
    /// Commits are refused.
    Refusing(CommitError),
    /// Commits happen, and then nobody knows.
    Doubtful,
    /// The store is full: only what makes room is taken.
    Cramped,
    /// Nothing can be read.
    Blind,
}

/// The memory engine, in all weathers.
pub(super) struct Sky {
    engine: Arc<Memory>,
    weather: Mutex<Weather>,
}

impl Sky {
    pub(super) fn over(house: &House) -> Arc<Self> {
        let weather = Mutex::new(Weather::Fair);
        Arc::new(Self { engine: Arc::clone(&house.engine), weather })
    }

    pub(super) fn space(self: &Arc<Self>, house: &House) -> Space {
        Space::new(Arc::clone(self) as _, Arc::clone(&house.world) as _)
    }

    pub(super) fn turn(&self, weather: Weather) {
        *self.weather.lock().unwrap() = weather;
    }

    fn weather(&self) -> Weather {
        self.weather.lock().unwrap().clone()
    }
}

impl KeySpace for Sky {
    fn snapshot(&self, level: Level) -> BoxFuture<'_, Result<Arc<dyn Snapshot>, ReadError>> {
        match self.weather() {
            Weather::Blind => Box::pin(async { Err(ReadError::Unavailable("blind".to_owned())) }),
            _ => self.engine.snapshot(level),
        }
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Committed, CommitError>> {
        match self.weather() {
            Weather::Refusing(error) => Box::pin(async { Err(error) }),
            Weather::Doubtful => Box::pin(async {
                drop(self.engine.commit(transaction).await);
                Err(CommitError::Unknown("lost".to_owned()))
            }),
            Weather::Cramped if !transaction.makes_room => {
                Box::pin(async { Err(CommitError::Full("disk".to_owned())) })
            }
            Weather::Fair | Weather::Cramped | Weather::Blind => self.engine.commit(transaction),
        }
    }

    fn watch(&self, range: KeyRange) -> Watch {
        self.engine.watch(range)
    }

    fn status(&self) -> Status {
        self.engine.status()
    }

    fn now(&self) -> outrigger_kernel::Wall {
        self.engine.now()
    }

    fn checkpoint<'a>(&'a self, target: &'a Path) -> BoxFuture<'a, Result<u64, ReadError>> {
        self.engine.checkpoint(target)
    }
}
