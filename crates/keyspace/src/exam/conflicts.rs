//! Conflicts: a commit is accepted if and only if nothing it read has changed since it read it.

use super::room::{Room, add, delete, key, put};
use crate::{
    CommitError, Committed, Direction, KeyRange, TransactError, Transaction, Write,
    limits::TRANSACTION_AGE_MAX,
};
use bytes::Bytes;
use outrigger_kernel::Deadline;
use std::time::Duration;

type Outcome = Result<Committed, CommitError>;

/// Commits `writes`, decided on `read_keys` and `read_ranges` as of `read_revision`.
async fn commit(
    room: &Room,
    read_revision: u64,
    read_keys: &[&str],
    read_ranges: &[KeyRange],
    writes: Vec<Write>,
) -> Outcome {
    let read_keys = read_keys.iter().map(|text| key(text)).collect();
    let read_ranges = read_ranges.to_vec();
    room.engine
        .commit(Transaction {
            read_revision,
            read_keys,
            read_ranges,
            writes,
            ..Transaction::default()
        })
        .await
}

#[track_caller]
fn refused(room: &Room, outcome: Outcome, promise: &str) {
    room.same(outcome.map(|_| ()), Err(CommitError::Conflict), promise);
}

pub(super) async fn a_lost_update_is_refused(room: &Room) {
    let first = room.write(vec![put("a", "1"), put("b", "1")]).await.revision;
    let winner = room.sure(commit(room, first, &["a"], &[], vec![put("a", "2")]).await);
    let loser = commit(room, first, &["a"], &[], vec![put("a", "3"), put("b", "3")]).await;
    refused(room, loser, "of two that read the same value, the second is refused");
    room.same(room.text("a").await.as_deref(), Some("2"), "the first one's value stands");
    room.same(room.text("b").await.as_deref(), Some("1"), "a refused commit changes nothing");
    room.sure(commit(room, winner.revision, &["a"], &[], vec![put("a", "4")]).await);
    let absent = room.snapshot().await.revision();
    room.write(vec![put("new", "1")]).await;
    let late = commit(room, absent, &["new"], &[], vec![put("x", "1")]).await;
    refused(room, late, "absence was read, and is no more");
    let same = room.get("a").await.map_or(0, |value| value.revision);
    room.write(vec![put("a", "4")]).await;
    let late = commit(room, same, &["a"], &[], vec![put("x", "1")]).await;
    refused(room, late, "a put of the same bytes is a change");
}

pub(super) async fn phantoms_are_refused(room: &Room) {
    room.write(vec![put("r/1", "1"), put("r/5", "1"), put("s", "1")]).await;
    let range = KeyRange::prefix("r/");
    let elsewhere = KeyRange::new("r/2", "r/5");
    for (write, inside) in [
        (put("r/3", "1"), true),
        (delete("r/3"), true),
        (delete("r/1"), false),
        (put("r/5", "2"), false),
        (Write::DeleteRange { range: KeyRange::new("r/5", "z") }, false),
    ] {
        let read = room.snapshot().await.revision();
        room.write(vec![write.clone()]).await;
        let witness = || vec![put("witness", "1")];
        let outcome = commit(room, read, &[], std::slice::from_ref(&range), witness()).await;
        refused(room, outcome, &format!("a range that was read has changed: {write:?}"));
        let outcome = commit(room, read, &[], std::slice::from_ref(&elsewhere), witness()).await;
        room.same(outcome.is_err(), inside, &format!("only a change inside counts: {write:?}"));
    }
    let read = room.snapshot().await.revision();
    room.write(vec![put("r/9", "1")]).await;
    let empty = [KeyRange::new("r/9", "r/9"), KeyRange::new("z", "a")];
    let outcome = commit(room, read, &[], &empty, vec![put("w", "1")]).await;
    room.check(outcome.is_ok(), "nothing changes in an empty range");
}

pub(super) async fn write_skew_is_refused(room: &Room) {
    room.write(vec![put("on-call/ann", "1"), put("on-call/bob", "1")]).await;
    let range = KeyRange::prefix("on-call/");
    let snapshot = room.snapshot().await;
    let on_call = room.sure(snapshot.scan(&range, 9, Direction::Forward).await).entries.len();
    room.same(on_call, 2, "both are on call");
    let read = snapshot.revision();
    let range = std::slice::from_ref(&range);
    room.sure(commit(room, read, &[], range, vec![delete("on-call/ann")]).await);
    let second = commit(room, read, &[], range, vec![delete("on-call/bob")]).await;
    refused(room, second, "the last one may not leave: that was decided on two");
}

pub(super) async fn blind_writes_never_conflict(room: &Room) {
    room.write(vec![put("a", "1")]).await;
    room.write(vec![put("a", "2")]).await;
    for read_revision in [0, 1, u64::MAX] {
        let outcome = commit(room, read_revision, &[], &[], vec![put("a", "3")]).await;
        room.check(outcome.is_ok(), "nothing read, nothing to conflict with");
    }
}

pub(super) async fn adds_conflict_with_readers_only(room: &Room) {
    let read = room.write(vec![add("n", 1), put("text", "abc")]).await.revision;
    room.sure(commit(room, read, &["text"], &[], vec![add("n", 1)]).await);
    room.sure(commit(room, read, &["text"], &[], vec![add("n", 1)]).await);
    let value = room.get("n").await.map(|value| value.bytes);
    room.same(value, Some(Bytes::copy_from_slice(&3_i64.to_le_bytes())), "adds do not conflict");
    let reader = commit(room, read, &["n"], &[], vec![put("x", "1")]).await;
    refused(room, reader, "whoever read the counter conflicts with an add");
    let outcome = room.try_write(vec![put("x", "1"), add("text", 1)]).await;
    room.same(outcome.map(|_| ()), Err(CommitError::NotACounter), "text is not a counter");
    room.same(room.text("x").await, None, "a refused commit changes nothing");
}

pub(super) async fn a_commit_without_writes_judges_its_reads(room: &Room) {
    let first = room.write(vec![put("a", "1")]).await.revision;
    let fine = room.sure(commit(room, first, &["a"], &[], Vec::new()).await);
    room.same(fine.revision, first, "a commit that changes nothing takes no revision");
    room.write(vec![put("a", "2")]).await;
    let stale = commit(room, first, &["a"], &[], Vec::new()).await;
    refused(room, stale, "what it read has changed");
}

pub(super) async fn a_transaction_may_take_its_time_but_not_forever(room: &Room) {
    let first = room.write(vec![put("a", "1"), put("b", "1")]).await.revision;
    room.write(vec![put("a", "2")]).await;
    let age_ms = u64::try_from(TRANSACTION_AGE_MAX.as_millis()).unwrap_or(u64::MAX);
    room.clock.advance_ms(age_ms - 1);
    room.write(vec![put("c", "1")]).await;
    let slow = commit(room, first, &["b"], &[], vec![put("d", "1")]).await;
    room.check(slow.is_ok(), "a transaction may take as long as the bound says");
    let conflict = commit(room, first, &["a"], &[], vec![put("d", "1")]).await;
    refused(room, conflict, "what changed within the bound is still known");
    for _ in 0..3 {
        room.clock.advance_ms(age_ms + 1);
        room.write(vec![put("c", "2")]).await;
    }
    let outcome = commit(room, first, &["a"], &[], vec![put("d", "1")]).await;
    let honest = matches!(outcome, Err(CommitError::TooOld { .. } | CommitError::Conflict));
    room.check(honest, "a change may be forgotten, but then the reader is refused");
}

pub(super) async fn transact_runs_again_until_it_fits(room: &Room) {
    room.write(vec![add("n", 0)]).await;
    let deadline = || Deadline::after(&*room.clock, Duration::from_secs(60));
    let increment = async |_: u32| {
        let body = async |tx: crate::Tx| {
            let value = tx.get_raw(&key("n")).await?;
            let bytes = value.and_then(|value| <[u8; 8]>::try_from(&value.bytes[..]).ok());
            let next = i64::from_le_bytes(bytes.unwrap_or_default()) + 1;
            // Lets the others read the same value first.
            tokio::task::yield_now().await;
            let value = Bytes::copy_from_slice(&next.to_le_bytes());
            tx.write(Write::Put { key: key("n"), value, expires_at: None });
            Ok::<_, TransactError<std::convert::Infallible>>(())
        };
        room.sure(room.space.transact(deadline(), body).await);
    };
    futures_util::future::join_all((0..8).map(increment)).await;
    let sum = room.get("n").await.map(|value| value.bytes);
    room.same(sum, Some(Bytes::copy_from_slice(&8_i64.to_le_bytes())), "no increment is lost");

    let before = room.snapshot().await.revision();
    let (found, read) = room.sure(
        room.space
            .transact(deadline(), async |tx| {
                Ok::<_, TransactError<std::convert::Infallible>>(tx.get_raw(&key("n")).await?)
            })
            .await,
    );
    room.check(found.is_some(), "a transaction that only reads is answered");
    room.same(read.revision, before, "a transaction that only reads takes no revision");
}
