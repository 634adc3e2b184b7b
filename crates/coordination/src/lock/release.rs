//! Letting go of locks, and holding on to them.

use super::{
    Held, LockError, Locks, check_names, check_ttl,
    keys::OWNED,
    view::{Known, View},
};
use outrigger_kernel::Deadline;
use outrigger_keyspace::{Direction, TransactError, Tx};
use std::{collections::BTreeSet, time::Duration};

/// Most locks of one owner that one step of [`Locks::release_all`] lets go of.
const OWNED_PER_STEP: usize = 1_000;

/// What letting go came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// The lock is free, or the next in line has it.
    Free,
    /// The owner holds it so many times still.
    Still {
        /// How many times.
        depth: u32,
    },
    /// Nobody holds it.
    NotHeld,
    /// Others hold it, or this owner with another token.
    HeldByOthers,
}

impl Locks {
    /// Lets go of the lock that `owner` holds, the one with `token` if it says which. The first in line has it by the same
    /// commit.
    ///
    /// # Errors
    /// When the store cannot be read or written, or a name is none.
    pub async fn release(
        &self,
        resource: &str,
        owner: &str,
        token: Option<u64>,
        deadline: Deadline,
    ) -> Result<Released, LockError> {
        check_names(resource, owner)?;
        let body = async |tx: Tx| {
            // A store that is full must not keep its locks for that.
            tx.making_room();
            let mut view = View::read(self, &tx, resource).await?;
            if view.holders.is_empty() {
                return Ok(Released::NotHeld);
            }
            let Some(mut known) = find(&view, owner, token) else {
                return Ok(Released::HeldByOthers);
            };
            if known.row.depth > 1 {
                known.row.depth -= 1;
                known.row.token = known.token;
                let depth = known.row.depth;
                view.hold(known);
                return Ok(Released::Still { depth });
            }
            view.take_from(&known.grant);
            view.move_up().await?;
            Ok(Released::Free)
        };
        Ok(self.transact(deadline, body).await?.0)
    }

    /// Holds the lock for `ttl` from now on. `None` when `owner` does not hold it (any more), with that `token` if one is
    /// given: whatever it protects may be in other hands.
    ///
    /// # Errors
    /// When the store cannot be read or written, or a name or the lifetime is none.
    pub async fn renew(
        &self,
        resource: &str,
        owner: &str,
        token: Option<u64>,
        ttl: Duration,
        deadline: Deadline,
    ) -> Result<Option<Held>, LockError> {
        check_names(resource, owner)?;
        check_ttl(ttl)?;
        let body = async |tx: Tx| {
            let mut view = View::read(self, &tx, resource).await?;
            let Some(mut known) = find(&view, owner, token) else { return Ok(None) };
            known.row.token = known.token;
            known.row.ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            known.expires_at = view.now.plus(ttl);
            let held = Held::of(&known);
            view.hold(known);
            Ok(Some(held))
        };
        Ok(self.transact(deadline, body).await?.0)
    }

    /// Takes the lock from everybody who holds it, as an operator may; answers from how many. Their tokens are stale from
    /// then on, which they learn when they use them.
    ///
    /// # Errors
    /// When the store cannot be read or written, or the name is none.
    pub async fn force(&self, resource: &str, deadline: Deadline) -> Result<usize, LockError> {
        check_names(resource, "-")?;
        let body = async |tx: Tx| {
            tx.making_room();
            let mut view = View::read(self, &tx, resource).await?;
            let grants: Vec<String> =
                view.holders.iter().map(|known| known.grant.clone()).collect();
            grants.iter().for_each(|grant| view.take_from(grant));
            view.move_up().await?;
            Ok(grants.len())
        };
        Ok(self.transact(deadline, body).await?.0)
    }

    /// Lets go of every lock that `owner` holds, however often: it has ended. Answers how many those were.
    ///
    /// # Errors
    /// When the store cannot be read or written, or the name is none. Some may have been let go of then.
    pub async fn release_all(&self, owner: &str, deadline: Deadline) -> Result<usize, LockError> {
        check_names("-", owner)?;
        let mut count = 0;
        for resource in self.held_by(owner, deadline).await? {
            let body = async |tx: Tx| {
                tx.making_room();
                let mut view = View::read(self, &tx, &resource).await?;
                let own = view.holders.iter().filter(|known| known.row.owner == owner);
                let grants: Vec<String> = own.map(|known| known.grant.clone()).collect();
                grants.iter().for_each(|grant| view.take_from(grant));
                if !grants.is_empty() {
                    view.move_up().await?;
                }
                Ok(grants.len())
            };
            count += self.transact(deadline, body).await?.0;
        }
        Ok(count)
    }

    /// The resources that `owner` holds locks on, in order; no more than one step lets go of.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn held_by(
        &self,
        owner: &str,
        deadline: Deadline,
    ) -> Result<BTreeSet<String>, LockError> {
        check_names("-", owner)?;
        let body = async |tx: Tx| {
            let range = OWNED.range(&(self.store(), owner.to_owned()));
            let page = tx.scan(&range, OWNED_PER_STEP, Direction::Forward).await?;
            let mut held = BTreeSet::new();
            for entry in page.entries {
                let (_, _, resource, _) = OWNED.decode_key(&entry.key)?;
                if !OWNED.decode(entry.value.bytes)?.waiting {
                    held.insert(resource);
                }
            }
            Ok::<_, TransactError<LockError>>(held)
        };
        Ok(self.transact(deadline, body).await?.0)
    }
}

/// What `owner` holds; the oldest, where it holds several and does not say which.
fn find(view: &View<'_>, owner: &str, token: Option<u64>) -> Option<Known> {
    let own = view.holders.iter().filter(|known| known.row.owner == owner);
    let asked = own.filter(|known| token.is_none_or(|token| token == known.token));
    asked.min_by_key(|known| known.token).cloned()
}
