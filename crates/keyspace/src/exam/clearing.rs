//! Range deletes: one step however much they take, for readers of gaps too, and nothing comes back.

use super::room::{Room, add, counter, delete, key, keys, put, put_until};
use crate::{CommitError, Direction, KeyRange, Snapshot, Transaction, Write};
use std::sync::Arc;

fn clear(from: &str, to: &str) -> Write {
    Write::DeleteRange { range: KeyRange::new(key(from), key(to)) }
}

pub(super) async fn a_huge_range_goes_in_one_commit(room: &Room) {
    const COUNT: usize = 100_000;
    for first in (0..COUNT).step_by(5_000) {
        let rows = (first..first + 5_000).map(|i| put(&format!("q/{i:06}"), "row"));
        room.write(rows.collect()).await;
    }
    room.write(vec![put("q", "before"), put("q0", "after")]).await;
    let range = KeyRange::prefix("q/");
    let before = room.pinned().await;
    let mut watch = room.engine.watch(KeyRange::new("q/050000", "q/050000\0"));
    let cleared = room.write(vec![Write::DeleteRange { range: range.clone() }]).await;
    room.same(watch.changed().await, cleared.revision, "a clear wakes whoever watches in it");
    room.same(room.keys(&range).await, Vec::new(), "a clear takes all of its range");
    room.same(room.get("q/099999").await, None, "a clear takes the last key too");
    room.same(room.keys(&KeyRange::all()).await, keys(&["q", "q0"]), "and nothing beside it");
    room.same(count(room, &before, &range).await, COUNT, "an older snapshot still sees the rows");
    room.write(vec![put("q/050000", "again")]).await;
    room.same(room.keys(&range).await, keys(&["q/050000"]), "what is put later is all there is");
    room.same(count(room, &before, &range).await, COUNT, "an older snapshot never changes");
}

async fn count(room: &Room, snapshot: &Arc<dyn Snapshot>, range: &KeyRange) -> usize {
    let (mut rest, mut found) = (range.clone(), 0);
    loop {
        let page = room.sure(snapshot.scan(&rest, usize::MAX, Direction::Forward).await);
        found += page.entries.len();
        match page.entries.last() {
            Some(last) if page.more => rest = rest.after(&last.key),
            _ => return found,
        }
    }
}

pub(super) async fn a_clear_conflicts_with_every_reader_of_its_range(room: &Room) {
    room.write(vec![put("d", "1"), put("x", "1")]).await;
    let read_revision = room.pinned().await.revision();
    room.write(vec![clear("c", "f")]).await;
    let reading = async |read_keys: &[&str], read_ranges: &[KeyRange]| {
        let (read_keys, read_ranges) = (keys(read_keys), read_ranges.to_vec());
        let writes = vec![put("~", "1")];
        let transaction =
            Transaction { read_revision, read_keys, read_ranges, writes, ..<_>::default() };
        room.engine.commit(transaction).await.map(|_| ())
    };
    let conflict = || Err(CommitError::Conflict);
    for inside in ["c", "d", "e", "ez"] {
        let outcome = reading(&[inside], &[]).await;
        room.same(outcome, conflict(), "a clear changes every key in it, present or absent");
    }
    for outside in ["b", "bz", "f", "x"] {
        let outcome = reading(&[outside], &[]).await;
        room.same(outcome, Ok(()), "a clear changes nothing outside");
    }
    let ranges = [("a", "cc"), ("ca", "cb"), ("ez", "z"), ("a", "z"), ("c", "f")];
    for (from, to) in ranges {
        let outcome = reading(&[], &[KeyRange::new(key(from), key(to))]).await;
        room.same(outcome, conflict(), "a clear changes every range that reaches into it");
    }
    for (from, to) in [("a", "c"), ("f", "z"), ("d", "d"), ("e", "d")] {
        let outcome = reading(&[], &[KeyRange::new(key(from), key(to))]).await;
        room.same(outcome, Ok(()), "a clear changes no range beside it, and no empty one");
    }
    let fresh = room.pinned().await.revision();
    let (read_keys, writes) = (keys(&["d"]), vec![put("d", "2")]);
    let later = Transaction { read_revision: fresh, read_keys, writes, ..<_>::default() };
    room.sure(room.engine.commit(later).await);
}

pub(super) async fn a_clear_takes_what_came_before_it_and_nothing_after(room: &Room) {
    let ends = room.in_ms(50);
    room.write(vec![
        put("a", "old"),
        put("b", "old"),
        Write::Put { key: key("n"), value: counter(40), expires_at: ends },
        put("text", "no counter"),
    ])
    .await;
    room.write(vec![
        put("c", "1"),
        put("a", "1"),
        clear("a", "z"),
        put("b", "2"),
        add("n", 2),
        add("text", 1),
        clear("c", "d"),
        delete("e"),
        put("d", "2"),
        clear("d", "d\0"),
        clear("bb", "c"),
    ])
    .await;
    room.same(
        room.keys(&KeyRange::all()).await,
        keys(&["b", "n", "text"]),
        "writes and clears take effect in their order",
    );
    room.same(room.text("b").await.as_deref(), Some("2"), "a put after a clear stays");
    let n = room.get("n").await.map(|value| (value.bytes, value.expires_at));
    room.same(n, Some((counter(2), None)), "an add after a clear begins anew, without an expiry");
    room.clock.advance_ms(60);
    room.check(room.get("n").await.is_some(), "and does not vanish when the old one would have");
    let text = room.get("text").await.map(|value| value.bytes);
    room.same(text, Some(counter(1)), "what is cleared first may become a counter");
}

pub(super) async fn what_expired_in_a_clear_stays_dead(room: &Room) {
    let names = ["forever", "gone", "later", "same", "sooner"];
    room.write(names.map(|name| put_until(name, "1", room.in_ms(100))).to_vec()).await;
    room.write(vec![Write::DeleteRange { range: KeyRange::all() }]).await;
    let mut watch = room.engine.watch(KeyRange::prefix("gone"));
    room.write(vec![
        put("forever", "2"),
        put_until("later", "2", room.in_ms(200)),
        put_until("same", "2", room.in_ms(100)),
        put_until("sooner", "2", room.in_ms(50)),
    ])
    .await;
    let all = KeyRange::all();
    room.clock.advance_ms(50);
    let expected = keys(&["forever", "later", "same"]);
    room.same(room.keys(&all).await, expected, "the last put decides about expiry, not the clear");
    room.clock.advance_ms(50);
    room.same(
        room.keys(&all).await,
        keys(&["forever", "later"]),
        "what was put again after a clear does not vanish at the old time",
    );
    room.clock.advance_ms(100);
    room.same(room.keys(&all).await, keys(&["forever"]), "and does vanish at its own");
    room.write(vec![put("x", "1")]).await;
    let woken = futures_util::FutureExt::now_or_never(watch.changed());
    room.same(woken, None, "what a clear took does not expire as well");
}

pub(super) async fn clears_add_up(room: &Room) {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let fill = async || room.write(names.map(|name| put(name, "1")).to_vec()).await;
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: [Case<'_>; 7] = [
        (&[("b", "d"), ("c", "f")], &["a", "f", "g", "h"]),
        (&[("c", "f"), ("b", "d")], &["a", "f", "g", "h"]),
        (&[("b", "c"), ("c", "d")], &["a", "d", "e", "f", "g", "h"]),
        (&[("b", "g"), ("c", "d")], &["a", "g", "h"]),
        (&[("c", "d"), ("b", "g")], &["a", "g", "h"]),
        (&[("a", "b"), ("e", "f"), ("c", "d"), ("b", "g")], &["g", "h"]),
        (&[("g", "b"), ("d", "d")], &names),
    ];
    for (clears, left) in cases {
        fill().await;
        room.write(clears.iter().map(|(from, to)| clear(from, to)).collect()).await;
        let promise = format!("clears of one transaction add up: {clears:?}");
        room.same(room.keys(&KeyRange::all()).await, keys(left), &promise);
        let backward = room.scan(&KeyRange::all(), Direction::Backward).await;
        room.same(backward.len(), left.len(), "backward as well");
    }
    let many = (0..2_000).map(|i| clear(&format!("b{i}"), &format!("b{i}\0"))).collect();
    fill().await;
    room.write(many).await;
    room.same(room.keys(&KeyRange::all()).await, keys(&names), "a gap may be cleared");
}

pub(super) async fn a_clear_of_nothing_changes_nothing(room: &Room) {
    let first = room.write(vec![put("a", "1")]).await;
    let nothing = room.write(vec![clear("b", "a"), clear("a", "a")]).await;
    room.same(nothing.revision, first.revision, "an empty range takes no revision");
    let mut watch = room.engine.watch(KeyRange::all());
    let gap = room.write(vec![clear("b", "c")]).await;
    room.check(gap.revision > first.revision, "a range without rows is a range all the same");
    room.same(watch.changed().await, gap.revision, "and wakes whoever watches it");
    room.same(room.text("a").await.as_deref(), Some("1"), "what lies outside stays");
}
