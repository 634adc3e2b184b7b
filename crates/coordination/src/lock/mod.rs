//! Locks: exclusive, shared, and with a number of permits; each with a fencing token, a lifetime and a fair line.
//!
//! ```text
//!   take --free--> HELD --release--> the first in line HOLDS, by the same commit
//!     |             | |  +--- its lifetime ends --> the first in line holds
//!     |             +-+ renew, take again by the same owner
//!     +--held--> IN LINE --(its turn)--> HELD
//!                   +--(deadline, hang-up)--> gone
//! ```
//!
//! | file | what |
//! |---|---|
//! | `take.rs` | [`Locks::try_take`], [`Locks::take`] |
//! | `line.rs` | waiting, and who sees to it that the line moves when a lifetime ends |
//! | `release.rs` | [`Locks::release`], [`Locks::renew`], [`Locks::release_all`], [`Locks::force`] |
//! | `view.rs` | what a transaction knows of a lock; who may have it; cycles of waiting; [`Locks::status`], [`Locks::observe`] |
//! | `fence.rs` | [`Fence`]: commits that happen only while a lock is held |
//! | `keys.rs`, `records.rs` | the layout |
//!
//! **What a lock is worth.** No lock with a lifetime excludes anybody by itself: a holder may be paused past its end and go on
//! as if nothing had happened. The *fencing token* excludes him. It is the revision of the commit that gave the lock, so
//! every holder's is greater than those of all before him; what the lock protects refuses a token smaller than the
//! greatest it has seen. (Those who share a lock and were let in by one commit have one token.)
//!
//! **Fairness.** Who waits is served in the order of coming, and nobody passes the line; exclusive requests are not starved by
//! shared ones. A hand-over is one commit, and wakes the one whose turn it is. Who dies in line is passed over when its
//! place expires; who dies as a holder is replaced when the lifetime ends, by any process that has somebody in line.
//!
//! **Owners** are what the user says they are: one thread of work each. Two requests of one owner exclude each other unless
//! the lock is asked for as reentrant. An owner that waits for a lock whose holder waits for one of its own is refused at
//! once, see [`LockError::Deadlock`].

mod error;
mod fence;
mod keys;
mod line;
mod records;
mod release;
mod take;
#[cfg(test)]
mod tests;
mod view;

pub use error::LockError;
pub use fence::Fence;
pub use release::Released;
pub use view::{Holder, LockStatus};

use outrigger_kernel::{Deadline, Wall};
use outrigger_keyspace::{Space, TransactError, Tx};
use std::{fmt, sync::Arc, time::Duration};

/// The longest name of a resource.
pub const RESOURCE_BYTES_MAX: usize = 1_024;
/// The longest name of an owner.
pub const OWNER_BYTES_MAX: usize = 512;
/// The longest lifetime.
pub const TTL_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The most permits of a semaphore.
pub const PERMITS_MAX: u32 = 1_000;
/// Most that hold one lock together; one more waits.
pub const HOLDERS_MAX: usize = 1_000;
/// Most that wait for one lock in one process.
pub const WAITING_MAX: usize = 10_000;
/// The longest wait; a longer one is this long.
pub const WAIT_MAX: Duration = Duration::from_secs(60 * 60);

/// How long conflicting writers may keep a change from happening, where the caller has more time.
const COMMIT_WITHIN: Duration = Duration::from_secs(5);

/// Who may hold a lock beside its holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Nobody.
    #[default]
    Exclusive,
    /// Others that share it.
    Shared,
    /// Others with a permit of the same semaphore, while there are any.
    Permit {
        /// How many permits there are.
        of: u32,
    },
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What to lock.
    pub resource: String,
    /// For whom.
    pub owner: String,
    /// For how long, unless renewed. Counted from when the lock is given.
    pub ttl: Duration,
    /// Who else may hold it.
    pub mode: Mode,
    /// Whether an owner that holds it may take it once more, to be released as often.
    pub reentrant: bool,
}

impl Ask {
    /// The lock on `resource` for `owner` alone, for `ttl`.
    #[must_use]
    pub fn exclusive(resource: &str, owner: &str, ttl: Duration) -> Self {
        let (resource, owner) = (resource.to_owned(), owner.to_owned());
        Self { resource, owner, ttl, mode: Mode::Exclusive, reentrant: false }
    }

    fn check(&self) -> Result<(), LockError> {
        check_names(&self.resource, &self.owner)?;
        check_ttl(self.ttl)?;
        match self.mode {
            Mode::Permit { of } if of == 0 || of > PERMITS_MAX => Err(LockError::Permits(of)),
            _ => Ok(()),
        }
    }
}

/// A lock given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The fencing token: greater than that of every holder before.
    pub token: u64,
    /// When it ends unless it is renewed, in the store's time.
    pub expires_at: Wall,
    /// How many times the owner has to release it.
    pub depth: u32,
}

/// The locks of one store. Cheap to clone; clones share who waits.
#[derive(Clone)]
pub struct Locks {
    space: Space,
    store: Arc<str>,
    line: Arc<line::Line>,
}

impl Locks {
    /// The locks called `store` in `space`. Processes that use the same space and name share them.
    #[must_use]
    pub fn new(space: Space, store: &str) -> Self {
        Self { space, store: store.into(), line: Arc::default() }
    }

    /// Runs one transaction on locks.
    async fn transact<T, F, Fut>(&self, deadline: Deadline, body: F) -> Result<(T, u64), LockError>
    where
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, TransactError<LockError>>>,
    {
        let own = Deadline::after(&**self.space.world(), COMMIT_WITHIN);
        let (answer, committed) = self.space.transact(deadline.earliest(own), body).await?;
        Ok((answer, committed.revision))
    }

    fn store(&self) -> String {
        (*self.store).to_owned()
    }

    /// A name for one time that somebody asks.
    fn grant(&self) -> String {
        let world = self.space.world();
        format!("{:016x}{:016x}", world.random(), world.random())
    }
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Locks({})", self.store)
    }
}

fn check_names(resource: &str, owner: &str) -> Result<(), LockError> {
    if !(1..=RESOURCE_BYTES_MAX).contains(&resource.len()) {
        return Err(LockError::Resource(resource.len()));
    }
    if !(1..=OWNER_BYTES_MAX).contains(&owner.len()) {
        return Err(LockError::Owner(owner.len()));
    }
    Ok(())
}

fn check_ttl(ttl: Duration) -> Result<(), LockError> {
    let known = Duration::from_millis(1)..=TTL_MAX;
    if known.contains(&ttl) { Ok(()) } else { Err(LockError::Ttl(ttl)) }
}
