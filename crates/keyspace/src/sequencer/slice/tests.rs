//! A full slice answers by its sorted forms what it would answer by walking.

use super::{ENTRIES_MAX, Slice, WALKS_MAX};
use crate::KeyRange;

#[test]
fn clears_that_lie_apart_are_found_by_their_edges() {
    let mut slice = Slice::default();
    for clear in [KeyRange::new("m", "p"), KeyRange::new("b", "d"), KeyRange::new("f", "h")] {
        slice.push_clear(1, &clear);
    }
    slice.seal();
    let cases = [
        (("a", "b"), false),
        (("a", "b\0"), true),
        (("d", "f"), false),
        (("d", "f\0"), true),
        (("cz", "e"), true),
        (("h", "m"), false),
        (("h", "m\0"), true),
        (("p", "z"), false),
        (("a", "z"), true),
    ];
    for ((from, to), changed) in cases {
        assert_eq!(slice.has_changed(&KeyRange::new(from, to), 0), changed, "{from}..{to}");
    }
    for (key, cleared) in [("a", false), ("b", true), ("d", false), ("m", true), ("p", false)] {
        assert_eq!(slice.has_cleared(key.as_bytes(), 0), cleared, "{key}");
    }
}

#[test]
fn a_sorted_slice_finds_what_a_walk_finds() {
    let mut slice = Slice::default();
    for (number, key) in (1..).zip(["m", "c", "x", "c\0", "f"]) {
        slice.push_key(number, number, key.as_bytes());
    }
    while !slice.is_full() {
        slice.push_key(99, 99, b"m");
    }
    assert_eq!(slice.order.len(), ENTRIES_MAX);
    slice.seal();
    let cases = [
        (("a", "c"), false),
        (("c", "c\0"), true),
        (("c\0", "c\0\0"), true),
        (("c\0\0", "f"), false),
        (("f", "f\0"), true),
        (("m", "n"), true),
        (("n", "x"), false),
        (("x", "y"), true),
        (("x\0", "z"), false),
    ];
    for round in 0..=WALKS_MAX {
        for ((from, to), changed) in cases {
            let range = KeyRange::new(from, to);
            assert_eq!(slice.has_changed(&range, 0), changed, "{from}..{to} in round {round}");
        }
    }
    assert!(slice.sorted.is_some(), "what is walked often is sorted");
}
