//! Reading: what was put is found, in order, in bounded pages, and a snapshot stays what it was.

use super::room::{Room, delete, key, keys, put};
use crate::{
    Direction, KeyRange, Level, Snapshot, Write,
    limits::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX},
};
use bytes::Bytes;
use futures_util::FutureExt;
use std::sync::Arc;

pub(super) async fn what_is_put_is_read(room: &Room) {
    room.same(room.get("a").await, None, "an empty map has no keys");
    room.same(
        room.snapshot().await.scan(&KeyRange::all(), 10, Direction::Forward).await,
        Ok(crate::Page::default()),
        "an empty map has no entries",
    );
    let first = room.write(vec![put("a", "1"), put("b", "")]).await;
    let value = room.get("a").await;
    room.same(value.as_ref().map(|v| v.bytes.clone()), Some(key("1")), "a put is read back");
    room.same(value.map(|v| v.revision), Some(first.revision), "a value knows its revision");
    room.same(room.text("b").await.as_deref(), Some(""), "an empty value is a value");
    let second = room.write(vec![put("a", "2"), delete("b")]).await;
    let snapshot = room.snapshot().await;
    let many = room.sure(snapshot.get_many(&keys(&["b", "a", "none", "a"])).await);
    let found: Vec<_> = many.into_iter().map(|v| v.map(|v| (v.bytes, v.revision))).collect();
    let two = Some((key("2"), second.revision));
    room.same(found, vec![None, two.clone(), None, two], "get_many keeps the order of its keys");
}

pub(super) async fn keys_are_in_byte_order(room: &Room) {
    let sorted: Vec<Bytes> = [
        &b"\0"[..],
        b"\0\0",
        b"\0\x01",
        b"A",
        b"a",
        b"a\0",
        b"a\0\xff",
        b"a\x01",
        b"aa",
        b"b",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"\xff\0",
        b"\xff\xff",
    ]
    .into_iter()
    .map(Bytes::from_static)
    .collect();
    // Written in another order than they sort in, and in two commits.
    for half in [1, 0] {
        let writes = sorted.iter().skip(half).step_by(2).rev().map(|key| Write::Put {
            key: key.clone(),
            value: key.clone(),
            expires_at: None,
        });
        room.write(writes.collect()).await;
    }
    let all = KeyRange::all();
    room.same(room.keys(&all).await, sorted.clone(), "a scan is in byte order");
    let backward: Vec<Bytes> =
        room.scan(&all, Direction::Backward).await.into_iter().map(|e| e.key).collect();
    let reversed: Vec<Bytes> = sorted.into_iter().rev().collect();
    room.same(backward, reversed, "a backward scan is in reverse byte order");
}

pub(super) async fn ranges_include_their_start_and_exclude_their_end(room: &Room) {
    room.write(["a", "b", "b\0", "ba", "c"].map(|k| put(k, k)).to_vec()).await;
    let cases: [(KeyRange, &[&str]); 9] = [
        (KeyRange::new("a", "c"), &["a", "b", "b\0", "ba"]),
        (KeyRange::new("aa", "b"), &[]),
        (KeyRange::new("b", "b\0"), &["b"]),
        (KeyRange::prefix("b"), &["b", "b\0", "ba"]),
        (KeyRange::prefix(Bytes::new()), &["a", "b", "b\0", "ba", "c"]),
        (KeyRange::all().after(b"b"), &["b\0", "ba", "c"]),
        (KeyRange { start: key("bb"), end: None }, &["c"]),
        (KeyRange::new("b", "b"), &[]),
        (KeyRange::new("c", "a"), &[]),
    ];
    for (range, expected) in cases {
        room.same(room.keys(&range).await, keys(expected), "a range holds start to before end");
        let backward = room.scan(&range, Direction::Backward).await;
        let backward: Vec<Bytes> = backward.into_iter().rev().map(|entry| entry.key).collect();
        room.same(backward, keys(expected), "a range is the same backward");
    }
}

pub(super) async fn pages_are_bounded_and_say_whether_there_is_more(room: &Room) {
    room.write(["a", "b", "c"].map(|k| put(k, k)).to_vec()).await;
    let snapshot = room.snapshot().await;
    let all = KeyRange::all();
    for (limit, more) in [(0, true), (1, true), (2, true), (3, false), (4, false)] {
        for direction in [Direction::Forward, Direction::Backward] {
            let page = room.sure(snapshot.scan(&all, limit, direction).await);
            room.same(page.entries.len(), limit.min(3), "a page holds up to its limit");
            room.same(page.more, more, "a page says whether there is more");
        }
    }
    let count = PAGE_ENTRIES_MAX + 1;
    let many = (0..count).map(|i| put(&format!("many/{i:06}"), "v")).collect();
    room.write(many).await;
    let snapshot = room.snapshot().await;
    let range = KeyRange::prefix("many/");
    let page = room.sure(snapshot.scan(&range, usize::MAX, Direction::Forward).await);
    room.same((page.entries.len(), page.more), (PAGE_ENTRIES_MAX, true), "pages are bounded");
    let last = page.entries.last().map(|entry| entry.key.clone()).unwrap_or_default();
    let rest = room.sure(snapshot.scan(&range.after(&last), 9, Direction::Forward).await);
    room.same((rest.entries.len(), rest.more), (1, false), "the next page begins after the last");
    pages_are_bounded_in_bytes(room).await;
}

async fn pages_are_bounded_in_bytes(room: &Room) {
    let big = Bytes::from(vec![7; PAGE_BYTES_MAX / 4 - "big/0".len()]);
    for i in 0..6 {
        let key = key(&format!("big/{i}"));
        room.write(vec![Write::Put { key, value: big.clone(), expires_at: None }]).await;
    }
    let snapshot = room.snapshot().await;
    let page = room.sure(snapshot.scan(&KeyRange::prefix("big/"), 9, Direction::Backward).await);
    // Four entries fill the page to the brim; the fifth one takes it past the bound.
    room.same((page.entries.len(), page.more), (5, true), "pages are bounded in bytes");
}

async fn everything(room: &Room, snapshot: &Arc<dyn Snapshot>) -> Vec<crate::Entry> {
    room.sure(snapshot.scan(&KeyRange::all(), usize::MAX, Direction::Forward).await).entries
}

pub(super) async fn a_snapshot_never_changes(room: &Room) {
    let first = room.write(vec![put("a", "1"), put("b", "1"), put("c", "1")]).await;
    let snapshot = room.snapshot().await;
    let before = everything(room, &snapshot).await;
    for round in 0..40 {
        let writes = match round % 4 {
            0 => vec![put("a", "2"), put("d", "2")],
            1 => vec![delete("b")],
            2 => vec![Write::DeleteRange { range: KeyRange::all() }],
            _ => vec![Write::Add { key: key("n"), delta: 1 }],
        };
        room.write(writes).await;
    }
    room.same(snapshot.revision(), first.revision, "a snapshot keeps its revision");
    room.same(everything(room, &snapshot).await, before, "a snapshot keeps its contents");
    room.check(room.snapshot().await.revision() > first.revision, "a new snapshot is newer");
}

pub(super) async fn levels_are_as_fresh_as_they_say(room: &Room) {
    let first = room.write(vec![put("a", "1")]).await;
    for level in [Level::Linearizable, Level::AtLeast(first.revision), Level::AtLeast(0)] {
        let snapshot = room.sure(room.engine.snapshot(level).await);
        room.check(snapshot.revision() >= first.revision, "a commit that was answered is seen");
    }
    let next = first.revision + 1;
    let waiting = room.engine.snapshot(Level::AtLeast(next));
    let ahead = async {
        room.write(vec![put("a", "2")]).await;
    };
    let (snapshot, ()) = futures_util::future::join(waiting, ahead).await;
    room.check(room.sure(snapshot).revision() >= next, "a snapshot waits for its revision");
    let far = room.engine.snapshot(Level::AtLeast(u64::MAX)).now_or_never();
    room.check(far.is_none(), "a snapshot of the future waits");
}

pub(super) async fn odd_questions_have_plain_answers(room: &Room) {
    room.write(vec![put("a", "1")]).await;
    let snapshot = room.snapshot().await;
    let long = Bytes::from(vec![b'a'; 200_000]);
    room.same(snapshot.get(b"").await, Ok(None), "there is no empty key");
    room.same(snapshot.get(&long).await, Ok(None), "there is no endless key");
    room.same(snapshot.get_many(&[]).await, Ok(Vec::new()), "no keys, no values");
    let many = snapshot.get_many(&[Bytes::new(), long.clone()]).await;
    room.same(many, Ok(vec![None, None]), "get_many answers as get does");
    for range in [
        KeyRange { start: long.clone(), end: None },
        KeyRange { start: Bytes::new(), end: Some(long.clone()) },
        KeyRange::new(long.clone(), "a"),
    ] {
        for direction in [Direction::Forward, Direction::Backward] {
            let found = room.sure(snapshot.scan(&range, 9, direction).await).entries.len();
            let expected = usize::from(range.contains(b"a"));
            room.same(found, expected, "ranges may end at keys that cannot exist");
        }
    }
}

pub(super) async fn an_engine_says_what_it_is(room: &Room) {
    let committed = room.write(vec![put("a", "1")]).await;
    let status = room.engine.status();
    room.check(!status.engine.is_empty(), "an engine has a name");
    room.check(status.revision >= committed.revision, "status tells the last revision");
    room.same(status.failed, None, "an engine that works has not failed");
}
