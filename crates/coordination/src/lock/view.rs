//! What a transaction knows of one lock, and what follows from it.

use super::{
    COMMIT_WITHIN, HOLDERS_MAX, LockError, Locks, Mode, WAIT_MAX, WAITING_MAX, check_names,
    keys::{HELD, HOLDERS, WAITERS, WANTED},
    records::{HolderRow, OwnedRow, WaiterRow},
};
use outrigger_kernel::{Deadline, Wall, within};
use outrigger_keyspace::{Direction, Stamp, Table, TransactError, Tx};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

/// Most places of a line that are looked at by one commit; the rest follows with the next.
const PLACES_PER_COMMIT: usize = 64;
/// Most locks that are looked through for a cycle of waiting. A longer cycle ends by lifetimes.
const CYCLE_LOCKS_MAX: usize = 64;
/// How long after a lifetime's end, at least, somebody who observes looks again.
const LOOK_AFTER: Duration = Duration::from_millis(1);
/// Most of an owner's locks that are looked at for one.
const OWNED_MAX: usize = 256;

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Whose it is.
    pub owner: String,
    /// Who else may hold it.
    pub mode: Mode,
    /// Its fencing token.
    pub token: u64,
    /// How many times its owner has taken it.
    pub depth: u32,
    /// Since when, in the store's time.
    pub since: Wall,
    /// When it ends unless it is renewed.
    pub expires_at: Wall,
}

/// A lock as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockStatus {
    /// Those who hold it, by their tokens.
    pub holders: Vec<Holder>,
    /// Those who wait, first come first; no more than were asked for.
    pub waiting: Vec<String>,
}

/// A holder with its key.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) grant: String,
    pub(super) row: HolderRow,
    pub(super) token: u64,
    pub(super) expires_at: Wall,
}

/// Those who hold a lock, in a transaction.
pub(super) struct View<'a> {
    pub(super) locks: &'a Locks,
    pub(super) tx: &'a Tx,
    pub(super) resource: &'a str,
    pub(super) now: Wall,
    pub(super) holders: Vec<Known>,
}

type Refused = TransactError<LockError>;

impl<'a> View<'a> {
    /// Reads who holds `resource`. Whoever's lifetime is over does not.
    pub(super) async fn read(
        locks: &'a Locks,
        tx: &'a Tx,
        resource: &'a str,
    ) -> Result<Self, Refused> {
        let now = locks.space.now();
        let range = HOLDERS.range(&(locks.store(), resource.to_owned()));
        let page = tx.scan(&range, HOLDERS_MAX + 1, Direction::Forward).await?;
        let mut holders = Vec::with_capacity(page.entries.len());
        for entry in page.entries {
            let (_, _, grant) = HOLDERS.decode_key(&entry.key)?;
            let row = HOLDERS.decode(entry.value.bytes)?;
            // Rows of holders always expire; one that does not is damaged, and must not be held for ever.
            let expires_at = entry.value.expires_at.unwrap_or_default();
            let token = if row.token == 0 { entry.value.revision } else { row.token };
            if expires_at > now {
                holders.push(Known { grant, row, token, expires_at });
            }
        }
        Ok(Self { locks, tx, resource, now, holders })
    }

    /// Whether somebody may have it in `mode` beside those who hold it.
    pub(super) fn is_free_for(&self, mode: Mode) -> bool {
        let count = self.holders.len();
        let alike = |known: &Known| Mode::of_number(known.row.mode) == mode;
        match mode {
            _ if count == 0 => true,
            Mode::Exclusive => false,
            Mode::Shared => count < HOLDERS_MAX && self.holders.iter().all(alike),
            Mode::Permit { of } => {
                u32::try_from(count).is_ok_and(|count| count < of) && self.holders.iter().all(alike)
            }
        }
    }

    /// Whether somebody waits. Reads no further than the first, so that those who join the line do not disturb each other.
    pub(super) async fn has_line(&self) -> Result<bool, Refused> {
        Ok(!self.line(1).await?.is_empty())
    }

    /// The first places of the line that have not expired.
    pub(super) async fn line(&self, limit: usize) -> Result<Vec<(Stamp, WaiterRow)>, Refused> {
        let mut range = WAITERS.range(&(self.locks.store(), self.resource.to_owned()));
        let mut line = Vec::new();
        loop {
            let wanted = limit - line.len();
            let page = self.tx.scan(&range, wanted, Direction::Forward).await?;
            if let Some(last) = page.entries.last() {
                range = range.after(&last.key);
            }
            for entry in page.entries {
                let (_, _, stamp) = WAITERS.decode_key(&entry.key)?;
                // Until somebody commits, what has expired may still be seen.
                if entry.value.expires_at.is_some_and(|at| at > self.now) {
                    line.push((stamp, WAITERS.decode(entry.value.bytes)?));
                }
            }
            if !page.more || line.len() >= limit {
                return Ok(line);
            }
        }
    }

    /// Gives the lock to `owner`.
    pub(super) fn give(&mut self, grant: &str, owner: &str, mode: Mode, ttl_ms: u64) -> Wall {
        let row = HolderRow {
            owner: owner.to_owned(),
            mode: mode.number(),
            token: 0,
            ttl_ms,
            depth: 1,
            since_ms: self.now.0,
        };
        let expires_at = Wall(self.now.0.saturating_add(ttl_ms));
        self.hold(Known { grant: grant.to_owned(), row, token: 0, expires_at });
        expires_at
    }

    /// Writes a holder down, as it is from now on.
    pub(super) fn hold(&mut self, known: Known) {
        let Known { grant, row, expires_at, .. } = &known;
        let (store, resource) = (self.locks.store(), self.resource.to_owned());
        let key = (store.clone(), resource.clone(), grant.clone());
        self.tx.put(&HOLDERS, &key, row, Some(*expires_at));
        let key = (store, row.owner.clone(), resource, grant.clone());
        self.tx.put(&HELD, &key, &OwnedRow {}, Some(*expires_at));
        self.holders.retain(|other| other.grant != *grant);
        self.holders.push(known);
    }

    /// Takes the lock from a holder.
    pub(super) fn take_from(&mut self, grant: &str) {
        let Some(at) = self.holders.iter().position(|known| known.grant == grant) else { return };
        let known = self.holders.swap_remove(at);
        let (store, resource) = (self.locks.store(), self.resource.to_owned());
        self.tx.delete(&HOLDERS, &(store.clone(), resource.clone(), known.grant.clone()));
        self.tx.delete(&HELD, &(store, known.row.owner, resource, known.grant));
    }

    /// Gives the lock to those at the head of the line who can have it.
    pub(super) async fn move_up(&mut self) -> Result<(), Refused> {
        // Mostly it is one who wants it alone, and the rest of the line need not be read.
        let mut limit = 1;
        let mut given = 0;
        loop {
            let line = self.line(limit).await?;
            for (stamp, waiter) in line.iter().skip(given) {
                let mode = Mode::of_number(waiter.mode);
                if !self.is_free_for(mode) {
                    return Ok(());
                }
                self.remove_place(*stamp, waiter);
                self.give(&waiter.grant, &waiter.owner, mode, waiter.ttl_ms);
                given += 1;
            }
            if line.len() < limit || limit >= PLACES_PER_COMMIT || !self.is_shared() {
                return Ok(());
            }
            limit = PLACES_PER_COMMIT;
        }
    }

    /// Takes a place out of the line.
    pub(super) fn remove_place(&self, stamp: Stamp, waiter: &WaiterRow) {
        let (store, resource) = (self.locks.store(), self.resource.to_owned());
        self.tx.delete(&WAITERS, &(store.clone(), resource.clone(), stamp));
        let key = (store, waiter.owner.clone(), resource, waiter.grant.clone());
        self.tx.delete(&WANTED, &key);
    }

    /// Whether more than one may hold it as it is held.
    fn is_shared(&self) -> bool {
        self.holders.iter().all(|known| Mode::of_number(known.row.mode) != Mode::Exclusive)
    }

    /// The way from `owner` back to it, if those who hold this lock wait (directly or through others) for what `owner` holds.
    /// One such holder is enough, since all must let go of it; but of a semaphore's holders, one that does not is.
    ///
    /// An owner that waits for a lock of its own is no cycle: it may be many at once.
    pub(super) async fn cycle(
        &self,
        owner: &str,
        mode: Mode,
    ) -> Result<Option<Vec<String>>, Refused> {
        let held = self.owned(&HELD, owner).await?;
        if held.is_empty() {
            return Ok(None);
        }
        let mut found = None;
        for known in &self.holders {
            let back = self.way_back(owner, &held, &known.row.owner).await?;
            match (back, mode) {
                (None, Mode::Permit { .. }) => return Ok(None),
                (None, _) => {}
                (Some(steps), Mode::Permit { .. }) => found = found.or(Some(steps)),
                (Some(steps), _) => return Ok(Some(steps)),
            }
        }
        Ok(found)
    }

    /// The way by which `holder` waits for one of the locks that `owner` has `held`: lock by lock, up to a bound.
    async fn way_back(
        &self,
        owner: &str,
        held: &BTreeSet<String>,
        holder: &str,
    ) -> Result<Option<Vec<String>>, Refused> {
        // By whom a lock is waited for, and through which lock somebody was found.
        let mut waited_for_by: BTreeMap<String, String> = BTreeMap::new();
        let mut found_at: BTreeMap<String, String> = BTreeMap::new();
        let mut next = VecDeque::from([(self.resource.to_owned(), vec![holder.to_owned()])]);
        while let Some((resource, owners)) = next.pop_front() {
            for other in owners {
                if other == owner || found_at.contains_key(&other) {
                    continue;
                }
                found_at.insert(other.clone(), resource.clone());
                for wanted in self.owned(&WANTED, &other).await? {
                    if held.contains(&wanted) {
                        let mut steps = self.steps(&other, &wanted, &found_at, &waited_for_by);
                        steps.push(format!("{owner} holds {wanted}"));
                        return Ok(Some(steps));
                    }
                    let is_new = wanted != self.resource && !waited_for_by.contains_key(&wanted);
                    if is_new && waited_for_by.len() < CYCLE_LOCKS_MAX {
                        waited_for_by.insert(wanted.clone(), other.clone());
                        let view = Box::pin(View::read(self.locks, self.tx, &wanted)).await?;
                        let owners = view.holders.into_iter().map(|known| known.row.owner);
                        next.push_back((wanted, owners.collect()));
                    }
                }
            }
        }
        Ok(None)
    }

    /// A way of waiting in words, from this lock to `last`, who waits for `wanted`.
    fn steps(
        &self,
        last: &str,
        wanted: &str,
        found_at: &BTreeMap<String, String>,
        waited_for_by: &BTreeMap<String, String>,
    ) -> Vec<String> {
        let mut steps = Vec::new();
        let (mut who, mut wants) = (last, wanted);
        while let Some(holds) = found_at.get(who) {
            steps.push(format!("{who} holds {holds} and waits for {wants}"));
            let Some(before) = waited_for_by.get(holds) else { break };
            (who, wants) = (before, holds);
        }
        steps.reverse();
        steps
    }

    /// The resources that `owner` holds, or waits for.
    async fn owned(&self, table: &Owned, owner: &str) -> Result<BTreeSet<String>, Refused> {
        let range = table.range(&(self.locks.store(), owner.to_owned()));
        let page = self.tx.scan(&range, OWNED_MAX, Direction::Forward).await?;
        let mut owned = BTreeSet::new();
        for entry in page.entries {
            if entry.value.expires_at.is_some_and(|at| at > self.now) {
                let (_, _, resource, _) = table.decode_key(&entry.key)?;
                owned.insert(resource);
            }
        }
        Ok(owned)
    }
}

type Owned = Table<(String, String, String, String), OwnedRow>;

impl Locks {
    /// A lock as it stands, with at most `waiting` of its line.
    ///
    /// # Errors
    /// When the store cannot be read, or the name is none.
    pub async fn status(&self, resource: &str, waiting: usize) -> Result<LockStatus, LockError> {
        check_names(resource, "-")?;
        let deadline = Deadline::after(&**self.space.world(), COMMIT_WITHIN);
        let body = async |tx: Tx| {
            let view = View::read(self, &tx, resource).await?;
            let line = view.line(waiting.clamp(1, WAITING_MAX)).await?;
            let waiting = line.into_iter().take(waiting).map(|(_, row)| row.owner).collect();
            let mut holders: Vec<Holder> = view.holders.iter().map(Holder::of).collect();
            holders.sort_by_key(|holder| holder.token);
            Ok(LockStatus { holders, waiting })
        };
        Ok(self.transact(deadline, body).await?.0)
    }
}

impl LockStatus {
    /// The greatest fencing token of those who hold it; 0 while nobody does.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.holders.iter().map(|holder| holder.token).max().unwrap_or(0)
    }
}

impl Locks {
    /// A lock as soon as its greatest token is another one than `seen`, or as it stands at `deadline`: how those who do not
    /// want a lock follow who has it. The end of a lifetime is noticed too, also where nobody is in line.
    ///
    /// # Errors
    /// When the store cannot be read, or the name is none.
    pub async fn observe(
        &self,
        resource: &str,
        seen: u64,
        waiting: usize,
        deadline: Deadline,
    ) -> Result<LockStatus, LockError> {
        let world = &**self.space.world();
        // Listening before the first look, so that no change falls between the two.
        let mut changes = self.space.watch(HOLDERS.range(&(self.store(), resource.to_owned())));
        loop {
            let status = self.status(resource, waiting).await?;
            if status.token() != seen || deadline.expired(world.mono()) {
                return Ok(status);
            }
            let now = self.space.now();
            let ends = status.holders.iter().map(|holder| holder.expires_at.since(now)).min();
            let next = Deadline::after(world, ends.unwrap_or(WAIT_MAX).max(LOOK_AFTER));
            let _changed = within(world, deadline.earliest(next), changes.changed()).await;
        }
    }
}

impl Holder {
    fn of(known: &Known) -> Self {
        let HolderRow { owner, mode, depth, since_ms, .. } = &known.row;
        Self {
            owner: owner.clone(),
            mode: Mode::of_number(*mode),
            token: known.token,
            depth: *depth,
            since: Wall(*since_ms),
            expires_at: known.expires_at,
        }
    }
}
