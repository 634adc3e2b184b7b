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

pub(super) async fn a_slow_reader_is_told_of_all_at_once(room: &Room) {
    let mut slow = room.engine.watch(KeyRange::prefix("s/"));
    let mut last = 0;
    for round in 0..500 {
        let writes = vec![put(&format!("s/{}", round % 7), "1"), put("elsewhere", "1")];
        last = room.write(writes).await.revision;
    }
    let mut told = slow.changed().await;
    let mut calls = 1;
    while told < last {
        let next = slow.changed().await;
        room.check(next > told, "every wake-up tells something new");
        (told, calls) = (next, calls + 1);
    }
    room.same(told, last, "the last change is told");
    room.check(calls <= 2, "changes that nobody waited for fold into one wake-up");
    room.same(woken(&mut slow), None, "and nothing is told twice");
}

pub(super) async fn nobody_misses_the_last_change(room: &Room) {
    const WRITERS: usize = 6;
    const EACH: usize = 25;
    let ended = |value: &[u8]| value == b"end";
    let writer = async |number: usize| {
        for step in 0..EACH {
            let at = format!("n/{number}/{}", step % 3);
            match step % 5 {
                4 => {
                    let range = KeyRange::prefix(format!("n/{number}/"));
                    room.write(vec![Write::DeleteRange { range }]).await;
                }
                _ => drop(room.write(vec![put(&at, "1")]).await),
            }
            tokio::task::yield_now().await;
        }
        room.write(vec![put(&format!("n/{number}/end"), "end")]).await;
    };
    // Some wait patiently, some give up every time at first, some begin anew.
    let reader = async |number: usize| {
        let range = KeyRange::prefix(format!("n/{}/", number % WRITERS));
        let last = format!("n/{}/end", number % WRITERS);
        let mut watch = room.engine.watch(range.clone());
        for turn in 0_usize.. {
            // Watch first, then look: whatever comes after the look wakes.
            if number % 3 == 2 && turn % 4 == 3 {
                watch = room.engine.watch(range.clone());
            }
            let snapshot = room.snapshot().await;
            let found = room.sure(snapshot.get(last.as_bytes()).await);
            if found.is_some_and(|value| ended(&value.bytes)) {
                return turn;
            }
            if number % 3 == 1 {
                tokio::task::yield_now().await;
                if woken(&mut watch).is_some() {
                    continue;
                }
            }
            watch.changed().await;
        }
        0
    };
    let writing = futures_util::future::join_all((0..WRITERS).map(writer));
    let reading = futures_util::future::join_all((0..3 * WRITERS).map(reader));
    let (turns, _) = futures_util::future::join(reading, writing).await;
    let most = turns.into_iter().max().unwrap_or(0);
    room.check(most <= 3 * (EACH + 2), "nobody is woken more often than something changed");
}
