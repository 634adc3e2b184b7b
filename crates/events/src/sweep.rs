//! The sweeper: deletes the front of a log once nobody needs it, a bounded piece per commit.
//!
//! With groups, that is what every group is done with. Without, it is what has been kept for the retention time. The
//! record of what was deleted is part of each commit, so the next piece begins where the last one ended: the dead are
//! never read again.
//!
//! A commit rests on the list of groups: one that registers at the same moment either sees the messages, or their
//! deletion was committed before it came.

use crate::{
    broker::Shared,
    error::StoreError,
    keys::{CURSORS, GROUPS, PARTITION, TOPICS, TopicKeys, stamp_of},
    records::{Cursor, Message, Trim},
};
use bytes::Bytes;
use outrigger_kernel::{Deadline, Wall};
use outrigger_keyspace::{
    Direction, KeyRange, Level, Record, Snapshot, Space, Stamp, TransactError, Tx, Write,
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// Most messages deleted in one commit.
const PIECE: usize = 1_000;
/// How long one piece may be kept from committing.
const COMMIT_WITHIN: Duration = Duration::from_secs(10);
/// All topics are looked at this often at most, and a tenth of the retention time at least.
const ROUND: Duration = Duration::from_secs(60 * 60);
const ROUND_MIN: Duration = Duration::from_secs(1);

/// Which topics are to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    topics: Mutex<BTreeSet<Arc<str>>>,
    bell: Notify,
}

impl Sweep {
    /// Asks for `topic` to be looked at. Bounded by the number of topics with dispatchers.
    pub(crate) fn request(&self, topic: &Arc<str>) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if topics.insert(Arc::clone(topic)) {
            drop(topics);
            self.bell.notify_one();
        }
    }

    fn take(&self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut *self.topics.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs the sweeper until it is stopped.
pub(crate) async fn run(shared: Arc<Shared>) {
    let world = Arc::clone(shared.space.world());
    let settings = &shared.settings;
    let round = (settings.retention / 10).clamp(ROUND_MIN, ROUND);
    // The first round soon after the start: what was to be deleted before a crash is still there.
    let mut next_round = world.sleep(settings.sweep_pause);
    loop {
        let everything = tokio::select! {
            () = &mut next_round => true,
            () = shared.sweep.bell.notified() => false,
        };
        let mut topics = BTreeSet::new();
        if everything {
            next_round = world.sleep(round);
            match all_topics(&shared).await {
                Ok(all) => topics = all,
                Err(error) => {
                    tracing::warn!(broker = %shared.name, %error, "topics could not be listed")
                }
            }
        } else {
            world.sleep(settings.sweep_pause).await;
        }
        topics.append(&mut shared.sweep.take());
        for topic in topics {
            if let Err(error) = sweep(&shared, &topic).await {
                tracing::warn!(broker = %shared.name, %topic, %error, "old messages could not be deleted");
            }
        }
    }
}

async fn all_topics(shared: &Shared) -> Result<BTreeSet<Arc<str>>, StoreError> {
    let snapshot = shared.space.snapshot(Level::Local).await?;
    let range = TOPICS.range(&(shared.name.to_string(),));
    let mut topics = BTreeSet::new();
    for key in keys(&*snapshot, range).await? {
        topics.insert(TOPICS.decode_key(&key)?.1.into());
    }
    Ok(topics)
}

/// All keys of `range`, page by page.
pub(crate) async fn keys(
    snapshot: &dyn Snapshot,
    mut range: KeyRange,
) -> Result<Vec<Bytes>, StoreError> {
    let mut keys = Vec::new();
    loop {
        let page = snapshot.scan(&range, usize::MAX, Direction::Forward).await?;
        keys.extend(page.entries.into_iter().map(|entry| entry.key));
        match keys.last() {
            Some(last) if page.more => range = range.after(last),
            _ => return Ok(keys),
        }
    }
}

/// Deletes what nobody needs at the front of `topic`.
async fn sweep(shared: &Shared, topic: &str) -> Result<(), StoreError> {
    let space = &shared.space;
    let keys = TopicKeys::new(&shared.name, topic);
    let names = (shared.name.to_string(), topic.to_owned());
    let cutoff = Wall(space.world().wall().0.saturating_sub(millis(shared.settings.retention)));
    loop {
        let deadline = Deadline::after(&**space.world(), COMMIT_WITHIN);
        let piece = |tx| piece(space, tx, &keys, &names, cutoff);
        let (more, _) = space.transact(deadline, piece).await?;
        if !more {
            return Ok(());
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Deletes one piece. Answers whether there may be another.
async fn piece(
    space: &Space,
    tx: Tx,
    keys: &TopicKeys,
    names: &(String, String),
    cutoff: Wall,
) -> Result<bool, TransactError<StoreError>> {
    let groups = tx.scan(&keys.groups, usize::MAX, Direction::Forward).await?;
    if groups.more {
        // More groups than a page holds: who knows what the others need.
        return Ok(false);
    }
    let trim = match tx.get_raw(&keys.trim).await? {
        Some(value) => Trim::decode_record(value.bytes)?,
        None => Trim::default(),
    };
    // Outside the transaction's eyes: cursors move all the time, but only forward, and the log only at its other end.
    let snapshot = space.snapshot(Level::AtLeast(tx.read_revision())).await?;
    let floor = Stamp::from(trim.floor);
    let range = if groups.entries.is_empty() {
        keys.between(floor, None)
    } else {
        let mut done = Stamp { revision: u64::MAX, index: u16::MAX };
        for entry in &groups.entries {
            let (_, _, group) = GROUPS.decode_key(&entry.key)?;
            let key = CURSORS.key(&(names.0.clone(), names.1.clone(), PARTITION, group));
            let cursor = snapshot.get(&key).await?;
            let Some(cursor) = cursor else { return Ok(false) };
            done = done.min(Cursor::decode_record(cursor.bytes)?.floor.into());
        }
        if done <= floor {
            return Ok(false);
        }
        keys.through(floor, done)
    };
    let page = snapshot.scan(&range, PIECE, Direction::Forward).await?;
    let mut count = page.entries.len();
    if groups.entries.is_empty() {
        let kept = page.entries.iter().position(|entry| is_young(&entry.value.bytes, cutoff));
        count = kept.unwrap_or(count);
    }
    let Some(last) = count.checked_sub(1).and_then(|last| page.entries.get(last)) else {
        return Ok(false);
    };
    let last = stamp_of(&last.key)?;
    let trimmed =
        Trim { floor: last.into(), count: trim.count + u64::try_from(count).unwrap_or(u64::MAX) };
    tx.making_room();
    tx.write(Write::DeleteRange { range: keys.through(floor, last) });
    let value = trimmed.encode_record();
    tx.write(Write::Put { key: keys.trim.clone(), value, expires_at: None });
    Ok(page.more && count == page.entries.len())
}

/// Whether a message was published after `cutoff`. One that cannot be read is as old as can be.
fn is_young(value: &Bytes, cutoff: Wall) -> bool {
    Message::decode_record(value.clone()).is_ok_and(|message| message.published_at_ms > cutoff.0)
}
