//! Looking at topics and groups from outside, and forgetting a group.

use crate::{
    broker::Shared,
    error::StoreError,
    keys::{CURSORS, GROUPS, GroupKeys, PARTITION, TOPICS, Tally, TopicKeys},
    records::{Cursor, Trim},
    stats::{GroupStats, TopicStats},
    sweep::keys,
};
use bytes::Bytes;
use outrigger_kernel::Deadline;
use outrigger_keyspace::{KeyRange, Level, Record, Snapshot, TransactError, Tx, Write};
use std::{sync::atomic::Ordering, time::Duration};

/// Most keys deleted in one commit.
const PIECE: usize = 1_000;
/// How long one piece may be kept from committing.
const COMMIT_WITHIN: Duration = Duration::from_secs(10);

/// Every topic of the broker, with its groups.
pub(crate) async fn topics(shared: &Shared) -> Result<Vec<TopicStats>, StoreError> {
    let snapshot = shared.space.snapshot(Level::Linearizable).await?;
    let broker = shared.name.to_string();
    let mut topics = Vec::new();
    for key in keys(&*snapshot, TOPICS.range(&(broker.clone(),))).await? {
        let (_, topic) = TOPICS.decode_key(&key)?;
        let of_topic = TopicKeys::new(&broker, &topic);
        let published = read::<Tally>(&*snapshot, &of_topic.tally).await?.unwrap_or_default().0;
        let trimmed = read::<Trim>(&*snapshot, &of_topic.trim).await?.unwrap_or_default().count;
        let mut groups = Vec::new();
        for key in keys(&*snapshot, of_topic.groups.clone()).await? {
            let (_, _, group) = GROUPS.decode_key(&key)?;
            groups.push(self::group(shared, &*snapshot, &topic, group, published).await?);
        }
        let stored = published.saturating_sub(trimmed);
        topics.push(TopicStats { topic, published, stored, groups });
    }
    Ok(topics)
}

async fn group(
    shared: &Shared,
    snapshot: &dyn Snapshot,
    topic: &str,
    group: String,
    published: u64,
) -> Result<GroupStats, StoreError> {
    // A dispatcher that serves nobody yet may not know yet what the group is done with.
    if let Some(counters) = shared.counters(topic, &group)
        && let dispatch = counters.read()
        && dispatch.consumers > 0
    {
        let settled = counters.settled.load(Ordering::Relaxed);
        let lag = published.saturating_sub(settled).saturating_add(wide(dispatch.parked));
        return Ok(GroupStats { group, lag, dispatch });
    }
    let name = (shared.name.to_string(), topic.to_owned(), PARTITION, group);
    let cursor = read::<Cursor>(snapshot, &CURSORS.key(&name)).await?.unwrap_or_default();
    let of_group = GroupKeys::new(&name.0, &name.1, &name.3);
    let parked = keys(snapshot, KeyRange::prefix(of_group.attempts)).await?.len();
    let lag = published.saturating_sub(cursor.settled).saturating_add(wide(parked));
    Ok(GroupStats { group: name.3, lag, ..GroupStats::default() })
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

async fn read<R: Record>(snapshot: &dyn Snapshot, key: &[u8]) -> Result<Option<R>, StoreError> {
    let value = snapshot.get(key).await?;
    Ok(value.map(|value| R::decode_record(value.bytes)).transpose()?)
}

/// Deletes everything that is kept for a group: the claim first, which stops its dispatcher, then the failed messages in
/// bounded pieces, and the group itself at the end, so that a deletion cut short can be asked for again.
///
/// Every step but the first rests on there being no claim. Whoever subscribes meanwhile writes one, and keeps the group
/// from then on.
pub(crate) async fn forget(shared: &Shared, topic: &str, group: &str) -> Result<(), StoreError> {
    let of_group = GroupKeys::new(&shared.name, topic, group);
    let delete = |key: &Bytes| Write::Delete { key: key.clone() };
    shared.space.write_making_room(vec![delete(&of_group.claim)]).await?;
    for prefix in [&of_group.attempts, &of_group.parked] {
        let snapshot = shared.space.snapshot(Level::Linearizable).await?;
        for piece in keys(&*snapshot, KeyRange::prefix(prefix.clone())).await?.chunks(PIECE) {
            if !unclaimed(shared, &of_group, piece.iter().map(delete).collect()).await? {
                return Ok(());
            }
        }
    }
    unclaimed(shared, &of_group, vec![delete(&of_group.cursor), delete(&of_group.group)]).await?;
    shared.sweep.request(&topic.into());
    Ok(())
}

/// Commits `writes` unless somebody has claimed the group. Answers whether it did.
async fn unclaimed(
    shared: &Shared,
    group: &GroupKeys,
    writes: Vec<Write>,
) -> Result<bool, StoreError> {
    let deadline = Deadline::after(&**shared.space.world(), COMMIT_WITHIN);
    let body = async |tx: Tx| {
        let claimed = tx.get_raw(&group.claim).await?.is_some();
        if !claimed {
            tx.making_room();
            writes.iter().for_each(|write| tx.write(write.clone()));
        }
        Ok::<bool, TransactError<StoreError>>(!claimed)
    };
    Ok(shared.space.transact(deadline, body).await?.0)
}
