//! Fences: work that happens only while a lock is held.

use super::{LockError, Locks, view::View};
use outrigger_keyspace::{Space, TransactError, Tx};
use std::sync::Arc;

/// A condition on a commit: that a lock is held, with this token, until the commit.
///
/// Where the lock and what it protects are in one store, a holder that is late cannot do harm: the commit finds that the
/// lock has ended or changed hands, and does not happen. No clock is trusted for it but the store's own.
#[derive(Clone, Debug)]
pub struct Fence {
    locks: Locks,
    resource: String,
    token: u64,
}

impl Fence {
    /// That the lock on `resource` is held with `token`.
    #[must_use]
    pub fn new(locks: Locks, resource: &str, token: u64) -> Self {
        Self { locks, resource: resource.to_owned(), token }
    }

    /// What is locked.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Whether a commit in `space` can carry it: lock and work must be in one store.
    #[must_use]
    pub fn is_of(&self, space: &Space) -> bool {
        Arc::ptr_eq(self.locks.space.engine(), space.engine())
    }

    /// Whether the lock is held with that token. To be asked in the transaction that does the work, which then commits only
    /// if it still is.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn holds<E>(&self, tx: &Tx) -> Result<bool, TransactError<E>> {
        let view = View::read(&self.locks, tx, &self.resource).await;
        match view.map_err(LockError::from) {
            Ok(view) => Ok(view.holders.iter().any(|known| known.token == self.token)),
            Err(LockError::Damaged(what)) => {
                Err(TransactError::Read(outrigger_keyspace::ReadError::Damaged(what)))
            }
            Err(other) => {
                let why = other.to_string();
                Err(TransactError::Read(outrigger_keyspace::ReadError::Unavailable(why)))
            }
        }
    }
}
