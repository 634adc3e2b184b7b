//! A connection's snapshots and the reads on them.
//!
//! A client names its snapshots itself and says with the first reads how fresh they have to be: whichever of them comes
//! first pins the snapshot, the others find it. It releases them when it is told that nobody reads any more; those that it
//! forgets end after a minute.

use crate::{
    bounds::{MANY_BYTES_MAX, SNAPSHOT_IDLE_TICKS, SNAPSHOTS_MAX},
    wire::{Answer, Ask, At},
};
use futures_util::{
    future::{AbortHandle, Abortable, Aborted},
    stream::{FuturesUnordered, StreamExt},
};
use outrigger_kernel::BoxFuture;
use outrigger_keyspace::{KeySpace, Level, ReadError, Snapshot, limits};
use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::OnceCell;

pub(super) struct Reads {
    engine: Arc<dyn KeySpace>,
    snapshots: HashMap<u64, Held>,
    /// The same id may be answered and used again before its entry here is gone; only the last one counts.
    waiting: HashMap<u64, AbortHandle>,
    running: FuturesUnordered<Abortable<BoxFuture<'static, (u64, Answer)>>>,
    ticks: u64,
}

struct Held {
    pinned: Arc<OnceCell<Arc<dyn Snapshot>>>,
    used: u64,
}

/// What became of a read at once.
pub(super) enum Begun {
    Answered(Answer),
    Waits,
}

impl Reads {
    pub(super) fn new(engine: Arc<dyn KeySpace>) -> Self {
        Self {
            engine,
            snapshots: HashMap::new(),
            waiting: HashMap::new(),
            running: FuturesUnordered::new(),
            ticks: 0,
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.running.len()
    }

    pub(super) fn holds_snapshots(&self) -> bool {
        !self.snapshots.is_empty()
    }

    pub(super) fn begin(
        &mut self,
        cx: &mut Context<'_>,
        id: u64,
        snapshot: u64,
        at: At,
        ask: Ask,
    ) -> Begun {
        let pinned = match self.find(snapshot, at) {
            Ok(pinned) => pinned,
            Err(Missing::Gone) => return Begun::Answered(Answer::Gone { id }),
            Err(Missing::TooMany) => {
                let why = format!("{SNAPSHOTS_MAX} snapshots of this process are in use");
                let error = ReadError::Unavailable(why);
                return Begun::Answered(Answer::ReadFailed { id, error });
            }
        };
        let engine = self.engine.clone();
        let mut read: BoxFuture<'static, (u64, Answer)> = Box::pin(async move {
            let answer = read(&*engine, &pinned, id, at, ask).await;
            (id, answer.unwrap_or_else(|error| Answer::ReadFailed { id, error }))
        });
        if let Poll::Ready((_, answer)) = read.as_mut().poll(cx) {
            return Begun::Answered(answer);
        }
        let (handle, registration) = AbortHandle::new_pair();
        self.waiting.insert(id, handle);
        self.running.push(Abortable::new(read, registration));
        Begun::Waits
    }

    fn find(&mut self, snapshot: u64, at: At) -> Result<Arc<OnceCell<Arc<dyn Snapshot>>>, Missing> {
        if let Some(held) = self.snapshots.get_mut(&snapshot) {
            held.used = self.ticks;
            return Ok(held.pinned.clone());
        }
        if at == At::Pinned {
            return Err(Missing::Gone);
        }
        if self.snapshots.len() >= SNAPSHOTS_MAX {
            return Err(Missing::TooMany);
        }
        let pinned = Arc::new(OnceCell::new());
        self.snapshots.insert(snapshot, Held { pinned: pinned.clone(), used: self.ticks });
        Ok(pinned)
    }

    /// The next answer of a read that had to wait.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        loop {
            match self.running.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok((id, answer)))) => {
                    self.waiting.remove(&id);
                    return Poll::Ready(answer);
                }
                Poll::Ready(Some(Err(Aborted))) => {}
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    pub(super) fn cancel(&mut self, id: u64) {
        if let Some(handle) = self.waiting.remove(&id) {
            handle.abort();
        }
    }

    pub(super) fn release(&mut self, snapshot: u64) {
        self.snapshots.remove(&snapshot);
    }

    pub(super) fn clear(&mut self) {
        self.snapshots.clear();
        self.waiting.clear();
        self.running = FuturesUnordered::new();
    }

    /// Forgets what was not used for long.
    pub(super) fn tick(&mut self) {
        self.ticks += 1;
        let ticks = self.ticks;
        self.snapshots.retain(|_, held| ticks - held.used <= SNAPSHOT_IDLE_TICKS);
    }
}

enum Missing {
    Gone,
    TooMany,
}

async fn read(
    engine: &dyn KeySpace,
    pinned: &OnceCell<Arc<dyn Snapshot>>,
    id: u64,
    at: At,
    ask: Ask,
) -> Result<Answer, ReadError> {
    let level = match at {
        At::Fresh(level) => level,
        // Pinned by an answer that the client has seen, so this does not come to be asked.
        At::Pinned => Level::Linearizable,
    };
    let snapshot = pinned.get_or_try_init(|| engine.snapshot(level)).await?;
    // The revision comes last: an engine may know it only after reading.
    Ok(match ask {
        Ask::Pin => Answer::Pinned { id, revision: snapshot.revision() },
        Ask::Get(key) => {
            let value = snapshot.get(&key).await?;
            Answer::Value { id, revision: snapshot.revision(), value }
        }
        Ask::Many(keys) => {
            let mut values = Vec::with_capacity(keys.len());
            let mut bytes = 0;
            // In pieces that fit a frame together, however large the values are.
            for key in keys {
                let value = snapshot.get(&key).await?;
                bytes += value.as_ref().map_or(0, |value| value.bytes.len());
                values.push(value);
                if bytes > limits::PAGE_BYTES_MAX {
                    break;
                }
            }
            Answer::Values { id, revision: snapshot.revision(), values }
        }
        Ask::Scan { range, limit, direction } => {
            let page = snapshot.scan(&range, limit, direction).await?;
            Answer::Page { id, revision: snapshot.revision(), page }
        }
    })
}

const _: () = assert!(MANY_BYTES_MAX < limits::PAGE_BYTES_MAX);
