//! The window against a list of everything that was ever written, searched from end to end.

use super::{Window, range_bytes};
use crate::{KeyRange, limits::TRANSACTION_AGE_MAX};
use bytes::Bytes;
use outrigger_kernel::{Mono, World};
use outrigger_sim::SimWorld;
use std::time::Duration;

const KEYS: [&[u8]; 9] = [b"", b"a", b"a\0", b"ab", b"abc", b"b", b"c", b"c\xff", b"d"];

struct Written {
    revision: u64,
    keys: Vec<&'static [u8]>,
    clears: Vec<KeyRange>,
}

fn range(below: &impl Fn(usize) -> usize) -> KeyRange {
    let end = |i: usize| Bytes::from_static(KEYS[i]);
    let until = (below(8) > 0).then(|| end(below(9)));
    KeyRange { start: end(below(9)), end: until }
}

/// Whether some key lies in both.
fn meet(a: &KeyRange, b: &KeyRange) -> bool {
    [&a.start, &b.start].iter().any(|key| a.contains(key) && b.contains(key))
}

#[tokio::test]
async fn the_window_knows_what_changed_since() {
    for seed in 0..60 {
        let world = SimWorld::new(seed);
        let below = |bound: usize| usize::try_from(world.random()).unwrap_or(usize::MAX) % bound;
        let bytes_max = [400, 4_000, 1_000_000][below(3)];
        let mut window = Window { bytes_max, ..Window::new(0) };
        let mut all: Vec<Written> = Vec::new();
        let mut now = Mono::default();
        for revision in 1..300_u64 {
            now = now.plus(Duration::from_millis(world.random() % 60));
            let keys: Vec<&[u8]> = (0..below(4)).map(|_| KEYS[1 + below(8)]).collect();
            let mut clears: Vec<KeyRange> =
                (0..below(12) / 8 * below(4)).map(|_| range(&below)).collect();
            clears.retain(|range| !range.is_empty());
            window.record(revision, now, keys.iter().copied(), &clears);
            all.push(Written { revision, keys, clears });
            if below(20) == 0 {
                now = now.plus(TRANSACTION_AGE_MAX);
                window.forget(now);
            }
            assert!(window.bytes <= bytes_max.max(1), "the window is bounded");
            for _ in 0..8 {
                let oldest = window.floor();
                let since = oldest + world.random() % (revision - oldest + 1);
                let newer = || all.iter().filter(|written| written.revision > since);
                let (key, read) = (KEYS[below(9)], range(&below));
                let cleared = |w: &Written| w.clears.iter().any(|clear| clear.contains(key));
                let changed = newer().any(|w| w.keys.contains(&key) || cleared(w));
                assert_eq!(
                    window.key_changed(key, since),
                    changed,
                    "{seed}: {key:?} after {since}"
                );
                let in_read = |w: &Written| {
                    w.keys.iter().any(|key| read.contains(key))
                        || w.clears.iter().any(|clear| meet(clear, &read))
                };
                let changed = newer().any(in_read);
                assert_eq!(window.range_changed(&read, since), changed, "{seed}: {read:?}");
            }
        }
    }
}

#[test]
fn what_is_forgotten_takes_no_room() {
    let mut window = Window::new(0);
    let clear = KeyRange::prefix("c");
    for revision in 1..=10_000_u64 {
        let now = Mono::default().plus(Duration::from_millis(revision * 10));
        let key = revision.to_be_bytes();
        window.record(revision, now, [&key[..]].into_iter(), std::slice::from_ref(&clear));
    }
    // Five seconds of two entries every ten milliseconds.
    let entries = window.points.len() + window.clears;
    assert!((1_000..=1_004).contains(&entries), "{entries}");
    assert!(window.slices.len() <= entries / 8 + 2, "{} slices", window.slices.len());
    assert_eq!(window.commits.len(), entries / 2);
    window.forget(Mono::default().plus(Duration::from_secs(1_000)));
    assert_eq!((window.points.len(), window.clears, window.bytes), (0, 0, 0));
    assert_eq!(window.floor(), 10_000);
}

#[test]
fn a_clear_costs_the_window_its_ends_and_no_more() {
    let mut window = Window::new(0);
    let clear = KeyRange::new("a", "z");
    for revision in 1..=100 {
        window.record(revision, Mono::default(), std::iter::empty(), std::slice::from_ref(&clear));
    }
    assert_eq!(window.bytes, 100 * range_bytes(&clear));
}
