//! Letting go of locks, and holding on to them.

use super::{
    Held, LockError, Locks, WAITING_MAX, check_names, check_ttl,
    keys::{HELD, WANTED},
    records::OwnedRow,
    view::{Known, View},
};
use outrigger_kernel::Deadline;
use outrigger_keyspace::{Direction, Table, TransactError, Tx};
use std::{collections::BTreeSet, time::Duration};

/// Most rows of one owner that are read at once.
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

    /// Lets go of every lock that `owner` holds, however often, and gives up its places in line: it has ended. Answers how
    /// many locks those were.
    ///
    /// # Errors
    /// When the store cannot be read or written, or the name is none. Some may have been let go of then.
    pub async fn release_all(&self, owner: &str, deadline: Deadline) -> Result<usize, LockError> {
        let mut count = 0;
        loop {
            // First what is waited for, so that it is not given what others held.
            let mut all = self.step_of(&WANTED, owner, deadline).await?;
            all.extend(self.step_of(&HELD, owner, deadline).await?);
            if all.is_empty() {
                return Ok(count);
            }
            for resource in all {
                let body = async |tx: Tx| self.drop_owner(&tx, &resource, owner).await;
                count += self.transact(deadline, body).await?.0;
                self.move_up(&resource).await?;
            }
        }
    }

    async fn drop_owner(
        &self,
        tx: &Tx,
        resource: &str,
        owner: &str,
    ) -> Result<usize, TransactError<LockError>> {
        tx.making_room();
        let mut view = View::read(self, tx, resource).await?;
        for (stamp, waiter) in view.line(WAITING_MAX).await? {
            if waiter.owner == owner {
                view.remove_place(stamp, &waiter);
            }
        }
        let own = view.holders.iter().filter(|known| known.row.owner == owner);
        let grants: Vec<String> = own.map(|known| known.grant.clone()).collect();
        grants.iter().for_each(|grant| view.take_from(grant));
        Ok(grants.len())
    }

    /// The resources that `owner` holds locks on, in order; the first 1,000.
    ///
    /// # Errors
    /// When the store cannot be read, or the name is none.
    pub async fn held_by(
        &self,
        owner: &str,
        deadline: Deadline,
    ) -> Result<BTreeSet<String>, LockError> {
        self.step_of(&HELD, owner, deadline).await
    }

    async fn step_of(
        &self,
        table: &Table<(String, String, String, String), OwnedRow>,
        owner: &str,
        deadline: Deadline,
    ) -> Result<BTreeSet<String>, LockError> {
        check_names("-", owner)?;
        let body = async |tx: Tx| {
            let now = self.space.now();
            let range = table.range(&(self.store(), owner.to_owned()));
            let page = tx.scan(&range, OWNED_PER_STEP, Direction::Forward).await?;
            let mut owned = BTreeSet::new();
            for entry in page.entries {
                if entry.value.expires_at.is_some_and(|at| at > now) {
                    owned.insert(table.decode_key(&entry.key)?.2);
                }
            }
            Ok::<_, TransactError<LockError>>(owned)
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
