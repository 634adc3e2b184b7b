//! Watching: a change is never missed, however it falls between the calls; and a wake-up finds what it tells of.

use super::room::{Room, add, delete, put, stamped};
use crate::{KeyRange, Level, Watch, Write};
use futures_util::FutureExt;

fn woken(watch: &mut Watch) -> Option<u64> {
    watch.changed().now_or_never()
}

pub(super) async fn a_change_wakes_whoever_watches_it(room: &Room) {
    room.write(vec![put("a/1", "0")]).await;
    let mut here = room.engine.watch(KeyRange::prefix("a/"));
    let mut also = room.engine.watch(KeyRange::new("a", "b"));
    let mut exact = room.engine.watch(KeyRange::new("a/1", "a/1\0"));
    let mut all = room.engine.watch(KeyRange::all());
    let mut elsewhere = room.engine.watch(KeyRange::prefix("b/"));
    let first = room.write(vec![put("a/1", "1")]).await.revision;
    let last = room.write(vec![put("a/1", "2"), put("a/1", "3")]).await.revision;
    for watch in [&mut here, &mut also, &mut exact, &mut all] {
        // The first wake-up may come for either commit, but the last one is told of in the end.
        let mut told = watch.changed().await;
        room.check(told >= first, "what came before the watch does not wake it");
        while told < last {
            told = watch.changed().await;
        }
        room.same(told, last, "a wake-up tells the revision of the change");
        room.same(woken(watch), None, "no change, no wake-up");
    }
    room.same(woken(&mut elsewhere), None, "a change elsewhere wakes nobody");
}

pub(super) async fn every_kind_of_write_wakes(room: &Room) {
    room.write(vec![put("w/old", "1")]).await;
    let mut watch = room.engine.watch(KeyRange::prefix("w/"));
    for write in [
        put("w/a", "1"),
        delete("w/a"),
        add("w/n", 1),
        stamped("w/", "", "1"),
        Write::DeleteRange { range: KeyRange::all() },
    ] {
        let revision = room.write(vec![put("other", "1"), write.clone()]).await.revision;
        let told = watch.changed().await;
        room.same(told, revision, &format!("every kind of write wakes: {write:?}"));
    }
}

pub(super) async fn what_wakes_is_visible(room: &Room) {
    let mut watch = room.engine.watch(KeyRange::prefix("a"));
    let reader = async {
        for _ in 0..20 {
            let told = watch.changed().await;
            let snapshot = room.sure(room.engine.snapshot(Level::Local).await);
            room.check(snapshot.revision() >= told, "what a wake-up tells of is visible");
            if room.sure(snapshot.get(b"a").await).is_some_and(|value| value.bytes == "20") {
                return;
            }
        }
        room.check(false, "twenty changes wake twenty times at most");
    };
    let writer = async {
        for i in 1..=20 {
            room.write(vec![put("a", &i.to_string())]).await;
            tokio::task::yield_now().await;
        }
    };
    futures_util::future::join(reader, writer).await;
}

pub(super) async fn nothing_is_missed_when_a_wait_is_given_up(room: &Room) {
    let mut watch = room.engine.watch(KeyRange::prefix("a"));
    for round in 0..10 {
        room.same(woken(&mut watch), None, "nothing has changed yet");
        let revision = room.write(vec![put("a", &round.to_string())]).await.revision;
        room.same(watch.changed().await, revision, "a wait that was given up loses nothing");
    }
}

pub(super) async fn a_waiting_task_is_woken(room: &Room) {
    let mut watches: Vec<Watch> =
        (0..100).map(|i| room.engine.watch(KeyRange::prefix(format!("k/{}", i % 10)))).collect();
    let waiting = futures_util::future::join_all(watches.iter_mut().map(Watch::changed));
    let writing = async {
        tokio::task::yield_now().await;
        let writes = (0..10).map(|i| put(&format!("k/{i}/x"), "1")).collect();
        room.write(writes).await.revision
    };
    let (told, revision) = futures_util::future::join(waiting, writing).await;
    room.same(told, vec![revision; 100], "every waiting watch is woken once");
}
