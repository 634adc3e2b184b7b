//! Waiting in line, and seeing to it that the line moves.
//!
//! Whose turn it is learns that from the row that says so; nobody else is woken. But a lifetime that ends is no commit and
//! wakes nobody: so each process that has somebody in line for a lock keeps one *usher* for it, who sleeps until the next
//! lifetime ends and moves the line up. If several processes have one, the first commit wins and the others find nothing
//! to do.

use super::{
    Ask, Held, LockError, Locks, WAITING_MAX,
    keys::{HOLDERS, WAITERS, WANTED},
    view::View,
};
use outrigger_kernel::{Deadline, TaskHandle, Wall, within};
use outrigger_keyspace::{Stamp, TransactError, Tx};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

/// How long an usher rests when the store does not answer.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// How long leaving the line may take; the place expires by itself.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// How long a commit may be under way whose sender has gone.
const UNDER_WAY: Duration = Duration::from_secs(1);
/// An usher looks no later than this, whatever the lifetimes.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(60);

/// Who of this process waits, by resource.
#[derive(Default)]
pub(super) struct Line {
    ushers: Mutex<HashMap<String, Usher>>,
}

struct Usher {
    waiting: usize,
    task: TaskHandle,
}

impl Line {
    fn enter(&self, locks: &Locks, resource: &str) -> Result<(), LockError> {
        let mut ushers = self.ushers.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = ushers.get(resource).map_or(0, |usher| usher.waiting);
        if waiting >= WAITING_MAX {
            return Err(LockError::TooManyWaiting);
        }
        let usher = ushers.entry(resource.to_owned()).or_insert_with(|| {
            // Not these locks themselves: the task would keep what ends it.
            let locks = Locks { line: Arc::default(), ..locks.clone() };
            let world = Arc::clone(locks.space.world());
            let (locks, resource) = (locks, resource.to_owned());
            let task =
                world.spawn("lock usher", Box::pin(async move { usher(&locks, &resource).await }));
            Usher { waiting: 0, task }
        });
        usher.waiting += 1;
        Ok(())
    }

    fn leave(&self, resource: &str) {
        let mut ushers = self.ushers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(usher) = ushers.get_mut(resource) else { return };
        usher.waiting = usher.waiting.saturating_sub(1);
        if usher.waiting == 0
            && let Some(usher) = ushers.remove(resource)
        {
            usher.task.abort();
        }
    }
}

/// Moves the line of `resource` up whenever a lifetime ends. Never returns; aborted when nobody of this process waits.
async fn usher(locks: &Locks, resource: &str) {
    let world = &**locks.space.world();
    let mut changes = locks.space.watch(HOLDERS.range(&(locks.store(), resource.to_owned())));
    loop {
        match locks.move_up(resource).await {
            Ok(next) => {
                let left = next.map_or(LOOK_EVERY_MAX, |at| at.since(locks.space.now()));
                let left = left.clamp(Duration::from_millis(1), LOOK_EVERY_MAX);
                let _changed = within(world, Deadline::after(world, left), changes.changed()).await;
            }
            Err(error) => {
                tracing::debug!(resource, %error, "the line of a lock could not be moved up");
                world.sleep(RETRY_AFTER).await;
            }
        }
    }
}

impl Locks {
    /// Gives the lock to those at the head of its line who can have it. Answers when the next lifetime ends.
    pub(super) async fn move_up(&self, resource: &str) -> Result<Option<Wall>, LockError> {
        let deadline = Deadline::after(&**self.space.world(), super::COMMIT_WITHIN);
        let body = async |tx: Tx| {
            let mut view = View::read(self, &tx, resource).await?;
            view.move_up().await?;
            Ok(view.holders.iter().map(|known| known.expires_at).min())
        };
        Ok(self.transact(deadline, body).await?.0)
    }
}

/// One time that somebody asks for a lock, perhaps with a place in line. Dropped without an answer, what it came to is
/// undone: the place is given up, and so is the lock.
pub(super) struct Place {
    locks: Locks,
    ask: Ask,
    grant: String,
    stamp: OnceLock<Stamp>,
    in_line: bool,
    ended: bool,
}

impl Place {
    /// For somebody who does not wait.
    pub(super) fn asking(locks: &Locks, ask: &Ask) -> Self {
        let (locks, ask, grant) = (locks.clone(), ask.clone(), locks.grant());
        Self { locks, ask, grant, stamp: OnceLock::new(), in_line: false, ended: false }
    }

    /// For somebody who does.
    pub(super) fn in_line(locks: &Locks, ask: &Ask) -> Result<Self, LockError> {
        locks.line.enter(locks, &ask.resource)?;
        let mut place = Self::asking(locks, ask);
        place.in_line = true;
        Ok(place)
    }

    /// The name of what is asked for.
    pub(super) fn grant(&self) -> &str {
        &self.grant
    }

    /// It was taken by the commit of this revision.
    pub(super) fn taken(&self, revision: u64) {
        // Only ever set by the one commit that takes it.
        let _first = self.stamp.set(Stamp { revision, index: 0 });
    }

    /// There is an answer, and unless it is that nobody knows, nothing to be undone.
    pub(super) fn answered<T>(self, answer: Result<T, LockError>) -> Result<T, LockError> {
        if !matches!(answer, Err(LockError::Elapsed | LockError::Unknown(_))) {
            self.left();
        }
        answer
    }

    /// It is of no use any more, and nothing is left of it.
    pub(super) fn left(mut self) {
        self.ended = true;
    }

    /// Gives it up. Answers the lock if that was given meanwhile.
    pub(super) async fn leave(mut self) -> Result<Option<Held>, LockError> {
        let stamp = self.stamp.get().copied();
        let left = leave(&self.locks, &self.ask, &self.grant, stamp, false).await;
        self.ended = left.is_ok();
        left
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.in_line {
            self.locks.line.leave(&self.ask.resource);
        }
        if self.ended {
            return;
        }
        // Whoever waited has hung up; the row would hold up those behind until it expires.
        let (locks, ask, stamp) = (self.locks.clone(), self.ask.clone(), self.stamp.get().copied());
        let grant = std::mem::take(&mut self.grant);
        let world = Arc::clone(self.locks.space.world());
        let leaving = async move {
            if let Err(error) = leave(&locks, &ask, &grant, stamp, true).await {
                tracing::debug!(resource = ask.resource, %error, "a place in line is left to expire");
            }
        };
        drop(world.spawn("lock line left", Box::pin(leaving)));
    }
}

/// Takes a place away. If the lock was given for it already, that is answered, or with `and_lock` undone.
async fn leave(
    locks: &Locks,
    ask: &Ask,
    grant: &str,
    stamp: Option<Stamp>,
    and_lock: bool,
) -> Result<Option<Held>, LockError> {
    let world = &**locks.space.world();
    let left = async || {
        let deadline = Deadline::after(world, LEAVE_WITHIN);
        let body = async |tx: Tx| step_out(locks, &tx, ask, grant, stamp, and_lock).await;
        Ok::<_, LockError>(locks.transact(deadline, body).await?.0)
    };
    let mut out = left().await?;
    if stamp.is_none() && matches!(out, Out::Nowhere) {
        // Whoever asked went away before he heard that he stands in line. What he asked for may still be under way.
        world.sleep(UNDER_WAY).await;
        out = left().await?;
    }
    match out {
        Out::Holding(held) => Ok(Some(held)),
        Out::Nowhere => Ok(None),
        Out::Left => {
            // Those behind may have waited for this one only. After the commit, since a transaction does not see its own.
            locks.move_up(&ask.resource).await?;
            Ok(None)
        }
    }
}

/// Where somebody was who steps out of line.
enum Out {
    /// At the end of it: he holds the lock.
    Holding(Held),
    /// Somewhere, and is there no more.
    Left,
    /// Neither in line nor holding the lock.
    Nowhere,
}

async fn step_out(
    locks: &Locks,
    tx: &Tx,
    ask: &Ask,
    grant: &str,
    stamp: Option<Stamp>,
    and_lock: bool,
) -> Result<Out, TransactError<LockError>> {
    tx.making_room();
    let mut view = View::read(locks, tx, &ask.resource).await?;
    if let Some(known) = view.holders.iter().find(|known| known.grant == grant) {
        let held = Held::of(known);
        if !and_lock {
            return Ok(Out::Holding(held));
        }
        view.take_from(grant);
        view.move_up().await?;
        return Ok(Out::Nowhere);
    }
    let key = (locks.store(), ask.owner.clone(), ask.resource.clone(), grant.to_owned());
    if tx.get(&WANTED, &key).await?.is_none() {
        return Ok(Out::Nowhere);
    }
    tx.delete(&WANTED, &key);
    match stamp {
        Some(stamp) => tx.delete(&WAITERS, &(key.0, key.2, stamp)),
        None => {
            let line = view.line(WAITING_MAX).await?;
            let own = line.iter().filter(|(_, waiter)| waiter.grant == grant);
            own.for_each(|(stamp, waiter)| view.remove_place(*stamp, waiter));
        }
    }
    Ok(Out::Left)
}
