//! Taking a lock: at once, or by standing in line.

use super::{
    Ask, Held, LockError, Locks, Mode, WAIT_MAX,
    keys::{HOLDERS, WAITERS, WANTED},
    line::Place,
    records::{OwnedRow, WaiterRow},
    view::{Known, View},
};
use outrigger_kernel::{Deadline, Wall, within};
use outrigger_keyspace::{Record, TransactError, Tx, Write};
use std::time::Duration;

/// How long a place in line outlives its deadline: whoever stands there may be about to say that he goes.
const PLACE_SLACK: Duration = Duration::from_secs(5);

/// What a look at a lock came to.
enum Looked {
    Given { expires_at: Wall },
    Again { token: u64, expires_at: Wall, depth: u32 },
    Taken,
    InLine,
}

impl Locks {
    /// Takes the lock if it is free and nobody waits for it. `None` when it is not to be had now. Dropping the future lets go
    /// of the lock if it was given a moment before.
    ///
    /// # Errors
    /// See [`LockError`].
    pub async fn try_take(&self, ask: &Ask, deadline: Deadline) -> Result<Option<Held>, LockError> {
        ask.check()?;
        let place = Place::asking(self, ask);
        let answer = self.ask(ask, &place, None, deadline).await;
        place.answered(answer)
    }

    /// Takes the lock, waiting in line for it until `deadline`. Dropping the future leaves the line, and lets go of the lock
    /// if it was given a moment before.
    ///
    /// # Errors
    /// [`LockError::TimedOut`] when it was not to be had, [`LockError::Deadlock`] when it never would be.
    pub async fn take(&self, ask: &Ask, deadline: Deadline) -> Result<Held, LockError> {
        // Asked first without a place in line: most locks are free.
        if let Some(held) = self.try_take(ask, deadline).await? {
            return Ok(held);
        }
        let world = self.space.world();
        let deadline = deadline.earliest(Deadline::after(&**world, WAIT_MAX));
        let place = Place::in_line(self, ask)?;
        // Listening before the place is taken: the lock may be given in the next moment.
        let key = (self.store(), ask.resource.clone(), place.grant().to_owned());
        let mut given = self.space.watch(HOLDERS.range(&key));
        let left = deadline.remaining(world.mono()).saturating_add(PLACE_SLACK);
        let until = self.space.now().plus(left);
        match self.ask(ask, &place, Some(until), deadline).await {
            Ok(None) => {}
            // The lock, or why not.
            ended => return place.answered(ended)?.ok_or(LockError::TimedOut),
        }
        loop {
            let waited = within(&**world, deadline, given.changed()).await;
            if let Some(held) = self.held(ask, place.grant()).await? {
                place.left();
                return Ok(held);
            }
            if waited.is_err() {
                // Given at the very last moment: better late than thrown away.
                return place.leave().await?.ok_or(LockError::TimedOut);
            }
        }
    }

    pub(super) async fn ask(
        &self,
        ask: &Ask,
        place: &Place,
        until: Option<Wall>,
        deadline: Deadline,
    ) -> Result<Option<Held>, LockError> {
        let body = async |tx: Tx| self.look(&tx, ask, place.grant(), until).await;
        let (looked, revision) = self.transact(deadline, body).await?;
        if matches!(looked, Looked::InLine) {
            place.taken(revision);
        }
        Ok(looked.held(revision))
    }

    /// What the grant gave, if it has been given.
    pub(super) async fn held(&self, ask: &Ask, grant: &str) -> Result<Option<Held>, LockError> {
        let deadline = Deadline::after(&**self.space.world(), super::COMMIT_WITHIN);
        let body = async |tx: Tx| {
            let view = View::read(self, &tx, &ask.resource).await?;
            Ok(view.holders.iter().find(|known| known.grant == grant).map(Held::of))
        };
        Ok(self.transact(deadline, body).await?.0)
    }

    /// Takes the lock if it is to be had; else, with a time until when, a place in line.
    async fn look(
        &self,
        tx: &Tx,
        ask: &Ask,
        grant: &str,
        until: Option<Wall>,
    ) -> Result<Looked, TransactError<LockError>> {
        let mut view = View::read(self, tx, &ask.resource).await?;
        if let Some(looked) = once_more(&mut view, ask) {
            return Ok(looked);
        }
        let ttl_ms = u64::try_from(ask.ttl.as_millis()).unwrap_or(u64::MAX);
        if view.is_free_for(ask.mode) {
            if !view.has_line().await? {
                let expires_at = view.give(grant, &ask.owner, ask.mode, ttl_ms);
                return Ok(Looked::Given { expires_at });
            }
            // Free, and a line that has not moved: nobody was there to see the last lifetime end.
            view.move_up().await?;
        }
        let Some(until) = until else { return Ok(Looked::Taken) };
        if let Some(steps) = view.cycle(&ask.owner, ask.mode).await? {
            return Err(TransactError::Refused(LockError::Deadlock(steps)));
        }
        let row = WaiterRow {
            owner: ask.owner.clone(),
            mode: ask.mode.number(),
            ttl_ms,
            grant: grant.to_owned(),
        };
        tx.write(Write::PutStamped {
            prefix: WAITERS.start_with(&(self.store(), ask.resource.clone())),
            suffix: bytes::Bytes::new(),
            value: row.encode_record(),
            expires_at: Some(until),
        });
        let key = (self.store(), ask.owner.clone(), ask.resource.clone(), grant.to_owned());
        tx.put(&WANTED, &key, &OwnedRow {}, Some(until));
        Ok(Looked::InLine)
    }
}

/// An owner that holds the lock takes it once more, if it wants to.
fn once_more(view: &mut View<'_>, ask: &Ask) -> Option<Looked> {
    if !ask.reentrant {
        return None;
    }
    let fits = |known: &&Known| {
        let held = Mode::of_number(known.row.mode);
        known.row.owner == ask.owner && (held == ask.mode || held == Mode::Exclusive)
    };
    let mut known = view.holders.iter().find(fits)?.clone();
    known.row.depth = known.row.depth.saturating_add(1);
    known.row.token = known.token;
    // Never shorter than it was: the one who took it first counts on that.
    known.expires_at = known.expires_at.max(view.now.plus(ask.ttl));
    let looked =
        Looked::Again { token: known.token, expires_at: known.expires_at, depth: known.row.depth };
    view.hold(known);
    Some(looked)
}

impl Looked {
    fn held(&self, revision: u64) -> Option<Held> {
        match *self {
            Self::Given { expires_at } => Some(Held { token: revision, expires_at, depth: 1 }),
            Self::Again { token, expires_at, depth } => Some(Held { token, expires_at, depth }),
            Self::Taken | Self::InLine => None,
        }
    }
}

impl Held {
    pub(super) fn of(known: &Known) -> Self {
        Self { token: known.token, expires_at: known.expires_at, depth: known.row.depth }
    }
}
