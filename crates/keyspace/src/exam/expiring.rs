//! Expiry: time enters a commit as data, and a due key is absent for everyone from the same revision on.

use super::room::{Room, add, counter, key, keys, put, put_until};
use crate::{CommitError, Direction, KeyRange, Level, Transaction, Write};
use outrigger_kernel::World;

pub(super) async fn a_key_is_absent_once_it_is_due(room: &Room) {
    room.write(vec![
        put_until("a", "1", room.in_ms(100)),
        put_until("b", "1", room.in_ms(101)),
        put("c", "1"),
    ])
    .await;
    room.clock.advance_ms(99);
    let before = room.pinned().await;
    let value = room.get("a").await;
    room.same(value.and_then(|v| v.expires_at), room.in_ms(1), "a value knows its expiry");
    room.clock.advance_ms(1);
    room.same(room.get("a").await, None, "a key is absent from the instant it is due");
    let all = KeyRange::all();
    room.same(room.keys(&all).await, keys(&["b", "c"]), "a scan does not find it");
    let snapshot = room.snapshot().await;
    let many = room.sure(snapshot.get_many(&keys(&["a", "b"])).await);
    room.same(many.iter().map(Option::is_some).collect(), vec![false, true], "nor does get_many");
    let old = room.sure(before.scan(&all, 9, Direction::Forward).await).entries.len();
    room.same(old, 3, "a snapshot from before still holds it");
    room.check(snapshot.revision() > before.revision(), "its absence has a revision of its own");
    room.clock.advance_ms(1);
    let after = room.write(vec![put("x", "1")]).await;
    let local = room.sure(room.engine.snapshot(Level::AtLeast(after.revision)).await);
    room.same(room.sure(local.get(b"b").await), None, "a commit after the expiry makes it absent");
}

pub(super) async fn expiry_follows_the_last_write(room: &Room) {
    room.write(vec![
        put_until("longer", "1", room.in_ms(50)),
        put_until("forever", "1", room.in_ms(50)),
        put_until("shorter", "1", room.in_ms(500)),
        put_until("gone", "1", room.in_ms(50)),
        Write::Put { key: key("n"), value: counter(3), expires_at: room.in_ms(50) },
        put_until("past", "1", Some(room.clock.wall())),
    ])
    .await;
    room.same(room.get("past").await, None, "what is due when it is put is never there");
    room.write(vec![
        put_until("longer", "2", room.in_ms(100)),
        put("forever", "2"),
        put_until("shorter", "2", room.in_ms(50)),
        Write::Delete { key: key("gone") },
        add("n", 1),
    ])
    .await;
    room.write(vec![put("gone", "2")]).await;
    room.clock.advance_ms(50);
    let all = KeyRange::all();
    let expected = keys(&["forever", "gone", "longer"]);
    room.same(room.keys(&all).await, expected, "the last write decides about expiry");
    room.write(vec![add("n", 1)]).await;
    let sum = room.get("n").await.map(|value| value.bytes);
    room.same(sum, Some(counter(1)), "an expired counter counts as 0");
    room.clock.advance_ms(1_000_000);
    room.same(room.keys(&all).await, keys(&["forever", "gone", "n"]), "what has none stays");
}

pub(super) async fn expiry_counts_as_a_change(room: &Room) {
    room.write(vec![put_until("a", "1", room.in_ms(100)), put("b", "1")]).await;
    let read_revision = room.snapshot().await.revision();
    let reading = |read_keys: &[&str], read_ranges: &[KeyRange]| Transaction {
        read_revision,
        read_keys: keys(read_keys),
        read_ranges: read_ranges.to_vec(),
        writes: vec![put("witness", "1")],
        ..Transaction::default()
    };
    room.clock.advance_ms(100);
    for transaction in [reading(&["a"], &[]), reading(&[], &[KeyRange::prefix("a")])] {
        let outcome = room.engine.commit(transaction).await.map(|_| ());
        room.same(outcome, Err(CommitError::Conflict), "what was read has expired since");
    }
    room.sure(room.engine.commit(reading(&["b"], &[KeyRange::prefix("b")])).await);
    let mut watch = room.engine.watch(KeyRange::prefix("c"));
    room.write(vec![put_until("c", "1", room.in_ms(10))]).await;
    let written = watch.changed().await;
    room.clock.advance_ms(10);
    let after = room.write(vec![put("x", "1")]).await;
    let expired = watch.changed().await;
    room.check(expired > written, "expiry wakes whoever watches");
    room.check(expired <= after.revision, "expiry happens before the commit that comes after it");
}

pub(super) async fn a_clock_that_jumps_back_resurrects_nothing(room: &Room) {
    room.write(vec![put_until("a", "1", room.in_ms(100))]).await;
    room.clock.advance_ms(100);
    room.same(room.get("a").await, None, "it is due");
    room.clock.jump_wall_ms(-1_000);
    room.same(room.get("a").await, None, "a clock that jumps back resurrects nothing");
    room.write(vec![put_until("a", "2", room.in_ms(500))]).await;
    room.same(room.get("a").await, None, "due by the time already reached");
    room.write(vec![put_until("a", "3", room.in_ms(1_500))]).await;
    room.same(room.text("a").await.as_deref(), Some("3"), "and not due by that time");
}

pub(super) async fn many_keys_fall_due_at_once(room: &Room) {
    let due = room.in_ms(10);
    for batch in 0..3 {
        let writes = (0..4_000).map(|i| put_until(&format!("t/{batch}/{i}"), "v", due)).collect();
        room.write(writes).await;
    }
    room.write(vec![put_until("t/9", "v", room.in_ms(11))]).await;
    room.clock.advance_ms(10);
    room.same(room.keys(&KeyRange::prefix("t/")).await, keys(&["t/9"]), "all that is due is gone");
}
