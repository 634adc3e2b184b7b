//! Changing: a list of changes becomes one commit, or nothing.
//!
//! The list is first *planned*, without touching the store: keys, etags and sizes are checked, records encoded, expiry
//! instants fixed. A plan without conditions is committed blind, since nothing anyone else does could make it wrong. A
//! plan with conditions (or fences) runs as a transaction: its conditions are checked against one snapshot, and the commit is
//! refused if any of those keys has changed since.

use crate::{ApplyError, Change, Concurrency, Set, Store, Ttl, etag, records::Entry};
use bytes::Bytes;
use outrigger_coordination::Fence;
use outrigger_kernel::{Deadline, Wall, within};
use outrigger_keyspace::{Committed, Record, TransactError, Tx, Write, limits};
use prost::Message;

/// Most changes of one request.
pub const OPERATIONS_MAX: usize = 10_000;

/// 9999-12-31T23:59:59.999Z, the last instant RFC 3339 can write.
const NAMEABLE_MAX: Wall = Wall(253_402_300_799_999);

/// A request, checked and encoded.
struct Plan {
    writes: Vec<Write>,
    conditions: Vec<Condition>,
    fences: Vec<Fence>,
}

/// What must hold for a key before the request.
struct Condition {
    stored_key: Bytes,
    key: String,
    expected: Expected,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Absent,
    Revision(u64),
}

impl Store {
    /// Applies all of `changes` in one commit, or none of them.
    ///
    /// Conditions are checked against the state before the request; then the changes apply in order. An empty list
    /// succeeds and answers the revision it found.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub async fn apply(
        &self,
        changes: Vec<Change>,
        deadline: Deadline,
    ) -> Result<Committed, ApplyError> {
        self.apply_with(changes, Vec::new(), deadline).await
    }

    /// Like [`Store::apply`], with `also` in the same commit: how saving state and publishing an event become one fact.
    /// The added writes must be of keys in the same space, and come after the changes.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub async fn apply_with(
        &self,
        changes: Vec<Change>,
        also: Vec<Write>,
        deadline: Deadline,
    ) -> Result<Committed, ApplyError> {
        let mut plan = self.plan(changes)?;
        plan.writes.extend(also);
        self.carry_out(plan, deadline).await
    }

    /// Like [`Store::apply`], iff all of `fences` hold until the commit: who writes under a lock that has ended or changed
    /// hands changes nothing.
    ///
    /// # Errors
    /// [`ApplyError::Fenced`] for the first that does not hold; see [`ApplyError`].
    pub async fn apply_fenced(
        &self,
        changes: Vec<Change>,
        fences: Vec<Fence>,
        deadline: Deadline,
    ) -> Result<Committed, ApplyError> {
        if let Some(fence) = fences.iter().find(|fence| !fence.is_of(self.space())) {
            return Err(ApplyError::FenceElsewhere { resource: fence.resource().to_owned() });
        }
        let plan = Plan { fences, ..self.plan(changes)? };
        self.carry_out(plan, deadline).await
    }

    async fn carry_out(&self, plan: Plan, deadline: Deadline) -> Result<Committed, ApplyError> {
        self.in_time(deadline)?;
        let is_blind = plan.conditions.is_empty() && plan.fences.is_empty();
        if is_blind && !plan.writes.is_empty() {
            return self.commit_blind(plan.writes, deadline).await;
        }
        let plan = &plan;
        let body = |tx: Tx| async move {
            for fence in &plan.fences {
                if !fence.holds(&tx).await? {
                    let (resource, token) = (fence.resource().to_owned(), fence.token());
                    return Err(TransactError::Refused(ApplyError::Fenced { resource, token }));
                }
            }
            self.check(&plan.conditions, &tx).await?;
            for write in &plan.writes {
                tx.write(write.clone());
            }
            Ok(())
        };
        // Boxed: blind writes are the many, and should not carry the room of a transaction.
        let transaction = Box::pin(self.space().transact::<_, ApplyError, _, _>(deadline, body));
        let ((), committed) = transaction.await?;
        Ok(committed)
    }

    /// Commits writes that rest on nothing read.
    pub(crate) async fn commit_blind(
        &self,
        writes: Vec<Write>,
        deadline: Deadline,
    ) -> Result<Committed, ApplyError> {
        let commit = self.space().write(writes);
        match within(&**self.space().world(), deadline, commit).await {
            Ok(committed) => Ok(committed?),
            Err(_) => Err(ApplyError::Elapsed),
        }
    }

    fn plan(&self, changes: Vec<Change>) -> Result<Plan, ApplyError> {
        if changes.len() > OPERATIONS_MAX {
            return Err(ApplyError::TooManyOperations { count: changes.len() });
        }
        let now = self.space().now();
        let mut plan = Plan {
            writes: Vec::with_capacity(changes.len()),
            conditions: Vec::new(),
            fences: Vec::new(),
        };
        for change in changes {
            let stored_key = self.stored_key(change.key())?;
            if let Some(expected) = expected(&change)? {
                let (key, stored_key) = (change.key().to_owned(), stored_key.clone());
                plan.conditions.push(Condition { stored_key, key, expected });
            }
            plan.writes.push(match change {
                Change::Set(set) => put(stored_key, set, now)?,
                Change::Delete(_) => Write::Delete { key: stored_key },
            });
        }
        Ok(plan)
    }

    async fn check(
        &self,
        conditions: &[Condition],
        tx: &Tx,
    ) -> Result<(), TransactError<ApplyError>> {
        for condition in conditions {
            let value = tx.get_raw(&condition.stored_key).await?;
            let found = match value.filter(|value| self.is_live(value)) {
                Some(value) => Expected::Revision(value.revision),
                None => Expected::Absent,
            };
            if found != condition.expected {
                let key = condition.key.clone();
                return Err(TransactError::Refused(ApplyError::EtagMismatch { key }));
            }
        }
        Ok(())
    }
}

/// What `change` demands of its key; `None` when it demands nothing.
fn expected(change: &Change) -> Result<Option<Expected>, ApplyError> {
    match (change.etag(), change.concurrency()) {
        (Some(given), _) => match etag::parse(given) {
            Some(revision) => Ok(Some(Expected::Revision(revision))),
            None => Err(ApplyError::EtagMalformed {
                key: change.key().to_owned(),
                etag: given.to_owned(),
            }),
        },
        (None, Concurrency::FirstWrite) => Ok(Some(Expected::Absent)),
        (None, Concurrency::LastWrite) => Ok(None),
    }
}

fn put(stored_key: Bytes, set: Set, now: Wall) -> Result<Write, ApplyError> {
    let entry = Entry { data: set.data, content_type: set.content_type.unwrap_or_default() };
    // Asked before encoding, so that a value over the bound is not copied first.
    let bytes = entry.encoded_len();
    if bytes > limits::VALUE_BYTES_MAX {
        return Err(ApplyError::ValueTooLarge { key: set.key, bytes });
    }
    Ok(Write::Put {
        key: stored_key,
        value: entry.encode_record(),
        expires_at: expiry(set.ttl, now),
    })
}

fn expiry(ttl: Ttl, now: Wall) -> Option<Wall> {
    match ttl {
        Ttl::After(lifetime) if !lifetime.is_zero() => {
            // A lifetime below the clock's millisecond still ends later than it began.
            let at = now.plus(lifetime).max(Wall(now.0.saturating_add(1)));
            (at <= NAMEABLE_MAX).then_some(at)
        }
        Ttl::After(_) | Ttl::Never => None,
    }
}
