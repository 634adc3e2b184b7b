//! Ranges added in any order cover what they cover one by one, and are disjoint.

use super::Clears;
use crate::KeyRange;
use bytes::Bytes;
use outrigger_kernel::World;
use outrigger_sim::SimWorld;

#[tokio::test]
async fn joined_ranges_hold_the_same_keys() {
    let world = SimWorld::new(3);
    let below = |bound: u64| world.random() % bound;
    let key = |number: u64| Bytes::from(format!("{number:02}"));
    for _ in 0..2_000 {
        let mut clears = Clears::default();
        let mut ranges = Vec::new();
        for _ in 0..below(8) {
            let end = (below(10) > 0).then(|| key(below(30)));
            let range = KeyRange { start: key(below(30)), end };
            if !range.is_empty() {
                clears.add(range.clone());
                ranges.push(range);
            }
        }
        for number in 0..32 {
            let key = key(number);
            let expected = ranges.iter().any(|range| range.contains(&key));
            assert_eq!(clears.contains(&key), expected, "{key:?} in {ranges:?}");
        }
        let joined = clears.into_ranges();
        assert!(joined.iter().all(|range| !range.is_empty()), "{joined:?}");
        for pair in joined.windows(2) {
            let apart = pair[0].end.as_ref().is_some_and(|end| *end < pair[1].start);
            assert!(apart, "{ranges:?} became {joined:?}");
        }
    }
}
