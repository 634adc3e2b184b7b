//! Relaxed commits promise less about power cuts, and nothing less about anything else.

use super::room::{Room, add, counter, key, keys, put};
use crate::{CommitError, Durability, KeyRange, Level, Space, Transaction, Write};
use futures_util::future::join_all;

fn of(durability: Durability, writes: Vec<Write>) -> Transaction {
    Transaction { durability, writes, ..Transaction::default() }
}

pub(super) async fn a_relaxed_commit_is_seen_at_once_and_judged_as_any(room: &Room) {
    let mut watch = room.engine.watch(KeyRange::prefix("a"));
    let relaxed = of(Durability::Relaxed, vec![put("a", "1")]);
    let first = room.sure(room.engine.commit(relaxed.clone()).await);
    room.same(room.text("a").await.as_deref(), Some("1"), "what was answered is seen");
    room.same(watch.changed().await, first.revision, "and wakes");
    let at_least = room.sure(room.engine.snapshot(Level::AtLeast(first.revision)).await);
    room.check(at_least.revision() >= first.revision, "and has its place in the order");
    let stale = Transaction { read_keys: keys(&["a"]), read_revision: 0, ..relaxed };
    let outcome = room.engine.commit(stale).await;
    room.same(outcome, Err(CommitError::Conflict), "a relaxed commit is refused as any other");
    let flushed = room.write(vec![put("b", "1")]).await;
    room.check(flushed.revision > first.revision, "what comes after it comes after it");
    room.check(flushed.time >= first.time, "in time, too");
}

pub(super) async fn relaxed_and_flushed_commits_share_one_order(room: &Room) {
    const EACH: u64 = 25;
    let writer = async |number: u64| {
        let mut last = 0;
        for step in 0..EACH {
            let relaxed = (number + step).is_multiple_of(2);
            let durability = if relaxed { Durability::Relaxed } else { Durability::Flush };
            let name = format!("w/{number}");
            let writes = vec![put(&name, &step.to_string()), add("n", 1)];
            let revision = room.sure(room.engine.commit(of(durability, writes)).await).revision;
            room.check(revision > last, "a writer's commits are in the order it sent them");
            last = revision;
            let snapshot = room.snapshot().await;
            let found = room.sure(snapshot.get(name.as_bytes()).await);
            let found = found.map(|value| (value.bytes, value.revision));
            room.same(found, Some((key(&step.to_string()), last)), "each sees its own last one");
        }
    };
    join_all((0..8).map(writer)).await;
    let sum = room.get("n").await.map(|value| value.bytes);
    let all = i64::try_from(8 * EACH).unwrap_or(0);
    room.same(sum, Some(counter(all)), "none is lost and none is done twice");
}

pub(super) async fn a_space_decides_for_all_its_commits(room: &Room) {
    let space = Space::new(room.engine.clone(), room.clock.clone());
    room.same(space.durability(), Durability::Flush, "nothing is relaxed unless somebody says so");
    let relaxed = space.with_durability(Durability::Relaxed);
    room.same(relaxed.durability().name(), "relaxed", "and then it says so");
    room.sure(relaxed.write(vec![put("a", "1")]).await);
    let deadline =
        outrigger_kernel::Deadline::after(&*room.clock, std::time::Duration::from_secs(60));
    let body = async |tx: crate::Tx| {
        let found = tx.get_raw(&key("a")).await?;
        tx.write(put("b", "2"));
        Ok::<_, crate::TransactError<std::convert::Infallible>>(found.is_some())
    };
    let (found, _) = room.sure(relaxed.transact(deadline, body).await);
    room.check(found, "a relaxed space sees what it wrote");
    room.same(room.text("b").await.as_deref(), Some("2"), "and so does everybody else");
}
