//! What a dispatcher reads and commits, each as one future that owns what it needs.
//!
//! A dispatcher begins by writing its *claim*: a record whose revision every commit of its rests on. A second
//! dispatcher of the same group, in this process or another, writes a claim of its own, and from then on the first
//! one's commits are refused: it can deliver a message twice, but never lose what the other one wrote.

use crate::{
    ack_set::{Span, unpack},
    error::StoreError,
    keys::{GroupKeys, TopicKeys, stamp_of, stamped},
    ledger::Plan,
    member::Held,
    publish,
    records::{Attempts, Claim, Cursor, Group, Trim},
};
use bytes::Bytes;
use outrigger_kernel::{Deadline, Wall};
use outrigger_keyspace::{
    CommitError, Direction, KeyRange, Level, Record, Space, Stamp, TransactError, Tx, Write,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How long a transaction may be kept from committing by others before it counts as failed.
const COMMIT_WITHIN: Duration = Duration::from_secs(10);
/// The pauses between two attempts at a commit that failed: from the first to the second, doubling.
const SAVE_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The right to commit for a group.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    key: Bytes,
    /// The revision of our claim.
    pub(crate) revision: u64,
}

/// What a group was done with when its dispatcher began.
pub(crate) struct Opened {
    pub(crate) claimed: Claimed,
    pub(crate) cursor: Cursor,
    pub(crate) spans: Vec<Span>,
    pub(crate) parked: Vec<(Stamp, Attempts)>,
}

/// How a commit ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Saved {
    /// Durable, at this revision.
    At(u64),
    /// Somebody else has claimed the group, or it was deleted.
    Superseded,
    /// There is no room for what needs room; nothing was changed.
    NoRoom,
    /// It goes over a bound of the key space; nothing was changed.
    TooLarge,
}

/// Registers the group if it is new, claims it, and reads what it is done with.
///
/// A group that another process has claimed is left to it, unless the claim is still the one in `over`, whose owner was
/// found not to dispatch any more.
pub(crate) async fn open(
    space: &Space,
    topic: &TopicKeys,
    group: &GroupKeys,
    own: Option<&str>,
    over: Option<&Held>,
) -> Result<Opened, StoreError> {
    let now = space.world().wall();
    let deadline = Deadline::after(&**space.world(), COMMIT_WITHIN);
    let (cursor, committed) = space
        .transact(deadline, |tx| claim(tx, topic.clone(), group.clone(), now, own, over))
        .await?;
    let spans = unpack(Stamp::from(cursor.floor), &cursor.runs)?;
    let parked = parked(space, group, committed.revision).await?;
    let claimed = Claimed { key: group.claim.clone(), revision: committed.revision };
    Ok(Opened { claimed, cursor, spans, parked })
}

async fn claim(
    tx: Tx,
    topic: TopicKeys,
    group: GroupKeys,
    now: Wall,
    own: Option<&str>,
    over: Option<&Held>,
) -> Result<Cursor, TransactError<StoreError>> {
    // A full store is drained by those who can begin to.
    tx.making_room();
    let claim = read::<Claim>(&tx, &group.claim).await?;
    if let Some(held) = own.and_then(|own| Held::by_another(claim.as_ref(), own))
        && over != Some(&held)
    {
        return Err(TransactError::Refused(StoreError::Held(held.owner)));
    }
    let epoch = claim.map_or(0, |claim| claim.epoch);
    let owner = own.unwrap_or_default().to_owned();
    put(&tx, &group.claim, &Claim { epoch: epoch + 1, owner });
    if tx.get_raw(&group.group).await?.is_some()
        && let Some(cursor) = read::<Cursor>(&tx, &group.cursor).await?
    {
        return Ok(cursor);
    }
    // New: from the earliest message there is. What was deleted before counts as done, so that its lag is exact.
    let trim = read::<Trim>(&tx, &topic.trim).await?.unwrap_or_default();
    let cursor = Cursor { floor: trim.floor, runs: Vec::new(), settled: trim.count };
    put(&tx, &group.group, &Group { registered_at_ms: now.0 });
    put(&tx, &group.cursor, &cursor);
    tx.write(publish::exists(&topic));
    Ok(cursor)
}

async fn read<R: Record>(tx: &Tx, key: &Bytes) -> Result<Option<R>, TransactError<StoreError>> {
    let value = tx.get_raw(key).await?;
    Ok(value.map(|value| R::decode_record(value.bytes)).transpose()?)
}

fn put<R: Record>(tx: &Tx, key: &Bytes, record: &R) {
    tx.write(Write::Put { key: key.clone(), value: record.encode_record(), expires_at: None });
}

/// The failed messages of a group; their attempts only, not the messages themselves.
async fn parked(
    space: &Space,
    group: &GroupKeys,
    revision: u64,
) -> Result<Vec<(Stamp, Attempts)>, StoreError> {
    let snapshot = space.snapshot(Level::AtLeast(revision)).await?;
    let mut range = KeyRange::prefix(group.attempts.clone());
    let mut parked = Vec::new();
    loop {
        let page = snapshot.scan(&range, usize::MAX, Direction::Forward).await?;
        if let (true, Some(last)) = (page.more, page.entries.last()) {
            range = range.after(&last.key);
        }
        for entry in page.entries {
            parked.push((stamp_of(&entry.key)?, Attempts::decode_record(entry.value.bytes)?));
        }
        if !page.more {
            return Ok(parked);
        }
    }
}

/// Up to `limit` messages of `range`, and whether it goes on.
pub(crate) async fn page(
    space: Space,
    range: KeyRange,
    limit: usize,
    revision: u64,
) -> Result<(Vec<(Stamp, Bytes)>, bool), StoreError> {
    let snapshot = space.snapshot(Level::AtLeast(revision)).await?;
    let page = snapshot.scan(&range, limit, Direction::Forward).await?;
    let letter = |entry: outrigger_keyspace::Entry| Ok((stamp_of(&entry.key)?, entry.value.bytes));
    let letters = page.entries.into_iter().map(letter).collect::<Result<_, StoreError>>()?;
    Ok((letters, page.more))
}

/// The failed messages `stamps`, each in its place.
pub(crate) async fn load(
    space: Space,
    prefix: Bytes,
    stamps: Vec<Stamp>,
    revision: u64,
) -> (Vec<Stamp>, Result<Vec<Option<Bytes>>, StoreError>) {
    let keys: Vec<Bytes> = stamps.iter().map(|&stamp| stamped(&prefix, stamp)).collect();
    let values = async {
        let snapshot = space.snapshot(Level::AtLeast(revision)).await?;
        let values = snapshot.get_many(&keys).await?;
        Ok(values.into_iter().map(|value| value.map(|value| value.bytes)).collect())
    };
    let values = values.await;
    (stamps, values)
}

/// Commits `plan` as the holder of `claimed`. Where the store does not answer, again and again until it does: what comes
/// later rests on it. `failing` is set while it does not work.
pub(crate) async fn save(
    space: Space,
    claimed: Claimed,
    plan: Plan,
    failing: Arc<AtomicBool>,
) -> Saved {
    let mut pause = SAVE_PAUSES.0;
    loop {
        let deadline = Deadline::after(&**space.world(), COMMIT_WITHIN);
        let error = match space.transact(deadline, |tx| write_as_holder(tx, &claimed, &plan)).await
        {
            Ok(((), committed)) => {
                failing.store(false, Ordering::Relaxed);
                return Saved::At(committed.revision);
            }
            Err(TransactError::Refused(NotHolder)) => return Saved::Superseded,
            Err(TransactError::Commit(CommitError::Full(_))) if !plan.makes_room => {
                return Saved::NoRoom;
            }
            Err(TransactError::Commit(error)) if names_a_bound(&error) => {
                tracing::error!(%error, "verdicts go over a bound of the store");
                return Saved::TooLarge;
            }
            Err(error) => error,
        };
        tracing::warn!(%error, ?pause, "verdicts could not be committed");
        failing.store(true, Ordering::Relaxed);
        space.world().sleep(pause).await;
        pause = (pause * 2).min(SAVE_PAUSES.1);
    }
}

/// Whether the same commit would fail again.
fn names_a_bound(error: &CommitError) -> bool {
    matches!(
        error,
        CommitError::TransactionTooLarge { .. }
            | CommitError::ValueTooLarge { .. }
            | CommitError::KeyTooLong { .. }
            | CommitError::TooManyStamped { .. }
    )
}

/// Somebody else holds the claim.
#[derive(Debug, thiserror::Error)]
#[error("somebody else holds the claim")]
struct NotHolder;

async fn write_as_holder(
    tx: Tx,
    claimed: &Claimed,
    plan: &Plan,
) -> Result<(), TransactError<NotHolder>> {
    let claim = tx.get_raw(&claimed.key).await?;
    if claim.is_none_or(|claim| claim.revision != claimed.revision) {
        return Err(TransactError::Refused(NotHolder));
    }
    if plan.makes_room {
        tx.making_room();
    }
    for write in &plan.writes {
        tx.write(write.clone());
    }
    Ok(())
}
