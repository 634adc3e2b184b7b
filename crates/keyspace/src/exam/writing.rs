//! Writing: the order inside a transaction, range deletes, stamps, counters, revisions and times.

use super::room::{Room, add, counter, delete, key, keys, put, stamped};
use crate::{Direction, KeyRange, ReadError, Stamp, Write};
use bytes::Bytes;

pub(super) async fn later_writes_see_earlier_ones(room: &Room) {
    room.write(vec![put("r1", "old"), put("r2", "old")]).await;
    room.write(vec![
        put("a", "1"),
        put("a", "2"),
        put("b", "1"),
        delete("b"),
        delete("c"),
        put("c", "1"),
        put("r3", "new"),
        Write::DeleteRange { range: KeyRange::prefix("r") },
        put("r2", "after"),
        add("n", 2),
        add("n", 3),
    ])
    .await;
    room.same(room.text("a").await.as_deref(), Some("2"), "the last put of a key wins");
    room.same(room.text("b").await, None, "put, then delete: absent");
    room.same(room.text("c").await.as_deref(), Some("1"), "delete, then put: present");
    room.same(
        room.keys(&KeyRange::prefix("r")).await,
        keys(&["r2"]),
        "a range delete takes earlier puts of its transaction, not later ones",
    );
    let sum = room.get("n").await.map(|value| value.bytes);
    room.same(sum, Some(counter(5)), "two adds of one transaction add up");
}

pub(super) async fn a_range_delete_removes_exactly_the_range(room: &Room) {
    for (range, left) in [
        (KeyRange::new("b", "c"), &["a", "c", "d"][..]),
        (KeyRange::new("b", "c\0"), &["a", "d"]),
        (KeyRange::prefix("b"), &["a", "c", "d"]),
        (KeyRange::new("c", "b"), &["a", "b", "b\0", "bb", "c", "d"]),
        (KeyRange { start: key("c"), end: None }, &["a", "b", "b\0", "bb"]),
        (KeyRange::all(), &[]),
    ] {
        room.write(["a", "b", "b\0", "bb", "c", "d"].map(|k| put(k, k)).to_vec()).await;
        room.write(vec![Write::DeleteRange { range }]).await;
        room.same(room.keys(&KeyRange::all()).await, keys(left), "exactly the range is removed");
    }
}

pub(super) async fn stamps_are_unique_and_in_commit_order(room: &Room) {
    let mut expected = Vec::new();
    for round in 0..20 {
        let count: u16 = 1 + round % 3;
        let writes = (0..count).map(|i| stamped("log/", "/x", &format!("{round}.{i}"))).collect();
        let committed = room.write(writes).await;
        for index in 0..count {
            let stamp = committed.stamp(index);
            room.same(stamp, Stamp { revision: committed.revision, index }, "a stamp is a place");
            let stored = [&b"log/"[..], &stamp.to_bytes(), b"/x"].concat();
            expected.push((Bytes::from(stored), key(&format!("{round}.{index}"))));
        }
    }
    let found = room.scan(&KeyRange::prefix("log/"), Direction::Forward).await;
    let found: Vec<_> = found.into_iter().map(|e| (e.key, e.value.bytes)).collect();
    room.same(found, expected, "stamped keys sort in commit order");
}

pub(super) async fn counters_add_up(room: &Room) {
    room.write(vec![add("n", -3)]).await;
    room.write(vec![add("n", 10)]).await;
    let sum = room.get("n").await.map(|value| value.bytes);
    room.same(sum, Some(counter(7)), "an absent counter counts as 0");
    room.write(vec![Write::Put { key: key("n"), value: counter(i64::MAX), expires_at: None }])
        .await;
    room.write(vec![add("n", 1)]).await;
    let sum = room.get("n").await.map(|value| value.bytes);
    room.same(sum, Some(counter(i64::MIN)), "a counter wraps around");
}

pub(super) async fn revisions_and_times_grow(room: &Room) {
    let mut last = room.write(vec![put("a", "1")]).await;
    for jump_ms in [0, 5, -60_000, 1, 200_000] {
        room.clock.jump_wall_ms(jump_ms);
        let next = room.write(vec![put("a", "1")]).await;
        room.check(next.revision > last.revision, "revisions grow");
        room.check(next.time >= last.time, "times never go back");
        last = next;
    }
}

pub(super) async fn a_checkpoint_is_taken_or_refused(room: &Room) {
    let committed = room.write(vec![put("a", "1")]).await;
    if room.engine.status().durable {
        // Where a durable engine may write is its author's knowledge: its own tests take the copy and open it.
        return;
    }
    match room.engine.checkpoint(std::path::Path::new("nowhere")).await {
        Err(ReadError::Unavailable(reason)) => room.check(!reason.is_empty(), "a refusal says why"),
        other => room.same(other, Ok(committed.revision), "an engine without a disk refuses"),
    }
}
