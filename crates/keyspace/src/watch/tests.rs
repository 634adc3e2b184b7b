//! Whom a change wakes, and what a dropped watch leaves behind.

mod concurrent;
mod random;

pub(crate) use random::random_watching;

use super::{Registry, filed::common_prefix};
use crate::KeyRange;
use bytes::Bytes;
use futures_util::FutureExt;
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

fn key(bytes: &'static [u8]) -> Bytes {
    Bytes::from_static(bytes)
}

#[test]
fn a_range_is_filed_under_what_all_its_keys_begin_with() {
    let cases: [(KeyRange, &[u8]); 8] = [
        (KeyRange::all(), b""),
        (KeyRange::prefix("ab"), b"ab"),
        (KeyRange::prefix(&b"a\xff"[..]), b"a\xff"),
        (KeyRange::prefix(&b"\xff\xff"[..]), b"\xff\xff"),
        (KeyRange::new("abx", "ac"), b"ab"),
        (KeyRange::new("ab", "ab\0"), b"ab"),
        (KeyRange::new("ab", "ad"), b"a"),
        (KeyRange::new("abc", "ac1"), b"a"),
    ];
    for (range, prefix) in cases {
        assert_eq!(common_prefix(&range), prefix, "{range:?}");
    }
}

#[test]
fn a_change_wakes_every_range_it_lies_in_and_no_other() {
    let registry = Registry::default();
    let mut hit = [
        KeyRange::all(),
        KeyRange::prefix("ab"),
        KeyRange::new("aa", "ad"),
        KeyRange::new("abc", "abc\0"),
    ]
    .map(|range| registry.watch(range));
    let mut missed = [KeyRange::prefix("abcd"), KeyRange::new("abd", "ac"), KeyRange::prefix("b")]
        .map(|range| registry.watch(range));
    registry.notify([(3, &key(b"abc"))], []);
    for watch in &mut hit {
        assert_eq!(watch.changed().now_or_never(), Some(3));
        assert_eq!(watch.changed().now_or_never(), None, "one wake-up per change");
    }
    for watch in &mut missed {
        assert_eq!(watch.changed().now_or_never(), None);
    }
}

#[test]
fn changes_fold_and_what_came_before_the_watch_does_not_wake_it() {
    let registry = Registry::default();
    let mut early = registry.watch(KeyRange::prefix("a"));
    registry.notify([(1, &key(b"a"))], []);
    let mut late = registry.watch(KeyRange::prefix("a"));
    assert_eq!(late.changed().now_or_never(), None);
    registry.notify([(2, &key(b"a1")), (2, &key(b"a2"))], []);
    registry.notify([(5, &key(b"a1"))], []);
    assert_eq!(early.changed().now_or_never(), Some(5));
    assert_eq!(late.changed().now_or_never(), Some(5));
}

#[test]
fn older_news_that_comes_late_changes_nothing() {
    let registry = Registry::default();
    let mut watch = registry.watch(KeyRange::prefix("a"));
    registry.notify([(7, &key(b"a"))], []);
    registry.notify([(6, &key(b"a"))], []);
    assert_eq!(watch.changed().now_or_never(), Some(7));
    registry.notify([(7, &key(b"a"))], []);
    assert_eq!(watch.changed().now_or_never(), None);
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn only_who_waits_is_woken() {
    let registry = Registry::default();
    let mut watch = registry.watch(KeyRange::prefix("a"));
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut ask = || pin!(watch.changed()).poll(&mut Context::from_waker(&waker));
    for round in 1..10_usize {
        assert_eq!(ask(), Poll::Pending);
        let revision = 10 * round as u64;
        registry.notify([(revision, &key(b"a"))], []);
        assert_eq!(woken.0.load(Ordering::SeqCst), round);
        registry.notify([(revision + 1, &key(b"a"))], []);
        assert_eq!(ask(), Poll::Ready(revision + 1));
        // What it has just been told of is not waited for, and nothing else is yet.
        registry.notify([(revision + 2, &key(b"a"))], []);
        assert_eq!(woken.0.load(Ordering::SeqCst), round, "it is not waiting");
        assert_eq!(ask(), Poll::Ready(revision + 2));
    }
}

#[test]
fn dropped_watches_leave_nothing() {
    let registry = Registry::default();
    let first = registry.watch(KeyRange::prefix("a"));
    let second = registry.watch(KeyRange::prefix("a"));
    let other = registry.watch(KeyRange::prefix("bb"));
    assert_eq!(format!("{registry:?}"), "Registry(2 ranges, 2 prefix lengths)");
    drop(first);
    drop(other);
    assert_eq!(format!("{registry:?}"), "Registry(1 ranges, 1 prefix lengths)");
    drop(second);
    assert_eq!(format!("{registry:?}"), "Registry(0 ranges, 0 prefix lengths)");
}

#[test]
fn a_cleared_range_wakes_every_range_it_reaches_into_and_no_other() {
    let clears =
        [KeyRange::new("abc", "abe"), KeyRange::new("abc1", "abd"), KeyRange::new("b", "c")];
    let ranges = [
        KeyRange::all(),
        KeyRange::prefix("a"),
        KeyRange::prefix("ab"),
        KeyRange::new("abb", "abc"),
        KeyRange::new("abb", "abc\0"),
        KeyRange::prefix("abc"),
        KeyRange::new("abc", "abc\0"),
        KeyRange::prefix("abd"),
        KeyRange::prefix("abdzz"),
        KeyRange::new("abe", "abf"),
        KeyRange::prefix("b"),
        KeyRange::new("bz", "a"),
        KeyRange { start: key(b"abd"), end: None },
    ];
    for clear in &clears {
        let registry = Registry::default();
        let mut watches = ranges.clone().map(|range| registry.watch(range));
        registry.notify([], [(3, clear)]);
        for (range, watch) in ranges.iter().zip(&mut watches) {
            let hit = !range.is_empty() && range.intersects(clear);
            assert_eq!(watch.changed().now_or_never(), hit.then_some(3), "{range:?} in {clear:?}");
        }
    }
}

#[test]
fn a_reader_that_never_reads_costs_nothing() {
    let registry = Registry::default();
    let keys: Vec<Bytes> = (0..50).map(|i| Bytes::from(format!("k{i}"))).collect();
    let ranges = || keys.iter().cloned().map(KeyRange::prefix);
    let mut watches: Vec<_> = ranges().chain(ranges()).map(|range| registry.watch(range)).collect();
    let publish = |revision: u64| {
        let all = KeyRange::all();
        let cleared = revision.is_multiple_of(7).then_some((revision, &all));
        registry.notify(keys.iter().map(|key| (revision, key)), cleared);
    };
    (1..100).for_each(publish);
    let room = registry.filed().room();
    (100..20_000).for_each(publish);
    assert_eq!(registry.filed().room(), room, "nothing grows with what nobody reads");
    assert!(room[3] <= 2 * registry.filed().room()[0], "what a call notes goes by what is watched");
    for watch in &mut watches {
        assert_eq!(watch.changed().now_or_never(), Some(19_999), "all of it is one wake-up");
        assert_eq!(watch.changed().now_or_never(), None);
    }
}
