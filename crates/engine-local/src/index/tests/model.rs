//! Random layers, merges and restarts, compared with a map in every way of reading.

use super::*;
use proptest::prelude::*;

const KEYS: u64 = 120;

#[derive(Clone, Debug)]
enum Step {
    /// Commits that become one layer, which becomes a run.
    Apply(Vec<Plan>),
    /// So many steps of merging.
    Maintain(usize),
    Reopen,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0..KEYS, 1..1_000_u64, 0..60_usize).prop_map(|(n, revision, bytes)| put(n, revision, bytes)),
        1 => (0..KEYS, 1..1_000_u64, 3_000..20_000_usize).prop_map(|(n, revision, bytes)| put(n, revision, bytes)),
        4 => (0..KEYS).prop_map(delete),
    ]
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        6 => (0..KEYS, 1..30_u64).prop_map(|(n, wide)| KeyRange::new(key(n), key(n + wide))),
        1 => (0..KEYS).prop_map(|n| KeyRange { start: key(n), end: None }),
        1 => (0..KEYS).prop_map(|n| KeyRange::new(Bytes::new(), key(n + 1))),
    ]
}

fn one_plan() -> impl Strategy<Value = Plan> {
    let clears = proptest::collection::vec(range(), 0..2).prop_map(|mut clears| {
        clears.truncate(1);
        clears
    });
    (clears, proptest::collection::vec(change(), 0..12))
        .prop_map(|(clears, changes)| plan(1, clears, changes))
}

/// What is taken from the head of a queue, one by one.
fn taken() -> impl Strategy<Value = Plan> {
    (0..KEYS, 1..50_u64)
        .prop_map(|(n, count)| plan(1, Vec::new(), (n..n + count).map(delete).collect()))
}

/// Many rows at once, so that runs have several blocks and files.
fn filled() -> impl Strategy<Value = Plan> {
    (0..KEYS, 1..80_u64, 20..200_usize).prop_map(|(n, count, bytes)| {
        plan(1, Vec::new(), (n..n + count).map(|n| put(n, 1, bytes)).collect())
    })
}

fn step() -> impl Strategy<Value = Step> {
    let plans = prop_oneof![3 => one_plan(), 1 => taken(), 1 => filled()];
    prop_oneof![
        6 => proptest::collection::vec(plans, 1..4).prop_map(Step::Apply),
        3 => (1..4_usize).prop_map(Step::Maintain),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_is_a_map(steps in proptest::collection::vec(step(), 1..24), cache in prop_oneof![Just(0_usize), Just(1 << 20)]) {
        let disk = SimDisk::new(1);
        let options = IndexOptions { cache_bytes: cache, ..OPTIONS };
        let mut index = Index::create(on(&disk), options.clone(), checkpoint(0)).unwrap();
        index.sizes = SMALL;
        let mut map = Map::new();
        let mut held = Vec::new();
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Apply(plans) => {
                    plans.iter().for_each(|plan| apply_to(&mut map, plan));
                    let view = apply(&index, &plans, at as u64).unwrap();
                    prop_assert_eq!(view.checkpoint(), &checkpoint(at as u64));
                    held.push((view, map.clone()));
                }
                Step::Maintain(count) => {
                    for _ in 0..count {
                        index.maintain(&mut |_| {}).unwrap();
                    }
                }
                Step::Reopen => {
                    held.clear();
                    drop(index);
                    index = Index::open(on(&disk), options.clone()).unwrap();
                    index.sizes = SMALL;
                }
            }
            check(&index.view(), &map, KEYS + 60);
        }
        maintain(&index);
        check(&index.view(), &map, KEYS + 60);
        index.view().verify().unwrap();
        // Views are what they were, whatever was merged since.
        for (view, map) in &held {
            check(view, map, KEYS + 60);
        }
    }
}

#[test]
fn a_large_store_is_the_same_after_each_step() {
    let disk = SimDisk::new(1);
    let index = create(&disk);
    let mut map = Map::new();
    let mut number = 17;
    for round in 1..40 {
        let mut changes = Vec::new();
        for _ in 0..80 {
            number = (number * 6_364_136_223 + 1_442_695) % 1_000_003;
            changes.push(match number % 5 {
                0 => delete(number % 900),
                _ => put(number % 900, round, 50),
            });
        }
        let plans = [plan(round, Vec::new(), changes)];
        apply_to(&mut map, &plans[0]);
        apply(&index, &plans, round).unwrap();
        index.maintain(&mut |_| {}).unwrap();
        if round % 5 == 0 {
            check(&index.view(), &map, 900);
        }
    }
    let rows = index.view().verify().unwrap().rows;
    assert!(rows > 900, "{rows} rows in all runs");
}
