//! Named commits: sent again, they are answered as the first time and change nothing.

use super::room::{Room, add, counter, key, keys, put, stamped};
use crate::{
    CommitError, CommitId, Committed, Durability, KeyRange, Transaction, Write,
    limits::COMMIT_ID_AGE_MAX,
};
use futures_util::future::join_all;

fn named(room: &Room, writes: Vec<Write>) -> Transaction {
    Transaction { writes, id: Some(CommitId::random(&*room.clock)), ..Transaction::default() }
}

async fn commit(room: &Room, transaction: &Transaction) -> Committed {
    room.sure(room.engine.commit(transaction.clone()).await)
}

async fn sum(room: &Room) -> Option<bytes::Bytes> {
    room.get("n").await.map(|value| value.bytes)
}

pub(super) async fn a_repeated_commit_is_applied_once(room: &Room) {
    let once = named(room, vec![add("n", 1), stamped("log/", "", "line")]);
    let first = commit(room, &once).await;
    let mut watch = room.engine.watch(KeyRange::all());
    for _ in 0..3 {
        room.same(commit(room, &once).await, first, "a repeat is answered as the first time");
    }
    let relaxed = Transaction { durability: Durability::Relaxed, ..once.clone() };
    room.same(commit(room, &relaxed).await, first, "whatever it promises");
    room.same(sum(room).await, Some(counter(1)), "and changes nothing");
    let lines = room.keys(&KeyRange::prefix("log/")).await.len();
    room.same(lines, 1, "not a stamped write either");
    let woken = futures_util::FutureExt::now_or_never(watch.changed());
    room.same(woken, None, "and wakes nobody");
    let other = named(room, once.writes.clone());
    room.check(commit(room, &other).await.revision > first.revision, "another name is another one");
    for _ in 0..2 {
        commit(room, &Transaction { id: None, ..once.clone() }).await;
    }
    room.same(sum(room).await, Some(counter(4)), "without a name each one counts");
    room.same(commit(room, &once).await, first, "other commits in between change nothing about it");
    room.same(sum(room).await, Some(counter(4)), "and it is still not applied again");
}

pub(super) async fn a_repeat_is_known_whatever_changed_since(room: &Room) {
    let read_revision = room.write(vec![put("a", "1")]).await.revision;
    let (read_keys, read_ranges) = (keys(&["a"]), vec![KeyRange::prefix("a")]);
    let writes = vec![put("a", "2"), add("n", 1)];
    let update = named(room, writes);
    let update = Transaction { read_revision, read_keys, read_ranges, ..update };
    let first = commit(room, &update).await;
    let outcome = room.engine.commit(update.clone()).await;
    room.same(outcome, Ok(first), "a repeat is not in conflict with its own first try");
    room.write(vec![put("a", "3")]).await;
    room.write(vec![put("n", "no counter any more")]).await;
    let outcome = room.engine.commit(update.clone()).await;
    room.same(outcome, Ok(first), "nor with what came after");
    let age_ms = u64::try_from(COMMIT_ID_AGE_MAX.as_millis()).unwrap_or(0);
    for part in 0..4 {
        room.clock.advance_ms(age_ms / 4);
        room.write((0..200).map(|i| put(&format!("other/{part}/{i}"), "1")).collect()).await;
        let outcome = room.engine.commit(update.clone()).await;
        room.same(outcome, Ok(first), "it is known for as long as promised");
    }
    room.same(room.text("a").await.as_deref(), Some("3"), "and never applied again");
}

pub(super) async fn concurrent_repeats_are_applied_once(room: &Room) {
    for round in 1..=10 {
        let once = named(room, vec![add("n", 1)]);
        let others = async |i: u32| room.write(vec![put(&format!("other/{i}"), "1")]).await;
        let repeats = join_all((0..16).map(|_| commit(room, &once)));
        let (answers, _) = futures_util::future::join(repeats, join_all((0..16).map(others))).await;
        let same = answers.iter().all(|answer| *answer == answers[0]);
        room.check(same, "whoever sends the same commit is told the same");
        room.same(sum(room).await, Some(counter(round)), "of concurrent repeats one is applied");
    }
}

pub(super) async fn a_refused_commit_runs_again(room: &Room) {
    let old = room.write(vec![put("a", "1"), put("n", "text")]).await.revision;
    let new = room.write(vec![put("a", "2")]).await.revision;
    let (id, read_keys) = (Some(CommitId::random(&*room.clock)), keys(&["a"]));
    let attempt = |read_revision, writes| {
        let read_keys = read_keys.clone();
        let transaction = Transaction { read_revision, read_keys, writes, id, ..<_>::default() };
        room.engine.commit(transaction)
    };
    let outcome = attempt(old, vec![put("b", "1")]).await;
    room.same(outcome, Err(CommitError::Conflict), "it read what has changed");
    let outcome = attempt(new, vec![add("n", 1)]).await;
    room.same(outcome, Err(CommitError::NotACounter), "a refusal is not an outcome to repeat");
    let empty = Write::Delete { key: key("") };
    room.same(attempt(new, vec![empty]).await, Err(CommitError::KeyEmpty), "nor is this one");
    let accepted = room.sure(attempt(new, vec![put("b", "2")]).await);
    room.same(room.text("b").await.as_deref(), Some("2"), "after refusals it runs again");
    let outcome = attempt(old, vec![put("b", "3")]).await;
    room.same(outcome, Ok(accepted), "once accepted, it is done");
    room.same(room.text("b").await.as_deref(), Some("2"), "and nothing else happens by its name");
}
